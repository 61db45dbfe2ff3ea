//! Publishing: one script, repeated until its outcome is known or the budget is used up.
//!
//! Promise: docs/guarantees.md, *What `Ok` of a publish means*.

use std::time::Duration;

use fanfare_protocol::{ChannelName, Epoch, EventName, IdempotencyKey, RawJson};
use redis::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::envelope;
use super::levels;
use super::store::ChannelStore;
use crate::delivery::{Publication, PublishLevel, Published, Retention};
use crate::engine::EngineError;
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::tag::random_id;

/// Publishes a message.
///
/// A call whose reply is lost is repeated only where the script can tell that it was executed: by the caller's key, or by the
/// message's id in the channel's history. Elsewhere its outcome is unknown. A repetition stores that id, so that an earlier attempt
/// that Redis executes afterwards publishes nothing.
pub(crate) async fn publish(
    store: &ChannelStore,
    publication: &Publication,
    retention: Retention,
) -> Result<Published, EngineError> {
    let message = PreparedPublish::new(store, publication, retention);
    let mut retry = store.commands().retry("publishing");
    loop {
        let args = message.args(retry.may_have_run());
        let call = Call {
            attempted: "publishing",
            script: message.script,
            channel: message.channel,
            keys: &message.keys,
            args: &args,
            last_args: None,
        };
        let answer = match publication.level {
            PublishLevel::Accepted => store
                .commands()
                .run_until(retry.deadline(), call)
                .await
                .and_then(|answer| message.read(&answer)),
            level => match message
                .confirmed(store, retry.deadline(), call, level)
                .await
            {
                Err(levels::Failure::Command(error)) => Err(error),
                Err(levels::Failure::Engine(error)) => return Err(retry.refused(error)),
                Ok(published) => Ok(published),
            },
        };
        match answer {
            Ok(published) => return Ok(published),
            Err(error) => retry.pause(error, message.is_repeatable).await?,
        }
    }
}

/// Publishes on a channel without subscribers, for `life`, to find out whether a publish works now.
pub(crate) async fn probe(
    store: &ChannelStore,
    channel: &ChannelName,
    life: Duration,
) -> Result<(), CommandError> {
    let unnamed = |_| CommandError::Refused("a probe has no name".to_owned());
    let event = EventName::new("ready").map_err(unnamed)?;
    let key = IdempotencyKey::new(&format!("{:x}", random_id())).map_err(unnamed)?;
    let publication = Publication::new(channel.clone(), event, RawJson::null()).with_key(key);
    let mut message = PreparedPublish::new(store, &publication, Retention::new(1, life));
    let life = crate::engine::redis::connection::milliseconds(life);
    if let Kind::Positioned { position_ttl, .. } = &mut message.kind {
        position_ttl.clone_from(&life);
    }
    message.key_ttl = life;
    let call = Call {
        attempted: "publishing",
        script: message.script,
        channel,
        keys: &message.keys,
        args: &message.args(false),
        last_args: None,
    };
    let answer = store.commands().run(call).await?;
    message.read(&answer).map(|_| ())
}

/// A publication as the scripts take it.
struct PreparedPublish<'a> {
    channel: &'a ChannelName,
    script: &'a crate::engine::redis::connection::scripts::ScriptText,
    keys: Vec<String>,
    command: &'static str,
    redis_channel: String,
    body: Vec<u8>,
    kind: Kind,
    key_ttl: String,
    /// '1' when the caller waits for replicas or the disk.
    waits: &'static str,
    is_repeatable: bool,
}

enum Kind {
    /// On a channel with positions.
    Positioned {
        epoch: String,
        /// Drawn once for all attempts.
        id: String,
        size: String,
        ttl: String,
        position_ttl: String,
    },
    /// On a channel without.
    Live {
        /// Drawn once for all attempts; the same for all calls with one idempotency key.
        id: String,
    },
}

