//! How long memberships last without a refresh, and how long a node waits before it evicts.

use std::time::Duration;

use crate::engine::redis::connection::options::RedisOptions;

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
