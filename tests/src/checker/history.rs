//! What happened, as publishers and clients saw it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::{ChannelName, Position};

/// A point in the order in which things were recorded.
pub type Moment = u64;

/// What happened, as publishers and clients saw it.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every publication that was attempted.
    pub publishes: Vec<Publish>,
    /// What every client saw on every channel, by client and channel.
    pub logs: BTreeMap<(String, ChannelName), Vec<Observed>>,
    now: Moment,
}

/// A publication that was attempted. Its payload is unlike every other's.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Where to.
    pub channel: ChannelName,
    /// What.
    pub payload: String,
    /// A client that must not get it.
    pub except: Option<String>,
    /// When it was first attempted.
    pub called: Moment,
    /// How often it was attempted, with the same key.
    pub attempts: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no answer, or none that says: it may or may not have happened.
    Unknown,
    /// It was accepted.
    Accepted {
        /// When this was known.
        returned: Moment,
        /// The position it was told.
        position: Option<Position>,
    },
    /// It certainly did not happen.
    Refused,
}

/// Something that a client saw on a channel, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When.
    pub at: Moment,
    /// What.
    pub what: Observation,
}

/// Something that a client sees on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A subscription begins anew (also: `recovered` is false): what comes after `at` is owed.
    Joined {
        /// Where it stands, before any message; none on live-only channels.
        at: Option<Position>,
    },
    /// A subscription is back and says that nothing was missed.
    Resumed,
    /// A message arrives.
    Message {
        /// Its position; none on live-only channels.
        position: Option<Position>,
        /// What it says.
        payload: String,
    },
    /// A message was left out on purpose; the position moves.
    Skipped {
        /// The position of the message left out.
        position: Position,
    },
    /// The client is told that messages were lost.
    Gap {
        /// Where it stands now; none where that is not known.
        at: Option<Position>,
    },
    /// The client is told that its history no longer continues.
    Reset {
        /// Where it stands now.
        at: Position,
    },
    /// The subscription ends, or its connection does: nothing is owed until it is back.
    Left,
}

/// Records a history from many tasks at once; a clone records into the same.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
}

/// A publication that a [`Recorder`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishId(usize);

impl Recorder {
    /// Notes, before it is made, the first attempt to publish.
    #[must_use]
    pub fn call(&self, channel: &ChannelName, payload: &str, except: Option<&str>) -> PublishId {
        let mut history = self.lock();
        let called = history.tick();
        history.publishes.push(Publish {
            channel: channel.clone(),
            payload: payload.to_owned(),
            except: except.map(str::to_owned),
            called,
            attempts: 1,
            outcome: Outcome::Unknown,
        });
        PublishId(history.publishes.len() - 1)
    }

    /// Notes, before it is made, one more attempt with the same key.
    pub fn repeat(&self, id: PublishId) {
        self.lock().publishes[id.0].attempts += 1;
    }

    /// Notes that a publication was accepted.
    pub fn accepted(&self, id: PublishId, position: Option<Position>) {
        let mut history = self.lock();
        let returned = history.tick();
        history.publishes[id.0].outcome = Outcome::Accepted { returned, position };
    }

    /// Notes that a publication was refused, so that it certainly did not happen.
    pub fn refused(&self, id: PublishId) {
        self.lock().publishes[id.0].outcome = Outcome::Refused;
    }

    /// Notes what a client saw, when it saw it.
    pub fn saw(&self, client: &str, channel: &ChannelName, what: Observation) {
        let mut history = self.lock();
        let at = history.tick();
        let log = (client.to_owned(), channel.clone());
        let log = history.logs.entry(log).or_default();
        log.push(Observed { at, what });
    }

    /// All that was recorded so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }
}
