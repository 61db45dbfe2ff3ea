//! What a server is put through.

use std::time::Duration;

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// How the command line and the report call it.
    pub name: &'static str,
    /// Connections, each with one subscription.
    pub subscribers: usize,
    /// Channels that the subscribers are spread over.
    pub channels: u64,
    /// What happens to them.
    pub load: Load,
    /// How long the load lasts before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub duration: Duration,
    /// How often in every round. What is short and moves with the mood of the machine needs more than one look.
    pub times: u32,
}

/// What happens to the subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Closed loop: so many messages are under way.
    Window(u64),
    /// Open loop: so many messages per second.
    PerSecond(u32),
    /// Nothing, then a burst: what does a connection cost while it is quiet?
    Idle,
    /// They come, subscribe and go, over and over.
    Churn,
}

impl Scenario {
    /// Everything, rather often than long: what the goals need at 1,000 and 10,000 connections, then churn and many small channels.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let millis = Duration::from_millis;
        vec![
            Self::new("w1-1k", 1_000, Load::Window(1))
                .lasting(millis(1_500))
                .repeated(3),
            Self::new("w16-1k", 1_000, Load::Window(16))
                .lasting(millis(1_500))
                .repeated(3),
            Self::new("rate-1k", 1_000, Load::PerSecond(50)).lasting(millis(3_000)),
            Self::new("w1-10k", 10_000, Load::Window(1)).lasting(millis(2_500)),
            Self::new("w16-10k", 10_000, Load::Window(16)).lasting(millis(2_500)),
            Self::new("rate-10k", 10_000, Load::PerSecond(5)).lasting(millis(5_000)),
            Self::new("idle-10k", 10_000, Load::Idle),
            Self::new("churn", 64, Load::Churn).lasting(millis(1_500)),
            Self::new("channels-10k", 10_000, Load::Window(64))
                .over(10_000)
                .lasting(millis(1_500)),
        ]
    }

    /// A first impression within a minute: 1,000 connections, about a second each.
    #[must_use]
    pub fn quick() -> Vec<Self> {
        let window = Duration::from_millis(1_000);
        vec![
            Self::new("w1-1k", 1_000, Load::Window(1)).lasting(window),
            Self::new("w16-1k", 1_000, Load::Window(16)).lasting(window),
            Self::new("rate-1k", 1_000, Load::PerSecond(50)).lasting(2 * window),
            Self::new("idle-1k", 1_000, Load::Idle),
        ]
    }

    fn new(name: &'static str, subscribers: usize, load: Load) -> Self {
        Self {
            name,
            subscribers,
            channels: 1,
            load,
            warm_up: Duration::from_millis(300),
            duration: Duration::from_secs(1),
            times: 1,
        }
    }

    fn lasting(self, duration: Duration) -> Self {
        Self { duration, ..self }
    }

    fn repeated(self, times: u32) -> Self {
        Self { times, ..self }
    }

    fn over(self, channels: u64) -> Self {
        Self { channels, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_has_the_same_number_of_subscribers() {
        for scenario in Scenario::all().into_iter().chain(Scenario::quick()) {
            assert_eq!(
                scenario.subscribers as u64 % scenario.channels,
                0,
                "{}",
                scenario.name
            );
        }
    }
}
