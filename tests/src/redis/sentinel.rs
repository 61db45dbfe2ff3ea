//! A master, its replicas, and three sentinels that watch over them.

#![expect(
    clippy::unwrap_used,
    reason = "a Redis that does not start or answer fails the test"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use super::server::{Redis, RedisConfig, until_info};
use crate::process::{Folder, Process, eventually, free_port};
use crate::resp::{Connection, Value};

/// A master, its replicas, and three sentinels that watch over them. A master that is silent for 1 s is replaced.
#[derive(Debug)]
pub struct Sentinel {
    /// All servers; the first one begins as the master.
    pub servers: Vec<Redis>,
    sentinels: Vec<Watcher>,
}

/// One sentinel; ends when it is dropped.
#[derive(Debug)]
pub struct Watcher {
    address: SocketAddr,
    wrapper: Vec<String>,
    process: Option<Process>,
    folder: Folder,
}

/// Where a server or sentinel runs.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// A network namespace and its address there; the machine's own and `127.0.0.1` when absent.
    pub namespace: Option<(String, IpAddr)>,
}

impl Sentinel {
    /// A master with so many replicas, on this machine's loopback.
    pub async fn start(replicas: usize) -> Self {
        let places = vec![Place::default(); replicas + 1];
        let sentinels = vec![Place::default(); SENTINELS];
        Self::start_in(&places, &sentinels, &RedisConfig::default()).await
    }

    /// Servers and sentinels where they are told to be; the first server begins as the master.
    pub async fn start_in(servers: &[Place], sentinels: &[Place], config: &RedisConfig) -> Self {
        let mut started: Vec<Redis> = Vec::new();
        for place in servers {
            let mut config = config.clone();
            if let Some(master) = started.first() {
                let master = master.address();
                config = config.line(format!("replicaof {} {}", master.ip(), master.port()));
            }
            if let Some((name, host)) = &place.namespace {
                config = config
                    .line(format!("replica-announce-ip {host}"))
                    .in_namespace(name, *host);
            }
            started.push(Redis::start_with(config).await);
        }
        for replica in &started[1..] {
            until_info(replica, "master_link_status", "up").await;
        }
        let master = started[0].address();
        let mut watchers = Vec::new();
        for place in sentinels {
            watchers.push(Watcher::start_in(place, master, 0).await);
        }
        let sentinel = Self {
            servers: started,
            sentinels: watchers,
        };
        sentinel.until_they_know_each_other().await;
        sentinel
    }

