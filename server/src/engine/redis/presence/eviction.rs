//! When a node may evict expired members.
//!
//! A node that did not hear Redis for a while cannot tell nodes that are gone from nodes that Redis did not hear either. So expired
//! members are evicted only over a connection that has been up for as long as every live node needs to refresh its leases. The
//! uptime of a connection is the measure because no event that makes leases look old leaves a connection up: neither an outage
//! with the data kept, nor a failover, nor a start from an older copy.
//!
//! Every call that evicts carries an [`EvictionWindow`] by the clock of the server. Redis evicts nobody for a call that it executes
//! after the window has closed, for instance one that waited for the end of an outage.
//!
//! Promise: docs/guarantees.md, *Presence*, "Nobody is removed for the silence of a server by somebody who may have missed its
//! words".

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::time::Instant;

use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::connections::{Connection, Server};
use crate::engine::redis::connection::options::RedisOptions;

/// What this node knows about its contact with Redis, and so which expired members it may evict.
pub(crate) struct EvictionSafety {
    /// The uptime of the newest connection to each server, by the connection's number.
    uptimes: Mutex<HashMap<Server, (u64, ConnectionUptime)>>,
    migrating: MigratingSlots,
    timings: LeaseTimings,
}

/// When expired members may be evicted, in milliseconds by the clock of the server. By default never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EvictionWindow {
    /// From then on members whose connection is known to be lost: their grace has passed since this node listens.
    pub(crate) lost_from: u64,
    /// From then on members whose node is silent, too: every live node has refreshed its leases.
    pub(crate) silent_from: u64,
    /// Until then. 0: never.
    pub(crate) until: u64,
}

impl EvictionSafety {
    /// Nothing may be evicted yet.
    pub(crate) fn new(timings: LeaseTimings) -> Self {
        Self {
            uptimes: Mutex::default(),
            migrating: MigratingSlots::new(timings),
            timings,
        }
    }

    /// Notes that the server executed a write over a connection at a time by its own clock.
    pub(crate) fn note_heard(&self, connection: &Connection, now: u64) {
        let mut uptimes = self.lock();
        let new = || (connection.number, ConnectionUptime::default());
        let (number, uptime) = uptimes.entry(connection.server.clone()).or_insert_with(new);
        if *number < connection.number {
            (*number, *uptime) = new();
        }
        if *number == connection.number {
            uptime.heard(now, &self.timings);
        }
    }

    /// Drops what is known of all servers but these.
    pub(crate) fn retain(&self, servers: &[Server]) {
        self.lock().retain(|server, _| servers.contains(server));
    }

    /// Notes which slots a master says are migrating.
    pub(crate) fn note_migrating(&self, slots: &[u16]) {
        self.migrating.note(slots, Instant::now());
    }

    /// Notes that a presence call on a channel was executed.
    pub(crate) fn note_executed(&self, channel: &ChannelName) {
        let slot = slot(channel.as_str());
        self.migrating.note_executed(slot, channel, Instant::now());
    }

