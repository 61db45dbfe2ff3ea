//! The same engine on Sentinel and on a Cluster: masters fail over and slots move while messages are published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, IdempotencyKey, RawJson};
use fanfare_server::Publication;
use fanfare_server::delivery::{HistoryRange, PublishLevel, Retention};
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::engine::{Engine, EngineError};
use fanfare_tests::eventually;
use fanfare_tests::redis::{Cluster, Redis, Sentinel, prefix};
use fanfare_tests::resp::Value;

const KEPT: Retention = Retention::new(1_000, Duration::from_mins(5));

const ALL: HistoryRange = HistoryRange::After {
    offset: 0,
    limit: u32::MAX,
};

/// The URL of what the sentinels name.
pub(super) fn sentinel_url(sentinel: &Sentinel) -> String {
    let hosts = sentinel.addresses();
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    format!("redis+sentinel://{}/{}", hosts.join(","), sentinel.name())
}

/// The URL of a cluster, by one of its servers.
pub(super) fn cluster_url(cluster: &Cluster) -> String {
    format!("redis+cluster://{}", cluster.addresses()[0])
}

fn options(url: &str) -> RedisOptions {
    let options: RedisOptions = url.parse().unwrap();
    options.with_prefix(prefix("topologies")).unwrap()
}

async fn started(options: RedisOptions) -> Engine {
    let engine = Engine::redis(options);
    engine.broker.start(Arc::new(|_| {})).await.unwrap();
    engine
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn message(channel: &ChannelName, number: usize) -> Publication {
    let data = RawJson::trusted(number.to_string());
    Publication::new(channel.clone(), EventName::new("e").unwrap(), data)
}

async fn kept(engine: &Engine, channel: &ChannelName) -> Vec<usize> {
    let history = engine.broker.history(channel, ALL, KEPT).await.unwrap();
    let data = history
        .entries
        .iter()
        .map(|entry| entry.data.decode().unwrap());
    data.collect()
}

/// So many replicas have it, whichever of them takes over: the failover loses nothing.
fn on_replicas(replicas: u32) -> PublishLevel {
    let timeout = Duration::from_secs(20);
    PublishLevel::Replicated { replicas, timeout }
}

#[tokio::test]
async fn publishing_goes_on_after_a_sentinel_failover() {
    let mut sentinel = Sentinel::start(2).await;
    let first = options(&sentinel_url(&sentinel));
    let engine = started(first.with_budget(Duration::from_secs(20))).await;
    let channel = channel("c");
    let first = message(&channel, 1).with_level(on_replicas(2));
    let before = engine.broker.publish(first, KEPT).await.unwrap();
    let master = sentinel.master().await.unwrap();
    sentinel.servers[master].kill();
    let keyed = message(&channel, 2).with_key(IdempotencyKey::new("k").unwrap());
    let after = engine.broker.publish(keyed, KEPT).await.unwrap();
    let (before, after) = (before.position.unwrap(), after.position.unwrap());
    assert_eq!((after.epoch, after.offset), (before.epoch, 2));
    assert_eq!(kept(&engine, &channel).await, [1, 2]);
    engine
        .broker
        .publish(message(&channel, 3), Retention::NONE)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unknown_master_name_and_silent_sentinels_are_said() {
    let sentinel = Sentinel::start(0).await;
    let url = sentinel_url(&sentinel);
    let wrong = url.replace(sentinel.name(), "nobody");
    for url in [wrong.as_str(), "redis+sentinel://127.0.0.1:1/mymaster"] {
        let options = options(url).with_budget(Duration::from_millis(300));
        let error = Engine::redis(options).broker.start(Arc::new(|_| {})).await;
        assert!(
            matches!(error, Err(EngineError::Unavailable { .. })),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn channels_are_spread_over_a_cluster_and_follow_their_slots() {
    let cluster = Cluster::start(0).await;
    let engine = started(options(&cluster_url(&cluster))).await;
    let mut owners = Vec::new();
    for number in 0..20 {
        let channel = channel(&format!("spread.{number}"));
        engine
            .broker
            .publish(message(&channel, number), KEPT)
            .await
            .unwrap();
        engine
            .broker
            .publish(message(&channel, number), Retention::NONE)
            .await
            .unwrap();
        assert_eq!(kept(&engine, &channel).await, [number]);
        let slot = cluster.slot(channel.as_str()).await;
        owners.push(cluster.owner(slot).await.unwrap());
    }
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners, [0, 1, 2], "the names above lie on every master");
}

/// The login that docs/operations.md has, on every master, with some changes to it; the options that use it.
async fn login(cluster: &Cluster, changes: &[&str]) -> RedisOptions {
    let page = include_str!("../../../docs/operations.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER "));
    let mut words: Vec<&str> = line.unwrap().split(' ').collect();
    words.insert(3, "reset");
    words.extend(changes);
    for server in &cluster.servers {
        server.command(&words).await;
    }
    let options: RedisOptions = cluster_url(cluster).parse().unwrap();
    options.with_credentials(Some("fanfare"), "PASSWORD")
}

#[tokio::test]
async fn the_documented_rights_are_enough_in_a_cluster_and_what_is_missing_there_is_named() {
    let cluster = Cluster::start(0).await;
    let engine = started(login(&cluster, &[]).await).await;
    for number in 0..20 {
        let channel = channel(&format!("spread.{number}"));
        for retention in [KEPT, Retention::NONE] {
            let published = engine.broker.publish(message(&channel, number), retention);
            published.await.unwrap();
        }
        assert_eq!(kept(&engine, &channel).await, [number]);
    }
    // Without these a message would not say of which master it is, and nothing else would tell.
    for (change, right) in [("-info", "+info"), ("-cluster|info", "+cluster")] {
        let refused = Engine::redis(login(&cluster, &[change]).await);
        let refused = refused.broker.start(Arc::new(|_| {})).await;
        let Err(EngineError::Refused { detail, .. }) = refused else {
            panic!("{change}: {refused:?}");
        };
        assert!(detail.contains(right), "{change}: {detail}");
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_a_slot_moves() {
    let cluster = Cluster::start(0).await;
    let engine = started(options(&cluster_url(&cluster))).await;
    let channel = channel("moving");
    let slot = cluster.slot(channel.as_str()).await;
    let is_over = AtomicBool::new(false);
    let publishing = async {
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) || number % 10 != 0 {
            let mut sent = message(&channel, number);
            // With a key of its own every other message: a script with three keys meets a slot that is half moved.
            if number % 2 == 0 {
                sent = sent.with_key(IdempotencyKey::new(&format!("k{number}")).unwrap());
            }
            engine.broker.publish(sent, KEPT).await.unwrap();
            number += 1;
        }
        number
    };
    let moving = async {
        for _ in 0..3 {
            let from = cluster.until_owned(slot).await;
            eventually("some messages at the owner", async || {
                kept(&engine, &channel).await.len() > 5
            })
            .await;
            cluster.move_slot(slot, from, (from + 1) % 3).await;
            cluster.until_agreed(slot).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (published, ()) = tokio::join!(publishing, moving);
    let expected: Vec<usize> = (published.saturating_sub(1_000)..published).collect();
    assert_eq!(kept(&engine, &channel).await, expected);
}

/// A channel that a server owns.
async fn channel_at(cluster: &Cluster, server: usize, name: &str) -> String {
    for number in 0..1_000 {
        let name = format!("{name}.{number}");
        if cluster.owner(cluster.slot(&name).await).await == Some(server) {
            return name;
        }
    }
    panic!("server {server} owns none of so many channels");
}

/// The other end of the connection that the last script about a channel came over. The server logs every command.
async fn last_caller(redis: &Redis, channel: &str) -> Option<String> {
    let log = redis.command(&["SLOWLOG", "GET", "-1"]).await;
    // The newest comes first: its number, when, for how long, what, and who called.
    log.elements().iter().find_map(|entry| {
        let entry = entry.elements();
        let words: Vec<String> = entry[3].elements().iter().map(Value::text).collect();
        let mut arguments = words.iter();
        let is_about_it =
            words[0].starts_with("EVAL") && arguments.any(|word| word.contains(channel));
        is_about_it.then(|| entry[4].text())
    })
}

#[tokio::test]
async fn a_silent_server_that_a_slot_moves_to_costs_no_connection_to_the_other_one() {
    let cluster = Cluster::start(0).await;
    let options = options(&cluster_url(&cluster));
    let engine = started(options.with_budget(Duration::from_secs(20))).await;
    let publish = async |name: &str| {
        let sent = message(&channel(name), 1);
        engine.broker.publish(sent, Retention::NONE).await
    };
    let slot = cluster.slot("moving").await;
    let from = cluster.until_owned(slot).await;
    let to = (from + 1) % 3;
    let staying = channel_at(&cluster, from, "staying").await;
    let there = channel_at(&cluster, to, "there").await;
    let (source, target) = (&cluster.servers[from], &cluster.servers[to]);
    let words = ["CONFIG", "SET", "slowlog-log-slower-than", "0"];
    source.command(&words).await;
    let (slot, source_id, target_id) = (
        slot.to_string(),
        cluster.id(from).await,
        cluster.id(to).await,
    );
    let words = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id];
    target.command(&words).await;
    let words = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id];
    source.command(&words).await;
    publish(&staying).await.unwrap();
    let before = last_caller(source, &staying).await.unwrap();
    source.command(&["SLOWLOG", "RESET"]).await;
    // Over this connection it is asked, and does not answer.
    publish(&there).await.unwrap();
    target.pause();
    let unanswered = publish("moving").await;
    assert!(
        matches!(unanswered, Err(EngineError::Unknown { .. })),
        "{unanswered:?}"
    );
    publish(&staying).await.unwrap();
    assert_eq!(last_caller(source, &staying).await, Some(before));
    target.resume();
    eventually("the slot's new owner to answer", async || {
        publish("moving").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_replica_takes_over_a_part_of_the_cluster() {
    let mut cluster = Cluster::start(1).await;
    let long = options(&cluster_url(&cluster)).with_budget(Duration::from_secs(20));
    let engine = started(long).await;
    let channel = channel("c");
    let first = message(&channel, 1).with_level(on_replicas(1));
    engine.broker.publish(first, KEPT).await.unwrap();
    let owner = cluster
        .owner(cluster.slot(channel.as_str()).await)
        .await
        .unwrap();
    cluster.servers[owner].kill();
    let published = engine
        .broker
        .publish(message(&channel, 2), KEPT)
        .await
        .unwrap();
    assert_eq!(published.position.unwrap().offset, 2);
    assert_eq!(kept(&engine, &channel).await, [1, 2]);
}