    /// Where the sentinels listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sentinels
            .iter()
            .map(|sentinel| sentinel.address)
            .collect()
    }

    /// What the sentinels call the master.
    #[must_use]
    pub fn name(&self) -> &'static str {
        MASTER
    }

    /// Where the master is, as the last sentinel knows.
    pub async fn master_address(&self) -> Option<SocketAddr> {
        let last = self.sentinels.last()?;
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
        let answer = ask(last.address, &question).await?;
        let [host, port] = answer.elements() else {
            return None;
        };
        format!("{}:{}", host.text(), port.text()).parse().ok()
    }

    /// The index of the master among the servers, as the last sentinel knows.
    pub async fn master(&self) -> Option<usize> {
        let address = self.master_address().await?;
        self.servers
            .iter()
            .position(|server| server.address() == address)
    }

    /// Waits until the sentinels name another master than this one, and it says so itself.
    pub async fn until_failed_over(&self, from: usize) -> usize {
        eventually("a failover", async || match self.master().await {
            Some(index) if index != from => is_master(&self.servers[index]).await,
            _ => false,
        })
        .await;
        self.master().await.unwrap()
    }

    /// Waits until every server follows the master that the sentinels name.
    pub async fn until_all_follow(&self) {
        eventually("all to follow the master", async || {
            let Some(master) = self.master().await else {
                return false;
            };
            for (index, server) in self.servers.iter().enumerate() {
                let info = server.try_command(&["INFO", "replication"]).await;
                let Ok(info) = info else {
                    return false;
                };
                let mark = match index == master {
                    true => "role:master",
                    false => "master_link_status:up",
                };
                if !info.text().contains(mark) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Has a sentinel replace the master, which is well.
    pub async fn fail_over(&self) {
        let asked = ["SENTINEL", "FAILOVER", MASTER];
        let answer = match self.sentinels.first() {
            Some(first) => ask(first.address, &asked).await,
            None => None,
        };
        assert!(answer.is_some(), "a sentinel refuses a failover");
    }

    /// Waits until so many clients listen to every sentinel for the replacement of a master.
    pub async fn until_listened_to(&self, count: usize) {
        eventually("clients that listen to the sentinels", async || {
            for sentinel in &self.sentinels {
                let clients = ask(sentinel.address, &["CLIENT", "LIST"]).await;
                let clients = clients.map(|clients| clients.text()).unwrap_or_default();
                if clients.matches(" sub=2 ").count() < count {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Stops one of the sentinels where it is, or lets it go on. The last one is the one that this is told by.
    pub fn pause_sentinel(&self, index: usize, is_paused: bool) {
        self.sentinels[index].pause(is_paused);
    }

    async fn until_they_know_each_other(&self) {
        let others = i64::try_from(self.sentinels.len() - 1).unwrap();
        let replicas = i64::try_from(self.servers.len() - 1).unwrap();
        eventually("sentinels that know each other", async || {
            for sentinel in &self.sentinels {
                let Some(told) = ask(sentinel.address, &["SENTINEL", "MASTER", MASTER]).await
                else {
                    return false;
                };
                let field = |name: &str| {
                    let mut pairs = told.elements().chunks(2);
                    pairs
                        .find_map(|pair| (pair[0].text() == name).then(|| pair.get(1)?.number())?)
                };
                if field("num-other-sentinels") != Some(others)
                    || field("num-slaves") != Some(replicas)
                {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

impl Watcher {
    /// A sentinel that knows no other, of a master that the failover with this number (`config-epoch`) has made. It replaces
    /// nobody: alone it is no majority.
    pub async fn start(master: SocketAddr, epoch: u64) -> Self {
        Self::start_in(&Place::default(), master, epoch).await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it where it is, or lets it go on.
    pub fn pause(&self, is_paused: bool) {
        if let Some(process) = &self.process {
            match is_paused {
                true => process.pause(),
                false => process.resume(),
            }
        }
    }

    /// How many connections it has accepted, this question's included.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn connections(&self) -> u64 {
        let info = ask(self.address, &["INFO", "stats"]).await.unwrap().text();
        let mut lines = info.lines();
        let count = lines.find_map(|line| line.strip_prefix("total_connections_received:"));
        count.unwrap().trim().parse().unwrap()
    }

    async fn start_in(place: &Place, master: SocketAddr, epoch: u64) -> Self {
        let folder = Folder::new("sentinel").unwrap();
        let (wrapper, host) = match &place.namespace {
            Some((name, host)) => (
                ["ip", "netns", "exec", name].map(str::to_owned).to_vec(),
                *host,
            ),
            None => (Vec::new(), IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        let bind = match place.namespace {
            Some(_) => "0.0.0.0",
            None => "127.0.0.1",
        };
        let port = free_port();
        let text = format!(
            "bind {bind}\nport {port}\nprotected-mode no\ndaemonize no\n\
             sentinel announce-ip {host}\n\
             sentinel monitor {MASTER} {} {} 2\n\
             sentinel down-after-milliseconds {MASTER} 1000\n\
             sentinel failover-timeout {MASTER} 6000\n\
             sentinel parallel-syncs {MASTER} 1\n\
             sentinel config-epoch {MASTER} {epoch}\n",
            master.ip(),
            master.port()
        );
        fs::write(folder.path().join(CONFIG), text).unwrap();
        let mut watcher = Self {
            address: (host, port).into(),
            wrapper,
            process: None,
            folder,
        };
        watcher.run().await;
        watcher
    }

    async fn run(&mut self) {
        let file = self.folder.path().join(CONFIG).display().to_string();
        let mut words = self.wrapper.clone();
        words.extend(["redis-server".to_owned(), file, "--sentinel".to_owned()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.folder.path());
        let log: PathBuf = self.folder.path().join("sentinel.log");
        self.process = Some(Process::start(command, &log).unwrap());
        let address = self.address;
        eventually("a sentinel", async || {
            ask(address, &["PING"]).await.is_some()
        })
        .await;
    }
}

async fn is_master(server: &Redis) -> bool {
    let info = server.try_command(&["INFO", "replication"]).await;
    info.is_ok_and(|info| info.text().contains("role:master"))
}

async fn ask(address: SocketAddr, words: &[&str]) -> Option<Value> {
    let mut connection = Connection::open(address).await.ok()?;
    let answer = connection.command(words).await.ok()?;
    (!answer.is_error()).then_some(answer)
}

/// What sentinels call the master.
pub const MASTER: &str = "fanfare";
/// 3: a majority outlives one.
const SENTINELS: usize = 3;
/// The sentinels rewrite it.
const CONFIG: &str = "sentinel.conf";
