//! Answers that keep coming: who waits for one of many is not timed out while the others are answered.

use crate::options::Options;
use crate::time::Millis;

/// When questions about channels were last answered.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `subscribe`, by the server.
    pub(crate) subscribing: Answers,
    /// Channel tokens, by the host.
    pub(crate) authorizing: Answers,
}

/// Answers to one kind of question.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The longest silence.
    timeout: u64,
    last: Option<Millis>,
}

impl Progress {
    pub(crate) const fn new(options: &Options) -> Self {
        Self {
            subscribing: Answers::new(options.request_timeout),
            authorizing: Answers::new(options.auth_timeout),
        }
    }
}

impl Answers {
    const fn new(timeout: u64) -> Self {
        Self {
            timeout,
            last: None,
        }
    }

    /// One came.
    pub(crate) const fn came(&mut self, now: Millis) {
        self.last = Some(now);
    }

    /// The deadline of a question that was due at `until` by itself: later while others are answered, but not for ever.
    pub(crate) fn extend(&self, until: Millis) -> Millis {
        let Some(last) = self.last else {
            return until;
        };
        let latest = until + self.timeout.saturating_mul(EXTENSIONS);
        until.max(last + self.timeout).min(latest)
    }
}

/// 5: a question waits six times its time-out at most.
const EXTENSIONS: u64 = 5;
