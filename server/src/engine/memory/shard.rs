//! The channels of one shard, kept within bounds. Pure: takes `now`; the one thing it calls is [`Deliver`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use fanfare_protocol::{ChannelName, Member, SocketId};
use tokio::time::Instant;

use super::MemoryOptions;
use super::channel::Channel;
use super::keys::{Keys, Sender};
use super::presence::Change;
use crate::delivery::{
    Delivery, Departure, History, HistoryRange, Members, Publication, Published, Retention,
};
use crate::engine::{Arrival, Deliver, EngineError};

/// The channels that this node has subscribers for: their position is kept however long they are quiet.
///
/// A lock of its own, the last in the lock order: the hub may hold its locks when it says what it wants, and the shard's lock
/// is held while deliveries go to the hub.
pub(super) type Wanted = Arc<Mutex<HashSet<ChannelName>>>;

/// The channels of one shard.
pub(super) struct Shard {
    channels: HashMap<ChannelName, Channel>,
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
        let id = publication.key.take().map(|key| {
            let sender = Sender::of(&publication);
            (publication.channel.clone(), sender, key)
        });
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

    /// Reads part of a history. A channel never heard of gets its epoch here, so that the answer holds for its first message.
    pub(super) fn history(
        &mut self,
        name: &ChannelName,
        range: HistoryRange,
        now: Instant,
    ) -> Result<History, EngineError> {
        self.with_channel(name, now, |channel| channel.history(range, now))
    }

    /// Drops a channel's history.
    pub(super) fn forget(&mut self, name: &ChannelName) {
        if let Some(channel) = self.channels.get_mut(name) {
            self.bytes -= channel.bytes();
            channel.forget();
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
        now: Instant,
        deliver: &Deliver,
    ) -> Result<Members, EngineError> {
        self.expire_lost(name, now, deliver)?;
        let limit = self.limits.options.members_max;
        self.with_channel(name, now, |channel| Members {
            count: channel.presence.count() as u64,
            members: channel.presence.members(limit),
            position: channel.position(),
        })
    }

    /// Drops what has outlived its time. Answers what had to go earlier since the last sweep.
    pub(super) fn sweep(&mut self, now: Instant) -> Losses {
        self.keys.expire(self.limits.options.key_ttl, now);
        let Self {
            channels,
            bytes,
            wanted,
            ..
        } = self;
        channels.retain(|name, channel| {
            let before = channel.bytes();
            channel.expire(now);
            *bytes -= before - channel.bytes();
            !channel.is_idle(now) || is_wanted(wanted, name)
        });
        std::mem::take(&mut self.losses)
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
            self.free_channel()?;
        }
        let channel = self
            .channels
            .entry(name.clone())
            .or_insert_with(|| Channel::new(now));
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
    pub(super) fn held(&self) -> (usize, usize) {
        let bytes: usize = self.channels.values().map(Channel::bytes).sum();
        assert_eq!(self.bytes, bytes, "the sum of bytes is kept true");
        (self.channels.len(), bytes)
    }
}

fn is_wanted(wanted: &Wanted, name: &ChannelName) -> bool {
    let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
    wanted.contains(name)
}
