//! What can go wrong, as the application hears it.

use alloc::string::String;
use core::fmt;

use fanfare_protocol::Code;

/// Why something failed. No error carries a payload or a token; sentences are the server's or the application's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError<T = String> {
    /// The server refused a command.
    Server {
        /// The number from the table of codes.
        code: u16,
        /// The server's sentence.
        text: T,
        /// Whether the same command may succeed later.
        retry: bool,
        /// When to retry, in milliseconds from the reply.
        retry_after: Option<u64>,
    },
    /// The connection ended.
    Transport {
        /// The WebSocket close code.
        code: u16,
        /// The reason given with it.
        reason: T,
    },
    /// No greeting, or no answer to the credentials, arrived in time.
    HandshakeTimeout,
    /// Nothing was heard after a ping.
    PingTimeout,
    /// The server said something that is not this protocol.
    Protocol,
    /// The credentials were refused, by the server or by the token provider.
    Unauthorized {
        /// The server's number for it, where it was the server.
        code: Option<u16>,
        /// Why, for people.
        reason: Option<T>,
    },
    /// The token provider failed or did not answer in time.
    Token {
        /// Why, for people.
        reason: Option<T>,
    },
    /// The auth endpoint, or the application in its place, refused the channel.
    AuthForbidden {
        /// The HTTP status.
        status: u16,
        /// Why, for people.
        reason: Option<T>,
    },
    /// No channel token could be had.
    AuthFailed {
        /// The HTTP status, where the endpoint answered.
        status: Option<u16>,
        /// Why, for people.
        reason: Option<T>,
    },
    /// The auth endpoint did not answer in time.
    AuthTimeout,
    /// The server did not answer a question in time.
    Timeout,
    /// Whether a publish was accepted is not known: an attempt that may have been was not answered, and no later attempt with the
    /// same key has told. Publish it again with the same key only, or it may come twice.
    UnknownOutcome,
    /// The request waited too long for a connection and was never sent.
    Expired,
    /// Too many requests, or too many bytes of them, are waiting.
    QueueFull,
    /// The payload is above what the server takes.
    PayloadTooLarge {
        /// The length of its frame.
        bytes: u64,
        /// The longest frame that the server takes.
        bytes_max: u64,
    },
    /// The server joins the client to more channels than [`Options::server_channels_max`](crate::Options::server_channels_max).
    TooManyJoins {
        /// The limit.
        channels_max: usize,
    },
    /// More channels are wanted than the server allows on one connection.
    TooManyChannels {
        /// The limit.
        channels_max: u64,
    },
    /// The channel is subscribed already, and options would have no effect.
    AlreadySubscribed,
    /// The client was disconnected.
    Closed,
    /// The request was aborted; a publish may have happened.
    Aborted,
}

impl ClientError {
    /// A short name that programs can compare: the `code` of the JavaScript error.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Server { code, .. } => match *code {
                code if code == Code::RATE_LIMITED.number()
                    || code == Code::PUBLISH_RATE.number()
                    || code == Code::CHANNEL_RATE.number()
                    || code == Code::READ_RATE.number() =>
                {
                    "rate-limited"
                }
                code if code == Code::PAYLOAD_TOO_LARGE.number() => "payload-too-large",
                _ => "rejected",
            },
            Self::Transport { .. } => "transport",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::PingTimeout => "ping-timeout",
            Self::Protocol => "protocol",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Token { .. } => "token",
            Self::AuthForbidden { .. } => "auth-forbidden",
            Self::AuthFailed { .. } => "auth-http",
            Self::AuthTimeout => "auth-timeout",
            Self::Timeout => "ack-timeout",
            Self::UnknownOutcome => "unknown-outcome",
            Self::Expired => "expired",
            Self::QueueFull => "queue-full",
            Self::PayloadTooLarge { .. } => "payload-too-large",
            Self::TooManyJoins { .. } => "overflow",
            Self::TooManyChannels { .. } => "too-many-channels",
            Self::AlreadySubscribed => "already-subscribed",
            Self::Closed => "closed",
            Self::Aborted => "aborted",
        }
    }

    /// A sentence for people, the same for all errors of a kind. [`Display`](fmt::Display) has what else is known behind it.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Server { text, .. } => text,
            Self::Transport { .. } => "the connection was lost",
            Self::HandshakeTimeout => "the server did not greet in time",
            Self::PingTimeout => "the server did not answer a ping",
            Self::Protocol => "the server sent something that is not this protocol",
            Self::Unauthorized { .. } => "the credentials were refused",
            Self::Token { .. } => "no token could be had",
            Self::AuthForbidden { .. } => "this channel was refused",
            Self::AuthFailed { .. } => "no channel token could be had",
            Self::AuthTimeout => "the auth endpoint did not answer in time",
            Self::Timeout => "the server did not answer in time",
            Self::UnknownOutcome => "it is not known whether this was accepted",
            Self::Expired => "the request waited too long for a connection",
            Self::QueueFull => "too many requests are waiting",
            Self::PayloadTooLarge { .. } => "the payload is larger than the server takes",
            Self::TooManyJoins { .. } => {
                "the server joins this client to more channels than it takes"
            }
            Self::TooManyChannels { .. } => "more channels are wanted than the server allows",
            Self::AlreadySubscribed => {
                "the channel is subscribed already, so that options would have no effect"
            }
            Self::Closed => "the client is disconnected",
            Self::Aborted => "the request was aborted",
        }
    }

    /// Whether the same thing may succeed later without a change. Never so for an unknown outcome: without the same key, another
    /// publish may be a second one.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Server { retry, .. } => *retry,
            Self::Transport { .. }
            | Self::HandshakeTimeout
            | Self::PingTimeout
            | Self::Token { .. }
            | Self::AuthFailed { .. }
            | Self::AuthTimeout
            | Self::Timeout
            | Self::Expired
            | Self::QueueFull => true,
            Self::UnknownOutcome
            | Self::Protocol
            | Self::Unauthorized { .. }
            | Self::AuthForbidden { .. }
            | Self::PayloadTooLarge { .. }
            | Self::TooManyJoins { .. }
            | Self::TooManyChannels { .. }
            | Self::AlreadySubscribed
            | Self::Closed
            | Self::Aborted => false,
        }
    }

    /// The number and the sentence that came with it: a close code, the server's code, or an HTTP status.
    fn details(&self) -> (Option<u16>, Option<&str>) {
        match self {
            Self::Transport { code, reason } => (Some(*code), Some(reason)),
            Self::Unauthorized { code, reason } => (*code, reason.as_deref()),
            Self::Token { reason } => (None, reason.as_deref()),
            Self::AuthForbidden { status, reason } => (Some(*status), reason.as_deref()),
            Self::AuthFailed { status, reason } => (*status, reason.as_deref()),
            _ => (None, None),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        if let Self::PayloadTooLarge { bytes, bytes_max } = self {
            return write!(
                f,
                ": a message has at most {bytes_max} bytes, this one has {bytes}"
            );
        }
        let (number, reason) = self.details();
        if let Some(number) = number {
            write!(f, " ({number})")?;
        }
        match reason.filter(|reason| !reason.is_empty()) {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for ClientError {}
