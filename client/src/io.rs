//! Everything that can go in and everything that can come out.

use alloc::string::{String, ToString as _};
use core::fmt::{Debug, Display};

use fanfare_protocol::{
    ChannelName, EventName, IdempotencyKey, Member, Position, RawJson, ServerMessage, SocketId,
    UserId,
};

use crate::event::Event;
use crate::options::SubscribeOptions;

/// A payload as the host holds it: a JavaScript value in a browser, JSON text natively.
///
/// The machine never looks into a payload, with one exception: what the events about members say, which only the host can read.
pub trait Payload: Clone + Debug {
    /// Reads the payload of a `member_added` or `member_updated` event, `{id, info}`; `None` when it has another shape.
    fn member_added(&self) -> Option<Member<Self>>;

    /// Reads the payload of a `member_removed` event, `{id, reason}`; `None` when it has another shape.
    fn member_removed(&self) -> Option<(UserId, Option<String>)>;
}

/// Names a request of the host, so that it finds the reply. The host chooses it and does not use it twice at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What the host tells the machine.
///
/// `Opened`, `Message`, `Unreadable` and `Closed` speak of the socket of the newest [`Output::Open`]. After
/// [`Output::Close`], and after a new `Open`, the host passes on nothing more from an earlier socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<P> {
    /// The application wants a connection. Also retries at once while one is waited for.
    Connect,
    /// The application wants no connection. Subscriptions stay wanted and come back with the next `Connect`.
    Disconnect,
    /// The application wants a channel. Without effect on a channel that is already wanted, unless it has failed.
    Subscribe {
        /// The channel.
        channel: ChannelName,
        /// Where to start and what to say.
        options: SubscribeOptions,
    },
    /// The application no longer wants a channel. No event of it comes out after this.
    Unsubscribe {
        /// The channel.
        channel: ChannelName,
    },
    /// Sends a client event. Waits for a connection, and for the channel where that is wanted.
    Publish {
        /// Names the reply.
        request: RequestId,
        /// The channel.
        channel: ChannelName,
        /// The event's name.
        event: EventName,
        /// The payload.
        data: RawJson,
        /// Makes a repetition harmless; made up when absent.
        key: Option<IdempotencyKey>,
    },
    /// Sends a typed event to the server's event bus. No server has a bus yet: all refuse.
    #[doc(hidden)]
    Emit {
        /// Names the reply.
        request: RequestId,
        /// The event's name.
        event: EventName,
        /// The payload.
        data: RawJson,
        /// Makes a repetition harmless; made up when absent.
        key: Option<IdempotencyKey>,
    },
    /// Asks for the members of a presence channel.
    Presence {
        /// Names the reply.
        request: RequestId,
        /// The channel.
        channel: ChannelName,
    },
    /// Shows other info about the user on this connection, where the channel's rule allows it.
    ///
    /// It lasts until the channel is unsubscribed or another user logs in: the machine sends it again with every later subscription.
    /// Before the channel is subscribed it goes out with the subscription.
    PresenceUpdate {
        /// Names the reply.
        request: RequestId,
        /// The channel.
        channel: ChannelName,
        /// The info that the other members see; `null` takes the last update back.
        info: RawJson,
    },
    /// Asks for past events.
    History {
        /// Names the reply.
        request: RequestId,
        /// The channel.
        channel: ChannelName,
        /// Only events after this position.
        since: Option<Position>,
        /// At most so many events.
        limit: Option<u32>,
    },
    /// The application lost interest in a reply. What was sent stays sent.
    Abort {
        /// The request.
        request: RequestId,
    },
    /// The application logs in (a token) or out (none).
    SetToken(Option<String>),
    /// Answers [`Output::NeedToken`].
    Token(TokenReply),
    /// Answers [`Output::NeedChannelAuth`].
    ChannelAuth {
        /// The channel asked about.
        channel: ChannelName,
        /// The socket asked about: an answer for an earlier one is ignored.
        socket_id: SocketId,
        /// The answer.
        reply: ChannelAuthReply,
    },
    /// The socket is open.
    Opened,
    /// A message arrived. A batch is one input per message, with the outputs drained in between or at its end.
    Message(ServerMessage<P>),
    /// A frame arrived that is not a message of this protocol.
    Unreadable,
    /// The socket is closed, or could not be opened (1006).
    Closed {
        /// The WebSocket close code.
        code: u16,
        /// The reason given with it.
        reason: String,
    },
    /// The time of [`Client::next_timeout`](crate::Client::next_timeout) has come.
    TimedOut,
    /// The network is said to be back.
    Online,
    /// The network is said to be gone.
    Offline,
    /// The page is visible again, came out of the cache, or the clock jumped.
    Wake,
    /// The page goes into the cache: no code will run until `Wake`.
    Suspend,
}

