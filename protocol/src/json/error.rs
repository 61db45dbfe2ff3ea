//! Why a frame could not be read.

use alloc::string::String;
use alloc::string::ToString as _;
use core::fmt;

use crate::code::Code;
use crate::json::Field;
use crate::message::ErrorMessage;
use crate::name::NameError;
use crate::position::PositionError;

/// A frame, or one message of a batch, that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct DecodeError<E = DecodeProblem> {
    /// The message's `id`, where it has one that can be read.
    pub id: Option<u64>,
    /// What is wrong with it.
    pub problem: E,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeProblem {
    /// The text is not JSON.
    #[error("the frame is not JSON: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// The text is JSON, but not an object.
    #[error("the message is not a JSON object")]
    NotAnObject,
    /// The `type` (in `app-events.v1` from a client: the `action`) is none that this side reads.
    #[error("unknown message type")]
    UnknownType,
    /// A field that must be there is not, or is `null`.
    #[error("{at} is missing")]
    Missing {
        /// Which field.
        at: Place,
    },
    /// A field holds another kind of value.
    #[error("{at} must be {expected}")]
    WrongType {
        /// Which field.
        at: Place,
        /// What belongs there, with its article.
        expected: &'static str,
    },
    /// A field's text is not the name that belongs there.
    #[error("{at} is not valid: {problem}")]
    BadName {
        /// Which field.
        at: Place,
        /// Why not.
        problem: NameError,
    },
    /// A field's text is not the part of a position that belongs there.
    #[error("{at} is not valid: {problem}")]
    BadPosition {
        /// Which field.
        at: Place,
        /// Why not.
        problem: PositionError,
    },
}

/// A field and the field that it is inside of, such as `since.offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The enclosing field; `None` at the top of a message.
    pub within: Option<Field>,
    /// The field.
    pub field: Field,
}

impl DecodeError {
    /// The row of the table of codes that this failure belongs to.
    #[must_use]
    pub const fn code(&self) -> Code {
        match &self.problem {
            DecodeProblem::UnknownType => Code::UNKNOWN_TYPE,
            DecodeProblem::BadName { at, .. } => match at.field {
                Field::Channel => Code::BAD_CHANNEL,
                Field::Event => Code::BAD_EVENT,
                _ => Code::BAD_MESSAGE,
            },
            DecodeProblem::NotJson { .. }
            | DecodeProblem::NotAnObject
            | DecodeProblem::Missing { .. }
            | DecodeProblem::WrongType { .. }
            | DecodeProblem::BadPosition { .. } => Code::BAD_MESSAGE,
        }
    }

    /// The `error` message that tells the sender.
    #[must_use]
    pub fn to_message(&self) -> ErrorMessage {
        ErrorMessage {
            error: self.to_string(),
            ..ErrorMessage::new(self.id, self.code())
        }
    }
}

impl From<DecodeProblem> for DecodeError {
    fn from(problem: DecodeProblem) -> Self {
        Self { id: None, problem }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        if let Some(within) = self.within {
            f.write_str(within.name())?;
            f.write_str(".")?;
        }
        f.write_str(self.field.name())?;
        f.write_str("`")
    }
}