impl<'a> PreparedPublish<'a> {
    fn new(store: &'a ChannelStore, publication: &'a Publication, retention: Retention) -> Self {
        let (keys, options) = (store.keys(), store.options());
        let channel = &publication.channel;
        let key = publication.key.as_ref();
        let key = key.map(|key| keys.idempotency(publication, key));
        let has_key = key.is_some();
        let (script, kind, mut names) = if retention.is_positioned {
            let kind = Kind::Positioned {
                epoch: random_epoch().to_string(),
                id: format!("{:x}", random_id()),
                size: retention.size.to_string(),
                ttl: crate::engine::redis::connection::milliseconds(retention.ttl),
                position_ttl: options.position_ttl(retention),
            };
            let names = vec![keys.position(channel), keys.stream(channel)];
            (&store.scripts().publish, kind, names)
        } else {
            let names = vec![keys.count(channel)];
            let id = key.as_deref().map_or_else(random_id, id_of);
            let id = format!("{id:x}");
            (&store.scripts().publish_live, Kind::Live { id }, names)
        };
        names.extend(key);
        Self {
            channel,
            script,
            keys: names,
            command: store.commands().publish_command(),
            redis_channel: keys.channel(channel),
            body: envelope::encode_body(publication),
            kind,
            key_ttl: crate::engine::redis::connection::milliseconds(options.key_ttl),
            waits: match publication.level {
                PublishLevel::Accepted => "",
                _ => "1",
            },
            is_repeatable: has_key || retention.size > 0,
        }
    }

    /// The script's `ARGV`.
    fn args(&self, is_repetition: bool) -> Vec<&[u8]> {
        let repetition: &[u8] = if is_repetition { b"1" } else { b"" };
        let (command, channel) = (self.command.as_bytes(), self.redis_channel.as_bytes());
        let key_ttl = self.key_ttl.as_bytes();
        match &self.kind {
            Kind::Positioned {
                epoch,
                id,
                size,
                ttl,
                position_ttl,
            } => vec![
                command,
                channel,
                epoch.as_bytes(),
                id.as_bytes(),
                &self.body,
                size.as_bytes(),
                ttl.as_bytes(),
                position_ttl.as_bytes(),
                key_ttl,
                repetition,
                self.waits.as_bytes(),
            ],
            Kind::Live { id } => vec![
                command,
                channel,
                &self.body,
                COUNT_TTL_MS.as_bytes(),
                key_ttl,
                self.waits.as_bytes(),
                id.as_bytes(),
            ],
        }
    }

    /// Publishes, and waits until the level is confirmed.
    async fn confirmed(
        &self,
        store: &ChannelStore,
        deadline: Instant,
        call: Call<'_>,
        level: PublishLevel,
    ) -> Result<Published, levels::Failure> {
        let confirmed = levels::run(store, deadline, call, level).await?;
        let published = self.read(&confirmed.answer)?;
        if confirmed.is_reached {
            return Ok(published);
        }
        Err(levels::Failure::Engine(EngineError::LevelNotReached {
            engine: crate::engine::redis::connection::ENGINE,
            level,
            position: published.position,
        }))
    }

    /// Reads what the script answered.
    fn read(&self, answer: &Value) -> Result<Published, CommandError> {
        let unreadable = || CommandError::Unknown("the script's answer cannot be read".to_owned());
        match (&self.kind, answer) {
            (Kind::Live { .. }, Value::Int(is_duplicate)) => Ok(if *is_duplicate == 0 {
                Published::new(None)
            } else {
                Published::duplicate(None)
            }),
            (Kind::Positioned { .. }, Value::Array(parts)) => {
                let [epoch, offset, tag, Value::Int(is_duplicate)] = parts.as_slice() else {
                    return Err(unreadable());
                };
                // A key that was used while the channel had no positions has none.
                let position = if crate::engine::redis::connection::text(epoch) == Some("") {
                    None
                } else {
                    Some(envelope::position(epoch, offset, tag).ok_or_else(unreadable)?)
                };
                Ok(if *is_duplicate == 0 {
                    Published::new(position)
                } else {
                    Published::duplicate(position)
                })
            }
            _ => Err(CommandError::Unknown(
                "whether the first attempt succeeded cannot be told any more".to_owned(),
            )),
        }
    }
}

/// The id of a message with an idempotency key, by the key's name in Redis.
fn id_of(key: &str) -> u64 {
    let digest = Sha256::digest(key);
    u64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
}

/// A new epoch.
pub(crate) fn random_epoch() -> Epoch {
    // Those above are for channels that nothing is written of.
    Epoch(fastrand::u64(1..0xffff << 48))
}

/// 10 minutes: after so long without a message a loss cannot be told from silence.
const COUNT_TTL_MS: &str = "600000";
