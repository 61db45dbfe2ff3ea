//! A cache of the last messages of the channels that this node follows, so that many clients that come back at once are one read
//! of Redis.
//!
//! Pure. A window is an unbroken run of messages that ends at the channel's live position; the caller makes sure that the track is
//! live. The cache does not answer where Redis could answer differently: beyond the live position, before the window (unless Redis
//! has nothing older either), and close to the end of a message's life.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "thousands of clients come back at once".

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use fanfare_protocol::ChannelName;

use crate::clock::Instant;
use crate::delivery::{Delivery, History, Retention};
use crate::engine::redis::channel::history::Ages;

/// How much the cache holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Of one channel.
    pub(crate) channel_bytes_max: usize,
    /// Of all channels; the least recently used windows are dropped first.
    pub(crate) bytes_max: usize,
}

/// The windows of all channels.
#[derive(Debug)]
pub(crate) struct Recent {
    bounds: Bounds,
    windows: HashMap<ChannelName, Window>,
    /// The windows by last use, the least recently used one first.
    by_use: BTreeSet<(u64, ChannelName)>,
    uses: u64,
    bytes: usize,
}

/// A message, and how old it was when it came.
#[derive(Debug)]
struct Remembered {
    delivery: Delivery,
    came: Instant,
    age: Duration,
}

impl Remembered {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.came) + self.age
    }
}

#[derive(Debug)]
struct Window {
    entries: VecDeque<Remembered>,
    bytes: usize,
    /// Every message after this offset is held.
    after: u64,
    /// Whether the store has nothing older.
    is_whole: bool,
    keeps: Retention,
    used: u64,
}

