//! What the server needs from a store: four seams are enough, two of them here.
//!
//! An engine never calls up. Deliveries leave it through the one callback given to [`Broker::start`].

use std::sync::Arc;

use async_trait::async_trait;
use fanfare_protocol::{ChannelName, Member, SocketId};

use crate::delivery::{
    Delivery, Departure, History, HistoryRange, Members, Publication, Published, Retention,
};

#[cfg(any(test, feature = "__contract"))]
pub mod contract;
pub mod memory;

/// Where an engine hands over what reaches this node: in order per channel, never blocking.
///
/// An engine may hold its own lock of that channel meanwhile: the callback only appends to a queue and never calls the engine.
pub type Deliver = Arc<dyn Fn(Delivery) + Send + Sync>;

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

    /// Appends to the history, if the channel keeps one, and fans out: atomically per channel.
    ///
    /// # Errors
    /// [`EngineError::Unknown`] when it is not known whether the publication was accepted; repeat it with the same key.
    async fn publish(
        &self,
        publication: Publication,
        retention: Retention,
    ) -> Result<Published, EngineError>;

    /// Reads part of a channel's history.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Result<History, EngineError>;

    /// Drops a channel's history: its next message starts a new epoch.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn forget(&self, channel: &ChannelName) -> Result<(), EngineError>;

    /// States whether this node wants the channel's deliveries. Never fails, idempotent; the engine converges by itself.
    ///
    /// It may be called under a lock that [`Deliver`] also takes: an engine delivers nothing from inside this call, and holds
    /// no lock here that it holds while delivering.
    fn set_interest(&self, channel: &ChannelName, wanted: bool);

    /// Resolves when deliveries of a wanted channel are flowing.
    ///
    /// # Errors
    /// When they cannot be made to flow now.
    async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError>;

    /// Ends the engine's tasks and waits for them; nothing is delivered afterwards and every call is refused. Idempotent.
    async fn close(&self);
}

/// Who is present where.
///
/// `member_added` is published exactly when a user's first connection joins, `member_removed` exactly when the last one has
/// left, as ordinary messages of the channel with positions of their own.
#[async_trait]
pub trait PresenceStore: Send + Sync {
    /// Adds a connection of a user. Joining twice is one membership; the last `info` wins.
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

    /// Who is here, and at which position that holds.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn members(&self, channel: &ChannelName) -> Result<Members, EngineError>;
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
}
