//! Names: parsed once, then valid everywhere and cheap to clone.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::json::StandIn;
pub use crate::socket_id::SocketId;

/// The longest channel name, in bytes.
pub const CHANNEL_NAME_BYTES_MAX: usize = 200;
/// The longest event name, in bytes.
pub const EVENT_NAME_BYTES_MAX: usize = 200;
/// The longest user id, in bytes.
pub const USER_ID_BYTES_MAX: usize = 128;
/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("the {what} must not be empty")]
    Empty {
        /// Which name was attempted.
        what: &'static str,
    },
    /// The text is longer than the limit.
    #[error("the {what} may have at most {bytes_max} bytes, this one has {bytes}")]
    TooLong {
        /// Which name was attempted.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The text holds a character outside the grammar.
    #[error("the {what} must not contain {} (byte {at})", Shown(*character))]
    BadCharacter {
        /// Which name was attempted.
        what: &'static str,
        /// The first offending character.
        character: char,
        /// Its byte index.
        at: usize,
    },
    /// The text is not 32 hexadecimal digits.
    #[error("a socket id is 32 lower-case hexadecimal digits")]
    NotASocketId,
}

/// A character as an error text shows it: never one that could act on a terminal or a log.
struct Shown(char);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ' ' => f.write_str("a space"),
            '!'..='~' => write!(f, "`{}`", self.0),
            other => write!(f, "U+{:04X}", u32::from(other)),
        }
    }
}

impl From<core::convert::Infallible> for NameError {
    fn from(never: core::convert::Infallible) -> Self {
        match never {}
    }
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl StandIn for $name {
            fn stand_in() -> Self {
                Self("".into())
            }
        }


        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl core::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl core::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl TryFrom<&String> for $name {
            type Error = NameError;
            fn try_from(text: &String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        #[cfg(feature = "json")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        #[cfg(feature = "json")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_name! {
    /// The name of a channel: 1 to 200 bytes of `[A-Za-z0-9_\-=@,.;:]`.
    ///
    /// The prefix decides the [kind](ChannelName::kind).
    ///
    /// ```
    /// use fanfare_protocol::{ChannelKind, ChannelName};
    ///
    /// let room = ChannelName::new("presence-chat.room-1")?;
    /// assert_eq!(room.kind(), ChannelKind::Presence);
    /// assert!(ChannelName::new("no spaces").is_err());
    /// # Ok::<(), fanfare_protocol::NameError>(())
    /// ```
    ChannelName
}

text_name! {
    /// The name of an event: 1 to 200 bytes of printable ASCII (`order.created`, `new-feature`).
    EventName
}

text_name! {
    /// Who a connection belongs to: 1 to 128 bytes without control characters.
    ///
    /// Any printable text goes (`42`, `ann@example.org`, `auth0|5f7c`), as long as its personal channel name still fits into
    /// 200 bytes; see [`ChannelName::user`].
    UserId
}

text_name! {
    /// The key by which a repeated publish is recognised: 1 to 128 bytes of printable ASCII.
    IdempotencyKey
}

/// What a channel's prefix says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// No prefix: anyone may subscribe.
    Public,
    /// `private-`: a subscription needs authorization.
    Private,
    /// `presence-`: private, and its members are known to each other.
    Presence,
    /// `user:`: one user's own channel, joined by the server alone.
    Personal,
}

impl ChannelName {
    /// Parses a channel name.
    ///
    /// # Errors
    /// When the text is empty, too long, or holds a character outside the grammar.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(
            "channel name",
            text,
            CHANNEL_NAME_BYTES_MAX,
            is_channel_character,
        )
        .map(Self)
    }

    /// The personal channel of a user, `user:<id>`.
    ///
    /// Characters outside the channel grammar, and `=`, are written as `=` and two hexadecimal digits per byte, so two
    /// users never share a channel (`auth0|7` has `user:auth0=7C7`).
    #[must_use]
    pub fn user(user: &UserId) -> Self {
        let mut name = String::from("user:");
        push_channel_safe(user.as_str(), &mut name);
        Self(name.into())
    }

    /// The channel of a chat, `chat:<id>`.
    ///
    /// # Errors
    /// When the id holds a character outside the channel grammar or makes the name too long.
    pub fn chat(id: impl fmt::Display) -> Result<Self, NameError> {
        Self::of("chat", id)
    }

    /// A channel of one entity, `<kind>:<id>` (`org:abc123`).
    ///
    /// # Errors
    /// When either part holds a character outside the channel grammar or makes the name too long.
    pub fn of(kind: &str, id: impl fmt::Display) -> Result<Self, NameError> {
        Self::new(&format!("{kind}:{id}"))
    }

    /// The `private-` channel of one entity, `private-<kind>.<id>`.
    ///
    /// # Errors
    /// As [`ChannelName::of`].
    pub fn private(kind: &str, id: impl fmt::Display) -> Result<Self, NameError> {
        Self::new(&format!("private-{kind}.{id}"))
    }

    /// The `presence-` channel of one entity, `presence-<kind>.<id>`.
    ///
    /// # Errors
    /// As [`ChannelName::of`].
    pub fn presence(kind: &str, id: impl fmt::Display) -> Result<Self, NameError> {
        Self::new(&format!("presence-{kind}.{id}"))
    }

    /// What the prefix says.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        if self.0.starts_with("private-") {
            ChannelKind::Private
        } else if self.0.starts_with("presence-") {
            ChannelKind::Presence
        } else if self.0.starts_with("user:") {
            ChannelKind::Personal
        } else {
            ChannelKind::Public
        }
    }

    /// The name without the prefix of its kind.
    #[must_use]
    pub fn without_prefix(&self) -> &str {
        let prefix = match self.kind() {
            ChannelKind::Public => "",
            ChannelKind::Private => "private-",
            ChannelKind::Presence => "presence-",
            ChannelKind::Personal => "user:",
        };
        &self.0[prefix.len()..]
    }
}

