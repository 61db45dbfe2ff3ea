//! Slots of a cluster that are migrating, or were lately: what a node needs to know before it evicts there. Pure: takes `now`.
//!
//! While only some of a channel's keys have arrived at the importing master, Redis refuses every call on the channel
//! (`TRYAGAIN`), and leases expire whose nodes are alive and reach both masters. So in such a slot, and in one that was migrating
//! until a while ago, the uptime of the connection is not enough: calls on the channel itself must have been executed for as long
//! as every live node needs to refresh. Both masters of a migration list it in `CLUSTER NODES`, and every pulse asks for that.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "slots move in a Redis Cluster".

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::time::Instant;

use super::timings::LeaseTimings;

/// The slots that are migrating, or were lately.
#[derive(Debug)]
pub(crate) struct MigratingSlots {
    slots: Mutex<HashMap<u16, MigratingSlot>>,
    timings: LeaseTimings,
}

#[derive(Debug)]
struct MigratingSlot {
    last_seen: Instant,
    /// Since when calls on its channels have been executed.
    channels: HashMap<ChannelName, Executed>,
}

/// Calls were executed with no long pause between them.
#[derive(Debug, Clone, Copy)]
struct Executed {
    since: Instant,
    last: Instant,
}

impl MigratingSlots {
    /// No slot is migrating yet.
    pub(crate) fn new(timings: LeaseTimings) -> Self {
        Self {
            slots: Mutex::default(),
            timings,
        }
    }

    /// A master has listed these slots as migrating.
    pub(crate) fn note(&self, migrating: &[u16], now: Instant) {
        let mut slots = self.lock();
        slots.retain(|_, slot| now.duration_since(slot.last_seen) < self.settling());
        for slot in slots.values_mut() {
            let channels = &mut slot.channels;
            channels.retain(|_, executed| self.is_recent(*executed, now));
        }
        for slot in migrating {
            let new = || MigratingSlot {
                last_seen: now,
                channels: HashMap::new(),
            };
            slots.entry(*slot).or_insert_with(new).last_seen = now;
        }
    }

    /// A presence call on a channel was executed.
    pub(crate) fn note_executed(&self, slot: u16, channel: &ChannelName, now: Instant) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(&slot) else {
            return;
        };
        let before = slot.channels.get(channel).copied();
        let before = before.filter(|executed| self.is_recent(*executed, now));
        let since = before.map_or(now, |executed| executed.since);
        let executed = Executed { since, last: now };
        slot.channels.insert(channel.clone(), executed);
    }

    /// How long ago the last call on a channel was executed, if that allows an eviction there. Zero where the slot is not
    /// migrating. `None`: nobody may be evicted.
    pub(crate) fn age(&self, slot: u16, channel: &ChannelName, now: Instant) -> Option<Duration> {
        let slots = self.lock();
        let Some(slot) = slots.get(&slot) else {
            return Some(Duration::ZERO);
        };
        if now.duration_since(slot.last_seen) >= self.settling() {
            return Some(Duration::ZERO);
        }
        let executed = *slot.channels.get(channel)?;
        let has_lasted = now.duration_since(executed.since) >= self.time_to_refresh();
        let may_evict = has_lasted && self.is_recent(executed, now);
        may_evict.then(|| now.duration_since(executed.last))
    }

    fn is_recent(&self, executed: Executed, now: Instant) -> bool {
        now.duration_since(executed.last) <= self.timings.silence_max
    }

    /// By then every live node has refreshed, and lost connections have had their grace.
    fn time_to_refresh(&self) -> Duration {
        self.timings.time_to_refresh.max(self.timings.grace)
    }

    /// A migration may have gone on unseen for as long as an uptime outlasts a silence, while a pulse was under way.
    fn settling(&self) -> Duration {
        self.timings.silence_max + self.timings.pulse_interval + self.time_to_refresh()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, MigratingSlot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::redis::RedisOptions;

    /// Pulses every second, 5 s of silence at most, 6 s to refresh.
    fn migrating() -> MigratingSlots {
        let options: RedisOptions = "redis://localhost".parse().unwrap();
        MigratingSlots::new(LeaseTimings::new(&options))
    }

    fn room(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[test]
    fn a_slot_settles_when_every_node_has_had_the_time_to_refresh() {
        let (migrating, room) = (migrating(), room("presence-a"));
        let start = Instant::now();
        let age = |seconds| migrating.age(7, &room, start + Duration::from_secs(seconds));
        assert_eq!(age(0), Some(Duration::ZERO));
        migrating.note(&[7], start);
        migrating.note(&[7], start + Duration::from_secs(1));
        migrating.note(&[], start + Duration::from_secs(2));
        assert_eq!(age(2), None);
        assert_eq!(age(12), None);
        assert_eq!(age(13), Some(Duration::ZERO));
    }

    #[test]
    fn where_calls_are_executed_a_slot_may_migrate_for_ever() {
        let (migrating, room) = (migrating(), room("presence-a"));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..60 {
            migrating.note(&[7], at(second));
            if second % 5 == 0 {
                migrating.note_executed(7, &room, at(second));
            }
        }
        // (now, how old is what is known)
        for (now, expected) in [(5, 0), (60, 5), (61, 6)] {
            let age = migrating.age(7, &room, at(now)).map(|age| age.as_secs());
            let may_evict = (now, expected) == (60, 5);
            assert_eq!(age, may_evict.then_some(expected), "at {now}");
        }
        let elsewhere = ChannelName::new("presence-b").unwrap();
        assert_eq!(migrating.age(7, &elsewhere, at(60)), None);
        // A pause: what came before it counts no more.
        migrating.note_executed(7, &room, at(61));
        assert_eq!(migrating.age(7, &room, at(66)), None);
    }
}
