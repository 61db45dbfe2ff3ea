//! The engine for many nodes on one Redis: a single server, Sentinel, or Cluster.
//!
//! Every channel lives on one master, where scripts append and fan out in one step. What reaches a node is checked message by
//! message, and what is missing is read from the history.

mod channel;
mod connection;
mod feed;
mod flow;
mod nodes;
mod presence;
#[cfg(feature = "__contract")]
#[doc(hidden)]
pub mod scripted;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fanfare_protocol::{ChannelName, Member, RawJson, SocketId};

use self::channel::store::ChannelStore;
use self::channel::{history, publish, rights};
pub use self::connection::options::FlowOptions;
pub use self::connection::options::{KeyPrefixError, RedisOptions, RedisUrlError};
use self::connection::scripts::Scripts;
use self::connection::{ENGINE, startup};
use self::flow::Flow;
use self::nodes::requests::Role;
use self::presence::leases::PresenceLeases;
use self::presence::scripts::PresenceScripts;
use super::{Broker, Deliver, Engine, EngineError, Health, PresenceStore};
use crate::delivery::{
    Departure, History, HistoryRange, Members, Publication, Published, Retention,
};

impl Engine {
    /// The engine for many nodes on one Redis. It connects when the server starts.
    #[must_use]
    pub fn redis(options: RedisOptions) -> Self {
        Self::new(RedisEngine::new(options))
    }
}

/// The engine for many nodes on one Redis.
pub struct RedisEngine {
    store: ChannelStore,
    leases: Arc<PresenceLeases>,
    /// What reaches this node, once the engine has started.
    flow: OnceLock<Flow>,
}

impl RedisEngine {
    /// An engine on the Redis of these options.
    #[must_use]
    pub fn new(options: RedisOptions) -> Self {
        Self::with_scripts(options, Scripts::default())
    }

    fn with_scripts(options: RedisOptions, scripts: Scripts) -> Self {
        let store = ChannelStore::new(options, scripts);
        let presence = PresenceScripts::new(store.clone());
        Self {
            store,
            leases: Arc::new(PresenceLeases::new(presence)),
            flow: OnceLock::new(),
        }
    }

    async fn start_as(&self, role: Role, deliver: Deliver) -> Result<(), EngineError> {
        let was_started = || EngineError::Unavailable {
            engine: ENGINE,
            attempted: "starting",
            detail: "it was started before".to_owned(),
        };
        if self.flow.get().is_some() {
            return Err(was_started());
        }
        startup::check(self.store.commands()).await?;
        rights::check(&self.store).await?;
        let leases = Arc::clone(&self.leases);
        let on_evict_request = Arc::new(move |channel: &ChannelName| {
            leases.schedule_eviction(channel);
        });
        let flow = Flow::start(self.store.clone(), role, deliver, on_evict_request).await?;
        self.flow.set(flow).map_err(|_| was_started())
    }

    /// What reaches this node, once the engine has started.
    fn flow(&self, attempted: &'static str) -> Result<&Flow, EngineError> {
        self.flow.get().ok_or_else(|| EngineError::Unavailable {
            engine: ENGINE,
            attempted,
            detail: "it has not been started".to_owned(),
        })
    }

    /// Presence, once the engine has started.
    fn leases(&self, attempted: &'static str) -> Result<&PresenceLeases, EngineError> {
        self.flow(attempted).map(|_| self.leases.as_ref())
    }
}

impl Drop for RedisEngine {
    fn drop(&mut self) {
        self.leases.stop();
    }
}

#[async_trait]
impl Broker for RedisEngine {
    async fn start(&self, deliver: Deliver) -> Result<(), EngineError> {
        self.start_as(Role::Node, deliver).await?;
        self.leases.start().await;
        Ok(())
    }

    async fn start_publishing(&self, deliver: Deliver) -> Result<(), EngineError> {
        self.start_as(Role::Publisher, deliver).await
    }

    fn bound_payloads(&self, bytes_max: usize) {
        self.store.note_payload_max(bytes_max);
    }

    async fn publish(
        &self,
        publication: Publication,
        retention: Retention,
    ) -> Result<Published, EngineError> {
        let flow = self.flow("publishing")?;
        flow.check_format("publishing")?;
        let _guard = match retention.is_positioned {
            true => None,
            false => flow.guard_publish(&publication.channel),
        };
        let published = publish::publish(&self.store, &publication, retention).await?;
        flow.note_published(&publication.channel, published.position, retention);
        Ok(published)
    }

    async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError> {
        let flow = self.flow("reading a history")?;
        flow.history(channel, range, retention).await
    }

    async fn clear_history(&self, channel: &ChannelName) -> Result<(), EngineError> {
        let flow = self.flow("clearing a history")?;
        history::clear(&self.store, channel).await?;
        flow.note_cleared(channel);
        Ok(())
    }

    fn set_interest(&self, channel: &ChannelName, retention: Retention, wanted: bool) {
        if let Some(flow) = self.flow.get() {
            flow.set_interest(channel, retention, wanted);
        }
    }

    async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError> {
        self.flow("subscribing")?.interested(channel).await
    }

    async fn request(&self, request: Bytes) -> Result<Vec<Bytes>, EngineError> {
        self.flow("requesting from other nodes")?
            .request(&request)
            .await
    }

    fn idempotency_window(&self) -> Duration {
        self.store.options().key_ttl
    }

    fn health(&self) -> Health {
        match self.flow.get() {
            Some(flow) => flow.health(),
            None => Health::Stalled {
                since: tokio::time::Instant::now(),
                reason: "the engine has not been started".to_owned(),
            },
        }
    }

    async fn close(&self) {
        self.leases.close().await;
        if let Some(flow) = self.flow.get() {
            flow.close().await;
        }
        self.store.commands().close();
    }
}

#[async_trait]
impl PresenceStore for RedisEngine {
    async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        let leases = self.leases("joining")?;
        leases.join(channel, connection, member, retention).await
    }

    async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError> {
        let leases = self.leases("updating presence")?;
        leases.update(channel, connection, info, retention).await
    }

    async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Result<(), EngineError> {
        let leases = self.leases("leaving")?;
        leases.leave(channel, connection, departure).await
    }

    async fn refresh(
        &self,
        held: &[(ChannelName, SocketId)],
    ) -> Result<Vec<(ChannelName, SocketId)>, EngineError> {
        self.leases("refreshing presence")?.refresh(held).await
    }

    async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Members, EngineError> {
        let flow = self.flow("reading members")?;
        let snapshot = self.leases.members(channel, caller).await?;
        // A listed member may have expired, and this call may be the last one on the channel.
        if snapshot.eviction_deferred && !self.leases.schedule_eviction(channel) {
            flow.request_eviction(channel);
        }
        // The caller combines the snapshot with what is delivered here: everything up to its position must have been delivered.
        flow.reached(channel, snapshot.members.position).await;
        Ok(snapshot.members)
    }

    async fn hand_over(&self, within: Duration) {
        self.leases.hand_over(within).await;
    }
}
