//! What a history can be found guilty of.

use std::fmt;

use fanfare_protocol::{ChannelName, Position};

/// A promise that a history breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where it shows; none where it shows between clients.
    pub client: Option<String>,
    /// On which channel.
    pub channel: ChannelName,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// A message came at a place in the order that is not its own.
    OutOfOrder {
        /// The position before it.
        after: Position,
        /// Its own.
        got: Position,
    },
    /// A message came before another that had been accepted before it was published.
    Overtaken {
        /// The message that came too late.
        late: String,
        /// The one that came before it.
        before: String,
    },
    /// A message came twice.
    Twice {
        /// The message.
        payload: String,
    },
    /// Offsets are missing and nobody said so.
    SilentGap {
        /// The position before the gap.
        after: Position,
        /// The position behind it.
        got: Position,
    },
    /// An accepted message never came and nobody said so.
    Missing {
        /// The message.
        payload: String,
    },
    /// One position is said to hold two messages.
    Disagreement {
        /// The position.
        at: Position,
        /// One message.
        one: String,
        /// The other.
        other: String,
    },
    /// Two clients go on with histories that differ, and neither was told to start anew.
    Diverged {
        /// The position in one.
        one: Position,
        /// The position in the other.
        other: Position,
    },
    /// A message came that nobody published there.
    Phantom {
        /// The message.
        payload: String,
    },
    /// A message came to a client that had to be left out.
    NotExcluded {
        /// The message.
        payload: String,
    },
    /// A message came to a client that was not subscribed.
    Uninvited {
        /// The message.
        payload: String,
    },
}

/// The promises, by the numbers of the guarantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Order, and no message twice.
    I1,
    /// No silent gap.
    I2,
    /// All agree on what was said where.
    I3,
    /// Nothing that was not said.
    I4,
}

impl Violation {
    /// The promise that it breaks.
    #[must_use]
    pub fn invariant(&self) -> Invariant {
        match self.wrong {
            Wrong::OutOfOrder { .. } | Wrong::Overtaken { .. } | Wrong::Twice { .. } => {
                Invariant::I1
            }
            Wrong::SilentGap { .. } | Wrong::Missing { .. } => Invariant::I2,
            Wrong::Disagreement { .. } | Wrong::Diverged { .. } => Invariant::I3,
            Wrong::Phantom { .. } | Wrong::NotExcluded { .. } | Wrong::Uninvited { .. } => {
                Invariant::I4
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_deref().unwrap_or("between clients");
        write!(f, "{:?}, {client} on {}: ", self.invariant(), self.channel)?;
        match &self.wrong {
            Wrong::OutOfOrder { after, got } => write!(f, "{got:?} came after {after:?}"),
            Wrong::Overtaken { late, before } => {
                write!(f, "{late} was accepted first and came after {before}")
            }
            Wrong::Twice { payload } => write!(f, "{payload} came twice"),
            Wrong::SilentGap { after, got } => {
                write!(f, "{got:?} came after {after:?}, and no word of a gap")
            }
            Wrong::Missing { payload } => {
                write!(
                    f,
                    "{payload} was accepted and never came, and no word of a gap"
                )
            }
            Wrong::Disagreement { at, one, other } => {
                write!(f, "{at:?} holds both {one} and {other}")
            }
            Wrong::Diverged { one, other } => {
                write!(f, "one goes on from {one:?}, another from {other:?}")
            }
            Wrong::Phantom { payload } => write!(f, "{payload} was never published here"),
            Wrong::NotExcluded { payload } => write!(f, "{payload} had to leave it out"),
            Wrong::Uninvited { payload } => write!(f, "{payload} came while not subscribed"),
        }
    }
}
