//! The machine as the npm package drives it: commands in, outputs out, and no JavaScript called but to look at what was parsed.
//!
//! TypeScript is the host here: it owns the socket, the timer, the page's events and the questions about tokens, and it drains.
//! Every value stays in its hands; this side gets a number for it (see `node`). What goes in is an array whose first item says
//! what it is ([`input`]), what comes out is one as JSON text ([`output`]). Both are declared in `npm/src/seam.ts`.

mod input;
mod node;
mod output;

use fanfare_client::{Client, Millis, Slot};
use fanfare_protocol::Tag;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::machine::node::{Data, Node};
use alloc::string::String;

/// One connection's worth of client. After every [`Machine::input`]: [`Machine::poll`] until there is nothing, then one timer for
/// [`Machine::timeout`].
#[wasm_bindgen]
#[derive(Debug)]
pub struct Machine {
    client: Client<Data>,
}

#[wasm_bindgen]
impl Machine {
    /// Makes a client that has not been asked to connect. `options` is an array of numbers; 64 random bits go with it.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(options: u32, random_high: u32, random_low: u32) -> Self {
        let seed = joined(random_high, random_low);
        Self {
            client: Client::new(input::options(Node(options)), seed),
        }
    }

    /// Takes one input in. What comes back is an answer (to a question for a position), or why the input was refused.
    pub fn input(&mut self, input: u32, now: f64) -> Option<String> {
        input::take(&mut self.client, Node(input), Millis(now as u64))
    }

    /// Takes note of a message that is exactly the next one of its channel: 1. Otherwise nothing has happened, and it is an input.
    ///
    /// `offset` is negative where there is none.
    pub fn follow(&mut self, slot: u32, offset: f64, tag_high: u32, tag_low: u32, now: f64) -> u32 {
        let offset = match offset {
            ..0.0 => None,
            _ => match node::whole(offset) {
                None => return 0,
                offset => offset,
            },
        };
        let tag = Tag(joined(tag_high, tag_low));
        let follows = self
            .client
            .follow(Slot(slot), offset, tag, Millis(now as u64));
        u32::from(follows)
    }

    /// The next thing to do, as JSON text.
    pub fn poll(&mut self) -> Option<String> {
        let output = self.client.poll_output()?;
        Some(output::text(&self.client, &output))
    }

    /// When to say that the time has come; negative when there is no such time.
    #[must_use]
    pub fn timeout(&self) -> f64 {
        self.client.next_timeout().map_or(-1.0, |due| due.0 as f64)
    }
}

fn joined(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
