//! History and coming back: nothing missed, or told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_server::engine::Engine;
use fanfare_server::protocol::ChannelName;
use fanfare_server::{ChannelRule, ChannelRules, Handle, Limits, Server, ServerBuilder};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{eventually, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const CHANNEL: &str = "orders";

fn keeping(size: u32) -> ServerBuilder {
    let rule = ChannelRule::default()
        .with_history(size, Duration::from_secs(300))
        .with_rewind(5);
    Server::builder().channel_rules(ChannelRules::new().with(CHANNEL, rule))
}

async fn publish(events: &Handle, numbers: std::ops::Range<u64>) {
    for number in numbers {
        events.broadcast(CHANNEL, "n", &number).await.unwrap();
    }
}

/// Subscribes to continue after a position.
async fn back(server: &TestServer, since: &Value) -> (Socket, Value) {
    let mut socket = Socket::connect(server.address).await;
    let reply = socket
        .subscribe_with(json!({ "channel": CHANNEL, "since": since }))
        .await;
    (socket, reply)
}

/// The payloads of a reply's events.
fn payloads(reply: &Value) -> Vec<u64> {
    let events = reply["events"].as_array().map_or(&[][..], Vec::as_slice);
    events
        .iter()
        .map(|event| event["data"].as_u64().unwrap())
        .collect()
}

/// A reply that brought nothing and says so.
#[track_caller]
fn assert_not_recovered(reply: &Value, offset: u64) {
    assert_eq!(reply["recovered"], false, "{reply}");
    assert_eq!(reply.get("events"), None, "{reply}");
    assert_eq!(reply["position"]["offset"], offset, "{reply}");
}

/// Where the channel stands.
async fn position(server: &TestServer) -> Value {
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe(CHANNEL).await["position"].clone()
}

#[tokio::test]
async fn nothing_is_missed_between_two_connections() {
    let server = TestServer::start(keeping(100)).await;
    let mut socket = Socket::connect(server.address).await;
    let joined = socket.subscribe(CHANNEL).await;
    assert_eq!(joined["position"]["offset"], 0);
    assert_eq!(joined["recovered"], false);
    publish(&server.events, 1..3).await;
    socket
        .expect(json!({ "data": 1, "offset": 1, "epoch": null }))
        .await;
    let seen = socket.expect(json!({ "data": 2, "offset": 2 })).await;
    let since = json!({
        "epoch": joined["position"]["epoch"], "offset": seen["offset"], "tag": seen["tag"],
    });
    socket.vanish();
    publish(&server.events, 3..6).await;

    let (mut socket, reply) = back(&server, &since).await;
    assert_eq!(reply["recovered"], true);
    assert_eq!(payloads(&reply), [3, 4, 5]);
    for (event, offset) in reply["events"].as_array().unwrap().iter().zip(3..) {
        assert_eq!(event["offset"], offset);
        assert!(event["tag"].is_string());
        // Said around it already.
        assert_eq!((event.get("type"), event.get("channel")), (None, None));
    }
    let last = reply["events"][2].clone();
    assert_eq!(reply["position"]["offset"], last["offset"]);
    assert_eq!(reply["position"]["tag"], last["tag"]);
    publish(&server.events, 6..7).await;
    socket.expect(json!({ "data": 6, "offset": 6 })).await;
}

#[tokio::test]
async fn who_missed_nothing_is_told_that() {
    let server = TestServer::start(keeping(100)).await;
    publish(&server.events, 0..3).await;
    let since = position(&server).await;
    let (_, reply) = back(&server, &since).await;
    assert_eq!(reply["recovered"], true);
    assert_eq!(reply.get("events"), None);
    assert_eq!(reply["position"], since);
}

#[tokio::test]
async fn who_missed_more_than_is_kept_is_told_that() {
    let server = TestServer::start(keeping(10)).await;
    publish(&server.events, 0..1).await;
    let since = position(&server).await;
    publish(&server.events, 1..11).await;
    let (_, reply) = back(&server, &since).await;
    assert_eq!(reply["recovered"], true, "ten are kept");
    assert_eq!(payloads(&reply), Vec::from_iter(1..11));
    publish(&server.events, 11..12).await;
    let (mut socket, reply) = back(&server, &since).await;
    assert_not_recovered(&reply, 12);
    publish(&server.events, 12..13).await;
    socket.expect(json!({ "data": 12, "offset": 13 })).await;
}

#[tokio::test]
async fn a_recovery_brings_so_many_events_and_no_more() {
    let server = TestServer::start(keeping(1_000)).await;
    let since = position(&server).await;
    publish(&server.events, 0..300).await;
    let (_, reply) = back(&server, &since).await;
    assert_eq!(payloads(&reply), Vec::from_iter(0..300));
    publish(&server.events, 300..301).await;
    let (_, reply) = back(&server, &since).await;
    assert_not_recovered(&reply, 301);
}

#[tokio::test]
async fn a_recovery_brings_so_many_bytes_and_no_more() {
    let mut limits = Limits::default();
    limits.recovery_bytes_max = 1_000;
    let server = TestServer::start(keeping(100).limits(limits)).await;
    let since = position(&server).await;
    let half = "x".repeat(498);
    let events = &server.events;
    events.broadcast(CHANNEL, "half", &half).await.unwrap();
    events.broadcast(CHANNEL, "half", &half).await.unwrap();
    let (_, reply) = back(&server, &since).await;
    assert_eq!(reply["recovered"], true, "two times 500 bytes");
    events.broadcast(CHANNEL, "more", &1).await.unwrap();
    let (_, reply) = back(&server, &since).await;
    assert_not_recovered(&reply, 3);
}

#[tokio::test]
async fn what_is_older_than_the_channel_keeps_is_gone() {
    let rule = ChannelRule::default().with_history(100, Duration::from_millis(100));
    let rules = ChannelRules::new().with(CHANNEL, rule);
    let server = TestServer::start(Server::builder().channel_rules(rules)).await;
    let since = position(&server).await;
    publish(&server.events, 0..1).await;
    eventually("the event to be too old", async || {
        let (_, reply) = back(&server, &since).await;
        assert_eq!(reply["position"]["offset"], 1, "the position stays");
        reply["recovered"] == false
    })
    .await;
}

#[tokio::test]
async fn positions_that_never_were_recover_nothing() {
    // T29: a position is a claim, and grants nothing.
    let server = TestServer::start(keeping(100)).await;
    publish(&server.events, 0..4).await;
    let at = position(&server).await;
    let with = |field: &str, value: Value| {
        let mut position = at.clone();
        position[field] = value;
        position
    };
    let rows = [
        with("epoch", json!("1")),
        with("tag", json!("1")),
        with("offset", json!(5)),
        with("offset", json!((1u64 << 53) - 1)),
        with("offset", json!(3)),
        json!({ "epoch": at["epoch"], "offset": 2, "tag": "ffffffffffffffff" }),
    ];
    for since in rows {
        let (_, reply) = back(&server, &since).await;
        assert_not_recovered(&reply, 4);
    }
    let start = json!({ "epoch": at["epoch"], "offset": 0, "tag": "0" });
    let (_, reply) = back(&server, &start).await;
    assert_eq!(
        payloads(&reply),
        [0, 1, 2, 3],
        "the beginning is a position"
    );
}

#[tokio::test]
async fn a_replaced_history_is_told_to_who_stayed_and_who_came_back() {
    let engine = Engine::memory();
    let server = TestServer::start(keeping(100).engine(engine.clone())).await;
    let mut stayed = Socket::connect(server.address).await;
    let joined = stayed.subscribe(CHANNEL).await;
    publish(&server.events, 0..2).await;
    stayed.expect(json!({ "data": 0 })).await;
    stayed.expect(json!({ "data": 1 })).await;
    let since = position(&server).await;

    let channel = ChannelName::new(CHANNEL).unwrap();
    engine.broker.clear_history(&channel).await.unwrap();
    publish(&server.events, 2..3).await;
    let reset = stayed
        .expect(json!({ "type": "reset", "channel": CHANNEL }))
        .await;
    assert_ne!(reset["position"]["epoch"], joined["position"]["epoch"]);
    assert_eq!(reset["position"]["offset"], 0);
    assert!(reset["reason"].is_string());
    let event = stayed.expect(json!({ "data": 2, "offset": 1 })).await;
    assert_eq!(event["epoch"], reset["position"]["epoch"]);
    let (_, reply) = back(&server, &since).await;
    assert_not_recovered(&reply, 1);
    assert_eq!(reply["position"]["epoch"], reset["position"]["epoch"]);
}

#[tokio::test]
async fn a_restart_without_memory_is_told() {
    let before = TestServer::start(keeping(100)).await;
    publish(&before.events, 0..5).await;
    let since = position(&before).await;
    before.stop().await;
    let after = TestServer::start(keeping(100)).await;
    let (_, reply) = back(&after, &since).await;
    assert_not_recovered(&reply, 0);
    // As many messages as before do not make it the same history.
    publish(&after.events, 0..6).await;
    let (_, reply) = back(&after, &since).await;
    assert_not_recovered(&reply, 6);
}

#[tokio::test]
async fn a_subscription_may_begin_with_the_last_events() {
    let server = TestServer::start(keeping(100)).await;
    publish(&server.events, 0..20).await;
    let rewound = async |count: u64| {
        let mut socket = Socket::connect(server.address).await;
        let reply = socket
            .subscribe_with(json!({ "channel": CHANNEL, "rewind": count }))
            .await;
        assert_eq!(reply["recovered"], false);
        assert_eq!(reply["position"]["offset"], 20);
        payloads(&reply)
    };
    assert_eq!(rewound(3).await, [17, 18, 19]);
    assert_eq!(
        rewound(99).await,
        [15, 16, 17, 18, 19],
        "the rule allows five"
    );
    assert!(rewound(0).await.is_empty());
}

#[tokio::test]
async fn the_history_is_read_on_request() {
    let server = TestServer::start(keeping(100)).await;
    let mut socket = Socket::connect(server.address).await;
    let start = socket.subscribe(CHANNEL).await["position"].clone();
    publish(&server.events, 0..4).await;
    for _ in 0..4 {
        socket.expect(json!({ "event": "n" })).await;
    }
    let rows = [
        (
            json!({ "type": "history", "id": 1, "channel": CHANNEL }),
            vec![0, 1, 2, 3],
        ),
        (
            json!({ "type": "history", "id": 1, "channel": CHANNEL, "limit": 2 }),
            vec![2, 3],
        ),
        (
            json!({ "type": "history", "id": 1, "channel": CHANNEL, "since": start, "limit": 2 }),
            vec![0, 1],
        ),
    ];
    for (command, expected) in rows {
        socket.send(command).await;
        let answer = socket
            .expect(json!({ "type": "ok", "id": 1, "position": { "offset": 4 } }))
            .await;
        assert_eq!(payloads(&answer), expected);
    }
    socket.subscribe("live").await;
    let rows = [("live", 4312), ("elsewhere", 4312), ("orders.2", 4310)];
    for (channel, code) in rows {
        socket
            .send(json!({ "type": "history", "id": 2, "channel": channel }))
            .await;
        socket
            .expect(json!({ "type": "error", "id": 2, "code": code }))
            .await;
    }
}

#[tokio::test]
async fn a_channel_without_history_has_no_positions() {
    let server = TestServer::start(keeping(100)).await;
    let mut socket = Socket::connect(server.address).await;
    let since = json!({ "epoch": "1", "offset": 1, "tag": "1" });
    let reply = socket
        .subscribe_with(json!({ "channel": "live", "since": since, "rewind": 5 }))
        .await;
    let expected =
        json!({ "type": "subscription_succeeded", "channel": "live", "recovered": false });
    assert_eq!(reply, expected);
    server.events.broadcast("live", "e", &1).await.unwrap();
    let expected = json!({ "type": "event", "channel": "live", "event": "e", "data": 1 });
    assert_eq!(socket.receive().await, expected);
}

/// Follows the channel from a subscription's reply until `end`, and returns what came.
async fn follow(mut socket: Socket, reply: Value, end: u64) -> (Vec<u64>, Value) {
    let mut came = payloads(&reply);
    let mut at = reply["position"].clone();
    while came.last() != Some(&end) {
        let event = socket.receive().await;
        assert_eq!(event["type"], "event", "{event}");
        let offset = at["offset"].as_u64().unwrap() + 1;
        assert_eq!(event["offset"], offset, "{event}");
        at["offset"] = json!(offset);
        at["tag"] = event["tag"].clone();
        came.push(event["data"].as_u64().unwrap());
    }
    (came, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_begun_amid_publishing_miss_nothing_and_repeat_nothing() {
    const END: u64 = 1_500;
    /// Less than what is kept, and much more than a round reads: nobody falls out of the history, and everybody joins in the
    /// middle of things.
    const LEAD: u64 = 200;
    let server = TestServer::start(keeping(1_000)).await;
    let start = position(&server).await;
    let progress: Arc<[AtomicU64; 8]> = Arc::default();
    let publishing = tokio::spawn({
        let (events, progress) = (server.events.clone(), Arc::clone(&progress));
        async move {
            for number in 0..=END {
                let slowest = || progress.iter().map(|at| at.load(Ordering::SeqCst)).min();
                while slowest().unwrap() + LEAD < number {
                    tokio::task::yield_now().await;
                }
                events.broadcast(CHANNEL, "n", &number).await.unwrap();
            }
        }
    });
    let mut readers = JoinSet::new();
    for reader in 0..progress.len() {
        let door = match reader % 2 {
            0 => Door::at(server.address).subprotocols("fanfare.v1.batch"),
            _ => Door::at(server.address),
        };
        let (mut since, progress) = (start.clone(), Arc::clone(&progress));
        readers.spawn(async move {
            let mut came: Vec<u64> = Vec::new();
            while came.last() != Some(&END) {
                let mut socket = door.enter().await;
                let reply = socket
                    .subscribe_with(json!({ "channel": CHANNEL, "since": since }))
                    .await;
                assert_eq!(reply["recovered"], true, "{reply}");
                let next = came.len() as u64;
                let (more, at) = follow_past(socket, reply, (next + 40).min(END)).await;
                came.extend(more);
                since = at;
                progress[reader].store(came.len() as u64, Ordering::SeqCst);
            }
            came
        });
    }
    let all: Vec<u64> = (0..=END).collect();
    for came in within("the readers", readers.join_all()).await {
        assert_eq!(came, all);
    }
    publishing.await.unwrap();
}

/// As [`follow`], but an end that came long ago is no reason to wait.
async fn follow_past(socket: Socket, reply: Value, end: u64) -> (Vec<u64>, Value) {
    let came = payloads(&reply);
    if came.last().is_some_and(|last| *last >= end) {
        return (came, reply["position"].clone());
    }
    follow(socket, reply, end).await
}

#[tokio::test]
async fn a_personal_channel_with_history_is_continued_too() {
    use fanfare_server::protocol::UserId;
    use fanfare_tests::suite::SuiteAuthorizer;

    let rule = ChannelRule::default().with_history(10, Duration::from_secs(300));
    let builder = Server::builder()
        .authorizer(SuiteAuthorizer)
        .channel_rules(ChannelRules::new().with("user:", rule));
    let server = TestServer::start(builder).await;
    let door = Door::at(server.address).bearer("user:ann");
    let ann = UserId::new("ann").unwrap();
    let mut socket = door.enter().await;
    server.events.send_to_user(&ann, "n", &0).await.unwrap();
    let seen = socket.expect(json!({ "data": 0, "offset": 1 })).await;
    socket.vanish();
    server.events.send_to_user(&ann, "n", &1).await.unwrap();

    let mut socket = door.open().await.unwrap();
    socket
        .expect(json!({ "type": "connected", "user_id": "ann" }))
        .await;
    let joined = socket
        .expect(json!({ "type": "subscription_succeeded" }))
        .await;
    let since = json!({
        "epoch": joined["position"]["epoch"], "offset": seen["offset"], "tag": seen["tag"],
    });
    let reply = socket
        .subscribe_with(json!({ "channel": "user:ann", "since": since }))
        .await;
    assert_eq!(reply["recovered"], true);
    assert_eq!(payloads(&reply), [1]);
}
