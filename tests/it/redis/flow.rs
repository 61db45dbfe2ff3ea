//! What is published reaches every node that wants it, whatever happens to connections and servers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Position};
use fanfare_server::delivery::{HistoryRange, Retention};
use fanfare_server::engine::{EngineError, Health};
use fanfare_tests::eventually;
use fanfare_tests::proxy::{RedisFault, RedisProxy};
use fanfare_tests::redis::{self, Redis};
use fanfare_tests::resp::Value;

use super::node::{KEPT, Node, channel, check_unbroken, gaps, numbers, options, quick};

#[tokio::test]
async fn the_first_message_after_interested_arrives() {
    let options = options(&redis::shared().await.url());
    let (node, other) = tokio::join!(
        Node::start(options.clone(), None),
        Node::start(options, None)
    );
    for round in 0..100 {
        let channel = channel(&format!("first-{round}"));
        let retention = if round % 2 == 0 {
            KEPT
        } else {
            Retention::NONE
        };
        node.follow(&channel, retention).await;
        other.publish(&channel, round, retention).await;
        let seen = node.messages(&channel, 1).await;
        assert_eq!(numbers(&seen), [round]);
    }
}

#[tokio::test]
async fn killed_connections_lose_nothing_of_a_history() {
    let redis = Redis::start().await;
    let options = options(&redis.url());
    let (node, other) = tokio::join!(
        Node::start(options.clone(), None),
        Node::start(options, None)
    );
    let channels: Vec<ChannelName> = (0..3).map(|at| channel(&format!("kept-{at}"))).collect();
    for channel in &channels {
        node.follow(channel, KEPT).await;
    }
    for number in 0..300 {
        for channel in &channels {
            other.publish(channel, number, KEPT).await;
        }
        if number % 60 == 30 {
            redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
    }
    for channel in &channels {
        let seen = node.messages(channel, 300).await;
        assert_eq!(numbers(&seen), (0..300).collect::<Vec<u64>>());
        check_unbroken(&seen);
    }
}

#[tokio::test]
async fn a_killed_connection_is_one_gap_where_nothing_is_kept() {
    let redis = Redis::start().await;
    let node = Node::start(options(&redis.url()), None).await;
    let channel = channel("live");
    node.follow(&channel, Retention::NONE).await;
    node.publish(&channel, 1, Retention::NONE).await;
    node.messages(&channel, 1).await;
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    node.gap(&channel).await;
    node.engine.broker.interested(&channel).await.unwrap();
    for number in 2..=40 {
        node.publish(&channel, number, Retention::NONE).await;
    }
    let seen = node.messages(&channel, 40).await;
    assert_eq!(gaps(&seen), 1, "{seen:?}");
}

/// A node whose messages come through a proxy, and one beside it.
async fn behind_proxy(redis: &Redis) -> (RedisProxy, Node, Node) {
    let proxy = RedisProxy::start(redis.address(), 1).await.unwrap();
    let mut direct = options(&redis.url());
    // Only where a test waits for it.
    direct.flow.sync_interval = Duration::from_mins(10);
    let url = format!("redis://{}", proxy.address());
    let through = options(&url).with_prefix(direct.prefix.clone()).unwrap();
    let through = through.with_flow(direct.flow);
    let (node, other) = tokio::join!(Node::start(through, None), Node::start(direct, None));
    (proxy, node, other)
}

#[tokio::test]
async fn a_message_that_never_came_is_fetched_at_the_next_one() {
    let redis = Redis::start().await;
    let (proxy, node, other) = behind_proxy(&redis).await;
    let channel = channel("kept");
    node.follow(&channel, KEPT).await;
    for number in 1..=20 {
        if number % 5 == 2 {
            proxy.plant(RedisFault::DropMessage, 1, "kept");
        }
        other.publish(&channel, number, KEPT).await;
        if number % 5 != 2 {
            let count = usize::try_from(number).unwrap();
            check_unbroken(&node.messages(&channel, count).await);
        }
    }
    assert_eq!(proxy.done(RedisFault::DropMessage), 4);
    assert_eq!(
        numbers(&node.seen(&channel)),
        (1..=20).collect::<Vec<u64>>()
    );
}

#[tokio::test]
async fn a_message_that_never_came_is_fetched_at_the_next_comparison() {
    let redis = Redis::start().await;
    let proxy = RedisProxy::start(redis.address(), 1).await.unwrap();
    let node = Node::start(options(&format!("redis://{}", proxy.address())), None).await;
    let channel = channel("kept");
    node.follow(&channel, KEPT).await;
    node.publish(&channel, 1, KEPT).await;
    node.messages(&channel, 1).await;
    proxy.plant(RedisFault::DropMessage, 1, "kept");
    node.publish(&channel, 2, KEPT).await;
    let seen = node.messages(&channel, 2).await;
    assert_eq!(proxy.done(RedisFault::DropMessage), 1);
    check_unbroken(&seen);
}

#[tokio::test]
async fn a_message_that_never_came_is_told_where_nothing_is_kept() {
    let redis = Redis::start().await;
    let (proxy, node, other) = behind_proxy(&redis).await;
    let channel = channel("live");
    node.follow(&channel, Retention::NONE).await;
    other.publish(&channel, 1, Retention::NONE).await;
    node.messages(&channel, 1).await;
    proxy.plant(RedisFault::DropMessage, 1, "live");
    for number in 2..=3 {
        other.publish(&channel, number, Retention::NONE).await;
    }
    node.gap(&channel).await;
    assert_eq!(numbers(&node.seen(&channel)), [1, 3]);
    other.publish(&channel, 4, Retention::NONE).await;
    assert_eq!(gaps(&node.messages(&channel, 3).await), 1);
}

#[tokio::test]
async fn a_server_that_lost_everything_resets_every_channel() {
    let mut redis = Redis::start().await;
    let node = Node::start(options(&redis.url()), None).await;
    let channels: Vec<ChannelName> = (0..5).map(|at| channel(&format!("kept-{at}"))).collect();
    for channel in &channels {
        node.follow(channel, KEPT).await;
        node.publish(channel, 1, KEPT).await;
        node.messages(channel, 1).await;
    }
    let live = channel("live");
    node.follow(&live, Retention::NONE).await;
    redis.restart_empty().await;
    for channel in &channels {
        let position = node.reset(channel).await;
        assert_eq!(position, Position::start(position.epoch));
        let sent = node.publish(channel, 2, KEPT).await.unwrap();
        assert_eq!((sent.epoch, sent.offset), (position.epoch, 1));
        node.messages(channel, 2).await;
    }
    node.gap(&live).await;
}

#[tokio::test]
async fn a_history_that_was_rewritten_resets_at_its_next_message() {
    let redis = Redis::start().await;
    let mut options = options(&redis.url());
    options.flow.sync_interval = Duration::from_mins(10);
    let prefix = options.prefix.clone();
    let node = Node::start(options, None).await;
    let channel = channel("kept");
    node.follow(&channel, KEPT).await;
    for number in 1..=5 {
        node.publish(&channel, number, KEPT).await;
    }
    let seen = node.messages(&channel, 5).await;
    check_unbroken(&seen);
    // As a failover does that lost the last two: the store stands at the third again.
    let key = |suffix: &str| format!("{prefix}{{kept}}:{suffix}");
    let first = redis.command(&["XRANGE", &key("s"), "-", "3-0"]).await;
    redis.command(&["DEL", &key("s")]).await;
    let mut tag = String::new();
    for entry in first.elements() {
        let [id, fields] = entry.elements() else {
            panic!("an entry is an id and fields: {entry:?}");
        };
        let mut words = vec!["XADD".to_owned(), key("s"), id.text()];
        words.extend(fields.elements().iter().map(Value::text));
        redis.command(&words).await;
        tag = fields.elements()[3].text();
    }
    redis
        .command(&["HSET", &key("m"), "s", "3", "t", &tag])
        .await;
    let sent = node.publish(&channel, 6, KEPT).await.unwrap();
    assert_eq!(sent.offset, 4);
    // Nobody misses the message that told of it.
    assert_eq!(node.reset(&channel).await.offset, 3);
    node.publish(&channel, 7, KEPT).await;
    let seen = node.messages(&channel, 7).await;
    assert_eq!(numbers(&seen), [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_connection_that_is_open_and_deaf_is_noticed_and_replaced() {
    let redis = Redis::start().await;
    let proxy = RedisProxy::start(redis.address(), 1).await.unwrap();
    let mut options = options(&format!("redis://{}", proxy.address()));
    options.flow.sync_interval = Duration::from_mins(10);
    options.flow.probe_after = Duration::from_millis(300);
    options.flow.stalled_after = Duration::from_millis(600);
    let node = Node::start(options, None).await;
    let channel = channel("kept");
    node.follow(&channel, KEPT).await;
    node.publish(&channel, 1, KEPT).await;
    node.messages(&channel, 1).await;
    eventually("probes keep it healthy", async || {
        node.engine.broker.health() == Health::Flowing
    })
    .await;
    proxy.plant(RedisFault::DropMessage, u64::MAX, "");
    node.publish(&channel, 2, KEPT).await;
    eventually("health turns red", async || {
        matches!(node.engine.broker.health(), Health::Stalled { .. })
    })
    .await;
    // A new connection reads what the deaf one missed, although it is deaf as well.
    check_unbroken(&node.messages(&channel, 2).await);
    proxy.plant(RedisFault::DropMessage, 0, "");
    eventually("health turns green", async || {
        node.engine.broker.health() == Health::Flowing
    })
    .await;
    node.publish(&channel, 3, KEPT).await;
    check_unbroken(&node.messages(&channel, 3).await);
}

#[tokio::test]
async fn what_overflows_is_made_good_or_told_and_blocks_nobody() {
    let redis = Redis::start().await;
    let mut small = options(&redis.url());
    small.flow.waiting_bytes_max = 2_000;
    let large = small.clone().with_flow(quick());
    let (node, other) = tokio::join!(Node::start(small, None), Node::start(large, None));
    let (kept, live) = (channel("kept"), channel("live"));
    node.follow(&kept, KEPT).await;
    node.follow(&live, Retention::NONE).await;
    // A script publishes faster than a reader that shares its thread can take.
    let other = Arc::new(other);
    let mut publishing = tokio::task::JoinSet::new();
    for number in 0..400 {
        let (other, kept, live) = (Arc::clone(&other), kept.clone(), live.clone());
        publishing.spawn(async move {
            other.publish(&kept, number, KEPT).await;
            other.publish(&live, number, Retention::NONE).await;
        });
    }
    publishing.join_all().await;
    let seen = node.messages(&kept, 400).await;
    check_unbroken(&seen);
    let mut all = numbers(&seen);
    all.sort_unstable();
    assert_eq!(all, (0..400).collect::<Vec<u64>>());
    node.gap(&live).await;
    let count = numbers(&node.seen(&live)).len();
    assert!(count < 400, "nothing overflowed");
}

#[tokio::test]
async fn whatever_interest_does_exactly_what_is_wanted_stays_subscribed() {
    let redis = Redis::start().await;
    let mut options = options(&redis.url());
    options.flow.unsubscribe_delay = Duration::from_millis(5);
    let prefix = options.prefix.clone();
    let node = Node::start(options, None).await;
    let broker = &node.engine.broker;
    let channels: Vec<ChannelName> = (0..40).map(|at| channel(&format!("flap-{at}"))).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut wanted = BTreeSet::new();
    for step in 0..3_000 {
        let channel = &channels[random.usize(..channels.len())];
        let is_wanted = random.bool();
        broker.set_interest(channel, KEPT, is_wanted);
        if is_wanted {
            wanted.insert(format!("{prefix}{{{channel}}}"));
        } else {
            wanted.remove(&format!("{prefix}{{{channel}}}"));
        }
        if step % 500 == 250 {
            redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
        if step % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    eventually("what is wanted is subscribed", async || {
        let pattern = format!("{prefix}{{*");
        let subscribed = redis.command(&["PUBSUB", "CHANNELS", &pattern]).await;
        let subscribed: BTreeSet<String> = subscribed
            .elements()
            .iter()
            .map(|name| name.text())
            .collect();
        subscribed == wanted
    })
    .await;
    for name in &wanted {
        let count = redis.command(&["PUBSUB", "NUMSUB", name]).await;
        assert_eq!(count.elements()[1].number(), Some(1), "{name}");
    }
}

#[tokio::test]
async fn many_clients_that_come_back_are_one_read_per_channel() {
    const CHANNELS: usize = 100;
    const CLIENTS: u64 = 50;
    let redis = Redis::start().await;
    let mut options = options(&redis.url());
    // Nothing else that runs scripts.
    options.flow.sync_interval = Duration::from_mins(10);
    options.flow.lease_interval = Duration::from_mins(10);
    options.flow.probe_after = Duration::from_mins(10);
    let other = Node::start(options.clone(), None).await;
    let channels: Vec<ChannelName> = (0..CHANNELS)
        .map(|at| channel(&format!("storm-{at}")))
        .collect();
    for channel in &channels {
        for number in 1..=60 {
            other.publish(channel, number, KEPT).await;
        }
    }
    // Redis knows the script by now.
    let range = HistoryRange::Last { limit: 1 };
    let read = other.engine.broker.history(&channels[0], range, KEPT);
    assert_eq!(read.await.unwrap().top.offset, 60);
    let node = Arc::new(Node::start(options, None).await);
    let before = scripts_run(&redis).await;
    let mut clients = tokio::task::JoinSet::new();
    for channel in &channels {
        for client in 0..CLIENTS {
            let (node, channel) = (Arc::clone(&node), channel.clone());
            clients.spawn(async move {
                node.follow(&channel, KEPT).await;
                let range = HistoryRange::After {
                    offset: client,
                    limit: 300,
                };
                let broker = &node.engine.broker;
                let history = broker.history(&channel, range, KEPT).await.unwrap();
                assert_eq!(history.top.offset, 60);
                assert_eq!(history.entries.len() as u64, 60 - client);
            });
        }
    }
    clients.join_all().await;
    let reads = scripts_run(&redis).await - before;
    let allowed = CHANNELS * 11 / 10;
    assert!(reads <= allowed, "{reads} reads of {CHANNELS} channels");
}

#[tokio::test]
async fn who_comes_back_soon_finds_the_channel_as_it_was_left() {
    let redis = Redis::start().await;
    let mut options = options(&redis.url());
    options.flow.sync_interval = Duration::from_mins(10);
    options.flow.lease_interval = Duration::from_mins(10);
    options.flow.probe_after = Duration::from_mins(10);
    options.flow.unsubscribe_delay = Duration::from_mins(10);
    let node = Node::start(options, None).await;
    let channel = channel("kept");
    node.follow(&channel, KEPT).await;
    for number in 1..=10 {
        node.publish(&channel, number, KEPT).await;
    }
    node.messages(&channel, 10).await;
    let broker = &node.engine.broker;
    broker.set_interest(&channel, KEPT, false);
    node.publish(&channel, 11, KEPT).await;
    node.messages(&channel, 11).await;
    let before = scripts_run(&redis).await;
    node.follow(&channel, KEPT).await;
    let (offset, limit) = (4, 300);
    let range = HistoryRange::After { offset, limit };
    let history = broker.history(&channel, range, KEPT).await.unwrap();
    assert_eq!(history.entries.len(), 7);
    assert_eq!(scripts_run(&redis).await, before);
}

/// How many scripts were run, whatever for.
async fn scripts_run(redis: &Redis) -> usize {
    let stats = redis.command(&["INFO", "commandstats"]).await.text();
    let scripts = stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_eval"));
    let calls = scripts.filter_map(|line| line.split("calls=").nth(1)?.split(',').next());
    calls.map(|calls| calls.parse::<usize>().unwrap()).sum()
}

#[tokio::test]
async fn what_this_node_published_is_in_its_next_answer() {
    let redis = Redis::start().await;
    let node = Node::start(options(&redis.url()), None).await;
    let channel = channel("kept");
    node.follow(&channel, KEPT).await;
    for number in 1..=200 {
        let sent = node.publish(&channel, number, KEPT).await.unwrap();
        let range = HistoryRange::After {
            offset: sent.offset - 1,
            limit: 10,
        };
        let broker = &node.engine.broker;
        let history = broker.history(&channel, range, KEPT).await.unwrap();
        assert_eq!(history.top, sent);
        assert_eq!(history.entries.len(), 1);
    }
}

#[tokio::test]
async fn every_other_live_node_is_asked() {
    let redis = Redis::start().await;
    let options = options(&redis.url());
    let asker = Node::start(options.clone(), Some("asker")).await;
    let ask = async |body: &'static str| asker.engine.broker.request(body.into()).await;
    assert!(ask("?").await.unwrap().is_empty());
    let one = Node::start(options.clone(), Some("one")).await;
    let two = Node::start(options.clone(), Some("two")).await;
    let mut answers = ask("?").await.unwrap();
    answers.sort();
    assert_eq!(answers, ["?one", "?two"]);
    two.engine.broker.close().await;
    assert_eq!(ask("!").await.unwrap(), ["!one"]);
    let _silent = Node::start(options, None).await;
    let incomplete = ask("?").await.unwrap_err();
    let is_told = matches!(
        incomplete,
        EngineError::Incomplete {
            answered: 1,
            asked: 2,
            ..
        }
    );
    assert!(is_told, "{incomplete}");
    drop(one);
}
