//! Every key and channel in Redis, with its life. One function each, and nothing else builds a name.
//!
//! The channel's name stands in braces, so that all that belongs to a channel is in one slot of a cluster, where one script
//! reaches it. Channel names hold no braces, and the prefix must not.

use std::fmt::Write;
use std::sync::Arc;

use fanfare_protocol::{ChannelName, IdempotencyKey};

use crate::delivery::Publication;

/// Builds the names of one cluster of nodes.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// Names that begin with `prefix`, which was checked.
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// Pub/sub channel (sharded in a cluster): the channel's messages as they happen.
    pub(crate) fn channel(&self, channel: &ChannelName) -> String {
        self.named(channel, "")
    }

    /// The channel that a message in Redis was published on, if it is one of ours.
    pub(crate) fn parse_channel(&self, name: &[u8]) -> Option<ChannelName> {
        let name = std::str::from_utf8(name).ok()?;
        let name = name.strip_prefix(&*self.prefix)?;
        let name = name.strip_prefix('{')?.strip_suffix('}')?;
        ChannelName::new(name).ok()
    }

    /// Stream: the messages that the channel keeps. Lives as long as its history after the last message.
    pub(crate) fn stream(&self, channel: &ChannelName) -> String {
        self.named(channel, ":s")
    }

    /// Hash: where the channel stands, `e` epoch, `s` offset, `t` tag. Lives ten times as long as the history, at least a day,
    /// after the last message, read or check; twice as long where the history is one of members alone; and about two minutes
    /// while there was no message yet.
    pub(crate) fn position(&self, channel: &ChannelName) -> String {
        self.named(channel, ":m")
    }

    /// Hash: the number of the last message on a channel without positions, and in which term of which master it was counted. Lives
    /// for ten minutes after that message.
    pub(crate) fn count(&self, channel: &ChannelName) -> String {
        self.named(channel, ":n")
    }

    /// Hash: the connections that are present, and what the channel keeps. This and the three below live as long as the position
    /// would without a message, after the last word of any node that holds a connection.
    pub(crate) fn connections(&self, channel: &ChannelName) -> String {
        self.named(channel, ":pc")
    }

    /// Sorted set: the connections by when they count as gone.
    pub(crate) fn expiries(&self, channel: &ChannelName) -> String {
        self.named(channel, ":px")
    }

    /// Hash: the users that are present, how many connections each has, and what the others see.
    pub(crate) fn users(&self, channel: &ChannelName) -> String {
        self.named(channel, ":pi")
    }

    /// Sorted set: the users that are present, in order.
    pub(crate) fn members(&self, channel: &ChannelName) -> String {
        self.named(channel, ":pm")
    }

    /// String: what became of the publication with this key. Lives for the options' `key_ttl`.
    ///
    /// The application's keys, each user's and those of a connection without a user never meet.
    pub(crate) fn idempotency(&self, publication: &Publication, key: &IdempotencyKey) -> String {
        let mut name = self.named(&publication.channel, ":i:");
        match (publication.sender, &publication.user) {
            (None, _) => name.push_str("a:"),
            (Some(socket), None) => {
                let _ = write!(name, "c{socket}:");
            }
            // The length keeps a user `x:y` with key `z` from a user `x` with key `y:z`.
            (Some(_), Some(user)) => {
                let user = user.as_str();
                let _ = write!(name, "u{}:{user}:", user.len());
            }
        }
        name.push_str(key.as_str());
        name
    }

    /// Pub/sub channel (sharded in a cluster) that one connection of one node listens to, to hear whether it hears anything.
    pub(crate) fn probe(&self, tag: &ChannelName) -> String {
        self.own(tag.as_str(), "")
    }

    /// Hash: the same of a probe's channel. Lives for ten of its intervals.
    pub(crate) fn probe_count(&self, tag: &ChannelName) -> String {
        self.own(tag.as_str(), ":n")
    }

    /// Never written: a key in a slot of a certain master, for scripts that only ask it for the time.
    pub(crate) fn pulse(&self, tag: &ChannelName) -> String {
        self.own(tag.as_str(), "")
    }

    /// Sorted set: the live nodes, by the time until which they count as alive. Lives twice as long as a lease.
    pub(crate) fn nodes(&self) -> String {
        self.own("nodes", "")
    }

    /// Never in use: a key of the kind that nodes have for themselves.
    pub(crate) fn scratch(&self) -> String {
        self.own("nodes", ":rights")
    }

    /// What every name begins with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Pub/sub channel: requests to all nodes.
    pub(crate) fn requests(&self) -> String {
        self.own(NODES, ":questions")
    }

    /// Pub/sub channel: replies to the requests of one node.
    pub(crate) fn replies(&self, incarnation: u64) -> String {
        self.own("nodes", &format!(":answers:{incarnation:x}"))
    }

    /// A name that no channel has: theirs have the brace right behind the prefix.
    fn own(&self, tag: &str, suffix: &str) -> String {
        let prefix = &self.prefix;
        format!("{prefix}~{{{tag}}}{suffix}")
    }

    fn named(&self, channel: &ChannelName, suffix: &str) -> String {
        let channel = channel.as_str();
        let mut name = String::with_capacity(self.prefix.len() + channel.len() + suffix.len() + 40);
        name.push_str(&self.prefix);
        name.push('{');
        name.push_str(channel);
        name.push('}');
        name.push_str(suffix);
        name
    }
}

