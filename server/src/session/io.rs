//! Everything that can go into a session, and everything that can come out.

use std::time::Duration;

use fanfare_protocol::json::DecodeError;
use fanfare_protocol::{
    ChannelName, Code, EventName, IdempotencyKey, Position, RawJson, Reply, Request, ServerMessage,
    Subscribe,
};

use crate::auth::{Identity, Token};
use crate::clock::Instant;
use crate::delivery::Departure;
use crate::sessions::Control;

/// Names one effect that is under way.
pub(crate) type OpId = u64;

/// What goes into a session.
#[derive(Debug)]
pub(crate) enum Input {
    /// A command arrived.
    Command(Request),
    /// A message arrived that is not a command.
    Undecodable(DecodeError),
    /// A binary message arrived.
    Binary,
    /// A control frame arrived, or a part of a message that is not the last one.
    Frame,
    /// Anything at all arrived.
    Heard,
    /// The rest of the server asks for something.
    Control(Control),
    /// An effect has ended.
    Done(OpId, Outcome),
    /// The outbox overflowed.
    Slow,
    /// A deadline has passed.
    TimedOut,
}

/// What comes out of a session.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a message.
    Send(ServerMessage),
    /// Send a WebSocket ping.
    Ping,
    /// Start an effect; exactly one [`Input::Done`] answers it.
    Do(OpId, Effect),
    /// Give up a channel's membership, with a last message.
    Leave {
        /// The channel.
        channel: ChannelName,
        /// What the client is told, where it is told anything.
        farewell: Option<ServerMessage>,
    },
    /// The connection belongs to a user now: the handshake is of no more use.
    Identified,
    /// Close the connection.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// A sentence for the client.
        reason: String,
    },
}

/// What a session wants done by the world outside.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Judge a token. Answered by [`Outcome::Authenticated`] or [`Outcome::Refused`].
    Authenticate(Token),
    /// Authorize, join, read, go live. Answered by [`Outcome::Subscribed`] or [`Outcome::Refused`].
    Subscribe(Box<Joining>),
    /// Tell a presence channel that this connection left. Answered by [`Outcome::Accepted`].
    LeavePresence {
        /// The channel.
        channel: ChannelName,
        /// How.
        departure: Departure,
    },
    /// Publish a client event. Answered by [`Outcome::Replied`] or [`Outcome::Refused`].
    Publish {
        /// The command's id.
        request: Option<u64>,
        /// Where to.
        channel: ChannelName,
        /// The event's name.
        event: EventName,
        /// The payload.
        data: RawJson,
        /// Makes a repetition harmless.
        key: Option<IdempotencyKey>,
    },
    /// Show other info of this connection to a presence channel. Answered as `Publish`.
    UpdatePresence {
        /// The command's id.
        request: Option<u64>,
        /// The channel.
        channel: ChannelName,
        /// What is shown.
        info: RawJson,
    },
    /// Read a presence channel's members. Answered as `Publish`.
    ReadPresence {
        /// The command's id.
        request: u64,
        /// The channel.
        channel: ChannelName,
    },
    /// Read past events. Answered as `Publish`.
    ReadHistory {
        /// The command's id.
        request: u64,
        /// The channel.
        channel: ChannelName,
        /// Only what came after.
        since: Option<Position>,
        /// At most so many.
        limit: Option<u32>,
    },
}

/// A subscription that is asked for.
#[derive(Debug)]
pub(crate) struct Joining {
    /// The command's id.
    pub(crate) request: Option<u64>,
    /// The command.
    pub(crate) subscribe: Subscribe,
    /// What allows it.
    pub(crate) permission: Permission,
    /// The info that the connection shows, where that is not what the server knows of it.
    pub(crate) info: Option<RawJson>,
}

/// What allows a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// A channel token or the authorizer, which has to be asked.
    Required {
        /// The application removed the connection from the channel at this time, in milliseconds since the Unix epoch: a
        /// channel token that may be older does not count.
        voided_until: Option<u64>,
    },
    /// The server itself wants it.
    Granted,
    /// The subscription is live: it only moves to another position. Its members are not told.
    Held {
        /// When the permission ends.
        expires_at: Option<Instant>,
    },
}

/// How an effect ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A token was accepted.
    Authenticated {
        /// Who it speaks of.
        identity: Identity,
        /// When it ends, on this process's clock.
        ends_at: Option<Instant>,
    },
    /// The subscription is live and its reply is out.
    Subscribed {
        /// When the permission ends.
        expires_at: Option<Instant>,
        /// The info that the server knows of the member, where the member may show other info.
        joined_info: Option<RawJson>,
    },
    /// A reply is ready.
    Replied(Box<Reply>),
    /// It is done, and nobody asked for a reply.
    Accepted,
    /// It was refused, or failed.
    Refused(Refusal),
}

/// Why a command came to nothing.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// A sentence for the client, in place of the code's own.
    pub(crate) text: Option<String>,
    /// When the same command may succeed, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: Code) -> Self {
        Self {
            code,
            text: None,
            retry_after: None,
        }
    }

    pub(crate) fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// [`Refusal::retry_after`] as the wire has it, rounded up: who comes back a part of a millisecond too early is refused again.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        let rounded_up = |wait: Duration| wait.as_micros().div_ceil(1_000);
        let wait_ms = self.retry_after.map(rounded_up)?;
        Some(u64::try_from(wait_ms).unwrap_or(u64::MAX).max(1))
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(Code::UNAVAILABLE)
    }

    pub(crate) fn invalid_auth(text: impl Into<String>) -> Self {
        Self::new(Code::INVALID_AUTH).with_text(text)
    }
}
