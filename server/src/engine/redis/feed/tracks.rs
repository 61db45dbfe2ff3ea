//! The tracks of all wanted channels, and the one lock around them.
//!
//! All decisions about deliveries are made under this lock: on messages, on histories that were read, and on reads from the cache.
//! So a history and the deliveries around it always fit together: what the history lacks is delivered after it.
//!
//! Lock order: the table, then the interests; the table, then the locks that [`Deliver`] takes. [`Tracks::record_interest`] takes the
//! interests only.
//!
//! Promise: docs/guarantees.md, *Channels with history*, "Order".

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::{ChannelName, Epoch, Position};
use tokio::sync::{Notify, oneshot};

use super::recent::{Bounds, Recent};
use super::track::{Output, Track};
use crate::clock::Instant;
use crate::delivery::{History, HistoryRange, Retention};
use crate::engine::redis::channel::envelope::PubSubMessage;
use crate::engine::redis::channel::history::{Aged, Ages};
use crate::engine::redis::connection::error::Backoff;
use crate::engine::redis::nodes::failover::AffectedChannels;
use crate::engine::{Arrival, Deliver};

mod subscriptions;
mod turns;

pub(crate) use self::subscriptions::ConnectionPlan;
use self::subscriptions::SubscriptionState;
pub(crate) use self::turns::{Due, SyncDue};

/// The tracks of all wanted channels.
pub(crate) struct Tracks {
    table: Mutex<Table>,
    interests: Mutex<HashMap<ChannelName, (Retention, bool)>>,
    deliver: Deliver,
    options: Times,
    /// Notified when wanted and subscribed channels may differ.
    pub(crate) unsettled: Notify,
    /// Notified when channels have to be read.
    pub(crate) unread: Notify,
}

/// Intervals that concern tracks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// How long a channel stays subscribed after its last subscriber has left.
    pub(crate) unsubscribe_delay: Duration,
    /// How often a channel is compared with the store, give or take a fifth.
    pub(crate) sync_interval: Duration,
    /// How long a subscription that failed waits at most before it is tried again.
    pub(crate) retry_pause_max: Duration,
}

struct Table {
    entries: HashMap<ChannelName, Entry>,
    recent: Recent,
    next_id: u64,
    /// Channels whose subscription has to be looked at.
    unsettled: HashSet<ChannelName>,
    /// Subscriptions that were given up and confirmed all the same, by pub/sub connection.
    orphaned_subscriptions: HashSet<(u64, ChannelName)>,
    /// Channels that have to be looked at later.
    later: BinaryHeap<Reverse<(Instant, ChannelName)>>,
    /// Channels with a loss to report once time has passed.
    has_timers: HashSet<ChannelName>,
    /// Channels without a position yet: subscribers wait for them.
    first_reads: VecDeque<(ChannelName, u64)>,
    /// Channels that may have missed messages, the longest waiting first.
    catch_ups: VecDeque<(ChannelName, u64)>,
    syncs: BinaryHeap<Reverse<(Instant, ChannelName, u64)>>,
    is_closed: bool,
}

struct Entry {
    /// Tells this entry from others of the same channel before and after it.
    id: u64,
    track: Track,
    retention: Retention,
    /// Since when no subscriber wants it.
    unwanted_since: Option<Instant>,
    subscription: SubscriptionState,
    /// Of the subscription.
    backoff: Backoff,
    /// The position of the last message that this node published: a read from the cache must reach it.
    min_position: Option<Position>,
    ready: Vec<oneshot::Sender<()>>,
    reached: Vec<(Position, oneshot::Sender<()>)>,
}

impl Tracks {
    /// No channel is wanted yet.
    pub(crate) fn new(deliver: Deliver, options: Times, bounds: Bounds) -> Self {
        Self {
            table: Mutex::new(Table {
                entries: HashMap::new(),
                recent: Recent::new(bounds),
                next_id: 1,
                unsettled: HashSet::new(),
                orphaned_subscriptions: HashSet::new(),
                later: BinaryHeap::new(),
                has_timers: HashSet::new(),
                first_reads: VecDeque::new(),
                catch_ups: VecDeque::new(),
                syncs: BinaryHeap::new(),
                is_closed: false,
            }),
            interests: Mutex::default(),
            deliver,
            options,
            unsettled: Notify::new(),
            unread: Notify::new(),
        }
    }

