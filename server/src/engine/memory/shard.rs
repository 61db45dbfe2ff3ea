//! The channels of one shard, kept within bounds. Pure: takes `now`; the one thing it calls is [`Deliver`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::{ChannelName, Epoch, Member, Position, RawJson, SocketId};
use tokio::time::Instant;

use super::MemoryOptions;
use super::channel::Channel;
use super::keys::Keys;
use super::presence::Change;
use crate::delivery::{
    Delivery, Departure, History, HistoryRange, Members, Publication, Published, Retention,
};
use crate::engine::{Arrival, Deliver, EngineError};
use crate::tables::{shrink_map, shrink_set};

/// The channels that this node has subscribers for: their position is kept however long they are quiet.
///
/// A lock of its own, the last in the lock order: the hub may hold its locks when it says what it wants, and the shard's lock
/// is held while deliveries go to the hub.
pub(super) type Wanted = Arc<Mutex<Wishes>>;

/// Which channels this node has subscribers for, and which it had lately.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    wanted: HashSet<ChannelName>,
    /// Channels that lost their last subscriber and that the shard has not looked at since.
    left: Vec<ChannelName>,
}

impl Wishes {
    /// Says whether a channel has subscribers.
    pub(super) fn set(&mut self, channel: &ChannelName, is_wanted: bool) {
        if is_wanted {
            self.wanted.insert(channel.clone());
        } else if let Some(channel) = self.wanted.take(channel) {
            self.left.push(channel);
        }
    }
}

/// The channels of one shard.
///
/// A channel that never had a message is remembered only while it has subscribers. Its epoch follows from its name and from
/// `generation`, so that who comes back to it later is told the same epoch: nothing was missed. The generation changes whenever
/// the shard forgets a message's position; then none of these epochs comes again.
pub(super) struct Shard {
    channels: HashMap<ChannelName, Channel>,
    epochs: RandomState,
    generation: u64,
    keys: Keys,
    /// The sum of all channels' history bytes.
    bytes: usize,
    limits: Limits,
    wanted: Wanted,
    losses: Losses,
}

/// A shard's part of what the engine may hold, and what holds for each of its channels.
#[derive(Debug, Clone, Copy)]
struct Limits {
    channels: usize,
    bytes: usize,
    keys: usize,
    options: MemoryOptions,
}

/// What had to go before its time, since the last sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Histories dropped; their positions stay.
    pub(super) histories: usize,
    /// Channels dropped; they start a new epoch.
    pub(super) channels: usize,
    /// Idempotency keys dropped; a repetition is a message of its own.
    pub(super) keys: usize,
}

impl Shard {
    /// An empty shard, one of `shards`.
    pub(super) fn new(options: MemoryOptions, shards: usize, wanted: Wanted) -> Self {
        Self {
            channels: HashMap::new(),
            epochs: RandomState::new(),
            generation: 0,
            keys: Keys::default(),
            bytes: 0,
            limits: Limits {
                channels: options.channels_max.div_ceil(shards),
                bytes: options.history_bytes_max.div_ceil(shards),
                keys: options.keys_max.div_ceil(shards),
                options,
            },
            wanted,
            losses: Losses::default(),
        }
    }

    /// Appends and fans out. A channel without positions leaves nothing behind.
    pub(super) fn publish(
        &mut self,
        mut publication: Publication,
        retention: Retention,
        now: Instant,
        deliver: &Deliver,
    ) -> Result<Published, EngineError> {
        let id = publication.key_id();
        publication.key = None;
        if let Some(id) = &id {
            self.keys.expire(self.limits.options.key_ttl, now);
            if let Some(first) = self.keys.find(id) {
                return Ok(first);
            }
        }
        let name = publication.channel.clone();
        let delivery = if retention.is_positioned {
            self.append(&name, publication, retention, now)?
        } else {
            Delivery::new(publication, None, None)
        };
        let position = delivery.position;
        if let Some(id) = id {
            let is_early = self.keys.insert(id, position, self.limits.keys, now);
            self.losses.keys += usize::from(is_early);
        }
        deliver(Arrival::Delivery(delivery));
        Ok(Published::new(position))
    }

    /// Reads part of a history. A channel never heard of keeps the epoch it is told here as long as it has subscribers, so that
    /// the answer holds for its first message.
    pub(super) fn history(
        &mut self,
        name: &ChannelName,
        range: HistoryRange,
        now: Instant,
    ) -> Result<History, EngineError> {
        if !self.channels.contains_key(name) && !is_wanted(&self.wanted, name) {
            return Ok(History {
                top: self.first_position(name),
                entries: Vec::new(),
            });
        }
        self.with_channel(name, now, |channel| channel.history(range, now))
    }

    /// Drops a channel's history.
    pub(super) fn clear_history(&mut self, name: &ChannelName) {
        if let Some(channel) = self.channels.get_mut(name) {
            self.bytes -= channel.bytes();
            self.generation += u64::from(channel.position().offset > 0);
            channel.clear_history();
        }
    }

