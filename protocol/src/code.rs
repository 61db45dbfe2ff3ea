//! Every number a peer can be told, in one table.
//!
//! Close codes and the codes of `disconnect` act by range: 4000–4099 end the connection for good, 4100–4199 ask for a
//! reconnect with backoff, 4200–4299 for one at once. 4300–4399, and 4001, are errors of one command: the connection lives on.
//! The ranges are Pusher's where they overlap (Pusher Channels protocol 7, *error codes*).

/// What a client does when it is told a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// The connection ended for good.
    Stop,
    /// Reconnect with backoff.
    Backoff,
    /// Reconnect at once, or when the server said.
    Immediate,
    /// One command failed; the connection lives on.
    Command,
}

impl Disposition {
    /// What to do after a WebSocket close code, known or not.
    ///
    /// Standard codes (1000–1015) and whatever a proxy invents are worth a retry with backoff: only 4000–4099 stop a client.
    #[must_use]
    pub const fn of_close(code: u16) -> Self {
        match code {
            4000..=4099 => Self::Stop,
            4200..=4299 => Self::Immediate,
            _ => Self::Backoff,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal, $disposition:ident, retry $retry:literal, token $token:literal, $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $constant: Self = Self {
                number: $number, name: $name, text: $text, disposition: Disposition::$disposition, retry: $retry, token: $token,
            };)*

            /// The whole table, ordered by number.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];

            /// [`Code::may_retry`] of a number; false for one that is not in the table. A program that asks no more of the
            /// table does not carry it.
            #[must_use]
            pub const fn number_may_retry(number: u16) -> bool {
                match number {
                    $($number => $retry,)*
                    _ => false,
                }
            }

            /// [`Code::needs_token`] of a number; false for one that is not in the table.
            #[must_use]
            pub const fn number_needs_token(number: u16) -> bool {
                match number {
                    $($number => $token,)*
                    _ => false,
                }
            }
        }
    };
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    number: u16,
    name: &'static str,
    text: &'static str,
    disposition: Disposition,
    retry: bool,
    token: bool,
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.number
    }

    /// The name in logs, metrics and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The sentence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.text
    }

    /// What a client does about it.
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        self.disposition
    }

    /// Whether the same command may succeed later.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        self.retry
    }

    /// Whether the client needs a new token before it tries again.
    #[must_use]
    pub const fn needs_token(self) -> bool {
        self.token
    }

    /// The row of a number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number == number)
    }
}

