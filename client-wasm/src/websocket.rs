//! The WebSocket: at most one at a time.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use fanfare_client::Input;
use fanfare_protocol::{SUBPROTOCOL, SUBPROTOCOL_BATCH};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::WebSocket;

use crate::bridge::{Fields, MessageEvent, NOTHING};
use crate::drain::Driver;
use crate::read::{Data, Frame};

/// Holds the current socket, if any, and opens the next one in its place.
pub(crate) struct SocketSlot {
    url: String,
    socket: RefCell<Option<Socket>>,
    opened: Cell<u32>,
}

/// One socket and its number, by which its callbacks know whether it is still the current one.
struct Socket {
    number: u32,
    socket: WebSocket,
}

impl SocketSlot {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            socket: RefCell::default(),
            opened: Cell::new(0),
        }
    }

    /// Opens a socket in place of the one there was.
    pub(crate) fn open(&self, driver: &Rc<Driver>) {
        self.close(NORMAL, "");
        let number = self.opened.get().wrapping_add(1);
        self.opened.set(number);
        let protocols = js_sys::Array::of2(&SUBPROTOCOL_BATCH.into(), &SUBPROTOCOL.into());
        match driver.host.open(&self.url, &protocols) {
            Ok(socket) => {
                let socket = Socket { number, socket };
                socket.listen(&Rc::downgrade(driver));
                *self.socket.borrow_mut() = Some(socket);
            }
            Err(thrown) => {
                let message = Fields::from(thrown).text("message");
                driver.handle(Input::Closed {
                    code: ABNORMAL,
                    reason: message.unwrap_or_default(),
                });
            }
        }
    }

    pub(crate) fn send(&self, text: &str) {
        let socket = self.current();
        if let Some(socket) = socket {
            // It throws when it is not open; its close event follows and says the same.
            let _ = socket.send_with_str(text);
        }
    }

    /// Closes the socket and forgets it: nothing it still says comes in.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        socket.ignore();
        if socket
            .socket
            .close_with_code_and_reason(code, reason)
            .is_err()
        {
            let _ = socket.socket.close();
        }
    }

    fn forget(&self) {
        if let Some(socket) = self.socket.take() {
            socket.ignore();
        }
    }

    fn is_current(&self, number: u32) -> bool {
        let socket = self.socket.borrow();
        socket
            .as_ref()
            .is_some_and(|socket| socket.number == number)
    }

    fn current(&self) -> Option<WebSocket> {
        let socket = self.socket.borrow();
        socket.as_ref().map(|socket| socket.socket.clone())
    }
}

impl Socket {
    /// Sets the callbacks. JavaScript owns them: a socket that keeps one too long finds that it does nothing any more.
    fn listen(&self, driver: &Weak<Driver>) {
        let number = self.number;
        let current = {
            let driver = Weak::clone(driver);
            move || {
                let driver = driver.upgrade();
                driver.filter(|driver| driver.socket_slot.is_current(number))
            }
        };
        let (at_open, at_message, at_close) = (current.clone(), current.clone(), current);
        let on_open = Closure::<dyn Fn()>::new(move || {
            if let Some(driver) = at_open() {
                driver.handle(Input::Opened);
            }
        });
        let on_message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(driver) = at_message() {
                hear(&driver, number, &event.data());
            }
        });
        let on_close = Closure::<dyn Fn(Fields)>::new(move |event: Fields| {
            if let Some(driver) = at_close() {
                driver.socket_slot.forget();
                driver.handle(closed(&event));
            }
        });
        let socket = &self.socket;
        socket.set_onopen(Some(on_open.into_js_value().unchecked_ref()));
        socket.set_onmessage(Some(on_message.into_js_value().unchecked_ref()));
        socket.set_onclose(Some(on_close.into_js_value().unchecked_ref()));
        // A close event follows every error. Without a listener some classes of Node throw instead.
        NOTHING.with(|nothing| socket.set_onerror(Some(nothing)));
    }

    fn ignore(&self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
    }
}

fn closed(event: &Fields) -> Input<Data> {
    let code = event.number("code").and_then(|code| code.try_into().ok());
    Input::Closed {
        code: code.unwrap_or(ABNORMAL),
        reason: event.text("reason").unwrap_or_default(),
    }
}

/// Passes on what one frame says, for as long as the socket counts: the first message may have been the last that was wanted.
fn hear(driver: &Rc<Driver>, number: u32, data: &JsValue) {
    let messages = match Frame::read(data) {
        Frame::Messages(messages) => messages,
        Frame::Unreadable => vec![None],
    };
    for message in messages {
        if !driver.socket_slot.is_current(number) {
            return;
        }
        driver.handle(message.map_or(Input::Unreadable, Input::Message));
    }
}

/// A goodbye: RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;

/// What a browser says of a connection that could not be made: RFC 6455, section 7.4.1.
const ABNORMAL: u16 = 1006;