    /// Adds a connection and tells the channel when its user is new.
    pub(super) fn join(
        &mut self,
        name: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
        now: Instant,
        deliver: &Deliver,
    ) -> Result<(), EngineError> {
        let retention = Retention {
            is_positioned: true,
            ..retention
        };
        let changes = self.with_channel(name, now, |channel| {
            let mut changes = channel.presence.expire(now);
            changes.extend(channel.presence.join(connection, member));
            changes
        })?;
        self.announce(name, changes, retention, now, deliver)
    }

    /// Replaces what a connection shows. Answers whether it is here.
    pub(super) fn update(
        &mut self,
        name: &ChannelName,
        connection: SocketId,
        info: RawJson,
        retention: Retention,
        now: Instant,
        deliver: &Deliver,
    ) -> Result<bool, EngineError> {
        let Some(channel) = self.channels.get_mut(name) else {
            return Ok(false);
        };
        let mut changes = channel.presence.expire(now);
        let retention = Retention {
            is_positioned: true,
            ..retention
        };
        let is_here = channel.presence.has(connection);
        changes.extend(channel.presence.update(connection, info));
        self.announce(name, changes, retention, now, deliver)?;
        Ok(is_here)
    }

    /// Takes a connection out, or notes that it is lost. Answers when [`Shard::expire_lost`] must come by, if it must.
    pub(super) fn leave(
        &mut self,
        name: &ChannelName,
        connection: SocketId,
        departure: Departure,
        now: Instant,
        deliver: &Deliver,
    ) -> Result<Option<Instant>, EngineError> {
        let Some(channel) = self.channels.get_mut(name) else {
            return Ok(None);
        };
        let retention = channel.retention();
        let mut changes = channel.presence.expire(now);
        let mut due = None;
        if departure == Departure::Lost {
            let until = now + self.limits.options.presence_grace;
            due = channel.presence.lose(connection, until).then_some(until);
        } else {
            changes.extend(channel.presence.remove(connection, departure));
        }
        self.announce(name, changes, retention, now, deliver)?;
        Ok(due)
    }

    /// Takes the lost connections of a channel out whose time is up.
    pub(super) fn expire_lost(
        &mut self,
        name: &ChannelName,
        now: Instant,
        deliver: &Deliver,
    ) -> Result<(), EngineError> {
        let Some(channel) = self.channels.get_mut(name) else {
            return Ok(());
        };
        let retention = channel.retention();
        let changes = channel.presence.expire(now);
        self.announce(name, changes, retention, now, deliver)
    }

    /// Whether a connection is known in a channel.
    pub(super) fn has_connection(&self, name: &ChannelName, connection: SocketId) -> bool {
        let channel = self.channels.get(name);
        channel.is_some_and(|channel| channel.presence.has(connection))
    }

    /// Who is here, and where the channel stands.
    pub(super) fn members(
        &mut self,
        name: &ChannelName,
        caller: Option<SocketId>,
        now: Instant,
        deliver: &Deliver,
    ) -> Result<Members, EngineError> {
        self.expire_lost(name, now, deliver)?;
        let Some(channel) = self.channels.get(name) else {
            return Ok(Members {
                count: 0,
                members: Vec::new(),
                position: self.first_position(name),
            });
        };
        let limit = self.limits.options.members_max;
        Ok(Members {
            count: channel.presence.count() as u64,
            members: channel.presence.members(limit, caller),
            position: channel.position(),
        })
    }

    /// Drops what has outlived its time. Answers what had to go earlier since the last sweep.
    pub(super) fn sweep(&mut self, now: Instant) -> Losses {
        self.keys.expire(self.limits.options.key_ttl, now);
        self.drop_untouched(usize::MAX);
        let Self {
            channels,
            bytes,
            wanted,
            generation,
            ..
        } = self;
        channels.retain(|name, channel| {
            let before = channel.bytes();
            channel.expire(now);
            *bytes -= before - channel.bytes();
            let stays = !channel.is_idle(now) || is_wanted(wanted, name);
            *generation += u64::from(!stays && channel.position().offset > 0);
            stays
        });
        shrink_map(channels);
        shrink_set(&mut lock(wanted).wanted);
        std::mem::take(&mut self.losses)
    }

    /// Drops channels that have lost their last subscriber and never had a message, looking at so many at most.
    fn drop_untouched(&mut self, most: usize) {
        let mut wishes = lock(&self.wanted);
        let Wishes { wanted, left } = &mut *wishes;
        let from = left.len().saturating_sub(most);
        for name in left.drain(from..) {
            if !wanted.contains(&name)
                && let Entry::Occupied(channel) = self.channels.entry(name)
                && channel.get().is_untouched()
            {
                channel.remove();
            }
        }
        if left.is_empty() {
            *left = Vec::new();
        }
    }

    /// Where a channel stands that has no message.
    fn first_position(&self, name: &ChannelName) -> Position {
        Position::start(first_epoch(&self.epochs, self.generation, name))
    }

