//! What a history can be found guilty of.

use std::fmt;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Position};

/// A promise that a history breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where it shows; none where it shows between clients.
    pub client: Option<String>,
    /// On which channel; none where it belongs to none.
    pub channel: Option<ChannelName>,
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
    /// A message came late to a client that was subscribed all along.
    Late {
        /// The message.
        payload: String,
        /// How long after it was accepted and due.
        by: Duration,
    },
    /// A client was told late that a message was lost.
    ToldLate {
        /// The message.
        payload: String,
        /// How long after it was due.
        by: Duration,
    },
    /// A member came who was there, or went who was not.
    NotInTurn {
        /// Who.
        user: String,
        /// Whether the member came.
        came: bool,
    },
    /// What a client knows of the members from events is not what the server says.
    OtherMembers {
        /// Whom the client knows and the server does not.
        only_known: Vec<String>,
        /// Whom the server knows and the client does not.
        only_told: Vec<String>,
    },
    /// At rest, the members are not those who are there.
    NotTheTruth {
        /// Who is a member and not there.
        only_members: Vec<String>,
        /// Who is there and no member.
        only_there: Vec<String>,
    },
    /// A member was shown too long after the last of their connections.
    Ghost {
        /// Who.
        user: String,
        /// How long after it was due.
        by: Duration,
    },
    /// A member was not shown although they were there.
    Absent {
        /// Who.
        user: String,
        /// How long after it was due.
        by: Duration,
    },
    /// A message came although the permission had ended.
    NotPermitted {
        /// The message.
        payload: String,
        /// How long after the end.
        by: Duration,
    },
    /// Something was not given back.
    NotGivenBack {
        /// What, and whose.
        what: String,
        /// How much there was before.
        before: u64,
        /// How much there is.
        after: u64,
    },
    /// A client was not back in time after the last fault had healed.
    NotBack {
        /// What it is missing.
        what: &'static str,
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
    /// Losses are found in time.
    I5,
    /// Members are those who are there.
    I6,
    /// Nothing without permission.
    I9,
    /// Everything is given back.
    I10,
    /// Everybody is back in time.
    I11,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I9,
        Self::I10,
        Self::I11,
    ];
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
            Wrong::Late { .. } | Wrong::ToldLate { .. } => Invariant::I5,
            Wrong::NotInTurn { .. }
            | Wrong::OtherMembers { .. }
            | Wrong::NotTheTruth { .. }
            | Wrong::Ghost { .. }
            | Wrong::Absent { .. } => Invariant::I6,
            Wrong::NotPermitted { .. } => Invariant::I9,
            Wrong::NotGivenBack { .. } => Invariant::I10,
            Wrong::NotBack { .. } => Invariant::I11,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_deref().unwrap_or("between clients");
        let channel = self
            .channel
            .as_ref()
            .map_or("no channel", ChannelName::as_str);
        let (invariant, wrong) = (self.invariant(), &self.wrong);
        write!(f, "{invariant:?}, {client} on {channel}: {wrong}")
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder { after, got } => write!(f, "{got:?} came after {after:?}"),
            Self::Overtaken { late, before } => {
                write!(f, "{late} was accepted first and came after {before}")
            }
            Self::Twice { payload } => write!(f, "{payload} came twice"),
            Self::SilentGap { after, got } => {
                write!(f, "{got:?} came after {after:?}, and no word of a gap")
            }
            Self::Missing { payload } => {
                write!(
                    f,
                    "{payload} was accepted and never came, and no word of a gap"
                )
            }
            Self::Disagreement { at, one, other } => {
                write!(f, "{at:?} holds both {one} and {other}")
            }
            Self::Diverged { one, other } => {
                write!(f, "one goes on from {one:?}, another from {other:?}")
            }
            Self::Phantom { payload } => write!(f, "{payload} was never published here"),
            Self::NotExcluded { payload } => write!(f, "{payload} had to leave it out"),
            Self::Uninvited { payload } => write!(f, "{payload} came while not subscribed"),
            Self::Late { payload, by } => write!(f, "{payload} came {by:.1?} late"),
            Self::ToldLate { payload, by } => {
                write!(
                    f,
                    "{payload} was lost, and the word of it came {by:.1?} late"
                )
            }
            Self::NotInTurn { user, came: true } => write!(f, "{user} came and was there already"),
            Self::NotInTurn { user, came: false } => write!(f, "{user} went and was not there"),
            Self::OtherMembers {
                only_known,
                only_told,
            } => {
                write!(
                    f,
                    "events leave {only_known:?} more and {only_told:?} less than there are"
                )
            }
            Self::NotTheTruth {
                only_members,
                only_there,
            } => {
                write!(
                    f,
                    "{only_members:?} are members and not there, {only_there:?} there and no members"
                )
            }
            Self::Ghost { user, by } => write!(f, "{user} was shown {by:.1?} too long"),
            Self::Absent { user, by } => {
                write!(f, "{user} was there and not shown, {by:.1?} too long")
            }
            Self::NotPermitted { payload, by } => {
                write!(f, "{payload} came {by:.1?} after the permission had ended")
            }
            Self::NotGivenBack {
                what,
                before,
                after,
            } => {
                write!(f, "{what}: {before} before, {after} after")
            }
            Self::NotBack { what } => write!(f, "no {what} in time after the last fault"),
        }
    }
}
