//! When the next message is due.

use std::time::{Duration, Instant};

/// How messages follow each other.
#[derive(Debug, Clone)]
pub enum Pace {
    /// Closed loop: so many are under way at any time; the next one goes when one has reached all its receivers.
    Window(u64),
    /// Open loop: one per interval, whatever the server does.
    Every {
        /// The interval.
        interval: Duration,
        /// When the next message is due; the first one at once.
        next: Option<Instant>,
    },
}

impl Pace {
    /// An open loop with so many messages per second.
    #[must_use]
    pub fn per_second(messages: u32) -> Self {
        Self::Every {
            interval: Duration::from_secs(1) / messages,
            next: None,
        }
    }

    /// The time a message was due, if one is; it counts as published.
    pub fn next_due(&mut self, now: Instant, under_way: u64) -> Option<Instant> {
        match self {
            Self::Window(window) => (under_way < *window).then_some(now),
            Self::Every { interval, next } => {
                let due = next.unwrap_or(now);
                if due > now {
                    return None;
                }
                *next = Some(due + *interval);
                Some(due)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_filled_and_not_exceeded() {
        let now = Instant::now();
        let mut pace = Pace::Window(2);
        assert_eq!(pace.next_due(now, 1), Some(now));
        assert_eq!(pace.next_due(now, 2), None);
    }

    #[test]
    fn a_late_open_loop_publishes_what_it_owes_with_the_times_it_was_due() {
        let start = Instant::now();
        let interval = Duration::from_millis(20);
        let mut pace = Pace::per_second(50);
        assert_eq!(pace.next_due(start, 0), Some(start));
        assert_eq!(pace.next_due(start, 0), None);
        let late = start + Duration::from_millis(45);
        assert_eq!(pace.next_due(late, 1_000), Some(start + interval));
        assert_eq!(pace.next_due(late, 1_000), Some(start + 2 * interval));
        assert_eq!(pace.next_due(late, 1_000), None);
    }
}
