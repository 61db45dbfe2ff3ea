//! What the server needs from a store: four seams are enough, two of them here.
//!
//! An engine never calls up. Deliveries leave it through the one callback given to [`Broker::start`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fanfare_protocol::{ChannelName, Member, Position, RawJson, SocketId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::delivery::{
    Delivery, Departure, History, HistoryRange, Members, Publication, PublishLevel, Published,
    Retention,
};

#[cfg(any(test, feature = "__contract"))]
pub mod contract;
#[cfg(feature = "redis")]
mod environment;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;
mod tag;

/// Where an engine hands over what reaches this node: in order per channel, never blocking.
///
/// An engine may hold its own lock of that channel meanwhile: the callback only appends to a queue and never calls the engine.
pub type Deliver = Arc<dyn Fn(Arrival) + Send + Sync>;

/// What reaches this node.
#[derive(Debug)]
#[non_exhaustive]
pub enum Arrival {
    /// A message of a wanted channel.
    Delivery(Delivery),
    /// Messages of a channel were lost on their way here, and no history can bring them back.
    Gap {
        /// The channel.
        channel: ChannelName,
        /// How, in a sentence for the subscribers.
        reason: &'static str,
    },
    /// The channel's history no longer continues what was delivered here.
    Reset {
        /// The channel.
        channel: ChannelName,
        /// Where it goes on: the next delivery follows this position.
        position: Position,
        /// Why, in a sentence for the subscribers.
        reason: &'static str,
    },
    /// Another node requests something from this one, see [`Broker::request`].
    NodeRequest {
        /// What the other node gave to [`Broker::request`].
        body: Bytes,
        /// Where the reply goes. Dropped, this node counts as silent.
        reply: NodeReplySender,
    },
}

/// Where the reply to another node's request goes.
#[derive(Debug)]
pub struct NodeReplySender(oneshot::Sender<Bytes>);

impl NodeReplySender {
    /// A sender, and the receiver at the other end.
    #[must_use]
    pub fn channel() -> (Self, oneshot::Receiver<Bytes>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Sends the reply; it is dropped if the requester has stopped waiting.
    pub fn send(self, body: Bytes) {
        let _ = self.0.send(body);
    }
}

/// Whether what is published reaches this node, and whether what this node publishes is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It does.
    Flowing,
    /// It does not, as far as this node can tell.
    Stalled {
        /// Since when.
        since: Instant,
        /// What is known about it; no secrets.
        reason: String,
    },
    /// It does, but what this node publishes is not taken.
    Refused {
        /// Since when.
        since: Instant,
        /// What is known about it; no secrets.
        reason: String,
    },
}

/// Append and fan-out.
///
/// History is part of it because appending and fanning out must be one step: whoever reads the history after a delivery was
/// handed over finds it there, and whoever joined before reads no hole.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Called once, before anything else.
    ///
    /// # Errors
    /// When the store cannot be reached or does not fit.
    async fn start(&self, deliver: Deliver) -> Result<(), EngineError>;

    /// Like [`Broker::start`], for a process that publishes and asks and has no connections: no other node asks it.
    ///
    /// # Errors
    /// As [`Broker::start`].
    async fn start_publishing(&self, deliver: Deliver) -> Result<(), EngineError> {
        self.start(deliver).await
    }

    /// Says how large a payload may be. A larger one in a store that others write to, too, is none that a node has published.
    fn bound_payloads(&self, bytes_max: usize) {
        let _ = bytes_max;
    }

    /// Appends to the history, if the channel keeps one, and fans out: atomically per channel.
    ///
    /// # Errors
    /// [`EngineError::Unknown`] when it is not known whether the publication was accepted; repeat it with the same key.
    async fn publish(
        &self,
        publication: Publication,
        retention: Retention,
    ) -> Result<Published, EngineError>;

    /// Reads part of a channel's history. `retention` is what the channel's rule keeps.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError>;

    /// Drops a channel's history: its next message starts a new epoch.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn clear_history(&self, channel: &ChannelName) -> Result<(), EngineError>;

    /// States whether this node wants the channel's deliveries. Never fails, idempotent; the engine converges by itself.
    /// `retention` is what the channel's rule keeps.
    ///
    /// It may be called under a lock that [`Deliver`] also takes: an engine delivers nothing from inside this call, and holds
    /// no lock here that it holds while delivering.
    fn set_interest(&self, channel: &ChannelName, retention: Retention, wanted: bool);

    /// Resolves when deliveries of a wanted channel are flowing.
    ///
    /// # Errors
    /// When they cannot be made to flow now.
    async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError>;

    /// Sends a request to every other live node of the cluster; the replies come in no order. An engine of one process has no other nodes.
    ///
    /// # Errors
    /// [`EngineError::Incomplete`] when some node did not answer in time.
    async fn request(&self, request: Bytes) -> Result<Vec<Bytes>, EngineError>;

    /// For how long a publish is recognised by its key when it comes again; clients are told. 10 minutes.
    fn idempotency_window(&self) -> Duration {
        Duration::from_mins(10)
    }

    /// Whether what is published reaches this node, and what it publishes is taken. Cheap, never waits.
    fn health(&self) -> Health;

    /// Ends the engine's tasks and waits for them; nothing is delivered afterwards and every call is refused. Idempotent.
    async fn close(&self);
}

