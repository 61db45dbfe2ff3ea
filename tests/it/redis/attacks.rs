//! What reaches Redis of hostile input: names, payloads, and calls that are given up half way (T25, T26, T33).

use std::collections::BTreeSet;
use std::time::Duration;

use fanfare_server::engine::Engine;
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::{ChannelRule, ChannelRules, Server, ServerBuilder};
use fanfare_tests::redis::{self, Redis};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::Socket;
use fanfare_tests::within;
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn on(redis: &Redis, name: &str) -> ServerBuilder {
    let options: RedisOptions = redis.url().parse().unwrap();
    let options = options.with_prefix(redis::prefix(name)).unwrap();
    let rule = ChannelRule::default()
        .with_history(100, Duration::from_secs(300))
        .with_rewind(100);
    Server::builder()
        .engine(Engine::redis(options))
        .channel_rules(ChannelRules::new().with("", rule))
}

#[tokio::test]
async fn payloads_that_end_a_string_or_a_reply_come_back_as_they_were() {
    let server = TestServer::start(on(redis::shared().await, "bytes")).await;
    let mut live = Socket::connect(server.address).await;
    live.subscribe("lua").await;
    // Ends of strings and replies in Lua, RESP and JSON; line ends between values reach Redis as they are.
    let payloads = [
        r#""]]..redis.call('FLUSHALL')..[[""#,
        r#""]==]\")\r\n*1\r\n$8\r\nFLUSHALL\r\n""#,
        "[\r\n\"+OK\"\r\n,\r\n1\r\n]",
        "{\r\n\"a\":\r\n1.0\t,\n\"b\":\"\u{2028}\"}",
        r#""\u0000\ud83d\ude00 %s %n {0} ${x} KEYS[1] ARGV""#,
    ];
    for payload in payloads {
        let raw: &RawValue = serde_json::from_str(payload).unwrap();
        server.events.broadcast("lua", "e", raw).await.unwrap();
    }
    let mut late = Socket::connect(server.address).await;
    let fields = json!({ "channel": "lua", "rewind": 100 });
    let rewound = late.subscribe_with(fields).await;
    assert_eq!(
        rewound["events"].as_array().map(Vec::len),
        Some(payloads.len()),
        "{rewound}"
    );
    for (number, payload) in payloads.iter().enumerate() {
        let expected: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(
            rewound["events"][number]["data"], expected,
            "from the history"
        );
        let event = live.expect(json!({ "type": "event" })).await;
        assert_eq!(event["data"], expected, "as it was published");
    }
}

#[tokio::test]
async fn names_that_are_patterns_are_refused_and_no_command_takes_one() {
    let redis = Redis::start().await;
    let server = TestServer::start(on(&redis, "patterns")).await;
    let mut socket = Socket::connect(server.address).await;
    for pattern in ["*", "a?", "[ab]", "a\\", "{a}", "a\0", "a\r\nb", "a b"] {
        socket
            .send(json!({ "type": "subscribe", "channel": pattern }))
            .await;
        socket
            .expect(json!({ "type": "error", "code": 4304 }))
            .await;
    }
    // What the server counted of commands while a client did everything that it may.
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    for number in 0..10 {
        let channel = format!("room-{number}");
        socket.subscribe(&channel).await;
        server
            .events
            .broadcast(&channel, "e", &number)
            .await
            .unwrap();
        socket.expect(json!({ "type": "event" })).await;
        socket
            .send(json!({ "type": "history", "id": 1, "channel": channel }))
            .await;
        socket.expect(json!({ "type": "ok" })).await;
        socket
            .send(json!({ "type": "unsubscribe", "channel": channel }))
            .await;
        socket.expect(json!({ "type": "unsubscribed" })).await;
    }
    let counted = redis.command(&["INFO", "commandstats"]).await.text();
    let sent: BTreeSet<&str> = counted
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next())
        .filter(|command| *command != "config|resetstat")
        .collect();
    assert!(sent.contains("evalsha"), "{sent:?}");
    for command in [
        "psubscribe",
        "keys",
        "scan",
        "sort",
        "flushall",
        "config|set",
    ] {
        assert!(!sent.contains(command), "{command}: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_leaves_its_answer_to_no_other() {
    let server = TestServer::start(on(redis::shared().await, "cancelled")).await;
    for room in 0..ROOMS {
        let channel = format!("room-{room}");
        server.events.broadcast(&channel, "e", &room).await.unwrap();
    }
    let mut visitors = tokio::task::JoinSet::new();
    for room in 0..ROOMS {
        let (address, events) = (server.address, server.events.clone());
        visitors.spawn(async move {
            let mut random = fastrand::Rng::with_seed(room);
            let channel = format!("room-{room}");
            let mut answered = 0;
            for _ in 0..CONNECTIONS {
                let mut socket = Socket::connect(address).await;
                // A recovery, whose answer may be on its way when the connection goes.
                let wanted = json!({ "type": "subscribe", "channel": channel, "rewind": 100 });
                socket.send(wanted).await;
                for _ in 0..GIVEN_UP {
                    // A publish that its caller gives up at any of its steps.
                    let publish = events.broadcast(&channel, "e", &room);
                    let patience = Duration::from_micros(random.u64(..1_000));
                    let _ = tokio::time::timeout(patience, publish).await;
                }
                if random.bool() {
                    let subscribed =
                        json!({ "type": "subscription_succeeded", "channel": channel });
                    let answer = socket.expect(subscribed).await;
                    for event in answer["events"].as_array().unwrap() {
                        assert_eq!(event["data"], json!(room), "room {room} was told {event}");
                        answered += 1;
                    }
                }
                socket.vanish();
            }
            answered
        });
    }
    let mut answered = 0;
    while let Some(visitor) = within("the visitors", visitors.join_next()).await {
        answered += visitor.unwrap();
    }
    assert!(
        answered > ROOMS * CONNECTIONS,
        "{answered} events were looked at"
    );
}

const ROOMS: u64 = 16;
const CONNECTIONS: u64 = 20;
const GIVEN_UP: u64 = 20;
