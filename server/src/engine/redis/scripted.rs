//! The presence scripts by themselves, with their texts edited: for the tests that plant faults in them and give them a clock.

use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, SocketId};

use super::commands::Commands;
use super::history;
use super::options::RedisOptions;
use super::presence::{Presence, Terms};
use super::scripts::Scripts;
use crate::delivery::{Departure, History, HistoryRange, Members, Retention};
use crate::engine::EngineError;

/// The presence scripts, called as an engine calls them, by somebody who decides when.
pub struct ScriptedPresence {
    commands: Commands,
    presence: Presence,
}

impl ScriptedPresence {
    /// Scripts whose texts are what `edit` makes of them, given their names.
    pub fn new(options: RedisOptions, edit: impl Fn(&'static str, String) -> String) -> Self {
        let terms = Terms::new(&options);
        let commands = Commands::new(options, Scripts::edited(edit));
        let presence = Presence::new(commands.clone(), terms);
        Self { commands, presence }
    }

    /// The keys of a channel: its position first, then what it keeps, then its four of presence.
    #[must_use]
    pub fn keys(&self, channel: &ChannelName) -> Vec<String> {
        self.presence.keys(channel)
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
        let joined = self.presence.join(channel, connection, member, retention);
        joined.await
    }

    /// Takes a connection out. Answers how long a lost one still counts.
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
        let left = self.presence.leave(channel, connection, departure, grace);
        left.await
    }

    /// Extends leases. Answers the connections that are unknown, and when the next one's time is up.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn refresh(
        &self,
        channel: &ChannelName,
        connections: &[SocketId],
        lease: Duration,
    ) -> Result<(Vec<SocketId>, Option<Duration>), EngineError> {
        let refreshed = self.presence.refresh(channel, connections, lease).await;
        let refreshed = refreshed.map_err(|error| self.presence.verdict("refreshing", error))?;
        Ok((refreshed.unknown, refreshed.next_expiry))
    }

    /// Takes out whose time is up, some of them. Answers when the next one's is.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn reap(&self, channel: &ChannelName) -> Result<Option<Duration>, EngineError> {
        let reaped = self.presence.reap(channel).await;
        reaped.map_err(|error| self.presence.verdict("reaping", error))
    }

    /// Who is here.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn members(&self, channel: &ChannelName) -> Result<Members, EngineError> {
        self.presence.members(channel).await
    }

    /// What the channel was told after an offset.
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
        history::read(&self.commands, channel, range, retention).await
    }

    /// Drops what the channel keeps.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn forget(&self, channel: &ChannelName) -> Result<(), EngineError> {
        history::forget(&self.commands, channel).await
    }
}
