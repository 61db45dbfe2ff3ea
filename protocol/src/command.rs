//! Client to server.

use crate::name::{ChannelName, EventName, IdempotencyKey};
use crate::position::Position;
use crate::raw::RawJson;

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
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Says who the client is; also refreshes an expiring token. Reply: `ok {user_id, expires_at?}`.
    Authenticate {
        /// A bearer token.
        token: String,
    },
    /// Asks for a channel. Reply: `subscription_succeeded` or `subscription_error`.
    Subscribe(Subscribe),
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
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// A channel token from the auth endpoint.
    pub auth: Option<String>,
    /// Signed member data, exactly the string that the auth endpoint answered.
    pub channel_data: Option<String>,
    /// An unsigned member hint, ignored where `channel_data` is present.
    pub data: Option<RawJson>,
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
            since: None,
            rewind: None,
        }
    }
}