codes! {
    /// The peer broke the protocol in a way that makes going on pointless.
    PROTOCOL_ERROR = 4000, "protocol_error", Stop, retry false, token false, "the peer broke the protocol";
    /// A message's `type` is not known.
    UNKNOWN_TYPE = 4001, "unknown_type", Command, retry false, token false, "unknown message type";
    /// The credentials of the connection were refused.
    CREDENTIALS_REFUSED = 4003, "credentials_refused", Stop, retry false, token true, "the credentials were refused";
    /// The application ended the connection.
    DISCONNECTED = 4005, "disconnected", Stop, retry false, token false, "the application ended this connection";
    /// The client did not read fast enough; it recovers after reconnecting.
    SLOW_CONSUMER = 4100, "slow_consumer", Backoff, retry true, token false, "too much data was waiting to be read";
    /// The server has no room for another connection.
    OVER_CAPACITY = 4101, "over_capacity", Backoff, retry true, token false, "the server has no room for this connection";
    /// Nothing was heard from the client for too long.
    STALE = 4102, "stale", Backoff, retry true, token false, "nothing was received for too long";
    /// Something failed on the server.
    INTERNAL_ERROR = 4103, "internal_error", Backoff, retry true, token false, "something failed on the server";
    /// The client did not authenticate in time.
    AUTHENTICATION_TIMEOUT = 4104, "authentication_timeout", Backoff, retry true, token true, "no credentials arrived in time";
    /// The token ended and no new one arrived.
    TOKEN_EXPIRED = 4105, "token_expired", Backoff, retry true, token true, "the token has expired";
    /// The client kept sending commands far above the limit.
    FLOODING = 4106, "flooding", Backoff, retry true, token false, "commands kept arriving far above the limit";
    /// The server is going away; another one takes over.
    SHUTTING_DOWN = 4200, "shutting_down", Immediate, retry true, token false, "the server is shutting down";
    /// A message is not a JSON object of a known shape.
    BAD_MESSAGE = 4300, "bad_message", Command, retry false, token false, "the message is not a valid command";
    /// The command needs an authenticated connection.
    NOT_AUTHENTICATED = 4301, "not_authenticated", Command, retry false, token true, "authenticate first";
    /// The authorizer said no.
    FORBIDDEN = 4302, "forbidden", Command, retry false, token false, "not allowed";
    /// The channel token is missing, altered, expired or made for something else.
    INVALID_AUTH = 4303, "invalid_auth", Command, retry true, token false, "the channel token is not valid";
    /// A channel name is outside the grammar.
    BAD_CHANNEL = 4304, "bad_channel", Command, retry false, token false, "the channel name is not valid";
    /// An event name is outside the grammar or reserved.
    BAD_EVENT = 4305, "bad_event", Command, retry false, token false, "the event name is not valid";
    /// The payload is above the limit.
    PAYLOAD_TOO_LARGE = 4306, "payload_too_large", Command, retry false, token false, "the payload is too large";
    /// Too many commands in a short time.
    RATE_LIMITED = 4307, "rate_limited", Command, retry true, token false, "too many commands, slow down";
    /// The connection has as many channels as it may.
    TOO_MANY_CHANNELS = 4308, "too_many_channels", Command, retry false, token false, "too many channels on this connection";
    /// The connection is already subscribed.
    ALREADY_SUBSCRIBED = 4309, "already_subscribed", Command, retry false, token false, "already subscribed to this channel";
    /// The connection is not subscribed.
    NOT_SUBSCRIBED = 4310, "not_subscribed", Command, retry false, token false, "not subscribed to this channel";
    /// The channel's rule forbids client events.
    PUBLISH_NOT_ALLOWED = 4311, "publish_not_allowed", Command, retry false, token false, "clients may not publish here";
    /// The channel keeps no history.
    NO_HISTORY = 4312, "no_history", Command, retry false, token false, "the channel keeps no history";
    /// The channel is not a presence channel.
    NO_PRESENCE = 4313, "no_presence", Command, retry false, token false, "the channel has no presence";
    /// The token given to refresh a connection was refused; the old one still counts.
    TOKEN_REFUSED = 4314, "token_refused", Command, retry false, token true, "the token was refused";
    /// The engine or the authorizer did not answer in time.
    UNAVAILABLE = 4315, "unavailable", Command, retry true, token false, "temporarily unavailable, try again";
    /// A publish may or may not have happened; repeat it with the same key.
    UNKNOWN_OUTCOME = 4316, "unknown_outcome", Command, retry true, token false, "it is not known whether this was accepted";
    /// The server has no event bus that takes events from clients.
    NO_EVENT_BUS = 4317, "no_event_bus", Command, retry false, token false, "this server takes no events from clients";
    /// The server removed the subscription.
    REMOVED = 4318, "removed", Command, retry false, token false, "the server ended this subscription";
    /// The command's input queue on the server is full.
    BUSY = 4319, "busy", Command, retry true, token false, "too many commands are still under way";
    /// The connection published too many bytes in a short time.
    PUBLISH_RATE = 4322, "publish_rate", Command, retry true, token false, "too many bytes published, slow down";
    /// All clients together published too many bytes on a channel in a short time.
    CHANNEL_RATE = 4323, "channel_rate", Command, retry true, token false, "too many bytes published on this channel, slow down";
    /// The user's connections, or those of its address, read too much in a short time.
    READ_RATE = 4324, "read_rate", Command, retry true, token false, "too much was read, slow down";
    /// The server has too many reads under way.
    READS_BUSY = 4325, "reads_busy", Command, retry true, token false, "too many reads are under way on this server";
    /// The channel token names another user than the one the connection belongs to.
    OTHER_USER = 4327, "other_user", Command, retry false, token false, "this connection belongs to another user";
    /// The channel's rule forbids members to change their own info.
    PRESENCE_UPDATE_NOT_ALLOWED = 4330, "presence_update_not_allowed", Command, retry false, token false, "members may not change their info here";
}
