//! Reading leaves nothing behind in Redis that lasts.

use std::time::Duration;

use fanfare_protocol::{Member, Position, RawJson, SocketId, UserId};
use fanfare_server::delivery::{Departure, HistoryRange, Retention};
use fanfare_tests::eventually;
use fanfare_tests::redis::Redis;

use super::node::{KEPT, Node, channel, check_unbroken, numbers, options};

async fn position(node: &Node, name: &str) -> Position {
    let nothing = HistoryRange::Last { limit: 0 };
    let channel = channel(name);
    let history = node.engine.broker.history(&channel, nothing, KEPT);
    history.await.unwrap().top
}

async fn keys(redis: &Redis) -> i64 {
    redis.command(&["DBSIZE"]).await.number().unwrap()
}

#[tokio::test]
async fn channels_that_were_subscribed_and_left_are_forgotten_and_those_in_use_are_not() {
    let redis = Redis::start().await;
    let node = Node::start(options(&redis.url()), None).await;
    let own = keys(&redis).await;
    let names: Vec<String> = (0..500).map(|at| format!("visited-{at}")).collect();
    let mut before = Vec::new();
    for name in &names {
        node.follow(&channel(name), KEPT).await;
        before.push(position(&node, name).await);
    }
    assert!(keys(&redis).await >= own + 500);
    node.follow(&channel("in-use"), KEPT).await;
    let in_use = position(&node, "in-use").await;
    assert_eq!(in_use.offset, 0);
    let live = channel("live");
    node.follow(&live, Retention::NONE).await;
    node.engine
        .broker
        .set_interest(&live, Retention::NONE, false);
    for name in &names {
        node.engine.broker.set_interest(&channel(name), KEPT, false);
    }
    // The interval of comparisons is 500 ms: a channel without a message is remembered for 2.5 s, unless it is compared.
    eventually("Redis to forget them", async || {
        keys(&redis).await == own + 1
    })
    .await;
    let after = position(&node, &names[7]).await;
    assert_ne!(after.epoch, before[7].epoch, "who comes back is told");
    assert_eq!(position(&node, "in-use").await, in_use);
    let name = channel("in-use");
    node.publish(&name, 1, KEPT).await;
    let seen = node.messages(&name, 1).await;
    check_unbroken(&seen);
    assert_eq!(numbers(&seen), [1]);
    let first = position(&node, "in-use").await;
    assert_eq!((first.epoch, first.offset), (in_use.epoch, 1));
}

#[tokio::test]
async fn so_many_channels_without_a_message_are_remembered_and_no_more() {
    const BURST: u32 = 20;
    let redis = Redis::start().await;
    let options = options(&redis.url()).with_new_channels(1, BURST);
    let node = Node::start(options, None).await;
    let own = keys(&redis).await;
    let names: Vec<String> = (0..300).map(|at| format!("visited-{at}")).collect();
    let mut stands = Vec::new();
    for name in &names {
        node.follow(&channel(name), KEPT).await;
        stands.push(position(&node, name).await);
    }
    let remembered = keys(&redis).await - own;
    // One more for each second that this took.
    assert!(
        (1..=i64::from(BURST) * 3).contains(&remembered),
        "{remembered}"
    );
    // Who comes back finds the channel unchanged.
    for name in &names[200..] {
        node.engine.broker.set_interest(&channel(name), KEPT, false);
    }
    node.follow(&channel(&names[250]), KEPT).await;
    assert_eq!(position(&node, &names[250]).await, stands[250]);
    // No message ever has the position that was written nowhere.
    let name = channel(&names[298]);
    let published = node.publish(&name, 1, KEPT).await.unwrap();
    assert_eq!(published.offset, 1);
    assert_ne!(published.epoch, stands[298].epoch);
    node.messages(&channel(&names[298]), 1).await;
    // Comparisons have told nobody anything by then, of what is written and what is not.
    eventually("several comparisons", async || {
        let statistics = redis.command(&["INFO", "commandstats"]).await.text();
        let calls = statistics.split("cmdstat_evalsha:calls=").nth(1);
        let calls = calls.and_then(|rest| rest.split(',').next()?.parse().ok());
        calls.is_some_and(|calls: u64| calls > 2_000)
    })
    .await;
    for name in &names[..200] {
        assert!(node.seen(&channel(name)).is_empty(), "{name}");
    }
    let remembered = keys(&redis).await - own;
    assert!(remembered <= i64::from(BURST) * 4, "{remembered}");
}