    /// States whether a channel is wanted. Only records it.
    pub(crate) fn record_interest(
        &self,
        channel: &ChannelName,
        retention: Retention,
        wanted: bool,
    ) {
        let mut interests = lock(&self.interests);
        interests.insert(channel.clone(), (retention, wanted));
        drop(interests);
        self.unsettled.notify_one();
    }

    /// Ends all deliveries, and lets all waiting callers go.
    pub(crate) fn close(&self) {
        let mut table = self.lock();
        table.is_closed = true;
        table.entries.clear();
    }

    /// Resolves when messages of a wanted channel are delivered. `None` if it is not wanted here.
    pub(crate) fn when_ready(&self, channel: &ChannelName) -> Option<oneshot::Receiver<()>> {
        let mut table = self.lock();
        let entry = table.entries.get_mut(channel)?;
        if entry.unwanted_since.is_some() {
            return None;
        }
        let (ready, waiting) = oneshot::channel();
        if entry.track.is_ready() {
            let _ = ready.send(());
        } else {
            entry.ready.retain(|ready| !ready.is_closed());
            entry.ready.push(ready);
        }
        Some(waiting)
    }

    /// Resolves when all messages up to a position were delivered here. `None` if the channel is not followed here.
    pub(crate) fn when_reached(
        &self,
        channel: &ChannelName,
        position: Position,
    ) -> Option<oneshot::Receiver<()>> {
        let mut table = self.lock();
        let entry = table.entries.get_mut(channel)?;
        let (reached, waiting) = oneshot::channel();
        entry.reached.push((position, reached));
        entry.tell_waiters();
        Some(waiting)
    }

    /// Notes what this node published itself.
    pub(crate) fn note_published(
        &self,
        channel: &ChannelName,
        position: Option<Position>,
        retention: Retention,
    ) {
        let mut table = self.lock();
        let Some(position) = position else {
            return;
        };
        let table = &mut *table;
        let Some(entry) = table.entries.get_mut(channel) else {
            return;
        };
        table.recent.keep(channel, retention);
        let is_newer = entry.min_position.is_none_or(|min_position| {
            min_position.epoch != position.epoch || min_position.offset < position.offset
        });
        if is_newer {
            entry.min_position = Some(position);
        }
    }

    /// Notes that a channel's history was cleared: reads go to Redis until the first message of the new history. That one arrives after
    /// the last ones of the old.
    pub(crate) fn note_cleared(&self, channel: &ChannelName) {
        let mut table = self.lock();
        if let Some(entry) = table.entries.get_mut(channel)
            && let Some(at) = entry.track.position()
        {
            entry.min_position = Some(Position::start(Epoch(!at.epoch.0)));
        }
    }

    /// Reads from the cache, where Redis would certainly return the same.
    pub(crate) fn answer(&self, channel: &ChannelName, range: HistoryRange) -> Option<History> {
        let mut table = self.lock();
        let table = &mut *table;
        let entry = table.entries.get(channel)?;
        let top = entry.track.live_position()?;
        let lacks_own = entry.min_position.is_some_and(|min_position| {
            min_position.epoch != top.epoch || min_position.offset > top.offset
        });
        if lacks_own {
            return None;
        }
        let entries = match range {
            HistoryRange::Last { limit: 0 } => Vec::new(),
            HistoryRange::Last { .. } => return None,
            HistoryRange::After { offset, limit } => {
                table
                    .recent
                    .after(channel, offset, limit, top.offset, Instant::now())?
            }
        };
        Some(History { top, entries })
    }

    /// The position of a channel that is followed here, whatever may be missing after it.
    pub(crate) fn position(&self, channel: &ChannelName) -> Option<Position> {
        self.lock().entries.get(channel)?.track.position()
    }

    /// Puts what a caller's read has returned into the cache, so that the next caller needs no read.
    pub(crate) fn note_read(&self, channel: &ChannelName, after: u64, read: &Aged) {
        let Aged { history, ages, .. } = read;
        let mut table = self.lock();
        let table = &mut *table;
        let Some(entry) = table.entries.get(channel) else {
            return;
        };
        if entry.track.live_position() == Some(history.top) {
            let first = history.entries.first().and_then(|entry| entry.position);
            let is_whole = after == 0 || first.is_some_and(|first| first.offset > after + 1);
            let now = Instant::now();
            table
                .recent
                .offer(channel, entry.retention, history, ages, is_whole, now);
        }
    }