    /// When a call on a channel over a connection may evict.
    pub(crate) fn window(&self, connection: &Connection, channel: &ChannelName) -> EvictionWindow {
        let slot = slot(channel.as_str());
        let Some(age) = self.migrating.age(slot, channel, Instant::now()) else {
            return EvictionWindow::default();
        };
        match self.lock().get(&connection.server) {
            Some((number, uptime)) if *number == connection.number => {
                uptime.window(&self.timings).closing_sooner(age)
            }
            _ => EvictionWindow::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, (u64, ConnectionUptime)>> {
        self.uptimes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EvictionWindow {
    /// The window as the scripts take it.
    pub(crate) fn as_args(self) -> [u64; 3] {
        [self.lost_from, self.silent_from, self.until]
    }

    /// The same window, closing earlier by the age of what it is based on.
    fn closing_sooner(self, age: Duration) -> Self {
        let until = self.until.saturating_sub(milliseconds(age));
        Self { until, ..self }
    }
}

/// Since when the server has answered over one connection without a long pause. Pure: all times are those of the server.
#[derive(Debug, Default)]
struct ConnectionUptime(Option<Heard>);

/// Milliseconds, by the clock of the server.
#[derive(Debug, Clone, Copy)]
struct Heard {
    since: u64,
    last: u64,
}

impl ConnectionUptime {
    /// The server executed a write at that time. After a pause that is too long, the uptime starts again.
    fn heard(&mut self, now: u64, timings: &LeaseTimings) {
        let silence_max = milliseconds(timings.silence_max);
        match &mut self.0 {
            Some(Heard { since, last }) if (*since..=*last + silence_max).contains(&now) => {
                // Replies may be noted in another order than they came.
                *last = now.max(*last);
            }
            heard => {
                *heard = Some(Heard {
                    since: now,
                    last: now,
                });
            }
        }
    }

    fn window(&self, timings: &LeaseTimings) -> EvictionWindow {
        let Some(Heard { since, last }) = self.0 else {
            return EvictionWindow::default();
        };
        EvictionWindow {
            lost_from: since + milliseconds(timings.grace),
            silent_from: since + milliseconds(timings.time_to_refresh),
            until: last + milliseconds(timings.silence_max),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

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

/// How long memberships last without a refresh, and what a snapshot shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimings {
    /// How long a lost connection still counts as present.
    pub(crate) grace: Duration,
    /// How long a connection counts as present that its node does not refresh.
    pub(crate) lease: Duration,
    /// How often a node refreshes its connections.
    pub(crate) refresh_interval: Duration,
    /// How often a node checks that it reaches every master, and how soon it repeats a refresh that failed.
    pub(crate) pulse_interval: Duration,
    /// A connection counts as up while no two replies of the master are further apart. An outage in which the members of a live
    /// node expire takes at least twice as long.
    pub(crate) silence_max: Duration,
    /// Every live node has refreshed its leases at a master so long after that came back.
    pub(crate) time_to_refresh: Duration,
    /// The most members that a snapshot lists.
    pub(crate) members_max: usize,
}

impl LeaseTimings {
    /// The timings that the options ask for. A lease is at least twice the grace.
    pub(crate) fn new(options: &RedisOptions) -> Self {
        let grace = options.presence_grace;
        let lease = options.presence_lease.max(grace.saturating_mul(2));
        let refresh_interval = lease / 3;
        let pulse_interval = (refresh_interval / 4).min(PULSE_INTERVAL_MAX);
        // A node that noticed the outage repeats its refresh when the call under way has failed; one that did not comes with its
        // next refresh.
        let failing = options.connect_deadline + options.command_deadline;
        Self {
            grace,
            lease,
            refresh_interval,
            pulse_interval,
            silence_max: refresh_interval,
            time_to_refresh: refresh_interval.max(failing) + pulse_interval,
            members_max: options.members_max,
        }
    }
}

/// 1 s: a lease has room for several.
const PULSE_INTERVAL_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::redis::RedisOptions;

    /// A lease of 15 s.
    fn timings() -> LeaseTimings {
        let options: RedisOptions = "redis://localhost".parse().unwrap();
        LeaseTimings::new(&options)
    }

    fn window(since: u64, last: u64) -> EvictionWindow {
        EvictionWindow {
            lost_from: since + 5_000,
            silent_from: since + 6_000,
            until: last + 5_000,
        }
    }

    #[test]
    fn a_node_that_heard_nothing_evicts_nobody() {
        let uptime = ConnectionUptime::default();
        assert_eq!(uptime.window(&timings()), EvictionWindow::default());
    }

    #[test]
    fn uptime_lasts_while_replies_come_and_starts_again_after_a_silence() {
        let (mut uptime, timings) = (ConnectionUptime::default(), timings());
        // (heard at, since, last)
        let rows = [
            (100_000, 100_000, 100_000),
            (101_000, 100_000, 101_000),
            (106_000, 100_000, 106_000),
            // Noted late.
            (105_000, 100_000, 106_000),
            (111_001, 111_001, 111_001),
            (112_000, 111_001, 112_000),
            // The server's clock was set back.
            (50_000, 50_000, 50_000),
        ];
        for (heard, since, last) in rows {
            uptime.heard(heard, &timings);
            assert_eq!(uptime.window(&timings), window(since, last), "{heard}");
        }
    }

    #[test]
    fn no_outage_in_which_live_leases_expire_goes_unnoticed() {
        for lease in [1, 6, 15, 60].map(Duration::from_secs) {
            let options: RedisOptions = "redis://localhost".parse().unwrap();
            let grace = Duration::from_millis(200);
            let options = options.with_presence_grace(grace);
            let timings = LeaseTimings::new(&options.with_presence_lease(lease));
            assert!(timings.silence_max + timings.refresh_interval < timings.lease);
            assert!(timings.pulse_interval * 3 < timings.silence_max);
        }
    }

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
