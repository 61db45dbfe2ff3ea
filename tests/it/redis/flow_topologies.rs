//! The same where masters change and slots move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use fanfare_server::delivery::Retention;
use fanfare_tests::eventually;
use fanfare_tests::redis::{Cluster, Sentinel};
use fanfare_tests::resp::Value;
use tokio::task::JoinHandle;

use super::node::{KEPT, Node, channel, check_unbroken, numbers, options};

/// Publishes on some channels until it is told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    publishing: JoinHandle<u64>,
}

impl Load {
    fn start(node: &Arc<Node>, channels: &[ChannelName]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (node, over) = (Arc::clone(node), Arc::clone(&is_over));
        let channels = channels.to_vec();
        let publishing = tokio::spawn(async move {
            let mut number = 0;
            // Fewer during an outage than are kept; a node that missed more is rightly told so.
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !over.load(Ordering::Relaxed) {
                for channel in &channels {
                    node.publish(channel, number, KEPT).await;
                }
                number += 1;
                pace.tick().await;
            }
            number
        });
        Self {
            is_over,
            publishing,
        }
    }

    /// Ends it; how many messages every channel got.
    async fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.publishing.await.unwrap()
    }
}

async fn check_all(node: &Node, channels: &[ChannelName], count: u64) {
    for channel in channels {
        let seen = node
            .messages(channel, usize::try_from(count).unwrap())
            .await;
        assert_eq!(
            numbers(&seen),
            (0..count).collect::<Vec<u64>>(),
            "{channel}"
        );
        check_unbroken(&seen);
    }
}

#[tokio::test]
async fn slots_move_while_messages_flow() {
    let cluster = Cluster::start(0).await;
    let hosts: Vec<String> = cluster
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let options = options(&format!("redis+cluster://{}", hosts.join(",")));
    let node = Node::start(options.clone(), None).await;
    let other = Arc::new(Node::start(options, None).await);
    let channels: Vec<ChannelName> = (0..6).map(|at| channel(&format!("moved-{at}"))).collect();
    for channel in &channels {
        node.follow(channel, KEPT).await;
    }
    let load = Load::start(&other, &channels);
    for channel in &channels[..4] {
        let slot = cluster.slot(channel.as_str()).await;
        let from = cluster.owner(slot).await.unwrap();
        node.messages(channel, 5).await;
        cluster.move_slot(slot, from, (from + 1) % 3).await;
    }
    let before = numbers(&node.seen(&channels[0])).len();
    node.messages(&channels[0], before + 50).await;
    let count = load.end().await;
    check_all(&node, &channels, count).await;
}

#[tokio::test]
async fn sentinel_fails_over_while_messages_flow() {
    let mut sentinel = Sentinel::start(2).await;
    let hosts: Vec<String> = sentinel
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let url = format!("redis+sentinel://{}/{}", hosts.join(","), sentinel.name());
    let options = options(&url);
    let node = Node::start(options.clone(), None).await;
    let other = Arc::new(Node::start(options, None).await);
    let channels: Vec<ChannelName> = (0..3).map(|at| channel(&format!("kept-{at}"))).collect();
    for channel in &channels {
        node.follow(channel, KEPT).await;
    }
    let load = Load::start(&other, &channels);
    node.messages(&channels[2], 20).await;
    let master = sentinel.master().await.unwrap();
    sentinel.servers[master].kill();
    sentinel.until_failed_over(master).await;
    let before = numbers(&node.seen(&channels[0])).len();
    eventually("messages flow again", async || {
        numbers(&node.seen(&channels[0])).len() > before + 20
    })
    .await;
    let count = load.end().await;
    check_all(&node, &channels, count).await;
}

#[tokio::test]
async fn a_planned_failover_is_followed_before_the_old_master_is_demoted() {
    let sentinel = Sentinel::start(1).await;
    let hosts: Vec<String> = sentinel
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let url = format!("redis+sentinel://{}/{}", hosts.join(","), sentinel.name());
    let mut options = options(&url);
    // The sentinels are not asked in turns.
    options.flow.sentinel_interval = Duration::from_hours(1);
    let nodes = [
        Node::start(options.clone(), None).await,
        Node::start(options, None).await,
    ];
    let channel = channel("kept");
    for node in &nodes {
        node.follow(&channel, KEPT).await;
    }
    sentinel.until_listened_to(nodes.len()).await;
    nodes[0].publish(&channel, 0, KEPT).await;
    let old = sentinel.master().await.unwrap();
    sentinel.fail_over().await;
    let old = &sentinel.servers[old];
    eventually("nodes that have left the old master", async || {
        let listened = old.command(&["PUBSUB", "CHANNELS"]).await;
        let names = listened.elements().iter();
        // The sentinels stay.
        !names.map(Value::text).any(|name| name.contains('{'))
    })
    .await;
    // Sentinel leaves it alone for 8 s. A master that was demoted would have been left because it refuses.
    assert_eq!(old.info("role").await, "master");
    for (node, number) in nodes.iter().zip(1..) {
        node.publish(&channel, number, KEPT).await;
    }
    for node in &nodes {
        let seen = node.messages(&channel, 3).await;
        assert_eq!(numbers(&seen), [0, 1, 2]);
    }
}

#[tokio::test]
async fn a_master_that_wakes_after_it_was_replaced_is_not_heard_again() {
    let cluster = Cluster::start(1).await;
    let hosts: Vec<String> = cluster
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let options = options(&format!("redis+cluster://{}", hosts.join(",")));
    let node = Arc::new(Node::start(options, None).await);
    let channel = channel("live");
    node.follow(&channel, Retention::NONE).await;
    let publish = |number: u64| {
        let (node, channel) = (Arc::clone(&node), channel.clone());
        async move { node.publish(&channel, number, Retention::NONE).await }
    };
    publish(0).await;
    node.messages(&channel, 1).await;
    let slot = cluster.slot(channel.as_str()).await;
    let old = cluster.owner(slot).await.unwrap();
    cluster.until_replicated().await;
    cluster.servers[old].pause();
    // They wait in its sockets, and are repeated at the one that takes over.
    let repeated: Vec<_> = (1..21)
        .map(|number| tokio::spawn(publish(number)))
        .collect();
    for repeated in repeated {
        repeated.await.unwrap();
    }
    let mut next = LATER;
    let mut until_heard = async || {
        let heard_from = next;
        eventually("messages of the new master", async || {
            publish(next).await;
            next += 1;
            numbers(&node.seen(&channel)).last() >= Some(&heard_from)
        })
        .await;
    };
    until_heard().await;
    cluster.servers[old].resume();
    // By then it has run what was left in its sockets.
    let old = &cluster.servers[old];
    eventually("an old master that follows the new one", async || {
        old.info("role").await == "slave" && old.info("master_link_status").await == "up"
    })
    .await;
    until_heard().await;
    let numbers = numbers(&node.seen(&channel));
    let new = numbers.iter().position(|number| *number >= LATER).unwrap();
    assert!(
        numbers[new..].is_sorted_by(|one, next| one < next),
        "{numbers:?}"
    );
}

/// Above the numbers that are repeated.
const LATER: u64 = 1_000;
