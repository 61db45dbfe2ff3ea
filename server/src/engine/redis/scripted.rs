//! The presence scripts by themselves, with their texts edited: for the tests that plant faults in them and give them a clock.

use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, RawJson, SocketId};
use tokio::time::Instant;

use super::channel::history;
use super::channel::store::ChannelStore;
use super::connection::options::RedisOptions;
use super::connection::scripts::Scripts;
use super::presence::scripts::{self, PresenceScripts};
use crate::delivery::{Departure, History, HistoryRange, Members, Retention};
use crate::engine::EngineError;

/// The presence scripts, called as an engine calls them, when a test decides.
pub struct ScriptedPresence {
    store: ChannelStore,
    scripts: PresenceScripts,
}

/// When the next member of a channel expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The channel has no member.
    Never,
    /// From now.
    In(Duration),
    /// A member has expired, and its eviction is deferred.
    EvictionDeferred,
}

impl From<scripts::NextExpiry> for Next {
    fn from(next: scripts::NextExpiry) -> Self {
        match next {
            scripts::NextExpiry::Never => Self::Never,
            scripts::NextExpiry::In(wait) => Self::In(wait),
            scripts::NextExpiry::EvictionDeferred => Self::EvictionDeferred,
        }
    }
}

impl ScriptedPresence {
    /// Scripts whose texts are what `edit` makes of them, given their names.
    pub fn new(options: RedisOptions, edit: impl Fn(&'static str, String) -> String) -> Self {
        let store = ChannelStore::new(options, Scripts::edited(edit));
        let scripts = PresenceScripts::new(store.clone());
        Self { store, scripts }
    }

    /// The keys of a channel: its position first, then what it keeps, then its four of presence.
    #[must_use]
    pub fn keys(&self, channel: &ChannelName) -> Vec<String> {
        self.scripts.keys(channel)
    }

    /// Notes that Redis replied at a time by its clock. Without a reply nobody is evicted.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn hear(&self, channel: &ChannelName, now: u64) -> Result<(), EngineError> {
        let deadline = Instant::now() + self.store.options().budget;
        let connected = self.store.commands().connection(deadline, channel).await;
        let connection = connected.map_err(|error| self.scripts.verdict("connecting", error))?;
        self.scripts.eviction().note_heard(&connection, now);
        Ok(())
    }

    /// Adds a connection.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: &Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        let joined = self.scripts.join(channel, connection, member, retention);
        joined.await
    }

    /// Replaces the info of a connection. Returns whether it is present.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: &RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError> {
        let updated = self.scripts.update(channel, connection, info, retention);
        updated.await
    }

    /// Removes a connection. Returns how long a lost one still counts as present.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
        grace: Duration,
    ) -> Result<Option<Duration>, EngineError> {
        let left = self.scripts.leave(channel, connection, departure, grace);
        left.await
    }

    /// Extends leases. Returns the unknown connections, and when the next member expires.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn refresh(
        &self,
        channel: &ChannelName,
        connections: &[SocketId],
        lease: Duration,
    ) -> Result<(Vec<SocketId>, Next), EngineError> {
        let refreshed = self.scripts.refresh(channel, connections, lease).await;
        let refreshed = refreshed.map_err(|error| self.scripts.verdict("refreshing", error))?;
        Ok((refreshed.unknown, refreshed.next.into()))
    }

    /// Evicts some of the expired members. Returns when the next member expires.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn evict_expired(&self, channel: &ChannelName) -> Result<Next, EngineError> {
        let evicted = self.scripts.evict_expired(channel).await;
        let next =
            evicted.map_err(|error| self.scripts.verdict("evicting expired members", error))?;
        Ok(next.into())
    }

    /// The members of a channel.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn members(&self, channel: &ChannelName) -> Result<Members, EngineError> {
        let snapshot = self.scripts.members(channel, None).await?;
        Ok(snapshot.members)
    }

    /// The messages of the channel after an offset.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn told_after(
        &self,
        channel: &ChannelName,
        offset: u64,
        retention: Retention,
    ) -> Result<History, EngineError> {
        let limit = u32::MAX;
        let range = HistoryRange::After { offset, limit };
        history::read(&self.store, channel, range, retention).await
    }

    /// Clears the channel's history.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn clear_history(&self, channel: &ChannelName) -> Result<(), EngineError> {
        history::clear(&self.store, channel).await
    }
}
