//! Wanted against subscribed: the state of every channel's subscription.
//!
//! A channel that changed in any way is looked at once, and what is wanted and what is subscribed decide what to do. So the first
//! subscriber, the last one, a lost connection and a slot that moved are one case.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare_protocol::{ChannelName, Position};

use super::{Entry, Table, Track, Tracks, jittered, lock};
use crate::clock::Instant;
use crate::delivery::Retention;
use crate::engine::redis::connection::error::Backoff;
use crate::engine::redis::feed::pubsub::PubSubConnection;
use crate::tables::shrink_map;

/// Whether a channel is subscribed, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscriptionState {
    /// It is not.
    Absent,
    /// It was asked for.
    Requested {
        /// On which pub/sub connection.
        pubsub: u64,
        /// By which call.
        call: u64,
    },
    /// Redis has confirmed it.
    Confirmed {
        /// On which pub/sub connection.
        pubsub: u64,
    },
    /// Its end was asked for.
    Leaving {
        /// On which pub/sub connection.
        pubsub: u64,
        /// By which call.
        call: u64,
    },
}

/// What to ask Redis for.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By pub/sub connection, the channels to subscribe and to leave.
    pub(crate) pubsubs: BTreeMap<u64, ConnectionPlan>,
    /// When to look again, at the latest.
    pub(crate) next: Option<Instant>,
}

/// What to ask one pub/sub connection for.
#[derive(Debug)]
pub(crate) struct ConnectionPlan {
    pub(crate) pubsub: Arc<PubSubConnection>,
    pub(crate) subscribe: Vec<ChannelName>,
    pub(crate) unsubscribe: Vec<ChannelName>,
}

impl SubscriptionState {
    fn pubsub(self) -> Option<u64> {
        match self {
            Self::Absent => None,
            Self::Requested { pubsub, .. }
            | Self::Confirmed { pubsub }
            | Self::Leaving { pubsub, .. } => Some(pubsub),
        }
    }

    /// Whether messages count that arrive on a pub/sub connection.
    pub(super) fn is_confirmed_on(self, pubsub: u64) -> bool {
        self == Self::Confirmed { pubsub }
    }
}

impl Tracks {
    /// Applies the interests that were recorded since the last time.
    pub(super) fn apply_interests(&self, table: &mut Table) {
        let mut interests = lock(&self.interests);
        if interests.is_empty() {
            return;
        }
        let interests = std::mem::take(&mut *interests);
        let now = Instant::now();
        for (channel, (retention, wanted)) in interests {
            if table.is_closed {
                return;
            }
            match (table.entries.get_mut(&channel), wanted) {
                (None, false) => continue,
                (None, true) => {
                    let id = table.next_id;
                    table.next_id += 1;
                    let due = now + jittered(self.options.sync_interval);
                    if retention.is_positioned {
                        table.syncs.push(Reverse((due, channel.clone(), id)));
                    }
                    let entry = Entry::new(id, retention);
                    table.entries.insert(channel.clone(), entry);
                }
                (Some(entry), true) => entry.unwanted_since = None,
                (Some(entry), false) => {
                    entry.unwanted_since.get_or_insert(now);
                }
            }
            table.unsettled.insert(channel);
        }
    }

    /// Compares what is wanted with what is subscribed, for all channels that changed, and notes what will be asked for.
    ///
    /// `pubsub_of` returns the connection to a channel's master, if that is known and connected.
    pub(crate) fn plan(
        &self,
        now: Instant,
        call: u64,
        pubsub_of: impl Fn(&ChannelName) -> Option<Arc<PubSubConnection>>,
    ) -> Plan {
        let mut guard = self.lock();
        let table = &mut *guard;
        while let Some(Reverse((at, _))) = table.later.peek()
            && *at <= now
            && let Some(Reverse((_, channel))) = table.later.pop()
        {
            table.unsettled.insert(channel);
        }
        let mut plan = Plan::default();
        let mut unroutable = Vec::new();
        for channel in std::mem::take(&mut table.unsettled) {
            let Some(entry) = table.entries.get_mut(&channel) else {
                continue;
            };
            let on = pubsub_of(&channel);
            // The slot has moved and Redis has not ended the subscription: no message arrives on it any more.
            if let (SubscriptionState::Confirmed { pubsub }, Some(on)) = (entry.subscription, &on)
                && on.number != pubsub
            {
                entry.subscription = SubscriptionState::Absent;
                entry.track.cut(now);
            }
            match (entry.unwanted_since, entry.subscription, on) {
                (Some(since), SubscriptionState::Confirmed { .. }, _)
                    if since + self.options.unsubscribe_delay > now =>
                {
                    let due = since + self.options.unsubscribe_delay;
                    table.later.push(Reverse((due, channel)));
                }
                (Some(_), SubscriptionState::Confirmed { pubsub }, Some(on)) => {
                    entry.subscription = SubscriptionState::Leaving { pubsub, call };
                    entry.track.cut(now);
                    plan.of(on).unsubscribe.push(channel);
                }
                (Some(_), SubscriptionState::Confirmed { .. } | SubscriptionState::Absent, _) => {
                    table.remove(&channel)
                }
                (None, SubscriptionState::Absent, on) => {
                    match (entry.backoff.pausing_until(now), on) {
                        (Some(at), _) => table.later.push(Reverse((at, channel))),
                        (_, None) => unroutable.push(channel),
                        (_, Some(on)) => {
                            let pubsub = on.number;
                            entry.subscription = SubscriptionState::Requested { pubsub, call };
                            plan.of(on).subscribe.push(channel);
                        }
                    }
                }
                (None, SubscriptionState::Confirmed { .. }, _)
                | (_, SubscriptionState::Requested { .. } | SubscriptionState::Leaving { .. }, _) =>
                    {}
            }
        }
        // Without a pub/sub connection there is nothing to do until there is one; then everything is looked at again.
        table.unsettled.extend(unroutable);
        for (pubsub, channel) in std::mem::take(&mut table.orphaned_subscriptions) {
            if let Some(on) = pubsub_of(&channel).filter(|on| on.number == pubsub)
                && !table.entries.contains_key(&channel)
            {
                plan.of(on).unsubscribe.push(channel);
            }
        }
        plan.next = table.later.peek().map(|Reverse((at, _))| *at);
        plan
    }