/// An answer to [`Output::NeedToken`].
#[derive(Clone, PartialEq, Eq)]
pub enum TokenReply<T = String> {
    /// Here it is.
    Token(T),
    /// Connect without one.
    Anonymous,
    /// The user may not connect: stop.
    Unauthorized {
        /// Why, for people.
        reason: Option<T>,
    },
    /// It could not be had: try again later.
    Failed {
        /// Why, for people.
        reason: Option<T>,
    },
}

impl TokenReply {
    /// It could not be had this time, because of this.
    #[must_use]
    pub fn failed(reason: impl Display) -> Self {
        let reason = Some(reason.to_string());
        Self::Failed { reason }
    }

    /// The user may not connect, because of this.
    #[must_use]
    pub fn unauthorized(reason: impl Display) -> Self {
        let reason = Some(reason.to_string());
        Self::Unauthorized { reason }
    }
}

impl<T> Debug for TokenReply<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::Anonymous => "Anonymous",
            Self::Unauthorized { .. } => "Unauthorized(..)",
            Self::Failed { .. } => "Failed(..)",
        })
    }
}

/// An answer to [`Output::NeedChannelAuth`].
#[derive(Clone, PartialEq, Eq)]
pub enum ChannelAuthReply<T = String> {
    /// The endpoint said yes.
    Granted {
        /// The channel token.
        auth: T,
        /// Signed member data, exactly as answered.
        channel_data: Option<T>,
    },
    /// The endpoint, or the application, said no: the subscription fails.
    Forbidden {
        /// Its HTTP status.
        status: u16,
        /// Why, for people.
        reason: Option<T>,
    },
    /// No token could be had: try again later.
    Failed {
        /// The HTTP status of the endpoint, where it answered.
        status: Option<u16>,
        /// Why, for people.
        reason: Option<T>,
        /// When to try again, in milliseconds from now.
        retry_after: Option<u64>,
    },
}

impl ChannelAuthReply {
    /// No token could be had this time, because of this.
    #[must_use]
    pub fn failed(reason: impl Display) -> Self {
        Self::Failed {
            status: None,
            reason: Some(reason.to_string()),
            retry_after: None,
        }
    }

    /// The user may not subscribe, because of this: 403.
    #[must_use]
    pub fn forbidden(reason: impl Display) -> Self {
        Self::Forbidden {
            status: 403,
            reason: Some(reason.to_string()),
        }
    }
}

impl<T> Debug for ChannelAuthReply<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Granted { .. } => f.write_str("Granted(..)"),
            Self::Forbidden { status, .. } => write!(f, "Forbidden({status})"),
            Self::Failed { .. } => f.write_str("Failed(..)"),
        }
    }
}

/// What the machine tells the host to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<P> {
    /// Open a socket; whatever socket there was before is gone.
    Open {
        /// How many attempts have failed since the last healthy connection.
        attempt: u32,
    },
    /// Send a text frame.
    Send(String),
    /// Close the socket and forget it: nothing it still says may come in.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// The reason to give.
        reason: &'static str,
    },
    /// Get a token and answer with [`Input::Token`]. A new question replaces an earlier one: only the newest is answered.
    NeedToken {
        /// Why.
        reason: TokenReason,
    },
    /// Get a channel token and answer with [`Input::ChannelAuth`].
    NeedChannelAuth {
        /// The channel.
        channel: ChannelName,
        /// The socket the token will be bound to.
        socket_id: SocketId,
        /// Why.
        reason: AuthReason,
    },
    /// The answer for this channel is no longer wanted.
    CancelChannelAuth {
        /// The channel.
        channel: ChannelName,
    },
    /// Tell the application.
    Event(Event<P>),
}

/// Why a token is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenReason {
    /// For a connection that is about to be made.
    Connect,
    /// The one in use is about to end.
    Expiring,
    /// The server refused the last one.
    Rejected,
}

/// Why a channel token is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthReason {
    /// For a new subscription.
    Subscribe,
    /// For a subscription that comes back.
    Resubscribe,
    /// The server did not take the last one.
    Expired,
}

impl TokenReason {
    /// The word that JavaScript has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Expiring => "expiring",
            Self::Rejected => "rejected",
        }
    }
}

impl AuthReason {
    /// The word that JavaScript has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Resubscribe => "resubscribe",
            Self::Expired => "expired",
        }
    }
}
