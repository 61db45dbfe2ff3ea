//! The id of a connection.

use core::fmt;

use crate::name::NameError;
use crate::position::parse_hexadecimal;

/// The id of one connection: 128 random bits from the server, never reused, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(u128);

impl SocketId {
    /// Takes 128 bits, which must come from a cryptographic source: channel tokens are bound to them.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::str::FromStr for SocketId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match parse_hexadecimal(text) {
            Some(bits) if text.len() == 32 => Ok(Self(bits)),
            _ => Err(NameError::NotASocketId),
        }
    }
}

#[cfg(feature = "json")]
impl serde::Serialize for SocketId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "json")]
impl<'de> serde::Deserialize<'de> for SocketId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
