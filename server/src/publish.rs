//! The only way a message enters.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, NameError};

use crate::delivery::{Publication, Published};
use crate::engine::{Broker, EngineError};
use crate::hub::Hub;
use crate::rules::ChannelRules;

/// Why a publication was not accepted, or not known to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The channel's name is not one.
    #[error("the channel name is not valid")]
    Channel(#[source] NameError),
    /// The event's name is not one.
    #[error("the event name is not valid")]
    Event(#[source] NameError),
    /// The event belongs to the server: `member_added` and `member_removed`.
    #[error("the event name {event} is reserved for the server")]
    Reserved {
        /// The name.
        event: EventName,
    },
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON")]
    Payload(#[source] serde_json::Error),
    /// The payload is above the limit.
    #[error("a payload for {channel} has at most {bytes_max} bytes, this one has {bytes}")]
    PayloadTooLarge {
        /// Where it was to go.
        channel: ChannelName,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More is waiting to be delivered than this node holds; try again.
    #[error("more is waiting to be delivered to {channel} than this server holds, try again")]
    Overloaded {
        /// Where it was to go.
        channel: ChannelName,
    },
    /// The engine did not take it. [`EngineError::Unknown`] means that it may have: repeat it with the same key.
    #[error("the engine did not accept the message for {channel}")]
    Engine {
        /// Where it was to go.
        channel: ChannelName,
        /// What the engine said.
        #[source]
        error: EngineError,
    },
}

/// Checks, then hands to the engine: every road into the system ends here.
pub(crate) struct Publisher {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) rules: Arc<ChannelRules>,
    pub(crate) payload_bytes_max: usize,
    pub(crate) deadline: Duration,
}

impl Publisher {
    /// Publishes what the caller was authorized to publish.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have published; repeat it with the same key.
    pub(crate) async fn publish(
        &self,
        publication: Publication,
    ) -> Result<Published, PublishError> {
        let channel = publication.channel.clone();
        if publication.event.is_reserved() {
            return Err(PublishError::Reserved {
                event: publication.event,
            });
        }
        let bytes = publication.data.len();
        if bytes > self.payload_bytes_max {
            return Err(PublishError::PayloadTooLarge {
                channel,
                bytes,
                bytes_max: self.payload_bytes_max,
            });
        }
        if tokio::time::timeout(self.deadline, self.hub.admit(&channel))
            .await
            .is_err()
        {
            return Err(PublishError::Overloaded { channel });
        }
        let retention = self.rules.retention(&channel);
        match tokio::time::timeout(self.deadline, self.broker.publish(publication, retention)).await
        {
            Ok(Ok(published)) => Ok(published),
            Ok(Err(error)) => Err(PublishError::Engine { channel, error }),
            Err(_) => {
                let error = EngineError::Unknown {
                    engine: "configured",
                    attempted: "publishing",
                };
                Err(PublishError::Engine { channel, error })
            }
        }
    }
}
