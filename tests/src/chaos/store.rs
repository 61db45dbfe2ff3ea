//! What the nodes stand on.

use std::net::SocketAddr;

use crate::proxy::RedisProxy;
use crate::redis::{Cluster, Persistence, Redis, RedisConfig, Sentinel};
use crate::resp::Value;

/// What a row needs to stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// The memory of one node.
    Memory,
    /// One Redis without persistence.
    Bare,
    /// One Redis with an append-only file.
    AppendOnly,
    /// One Redis with snapshots when told to.
    Snapshots,
    /// One Redis, and a proxy before it for every node and for the publishers.
    Proxied,
    /// A master, two replicas and three sentinels.
    Sentinel,
    /// The same in two network namespaces.
    Split,
    /// The same, with a master that accepts nothing once no replica hears it.
    CarefulSplit,
    /// Three masters, each with a replica.
    Cluster,
}

/// What the nodes stand on.
#[derive(Debug)]
pub enum Store {
    /// The memory of one node.
    Memory,
    /// One Redis.
    Single(Redis),
    /// One Redis, and a proxy before it for every node; the last one is the publishers'.
    Proxied(Redis, Vec<RedisProxy>),
    /// A master, its replicas and sentinels.
    Sentinel(Sentinel),
    /// A cluster.
    Cluster(Cluster),
}

impl Store {
    /// Sets it up. `nodes` is how many will use it.
    ///
    /// # Panics
    /// When it does not start; [`StoreKind::Split`] is set up by [`super::namespace`].
    pub async fn start(kind: StoreKind, nodes: usize, seed: u64) -> Self {
        let single =
            async |persistence| Redis::start_with(RedisConfig::persistent(persistence)).await;
        match kind {
            StoreKind::Memory => Self::Memory,
            StoreKind::Bare => Self::Single(single(Persistence::None).await),
            StoreKind::AppendOnly => Self::Single(single(Persistence::EverySecond).await),
            StoreKind::Snapshots => Self::Single(single(Persistence::Snapshots).await),
            StoreKind::Proxied => {
                let redis = single(Persistence::None).await;
                let mut proxies = Vec::new();
                for number in 0..=nodes {
                    let seed = seed.wrapping_add(u64::try_from(number).unwrap_or(0));
                    let proxy = RedisProxy::start(redis.address(), seed).await;
                    proxies.extend(proxy.ok());
                }
                Self::Proxied(redis, proxies)
            }
            StoreKind::Sentinel | StoreKind::Split | StoreKind::CarefulSplit => {
                Self::Sentinel(Sentinel::start(2).await)
            }
            StoreKind::Cluster => Self::Cluster(Cluster::start(1).await),
        }
    }

    /// Its URL for a node; the publishers' comes behind the last node's.
    #[must_use]
    pub fn url(&self, node: usize) -> Option<String> {
        match self {
            Self::Memory => None,
            Self::Single(redis) => Some(redis.url()),
            Self::Proxied(_, proxies) => {
                let proxy = proxies.get(node).or_else(|| proxies.last())?;
                Some(format!("redis://{}/", proxy.address()))
            }
            Self::Sentinel(group) => Some(format!(
                "redis+sentinel://{}/{}",
                list(&group.addresses()),
                group.name()
            )),
            Self::Cluster(cluster) => {
                Some(format!("redis+cluster://{}", list(&cluster.addresses())))
            }
        }
    }

    /// All servers that hold data.
    #[must_use]
    pub fn servers(&self) -> Vec<&Redis> {
        match self {
            Self::Memory => Vec::new(),
            Self::Single(redis) | Self::Proxied(redis, _) => vec![redis],
            Self::Sentinel(group) => group.servers.iter().collect(),
            Self::Cluster(cluster) => cluster.servers.iter().collect(),
        }
    }

    /// The one server.
    ///
    /// # Panics
    /// When it is not one.
    pub fn single(&mut self) -> &mut Redis {
        match self {
            Self::Single(redis) | Self::Proxied(redis, _) => redis,
            _ => panic!("this row needs a single Redis"),
        }
    }

    /// The proxies of the nodes, and the publishers' as the last one.
    #[must_use]
    pub fn proxies(&self) -> &[RedisProxy] {
        match self {
            Self::Proxied(_, proxies) => proxies,
            _ => &[],
        }
    }

    /// The master and its replicas.
    ///
    /// # Panics
    /// When there are none.
    pub fn sentinel(&mut self) -> &mut Sentinel {
        match self {
            Self::Sentinel(group) => group,
            _ => panic!("this row needs Sentinel"),
        }
    }

    /// The cluster.
    ///
    /// # Panics
    /// When there is none.
    pub fn cluster(&mut self) -> &mut Cluster {
        match self {
            Self::Cluster(cluster) => cluster,
            _ => panic!("this row needs a cluster"),
        }
    }

    /// How often `XRANGE` was called, on all servers since they began: every read of a history calls it at least
    /// once, and so does the start of a node or publisher, which tries its rights.
    pub async fn history_reads(&self) -> u64 {
        let mut reads = 0;
        for redis in self.servers() {
            // `cmdstat_xrange:calls=12,usec=…`
            let text = redis.info("cmdstat_xrange").await;
            let calls = text.split(',').find_map(|one| one.strip_prefix("calls="));
            reads += calls.and_then(|calls| calls.parse().ok()).unwrap_or(0);
        }
        reads
    }

    /// How many clients and channels it counts, and how many keys never expire.
    pub async fn held(&self) -> (u64, u64, u64) {
        let (mut clients, mut channels, mut eternal) = (0, 0, 0);
        for redis in self.servers() {
            if redis.id().is_none() {
                continue;
            }
            let number = async |field| redis.info(field).await.parse::<u64>().unwrap_or(0);
            clients += number("connected_clients").await;
            let names = redis.ask(&["PUBSUB", "CHANNELS"]).await;
            let shards = redis.ask(&["PUBSUB", "SHARDCHANNELS"]).await;
            let count = names.elements().len() + shards.elements().len();
            channels += u64::try_from(count).unwrap_or(0);
            eternal += keys_without_end(redis).await;
        }
        (clients, channels, eternal)
    }
}

/// How many keys of a server never expire.
async fn keys_without_end(redis: &Redis) -> u64 {
    // `db0:keys=12,expires=12,avg_ttl=…`
    let text = redis.info("db0").await;
    let field = |name: &str| {
        let part = text.split(',').find_map(|part| part.strip_prefix(name));
        part.and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0)
    };
    field("keys=").saturating_sub(field("expires="))
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(",")
}

/// Whether an answer is not an error.
#[must_use]
pub fn is_well(value: &Value) -> bool {
    !value.is_error()
}
