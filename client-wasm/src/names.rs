//! Names that come again and again, kept on both sides of the border so that they need not be copied across.

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::JsValue;

/// The last few names of one kind, the newest first.
#[derive(Default)]
pub(crate) struct Names(RefCell<Vec<(JsValue, Rc<str>)>>);

impl Names {
    /// The text of a JavaScript string; `None` when it is none.
    pub(crate) fn text(&self, value: &JsValue) -> Option<Rc<str>> {
        let at = self.0.borrow().iter().position(|(known, _)| known == value);
        match at {
            Some(at) => Some(self.promote(at).1),
            None => {
                let text: Rc<str> = value.as_string()?.into();
                self.learn(value.clone(), Rc::clone(&text));
                Some(text)
            }
        }
    }

    fn promote(&self, at: usize) -> (JsValue, Rc<str>) {
        let mut known = self.0.borrow_mut();
        known[..=at].rotate_right(1);
        known[0].clone()
    }

    fn learn(&self, value: JsValue, text: Rc<str>) {
        let mut known = self.0.borrow_mut();
        known.truncate(NAMES_MAX - 1);
        known.insert(0, (value, text));
    }
}

/// 16: comparing as many strings costs about as much as copying one.
const NAMES_MAX: usize = 16;

thread_local! {
    /// Message types.
    pub(crate) static TYPES: Names = Names::default();
    /// Channels.
    pub(crate) static CHANNELS: Names = Names::default();
    /// Event names.
    pub(crate) static EVENTS: Names = Names::default();
    /// User ids.
    pub(crate) static USERS: Names = Names::default();
}
