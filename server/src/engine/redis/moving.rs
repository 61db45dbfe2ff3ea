//! The slots of a cluster that are on their way between two masters. Pure: takes `now`.
//!
//! While only some of a channel's keys have arrived, Redis refuses every call on the channel, and leases end whose nodes are alive
//! and in contact with all masters. So nobody is taken for gone in such a slot, and in one that was on its way until a while
//! ago: every node that is alive speaks again first. Both masters of a move tell of it (Redis cluster specification, *cluster live
//! reconfiguration*), and with every pulse they are asked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::terms::Terms;

/// The slots that are on their way, or were lately.
#[derive(Debug)]
pub(super) struct Moving {
    slots: Mutex<HashMap<u16, Seen>>,
    terms: Terms,
}

/// When a slot was on its way.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    last: Instant,
}

impl Moving {
    /// None yet.
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            slots: Mutex::default(),
            terms,
        }
    }

    /// A master has told that these are on their way.
    pub(super) fn note(&self, moving: &[u16], now: Instant) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, seen| now.duration_since(seen.last) < self.settling());
        for slot in moving {
            let new = Seen {
                first: now,
                last: now,
            };
            slots.entry(*slot).or_insert(new).last = now;
        }
    }

    /// Whether every node that is alive has had the time to speak in a slot since it was last on its way.
    pub(super) fn is_settled(&self, slot: u16, now: Instant) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(&slot).is_none_or(|seen| {
            // No lease ends in a move that is over before the next look.
            let is_brief = seen.last.duration_since(seen.first) < self.terms.pulse_interval / 2;
            is_brief || now.duration_since(seen.last) >= self.settling()
        })
    }

    /// A move may have gone on unseen for as long as contact outlasts a silence.
    fn settling(&self) -> Duration {
        self.terms.silence_max + self.terms.time_to_speak
    }
}

/// The slots that a server's answer to `CLUSTER NODES` says are on their way from it or to it: `[7->-id]`, `[7-<-id]`.
pub(super) fn parse(nodes: &str) -> Vec<u16> {
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
        // Looks every second, 5 s of silence at most, 6 s to speak.
        let options: RedisOptions = "redis://localhost".parse().unwrap();
        let moving = Moving::new(Terms::new(&options));
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert!(moving.is_settled(7, start));
        moving.note(&[7, 8], at(0.0));
        moving.note(&[7], at(0.1));
        assert!(moving.is_settled(7, at(0.2)), "told by both of its masters");
        moving.note(&[7], at(1.0));
        moving.note(&[], at(2.0));
        assert!(!moving.is_settled(7, at(1.0)));
        assert!(!moving.is_settled(7, at(11.9)));
        assert!(moving.is_settled(7, at(12.0)));
        assert!(moving.is_settled(8, at(2.0)), "it was over at once");
        moving.note(&[], at(12.0));
        moving.note(&[7], at(13.0));
        assert!(moving.is_settled(7, at(13.0)), "another move");
    }
}
