//! What the page lives through, where there is a page: in Node and in workers part of it never happens.

use std::rc::Rc;

use fanfare_client::Input;
use wasm_bindgen::JsValue;
use wasm_bindgen::closure::Closure;

use crate::bridge::{Global, PageEvent, Target};
use crate::drain::Driver;
use crate::read::Data;

/// Listens to the page until it is dropped.
pub(crate) struct Page {
    listener: Closure<dyn Fn(PageEvent)>,
    window: Target,
    document: Option<Target>,
}

impl Page {
    /// Starts to listen; `None` where nothing can be listened to.
    pub(crate) fn watch(driver: &Rc<Driver>) -> Option<Self> {
        let window = Global::current().as_target()?;
        let document = Global::current().document().map(Target::from);
        let driver = Rc::downgrade(driver);
        let listener: Closure<dyn Fn(PageEvent)> = Closure::new(move |event: PageEvent| {
            if let Some(input) = input(&event)
                && let Some(driver) = driver.upgrade()
            {
                driver.handle(input);
            }
        });
        let page = Self {
            listener,
            window,
            document,
        };
        page.each(Target::add_listener);
        Some(page)
    }

    fn each(&self, act: fn(&Target, &str, &JsValue)) {
        let listener = self.listener.as_ref();
        for kind in WINDOW_EVENTS {
            act(&self.window, kind, listener);
        }
        if let Some(document) = &self.document {
            for kind in DOCUMENT_EVENTS {
                act(document, kind, listener);
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.each(Target::remove_listener);
    }
}

/// A hidden or frozen page keeps its connection: the server's patience decides, and `Wake` finds out.
const DOCUMENT_EVENTS: [&str; 2] = ["visibilitychange", "resume"];

const WINDOW_EVENTS: [&str; 4] = ["online", "offline", "pageshow", "pagehide"];

fn input(event: &PageEvent) -> Option<Input<Data>> {
    let is_kept = event.persisted().unwrap_or(false);
    match event.kind().as_str() {
        "online" => Some(Input::Online),
        "offline" => Some(Input::Offline),
        // A page with an open socket is not taken into the back/forward cache.
        "pagehide" if is_kept => Some(Input::Suspend),
        "pageshow" if is_kept => Some(Input::Wake),
        "visibilitychange" => {
            let is_hidden = Global::current().document()?.hidden();
            (!is_hidden).then_some(Input::Wake)
        }
        "resume" => Some(Input::Wake),
        _ => None,
    }
}
