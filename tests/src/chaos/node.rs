//! One server process of the system under load.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::access;
use crate::node::{Node, NodeConfig};

/// What a server process is started with: a store's URL (in memory when absent), what its keys begin with, and a network namespace
/// with its address there.
#[must_use]
pub fn config(
    program: &Path,
    redis_url: Option<String>,
    prefix: &str,
    namespace: Option<(String, IpAddr)>,
) -> NodeConfig {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
    for rule in access::RULES {
        add("--rule", rule);
    }
    add("--drain-delay", "1s");
    add("--drain-per-second", "10");
    add("--log", "info");
    if let Some(url) = redis_url {
        add("--redis-url", &url);
        add("--redis-prefix", prefix);
    }
    let secrets = ["FANFARE_JWT_SECRET", "FANFARE_SECRET"];
    NodeConfig {
        program: program.to_owned(),
        arguments,
        variables: secrets
            .map(|name| (name.to_owned(), access::SECRET.to_owned()))
            .to_vec(),
        namespace,
    }
}

/// Asks a node to end, waits until it has, and answers whether it says that all is well.
pub async fn stop(node: &mut Node) -> bool {
    node.terminate();
    let ended = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            if let Some(outcome) = node.outcome() {
                return outcome.success();
            }
        }
    };
    tokio::time::timeout(STOPPING_MAX, ended)
        .await
        .unwrap_or(false)
}

/// 35 s: longer than a node may take, so that the row can see it.
const STOPPING_MAX: Duration = Duration::from_secs(35);