#[tokio::test]
async fn a_full_redis_is_not_made_fuller_by_reading() {
    let redis = Redis::start().await;
    let node = Node::start(options(&redis.url()), None).await;
    node.publish(&channel("known"), 1, KEPT).await;
    let own = keys(&redis).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for at in 0..50 {
        let name = format!("new-{at}");
        assert_eq!(position(&node, &name).await.offset, 0);
        assert_eq!(position(&node, &name).await, position(&node, &name).await);
    }
    assert_eq!(position(&node, "known").await.offset, 1);
    assert_eq!(keys(&redis).await, own);
}

#[tokio::test]
async fn where_a_channel_stands_is_read_without_a_message() {
    let redis = Redis::start().await;
    let node = Node::start(options(&redis.url()), None).await;
    // The node does not follow the channel, so that Redis is asked.
    let c = channel("c");
    let published = node.publish(&c, 1, KEPT).await;
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(Some(position(&node, "c").await), published);
    let (offset, limit) = (0, 0);
    let nothing = HistoryRange::After { offset, limit };
    let history = node.engine.broker.history(&c, nothing, KEPT);
    assert!(history.await.unwrap().entries.is_empty());
    let statistics = redis.command(&["INFO", "commandstats"]).await.text();
    assert!(statistics.contains("cmdstat_evalsha:calls=2,"));
    // An XRANGE that begins after the newest message brings none; an XREVRANGE brings that one with its body.
    assert!(!statistics.contains("cmdstat_xrevrange:"), "{statistics}");
    assert!(statistics.contains("cmdstat_xrange:calls=2,"));
}

#[tokio::test]
async fn a_channel_that_had_a_message_is_remembered_for_a_day() {
    let redis = Redis::start().await;
    let prefix = fanfare_tests::redis::prefix("day");
    let node = Node::start(options(&redis.url()).with_prefix(&*prefix).unwrap(), None).await;
    let position_key = format!("{prefix}{{c}}:m");
    position(&node, "c").await;
    let ttl = async || {
        redis
            .command(&["PTTL", &position_key])
            .await
            .number()
            .unwrap()
    };
    assert!((1..=2_500).contains(&ttl().await), "before the first one");
    node.publish(&channel("c"), 1, KEPT).await;
    position(&node, "c").await;
    let day = 24 * 3_600_000;
    assert!((day - 60_000..=day).contains(&ttl().await));
}

#[tokio::test]
async fn a_presence_channel_without_a_history_of_its_own_is_forgotten_soon_after_the_last_member() {
    let redis = Redis::start().await;
    let node = Node::start(options(&redis.url()), None).await;
    let own = keys(&redis).await;
    let retention = Retention::new(100, Duration::from_secs(1)).for_presence();
    let presence = &node.engine.presence;
    for at in 0..50_u128 {
        let (room, connection) = (channel(&format!("presence-{at}")), SocketId::from_bits(at));
        let member = Member {
            id: UserId::new("ann").unwrap(),
            info: RawJson::null(),
        };
        let joined = presence.join(&room, connection, member, retention);
        joined.await.unwrap();
        presence.members(&room, None).await.unwrap();
        let left = presence.leave(&room, connection, Departure::Goodbye);
        left.await.unwrap();
    }
    assert!(keys(&redis).await > own);
    eventually("Redis to forget them", async || keys(&redis).await == own).await;
    presence
        .members(&channel("presence-empty"), None)
        .await
        .unwrap();
    eventually("Redis to forget it", async || keys(&redis).await == own).await;
}
