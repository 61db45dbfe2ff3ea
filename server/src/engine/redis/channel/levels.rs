//! Publishes that wait until replicas (`WAIT`) or the disk (`WAITAOF`) have the message.
//!
//! Redis confirms the last write of the connection that asks. So these calls have a connection of their own while they wait; there
//! are a few per server.
//!
//! Promise: docs/guarantees.md, *What `Ok` of a publish means*.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::store::ChannelStore;
use crate::delivery::PublishLevel;
use crate::engine::EngineError;
use crate::engine::redis::connection::commands::{Answer, Call, is, within};
use crate::engine::redis::connection::connections::{Connection, WholeConnection};
use crate::engine::redis::connection::error::CommandError;

/// A script's answer, and whether its writes are where they were to be.
pub(crate) struct Confirmed {
    pub(crate) answer: Value,
    pub(crate) is_reached: bool,
}

/// Why there is none.
pub(crate) enum Failure {
    /// The script was not run, or not known to be.
    Command(CommandError),
    /// The caller is told this at once.
    Engine(EngineError),
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// Runs a script once and waits until its writes are confirmed, at most as long as the level says.
pub(crate) async fn run(
    store: &ChannelStore,
    deadline: Instant,
    call: Call<'_>,
    level: PublishLevel,
) -> Result<Confirmed, Failure> {
    let whole = whole(store, deadline, call).await?;
    let connection = whole.get();
    let wait = match level {
        PublishLevel::Accepted => None,
        PublishLevel::Replicated { replicas, timeout } => Some((
            Wait::Replicas(i64::from(replicas)),
            redis::cmd("WAIT")
                .arg(replicas)
                .arg(at_least(timeout))
                .take(),
            timeout,
        )),
        PublishLevel::Fsynced { timeout } => {
            let disk = within(deadline, disk(connection)).await;
            let disk = disk.map_err(|error| {
                // Only questions were asked so far.
                let _ = store.commands().judge(connection, &error);
                CommandError::not_executed(error.to_string())
            })?;
            match disk {
                Disk::OnRequest => Some((
                    Wait::Disk,
                    redis::cmd("WAITAOF")
                        .arg(1)
                        .arg(0)
                        .arg(at_least(timeout))
                        .take(),
                    timeout,
                )),
                Disk::Always => None,
                Disk::Never => return Err(Failure::Engine(unsupported())),
            }
        }
    };
    let answer = evaluate(store, deadline, connection, call).await?;
    let is_reached = match wait {
        None => true,
        Some((wait, command, timeout)) => {
            let until = Instant::now() + timeout + store.options().command_deadline;
            let mut waiting = connection.commands.clone();
            let waited = within(until, waiting.req_packed_command(&command)).await;
            let waited = waited.and_then(Value::extract_error);
            if let Err(error) = &waited {
                let _ = store.commands().judge(connection, error);
            }
            waited.is_ok_and(|count| wait.is_over(&count))
        }
    };
    whole.give_back();
    Ok(Confirmed { answer, is_reached })
}

/// What is waited for.
enum Wait {
    Replicas(i64),
    Disk,
}

impl Wait {
    /// Whether Redis's answer says that it is there.
    fn is_over(&self, answer: &Value) -> bool {
        match (self, answer) {
            (Self::Replicas(wanted), Value::Int(count)) => count >= wanted,
            (Self::Disk, Value::Array(counts)) => {
                matches!(counts.first(), Some(Value::Int(local)) if *local >= 1)
            }
            _ => false,
        }
    }
}

async fn whole(
    store: &ChannelStore,
    deadline: Instant,
    call: Call<'_>,
) -> Result<WholeConnection, CommandError> {
    // Refuses when the engine is closed, and finds a server that is gone without using up one of the few.
    let server = store
        .commands()
        .connection(deadline, call.channel)
        .await?
        .server;
    let connections = store.commands().topology().connections();
    let opening = tokio::time::timeout_at(deadline, connections.whole(&server)).await;
    opening.unwrap_or_else(|_| {
        Err(CommandError::not_executed(
            "all connections for confirmed publishes are waiting",
        ))
    })
}

async fn evaluate(
    store: &ChannelStore,
    deadline: Instant,
    connection: &Connection,
    call: Call<'_>,
) -> Result<Value, CommandError> {
    let send = async |command: Cmd| {
        let mut sending = connection.commands.clone();
        let sent = within(deadline, sending.req_packed_command(&command)).await;
        sent.and_then(Value::extract_error)
    };
    let mut answer = send(call.by_digest(connection)).await;
    if let Err(error) = &answer
        && is(error, Answer::NoScript)
    {
        answer = send(call.by_text(connection)).await;
    }
    answer.map_err(|error| {
        store.commands().follow(&error, call);
        store.commands().judge(connection, &error)
    })
}

/// When a server writes to its disk.
enum Disk {
    /// Before every answer.
    Always,
    /// Now and then; it can be asked to say when.
    OnRequest,
    /// Never, or the server does not say.
    Never,
}

async fn disk(connection: &Connection) -> redis::RedisResult<Disk> {
    let mut questions = redis::pipe();
    questions.cmd("INFO").arg("server");
    questions.cmd("INFO").arg("persistence");
    questions.cmd("CONFIG").arg("GET").arg("appendfsync");
    let mut asking = connection.commands.clone();
    let answers = asking.req_packed_commands(&questions, 0, 3).await?;
    let info = |index: usize, field: &str| {
        let text: String = redis::from_redis_value_ref(answers.get(index)?).ok()?;
        crate::engine::redis::connection::startup::field(&text, field).map(str::to_owned)
    };
    let has_log = info(1, "aof_enabled").as_deref() == Some("1");
    let version = info(0, "redis_version");
    let version = version
        .as_deref()
        .and_then(crate::engine::redis::connection::startup::Version::parse);
    let appendfsync: Option<Vec<(String, String)>> = answers
        .get(2)
        .and_then(|answer| redis::from_redis_value_ref(answer).ok());
    let is_always =
        appendfsync.is_some_and(|settings| settings.iter().any(|(_, value)| value == "always"));
    Ok(match version {
        _ if !has_log => Disk::Never,
        Some(version) if version >= crate::engine::redis::connection::startup::Version(7, 2) => {
            Disk::OnRequest
        }
        _ if is_always => Disk::Always,
        _ => Disk::Never,
    })
}

fn unsupported() -> EngineError {
    EngineError::Unsupported {
        engine: crate::engine::redis::connection::ENGINE,
        what:
            "say when a message is on disk: it needs `appendonly yes`, and before version 7.2 also \
               `appendfsync always` and permission for CONFIG GET"
                .to_owned(),
    }
}

/// Redis takes 0 for "without end".
fn at_least(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}
