//! The machine as the npm package drives it: numbers in, numbers out.
//!
//! TypeScript is the host here: it owns the socket, the timer, the page's events, the questions about tokens, and every name and
//! text ([`numbers`]). It reads and writes frames, and it drains. What goes in is a list of numbers whose first says what it is
//! ([`input`]), what comes out is another ([`output`]). What each number means has a name ([`seam`]), in TypeScript as well.

mod input;
mod numbers;
mod output;
mod seam;

use fanfare_client::Millis;
use fanfare_protocol::Tag;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::machine::numbers::{Number, Numbers, joined, optional, put_position};

/// One connection's worth of client. After every [`Machine::input`]: [`Machine::poll`] until there is nothing, then one timer for
/// [`Machine::timeout`].
#[wasm_bindgen]
#[derive(Debug)]
pub struct Machine {
    machine: fanfare_client::Machine<Numbers>,
}

#[wasm_bindgen]
impl Machine {
    /// Makes a client that has not been asked to connect. The options are what goes in; 64 random bits go with it.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(random_high: u32, random_low: u32) -> Self {
        let seed = joined(random_high, random_low);
        Self {
            machine: fanfare_client::Machine::new(input::options(), seed),
        }
    }

    /// Takes one input in.
    pub fn input(&mut self, now: f64) {
        let now = Millis(now as u64);
        input::take_in(&mut self.machine, now);
        self.machine.settle(now);
    }

    /// Takes note of a message that is exactly the next one of its channel: 1. Otherwise nothing has happened, and it is an input.
    ///
    /// `offset` is negative where there is none.
    pub fn follow(
        &mut self,
        channel: u32,
        offset: f64,
        tag_high: u32,
        tag_low: u32,
        now: f64,
    ) -> u32 {
        let Some(channel) = Number::new(channel) else {
            return 0;
        };
        let tag = Tag(joined(tag_high, tag_low));
        let now = Millis(now as u64);
        u32::from(self.machine.follow(&channel, optional(offset), tag, now))
    }

    /// Puts the next thing to do out: 1, or 0 when there is nothing.
    pub fn poll(&mut self) -> u32 {
        let output = self.machine.poll_output();
        if let Some(output) = &output {
            output::put_out(output);
        }
        u32::from(output.is_some())
    }

    /// Puts out where a channel stands.
    pub fn position(&self, channel: u32) {
        let position = Number::new(channel).and_then(|channel| self.machine.position(&channel));
        put_position(position);
    }

    /// Puts out the number of every value that may still come out, while nothing waits to be polled.
    pub fn held(&self) {
        output::put_held(&self.machine);
    }

    /// When to say that the time has come; negative when there is no such time.
    #[must_use]
    pub fn timeout(&self) -> f64 {
        self.machine.next_timeout().map_or(-1.0, |due| due.0 as f64)
    }
}
