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

use super::migrating::MigratingSlots;
use super::timings::LeaseTimings;
use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::connections::{Connection, Server};

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
}
