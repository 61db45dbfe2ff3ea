//! Time that counts on while the device sleeps and never runs backwards.

use std::cell::Cell;

use fanfare_client::Millis;

use crate::bridge::date_now;

/// `Date.now()`, except that a clock that is set back does not take the client's time with it.
#[derive(Default)]
pub(crate) struct Clock {
    last: Cell<u64>,
    /// How far the clock has been set back since the start.
    set_back: Cell<u64>,
}

impl Clock {
    pub(crate) fn now(&self) -> Millis {
        let date = date_now() as u64;
        let mut now = date + self.set_back.get();
        if now < self.last.get() {
            self.set_back.set(self.last.get() - date);
            now = self.last.get();
        }
        self.last.set(now);
        Millis(now)
    }
}
