//! A deploy: three standalone servers behind a balancer without stickiness, replaced one after the other under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_client::native::{NativeClient, NativeOptions, Subscription};
use fanfare_client::{Event, SubscribeOptions};
use fanfare_server::engine::Engine;
use fanfare_server::protocol::ChannelName;
use fanfare_server::{ChannelRule, ChannelRules, Publisher};
use fanfare_tests::node::{Balancer, Node};
use fanfare_tests::redis::{self, Redis};
use fanfare_tests::{eventually, within};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::task::JoinHandle;

const SECRET: &str = "a secret of at least thirty-two bytes";
const CLIENTS: u64 = 40;
const HISTORY: u32 = 1_000;

fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({ "sub": user, "exp": now.as_secs() + 3_600 });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

async fn node(redis_url: &str) -> Node {
    let orders = format!("orders=history:{HISTORY},ttl:5m");
    let arguments = [
        "--rule",
        &orders,
        "--rule",
        "presence-room=open",
        // The balancer looks once a second and believes the second look.
        "--drain-delay",
        "4s",
        "--drain-per-second",
        "5",
    ];
    let variables = [
        ("REDIS_URL", redis_url),
        ("FANFARE_SECRET", SECRET),
        ("FANFARE_JWT_SECRET", SECRET),
    ];
    Node::start(&arguments, &variables).await
}

/// A client that checks what it hears.
struct Follower {
    client: NativeClient,
    task: JoinHandle<u64>,
    connections: Arc<AtomicU64>,
}

impl Follower {
    async fn start(number: u64, balancer: SocketAddr, last: Arc<AtomicU64>) -> Self {
        let options = NativeOptions::default().with_token(token(&format!("user-{number}")));
        let client = NativeClient::connect(&format!("ws://{balancer}/ws"), options).unwrap();
        let subscribe = async |name: &str| {
            let channel: ChannelName = name.parse().unwrap();
            let options = SubscribeOptions::default();
            let subscription = client.subscribe(channel, options).await.unwrap();
            within("a subscription", subscription.subscribed())
                .await
                .unwrap();
            subscription
        };
        let orders = subscribe("orders").await;
        let room = subscribe("presence-room").await;
        let connections = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn({
            let connections = Arc::clone(&connections);
            let client = client.clone();
            async move {
                tokio::select! {
                    heard = follow(orders, &last) => heard,
                    () = nobody_leaves(room) => 0,
                    () = count_connections(client, &connections) => 0,
                }
            }
        });
        Self {
            client,
            task,
            connections,
        }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Hears every number once and in order, up to the last one; answers how many.
async fn follow(mut orders: Subscription, last: &AtomicU64) -> u64 {
    let mut expected = None;
    loop {
        match orders.recv().await.unwrap() {
            Event::Message(message) => {
                let number: u64 = message.data.decode().unwrap();
                assert_eq!(
                    number,
                    *expected.get_or_insert(number),
                    "one after the other"
                );
                expected = Some(number + 1);
                if number == last.load(Ordering::SeqCst) {
                    return number;
                }
            }
            event @ (Event::Gap(_) | Event::Reset(_) | Event::Error(_)) => {
                panic!("no loss is allowed: {event:?}")
            }
            _ => {}
        }
    }
}

async fn nobody_leaves(mut room: Subscription) {
    loop {
        match room.recv().await.unwrap() {
            Event::Left { id, reason, .. } => panic!("{id} is said to have left: {reason:?}"),
            Event::Joined {
                member, recovered, ..
            } => assert!(
                member.id.as_str().starts_with("user-") && !recovered,
                "{member:?} came while somebody was away"
            ),
            _ => {}
        }
    }
}

/// Counts the connections by their ids.
async fn count_connections(client: NativeClient, connections: &AtomicU64) {
    let mut known = None;
    loop {
        let is_new = |status: &fanfare_client::ConnectionStatus| {
            status.socket_id.is_some() && status.socket_id != known
        };
        known = client.wait_for(is_new).await.unwrap().socket_id;
        connections.fetch_add(1, Ordering::SeqCst);
    }
}

/// Publishes numbers one after the other until it is told to stop; answers the last one.
fn publish_all_the_time(events: Publisher, stop: Arc<AtomicBool>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut number = 0;
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while !stop.load(Ordering::SeqCst) {
            pace.tick().await;
            number += 1;
            events.broadcast("orders", "n", &number).await.unwrap();
        }
        number
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_loses_nothing_and_sends_every_client_away_once_per_node() {
    let redis = Redis::start().await;
    let url = format!("{}?prefix={}", redis.url(), redis::prefix("deploy"));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&url).await);
    }
    let addresses: Vec<SocketAddr> = nodes.iter().map(Node::address).collect();
    let balancer = Balancer::start(&addresses).await;

    let kept = ChannelRule::default().with_history(HISTORY, Duration::from_secs(300));
    let rules = ChannelRules::new().with("orders", kept);
    let engine = Engine::redis(url.parse().unwrap());
    let events = Publisher::connect(engine).await.unwrap().with_rules(rules);

    let last = Arc::new(AtomicU64::new(u64::MAX));
    let mut followers = Vec::new();
    for number in 0..CLIENTS {
        let follower = Follower::start(number, balancer.address(), Arc::clone(&last));
        followers.push(follower.await);
    }
    eventually("every client to be counted", async || {
        followers.iter().all(|follower| follower.connections() == 1)
    })
    .await;
    assert_eq!(events.connection_count().await.unwrap() as u64, CLIENTS);

    let stop = Arc::new(AtomicBool::new(false));
    let publishing = publish_all_the_time(events.clone(), Arc::clone(&stop));
    for node in &mut nodes {
        let before: Vec<u64> = followers.iter().map(Follower::connections).collect();
        node.terminate();
        eventually("the node to end", async || node.outcome().is_some()).await;
        assert_eq!(node.outcome().unwrap().code(), Some(0), "{}", node.log());
        node.restart().await;
        balancer.knows(addresses.len()).await;
        for (follower, before) in followers.iter().zip(before) {
            let reconnects = follower.connections() - before;
            assert!(reconnects <= 1, "{reconnects} reconnects for one node");
        }
    }
    stop.store(true, Ordering::SeqCst);
    let published = within("the last publication", publishing).await.unwrap();
    last.store(published + 1, Ordering::SeqCst);
    let the_end = events.broadcast("orders", "n", &(published + 1)).await;
    the_end.unwrap();
    for follower in followers {
        let heard = within("a client to hear everything", follower.task).await;
        assert_eq!(heard.unwrap(), published + 1);
        follower.client.close().await;
    }
    events.close().await.unwrap();
}
