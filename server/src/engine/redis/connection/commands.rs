//! Runs scripts on the master that owns their channel, follows redirections, and repeats what may be repeated.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a master was replaced and does not know" and "slots move in a
//! Redis Cluster".

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::slot;
use super::connections::{Connection, Server};
use super::error::Retry;
use super::error::{CommandError, NO_PREFIX};
use super::options::RedisOptions;
use super::scripts::ScriptText;
use super::topology::Topology;
use crate::clock::Throttle;
use crate::engine::EngineError;

/// Runs scripts on the master that owns their channel. Clones share everything.
#[derive(Clone)]
pub(crate) struct Commands(Arc<Inner>);

struct Inner {
    options: RedisOptions,
    topology: Arc<Topology>,
    /// The `maxmemory` of Redis, once start-up has read it.
    memory_max: AtomicUsize,
    /// Limits log lines about rights that the login lacks.
    denied: Throttle,
    closed: CancellationToken,
}

/// A script and what it is called with.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// What the caller is doing, for errors: "publishing".
    pub(crate) attempted: &'static str,
    /// The script.
    pub(crate) script: &'a ScriptText,
    /// The channel that all keys belong to.
    pub(crate) channel: &'a ChannelName,
    /// Its `KEYS`.
    pub(crate) keys: &'a [String],
    /// Its `ARGV`.
    pub(crate) args: &'a [&'a [u8]],
    /// Returns the last of its `ARGV`, which depend on the connection that the call goes out on.
    pub(crate) last_args: Option<LastArgs<'a>>,
}

/// Returns arguments for a call over a connection.
pub(crate) type LastArgs<'a> = &'a (dyn Fn(&Connection) -> [u64; 3] + Send + Sync);

impl Commands {
    /// Commands to the Redis of these options.
    pub(crate) fn new(options: RedisOptions) -> Self {
        Self(Arc::new(Inner {
            topology: Arc::new(Topology::new(options.clone())),
            options,
            memory_max: AtomicUsize::new(0),
            denied: Throttle::new(WARN_INTERVAL),
            closed: CancellationToken::new(),
        }))
    }

