//! Server to client.
//!
//! Generic over the payload: [`RawJson`] text natively, a JavaScript value in a browser.

use crate::code::Code;
use crate::name::{ChannelName, EventName, SocketId, UserId};
use crate::position::{Epoch, Position, Tag};
use crate::raw::RawJson;
use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

/// What a server can say.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ServerMessage<P = RawJson> {
    /// The first message of every connection.
    Connected(Connected),
    /// The reply to a command that has no reply of its own.
    Ok(Reply<P>),
    /// A command failed, or could not be read.
    Error(ErrorMessage),
    /// A subscription is confirmed.
    SubscriptionSucceeded(SubscriptionSucceeded<P>),
    /// A subscription was refused or has failed.
    SubscriptionError(SubscriptionError),
    /// A subscription ended, by request or by the server.
    Unsubscribed(Unsubscribed),
    /// Something was published.
    Event(Event<P>),
    /// A message that was not meant for this connection; only the position moves.
    Skipped(Skipped),
    /// Messages were lost.
    Gap(Gap),
    /// History no longer continues what the client has.
    Reset(Reset),
    /// The reply to `ping`.
    Pong {
        /// The server's time in milliseconds since the Unix epoch.
        timestamp: u64,
    },
    /// The server is about to close the connection.
    Disconnect(Disconnect),
}

/// The fields of `connected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The id of this connection.
    pub socket_id: SocketId,
    /// Who it belongs to, when the handshake already said so.
    pub user_id: Option<UserId>,
    /// The version of the dialect.
    pub protocol: u32,
    /// After so many milliseconds without a message the client should `ping`.
    pub ping_interval: u64,
    /// The largest message the server accepts, in bytes.
    pub max_payload_size: u64,
    /// The server's time in milliseconds since the Unix epoch.
    pub server_time: u64,
    /// What this connection may ask for. A server that does not say it takes no lists of channels either.
    pub limits: Option<ConnectionLimits>,
}

/// The fields of `limits` in `connected`: what a client stays within, so that nothing it asks for is refused for its amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How many channels the connection may have; the personal channel does not count.
    pub channels_max: u64,
    /// How many commands per second it may send on average.
    pub commands_per_second: u64,
    /// How many commands it may send at once.
    pub commands_burst: u64,
    /// The largest frame it may send, in bytes.
    pub message_bytes_max: u64,
    /// How many bytes of messages per second it may send on average, where that is limited.
    pub bytes_per_second: Option<u64>,
    /// How many of them it may send at once, where that is limited.
    pub bytes_burst: Option<u64>,
    /// For how many milliseconds a publish with a key is recognised when it comes again.
    pub idempotency_window: Option<u64>,
}

/// The fields of `ok`: those that the command promises are present.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply<P = RawJson> {
    /// The command's id.
    pub id: u64,
    /// `authenticate`: who the connection belongs to now.
    pub user_id: Option<UserId>,
    /// `authenticate`: when the token ends, in milliseconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// `publish`, `presence`, `history`: the channel's position that the answer is valid for.
    pub position: Option<Position>,
    /// `emit`: the id of the accepted event.
    pub event_id: Option<String>,
    /// `presence`: the members and their count.
    pub presence: Option<Presence<P>>,
    /// `history`: the events, oldest first.
    pub events: Option<Vec<Event<P>>>,
}

impl<P> Reply<P> {
    /// A bare `ok`.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            user_id: None,
            expires_at: None,
            position: None,
            event_id: None,
            presence: None,
            events: None,
        }
    }
}

/// The fields of `error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMessage {
    /// The command's id, where it had one that could be read.
    pub id: Option<u64>,
    /// The number from the table of codes.
    pub code: u16,
    /// A sentence for people.
    pub error: String,
    /// Whether the same command may succeed later.
    pub retry: bool,
    /// When to retry, in milliseconds from now.
    pub retry_after: Option<u64>,
}

impl ErrorMessage {
    /// An error with a code's own text.
    #[must_use]
    pub fn new(id: Option<u64>, code: Code) -> Self {
        Self {
            id,
            code: code.number(),
            error: code.text().to_owned(),
            retry: code.may_retry(),
            retry_after: None,
        }
    }
}

