//! The only way a message enters.

mod broadcast;
mod doubts;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, NameError};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub(crate) use self::doubts::Doubts;
use crate::cluster::{self, ClusterError, Node};
use crate::config::Limits;
use crate::delivery::{Publication, PublishLevel, Published};
use crate::engine::{Arrival, Engine, EngineError};
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
    /// The event belongs to the server: `member_added`, `member_updated` and `member_removed`.
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
    /// The engine did not take it. [`EngineError::Unknown`] means that it, or an earlier attempt with the same key, may have been
    /// taken: repeat it with that key.
    #[error("the engine did not accept the message for {channel}")]
    Engine {
        /// Where it was to go.
        channel: ChannelName,
        /// What the engine said.
        #[source]
        error: EngineError,
    },
}

impl PublishError {
    /// Whether the publication may have been accepted all the same: publish it again with the same key only, or it may come twice.
    ///
    /// An attempt that may have been stays so until one with the same key is accepted or recognised: no refusal in between says
    /// that it was not.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(
            self,
            Self::Engine {
                error: EngineError::Unknown { .. } | EngineError::LevelNotReached { .. },
                ..
            }
        )
    }
}

/// Publishes and asks the whole cluster: what a job, a command line or another service needs, without HTTP, sockets or clients
/// of its own. Cheap to clone.
///
/// A server's [`Handle`](crate::Handle) is one as well.
///
/// ```
/// use fanfare_server::Publisher;
/// use fanfare_server::engine::Engine;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let events = Publisher::connect(Engine::memory()).await?;
/// events.broadcast("orders", "order.created", &serde_json::json!({ "id": 7 })).await?;
/// events.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Publisher {
    pub(crate) engine: Engine,
    pub(crate) rules: Arc<ChannelRules>,
    /// The connections of this process, where it has any.
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) payload_bytes_max: usize,
    pub(crate) deadline: Duration,
    pub(crate) level: PublishLevel,
    /// What is under way.
    pub(crate) calls: TaskTracker,
    /// Keys whose outcome is unknown.
    pub(crate) doubts: Arc<Doubts>,
}

impl Publisher {
    /// Connects to a cluster through an engine of its own.
    ///
    /// Give it the [rules](Publisher::with_rules) that the servers have, or nothing it publishes is kept.
    ///
    /// # Errors
    /// When the engine does not start.
    pub async fn connect(engine: Engine) -> Result<Self, EngineError> {
        let deliver = Arc::new(|arrival| {
            if let Arrival::NodeRequest { body, reply } = arrival {
                reply.send(cluster::reply_of_publisher(&body));
            }
        });
        engine.broker.start_publishing(deliver).await?;
        let limits = Limits::default();
        Ok(Self {
            engine,
            rules: Arc::default(),
            node: None,
            payload_bytes_max: limits.payload_bytes_max,
            deadline: limits.engine_deadline,
            level: PublishLevel::default(),
            calls: TaskTracker::new(),
            doubts: Arc::default(),
        })
    }

    /// What channels keep: the same rules as on the servers.
    #[must_use]
    pub fn with_rules(mut self, rules: ChannelRules) -> Self {
        self.rules = Arc::new(rules);
        self
    }

    /// Asks, for everything that is published through this value, for more than that the engine has taken it.
    ///
    /// A publication of its own level keeps that.
    #[must_use]
    pub fn with_level(mut self, level: PublishLevel) -> Self {
        self.level = level;
        self
    }

    /// Publishes with everything that can be said about a publication: sender, exception, idempotency key, level.
    ///
    /// The caller was authorized to publish it; every road into the system ends here.
    ///
    /// # Errors
    /// Says what was wrong with the publication, or that the engine did not accept it.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have published; repeat it with the same key.
    pub async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let _call = self.calls.token();
        let channel = publication.channel.clone();
        let attempt = self.doubts.attempt(publication.key_id());
        let outcome = self.try_publish(publication).await;
        match &outcome {
            Ok(_) => attempt.accepted(),
            Err(PublishError::Engine { error, .. }) => match error {
                EngineError::LevelNotReached { .. } => attempt.accepted(),
                EngineError::Unknown { .. } => drop(attempt),
                _ if attempt.refused() => return Err(unknown(channel)),
                _ => {}
            },
            Err(_) if attempt.refused() => return Err(unknown(channel)),
            Err(_) => {}
        }
        outcome
    }

    /// Whether an earlier attempt at this publication may have been accepted.
    pub(crate) fn may_have_published(&self, publication: &Publication) -> bool {
        publication.key_id().is_some_and(|id| self.doubts.has(&id))
    }

    async fn try_publish(&self, mut publication: Publication) -> Result<Published, PublishError> {
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
        if let Some(node) = &self.node
            && timeout(self.deadline, node.hub.admit(&channel))
                .await
                .is_err()
        {
            return Err(PublishError::Overloaded { channel });
        }
        if publication.level == PublishLevel::Accepted {
            publication.level = self.level;
        }
        let deadline = self.deadline + publication.level.timeout();
        let retention = self.rules.retention(&channel);
        let publishing = self.engine.broker.publish(publication, retention);
        match timeout(deadline, publishing).await {
            Ok(Ok(published)) => Ok(published),
            Ok(Err(error)) => Err(PublishError::Engine { channel, error }),
            Err(_) => Err(unknown(channel)),
        }
    }

    /// Waits for what is under way, for five seconds at most, and ends the engine. Calls of other clones fail from then on.
    ///
    /// On a clone of a server's handle it only waits: the engine ends with the server.
    ///
    /// # Errors
    /// [`ClusterError::Unfinished`] when not everything had ended by then.
    pub async fn close(self) -> Result<(), ClusterError> {
        self.calls.close();
        let is_done = timeout(self.deadline, self.calls.wait()).await.is_ok();
        let calls = self.calls.len();
        self.calls.reopen();
        if self.node.is_none()
            && timeout(self.deadline, self.engine.broker.close())
                .await
                .is_err()
        {
            tracing::warn!("the engine did not close in time");
        }
        if is_done {
            Ok(())
        } else {
            Err(ClusterError::Unfinished { calls })
        }
    }
}

/// The engine did not answer, now or when the same key was tried before.
pub(crate) fn unknown(channel: ChannelName) -> PublishError {
    let error = EngineError::Unknown {
        engine: "configured",
        attempted: "publishing",
    };
    PublishError::Engine { channel, error }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}
