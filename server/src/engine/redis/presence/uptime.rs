//! How long contact over a connection has lasted, and so whom its owner may take for gone. Pure: the time is that of the server.
//!
//! Who has not heard from Redis for a while cannot tell nodes that are gone from nodes that Redis did not hear either. So members
//! whose time is up are taken out only over a connection that has lasted for as long as every node that is alive needs to speak
//! again. A connection is the measure because nothing outlives it that makes leases look old: neither an outage with the data
//! kept, nor a failover, nor a start from an older copy.
//!
//! What a connection may be used for goes along with every call as bounds by the server's own clock. A call that Redis executes
//! later than it was sent, after an outage for instance, finds them passed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::timings::LeaseTimings;

/// The contact over one connection. It begins with the first word of the server.
#[derive(Debug)]
pub(crate) struct ConnectionUptime {
    lasting: Mutex<Option<Lasting>>,
    timings: LeaseTimings,
}

/// Milliseconds, by the clock of the server.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    since: u64,
    last: u64,
}

/// When members whose time is up may be taken out, in milliseconds by the clock of the server. By default never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EvictionWindow {
    /// From then on those that are known to be lost: they have had their grace in which they could come back.
    pub(crate) lost_from: u64,
    /// From then on those that are silent as well: every node that is alive has spoken.
    pub(crate) silent_from: u64,
    /// And until then. 0: never.
    pub(crate) until: u64,
}

impl ConnectionUptime {
    /// Nothing heard yet.
    pub(crate) fn new(timings: LeaseTimings) -> Self {
        Self {
            lasting: Mutex::new(None),
            timings,
        }
    }

    /// The server has executed something at that time.
    pub(crate) fn heard(&self, now: u64) {
        let silence_max = milliseconds(self.timings.silence_max);
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        match lasting.as_mut() {
            Some(Lasting { since, last }) if (*since..=*last + silence_max).contains(&now) => {
                // Answers may be noted in another order than they came.
                *last = now.max(*last);
            }
            _ => {
                *lasting = Some(Lasting {
                    since: now,
                    last: now,
                });
            }
        }
    }

    /// What may be judged over this connection as far as is known now.
    pub(crate) fn bounds(&self) -> EvictionWindow {
        let lasting = *self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Lasting { since, last }) = lasting else {
            return EvictionWindow::default();
        };
        EvictionWindow {
            lost_from: since + milliseconds(self.timings.grace),
            silent_from: since + milliseconds(self.timings.time_to_speak),
            until: last + milliseconds(self.timings.silence_max),
        }
    }
}

impl EvictionWindow {
    /// The same for what is known no better than it was so long ago.
    pub(crate) fn sooner(self, age: Duration) -> Self {
        let until = self.until.saturating_sub(milliseconds(age));
        Self { until, ..self }
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
    fn uptime() -> ConnectionUptime {
        let options: RedisOptions = "redis://localhost".parse().unwrap();
        ConnectionUptime::new(LeaseTimings::new(&options))
    }

    fn bounds(since: u64, last: u64) -> EvictionWindow {
        EvictionWindow {
            lost_from: since + 5_000,
            silent_from: since + 6_000,
            until: last + 5_000,
        }
    }

    #[test]
    fn who_has_heard_nothing_judges_nobody() {
        assert_eq!(uptime().bounds(), EvictionWindow::default());
    }

    #[test]
    fn contact_lasts_while_words_come_and_begins_anew_after_a_silence() {
        let uptime = uptime();
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
            uptime.heard(heard);
            assert_eq!(uptime.bounds(), bounds(since, last), "heard at {heard}");
        }
    }

    #[test]
    fn no_outage_in_which_the_living_expire_goes_unnoticed() {
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
