//! A command costs what it makes the server read and answer.

use std::time::Duration;

use fanfare_server::engine::Engine;
use fanfare_server::engine::redis::{FlowOptions, RedisOptions};
use fanfare_server::{ChannelRule, ChannelRules, Limits, ServerBuilder};
use fanfare_tests::redis::Redis;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::suite;
use serde_json::{Value, json};

fn with(change: impl FnOnce(&mut Limits)) -> ServerBuilder {
    let mut limits = Limits::default();
    change(&mut limits);
    let rule = ChannelRule::default().with_history(100, Duration::from_secs(300));
    suite::builder()
        .limits(limits)
        .channel_rules(ChannelRules::new().with("", rule))
}

/// Ten messages of 100,000 bytes: one answer is nearly as large as it may be.
async fn fill(server: &TestServer, channel: &str) {
    let text = "x".repeat(100_000);
    for _ in 0..10 {
        server.events.broadcast(channel, "n", &text).await.unwrap();
    }
}

fn history(id: u64, channel: &str) -> Value {
    json!({ "type": "history", "id": id, "channel": channel })
}

#[tokio::test]
async fn a_large_answer_costs_as_many_commands_as_it_has_parts() {
    let server = TestServer::start(with(|limits| {
        limits.commands_per_second = 1;
        limits.commands_burst = 20;
    }))
    .await;
    let mut reader = Socket::connect(server.address).await;
    reader.subscribe("full").await;
    fill(&server, "full").await;
    for _ in 0..10 {
        reader.expect(json!({ "type": "event" })).await;
    }
    reader.send(history(1, "full")).await;
    let answer = reader.receive().await;
    assert_eq!(answer["events"].as_array().unwrap().len(), 10);
    // A million bytes are 61 commands; the debt ends with a burst.
    reader.send(json!({ "type": "ping", "id": 2 })).await;
    let refused = reader.receive().await;
    assert_eq!(refused["code"], 4307, "{refused}");
    let wait_ms = refused["retry_after"].as_u64().unwrap();
    assert!((15_000..=21_000).contains(&wait_ms), "{refused}");
}