    /// Which server owns what.
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.0.topology
    }

    /// How Redis is used.
    pub(crate) fn options(&self) -> &RedisOptions {
        &self.0.options
    }

    /// `PUBLISH`, or `SPUBLISH` in a cluster.
    pub(crate) fn publish_command(&self) -> &'static str {
        if self.topology().is_cluster() {
            "SPUBLISH"
        } else {
            "PUBLISH"
        }
    }

    /// Refuses everything from now on.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
    }

    /// Notes the `maxmemory` of Redis.
    pub(crate) fn note_memory_max(&self, bytes: usize) {
        self.0.memory_max.store(bytes, Ordering::Relaxed);
    }

    /// Runs a script once, within the deadline of a command.
    pub(crate) async fn run(&self, call: Call<'_>) -> Result<Value, CommandError> {
        let options = self.options();
        let deadline = Instant::now() + options.connect_deadline + options.command_deadline;
        self.run_until(deadline, call).await
    }

    /// Runs a script once over one connection.
    pub(crate) async fn run_on(
        &self,
        deadline: Instant,
        connection: &Connection,
        call: Call<'_>,
    ) -> Result<Value, CommandError> {
        let reply = self.evaluate(deadline, connection, call).await;
        reply.map_err(|error| self.judge(connection, &error))
    }

    /// Runs a script, and again with pauses while it certainly was not executed; with `is_repeatable`, also when it may have
    /// been.
    pub(crate) async fn run_retrying(
        &self,
        call: Call<'_>,
        is_repeatable: bool,
    ) -> Result<Value, EngineError> {
        let mut retry = self.retry(call.attempted);
        loop {
            match self.run_until(retry.deadline(), call).await {
                Ok(value) => return Ok(value),
                Err(error) => retry.pause(error, is_repeatable).await?,
            }
        }
    }

    /// The attempts of one call of the engine.
    pub(crate) fn retry(&self, attempted: &'static str) -> Retry {
        let memory_max = self.0.memory_max.load(Ordering::Relaxed);
        Retry::new(attempted, self.options().budget, memory_max)
    }

    /// Runs a script once, over by the deadline.
    pub(crate) async fn run_until(
        &self,
        deadline: Instant,
        call: Call<'_>,
    ) -> Result<Value, CommandError> {
        let mut redirections = 0;
        loop {
            let connection = self.connection(deadline, call.channel).await?;
            let answer = self.evaluate(deadline, &connection, call).await;
            match answer {
                Err(error) if redirections < REDIRECTIONS_MAX && self.follow(&error, call) => {
                    redirections += 1;
                }
                Err(error) if is(&error, Answer::Ask) => {
                    return self
                        .ask_elsewhere(deadline, &connection, &error, call)
                        .await;
                }
                Err(error) => return Err(self.judge(&connection, &error)),
                Ok(value) => return Ok(value),
            }
        }
    }

    /// The connection for commands on a channel.
    pub(crate) async fn connection(
        &self,
        deadline: Instant,
        channel: &ChannelName,
    ) -> Result<Connection, CommandError> {
        if self.0.closed.is_cancelled() {
            return Err(CommandError::not_executed("it is closed"));
        }
        let connecting = async {
            let owner = self.topology().owner(channel).await?;
            self.topology().connections().shared(&owner).await
        };
        let connected = tokio::time::timeout_at(deadline, connecting).await;
        let connected = connected.unwrap_or_else(|_| {
            Err(CommandError::not_executed(
                "no connection could be opened in time",
            ))
        });
        if connected.is_err() {
            self.topology().distrust();
        }
        connected
    }

    /// What an error means for the call, and what it shows about the connection and the layout.
    pub(crate) fn judge(&self, connection: &Connection, error: &RedisError) -> CommandError {
        let meaning = self.named(&connection.server, CommandError::while_executing(error));
        let topology = self.topology();
        match (&meaning, error.kind()) {
            (CommandError::Unknown(_), _)
            | (_, ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)) => {
                topology.connections().retire(connection);
                topology.distrust();
            }
            (CommandError::NotExecuted(_), ErrorKind::Server(ServerErrorKind::TryAgain)) => {}
            (CommandError::NotExecuted(_), _) => topology.distrust(),
            _ => {}
        }
        meaning
    }

    /// Names a missing right with the prefix of the keys, and logs it at a limited rate.
    fn named(&self, server: &Server, mut meaning: CommandError) -> CommandError {
        if let CommandError::Denied { right, detail, .. } = &mut meaning {
            *right = right.replace(NO_PREFIX, &self.options().prefix);
            if let Some(held_back) = self.0.denied.turn() {
                tracing::warn!(%server, %right, %detail, held_back, "Redis denies this login a right");
            }
        }
        meaning
    }

    /// Sends the script by its digest, and by its text when Redis does not have it.
    async fn evaluate(
        &self,
        deadline: Instant,
        connection: &Connection,
        call: Call<'_>,
    ) -> Result<Value, RedisError> {
        let sent = send(deadline, connection, &call.by_digest(connection)).await;
        match sent {
            Err(error) if is(&error, Answer::NoScript) => {
                send(deadline, connection, &call.by_text(connection)).await
            }
            other => other,
        }
    }

    /// Follows `MOVED`; returns whether the error was one.
    pub(crate) fn follow(&self, error: &RedisError, call: Call<'_>) -> bool {
        if !is(error, Answer::Moved) {
            return false;
        }
        // Not looked up: other servers may not know of the move yet.
        match self.redirection(error, call) {
            Some(owner) => {
                let slot = slot(call.channel.as_str());
                self.topology().moved(slot, owner);
            }
            None => self.topology().distrust(),
        }
        true
    }

    /// Follows `ASK`: runs a script once at the master that the slot is migrating to.
    async fn ask_elsewhere(
        &self,
        deadline: Instant,
        answered: &Connection,
        error: &RedisError,
        call: Call<'_>,
    ) -> Result<Value, CommandError> {
        let Some(server) = self.redirection(error, call) else {
            return Err(self.judge(answered, error));
        };
        let connecting = self.topology().connections().shared(&server);
        let Ok(Ok(connection)) = tokio::time::timeout_at(deadline, connecting).await else {
            return Err(self.judge(answered, error));
        };
        let mut both = redis::pipe();
        both.cmd("ASKING");
        both.add_command(call.by_text(&connection));
        let mut commands = connection.commands.clone();
        let sent = within(deadline, commands.req_packed_commands(&both, 1, 1)).await;
        let answer = sent.and_then(|answers| {
            let answer = answers.into_iter().next().unwrap_or(Value::Nil);
            answer.extract_error()
        });
        answer.map_err(|error| self.judge(&connection, &error))
    }

    fn redirection(&self, error: &RedisError, call: Call<'_>) -> Option<Server> {
        let (address, _) = error.redirect_node()?;
        let (host, port) = super::options::host_and_port(address, 0).or_else(|| {
            // A server that does not know its own host: `:7000`.
            Some(("", address.strip_prefix(':')?.parse().ok()?))
        })?;
        if !host.is_empty() {
            return Some(Server::at(host, port));
        }
        let known = self.topology().known_owner(slot(call.channel.as_str()))?;
        Some(Server::at(known.host()?, port))
    }
}

