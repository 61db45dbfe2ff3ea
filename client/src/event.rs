//! What the application is told.

use alloc::string::String;
use alloc::vec::Vec;
use fanfare_protocol::{ChannelName, EventName, Member, Position, Reply, SocketId, UserId};

use crate::error::ClientError;
use crate::io::RequestId;
use crate::time::Millis;

/// What the application is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<P> {
    /// The connection's state changed.
    Connection(ConnectionStatus),
    /// A channel's state changed.
    Channel(ChannelStatus),
    /// Something was published.
    Message(Message<P>),
    /// The members of a presence channel, all of them: after a subscription, and when they had to be asked for again.
    Sync {
        /// The channel.
        channel: ChannelName,
        /// How many there are; may exceed the length of `members`, which the server caps.
        count: u64,
        /// The members, ordered by id.
        members: Vec<Member<P>>,
    },
    /// A member came.
    Joined {
        /// The channel.
        channel: ChannelName,
        /// The member.
        member: Member<P>,
        /// Where the channel stood then.
        position: Option<Position>,
        /// Whether it happened while the client was away.
        recovered: bool,
    },
    /// A member shows other info.
    Updated {
        /// The channel.
        channel: ChannelName,
        /// The member, with the new info.
        member: Member<P>,
        /// Where the channel stood then.
        position: Option<Position>,
        /// Whether it happened while the client was away.
        recovered: bool,
    },
    /// A member left.
    Left {
        /// The channel.
        channel: ChannelName,
        /// Who.
        id: UserId,
        /// What was known about them.
        info: Option<P>,
        /// Why, in the server's words.
        reason: Option<String>,
        /// Where the channel stood then.
        position: Option<Position>,
        /// Whether it happened while the client was away.
        recovered: bool,
    },
    /// Messages of a channel were lost: reload what depends on them.
    Gap(Gap),
    /// A channel's history started anew: reload what depends on it.
    Reset(Reset),
    /// A request has its answer. Every request gets exactly one.
    RequestDone {
        /// The request.
        request: RequestId,
        /// The answer.
        result: Result<Reply<P>, ClientError>,
    },
    /// Something went wrong that belongs to no request and changes no state.
    Error(ClientError),
}

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Never asked to connect.
    Idle,
    /// On the way to the first connection.
    Connecting,
    /// Open, greeted and authenticated.
    Connected,
    /// Lost, on the way back.
    Reconnecting,
    /// The network is said to be gone, or the page sleeps; attempts are rare.
    Offline,
    /// Ended by the application.
    Disconnected,
    /// Ended for good by the server or by refused credentials; only a new `Connect` tries again.
    Failed,
}

/// The connection's state and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// The state.
    pub state: ConnectionState,
    /// The state before; the same when only the attempt changed.
    pub previous: ConnectionState,
    /// How many attempts have failed since the last healthy connection.
    pub attempt: u32,
    /// When the next attempt is made.
    pub retry_at: Option<Millis>,
    /// The id of the connection.
    pub socket_id: Option<SocketId>,
    /// Whether this connection follows an earlier one of the same `Connect`.
    pub resumed: bool,
    /// Why, when something went wrong.
    pub error: Option<ClientError>,
    /// The close code, where there was one.
    pub code: Option<u16>,
    /// The reason given with it.
    pub reason: Option<String>,
}

/// The state of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelState {
    /// Waits for a channel token.
    Authorizing,
    /// Asked for, or about to be asked for again.
    Subscribing,
    /// Confirmed: events flow.
    Subscribed,
    /// Wanted, but there is no connection. Position and members are kept; the members may be out of date.
    Suspended,
    /// Refused; only a new `Subscribe` tries again.
    Failed,
    /// Not wanted, or ended by the server.
    Closed,
}

/// A subscription's state and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStatus {
    /// The channel.
    pub channel: ChannelName,
    /// The state.
    pub state: ChannelState,
    /// The state before.
    pub previous: ChannelState,
    /// On `Subscribed`: whether nothing was missed since the last time.
    pub recovered: bool,
    /// Why, when something went wrong.
    pub error: Option<ClientError>,
}

/// A publication as it reaches the application.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Message<P> {
    /// The channel.
    pub channel: ChannelName,
    /// The event's name.
    pub event: EventName,
    /// The payload.
    pub data: P,
    /// Its place in the channel's history, on channels that keep one.
    pub position: Option<Position>,
    /// Who sent it, on client events.
    pub user_id: Option<UserId>,
    /// The id of the bus event it came from.
    pub event_id: Option<String>,
    /// Whether it was published while the client was away, or before it came.
    pub recovered: bool,
}

/// A loss that the application must know of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The channel.
    pub channel: ChannelName,
    /// The first lost offset, where it is known.
    pub from: Option<u64>,
    /// The last lost offset, where it is known.
    pub to: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// Where the channel stands after the gap, on channels with history.
    pub position: Option<Position>,
}

/// Why messages were lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason<T = String> {
    /// The history no longer reaches back to where the client was.
    Expired,
    /// The history started anew while the client was away.
    Epoch,
    /// The channel keeps no history and the client was away.
    Away,
    /// The history went back behind what the client has seen.
    Diverged,
    /// The server's answer left messages out.
    Sequence,
    /// The host could not hold what nobody received.
    Overflow,
    /// The server said so, in its words.
    Server(T),
}

/// A new start of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reset {
    /// The channel.
    pub channel: ChannelName,
    /// Where it stands now.
    pub position: Position,
    /// The server's words; empty when the client found out itself.
    pub reason: String,
}

impl ConnectionState {
    /// The word that JavaScript has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Offline => "offline",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
        }
    }
}

impl ChannelState {
    /// The word that JavaScript has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorizing => "authorizing",
            Self::Subscribing => "subscribing",
            Self::Subscribed => "subscribed",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

impl GapReason {
    /// A word for it, or the server's own words.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Expired => "expired",
            Self::Epoch => "epoch",
            Self::Away => "away",
            Self::Diverged => "diverged",
            Self::Sequence => "sequence",
            Self::Overflow => "overflow",
            Self::Server(words) => words,
        }
    }
}

impl ConnectionStatus {
    pub(crate) fn idle() -> Self {
        Self {
            state: ConnectionState::Idle,
            previous: ConnectionState::Idle,
            attempt: 0,
            retry_at: None,
            socket_id: None,
            resumed: false,
            error: None,
            code: None,
            reason: None,
        }
    }
}