#[tokio::test]
async fn a_connection_gets_one_large_answer_after_the_other() {
    let server = TestServer::start(with(|limits| {
        // However slow this machine is.
        limits.engine_deadline = Duration::from_secs(60);
    }))
    .await;
    let mut reader = Socket::connect(server.address).await;
    let channels: Vec<String> = (0..15).map(|number| format!("full-{number}")).collect();
    for channel in &channels {
        fill(&server, channel).await;
        reader.subscribe(channel).await;
    }
    for (id, channel) in (1..).zip(&channels) {
        reader.send(history(id, channel)).await;
    }
    // Together they are fifteen times what may wait for a connection, which is not closed for that.
    let mut answered = Vec::new();
    for _ in &channels {
        let answer = reader.receive().await;
        assert_eq!(answer["type"], "ok", "{}", answer["code"]);
        assert_eq!(answer["events"].as_array().unwrap().len(), 10);
        answered.push(answer["id"].as_u64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=15).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_user_has_one_budget_over_all_connections_and_others_have_theirs() {
    let server = TestServer::start(with(|limits| {
        limits.peer_answer_bytes_per_second = 10_000;
        limits.peer_answer_bytes_burst = 500_000;
    }))
    .await;
    fill(&server, "full").await;
    let enter = async |user: &str| {
        let token = format!("user:{user}");
        let mut socket = Door::at(server.address).bearer(&token).enter().await;
        socket.subscribe("full").await;
        socket
    };
    let (mut first, mut second, mut other) =
        (enter("ann").await, enter("ann").await, enter("ben").await);
    first.send(history(1, "full")).await;
    first.expect(json!({ "type": "ok" })).await;
    second.send(history(1, "full")).await;
    let refused = second.receive().await;
    let wait_ms = refused["retry_after"].as_u64().unwrap();
    assert!((30_000..=51_000).contains(&wait_ms), "{refused}");
    let expected = json!({
        "type": "error", "id": 1, "code": 4324, "retry": true, "retry_after": wait_ms,
        "error": "a user reads at most 10000 bytes per second and 500000 at once, slow down",
    });
    assert_eq!(refused, expected);
    // So is a recovery, which brings as much. What is small goes on.
    second
        .send(json!({ "type": "unsubscribe", "channel": "full" }))
        .await;
    second.expect(json!({ "type": "unsubscribed" })).await;
    let position = json!({ "epoch": "1", "offset": 0, "tag": "0" });
    let since = json!({ "type": "subscribe", "id": 2, "channel": "full", "since": position });
    let told = second.subscribe_with(since).await;
    assert_eq!(told["recovered"], false, "another history costs nothing");
    let mut since = json!({ "type": "subscribe", "id": 3, "channel": "full" });
    since["since"] = json!({ "epoch": told["position"]["epoch"], "offset": 0, "tag": "0" });
    let mut third = Door::at(server.address).bearer("user:ann").enter().await;
    third.send(since).await;
    let refused = third.receive().await;
    let wait_ms = refused["retry_after"].as_u64();
    let expected = json!({
        "type": "subscription_error", "id": 3, "channel": "full",
        "code": 4324, "retry": true, "retry_after": wait_ms,
        "error": "a user reads at most 10000 bytes per second and 500000 at once, slow down",
    });
    assert_eq!(refused, expected);
    assert!((30_000..=51_000).contains(&wait_ms.unwrap()), "{refused}");
    other.send(history(1, "full")).await;
    other.expect(json!({ "type": "ok" })).await;
}

fn engine(redis: &Redis) -> Engine {
    let options: RedisOptions = redis.url().parse().unwrap();
    let mut flow = FlowOptions::default();
    // What a node remembers of recent messages would answer in place of Redis.
    flow.recent_bytes_max = 0;
    // Nothing but what is tried here asks Redis for a position.
    flow.sync_interval = Duration::from_mins(10);
    Engine::redis(options.with_flow(flow))
}

#[tokio::test]
async fn a_position_of_another_history_reads_nothing() {
    let redis = Redis::start().await;
    let server = TestServer::start(with(|_| {}).engine(engine(&redis))).await;
    fill(&server, "full").await;
    let mut reader = Socket::connect(server.address).await;
    reader.subscribe("full").await;
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    for id in 0..50 {
        let mut foreign = history(id, "full");
        foreign["since"] = json!({ "epoch": "1", "offset": 0, "tag": "0" });
        reader.send(foreign).await;
        let answer = reader.receive().await;
        assert_eq!(answer["events"], json!([]), "{}", answer["code"]);
        assert_eq!(answer["position"]["offset"], 10);
    }
    let mut other = Socket::connect(server.address).await;
    let position = json!({ "epoch": "1", "offset": 0, "tag": "0" });
    let since = json!({ "type": "subscribe", "id": 1, "channel": "full", "since": position });
    assert_eq!(other.subscribe_with(since).await["recovered"], false);
    let statistics = redis.command(&["INFO", "commandstats"]).await.text();
    assert!(
        !statistics.contains("cmdstat_xrange:"),
        "messages were read: {statistics}"
    );
}

#[tokio::test]
async fn a_recovery_is_one_read_of_redis() {
    let redis = Redis::start().await;
    let server = TestServer::start(with(|_| {}).engine(engine(&redis))).await;
    let mut reader = Socket::connect(server.address).await;
    let start = reader.subscribe("full").await["position"].clone();
    fill(&server, "full").await;
    for _ in 0..10 {
        reader.expect(json!({ "type": "event" })).await;
    }
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    let mut other = Socket::connect(server.address).await;
    let since = json!({ "type": "subscribe", "id": 1, "channel": "full", "since": start });
    let recovered = other.subscribe_with(since).await;
    assert_eq!(recovered["events"].as_array().unwrap().len(), 10);
    let statistics = redis.command(&["INFO", "commandstats"]).await.text();
    // The bodies are read once, after the oldest, the newest and what lies beyond it: the position alone asked nothing.
    assert!(statistics.contains("cmdstat_xrevrange:calls=1,"));
    assert!(
        statistics.contains("cmdstat_xrange:calls=3,"),
        "{statistics}"
    );
}

#[tokio::test]
async fn a_server_makes_so_many_reads_at_once_and_tells_the_next_to_come_back() {
    let redis = Redis::start().await;
    let server = TestServer::start(
        with(|limits| {
            limits.large_reads_max = 2;
            limits.engine_deadline = Duration::from_secs(4);
        })
        .engine(engine(&redis)),
    )
    .await;
    fill(&server, "full").await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = Socket::connect(server.address).await;
        reader.subscribe("full").await;
        readers.push(reader);
    }
    redis.pause();
    for reader in &mut readers {
        reader.send(history(1, "full")).await;
    }
    let mut answers = Vec::new();
    for reader in &mut readers {
        answers.push(reader.receive().await);
    }
    redis.resume();
    // Two waited for Redis, whichever came first, and one for them.
    answers.sort_by_key(|answer| answer["code"].as_u64());
    let codes: Vec<_> = answers.iter().map(|answer| &answer["code"]).collect();
    assert_eq!(codes, [4315, 4315, 4325]);
    let expected = json!({
        "type": "error", "id": 1, "code": 4325, "retry": true, "retry_after": 1_000,
        "error": "too many reads are under way on this server",
    });
    assert_eq!(answers[2], expected);
}