/// The fields of `subscription_succeeded`.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionSucceeded<P = RawJson> {
    /// The command's id.
    pub id: Option<u64>,
    /// The channel.
    pub channel: ChannelName,
    /// Where the subscription stands after `events`; absent on channels without history.
    pub position: Option<Position>,
    /// Whether everything since the position asked for is in `events`.
    pub recovered: bool,
    /// Missed or rewound events, oldest first.
    pub events: Vec<Event<P>>,
    /// The members, on presence channels.
    pub presence: Option<Presence<P>>,
    /// Which member this connection is, on presence channels. Absent where a subscription moves: it is who it was.
    pub user_id: Option<UserId>,
}

/// The members of a presence channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Presence<P = RawJson> {
    /// How many there are; may exceed the length of `members`, which is capped.
    pub count: u64,
    /// The members.
    pub members: Vec<Member<P>>,
}

/// A user who is present: `{"id","info"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<P = RawJson> {
    /// Who.
    pub id: UserId,
    /// What the server, a signature or, where the channel's rule allows it, the member itself says about them.
    pub info: P,
}

/// The fields of `subscription_error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionError {
    /// The command's id.
    pub id: Option<u64>,
    /// The channel.
    pub channel: ChannelName,
    /// The number from the table of codes.
    pub code: u16,
    /// A sentence for people.
    pub error: String,
    /// Whether the same subscription may succeed later.
    pub retry: bool,
    /// When to retry, in milliseconds from now.
    pub retry_after: Option<u64>,
}

impl SubscriptionError {
    /// A refusal with a code's own text.
    #[must_use]
    pub fn new(id: Option<u64>, channel: ChannelName, code: Code) -> Self {
        Self {
            id,
            channel,
            code: code.number(),
            error: code.text().to_owned(),
            retry: code.may_retry(),
            retry_after: None,
        }
    }
}

/// The fields of `unsubscribed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The command's id; absent when the server ended the subscription.
    pub id: Option<u64>,
    /// The channel.
    pub channel: ChannelName,
    /// 1000 when asked for, else a number from the table of codes.
    pub code: u16,
    /// A sentence for people.
    pub reason: String,
}

/// The fields of `event`.
///
/// Inside `events` lists the frame has neither `type` nor `channel`: both are said around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<P = RawJson> {
    /// The channel.
    pub channel: ChannelName,
    /// The event's name.
    pub event: EventName,
    /// The payload.
    pub data: P,
    /// Its place in the channel's history; absent on channels without one.
    pub offset: Option<u64>,
    /// Its mark.
    pub tag: Option<Tag>,
    /// Present when it differs from the epoch of the message before.
    pub epoch: Option<Epoch>,
    /// Who sent it, on client events.
    pub user_id: Option<UserId>,
    /// The id of the bus event it came from.
    pub event_id: Option<String>,
}

/// The fields of `skipped`: a publish that excluded this connection (`broadcast_except`) still takes an offset.
///
/// Sent only on channels with history, so that an exclusion is never mistaken for a loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The channel.
    pub channel: ChannelName,
    /// The offset of the message that was left out.
    pub offset: u64,
    /// Its mark.
    pub tag: Tag,
    /// Present when it differs from the epoch of the message before.
    pub epoch: Option<Epoch>,
}

/// The fields of `gap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The channel.
    pub channel: ChannelName,
    /// The first lost offset, where it is known.
    pub from: Option<u64>,
    /// The last lost offset, where it is known.
    pub to: Option<u64>,
    /// A sentence for people.
    pub reason: String,
}

/// The fields of `reset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The channel.
    pub channel: ChannelName,
    /// Where the channel stands now.
    pub position: Position,
    /// A sentence for people.
    pub reason: String,
}

/// The fields of `disconnect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// The close code that will follow.
    pub code: u16,
    /// A sentence for people.
    pub reason: String,
    /// Whether the client should come back.
    pub reconnect: bool,
    /// When to come back, in milliseconds from now.
    pub after: u64,
}
