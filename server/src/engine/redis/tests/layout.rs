//! What is known of who owns what, and what of it is not believed.

use std::sync::Arc;

use futures_util::FutureExt;

use super::process::RedisProcess;
use crate::engine::redis::RedisOptions;
use crate::engine::redis::connection::cluster::read_map;
use crate::engine::redis::connection::connections::{Connections, Server};
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::Topology;

/// A server of a cluster that has met nobody and owns nothing.
async fn newcomer() -> RedisProcess {
    RedisProcess::start(&[["cluster-enabled", "yes"]]).await
}

/// A cluster of one.
async fn owner() -> RedisProcess {
    let owner = newcomer().await;
    let all = ["CLUSTER", "ADDSLOTSRANGE", "0", "16383"];
    owner.run(&all).await.unwrap();
    owner
}

fn options(redis: &RedisProcess) -> RedisOptions {
    let url = format!("redis+cluster://{}", redis.address());
    url.parse().unwrap()
}

#[tokio::test]
async fn a_server_that_owns_nothing_knows_no_map() {
    let (newcomer, owner) = (newcomer().await, owner().await);
    let connections = Arc::new(Connections::new(options(&newcomer)));
    let [new, old] = [&newcomer, &owner].map(|redis| Server::at("127.0.0.1", redis.port()));
    let refused = read_map(&connections, vec![new.clone()], std::iter::empty()).await;
    assert!(
        matches!(refused, Err(CommandError::NotExecuted(_))),
        "{refused:?}"
    );
    let both = read_map(&connections, vec![new], [old.clone()].into_iter()).await;
    let map = both.unwrap();
    assert_eq!(map.masters(), std::slice::from_ref(&old));
    assert_eq!(map.owner(7), Some(&old));
}

#[tokio::test]
async fn a_layout_is_trusted_until_it_was_found_wrong_and_again_when_it_was_looked_up() {
    let redis = owner().await;
    let topology = Arc::new(Topology::new(options(&redis)));
    assert!(!topology.is_trusted(), "nothing is known");
    topology.layout().await.unwrap();
    assert!(topology.is_trusted());
    for is_wrong_again in [false, true] {
        topology.distrust();
        assert!(!topology.is_trusted());
        redis.signal("STOP");
        let mut looking = std::pin::pin!(topology.layout());
        assert!(looking.as_mut().now_or_never().is_none());
        assert!(!topology.is_trusted(), "it is being looked up");
        if is_wrong_again {
            topology.distrust();
        }
        redis.signal("CONT");
        looking.await.unwrap();
        assert_eq!(topology.is_trusted(), !is_wrong_again);
    }
}
