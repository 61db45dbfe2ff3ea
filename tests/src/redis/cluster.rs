//! A Redis Cluster of three masters.

#![expect(
    clippy::unwrap_used,
    reason = "a Redis that does not start or answer fails the test"
)]

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::server::{Redis, RedisConfig};
use crate::process::eventually;
use crate::resp::Value;
use crate::within;

/// A Redis Cluster of three masters, each with so many replicas. A master that is silent for 2 s is replaced.
#[derive(Debug)]
pub struct Cluster {
    /// The masters that it begins with, then their replicas.
    pub servers: Vec<Redis>,
}

impl Cluster {
    /// Three masters, each with `replicas` replicas, once all of them agree.
    pub async fn start(replicas: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..MASTERS * (replicas + 1) {
            let config = RedisConfig::default()
                .line("cluster-enabled yes")
                .other_port("cluster-port")
                .line(format!("cluster-node-timeout {NODE_TIMEOUT_MS}"))
                .line("cluster-replica-validity-factor 0")
                .line("cluster-require-full-coverage no");
            servers.push(Redis::start_with(config).await);
        }
        let cluster = Self { servers };
        cluster.form().await;
        cluster
    }

    /// Where its servers listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Redis::address).collect()
    }

    /// The slot of a key, or of a channel.
    pub async fn slot(&self, key: &str) -> u16 {
        let slot = self.servers[0].command(&["CLUSTER", "KEYSLOT", key]).await;
        u16::try_from(slot.number().unwrap()).unwrap()
    }

    /// The index of the server that owns a slot, as it says itself.
    pub async fn owner(&self, slot: u16) -> Option<usize> {
        for (index, server) in self.servers.iter().enumerate() {
            if owns(server, slot).await {
                return Some(index);
            }
        }
        None
    }

    /// Waits until a server that runs owns a slot; its index.
    pub async fn until_owned(&self, slot: u16) -> usize {
        eventually("an owner of the slot", async || {
            self.owner(slot).await.is_some()
        })
        .await;
        self.owner(slot).await.unwrap()
    }

    /// Waits until another server than this one, which may be stopped, owns a slot.
    pub async fn until_replaced(&self, slot: u16, old: usize) {
        let others = || self.servers.iter().enumerate();
        let others = || others().filter(|(index, _)| *index != old);
        eventually("another owner of the slot", async || {
            for (_, server) in others() {
                if owns(server, slot).await {
                    return true;
                }
            }
            false
        })
        .await;
    }

    /// Moves a slot with its keys to another master, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to).await;
        while self.move_keys(slot, from, to, 10).await {}
        self.end_move(slot, from, to).await;
    }

    /// The first step of a move: both masters know that the slot is on its way.
    pub async fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let (number, source_id, target_id) =
            (slot.to_string(), self.id(from).await, self.id(to).await);
        let importing = ["CLUSTER", "SETSLOT", &number, "IMPORTING", &source_id];
        told(&self.servers[to], &importing).await;
        let migrating = ["CLUSTER", "SETSLOT", &number, "MIGRATING", &target_id];
        told(&self.servers[from], &migrating).await;
    }

    /// Moves so many keys of a slot that is on its way, at most; false when there were none.
    pub async fn move_keys(&self, slot: u16, from: usize, to: usize, count: u32) -> bool {
        let (source, target) = (&self.servers[from], self.servers[to].address());
        let (host, port) = (target.ip().to_string(), target.port().to_string());
        let (slot, count) = (slot.to_string(), count.to_string());
        let question = ["CLUSTER", "GETKEYSINSLOT", &slot, &count];
        let keys = source.command(&question).await;
        if keys.elements().is_empty() {
            return false;
        }
        let mut words: Vec<Vec<u8>> = ["MIGRATE", &host, &port, "", "0", "5000", "KEYS"]
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        for key in keys.elements() {
            if let Value::Bulk(key) = key {
                words.push(key.clone());
            }
        }
        // A key may have expired meanwhile: `NOKEY` is no error.
        let moved = source.command(&words).await;
        assert!(!moved.is_error(), "{moved:?}");
        true
    }

    /// The last step of a move: the slot has a new owner.
    pub async fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (number, target_id) = (slot.to_string(), self.id(to).await);
        for server in [to, from] {
            let settled = ["CLUSTER", "SETSLOT", &number, "NODE", &target_id];
            told(&self.servers[server], &settled).await;
        }
    }

    /// Names with a prefix, followed by a number, whose slots a master begins with.
    pub fn names_at(&self, index: usize, prefix: &str) -> impl Iterator<Item = String> {
        let names = (0_u32..).map(move |number| format!("{prefix}{number}"));
        names.filter(move |name| {
            let slot = u32::from(crc16::State::<crc16::XMODEM>::calculate(name.as_bytes())) % SLOTS;
            slots_of(index).contains(&slot)
        })
    }

    /// Waits until every server that runs names the same owner of a slot; until then a failover may not know of a move.
    pub async fn until_agreed(&self, slot: u16) {
        eventually("servers that agree about a slot", async || {
            let mut owners = Vec::new();
            for server in self.servers.iter().filter(|server| server.id().is_some()) {
                let nodes = server.command(&["CLUSTER", "NODES"]).await.text();
                let is_owner =
                    |line: &&str| line.split(' ').skip(8).any(|part| has_slot(part, slot));
                let owner = nodes.lines().find(is_owner).unwrap_or_default();
                owners.push(owner.split(' ').next().unwrap_or_default().to_owned());
            }
            !owners[0].is_empty() && owners.iter().all(|owner| *owner == owners[0])
        })
        .await;
    }

    /// Waits until every server that runs says that all slots are served.
    pub async fn until_ok(&self) {
        eventually("a cluster that is well", async || {
            for server in self.servers.iter().filter(|server| server.id().is_some()) {
                let info = server.try_command(&["CLUSTER", "INFO"]).await;
                let is_ok = info.is_ok_and(|info| {
                    let text = info.text();
                    text.contains("cluster_state:ok") && text.contains("cluster_slots_ok:16384")
                });
                if !is_ok {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Waits until every replica that runs has what its master has.
    pub async fn until_replicated(&self) {
        eventually("replicas that follow", async || {
            for server in self.servers.iter().filter(|server| server.id().is_some()) {
                let info = server.try_command(&["INFO", "replication"]).await;
                let follows = info.is_ok_and(|info| {
                    let text = info.text();
                    text.contains("role:master") || text.contains("master_link_status:up")
                });
                if !follows {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// A server's id in the cluster.
    pub async fn id(&self, index: usize) -> String {
        self.servers[index]
            .command(&["CLUSTER", "MYID"])
            .await
            .text()
    }

    async fn form(&self) {
        for (index, server) in self.servers.iter().enumerate() {
            told(
                server,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()],
            )
            .await;
        }
        for index in 0..MASTERS {
            let slots = slots_of(index);
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            told(
                &self.servers[index],
                &["CLUSTER", "ADDSLOTSRANGE", &first, &last],
            )
            .await;
        }
        within("servers that know each other", async {
            while !self.knows_itself().await {
                for server in &self.servers[1..] {
                    self.introduce(server).await;
                }
                // A handshake that takes longer than the node timeout is forgotten: then they are introduced again.
                let knows = eventually("", async || self.knows_itself().await);
                let _ = tokio::time::timeout(HANDSHAKE_MAX, knows).await;
            }
        })
        .await;
        let count = self.servers.len();
        for index in MASTERS..count {
            let master = self.id(index % MASTERS).await;
            let replica = &self.servers[index];
            eventually("a replica that knows its master", async || {
                let done = replica.command(&["CLUSTER", "REPLICATE", &master]).await;
                !done.is_error()
            })
            .await;
        }
        self.until_ok().await;
        for replica in &self.servers[MASTERS..] {
            super::server::until_info(replica, "master_link_status", "up").await;
        }
    }

    async fn knows_itself(&self) -> bool {
        let count = self.servers.len();
        for server in &self.servers {
            let info = server.command(&["CLUSTER", "INFO"]).await.text();
            if !info.contains(&format!("cluster_known_nodes:{count}\r")) {
                return false;
            }
        }
        true
    }

    async fn introduce(&self, server: &Redis) {
        let address = server.address();
        let info = server.command(&["CONFIG", "GET", "cluster-port"]).await;
        let bus = info.elements()[1].text();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        told(&self.servers[0], &["CLUSTER", "MEET", &host, &port, &bus]).await;
    }
}

/// Whether a server says that it is a master and owns a slot.
async fn owns(server: &Redis, slot: u16) -> bool {
    let Ok(nodes) = server.try_command(&["CLUSTER", "NODES"]).await else {
        return false;
    };
    let text = nodes.text();
    let own = text.lines().find(|line| line.contains("myself,master"));
    own.is_some_and(|own| own.split(' ').skip(8).any(|part| has_slot(part, slot)))
}

async fn told(server: &Redis, words: &[&str]) {
    let answer = server.command(words).await;
    assert!(!answer.is_error(), "{words:?}: {answer:?}");
}

/// The slots that a master begins with.
fn slots_of(index: usize) -> RangeInclusive<u32> {
    let share = SLOTS / u32::try_from(MASTERS).unwrap();
    let index = u32::try_from(index).unwrap();
    let last = match index + 1 == u32::try_from(MASTERS).unwrap() {
        true => SLOTS - 1,
        false => (index + 1) * share - 1,
    };
    index * share..=last
}

/// Whether a part of a line of `CLUSTER NODES`, such as `0-5460`, has a slot.
fn has_slot(part: &str, slot: u16) -> bool {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&slot),
        _ => false,
    }
}

/// 3: the fewest that a cluster has.
const MASTERS: usize = 3;
/// How many slots there are (Redis cluster specification, *key distribution model*).
const SLOTS: u32 = 16_384;
/// 3 s: longer than a handshake lives.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);
/// 2 s: a failover takes about two of them.
const NODE_TIMEOUT_MS: u32 = 2_000;