/// Who is present where.
///
/// `member_added` is published exactly when a user's first connection joins, `member_removed` exactly when the last one has
/// left, as ordinary messages of the channel with positions of their own.
///
/// A user is shown with the `info` of one connection: of those that are here, lost ones within their grace included, the one
/// that joined or updated last. `member_updated` is published exactly when the text of what is shown changes, because a
/// connection joins, comes back or updates with another `info`, or because the connection that was shown is gone.
#[async_trait]
pub trait PresenceStore: Send + Sync {
    /// Adds a connection of a user, which is shown from now on. Joining twice is one membership: with the same `info` the second
    /// time changes nothing, unless the connection was lost meanwhile.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
    ) -> Result<(), EngineError>;

    /// Replaces the `info` of a connection, which is shown from now on. With the `info` that it has already, nothing changes.
    /// Answers whether the connection is here; of one that is not, nothing is kept.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError>;

    /// Takes a connection out. Unknown connections are ignored.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Result<(), EngineError>;

    /// Says that connections are still here; answers those that the store no longer knew, which must join again.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn refresh(
        &self,
        held: &[(ChannelName, SocketId)],
    ) -> Result<Vec<(ChannelName, SocketId)>, EngineError>;

    /// Says that this node goes away and that its clients come back on other nodes: from now on, a connection of it that
    /// [leaves](PresenceStore::leave) as [`Departure::Lost`] still counts as present for so long.
    ///
    /// A store of one process has nobody to hand over to, and does nothing.
    async fn hand_over(&self, within: Duration) {
        let _ = within;
    }

    /// Who is here, and at which position that holds. A list that is capped also has the user of `caller`, if that connection
    /// is here: every user finds itself.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Members, EngineError>;
}

/// One cluster's stores.
#[derive(Clone)]
pub struct Engine {
    /// Append and fan-out.
    pub broker: Arc<dyn Broker>,
    /// Who is present where.
    pub presence: Arc<dyn PresenceStore>,
}

impl Engine {
    /// Both stores in one.
    #[must_use]
    pub fn new(store: impl Broker + PresenceStore + 'static) -> Self {
        let store = Arc::new(store);
        Self {
            broker: Arc::clone(&store) as Arc<dyn Broker>,
            presence: store,
        }
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// It cannot be reached now; nothing happened.
    #[error("the {engine} engine is unavailable while {attempted}: {detail}")]
    Unavailable {
        /// Which engine.
        engine: &'static str,
        /// What was attempted.
        attempted: &'static str,
        /// What it said.
        detail: String,
    },
    /// The answer did not arrive: it may or may not have happened.
    #[error("the {engine} engine did not answer in time while {attempted}; the outcome is unknown")]
    Unknown {
        /// Which engine.
        engine: &'static str,
        /// What was attempted.
        attempted: &'static str,
    },
    /// It has no room; nothing happened.
    #[error("the {engine} engine has no room left for {what}, its limit is {limit}")]
    Full {
        /// Which engine.
        engine: &'static str,
        /// For what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It refused; nothing happened, and the same would be refused again.
    #[error("the {engine} engine refused {attempted}: {detail}")]
    Refused {
        /// Which engine.
        engine: &'static str,
        /// What was attempted.
        attempted: &'static str,
        /// What it said.
        detail: String,
    },
    /// It cannot do this at all; nothing happened.
    #[error("the {engine} engine cannot {what}")]
    Unsupported {
        /// Which engine.
        engine: &'static str,
        /// What it cannot do.
        what: String,
    },
    /// The publication was accepted, but not confirmed at the level that was asked for.
    #[error("the {engine} engine accepted the message, but {level} was not confirmed")]
    LevelNotReached {
        /// Which engine.
        engine: &'static str,
        /// The level asked for.
        level: PublishLevel,
        /// The publication's position; none on channels without one.
        position: Option<Position>,
    },
    /// Some nodes did not answer in time.
    #[error("{answered} of {asked} other nodes answered in time")]
    Incomplete {
        /// How many answered.
        answered: usize,
        /// How many were asked.
        asked: usize,
    },
}
