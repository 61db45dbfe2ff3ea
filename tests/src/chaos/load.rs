//! How much the system has to do while it is troubled.

use std::fmt;

use fanfare_protocol::ChannelName;

/// How much the system has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// How many server processes.
    pub nodes: usize,
    /// How many clients in all, spread over the nodes by the balancer.
    pub clients: usize,
    /// How many channels with history.
    pub kept: usize,
    /// How many channels without.
    pub live: usize,
    /// How many presence channels.
    pub presence: usize,
    /// How many channels every client listens to, half of them with history.
    pub channels_per_client: usize,
    /// How many messages per second, all channels together.
    pub publishes_per_second: u32,
}

impl Load {
    /// What two cores carry that have other things to do, too.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            nodes: 3,
            clients: 180,
            kept: 20,
            live: 20,
            presence: 10,
            channels_per_client: 4,
            publishes_per_second: 100,
        }
    }

    /// What fits in between other tests.
    #[must_use]
    pub fn short() -> Self {
        Self {
            clients: 60,
            kept: 8,
            live: 8,
            presence: 4,
            publishes_per_second: 60,
            ..Self::whole()
        }
    }

    /// The channels with history.
    #[must_use]
    pub fn kept_channels(&self) -> Vec<ChannelName> {
        names("h-", self.kept)
    }

    /// The channels without.
    #[must_use]
    pub fn live_channels(&self) -> Vec<ChannelName> {
        names("l-", self.live)
    }

    /// The presence channels.
    #[must_use]
    pub fn presence_channels(&self) -> Vec<ChannelName> {
        names("presence-", self.presence)
    }

    /// What a client listens to: messages and, for every third one, members.
    #[must_use]
    pub fn channels_of(&self, client: usize) -> (Vec<ChannelName>, Option<ChannelName>) {
        let half = self.channels_per_client / 2;
        let (kept, live) = (self.kept_channels(), self.live_channels());
        let mut channels = Vec::new();
        for number in 0..half {
            channels.push(kept[(client + number * 7) % kept.len()].clone());
            channels.push(live[(client + number * 7) % live.len()].clone());
        }
        channels.dedup();
        let presence = self.presence_channels();
        let room = (client.is_multiple_of(3) && !presence.is_empty())
            .then(|| presence[client / 3 % presence.len()].clone());
        (channels, room)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} nodes, {} clients on {} channels each, {} channels with and {} without history, {} presence channels, {} publishes/s",
            self.nodes,
            self.clients,
            self.channels_per_client,
            self.kept,
            self.live,
            self.presence,
            self.publishes_per_second
        )
    }
}

fn names(prefix: &str, count: usize) -> Vec<ChannelName> {
    let names = (0..count).map(|number| format!("{prefix}{number}"));
    names.filter_map(|name| name.parse().ok()).collect()
}
