//! What can go wrong, as a page hears it.

use fanfare_client::ClientError;
use fanfare_protocol::{ChannelName, EventName, NameError};

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client, the server, or the line between them.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A text is not the name that belongs there.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A payload cannot be written as JSON.
    #[error("the payload cannot be sent: {reason}")]
    Encode {
        /// What serde says.
        reason: String,
    },
    /// A payload is not what a listener takes.
    #[error("a payload of `{event}` on `{channel}` is not what its listener takes: {reason}")]
    Decode {
        /// The channel.
        channel: ChannelName,
        /// The event.
        event: EventName,
        /// What serde says.
        reason: String,
    },
}
