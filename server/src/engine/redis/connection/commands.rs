//! Running scripts where their channel lives, and trying again what may be tried again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster;
use super::connections::{Connection, Server};
use super::error::CommandError;
use super::options::RedisOptions;
use super::retry::Retry;
use super::scripts::{ScriptText, Scripts};
use super::topology::Topology;
use crate::budget::{Budget, Rate};
use crate::clock::Throttle;
use crate::engine::EngineError;
use crate::engine::redis::channel::keys::Keys;
use crate::engine::redis::channel::rights;

/// Runs scripts where their channel lives. Clones share everything.
#[derive(Clone)]
pub(crate) struct Commands(Arc<Shared>);

struct Shared {
    options: RedisOptions,
    keys: Keys,
    scripts: Scripts,
    topology: Arc<Topology>,
    /// Redis's `maxmemory`, once start-up has read it.
    memory_max: AtomicUsize,
    /// A larger payload than this is not taken from Redis.
    payload_bytes_max: AtomicUsize,
    /// For the log, about what other programs write into Redis.
    unreadable: Throttle,
    /// The same, about rights that the login does not have.
    denied: Throttle,
    /// How many more channels without a message Redis may be made to remember.
    beginnings: Mutex<Budget>,
    /// For the log, about those beyond.
    unbegun: Throttle,
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
}

impl Commands {
    /// Commands to the Redis of these options.
    pub(crate) fn new(options: RedisOptions, scripts: Scripts) -> Self {
        Self(Arc::new(Shared {
            keys: Keys::new(&options.prefix),
            scripts,
            topology: Arc::new(Topology::new(options.clone())),
            beginnings: Mutex::new(Budget::full(options.beginnings(), Instant::now())),
            unbegun: Throttle::new(WARN_INTERVAL),
            options,
            memory_max: AtomicUsize::new(0),
            payload_bytes_max: AtomicUsize::new(PAYLOAD_BYTES_MAX),
            unreadable: Throttle::new(WARN_INTERVAL),
            denied: Throttle::new(WARN_INTERVAL),
            closed: CancellationToken::new(),
        }))
    }

    /// The names of keys and channels.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The scripts.
    pub(crate) fn scripts(&self) -> &Scripts {
        &self.0.scripts
    }

