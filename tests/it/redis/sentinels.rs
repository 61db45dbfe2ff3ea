//! Sentinels that name different masters, as a node meets them that reaches both sides of a partition. Here the sides know
//! nothing of each other, so that nobody is ever demoted.

use std::time::Duration;

use fanfare_server::delivery::Retention;
use fanfare_server::engine::redis::RedisOptions;
use fanfare_tests::eventually;
use fanfare_tests::redis::{MASTER, Redis, Watcher};

use super::node::{KEPT, Node, channel, gaps, numbers, options};

/// A master that was replaced, the one that replaced it, and a sentinel of each that knows of no other.
struct Sides {
    old: Redis,
    new: Redis,
    knows_old: Watcher,
    knows_new: Watcher,
}

impl Sides {
    async fn start() -> Self {
        let (old, new) = tokio::join!(Redis::start(), Redis::start());
        Self {
            knows_old: Watcher::start(old.address(), 0).await,
            knows_new: Watcher::start(new.address(), 1).await,
            old,
            new,
        }
    }

    fn options(&self) -> RedisOptions {
        let sentinels = [&self.knows_old, &self.knows_new];
        let [old, new] = sentinels.map(Watcher::address);
        let mut options = options(&format!("redis+sentinel://{old},{new}/{MASTER}"));
        options.flow.sentinel_interval = Duration::from_millis(50);
        options.flow.lease_interval = Duration::from_millis(100);
        options
    }
}

/// Waits until a sentinel was asked some times more, while a node publishes.
async fn until_asked_again(sentinel: &Watcher, node: &Node) {
    let before = sentinel.connections().await;
    let mut own = 0;
    eventually("more questions to a sentinel", async || {
        own += 1;
        node.publish(&channel("c"), own, KEPT).await;
        sentinel.connections().await >= before + own + 6
    })
    .await;
}

/// Waits until a sentinel was asked some times more.
async fn until_asked(sentinel: &Watcher) {
    let before = sentinel.connections().await;
    let mut own = 0;
    eventually("more questions to a sentinel", async || {
        own += 1;
        sentinel.connections().await >= before + own + 6
    })
    .await;
}

/// How many writes a server has accepted.
async fn writes(redis: &Redis) -> u64 {
    let writes = redis.info("rdb_changes_since_last_save").await;
    writes.parse().unwrap()
}

#[tokio::test]
async fn the_newest_master_is_taken_whichever_sentinel_answers_first() {
    let sides = Sides::start().await;
    let node = Node::start(sides.options(), None).await;
    until_asked_again(&sides.knows_new, &node).await;
    assert_eq!(writes(&sides.old).await, 0);
    assert_ne!(writes(&sides.new).await, 0);
}

#[tokio::test]
async fn a_master_that_was_replaced_is_left_although_it_accepts() {
    let sides = Sides::start().await;
    let channel = channel("c");
    sides.knows_new.pause(true);
    let node = Node::start(sides.options(), None).await;
    node.follow(&channel, KEPT).await;
    node.publish(&channel, 0, KEPT).await;
    assert_eq!(writes(&sides.new).await, 0);
    sides.knows_new.pause(false);
    // The new master has another history.
    let reset = node.reset(&channel).await;
    let accepted = writes(&sides.old).await;
    until_asked_again(&sides.knows_new, &node).await;
    assert_eq!(writes(&sides.old).await, accepted);
    let position = node.publish(&channel, 0, KEPT).await.unwrap();
    assert_eq!(position.epoch, reset.epoch);
}

#[tokio::test]
async fn nobody_goes_back_to_the_old_master_while_the_sentinels_of_the_new_one_are_silent() {
    let sides = Sides::start().await;
    let channel = channel("c");
    let node = Node::start(sides.options(), None).await;
    let before = node.publish(&channel, 0, KEPT).await.unwrap();
    sides.knows_new.pause(true);
    // What is lost makes the node look for its master.
    for kind in ["normal", "pubsub"] {
        sides.new.command(&["CLIENT", "KILL", "TYPE", kind]).await;
    }
    let silence = async {
        until_asked(&sides.knows_old).await;
        sides.knows_new.pause(false);
    };
    let (after, ()) = tokio::join!(node.publish(&channel, 1, KEPT), silence);
    assert_eq!(after.unwrap().epoch, before.epoch);
    assert_eq!(writes(&sides.old).await, 0);
}

#[tokio::test]
async fn nothing_is_said_to_the_old_master_while_the_new_one_cannot_be_reached() {
    let sides = Sides::start().await;
    let channel = channel("c");
    sides.knows_new.pause(true);
    let mut options = sides.options();
    // The look-up, which fails, takes longer.
    options.flow.sentinel_interval = Duration::from_millis(700);
    let node = Node::start(options, None).await;
    let before = node.publish(&channel, 0, KEPT).await.unwrap();
    sides.new.pause();
    sides.knows_new.pause(false);
    until_asked(&sides.knows_new).await;
    let accepted = writes(&sides.old).await;
    let unreachable = async {
        until_asked(&sides.knows_new).await;
        assert_eq!(writes(&sides.old).await, accepted);
        sides.new.resume();
    };
    let (after, ()) = tokio::join!(node.publish(&channel, 1, KEPT), unreachable);
    assert_ne!(after.unwrap().epoch, before.epoch);
    assert_eq!(writes(&sides.old).await, accepted);
}

#[tokio::test]
async fn who_spoke_to_a_master_that_was_replaced_says_where_something_is_missing() {
    let sides = Sides::start().await;
    let (spoken, silent, kept) = (channel("spoken"), channel("silent"), channel("kept"));
    sides.knows_new.pause(true);
    let own = sides.options();
    let mut there = options(&sides.new.url());
    there.prefix.clone_from(&own.prefix);
    let cut_off = Node::start(own, None).await;
    let there = Node::start(there, None).await;
    for channel in [&spoken, &silent] {
        there.follow(channel, Retention::NONE).await;
    }
    there.follow(&kept, KEPT).await;
    cut_off.publish(&spoken, 1, Retention::NONE).await;
    sides.knows_new.pause(false);
    there.gap(&spoken).await;
    let seen = there.seen(&spoken);
    assert_eq!((numbers(&seen).len(), gaps(&seen)), (0, 1));
    assert_eq!(gaps(&there.seen(&silent)), 0);
    assert_eq!(gaps(&there.seen(&kept)), 0);
}
