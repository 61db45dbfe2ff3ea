//! Channel rules: the first matching prefix decides what a channel keeps and who may publish.

use std::time::Duration;

use fanfare_protocol::{ChannelKind, ChannelName};

use crate::delivery::Retention;

/// What holds for the channels of one prefix.
///
/// The default is live only: no history, no client events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelRule {
    /// How many messages are kept; 0 (default) keeps none. At most 1,000.
    pub history_size: u32,
    /// For how long; 5 minutes by default.
    pub history_ttl: Duration,
    /// Whether members are known to each other. On by default exactly for `presence-` channels.
    pub presence: Option<bool>,
    /// Whether subscribed clients may publish events; off by default.
    pub client_publish: bool,
    /// Whether the members of a presence channel may change the info that the others see of them; off by default, because that
    /// replaces what the application has given or signed: a member could show another name.
    pub presence_update: bool,
    /// How many bytes of payload per second all clients of one server together may publish on a channel: 256 KiB, and as much at
    /// once. Each server counts for itself; what the application publishes does not count.
    pub client_bytes_per_second: u32,
    /// The most messages a subscription may `rewind`; 0 (default) allows none.
    pub rewind_max: u32,
    /// What a client gets that does not read fast enough.
    pub slow_reader: SlowReader,
}

/// What a client gets that does not read fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SlowReader {
    /// The connection is closed with 4100; it reconnects and recovers. The default.
    #[default]
    Close,
    /// This channel's messages are left out for it until it has caught up; then it gets one `gap`.
    Drop,
}

impl Default for ChannelRule {
    fn default() -> Self {
        Self {
            history_size: 0,
            history_ttl: Duration::from_secs(300),
            presence: None,
            client_publish: false,
            presence_update: false,
            client_bytes_per_second: 256 << 10,
            rewind_max: 0,
            slow_reader: SlowReader::Close,
        }
    }
}

impl ChannelRule {
    /// Keeps the last `size` messages for `ttl`.
    #[must_use]
    pub fn with_history(mut self, size: u32, ttl: Duration) -> Self {
        self.history_size = size.min(HISTORY_SIZE_MAX);
        self.history_ttl = ttl;
        self
    }

    /// Switches presence on or off, whatever the prefix says.
    #[must_use]
    pub fn with_presence(mut self, presence: bool) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Lets subscribed clients publish events.
    #[must_use]
    pub fn with_client_publish(mut self) -> Self {
        self.client_publish = true;
        self
    }

    /// Lets the members of a presence channel change the info that the others see of them.
    #[must_use]
    pub fn with_presence_update(mut self) -> Self {
        self.presence_update = true;
        self
    }

    /// Bounds what all clients of one server together publish on a channel, in bytes per second.
    #[must_use]
    pub fn with_client_bytes_per_second(mut self, bytes: u32) -> Self {
        self.client_bytes_per_second = bytes;
        self
    }

    /// Lets a subscription start with up to `count` past messages.
    #[must_use]
    pub fn with_rewind(mut self, count: u32) -> Self {
        self.rewind_max = count;
        self
    }

    /// Decides what a client gets that does not read fast enough.
    #[must_use]
    pub fn with_slow_reader(mut self, slow_reader: SlowReader) -> Self {
        self.slow_reader = slow_reader;
        self
    }
}

/// The rule of every channel: the first prefix that matches wins.
#[derive(Debug, Clone, Default)]
pub struct ChannelRules {
    rules: Vec<(String, ChannelRule)>,
    fallback: ChannelRule,
}

impl ChannelRules {
    /// No rules: every channel is live only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule behind the ones already there. An empty prefix matches every channel.
    #[must_use]
    pub fn with(mut self, prefix: impl Into<String>, rule: ChannelRule) -> Self {
        self.rules.push((prefix.into(), rule));
        self
    }

    /// The rule of a channel.
    #[must_use]
    pub fn of(&self, channel: &ChannelName) -> &ChannelRule {
        let matching = self
            .rules
            .iter()
            .find(|(prefix, _)| channel.as_str().starts_with(prefix.as_str()));
        matching.map_or(&self.fallback, |(_, rule)| rule)
    }

    /// Whether members of a channel are known to each other.
    #[must_use]
    pub fn has_presence(&self, channel: &ChannelName) -> bool {
        // A personal channel has one user and nobody to tell.
        channel.kind() != ChannelKind::Personal
            && self
                .of(channel)
                .presence
                .unwrap_or_else(|| channel.kind() == ChannelKind::Presence)
    }

    /// The prefixes of rules that let members change their info on channels without presence, where there are no members.
    pub(crate) fn idle_presence_updates(&self) -> impl Iterator<Item = &str> {
        let can_have_presence = |prefix: &str, rule: &ChannelRule| {
            rule.presence.unwrap_or_else(|| {
                prefix.starts_with(PRESENCE_PREFIX) || PRESENCE_PREFIX.starts_with(prefix)
            })
        };
        self.rules
            .iter()
            .filter(move |(prefix, rule)| rule.presence_update && !can_have_presence(prefix, rule))
            .map(|(prefix, _)| prefix.as_str())
    }

    /// What a channel keeps. Presence channels without a rule of their own keep enough for diffs to be recovered.
    #[must_use]
    pub fn retention(&self, channel: &ChannelName) -> Retention {
        let rule = self.of(channel);
        if rule.history_size > 0 {
            return Retention::new(rule.history_size.min(HISTORY_SIZE_MAX), rule.history_ttl);
        }
        if self.has_presence(channel) {
            return Retention::new(PRESENCE_HISTORY_SIZE, rule.history_ttl).for_presence();
        }
        Retention::NONE
    }
}

/// What the name of a presence channel begins with.
const PRESENCE_PREFIX: &str = "presence-";

/// 1,000: a full history of a channel stays a bounded, readable reply.
const HISTORY_SIZE_MAX: u32 = 1_000;

/// 100: the recovery window that is promised; presence diffs are of no use without one.
const PRESENCE_HISTORY_SIZE: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presence_update_without_presence_is_found() {
        let update = || ChannelRule::default().with_presence_update();
        let rules = ChannelRules::new()
            .with("presence-a", update())
            .with("presence-b", update().with_presence(false))
            .with("presence-c", ChannelRule::default().with_presence(false))
            .with("chat-", update())
            .with("room-", update().with_presence(true))
            .with("pre", update())
            .with("", update());
        let idle: Vec<_> = rules.idle_presence_updates().collect();
        assert_eq!(idle, ["presence-b", "chat-"]);
    }
}