    /// A message came in on a connection.
    pub(crate) fn arrived(&self, pubsub: u64, message: PubSubMessage, now: Instant) {
        let channel = message.delivery.channel.clone();
        self.with(&channel, Some(pubsub), |entry, out| {
            let PubSubMessage { delivery, count } = message;
            entry.track.arrived(delivery, count, now, out);
        });
    }

    /// A message was dropped before it reached the track.
    pub(crate) fn dropped(&self, channel: &ChannelName, now: Instant) {
        self.with(channel, None, |entry, out| entry.track.dropped(now, out));
    }

    /// Another node has published at a master that was replaced: on channels without history, messages may be lost.
    pub(crate) fn possible_loss(&self, channels: &AffectedChannels, now: Instant) {
        let every: Vec<ChannelName>;
        let channels = match channels {
            AffectedChannels::Some(channels) => channels,
            AffectedChannels::All => {
                every = self.lock().entries.keys().cloned().collect();
                &every
            }
        };
        for channel in channels {
            self.with(channel, None, |entry, _| entry.track.possible_loss(now));
        }
    }

    /// Reports losses that no message has followed for long enough.
    pub(crate) fn tick(&self, now: Instant) {
        let has_timers: Vec<ChannelName> = self.lock().has_timers.iter().cloned().collect();
        for channel in has_timers {
            self.with(&channel, None, |entry, out| entry.track.tick(now, out));
        }
    }

    /// Lets a track act and carries out its outputs. With `pubsub`, only if the channel is subscribed there.
    fn with(
        &self,
        channel: &ChannelName,
        pubsub: Option<u64>,
        act: impl FnOnce(&mut Entry, &mut Vec<Output>),
    ) {
        self.with_ages(channel, pubsub, &Ages::default(), act);
    }

    /// The same, where messages are delivered that were published some time ago.
    fn with_ages(
        &self,
        channel: &ChannelName,
        pubsub: Option<u64>,
        ages: &Ages,
        act: impl FnOnce(&mut Entry, &mut Vec<Output>),
    ) {
        let mut table = self.lock();
        let table = &mut *table;
        let Some(entry) = table.entries.get_mut(channel) else {
            return;
        };
        if pubsub.is_some_and(|pubsub| !entry.subscription.is_confirmed_on(pubsub)) {
            return;
        }
        let mut out = Vec::new();
        act(entry, &mut out);
        let is_waiting = entry.track.is_waiting_to_tell();
        self.carry_out(table, channel, out, ages);
        if is_waiting {
            table.has_timers.insert(channel.clone());
        } else if !table.has_timers.is_empty() {
            table.has_timers.remove(channel);
        }
    }

    fn carry_out(&self, table: &mut Table, channel: &ChannelName, out: Vec<Output>, ages: &Ages) {
        let Some(entry) = table.entries.get_mut(channel) else {
            return;
        };
        let now = Instant::now();
        let mut is_read_due = false;
        for output in out {
            match output {
                Output::Deliver(delivery) => {
                    table.recent.push(&delivery, ages.of(&delivery), now);
                    (self.deliver)(Arrival::Delivery(delivery));
                }
                Output::Read => is_read_due = true,
                Output::Adopt { history, is_whole } => {
                    entry.min_position = None;
                    let keeps = entry.retention;
                    table
                        .recent
                        .adopt(channel, keeps, &history, ages, is_whole, now);
                }
                Output::Gap(reason) => (self.deliver)(Arrival::Gap {
                    channel: channel.clone(),
                    reason,
                }),
                Output::Reset(position, reason) => (self.deliver)(Arrival::Reset {
                    channel: channel.clone(),
                    position,
                    reason,
                }),
            }
        }
        entry.tell_waiters();
        if is_read_due {
            let (id, is_first) = (entry.id, entry.track.position().is_none());
            table.queue_read(channel.clone(), id, is_first);
            self.unread.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        let mut table = lock(&self.table);
        self.apply_interests(&mut table);
        table
    }
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.8 + 0.4 * fastrand::f64())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
