//! Nodes of releases that do not understand each other, on one Redis.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{Member, RawJson, SocketId, UserId};
use fanfare_server::delivery::{Departure, Retention};
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::engine::{Engine, EngineError, Health};
use fanfare_tests::eventually;
use fanfare_tests::redis::Redis;

use super::node::{KEPT, Node, channel, message, numbers, options};

/// A format that no release speaks.
const OTHER: u32 = 77;

fn quick(redis: &Redis) -> RedisOptions {
    let mut options = options(&format!("redis://{}", redis.address()));
    options.flow.lease_interval = Duration::from_millis(100);
    options
}

async fn refused(options: RedisOptions) -> String {
    let refused = Engine::redis(options).broker.start(Arc::new(|_| {})).await;
    refused.unwrap_err().to_string()
}

fn stalled(engine: &Engine) -> Option<String> {
    match engine.broker.health() {
        Health::Stalled { reason, .. } => Some(reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_node_of_another_format_starts_only_when_the_others_have_stopped() {
    let redis = Redis::start().await;
    let (options, channel) = (quick(&redis).with_prefix("formats:").unwrap(), channel("c"));
    // What is no node was written by another program: nodes are listed all the same.
    for entry in ["x", "v3:abc", ":", "3:", "3:xyz"] {
        let list = "formats:~{nodes}";
        redis.command(&["ZADD", list, "9e15", entry]).await;
    }
    let node = Node::start(options.clone(), Some("!")).await;
    node.follow(&channel, KEPT).await;
    let told = refused(options.clone().with_format(OTHER)).await;
    assert!(
        told.ends_with(
            "this node speaks format 77 and there are 1 live nodes of format 3 with the same Redis and prefix: stop all nodes \
             of one format first"
        ),
        "{told}"
    );
    let publisher = Engine::redis(options.clone().with_format(OTHER));
    let told = publisher.broker.start_publishing(Arc::new(|_| {})).await;
    assert!(matches!(told, Err(EngineError::Refused { .. })), "{told:?}");
    // The node that is there notices nothing of it.
    let other = Node::start(options.clone(), Some("?")).await;
    assert_eq!(
        other.engine.broker.request("who".into()).await.unwrap(),
        ["who!"]
    );
    other.publish(&channel, 1, KEPT).await;
    assert_eq!(numbers(&node.messages(&channel, 1).await), [1]);
    assert_eq!(stalled(&node.engine), None);
    for node in [node, other] {
        node.engine.broker.close().await;
    }
    let newer = Node::start(options.clone().with_format(OTHER), None).await;
    newer.follow(&channel, KEPT).await;
    newer.publish(&channel, 2, KEPT).await;
    newer.messages(&channel, 1).await;
    let told = refused(options).await;
    assert!(told.contains("1 live nodes of format 77"), "{told}");
}

#[tokio::test]
async fn members_that_an_older_format_has_left_are_not_counted() {
    let redis = Redis::start().await;
    let node = Node::start(quick(&redis).with_prefix("old:").unwrap(), None).await;
    let room = channel("presence-a");
    let (gone, here) = ("00000000000000000000000000000007", SocketId::from_bits(8));
    let user = "\"ann\"";
    for words in [
        &["HSET", "old:{presence-a}:m", "e", "5", "s", "3", "t", "7"][..],
        &[
            "HSET",
            "old:{presence-a}:pc",
            gone,
            "h\"ann\"",
            "r",
            "100 60000 60000",
        ],
        &["ZADD", "old:{presence-a}:px", "9e15", gone],
        &[
            "HSET",
            "old:{presence-a}:pu",
            "n\"ann\"",
            "1",
            "i\"ann\"",
            "{}",
        ],
        &["ZADD", "old:{presence-a}:pm", "0", user],
    ] {
        redis.command(words).await;
    }
    let presence = &node.engine.presence;
    let member = Member {
        id: UserId::new("ann").unwrap(),
        info: RawJson::null(),
    };
    let joined = presence.join(&room, here, member, KEPT).await;
    joined.unwrap();
    let members = presence.members(&room, None).await.unwrap();
    assert_eq!(members.count, 1);
    assert_ne!(members.position.epoch.0, 5, "subscribers are told");
    let left = presence.leave(&room, here, Departure::Goodbye);
    left.await.unwrap();
    assert_eq!(presence.members(&room, None).await.unwrap().count, 0);
}

#[tokio::test]
async fn beside_a_node_that_knows_of_no_formats_nodes_are_not_ready_and_publishers_publish_nothing()
{
    let redis = Redis::start().await;
    let (options, channel) = (quick(&redis), channel("c"));
    let node = Node::start(options.clone(), None).await;
    let publisher = Engine::redis(options.clone());
    let started = publisher.broker.start_publishing(Arc::new(|_| {})).await;
    started.unwrap();
    let publish = || {
        publisher
            .broker
            .publish(message(&channel, 1), Retention::NONE)
    };
    publish().await.unwrap();
    // Its entry, as such a node writes it.
    let list = format!("{}~{{nodes}}", options.prefix);
    let [far_away, entry] = ["9999999999999", "5f3a"];
    redis.command(&["ZADD", &list, far_away, entry]).await;
    for engine in [&node.engine, &publisher] {
        eventually("a node that is not ready", async || {
            stalled(engine).is_some_and(|reason| reason.contains("1 live nodes of format 1"))
        })
        .await;
    }
    let told = publish().await;
    assert!(matches!(told, Err(EngineError::Refused { .. })), "{told:?}");
    // Those who are connected to the node go on.
    node.follow(&channel, KEPT).await;
    node.publish(&channel, 2, KEPT).await;
    node.messages(&channel, 1).await;
    redis.command(&["ZREM", &list, entry]).await;
    for engine in [&node.engine, &publisher] {
        eventually("a node that is ready again", async || {
            stalled(engine).is_none()
        })
        .await;
    }
    publish().await.unwrap();
}
