//! Limits: what a peer may ask of the server, each with its default.

use std::time::Duration;

use crate::budget::Rate;
use crate::rules::ChannelRule;

/// What a connection may ask, and how long it may take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// The largest payload that the application publishes: 1 MiB.
    pub payload_bytes_max: usize,
    /// The largest payload that a client publishes: 32 KiB, and never more than `payload_bytes_max`. A client's whole message may
    /// have 16 KiB more.
    pub client_payload_bytes_max: usize,
    /// How many bytes of payload a connection may publish per second on average: 64 KiB. All connections of a user, or, without
    /// one, of an address that [`AcceptLimits`](crate::AcceptLimits) counts, publish four times as much. [`ChannelRule`](crate::ChannelRule) has
    /// the limit of all clients on one channel.
    pub client_bytes_per_second: u32,
    /// How many bytes of payload a connection may publish at once: 256 KiB. Never less than one payload.
    pub client_bytes_burst: u32,
    /// The most frames one message may come in: 1,024.
    pub fragments_max: u32,
    /// How long a message may take from its first byte to its last: 10 s.
    pub message_deadline: Duration,
    /// How many pings, pongs and fragments per second a connection may send on average: 100. One that goes on above that and
    /// above `frames_burst` is closed.
    pub frames_per_second: u32,
    /// How many pings, pongs and fragments may come at once: 2,048, two messages in the most fragments.
    pub frames_burst: u32,
    /// The largest message while a connection has not shown credentials and must: 16 KiB, room for a token.
    pub login_bytes_max: usize,
    /// The most channels a connection may have: 100. The personal channel does not count.
    pub channels_max: usize,
    /// How many commands per second a connection may send on average: 50.
    pub commands_per_second: u32,
    /// How many commands may come at once: 200.
    pub commands_burst: u32,
    /// How many bytes of an answer count as one more command: 16 KiB. The answers are those to `history`, `presence` and
    /// `subscribe`; a connection pays for them when they go out.
    pub answer_bytes_per_command: usize,
    /// How many bytes per second all connections of a user, or, without a user, of an address that
    /// [`AcceptLimits`](crate::AcceptLimits) counts, are answered on average: 4 MiB on each server.
    pub peer_answer_bytes_per_second: u32,
    /// How many bytes they are answered at once: 64 MiB.
    pub peer_answer_bytes_burst: u32,
    /// How many presence channels per second a user may join on average, over all connections: 20 on each server.
    pub user_joins_per_second: u32,
    /// How many they may join at once: 1,000.
    pub user_joins_burst: u32,
    /// How many reads of histories and members may be under way for all connections of the server: 64. A connection has one.
    pub large_reads_max: usize,
    /// How many subscriptions of all connections may be on their way into the engine: 4,096. The others wait, for half of
    /// `engine_deadline` at most. A connection has 16.
    pub subscribing_max: usize,
    /// How many bytes may wait for a connection that does not read: 1 MiB.
    pub outbox_bytes_max: usize,
    /// After so long without a word from the client it gets a WebSocket ping: 30 s.
    pub ping_interval: Duration,
    /// After so long without a word from the client it is closed as stale: 60 s.
    pub stale_after: Duration,
    /// How long a connection may stay without credentials where anonymous ones are not allowed: 10 s.
    pub authentication_deadline: Duration,
    /// How long a connection may take nothing of what waits for it before it is closed as too slow: 30 s.
    pub write_deadline: Duration,
    /// How long a close may take once it is decided: 5 s.
    pub close_deadline: Duration,
    /// How many calls to the authorizer may be under way: 256 to judge credentials, and 256 to judge commands. What waits longer
    /// than 2 s for its turn is told to try again.
    pub authorizer_calls_max: usize,
    /// How many of them may be one user's, or, without a user, come from one address that
    /// [`AcceptLimits`](crate::AcceptLimits) counts: 32.
    pub authorizer_calls_per_peer_max: usize,
    /// How many of them are a connection's own share: 4. What it asks beyond that takes one of half as many further calls that all
    /// connections have in common.
    pub authorizer_calls_per_connection_max: usize,
    /// How long a call to the engine may take: 5 s.
    pub engine_deadline: Duration,
    /// How many events a recovery may bring: 300.
    pub recovery_events_max: u32,
    /// How many bytes of payload a recovery may bring: 1 MiB.
    pub recovery_bytes_max: usize,
    /// How long a server that is told to stop goes on as before, except that it is no longer ready: a load balancer in front of
    /// it needs that time to notice. `None` is 5 s where `/health/ready` has ever been asked, and no time where it never was:
    /// no load balancer looks.
    pub drain_delay: Option<Duration>,
    /// How many connections per second are closed then, one after the other: 5,000. Every client comes back at once, so this is
    /// the rate at which the other servers get them. A connection that has not had its turn is served as before.
    pub drain_per_second: u32,
    /// The longest that closing them may take, however many there are: 25 s.
    pub drain_spread: Duration,
    /// How long a shutdown may take after the last connection was told to go, before what is left is cut: 4 s.
    pub shutdown_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes_max: 1 << 20,
            client_payload_bytes_max: 32 << 10,
            client_bytes_per_second: 64 << 10,
            client_bytes_burst: 256 << 10,
            fragments_max: 1_024,
            message_deadline: Duration::from_secs(10),
            frames_per_second: 100,
            frames_burst: 2_048,
            login_bytes_max: ENVELOPE_BYTES,
            channels_max: 100,
            commands_per_second: 50,
            commands_burst: 200,
            answer_bytes_per_command: 16 << 10,
            peer_answer_bytes_per_second: 4 << 20,
            peer_answer_bytes_burst: 64 << 20,
            user_joins_per_second: 20,
            user_joins_burst: 1_000,
            large_reads_max: 64,
            subscribing_max: 4_096,
            outbox_bytes_max: 1 << 20,
            ping_interval: Duration::from_secs(30),
            stale_after: Duration::from_secs(60),
            authentication_deadline: Duration::from_secs(10),
            write_deadline: Duration::from_secs(30),
            close_deadline: Duration::from_secs(5),
            authorizer_calls_max: 256,
            authorizer_calls_per_peer_max: 32,
            authorizer_calls_per_connection_max: 4,
            engine_deadline: Duration::from_secs(5),
            recovery_events_max: 300,
            recovery_bytes_max: 1 << 20,
            drain_delay: None,
            drain_per_second: 5_000,
            drain_spread: Duration::from_secs(25),
            shutdown_deadline: Duration::from_secs(4),
        }
    }
}