    fn announce(
        &mut self,
        name: &ChannelName,
        changes: Vec<Change>,
        retention: Retention,
        now: Instant,
        deliver: &Deliver,
    ) -> Result<(), EngineError> {
        for change in changes {
            let publication = match change {
                Change::Added(member) => Publication::member_added(name.clone(), &member),
                Change::Updated(member) => Publication::member_updated(name.clone(), &member),
                Change::Removed(user, departure) => {
                    Publication::member_removed(name.clone(), &user, departure)
                }
            };
            let delivery = self.append(name, publication, retention, now)?;
            deliver(Arrival::Delivery(delivery));
        }
        Ok(())
    }

    fn append(
        &mut self,
        name: &ChannelName,
        publication: Publication,
        retention: Retention,
        now: Instant,
    ) -> Result<Delivery, EngineError> {
        let bytes_max = self.limits.options.channel_bytes_max;
        let delivery = self.with_channel(name, now, |channel| {
            channel.append(publication, retention, bytes_max, now)
        })?;
        if self.bytes > self.limits.bytes {
            self.free_bytes(name);
        }
        Ok(delivery)
    }

    /// Runs one step on a channel, which is created when it is new, and keeps the sum of bytes true.
    fn with_channel<T>(
        &mut self,
        name: &ChannelName,
        now: Instant,
        step: impl FnOnce(&mut Channel) -> T,
    ) -> Result<T, EngineError> {
        if !self.channels.contains_key(name) {
            // Channels that were left go faster than new ones come.
            self.drop_untouched(LEFT_PER_STEP);
            self.free_channel()?;
        }
        let Self {
            channels,
            epochs,
            generation,
            ..
        } = self;
        let channel = channels
            .entry(name.clone())
            .or_insert_with(|| Channel::new(first_epoch(epochs, *generation, name), now));
        let before = channel.bytes();
        let answer = step(channel);
        self.bytes = self.bytes - before + channel.bytes();
        Ok(answer)
    }

    /// Makes room for histories: the channels that were quiet for longest lose theirs. An eighth more than needed goes, so
    /// that the search pays.
    fn free_bytes(&mut self, newest: &ChannelName) {
        let goal = self.limits.bytes - self.limits.bytes / 8;
        let mut quiet: Vec<(Instant, &ChannelName)> = self
            .channels
            .iter()
            .filter(|(name, channel)| channel.bytes() > 0 && *name != newest)
            .map(|(name, channel)| (channel.active(), name))
            .collect();
        quiet.sort_unstable();
        let quiet: Vec<ChannelName> = quiet.into_iter().map(|(_, name)| name.clone()).collect();
        for name in quiet {
            if self.bytes <= goal {
                return;
            }
            if let Some(channel) = self.channels.get_mut(&name) {
                self.bytes -= channel.bytes();
                channel.drop_entries();
                self.losses.histories += 1;
            }
        }
        if let Some(channel) = self.channels.get_mut(newest) {
            let before = channel.bytes();
            channel.shrink(self.limits.bytes);
            self.bytes -= before - channel.bytes();
        }
    }

    /// Makes room for one more channel: an eighth of all, those that nobody uses and that were quiet for longest, must go.
    fn free_channel(&mut self) -> Result<(), EngineError> {
        let limit = self.limits.channels;
        if self.channels.len() < limit {
            return Ok(());
        }
        let mut quiet: Vec<(Instant, &ChannelName)> = self
            .channels
            .iter()
            .filter(|(name, channel)| channel.presence.is_empty() && !is_wanted(&self.wanted, name))
            .map(|(name, channel)| (channel.active(), name))
            .collect();
        quiet.sort_unstable();
        quiet.truncate((limit / 8).max(1));
        if quiet.is_empty() {
            return Err(EngineError::Full {
                engine: super::NAME,
                what: "channels",
                limit: self.limits.options.channels_max,
            });
        }
        let quiet: Vec<ChannelName> = quiet.into_iter().map(|(_, name)| name.clone()).collect();
        for name in quiet {
            if let Some(channel) = self.channels.remove(&name) {
                self.generation += u64::from(channel.position().offset > 0);
                self.bytes -= channel.bytes();
                self.losses.channels += 1;
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn channel(&mut self, name: &ChannelName) -> Option<&mut Channel> {
        self.channels.get_mut(name)
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.channels.capacity()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let bytes: usize = self.channels.values().map(Channel::bytes).sum();
        assert_eq!(self.bytes, bytes, "the sum of bytes is kept true");
        (self.channels.len(), bytes)
    }
}

fn is_wanted(wanted: &Wanted, name: &ChannelName) -> bool {
    lock(wanted).wanted.contains(name)
}

/// The epoch of a channel that has no message.
fn first_epoch(epochs: &RandomState, generation: u64, name: &ChannelName) -> Epoch {
    Epoch(epochs.hash_one((generation, name)).max(1))
}

fn lock(wanted: &Wanted) -> MutexGuard<'_, Wishes> {
    wanted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 4 channels that were left are looked at in every step.
const LEFT_PER_STEP: usize = 4;
