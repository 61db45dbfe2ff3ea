//! The slots of a cluster that are migrating between two masters, and what can be said there all the same. Pure: takes `now`.
//!
//! While only some of a channel's keys have arrived, Redis refuses every call on the channel, and leases end whose nodes are alive
//! and in contact with all masters. So contact with the masters says too little in such a slot, and in one that was migrating
//! until a while ago: there, contact with the channel itself must have lasted for as long as every node that is alive needs to
//! speak. Both masters of a move tell of it (Redis cluster specification, *cluster live reconfiguration*), and with every pulse
//! they are asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::time::Instant;

use super::timings::LeaseTimings;

/// The slots that are migrating, or were lately.
#[derive(Debug)]
pub(crate) struct MigratingSlots {
    slots: Mutex<HashMap<u16, Seen>>,
    timings: LeaseTimings,
}

/// A slot that was migrating.
#[derive(Debug)]
struct Seen {
    last: Instant,
    /// Contact with its channels since it was first seen.
    channels: HashMap<ChannelName, Lasting>,
}

/// Calls were executed with no long pause between them.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    since: Instant,
    last: Instant,
}

impl MigratingSlots {
    /// None yet.
    pub(crate) fn new(timings: LeaseTimings) -> Self {
        Self {
            slots: Mutex::default(),
            timings,
        }
    }

    /// A master has told that these are migrating.
    pub(crate) fn note(&self, migrating: &[u16], now: Instant) {
        let mut slots = self.lock();
        slots.retain(|_, seen| now.duration_since(seen.last) < self.settling());
        for seen in slots.values_mut() {
            let channels = &mut seen.channels;
            channels.retain(|_, lasting| self.has_lasted(*lasting, now));
        }
        for slot in migrating {
            let new = || Seen {
                last: now,
                channels: HashMap::new(),
            };
            slots.entry(*slot).or_insert_with(new).last = now;
        }
    }

    /// A call about who is present in a channel was executed.
    pub(crate) fn note_executed(&self, slot: u16, channel: &ChannelName, now: Instant) {
        let mut slots = self.lock();
        let Some(seen) = slots.get_mut(&slot) else {
            return;
        };
        let before = seen.channels.get(channel).copied();
        let before = before.filter(|lasting| self.has_lasted(*lasting, now));
        let since = before.map_or(now, |lasting| lasting.since);
        let lasting = Lasting { since, last: now };
        seen.channels.insert(channel.clone(), lasting);
    }

    /// How old what is known of a channel is, where that allows to judge who is there: nothing where contact with its master says
    /// enough. `None`: nobody is judged there.
    pub(crate) fn age(&self, slot: u16, channel: &ChannelName, now: Instant) -> Option<Duration> {
        let slots = self.lock();
        let Some(seen) = slots.get(&slot) else {
            return Some(Duration::ZERO);
        };
        if now.duration_since(seen.last) >= self.settling() {
            return Some(Duration::ZERO);
        }
        let lasting = *seen.channels.get(channel)?;
        let has_spoken = now.duration_since(lasting.since) >= self.time_to_speak();
        let is_judging = has_spoken && self.has_lasted(lasting, now);
        is_judging.then(|| now.duration_since(lasting.last))
    }

    fn has_lasted(&self, lasting: Lasting, now: Instant) -> bool {
        now.duration_since(lasting.last) <= self.timings.silence_max
    }

    /// Everybody who is alive has spoken by then, and who was lost has had their grace.
    fn time_to_speak(&self) -> Duration {
        self.timings.time_to_speak.max(self.timings.grace)
    }

    /// A move may have gone on unseen for as long as contact outlasts a silence, and a look was under way.
    fn settling(&self) -> Duration {
        self.timings.silence_max + self.timings.pulse_interval + self.time_to_speak()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Seen>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slots that a server's answer to `CLUSTER NODES` says are migrating from it or to it: `[7->-id]`, `[7-<-id]`.
pub(crate) fn parse(nodes: &str) -> Vec<u16> {
    let own = nodes
        .lines()
        .find(|line| line.split(' ').nth(2).is_some_and(is_own));
    let parts = own.into_iter().flat_map(|line| line.split(' ').skip(8));
    parts
        .filter_map(|part| part.strip_prefix('[')?.split('-').next()?.parse().ok())
        .collect()
}

fn is_own(flags: &str) -> bool {
    flags.split(',').any(|flag| flag == "myself")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::redis::RedisOptions;

    /// Pulses every second, 5 s of silence at most, 6 s to speak.
    fn migrating() -> MigratingSlots {
        let options: RedisOptions = "redis://localhost".parse().unwrap();
        MigratingSlots::new(LeaseTimings::new(&options))
    }

    fn room(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[test]
    fn slots_on_their_way_are_read_of_the_server_itself() {
        let nodes = "\
            a1 10.0.0.1:7000@17000,host master - 0 1426238316232 2 connected 5461-10922 [9->-b2]\n\
            b2 10.0.0.2:7000@17000 myself,master - 0 0 3 connected 0-5460 12000 [93-<-a1] [16383->-c3]\n\
            c3 10.0.0.3:7000@17000 slave a1 0 1426238317741 3 connected\n";
        assert_eq!(parse(nodes), [93, 16_383]);
        assert_eq!(parse(""), [0_u16; 0]);
        assert_eq!(parse("b2 :0@0 myself,master - 0 0 0 connected"), [0_u16; 0]);
    }

    #[test]
    fn a_slot_settles_when_everybody_has_had_the_time_to_speak() {
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
    fn where_calls_are_executed_a_slot_may_be_on_its_way_for_ever() {
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
            let is_judging = (now, expected) == (60, 5);
            assert_eq!(age, is_judging.then_some(expected), "at {now}");
        }
        let elsewhere = ChannelName::new("presence-b").unwrap();
        assert_eq!(migrating.age(7, &elsewhere, at(60)), None);
        // A pause: what came before it counts no more.
        migrating.note_executed(7, &room, at(61));
        assert_eq!(migrating.age(7, &room, at(66)), None);
    }
}
