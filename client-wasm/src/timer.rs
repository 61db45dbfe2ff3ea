//! One `setTimeout` for the next deadline.

use std::cell::RefCell;
use std::rc::Weak;

use fanfare_client::Millis;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast as _, JsValue};

use crate::bridge::{clear_timeout, set_timeout};
use crate::clock::Clock;
use crate::drain::Driver;

/// At most one timer of the page.
pub(crate) struct Timer {
    callback: Closure<dyn Fn()>,
    armed: RefCell<Option<(Millis, JsValue)>>,
}

impl Timer {
    pub(crate) fn new(driver: Weak<Driver>) -> Self {
        let fire = move || {
            if let Some(driver) = driver.upgrade() {
                driver.timer.armed.take();
                driver.timer_fired();
            }
        };
        Self {
            callback: Closure::new(fire),
            armed: RefCell::default(),
        }
    }

    /// Sees to it that the callback runs at `due` or before. A timer that is early enough is left as it is: deadlines move
    /// ahead with every frame, and setting a new timer each time would cost more than one that finds nothing to do.
    pub(crate) fn arm(&self, due: Millis, clock: &Clock) {
        if let Some((at, _)) = &*self.armed.borrow()
            && *at <= due
        {
            return;
        }
        self.clear();
        let wait = due.since(clock.now()).min(WAIT_MAX);
        let timer = set_timeout(self.callback.as_ref().unchecked_ref(), wait as u32);
        *self.armed.borrow_mut() = Some((due, timer));
    }

    pub(crate) fn clear(&self) {
        if let Some((_, timer)) = self.armed.take() {
            clear_timeout(&timer);
        }
    }
}

/// Above 2^31 - 1 milliseconds `setTimeout` fires at once.
const WAIT_MAX: u64 = (1 << 31) - 1;
