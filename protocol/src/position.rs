//! Positions: which message of a channel, told so that a gap or a rewritten history is always noticed.
//!
//! Offsets rise by exactly 1 within an epoch. Every message carries a tag, which names all messages up to it, and, between
//! servers, the tag of the message before it: two histories that disagree can never be taken for one another, even when they
//! reuse offsets and have messages in common.
//!
//! ```
//! use fanfare_protocol::{Epoch, Link, Position, Tag};
//!
//! let seen = Position { epoch: Epoch(7), offset: 12, tag: Tag(0xa) };
//! let next = Position { epoch: Epoch(7), offset: 13, tag: Tag(0xb) };
//! assert_eq!(seen.link(next, Some(Tag(0xa))), Link::Next);
//! assert_eq!(seen.link(seen, None), Link::Duplicate);
//! assert_eq!(seen.link(Position { offset: 15, ..next }, None), Link::Gap { from: 13, to: 14 });
//! // The same offset with another tag, or the next offset after another message: history was rewritten.
//! assert_eq!(seen.link(Position { tag: Tag(0xc), ..seen }, None), Link::Diverged);
//! assert_eq!(seen.link(next, Some(Tag(0xf))), Link::Diverged);
//! ```

use core::fmt;

/// The largest offset: JavaScript and Lua count exactly up to here.
pub const OFFSET_MAX: u64 = (1 << 53) - 1;

macro_rules! hex_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl core::str::FromStr for $name {
            type Err = PositionError;
            fn from_str(text: &str) -> Result<Self, PositionError> {
                match parse_hexadecimal(text) {
                    Some(number) if text.len() <= 16 => Ok(Self(number as u64)),
                    _ => Err(PositionError::NotHexadecimal),
                }
            }
        }

        #[cfg(feature = "json")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "json")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_number! {
    /// One life of a channel's history: random, new whenever the history was lost. On the wire 1 to 16 hexadecimal digits.
    Epoch
}

hex_number! {
    /// A name of all messages of an epoch up to one; `0` stands before the first message. On the wire 1 to 16 hexadecimal digits.
    Tag
}

/// The number that 1 to 32 lower-case hexadecimal digits write.
pub(crate) fn parse_hexadecimal(text: &str) -> Option<u128> {
    if !matches!(text.len(), 1..=32) {
        return None;
    }
    let mut number = 0;
    for byte in text.bytes() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u128::from(digit);
    }
    Some(number)
}

/// Why a text or number is not part of a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// An epoch or a tag is not 1 to 16 lower-case hexadecimal digits.
    #[error("an epoch or tag is 1 to 16 lower-case hexadecimal digits")]
    NotHexadecimal,
}

/// Which message of a channel: `{"epoch":"…","offset":12,"tag":"…"}`.
///
/// Offset 0 with tag 0 is the position before the first message of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
pub struct Position {
    /// The life of the history that the offset counts in.
    pub epoch: Epoch,
    /// Rises by exactly 1 with every message of the epoch; below 2^53.
    pub offset: u64,
    /// The name of all messages up to this offset.
    pub tag: Tag,
}

/// How a message's position follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is exactly the next message.
    Next,
    /// It was seen before.
    Duplicate,
    /// Messages are missing in between, both ends included.
    Gap {
        /// The first missing offset.
        from: u64,
        /// The last missing offset.
        to: u64,
    },
    /// It belongs to another history.
    Diverged,
}

impl Position {
    /// The position before the first message of an epoch.
    #[must_use]
    pub const fn start(epoch: Epoch) -> Self {
        Self {
            epoch,
            offset: 0,
            tag: Tag(0),
        }
    }

    /// How `next` follows `self`, the last position seen.
    ///
    /// `previous` is the tag that `next` says came before it; who is not told it (a client: its node has checked the chain)
    /// passes `None`.
    #[must_use]
    pub fn link(&self, next: Self, previous: Option<Tag>) -> Link {
        if next.epoch != self.epoch {
            return Link::Diverged;
        }
        if self.offset.checked_add(1) == Some(next.offset) {
            return if previous.is_none_or(|tag| tag == self.tag) {
                Link::Next
            } else {
                Link::Diverged
            };
        }
        if next.offset > self.offset {
            return Link::Gap {
                from: self.offset + 1,
                to: next.offset - 1,
            };
        }
        if next.offset == self.offset && next.tag != self.tag {
            return Link::Diverged;
        }
        Link::Duplicate
    }
}
