//! What happened, as publishers and clients saw it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fanfare_protocol::{ChannelName, Position};

use crate::lock;

/// A point in the order in which things were recorded.
pub type Moment = u64;

/// What happened, as publishers and clients saw it.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every publication that was attempted.
    pub publishes: Vec<Publish>,
    /// What every client saw on every channel, by client and channel.
    pub logs: BTreeMap<(String, ChannelName), Vec<Observed>>,
    /// What every client knew of the members of every channel, by client and channel.
    pub sights: BTreeMap<(String, ChannelName), Vec<Sight>>,
    /// Who was there, as connections know it.
    pub stays: Vec<Stay>,
    /// Until when clients may get what is said on channels.
    pub grants: Vec<Grant>,
    /// When something was done to the system.
    pub faults: Vec<Fault>,
    /// The clients that have ended because they were told to.
    pub ended: BTreeSet<String>,
    /// Whether the store was made to lose what it had accepted: then nobody is owed what it no longer knows.
    pub store_may_lose: bool,
    /// When two servers both took themselves for the one that accepts messages: each had an order of its own.
    pub splits: Vec<Fault>,
    /// When every moment was, since the recording began.
    times: Vec<Duration>,
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

/// Something that a client knew of the members of a channel, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// When.
    pub at: Duration,
    /// What.
    pub what: Sighting,
}

/// Something that a client knows of the members of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// All of them, as a subscription begins or is told anew.
    Snapshot(BTreeSet<String>),
    /// One came.
    Came(String),
    /// One went.
    Went(String),
    /// All of them, as a question is answered once everything has come to rest.
    Asked(BTreeSet<String>),
    /// The client knows nothing until the next snapshot.
    Blind,
}

/// A connection of a user that was subscribed to a presence channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// Whose.
    pub user: String,
    /// Where.
    pub channel: ChannelName,
    /// Since when its subscription was confirmed.
    pub from: Duration,
    /// When it ended, if it has.
    pub until: Option<Duration>,
}

/// The end of a client's permission on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub client: String,
    /// Where.
    pub channel: ChannelName,
    /// Until when.
    pub until: Duration,
}

/// Something that was done to the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub name: String,
    /// Since when.
    pub from: Duration,
    /// Until when, if it is over.
    pub until: Option<Duration>,
}

/// Records a history from many tasks at once; a clone records into the same.
#[derive(Clone)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
    clock: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Default for Recorder {
    fn default() -> Self {
        let begun = Instant::now();
        Self::with_clock(move || begun.elapsed())
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// A publication that a [`Recorder`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishId(usize);

/// A fault that a [`Recorder`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(usize);

/// A stay that a [`Recorder`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StayId(usize);

impl Recorder {
    /// Records with a clock of its own, for histories that are made up.
    pub fn with_clock(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            history: Arc::default(),
            clock: Arc::new(clock),
        }
    }

    /// How long ago the recording began.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Notes, before it is made, the first attempt to publish.
    #[must_use]
    pub fn call(&self, channel: &ChannelName, payload: &str, except: Option<&str>) -> PublishId {
        let mut history = self.lock();
        let called = history.tick(self.now());
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
        let returned = history.tick(self.now());
        history.publishes[id.0].outcome = Outcome::Accepted { returned, position };
    }

    /// Notes that a publication was refused, so that it certainly did not happen.
    pub fn refused(&self, id: PublishId) {
        self.lock().publishes[id.0].outcome = Outcome::Refused;
    }

    /// Notes what a client saw, when it saw it.
    pub fn saw(&self, client: &str, channel: &ChannelName, what: Observation) {
        let mut history = self.lock();
        let at = history.tick(self.now());
        let log = (client.to_owned(), channel.clone());
        let log = history.logs.entry(log).or_default();
        log.push(Observed { at, what });
    }

    /// Notes what a client knows of the members of a channel.
    pub fn sighted(&self, client: &str, channel: &ChannelName, what: Sighting) {
        let at = self.now();
        let key = (client.to_owned(), channel.clone());
        let mut history = self.lock();
        history
            .sights
            .entry(key)
            .or_default()
            .push(Sight { at, what });
    }

    /// Notes that a connection of a user is subscribed to a presence channel.
    #[must_use]
    pub fn came(&self, user: &str, channel: &ChannelName) -> StayId {
        let mut history = self.lock();
        history.stays.push(Stay {
            user: user.to_owned(),
            channel: channel.clone(),
            from: self.now(),
            until: None,
        });
        StayId(history.stays.len() - 1)
    }

    /// Notes that it is no longer.
    pub fn went(&self, stay: StayId) {
        self.lock().stays[stay.0].until = Some(self.now());
    }

    /// Notes that a client's permission on a channel ends so long from now.
    pub fn permitted(&self, client: &str, channel: &ChannelName, lives: Duration) {
        let until = self.now() + lives;
        self.lock().grants.push(Grant {
            client: client.to_owned(),
            channel: channel.clone(),
            until,
        });
    }

    /// Notes that something is done to the system.
    #[must_use]
    pub fn fault(&self, name: impl Into<String>) -> FaultId {
        let mut history = self.lock();
        history.faults.push(Fault {
            name: name.into(),
            from: self.now(),
            until: None,
        });
        FaultId(history.faults.len() - 1)
    }

    /// Notes that it is over.
    pub fn healed(&self, fault: FaultId) {
        let now = self.now();
        let mut history = self.lock();
        history.faults[fault.0].until = Some(now);
        let name = history.faults[fault.0].name.clone();
        for split in history.splits.iter_mut().filter(|split| split.name == name) {
            split.until.get_or_insert(now);
        }
    }

    /// Notes that the store is made to lose what it has accepted.
    pub fn store_may_lose(&self) {
        self.lock().store_may_lose = true;
    }

    /// Notes that two servers may both take themselves for the one that accepts messages, while a fault lasts.
    pub fn splits(&self, fault: FaultId) {
        let mut history = self.lock();
        let fault = history.faults[fault.0].clone();
        history.splits.push(fault);
    }

    /// Notes that a client ends because it is told to.
    pub fn ends(&self, client: &str) {
        self.lock().ended.insert(client.to_owned());
    }

    /// All that was recorded so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }
}

impl History {
    /// When a moment was, since the recording began.
    #[must_use]
    pub fn time(&self, moment: Moment) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let index = usize::try_from(moment).unwrap_or(last).min(last);
        self.times.get(index).copied().unwrap_or_default()
    }

    /// When something has to have happened that takes at most `bound` in a system that is well: while a fault lasts the time
    /// does not count.
    #[must_use]
    pub fn due(&self, from: Duration, bound: Duration) -> Duration {
        let mut faults: Vec<&Fault> = self.faults.iter().collect();
        faults.sort_by_key(|fault| fault.from);
        let mut from = from;
        for fault in faults {
            let until = fault.until.unwrap_or(Duration::MAX);
            if fault.from <= from.saturating_add(bound) && until > from {
                from = until;
            }
        }
        from.saturating_add(bound)
    }

    fn tick(&mut self, now: Duration) -> Moment {
        if self.times.is_empty() {
            // Moments count from 1.
            self.times.push(Duration::ZERO);
        }
        self.times.push(now);
        Moment::try_from(self.times.len() - 1).unwrap_or(Moment::MAX)
    }
}