impl Recent {
    /// An empty cache.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            windows: HashMap::new(),
            by_use: BTreeSet::new(),
            uses: 0,
            bytes: 0,
        }
    }

    /// Begins a channel's window with what was just read; `is_whole` says that the store holds no more than this.
    ///
    /// A read that does not reach the top of the history starts no window, and ends the one there was.
    pub(crate) fn adopt(
        &mut self,
        channel: &ChannelName,
        keeps: Retention,
        history: &History,
        ages: &Ages,
        is_whole: bool,
        now: Instant,
    ) {
        self.forget(channel);
        if !reaches_top(history) {
            return;
        }
        self.uses += 1;
        let after = history
            .entries
            .first()
            .map_or(history.top.offset, |entry| offset_of(entry) - 1);
        let mut window = Window {
            entries: history
                .entries
                .iter()
                .map(|entry| Remembered {
                    delivery: entry.clone(),
                    came: now,
                    age: ages.of(entry),
                })
                .collect(),
            bytes: history.entries.iter().map(cost).sum(),
            after,
            is_whole,
            keeps,
            used: self.uses,
        };
        window.trim(self.bounds.channel_bytes_max);
        self.bytes += window.bytes;
        self.by_use.insert((window.used, channel.clone()));
        self.windows.insert(channel.clone(), window);
        self.make_room();
    }

    /// Replaces a channel's window if that makes it reach further back. The history was read when the channel was live at its
    /// top; cut short by its limit, it changes nothing.
    pub(crate) fn offer(
        &mut self,
        channel: &ChannelName,
        keeps: Retention,
        history: &History,
        ages: &Ages,
        is_whole: bool,
        now: Instant,
    ) {
        let window = self.windows.get(channel);
        let first = history.entries.first().map(offset_of);
        let reaches_further = window.is_none_or(|window| {
            !window.is_whole && first.is_some_and(|first| first <= window.after)
        });
        if reaches_further && reaches_top(history) {
            self.adopt(channel, keeps, history, ages, is_whole, now);
        }
    }

    /// Adds the message that was just delivered, with its age.
    pub(crate) fn push(&mut self, delivery: &Delivery, age: Duration, now: Instant) {
        let Some(window) = self.windows.get_mut(&delivery.channel) else {
            return;
        };
        if delivery.position.is_none() {
            return;
        }
        let before = window.bytes;
        window.bytes += cost(delivery);
        window.entries.push_back(Remembered {
            delivery: delivery.clone(),
            came: now,
            age,
        });
        window.trim(self.bounds.channel_bytes_max);
        self.bytes = self.bytes - before + window.bytes;
        self.make_room();
    }

    /// Notes the retention that the channel is published to with.
    pub(crate) fn keep(&mut self, channel: &ChannelName, keeps: Retention) {
        let Some(window) = self.windows.get_mut(channel) else {
            return;
        };
        if keeps.size > window.keeps.size || keeps.ttl > window.keeps.ttl {
            // Redis may keep messages by the new retention that the window has dropped by the old one.
            self.forget(channel);
        } else if window.keeps != keeps {
            let before = window.bytes;
            window.keeps = keeps;
            window.trim(self.bounds.channel_bytes_max);
            self.bytes = self.bytes - before + window.bytes;
        }
    }

    /// Forgets a channel.
    pub(crate) fn forget(&mut self, channel: &ChannelName) {
        if let Some(window) = self.windows.remove(channel) {
            self.bytes -= window.bytes;
            self.by_use.remove(&(window.used, channel.clone()));
        }
    }

    /// The messages after an offset, oldest first, at most `limit`, of a channel that is live at `top`. `None` if only
    /// Redis can tell.
    pub(crate) fn after(
        &mut self,
        channel: &ChannelName,
        offset: u64,
        limit: u32,
        top: u64,
        now: Instant,
    ) -> Option<Vec<Delivery>> {
        let window = self.windows.get_mut(channel)?;
        let before = window.bytes;
        window.expire(now);
        self.bytes = self.bytes - before + window.bytes;
        if offset > top || (offset < window.after && !window.is_whole) {
            return None;
        }
        let known = offset.saturating_sub(window.after);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let wanted = window.entries.iter().skip(known).take(limit);
        let fades_from = window.keeps.ttl.saturating_sub(window.margin());
        if wanted.clone().any(|entry| entry.age(now) >= fades_from) {
            return None;
        }
        let answer = wanted.map(|entry| entry.delivery.clone()).collect();
        self.uses += 1;
        self.by_use.remove(&(window.used, channel.clone()));
        window.used = self.uses;
        self.by_use.insert((window.used, channel.clone()));
        Some(answer)
    }

    /// The bytes of everything held.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn make_room(&mut self) {
        while self.bytes > self.bounds.bytes_max {
            let Some((_, channel)) = self.by_use.first().cloned() else {
                return;
            };
            self.forget(&channel);
        }
    }
}

impl Window {
    fn trim(&mut self, bytes_max: usize) {
        let size = usize::try_from(self.keeps.size).unwrap_or(usize::MAX);
        while self.entries.len() > size {
            self.drop_oldest();
        }
        while self.bytes > bytes_max {
            self.drop_oldest();
            self.is_whole = false;
        }
    }

    /// Drops what is certainly too old to be read.
    fn expire(&mut self, now: Instant) {
        let gone_from = self.keeps.ttl + self.margin();
        while self
            .entries
            .front()
            .is_some_and(|oldest| oldest.age(now) >= gone_from)
        {
            self.drop_oldest();
        }
    }

    /// How wrong the age of a message may be on this node.
    fn margin(&self) -> Duration {
        (self.keeps.ttl / 10).min(MARGIN_MAX)
    }

    fn drop_oldest(&mut self) {
        if let Some(Remembered { delivery, .. }) = self.entries.pop_front() {
            self.bytes -= cost(&delivery);
            self.after = offset_of(&delivery);
        }
    }
}

fn offset_of(delivery: &Delivery) -> u64 {
    delivery.position.map_or(0, |position| position.offset)
}

/// Whether the newest message is among what was read.
fn reaches_top(history: &History) -> bool {
    let ends_at = history.entries.last().map_or(history.top.offset, offset_of);
    ends_at == history.top.offset
}

fn cost(delivery: &Delivery) -> usize {
    delivery.cost_bytes() + size_of::<Delivery>()
}

/// 1 s: the store's clock starts when a message is published, this node's when it arrives.
const MARGIN_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
