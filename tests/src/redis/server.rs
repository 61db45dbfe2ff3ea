//! One Redis server.

#![expect(
    clippy::unwrap_used,
    reason = "a Redis that does not start or answer fails the test"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Folder, Process, eventually, free_port};
use crate::resp::{Connection, Value};
use crate::within;

/// How a server keeps its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Not at all.
    #[default]
    None,
    /// Snapshots, when told to.
    Snapshots,
    /// An append-only file, synced every second.
    EverySecond,
    /// An append-only file, synced with every write.
    Always,
}

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct RedisConfig {
    /// How it keeps its data.
    pub persistence: Persistence,
    /// More lines for its configuration, such as `requirepass secret`.
    pub lines: Vec<String>,
    /// A program with arguments that starts it, such as `ip netns exec name`.
    pub wrapper: Vec<String>,
    /// Where it is reached; `127.0.0.1` when absent.
    pub host: Option<IpAddr>,
    /// Its port; a free one when absent.
    pub port: Option<u16>,
    /// Settings that take a free port of their own, such as `tls-port`.
    pub other_ports: Vec<&'static str>,
}

impl RedisConfig {
    /// A server that keeps its data this way.
    #[must_use]
    pub fn persistent(persistence: Persistence) -> Self {
        Self {
            persistence,
            ..Self::default()
        }
    }

    /// Adds a line of configuration.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Has it listen at a free port more, by a setting such as `tls-port`; [`Redis::other_port`] says which it is.
    #[must_use]
    pub fn other_port(mut self, setting: &'static str) -> Self {
        self.other_ports.push(setting);
        self
    }

    /// Runs it in a network namespace, where it is reached at `host`.
    #[must_use]
    pub fn in_namespace(mut self, name: &str, host: IpAddr) -> Self {
        self.wrapper = ["ip", "netns", "exec", name].map(str::to_owned).to_vec();
        self.host = Some(host);
        self
    }

