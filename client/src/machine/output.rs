//! What the machine tells its host to do, and to say.

use alloc::vec::Vec;

use fanfare_protocol::{Code, Position};

use crate::error::ClientError;
use crate::event::{ChannelState, ConnectionState, GapReason};
use crate::io::{AuthReason, RequestId, TokenReason};
use crate::machine::values::Values;
use crate::time::Millis;

/// One thing to do or to say.
#[derive(Debug)]
pub enum Output<V: Values> {
    /// Open a socket; whatever socket there was before is gone.
    Open {
        /// How many attempts have failed since the last healthy connection.
        attempt: u32,
    },
    /// Close the socket and forget it: nothing it still says may come in.
    Close(Goodbye),
    /// Send a command.
    Send {
        /// Its number on the wire; a command whose reply nobody waits for has none.
        id: Option<u64>,
        /// What to send.
        command: Command<V>,
    },
    /// Get a token. A new question replaces an earlier one: only the newest is answered.
    NeedToken(TokenReason),
    /// Get a channel token.
    NeedChannelAuth {
        /// The channel.
        channel: V::Channel,
        /// The socket the token will be bound to.
        socket: V::Socket,
        /// Why.
        reason: AuthReason,
    },
    /// The answer for this channel is no longer wanted.
    CancelChannelAuth(V::Channel),
    /// Tell the application.
    Tell(News<V>),
}

/// What the application is told.
#[derive(Debug)]
pub enum News<V: Values> {
    /// The connection's state changed.
    Status(Status<V>),
    /// A channel's state changed.
    Channel {
        /// The channel.
        channel: V::Channel,
        /// The state.
        state: ChannelState,
        /// The state before.
        previous: ChannelState,
        /// Whether nothing was missed since the last time.
        recovered: bool,
        /// Why, when something went wrong.
        error: Option<ClientError<V::Text>>,
    },
    /// Something was published.
    Message {
        /// The channel.
        channel: V::Channel,
        /// What it says.
        content: V::Content,
        /// Its place in the channel's history, on channels that keep one.
        position: Option<Position>,
        /// Whether it was published while the client was away, or before it came.
        recovered: bool,
    },
    /// The members of a presence channel, all of them.
    Sync {
        /// The channel.
        channel: V::Channel,
        /// Who was there.
        members: V::Snapshot,
        /// What changed since, which makes no sound of its own.
        since: Vec<V::Change>,
    },
    /// A member came, went, or shows other info.
    Change {
        /// The channel.
        channel: V::Channel,
        /// Who.
        change: V::Change,
        /// Where the channel stood then.
        position: Option<Position>,
        /// Whether it happened while the client was away.
        recovered: bool,
    },
    /// Messages of a channel were lost.
    Gap {
        /// The channel.
        channel: V::Channel,
        /// Which, and why.
        hole: Hole<V>,
    },
    /// A channel's history started anew.
    Reset {
        /// The channel.
        channel: V::Channel,
        /// Where it stands now.
        position: Position,
        /// The server's words.
        reason: V::Text,
    },
    /// A request has its answer.
    Done {
        /// The request.
        request: RequestId,
        /// The answer.
        result: Result<V::Reply, ClientError<V::Text>>,
    },
    /// Something went wrong that belongs to no request and changes no state.
    Error(ClientError<V::Text>),
}

/// The connection's state and how it came about.
#[derive(Debug)]
pub struct Status<V: Values> {
    /// The state.
    pub state: ConnectionState,
    /// How many attempts have failed since the last healthy connection.
    pub attempt: u32,
    /// Whether this connection follows an earlier one.
    pub resumed: bool,
    /// When the next attempt is made.
    pub retry_at: Option<Millis>,
    /// The id of the connection.
    pub socket: Option<V::Socket>,
    /// Who it belongs to.
    pub user: Option<V::User>,
    /// Why, when something went wrong.
    pub error: Option<ClientError<V::Text>>,
}

/// A command to send.
#[derive(Debug)]
pub enum Command<V: Values> {
    /// Says who this is.
    Authenticate {
        /// The token.
        token: V::Text,
    },
    /// Subscribes to a channel, or to several in one list. A list that would be a larger frame than the server takes
    /// ([`Machine::frame_bytes_max`](crate::Machine::frame_bytes_max)) goes out as several, under the same number.
    Subscribe(Vec<Wanted<V>>),
    /// Leaves a channel.
    Unsubscribe {
        /// The channel.
        channel: V::Channel,
    },
    /// Asks for the members of a channel.
    Presence {
        /// The channel.
        channel: V::Channel,
    },
    /// Asks for a sign of life.
    Ping,
    /// One of the application's.
    Asked(V::Command),
}

/// A channel to subscribe to.
#[derive(Debug)]
pub struct Wanted<V: Values> {
    /// The channel.
    pub channel: V::Channel,
    /// The channel token.
    pub auth: Option<V::Text>,
    /// Signed member data, exactly as answered.
    pub channel_data: Option<V::Text>,
    /// An unsigned hint about the member.
    pub hint: Option<V::Hint>,
    /// The info that the client shows itself.
    pub info: Option<V::Hint>,
    /// Only what comes after this position.
    pub since: Option<Position>,
    /// Start with the last n events.
    pub rewind: Option<u32>,
}

/// Which messages were lost, and why.
#[derive(Debug)]
pub struct Hole<V: Values> {
    /// The first lost offset, where it is known.
    pub from: Option<u64>,
    /// The last lost offset, where it is known.
    pub to: Option<u64>,
    /// Why.
    pub reason: GapReason<V::Text>,
    /// Where the channel stands after the gap, on channels with history.
    pub position: Option<Position>,
}

/// What a socket is closed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// It is not wanted any more.
    Normal,
    /// The server speaks another version.
    UnknownVersion,
    /// The server speaks something else.
    NotThisProtocol,
    /// Nothing was heard after a ping.
    Silent,
    /// The greeting did not come in time.
    NotGreeted,
}

impl Goodbye {
    /// The WebSocket close code.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => NORMAL,
            Self::UnknownVersion | Self::NotThisProtocol => Code::PROTOCOL_ERROR.number(),
            Self::Silent => Code::STALE.number(),
            Self::NotGreeted => Code::AUTHENTICATION_TIMEOUT.number(),
        }
    }

    /// The reason to give.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::UnknownVersion => "unknown protocol version",
            Self::NotThisProtocol => "not this protocol",
            Self::Silent => Code::STALE.text(),
            Self::NotGreeted => Code::AUTHENTICATION_TIMEOUT.text(),
        }
    }
}

/// RFC 6455 7.4.1, *normal closure*.
pub(crate) const NORMAL: u16 = 1000;
