//! How long memberships last without a word, and how long who was away holds back with judging others.

use std::time::Duration;

use crate::engine::redis::connection::options::RedisOptions;

/// How long memberships last without a word, and what a snapshot shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimings {
    /// How long a lost connection still counts as present.
    pub(crate) grace: Duration,
    /// How long a connection counts as present that its node says nothing about.
    pub(crate) lease: Duration,
    /// How often a node says that its connections are still here.
    pub(crate) refresh_interval: Duration,
    /// How often a node makes sure of its contact with every master, and how soon it repeats a round that failed.
    pub(crate) pulse_interval: Duration,
    /// Contact has lasted when no two words of a master were further apart. An outage in which the members of a node that is
    /// alive expire takes at least twice as long.
    pub(crate) silence_max: Duration,
    /// Within that every node that is alive has said so to a master that is back.
    pub(crate) time_to_speak: Duration,
    /// The most members that a snapshot lists.
    pub(crate) members_max: usize,
}

impl LeaseTimings {
    /// What the options say. A lease is never so short that a lost connection's grace would not fit into it.
    pub(crate) fn new(options: &RedisOptions) -> Self {
        let grace = options.presence_grace;
        let lease = options.presence_lease.max(grace.saturating_mul(2));
        let refresh_interval = lease / 3;
        let pulse_interval = (refresh_interval / 4).min(PULSE_INTERVAL_MAX);
        // A node that noticed the outage repeats its round when the call under way has failed; who noticed nothing comes with
        // the next round.
        let failing = options.connect_deadline + options.command_deadline;
        Self {
            grace,
            lease,
            refresh_interval,
            pulse_interval,
            silence_max: refresh_interval,
            time_to_speak: refresh_interval.max(failing) + pulse_interval,
            members_max: options.members_max,
        }
    }
}

/// 1 s: a lease has room for several.
const PULSE_INTERVAL_MAX: Duration = Duration::from_secs(1);