/// The tag of the keys and channels that the nodes share.
pub(crate) const NODES: &str = "nodes";

#[cfg(test)]
mod tests {
    use fanfare_protocol::{EventName, RawJson, SocketId, UserId};

    use super::*;

    fn keys() -> Keys {
        Keys::new("p:")
    }

    fn channel() -> ChannelName {
        ChannelName::new("private-a.1").unwrap()
    }

    #[test]
    fn every_name_of_a_channel() {
        let (keys, channel) = (keys(), channel());
        let names = [
            keys.channel(&channel),
            keys.stream(&channel),
            keys.position(&channel),
            keys.count(&channel),
            keys.connections(&channel),
            keys.expiries(&channel),
            keys.users(&channel),
            keys.members(&channel),
        ];
        assert_eq!(
            names,
            [
                "p:{private-a.1}",
                "p:{private-a.1}:s",
                "p:{private-a.1}:m",
                "p:{private-a.1}:n",
                "p:{private-a.1}:pc",
                "p:{private-a.1}:px",
                "p:{private-a.1}:pi",
                "p:{private-a.1}:pm",
            ]
        );
        assert_eq!(keys.parse_channel(names[0].as_bytes()), Some(channel));
        for foreign in ["q:{a}", "p:a", "p:{a", "p:{a b}", "p:{a}:s"] {
            assert_eq!(keys.parse_channel(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn senders_never_share_a_key() {
        let key = |text: &str| IdempotencyKey::new(text).unwrap();
        let sent = |user: Option<&str>, sender: Option<u128>| {
            let event = EventName::new("e").unwrap();
            let mut sent = Publication::new(channel(), event, RawJson::null());
            sent.user = user.map(|user| UserId::new(user).unwrap());
            sent.sender = sender.map(SocketId::from_bits);
            sent
        };
        let name = |user, sender, text| keys().idempotency(&sent(user, sender), &key(text));
        let names = [
            name(None, None, "k"),
            name(None, Some(1), "k"),
            name(None, Some(2), "k"),
            name(Some("x"), Some(1), "y:z"),
            name(Some("x:y"), Some(1), "z"),
            name(Some("c"), Some(1), "k"),
            name(None, None, "c:k"),
        ];
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert_eq!(name(Some("x"), None, "k"), names[0], "the application's");
        let moved = name(Some("x"), Some(2), "y:z");
        assert_eq!(moved, names[3], "a user on another connection");
    }
}