    /// Redis confirms a subscription.
    pub(crate) fn subscribed(&self, pubsub: u64, channel: &ChannelName) {
        if !self.lock().entries.contains_key(channel) {
            // The confirmation of a call that was given up.
            self.lock()
                .orphaned_subscriptions
                .insert((pubsub, channel.clone()));
            self.unsettled.notify_one();
            return;
        }
        self.with(channel, None, |entry, out| match entry.subscription {
            SubscriptionState::Absent | SubscriptionState::Requested { .. }
                if entry.subscription.pubsub().is_none_or(|at| at == pubsub) =>
            {
                entry.subscription = SubscriptionState::Confirmed { pubsub };
                entry.backoff.succeed();
                entry.track.subscribed(out);
            }
            _ => {}
        });
        self.look_at(channel);
    }

    /// Redis has ended a subscription; returns whether this node had not asked for that.
    pub(crate) fn unsubscribed(&self, pubsub: u64, channel: &ChannelName, now: Instant) -> bool {
        let mut is_surprise = false;
        self.with(channel, None, |entry, _| {
            if entry.subscription.pubsub() == Some(pubsub) {
                is_surprise = !matches!(entry.subscription, SubscriptionState::Leaving { .. });
                entry.subscription = SubscriptionState::Absent;
                entry.track.cut(now);
            }
        });
        self.look_at(channel);
        is_surprise
    }

    /// A pub/sub connection is gone with all that was subscribed on it.
    pub(crate) fn lost(&self, pubsub: u64, now: Instant) {
        let mut guard = self.lock();
        let table = &mut *guard;
        for (channel, entry) in &mut table.entries {
            if entry.subscription.pubsub() == Some(pubsub) {
                entry.subscription = SubscriptionState::Absent;
                entry.track.cut(now);
                table.unsettled.insert(channel.clone());
                if entry.track.is_waiting_to_tell() {
                    table.has_timers.insert(channel.clone());
                }
            }
        }
        drop(guard);
        self.unsettled.notify_one();
    }

    /// A call is over: subscriptions that are not confirmed by now have failed.
    pub(crate) fn settled(&self, pubsub: u64, call: u64, channels: Vec<ChannelName>, now: Instant) {
        let mut guard = self.lock();
        let table = &mut *guard;
        for channel in channels {
            let Some(entry) = table.entries.get_mut(&channel) else {
                continue;
            };
            if entry.subscription == (SubscriptionState::Requested { pubsub, call }) {
                entry.backoff.fail(now, self.options.retry_pause_max);
            } else if entry.subscription == (SubscriptionState::Leaving { pubsub, call }) {
                table
                    .orphaned_subscriptions
                    .insert((pubsub, channel.clone()));
            } else {
                continue;
            }
            entry.subscription = SubscriptionState::Absent;
            table.unsettled.insert(channel);
        }
        drop(guard);
        self.unsettled.notify_one();
    }

    /// Looks at all channels again: their masters may have changed.
    pub(crate) fn look_at_all(&self) {
        let mut guard = self.lock();
        let table = &mut *guard;
        table.unsettled.extend(table.entries.keys().cloned());
        drop(guard);
        self.unsettled.notify_one();
    }

    fn look_at(&self, channel: &ChannelName) {
        self.lock().unsettled.insert(channel.clone());
        self.unsettled.notify_one();
    }
}

impl Table {
    fn remove(&mut self, channel: &ChannelName) {
        self.entries.remove(channel);
        shrink_map(&mut self.entries);
        self.recent.forget(channel);
        self.has_timers.remove(channel);
    }
}

impl Entry {
    fn new(id: u64, retention: Retention) -> Self {
        Self {
            id,
            track: Track::new(retention.is_positioned),
            retention,
            unwanted_since: None,
            subscription: SubscriptionState::Absent,
            backoff: Backoff::default(),
            min_position: None,
            ready: Vec::new(),
            reached: Vec::new(),
        }
    }

    /// Wakes the callers that waited for what is reached now.
    pub(super) fn tell_waiters(&mut self) {
        if !self.ready.is_empty() && self.track.is_ready() {
            for ready in self.ready.drain(..) {
                let _ = ready.send(());
            }
        }
        if self.reached.is_empty() {
            return;
        }
        let at = self.track.position();
        let is_there = |wanted: &Position| {
            at.is_some_and(|at| at.epoch != wanted.epoch || at.offset >= wanted.offset)
        };
        let mut waiting = Vec::new();
        for (wanted, reached) in self.reached.drain(..) {
            if is_there(&wanted) {
                let _ = reached.send(());
            } else if !reached.is_closed() {
                waiting.push((wanted, reached));
            }
        }
        self.reached = waiting;
    }
}

impl Plan {
    fn of(&mut self, pubsub: Arc<PubSubConnection>) -> &mut ConnectionPlan {
        self.pubsubs
            .entry(pubsub.number)
            .or_insert_with(|| ConnectionPlan {
                pubsub,
                subscribe: Vec::new(),
                unsubscribe: Vec::new(),
            })
    }
}
