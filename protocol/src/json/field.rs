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
    BytesBurst = "bytes_burst",
    BytesPerSecond = "bytes_per_second",
    Channel = "channel",
    ChannelData = "channel_data",
    Channels = "channels",
    ChannelsMax = "channels_max",
    Code = "code",
    CommandsBurst = "commands_burst",
    CommandsPerSecond = "commands_per_second",
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
    IdempotencyWindow = "idempotency_window",
    Info = "info",
    Key = "key",
    Limit = "limit",
    Limits = "limits",
    MaxPayloadSize = "max_payload_size",
    Members = "members",
    MessageBytesMax = "message_bytes_max",
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