impl Limits {
    /// The largest message a client may send: the payload and room for its envelope.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.client_payload_bytes_max() + ENVELOPE_BYTES
    }

    /// The largest payload that a client publishes; the limit for the application is one for its clients as well.
    pub(crate) fn client_payload_bytes_max(&self) -> usize {
        self.client_payload_bytes_max.min(self.payload_bytes_max)
    }

    /// What a connection may publish, in bytes.
    pub(crate) fn client_bytes_rate(&self) -> Rate {
        self.fitting_a_payload(self.client_bytes_per_second, self.client_bytes_burst)
    }

    /// What all connections of a user, or of an address, may publish, in bytes: four times what one may.
    pub(crate) fn peer_bytes_rate(&self) -> Rate {
        let one = self.client_bytes_rate();
        Rate {
            per_second: one.per_second.saturating_mul(4),
            burst: one.burst.saturating_mul(4),
        }
    }

    /// What all clients together may publish on one channel, in bytes: at once as much as in a second.
    pub(crate) fn channel_bytes_rate(&self, rule: &ChannelRule) -> Rate {
        let per_second = rule.client_bytes_per_second;
        self.fitting_a_payload(per_second, per_second)
    }

    /// How many frames that are no messages a connection may send.
    pub(crate) fn frames_rate(&self) -> Rate {
        Rate {
            per_second: self.frames_per_second,
            burst: self.frames_burst,
        }
    }

    /// How many commands a connection may send.
    pub(crate) fn commands_rate(&self) -> Rate {
        Rate {
            per_second: self.commands_per_second,
            burst: self.commands_burst,
        }
    }

    /// What all connections of a user or an address are answered, in bytes.
    pub(crate) fn peer_answer_rate(&self) -> Rate {
        Rate {
            per_second: self.peer_answer_bytes_per_second,
            burst: self.peer_answer_bytes_burst,
        }
    }

    /// How many presence channels a user may join.
    pub(crate) fn user_joins_rate(&self) -> Rate {
        Rate {
            per_second: self.user_joins_per_second,
            burst: self.user_joins_burst,
        }
    }

    /// A payload that is small enough must be possible, however low the rate is.
    fn fitting_a_payload(&self, per_second: u32, burst: u32) -> Rate {
        let payload = u32::try_from(self.client_payload_bytes_max()).unwrap_or(u32::MAX);
        Rate {
            per_second,
            burst: burst.max(payload),
        }
    }

    /// How long a server goes on after it was told to stop; `is_watched` says whether a load balancer asks for its readiness.
    pub(crate) fn drain_delay(&self, is_watched: bool) -> Duration {
        let usual = if is_watched {
            DRAIN_DELAY
        } else {
            Duration::ZERO
        };
        self.drain_delay.unwrap_or(usual)
    }

    /// Over how long so many connections are closed, one after the other.
    pub(crate) fn drain_spread(&self, connections: usize) -> Duration {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let spread = Duration::from_secs(1) * connections / self.drain_per_second.max(1);
        spread.min(self.drain_spread)
    }
}

/// 5 s: two checks of a load balancer that looks every two seconds.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// 16 KiB: names, a channel token and a bearer token of unusual size fit.
const ENVELOPE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_closed_at_a_rate_and_within_a_bound() {
        let limits = Limits::default();
        let rows = [
            (0, 0),
            (1, 0),
            (500, 100),
            (10_000, 2_000),
            (90_000, 18_000),
            (125_000, 25_000),
            (1_000_000, 25_000),
            (usize::MAX, 25_000),
        ];
        for (connections, spread_ms) in rows {
            let spread = limits.drain_spread(connections);
            assert_eq!(spread.as_millis(), spread_ms, "{connections}");
        }
        let no_rate = Limits {
            drain_per_second: 0,
            ..limits
        };
        assert_eq!(no_rate.drain_spread(9).as_secs(), 9, "the slowest there is");
    }

    #[test]
    fn a_stop_of_a_usual_server_takes_less_than_orchestrators_wait() {
        let limits = Limits::default();
        // The two graces of a connection that is cut: server/src/shutdown.rs.
        let cutting = Duration::from_secs(2);
        let draining = limits.drain_delay(true) + limits.drain_spread(90_000);
        assert!(draining + limits.shutdown_deadline + cutting < Duration::from_secs(30));
    }

    #[test]
    fn a_delay_without_a_load_balancer_is_none_unless_it_is_asked_for() {
        let mut limits = Limits::default();
        assert_eq!(limits.drain_delay(true), DRAIN_DELAY);
        assert_eq!(limits.drain_delay(false), Duration::ZERO);
        limits.drain_delay = Some(Duration::from_secs(1));
        assert_eq!(limits.drain_delay(false).as_secs(), 1);
    }
}