impl EventName {
    /// A member came to a presence channel.
    pub const MEMBER_ADDED: &'static str = "member_added";
    /// The info of a presence channel's member changed.
    pub const MEMBER_UPDATED: &'static str = "member_updated";
    /// A member left a presence channel.
    pub const MEMBER_REMOVED: &'static str = "member_removed";

    /// Parses an event name.
    ///
    /// # Errors
    /// When the text is empty, too long, or not printable ASCII.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check("event name", text, EVENT_NAME_BYTES_MAX, is_printable_ascii).map(Self)
    }

    /// Whether only the server itself may publish this event.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(
            self.as_str(),
            Self::MEMBER_ADDED | Self::MEMBER_UPDATED | Self::MEMBER_REMOVED
        )
    }
}

impl UserId {
    /// Parses a user id.
    ///
    /// # Errors
    /// When the text is empty, too long, holds a control character, or its personal channel name would be too long.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let checked = check("user id", text, USER_ID_BYTES_MAX, |character| {
            !character.is_control()
        })?;
        let bytes = "user:".len() + channel_safe_bytes(text);
        if bytes > CHANNEL_NAME_BYTES_MAX {
            return Err(NameError::TooLong {
                what: "user id's channel name",
                bytes,
                bytes_max: CHANNEL_NAME_BYTES_MAX,
            });
        }
        Ok(Self(checked))
    }
}

impl IdempotencyKey {
    /// Parses an idempotency key.
    ///
    /// # Errors
    /// When the text is empty, too long, or not printable ASCII.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(
            "idempotency key",
            text,
            IDEMPOTENCY_KEY_BYTES_MAX,
            is_printable_ascii,
        )
        .map(Self)
    }
}

fn check(
    what: &'static str,
    text: &str,
    bytes_max: usize,
    allowed: fn(char) -> bool,
) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > bytes_max {
        return Err(NameError::TooLong {
            what,
            bytes: text.len(),
            bytes_max,
        });
    }
    match text
        .char_indices()
        .find(|&(_, character)| !allowed(character))
    {
        Some((at, character)) => Err(NameError::BadCharacter {
            what,
            character,
            at,
        }),
        None => Ok(text.into()),
    }
}

fn is_channel_character(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '_' | '-' | '=' | '@' | ',' | '.' | ';' | ':')
}

fn is_printable_ascii(character: char) -> bool {
    matches!(character, ' '..='~')
}

fn is_safe(byte: u8) -> bool {
    byte != b'=' && is_channel_character(char::from(byte))
}

fn channel_safe_bytes(text: &str) -> usize {
    let mut bytes = 0;
    for byte in text.bytes() {
        bytes += if is_safe(byte) { 1 } else { 3 };
    }
    bytes
}

fn push_channel_safe(text: &str, safe: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if is_safe(byte) {
            safe.push(char::from(byte));
        } else {
            safe.push('=');
            safe.push(char::from(DIGITS[usize::from(byte >> 4)]));
            safe.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}