    /// Which server owns what.
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.0.topology
    }

    /// How Redis is used.
    pub(crate) fn options(&self) -> &RedisOptions {
        &self.0.options
    }

    /// `PUBLISH`, or what it is called in a cluster.
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

    /// Notes Redis's `maxmemory`.
    pub(crate) fn note_memory_max(&self, bytes: usize) {
        self.0.memory_max.store(bytes, Ordering::Relaxed);
    }

    /// Notes how large payloads may be.
    pub(crate) fn note_payload_max(&self, bytes: usize) {
        let bytes = bytes.max(PAYLOAD_BYTES_MIN);
        self.0.payload_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// The largest payload that is taken from Redis.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.0.payload_bytes_max.load(Ordering::Relaxed)
    }

    /// Whether Redis may be made to remember one more channel without a message. Anybody who may subscribe can name channels
    /// without end.
    pub(crate) fn may_begin(&self) -> bool {
        let may_begin = self.of_beginnings(|budget, rate, now| budget.take(0, rate, now).is_ok());
        if !may_begin && let Some(held_back) = self.0.unbegun.turn() {
            tracing::warn!(
                held_back,
                "more channels without a message are asked for than Redis is made to remember"
            );
        }
        may_begin
    }

    /// Notes that it remembers one more.
    pub(crate) fn note_begun(&self) {
        self.of_beginnings(|budget, rate, now| budget.charge(1, rate, now));
    }

    fn of_beginnings<T>(&self, step: impl FnOnce(&mut Budget, Rate, Instant) -> T) -> T {
        let mut budget = self
            .0
            .beginnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        step(&mut budget, self.0.options.beginnings(), Instant::now())
    }

    /// Tells the operator, now and then, that something in Redis is not what a node writes there.
    pub(crate) fn warn_unreadable(&self, channel: &ChannelName, what: &dyn std::fmt::Display) {
        if let Some(held_back) = self.0.unreadable.turn() {
            tracing::warn!(
                %channel,
                held_back,
                "{what}: another program writes to the keys or channels of these servers"
            );
        }
    }

    /// Runs a script once, within the deadline of a command.
    pub(crate) async fn run(&self, call: Call<'_>) -> Result<Value, CommandError> {
        let options = self.options();
        let deadline = Instant::now() + options.connect_deadline + options.command_deadline;
        self.run_until(deadline, call).await
    }

    /// Runs a script that answers the server's time, and notes that it was heard, and which of its slots are migrating.
    pub(crate) async fn touch(
        &self,
        deadline: Instant,
        call: Call<'_>,
    ) -> Result<(), CommandError> {
        let connection = self.connection(deadline, call.channel).await?;
        if self.topology().is_cluster() {
            self.note_migrating_slots(deadline, &connection).await?;
        }
        let answer = self.evaluate(deadline, &connection, call).await;
        let answer = answer.map_err(|error| self.judge(&connection, &error))?;
        if let Ok(now) = redis::from_redis_value(answer) {
            connection.uptime.heard(now);
        }
        Ok(())
    }

    async fn note_migrating_slots(
        &self,
        deadline: Instant,
        connection: &Connection,
    ) -> Result<(), CommandError> {
        let looked = within(deadline, cluster::migrating_slots(connection)).await;
        let migrating = looked.map_err(|error| self.judge(connection, &error))?;
        let known = self.topology().connections().migrating();
        known.note(&migrating, Instant::now());
        Ok(())
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
                Ok(value) => return Ok(self.executed(call, value)),
            }
        }
    }

    fn executed(&self, call: Call<'_>, value: Value) -> Value {
        if call.script.may_evict() {
            let slot = self.keys().slot(call.channel);
            let migrating = self.topology().connections().migrating();
            migrating.note_executed(slot, call.channel, Instant::now());
        }
        value
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

    /// What an unsuccessful answer means, and what it says about the connection and the layout.
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

    /// Names a right that is missing, and tells the operator now and then.
    fn named(&self, server: &Server, mut meaning: CommandError) -> CommandError {
        if let CommandError::Denied { right, detail, .. } = &mut meaning {
            *right = right.replace(rights::NO_PREFIX, self.keys().prefix());
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

    /// Whether the slot has moved for good; then its new owner is known from now on.
    pub(crate) fn follow(&self, error: &RedisError, call: Call<'_>) -> bool {
        if !is(error, Answer::Moved) {
            return false;
        }
        // Not looked up again: other servers may not have heard of it yet.
        match self.redirection(error, call) {
            Some(owner) => {
                let slot = self.keys().slot(call.channel);
                self.topology().moved(slot, owner);
            }
            None => self.topology().distrust(),
        }
        true
    }

    /// Runs a script at the server that a slot is moving to, as an answer says that came over another connection.
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
        match answer {
            Ok(value) => Ok(self.executed(call, value)),
            Err(error) => Err(self.judge(&connection, &error)),
        }
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
        let known = self
            .topology()
            .known_owner(self.keys().slot(call.channel))?;
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
        if self.script.may_evict() {
            let bounds = connection.bounds(self.channel);
            command
                .arg(bounds.lost_from)
                .arg(bounds.silent_from)
                .arg(bounds.until);
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

/// Answers that lead elsewhere.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// The script is not there.
    NoScript,
    /// The slot has moved.
    Moved,
    /// The slot is moving.
    Ask,
}

/// Whether Redis answered this.
pub(crate) fn is(error: &RedisError, answer: Answer) -> bool {
    let kind = match answer {
        Answer::NoScript => ServerErrorKind::NoScript,
        Answer::Moved => ServerErrorKind::Moved,
        Answer::Ask => ServerErrorKind::Ask,
    };
    error.kind() == ErrorKind::Server(kind)
}

/// 1 MiB: what applications may publish by default.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// 64 KiB: who came to a presence channel is told with their info, however small other payloads are.
const PAYLOAD_BYTES_MIN: usize = 64 << 10;

/// 10 s: what others can cause is logged no more often.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// 3: a slot does not move more often than that between two commands.
const REDIRECTIONS_MAX: u32 = 3;
