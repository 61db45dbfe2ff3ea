//! Client to server.

use core::fmt;

use crate::name::{ChannelName, EventName, IdempotencyKey};
use crate::position::Position;
use crate::raw::RawJson;
use alloc::string::String;
use alloc::vec::Vec;

/// A command and the id that its one reply will echo.
///
/// Without an id there is no `ok` reply; errors still arrive.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Chosen by the client, below 2^53.
    pub id: Option<u64>,
    /// What is asked.
    pub command: Command,
}

/// What a client can ask.
///
/// `Debug` prints neither tokens nor payloads.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Says who the client is; also refreshes an expiring token. Reply: `ok {user_id, expires_at?}`.
    Authenticate {
        /// A bearer token.
        token: String,
    },
    /// Asks for a channel. Reply: `subscription_succeeded` or `subscription_error`.
    Subscribe(Subscribe),
    /// Asks for several channels, at most [`SUBSCRIBE_CHANNELS_MAX`]. The reply to each is that of [`Command::Subscribe`], under
    /// the one id.
    SubscribeAll(Vec<Subscribe>),
    /// Leaves a channel. Reply: `unsubscribed`.
    Unsubscribe {
        /// The channel.
        channel: ChannelName,
    },
    /// Sends a client event, where the channel's rule allows it and the sender is subscribed. Reply: `ok {position?}`.
    Publish {
        /// The channel.
        channel: ChannelName,
        /// The event's name.
        event: EventName,
        /// The payload.
        data: RawJson,
        /// Makes a repetition by the same sender within ten minutes harmless.
        key: Option<IdempotencyKey>,
    },
    /// Sends a typed event to the server's event bus. Reply: `ok {event_id}`.
    Emit {
        /// The event's name.
        event: EventName,
        /// The payload.
        data: RawJson,
        /// Makes a repetition harmless.
        key: Option<IdempotencyKey>,
    },
    /// Asks for a presence channel's members. Reply: `ok {members, count, position}`.
    Presence {
        /// The channel.
        channel: ChannelName,
    },
    /// Shows other info about the user on this connection, where the channel's rule allows it. Reply: `ok`.
    PresenceUpdate {
        /// The channel.
        channel: ChannelName,
        /// The info that the other members see; `null` takes the last update back.
        info: RawJson,
    },
    /// Asks for past events. Reply: `ok {events, position}`.
    History {
        /// The channel.
        channel: ChannelName,
        /// Only events after this position.
        since: Option<Position>,
        /// At most so many events; without `since` the newest ones.
        limit: Option<u32>,
    },
    /// Asks for a sign of life. Reply: `pong {timestamp}`.
    Ping,
    /// Says goodbye: the server closes with 1000.
    Disconnect,
}

/// The fields of a `subscribe` command.
///
/// `Debug` says of a channel token and of member data only whether they are there.
#[derive(Clone, PartialEq)]
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// A channel token from the auth endpoint.
    pub auth: Option<String>,
    /// Signed member data, exactly the string that the auth endpoint answered.
    pub channel_data: Option<String>,
    /// An unsigned member hint, ignored where `channel_data` is present.
    pub data: Option<RawJson>,
    /// The info to join with, as in [`Command::PresenceUpdate`].
    pub info: Option<RawJson>,
    /// Resume after this position.
    pub since: Option<Position>,
    /// Start with the last n events.
    pub rewind: Option<u32>,
}

impl Subscribe {
    /// A plain subscription to a channel.
    #[must_use]
    pub fn new(channel: ChannelName) -> Self {
        Self {
            channel,
            auth: None,
            channel_data: None,
            data: None,
            info: None,
            since: None,
            rewind: None,
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authenticate { token: _ } => {
                f.debug_struct("Authenticate").finish_non_exhaustive()
            }
            Self::Subscribe(subscribe) => subscribe.fmt(f),
            Self::SubscribeAll(list) => f.debug_tuple("SubscribeAll").field(list).finish(),
            Self::Unsubscribe { channel } => f
                .debug_struct("Unsubscribe")
                .field("channel", channel)
                .finish(),
            Self::Publish {
                channel,
                event,
                data,
                key,
            } => f
                .debug_struct("Publish")
                .field("channel", channel)
                .field("event", event)
                .field("data", data)
                .field("key", key)
                .finish(),
            Self::Emit { event, data, key } => f
                .debug_struct("Emit")
                .field("event", event)
                .field("data", data)
                .field("key", key)
                .finish(),
            Self::Presence { channel } => f
                .debug_struct("Presence")
                .field("channel", channel)
                .finish(),
            Self::PresenceUpdate { channel, info } => f
                .debug_struct("PresenceUpdate")
                .field("channel", channel)
                .field("info", info)
                .finish(),
            Self::History {
                channel,
                since,
                limit,
            } => f
                .debug_struct("History")
                .field("channel", channel)
                .field("since", since)
                .field("limit", limit)
                .finish(),
            Self::Ping => f.write_str("Ping"),
            Self::Disconnect => f.write_str("Disconnect"),
        }
    }
}

impl fmt::Debug for Subscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("channel", &self.channel)
            .field("has_auth", &self.auth.is_some())
            .field("has_channel_data", &self.channel_data.is_some())
            .field("data", &self.data)
            .field("info", &self.info)
            .field("since", &self.since)
            .field("rewind", &self.rewind)
            .finish()
    }
}

/// 1,000: the most channels that one `subscribe` may name.
pub const SUBSCRIBE_CHANNELS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug() {
        let channel = ChannelName::new("private-a").unwrap();
        let mut subscribe = Subscribe::new(channel);
        subscribe.auth = Some("hunter2".to_owned());
        subscribe.channel_data = Some("hunter2".to_owned());
        let token = "hunter2".to_owned();
        for command in [
            Command::Authenticate { token },
            Command::Subscribe(subscribe.clone()),
            Command::SubscribeAll(vec![subscribe]),
        ] {
            let request = Request {
                id: Some(1),
                command,
            };
            let text = format!("{request:?}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