    fn text(&self, port: u16, other_ports: &[(&str, u16)]) -> String {
        let bind = match self.host {
            Some(_) => "0.0.0.0",
            None => "127.0.0.1",
        };
        let appends = match self.persistence {
            Persistence::EverySecond => "appendonly yes\nappendfsync everysec",
            Persistence::Always => "appendonly yes\nappendfsync always",
            Persistence::None | Persistence::Snapshots => "appendonly no",
        };
        let mut text = format!(
            "bind {bind}\nport {port}\nprotected-mode no\ndaemonize no\nsave \"\"\n{appends}\n\
             enable-debug-command yes\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
        );
        let ports = other_ports
            .iter()
            .map(|(setting, port)| format!("{setting} {port}"));
        for line in self.lines.iter().cloned().chain(ports) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// A snapshot file that a server can be started from.
#[derive(Debug, Clone)]
pub struct Snapshot(Vec<u8>);

/// One Redis server; ends when it is dropped.
#[derive(Debug)]
pub struct Redis {
    config: RedisConfig,
    address: SocketAddr,
    other_ports: Vec<(&'static str, u16)>,
    // Before the folder: first it ends, then its files go.
    process: Option<Process>,
    folder: Folder,
}

impl Redis {
    /// A server without persistence.
    pub async fn start() -> Self {
        Self::start_with(RedisConfig::default()).await
    }

    /// A server with a configuration. Answers once it takes commands.
    pub async fn start_with(config: RedisConfig) -> Self {
        for _ in 0..STARTS_MAX {
            let mut redis = Self::placed(config.clone());
            if redis.try_start().await {
                return redis;
            }
        }
        panic!("no redis-server starts; is it installed (`cargo xtask tools`)?");
    }

    /// A server that has its place and does not run yet.
    pub(super) fn placed(config: RedisConfig) -> Self {
        let host = config.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port = config.port.unwrap_or_else(free_port);
        // Chosen here: when somebody else is quicker, the next attempt has others.
        let other_ports = config.other_ports.iter();
        Self {
            other_ports: other_ports.map(|setting| (*setting, free_port())).collect(),
            config,
            address: (host, port).into(),
            process: None,
            folder: Folder::new("redis").unwrap(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of a setting that [`RedisConfig::other_port`] named.
    #[must_use]
    pub fn other_port(&self, setting: &str) -> Option<u16> {
        let mut ports = self.other_ports.iter();
        ports.find_map(|(other, port)| (*other == setting).then_some(*port))
    }

    /// `redis://host:port/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Sends one command on a connection of its own and answers what Redis says, errors included.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn command<T: AsRef<[u8]>>(&self, words: &[T]) -> Value {
        self.try_command(words).await.unwrap()
    }

    /// The same for a server that may be away.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_command<T: AsRef<[u8]>>(&self, words: &[T]) -> std::io::Result<Value> {
        self.connect().await?.command(words).await
    }

    /// A connection.
    ///
    /// # Errors
    /// When the server does not listen.
    pub async fn connect(&self) -> std::io::Result<Connection> {
        Connection::open(self.address).await
    }

    /// Asks a question that may be asked again: sentinels cut the connections of servers whose role they change.
    ///
    /// # Panics
    /// When there is no answer to any of them.
    pub async fn ask<T: AsRef<[u8]>>(&self, words: &[T]) -> Value {
        for _ in 0..QUESTIONS_MAX {
            if let Ok(answer) = self.try_command(words).await {
                return answer;
            }
        }
        self.command(words).await
    }

    /// A field of `INFO`, such as `connected_clients`; empty when there is none.
    pub async fn info(&self, field: &str) -> String {
        let info = self.ask(&["INFO", "everything"]).await.text();
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }

    /// Ends it as a power cut does. Data that it keeps stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it where it is.
    pub fn pause(&self) {
        if let Some(process) = &self.process {
            process.pause();
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(process) = &self.process {
            process.resume();
        }
    }

    /// Starts it again, on the same port, with what it has kept. Answers once it takes commands.
    pub async fn restart(&mut self) {
        self.kill();
        // The port may be somebody's outgoing connection for a moment.
        for _ in 0..STARTS_MAX {
            if self.try_start().await {
                return;
            }
        }
        panic!("redis-server does not start again: {}", self.log());
    }

    /// Starts it again with nothing.
    pub async fn restart_empty(&mut self) {
        self.kill();
        self.wipe();
        self.restart().await;
    }

    /// What it holds now, as a snapshot.
    pub async fn snapshot(&self) -> Snapshot {
        let saved = self.command(&["SAVE"]).await;
        assert!(!saved.is_error(), "{saved:?}");
        Snapshot(fs::read(self.folder.path().join(SNAPSHOT)).unwrap())
    }

    /// Starts it again with what it held when the snapshot was taken. For servers without an append-only file.
    pub async fn restart_from(&mut self, snapshot: &Snapshot) {
        self.kill();
        self.wipe();
        fs::write(self.folder.path().join(SNAPSHOT), &snapshot.0).unwrap();
        self.restart().await;
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts it; answers whether it takes commands.
    pub(super) async fn try_start(&mut self) -> bool {
        let file = self.folder.path().join("redis.conf");
        let text = self.config.text(self.address.port(), &self.other_ports);
        fs::write(&file, text).unwrap();
        let mut words = self.config.wrapper.clone();
        words.extend([SERVER.to_owned(), file.display().to_string()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.folder.path());
        let Ok(process) = Process::start(command, &self.log_path()) else {
            return false;
        };
        let process = self.process.insert(process);
        let (address, id) = (self.address, process.id());
        let is_up = async || {
            if !process.is_running() {
                return true;
            }
            let Ok(mut connection) = Connection::open(address).await else {
                return false;
            };
            // A stranger on the port would answer, too.
            let says_who_it_is = connection.command(&["INFO", "server"]).await;
            let is_it = says_who_it_is.is_ok_and(|info| {
                info.is_error() || info.text().contains(&format!("process_id:{id}\r"))
            });
            let pong = connection.command(&["PING"]).await;
            is_it && pong.is_ok_and(|pong| is_ready(&pong))
        };
        eventually("a Redis", is_up).await;
        let is_running = process.is_running();
        if !is_running {
            self.process = None;
        }
        is_running
    }

    fn wipe(&self) {
        let _ = fs::remove_file(self.folder.path().join(SNAPSHOT));
        let _ = fs::remove_dir_all(self.folder.path().join("appendonlydir"));
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("redis.log")
    }
}

/// Whether a server that says this to `PING` takes commands (or wants a password first).
fn is_ready(pong: &Value) -> bool {
    match pong {
        Value::Error(error) => error.starts_with("NOAUTH") || error.starts_with("MASTERDOWN"),
        _ => true,
    }
}

/// Waits until a server says something about itself.
pub(super) async fn until_info(redis: &Redis, field: &str, expected: &str) {
    let says = async || {
        let info = redis.try_command(&["INFO", "everything"]).await;
        let line = format!("{field}:{expected}");
        info.is_ok_and(|info| info.text().lines().any(|other| other.trim() == line))
    };
    within(&format!("{field} {expected}"), eventually(field, says)).await;
}

/// The program.
const SERVER: &str = "redis-server";
/// The file of a snapshot.
const SNAPSHOT: &str = "dump.rdb";
/// 5: a connection is cut once or twice when a role changes.
const QUESTIONS_MAX: usize = 5;
/// 5: a port taken meanwhile is bad luck once, not five times.
const STARTS_MAX: usize = 5;
