//! The topologies do what tests will rely on.

use super::*;

async fn set(redis: &Redis, value: &str) {
    let answer = redis.command(&["SET", "key", value]).await;
    assert!(!answer.is_error(), "{answer:?}");
}

async fn get(redis: &Redis) -> String {
    redis.command(&["GET", "key"]).await.text()
}

#[tokio::test]
async fn a_server_keeps_what_it_was_told_to_keep() {
    for (persistence, kept) in [(Persistence::None, ""), (Persistence::Always, "1")] {
        let mut redis = Redis::start_with(RedisConfig::persistent(persistence)).await;
        set(&redis, "1").await;
        redis.restart().await;
        assert_eq!(get(&redis).await, kept, "{persistence:?}");
        set(&redis, "2").await;
        redis.restart_empty().await;
        assert_eq!(get(&redis).await, "");
    }
}

#[tokio::test]
async fn a_server_starts_again_from_an_old_snapshot() {
    let mut redis = Redis::start_with(RedisConfig::persistent(Persistence::Snapshots)).await;
    set(&redis, "old").await;
    let snapshot = redis.snapshot().await;
    set(&redis, "new").await;
    redis.restart_from(&snapshot).await;
    assert_eq!(get(&redis).await, "old");
}

#[tokio::test]
async fn sentinels_replace_a_master_that_is_gone() {
    let mut group = Sentinel::start(2).await;
    assert_eq!(group.master().await, Some(0));
    set(&group.servers[0], "1").await;
    let master = group.master_address().await;
    assert_eq!(master, Some(group.servers[0].address()));
    group.servers[0].kill();
    let next = group.until_failed_over(0).await;
    set(&group.servers[next], "2").await;
    group.servers[0].restart().await;
    group.until_all_follow().await;
    assert_eq!(get(&group.servers[0]).await, "2");
}

#[tokio::test]
async fn a_cluster_moves_a_slot_and_replaces_a_master() {
    let mut cluster = Cluster::start(1).await;
    let slot = cluster.slot("key").await;
    let owner = cluster.owner(slot).await.unwrap();
    set(&cluster.servers[owner], "1").await;
    let other = (owner + 1) % 3;
    cluster.move_slot(slot, owner, other).await;
    assert_eq!(cluster.owner(slot).await, Some(other));
    assert_eq!(get(&cluster.servers[other]).await, "1");
    cluster.until_agreed(slot).await;
    // Written once more where it is waited for: WAIT counts the writes of its own connection.
    let mut connection = cluster.servers[other].connect().await.unwrap();
    connection.command(&["SET", "key", "1"]).await.unwrap();
    let waited = connection.command(&["WAIT", "1", "10000"]).await.unwrap();
    assert_eq!(waited.number(), Some(1));
    cluster.servers[other].kill();
    let replica = cluster.until_owned(slot).await;
    assert_eq!(replica, other + 3);
    cluster.until_ok().await;
    assert_eq!(get(&cluster.servers[replica]).await, "1");
}

#[tokio::test]
async fn prefixes_differ_and_one_server_is_shared() {
    assert_ne!(prefix("a"), prefix("a"));
    assert_eq!(shared().await.address(), shared().await.address());
}