impl Call<'_> {
    /// The command that runs the script by its digest over a connection.
    pub(crate) fn by_digest(&self, connection: &Connection) -> Cmd {
        self.command("EVALSHA", self.script.digest(), connection)
    }

    /// The command that runs the script by its text over a connection.
    pub(crate) fn by_text(&self, connection: &Connection) -> Cmd {
        self.command("EVAL", self.script.text(), connection)
    }

    fn command(&self, name: &str, script: &str, connection: &Connection) -> Cmd {
        let bytes = self.args.iter().map(|arg| arg.len()).sum::<usize>() + script.len();
        let mut command = Cmd::with_capacity(3 + self.keys.len() + self.args.len(), bytes + 256);
        command.arg(name).arg(script).arg(self.keys.len());
        for key in self.keys {
            command.arg(key);
        }
        for arg in self.args {
            command.arg(*arg);
        }
        if let Some(last_args) = self.last_args {
            for arg in last_args(connection) {
                command.arg(arg);
            }
        }
        command
    }
}

/// Sends a command and waits for its answer, at most until the deadline.
async fn send(
    deadline: Instant,
    connection: &Connection,
    command: &Cmd,
) -> Result<Value, RedisError> {
    let mut commands = connection.commands.clone();
    let answer = within(deadline, commands.send_packed_command(command)).await?;
    answer.extract_error()
}

/// The result of a command, or a timeout error once the deadline has passed.
pub(crate) async fn within<T>(
    deadline: Instant,
    sent: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let answer = tokio::time::timeout_at(deadline, sent).await;
    answer.unwrap_or_else(|_| {
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(RedisError::from(late))
    })
}

/// Errors that lead elsewhere.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// `NOSCRIPT`: the server does not have the script.
    NoScript,
    /// `MOVED`: the slot has another master.
    Moved,
    /// `ASK`: the slot is migrating.
    Ask,
}

/// Whether this is the error.
pub(crate) fn is(error: &RedisError, answer: Answer) -> bool {
    let kind = match answer {
        Answer::NoScript => ServerErrorKind::NoScript,
        Answer::Moved => ServerErrorKind::Moved,
        Answer::Ask => ServerErrorKind::Ask,
    };
    error.kind() == ErrorKind::Server(kind)
}

/// 10 s: what others can cause is logged no more often.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// 3: a slot does not move more often than that between two commands.
const REDIRECTIONS_MAX: u32 = 3;
