//! What the machine has to say and nobody has asked for yet.

use alloc::vec::Vec;

use crate::machine::output::{News, Output};
use crate::machine::values::Values;

/// Outputs in order. Two lists in place of a ring: the code of a ring is several times as long, and a browser loads it.
#[derive(Debug)]
pub(crate) struct Outputs<V: Values> {
    /// The last is the next to go.
    leaving: Vec<Output<V>>,
    /// Behind all of `leaving`, the first is the next.
    waiting: Vec<Output<V>>,
}

impl<V: Values> Outputs<V> {
    pub(crate) const fn new() -> Self {
        Self {
            leaving: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, output: Output<V>) {
        self.waiting.push(output);
    }

    pub(crate) fn tell(&mut self, news: News<V>) {
        self.push(Output::Tell(news));
    }

    pub(crate) fn pop(&mut self) -> Option<Output<V>> {
        if self.leaving.is_empty() {
            core::mem::swap(&mut self.leaving, &mut self.waiting);
            self.leaving.reverse();
        }
        self.leaving.pop()
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(&Output<V>) -> bool) {
        for list in [&mut self.leaving, &mut self.waiting] {
            list.retain(&is_kept);
        }
    }
}
