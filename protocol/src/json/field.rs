//! Every field name of the wire, in one table.

macro_rules! fields {
    ($($variant:ident = $name:literal,)*) => {
        /// The name of a field.
        ///
        /// A number for a name: a reader may keep an array indexed by `field as usize`, and a browser's the names as ready strings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Field {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
        }

        impl Field {
            /// All of them; `ALL[field as usize] == field`.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                const NAMES: &[&str] = &[$($name),*];
                NAMES[self as usize]
            }

            /// The field of a name; `None` for a name that no dialect uses.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

fields! {
    Action = "action",
    After = "after",
    Auth = "auth",
    Channel = "channel",
    ChannelData = "channel_data",
    Code = "code",
    ConnectionId = "connectionId",
    Count = "count",
    Data = "data",
    Epoch = "epoch",
    Error = "error",
    Event = "event",
    EventId = "event_id",
    Events = "events",
    ExpiresAt = "expires_at",
    From = "from",
    Id = "id",
    Info = "info",
    Key = "key",
    Limit = "limit",
    MaxPayloadSize = "max_payload_size",
    Members = "members",
    Offset = "offset",
    PingInterval = "ping_interval",
    Position = "position",
    Presence = "presence",
    Protocol = "protocol",
    Reason = "reason",
    Reconnect = "reconnect",
    Recovered = "recovered",
    Retry = "retry",
    RetryAfter = "retry_after",
    Rewind = "rewind",
    ServerTime = "server_time",
    Since = "since",
    SocketId = "socket_id",
    Tag = "tag",
    Timestamp = "timestamp",
    To = "to",
    Token = "token",
    Type = "type",
    UserId = "user_id",
    UserIdCamel = "userId",
}
