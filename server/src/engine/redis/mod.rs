//! The engine for many nodes on one Redis: a single server, Sentinel, or Cluster.
//!
//! Every channel lives on one master, where scripts append and fan out in one step. What reaches a node is checked message by
//! message, and what is missing is read from the history.

mod cluster;
mod commands;
mod connections;
mod envelope;
mod error;
mod history;
mod keys;
mod levels;
mod options;
mod publish;
mod retry;
mod scripts;
mod sentinel;
mod startup;
#[cfg(test)]
mod tests;
mod topology;

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fanfare_protocol::{ChannelName, Member, Position, SocketId};
use redis::Value;

use self::commands::Commands;
pub use self::keys::KeyPrefixError;
pub use self::options::{RedisOptions, RedisUrlError};
use self::scripts::Scripts;
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
    commands: Commands,
    deliver: OnceLock<Deliver>,
}

const NAME: &str = "Redis";

impl RedisEngine {
    /// An engine on the Redis of these options.
    #[must_use]
    pub fn new(options: RedisOptions) -> Self {
        Self::with_scripts(options, Scripts::default())
    }

    fn with_scripts(options: RedisOptions, scripts: Scripts) -> Self {
        Self {
            commands: Commands::new(options, scripts),
            deliver: OnceLock::new(),
        }
    }

    /// The commands, once the engine has started.
    fn commands(&self, attempted: &'static str) -> Result<&Commands, EngineError> {
        if self.deliver.get().is_some() {
            return Ok(&self.commands);
        }
        Err(EngineError::Unavailable {
            engine: NAME,
            attempted,
            detail: "it has not been started".to_owned(),
        })
    }
}

#[async_trait]
impl Broker for RedisEngine {
    async fn start(&self, deliver: Deliver) -> Result<(), EngineError> {
        startup::check(&self.commands).await?;
        if self.deliver.set(deliver).is_err() {
            return Err(EngineError::Unavailable {
                engine: NAME,
                attempted: "starting",
                detail: "it was started before".to_owned(),
            });
        }
        Ok(())
    }

    async fn publish(
        &self,
        publication: Publication,
        retention: Retention,
    ) -> Result<Published, EngineError> {
        publish::publish(self.commands("publishing")?, &publication, retention).await
    }

    async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError> {
        let commands = self.commands("reading a history")?;
        history::read(commands, channel, range, retention).await
    }

    async fn forget(&self, channel: &ChannelName) -> Result<(), EngineError> {
        history::forget(self.commands("forgetting a history")?, channel).await
    }

    fn set_interest(&self, _channel: &ChannelName, _retention: Retention, _wanted: bool) {}

    async fn interested(&self, _channel: &ChannelName) -> Result<(), EngineError> {
        Err(unsupported("deliver"))
    }

    async fn ask(&self, _question: Bytes) -> Result<Vec<Bytes>, EngineError> {
        Err(unsupported("ask other nodes"))
    }

    fn health(&self) -> Health {
        Health::Flowing
    }

    async fn close(&self) {
        self.commands.close();
    }
}

#[async_trait]
impl PresenceStore for RedisEngine {
    async fn join(
        &self,
        _channel: &ChannelName,
        _connection: SocketId,
        _member: Member,
        _retention: Retention,
    ) -> Result<(), EngineError> {
        Err(unsupported("keep members"))
    }

    async fn leave(
        &self,
        _channel: &ChannelName,
        _connection: SocketId,
        _departure: Departure,
    ) -> Result<(), EngineError> {
        Err(unsupported("keep members"))
    }

    async fn refresh(
        &self,
        _held: &[(ChannelName, SocketId)],
    ) -> Result<Vec<(ChannelName, SocketId)>, EngineError> {
        Err(unsupported("keep members"))
    }

    async fn members(&self, _channel: &ChannelName) -> Result<Members, EngineError> {
        Err(unsupported("keep members"))
    }
}

fn unsupported(what: &str) -> EngineError {
    EngineError::Unsupported {
        engine: NAME,
        what: what.to_owned(),
    }
}

/// A duration as scripts take it. Redis takes 0 for "gone already".
fn milliseconds(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

/// An answer's text.
fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A position as scripts answer it.
fn position(epoch: &Value, offset: &Value, tag: &Value) -> Option<Position> {
    Some(Position {
        epoch: text(epoch)?.parse().ok()?,
        offset: text(offset)?.parse().ok()?,
        tag: text(tag)?.parse().ok()?,
    })
}
