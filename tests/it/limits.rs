//! What one connection may ask, and what it is told when that is enough.

use std::time::{Duration, Instant};

use fanfare_server::engine::Engine;
use fanfare_server::engine::memory::{MemoryEngine, MemoryOptions};
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::{
    ChannelRule, ChannelRules, Limits, PublishError, Server, ServerBuilder, SlowReader,
};
use fanfare_tests::raw::{PING, PONG, RawSocket, TEXT};
use fanfare_tests::redis::Redis;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket, has};
use fanfare_tests::{eventually, suite, within};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

fn with(change: impl FnOnce(&mut Limits)) -> ServerBuilder {
    let mut limits = Limits::default();
    change(&mut limits);
    suite::builder().limits(limits)
}

#[test]
fn the_limits_are_those_that_are_written_down() {
    let limits = Limits::default();
    assert_eq!(limits.payload_bytes_max, 1 << 20);
    assert_eq!(limits.client_payload_bytes_max, 32 << 10);
    assert_eq!(limits.message_bytes_max(), (32 << 10) + (16 << 10));
    assert_eq!(
        (limits.client_bytes_per_second, limits.client_bytes_burst),
        (64 << 10, 256 << 10)
    );
    assert_eq!(ChannelRule::default().client_bytes_per_second, 256 << 10);
    assert_eq!(limits.channels_max, 100);
    assert_eq!(
        (limits.commands_per_second, limits.commands_burst),
        (50, 200)
    );
    assert_eq!(limits.outbox_bytes_max, 1 << 20);
    assert_eq!(limits.ping_interval, Duration::from_secs(30));
    assert_eq!(limits.stale_after, Duration::from_secs(60));
    assert_eq!(limits.authentication_deadline, Duration::from_secs(10));
}

#[tokio::test]
async fn a_payload_of_the_limit_passes_and_a_byte_more_does_not() {
    let server = TestServer::start(suite::builder()).await;
    let mut sender = Socket::connect(server.address).await;
    let mut reader = Socket::connect(server.address).await;
    sender.subscribe("open-room").await;
    reader.subscribe("open-room").await;
    // Two quotation marks are part of the payload.
    let largest = "x".repeat((32 << 10) - 2);
    sender.send(from_client("open-room", &largest)).await;
    let heard = reader.expect(json!({ "event": "big" })).await;
    assert_eq!(heard["data"].as_str().unwrap().len(), largest.len());
    let own = [sender.receive().await, sender.receive().await];
    assert!(own.iter().any(|message| message["type"] == "ok"));

    sender
        .send(from_client("open-room", &format!("{largest}x")))
        .await;
    let error = sender.receive().await;
    let expected = json!({
        "type": "error", "id": 1, "code": 4306, "retry": false,
        "error": "a client's payload has at most 32768 bytes, this one has 32769",
    });
    assert_eq!(error, expected);

    // The application may send more.
    let largest = "x".repeat((1 << 20) - 2);
    let events = &server.events;
    events
        .broadcast("open-room", "big", &largest)
        .await
        .unwrap();
    reader
        .expect(json!({ "event": "big", "user_id": null }))
        .await;
    let error = events
        .broadcast("open-room", "big", &format!("{largest}x"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PublishError::PayloadTooLarge { channel, bytes, bytes_max }
            if channel.as_str() == "open-room" && *bytes == (1 << 20) + 1 && *bytes_max == 1 << 20),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "a payload for open-room has at most 1048576 bytes, this one has 1048577"
    );
    reader.is_quiet().await;
}

fn from_client(channel: &str, text: &str) -> Value {
    json!({ "type": "publish", "id": 1, "channel": channel, "event": "big", "data": text })
}

/// The answer to a publish. What is published on the channel meanwhile comes to the sender as well.
async fn answer(socket: &mut Socket) -> Value {
    loop {
        let message = socket.receive().await;
        if message["type"] != "event" {
            return message;
        }
    }
}

#[tokio::test]
async fn clients_publish_as_much_as_the_application_where_that_is_configured() {
    let server = TestServer::start(with(|limits| {
        limits.client_payload_bytes_max = 4 << 20;
    }))
    .await;
    let mut sender = Socket::connect(server.address).await;
    sender.subscribe("open-room").await;
    let largest = "x".repeat((1 << 20) - 2);
    sender.send(from_client("open-room", &largest)).await;
    assert_eq!(answer(&mut sender).await["type"], "ok");
    sender
        .send(from_client("open-room", &format!("{largest}x")))
        .await;
    let error = answer(&mut sender).await;
    assert_eq!(error["code"], 4306, "{error}");
}

#[tokio::test]
async fn a_connection_publishes_so_many_bytes_and_its_neighbour_as_many() {
    let server = TestServer::start(with(|limits| {
        limits.client_bytes_per_second = 1_000;
        limits.client_bytes_burst = 40_000;
    }))
    .await;
    let mut loud = Socket::connect(server.address).await;
    let mut neighbour = Socket::connect(server.address).await;
    let text = "x".repeat(30_000 - 2);
    for channel in ["open-a", "open-b"] {
        loud.subscribe(channel).await;
        neighbour.subscribe(channel).await;
    }
    loud.send(from_client("open-a", &text)).await;
    assert_eq!(answer(&mut loud).await["type"], "ok");
    // Another channel is paid for by the same connection.
    loud.send(from_client("open-b", &text)).await;
    let error = answer(&mut loud).await;
    let wait_ms = error["retry_after"].as_u64().unwrap();
    assert!((15_000..=20_000).contains(&wait_ms), "{error}");
    let expected = json!({
        "type": "error", "id": 1, "code": 4322, "retry": true, "retry_after": wait_ms,
        "error": "a connection publishes at most 1000 bytes per second and 40000 at once, 30000 more are too many now",
    });
    assert_eq!(error, expected);
    neighbour.send(from_client("open-b", &text)).await;
    assert_eq!(answer(&mut neighbour).await["type"], "ok");
}

#[tokio::test]
async fn a_user_publishes_so_many_bytes_over_all_connections() {
    let server = TestServer::start(with(|limits| {
        limits.client_payload_bytes_max = 3_000;
        limits.client_bytes_per_second = 1;
        limits.client_bytes_burst = 3_000;
    }))
    .await;
    let publishes = async |user: &str| {
        let token = format!("user:{user}");
        let mut socket = Door::at(server.address).bearer(&token).enter().await;
        socket.subscribe("open-a").await;
        let text = "x".repeat(2_900 - 2);
        socket.send(from_client("open-a", &text)).await;
        answer(&mut socket).await
    };
    for _ in 0..4 {
        assert_eq!(publishes("ann").await["type"], "ok");
    }
    let error = publishes("ann").await;
    let expected = json!({
        "type": "error", "code": 4322, "retry": true,
        "error": "all connections of a user publish at most 4 bytes per second and 12000 at once, 2900 more are too many now",
    });
    assert!(has(&error, &expected), "{error}");
    assert_eq!(publishes("ben").await["type"], "ok");
}

#[tokio::test]
async fn a_channel_takes_so_many_bytes_of_all_its_clients_and_any_of_the_application() {
    let rule = ChannelRule::default()
        .with_client_publish()
        .with_client_bytes_per_second(1_000);
    let rules = ChannelRules::new().with("open-narrow", rule);
    let rules = rules.with("open-", ChannelRule::default().with_client_publish());
    let server = TestServer::start(suite::builder().channel_rules(rules)).await;
    let mut first = Socket::connect(server.address).await;
    let mut second = Socket::connect(server.address).await;
    // At once as much as one payload may have.
    let text = "x".repeat((32 << 10) - 2);
    for socket in [&mut first, &mut second] {
        socket.subscribe("open-narrow").await;
        socket.subscribe("open-wide").await;
    }
    first.send(from_client("open-narrow", &text)).await;
    assert_eq!(answer(&mut first).await["type"], "ok");
    second.send(from_client("open-narrow", &text)).await;
    let error = answer(&mut second).await;
    let wait_ms = error["retry_after"].as_u64().unwrap();
    assert!((20_000..=33_000).contains(&wait_ms), "{error}");
    let expected = json!({
        "type": "error", "id": 1, "code": 4323, "retry": true, "retry_after": wait_ms,
        "error": "clients publish at most 1000 bytes per second on open-narrow, 32768 more are too many now",
    });
    assert_eq!(error, expected);
    second.send(from_client("open-wide", &text)).await;
    assert_eq!(answer(&mut second).await["type"], "ok");
    let events = &server.events;
    events.broadcast("open-narrow", "big", &text).await.unwrap();
}

#[tokio::test]
async fn a_frame_above_the_limit_ends_the_connection() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let text = "x".repeat(Limits::default().message_bytes_max() + 1);
    socket.send_frame(Message::text(text)).await;
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test]
async fn a_connection_has_a_hundred_channels() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Door::at(server.address).bearer("user:ann").enter().await;
    for number in 0..100 {
        socket.subscribe(&format!("room-{number}")).await;
    }
    let one_more = json!({ "type": "subscribe", "id": 7, "channel": "room-100" });
    socket.send(one_more.clone()).await;
    let error = socket.receive().await;
    let expected = json!({
        "type": "subscription_error", "id": 7, "channel": "room-100", "code": 4308,
        "error": "too many channels on this connection", "retry": false,
    });
    assert_eq!(error, expected);
    // The personal channel was not counted. The application may go beyond, and a channel left makes room.
    let me = socket.id.parse().unwrap();
    server.events.subscribe(me, "extra").await.unwrap();
    socket
        .expect(json!({ "type": "subscription_succeeded", "channel": "extra" }))
        .await;
    for channel in ["extra", "room-0"] {
        socket
            .send(json!({ "type": "unsubscribe", "channel": channel }))
            .await;
        socket.expect(json!({ "type": "unsubscribed" })).await;
    }
    socket.subscribe_with(one_more).await;
}

#[tokio::test]
async fn commands_above_the_rate_are_refused_with_a_time_to_wait() {
    let server = TestServer::start(with(|limits| {
        limits.commands_burst = 20;
        limits.commands_per_second = 100;
    }))
    .await;
    let mut socket = Socket::connect(server.address).await;
    let ping = json!({ "type": "ping", "id": 8 });
    let refused = loop {
        socket.send(ping.clone()).await;
        let reply = socket.receive().await;
        if reply["type"] == "error" {
            break reply;
        }
        assert_eq!(reply["type"], "pong");
    };
    let wait_ms = refused["retry_after"].as_u64().unwrap();
    assert!((1..=10).contains(&wait_ms), "{refused}");
    let expected = json!({
        "type": "error", "id": 8, "code": 4307, "error": "too many commands, slow down", "retry": true,
        "retry_after": wait_ms,
    });
    assert_eq!(refused, expected);
    eventually("the right to speak again", async || {
        socket.send(ping.clone()).await;
        socket.receive().await["type"] == "pong"
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_commands_ends_the_connection_and_nobody_elses() {
    // T18, T19: a client that does not listen to refusals is not worth refusing.
    let server = TestServer::start(suite::builder()).await;
    let mut witness = Socket::connect(server.address).await;
    let mut socket = Socket::connect(server.address).await;
    let mut refusals = 0;
    let flood = Message::text(json!({ "type": "subscribe", "channel": "x" }).to_string());
    for _ in 0..3_000 {
        socket.send_frame(flood.clone()).await;
    }
    while let Some(message) = within("an end", socket.next()).await {
        match message["type"].as_str().unwrap() {
            "error" => refusals += usize::from(message["code"] == 4307),
            "disconnect" => {
                let expected = json!({
                    "type": "disconnect", "code": 4106, "reconnect": true, "after": 0,
                    "reason": "commands kept arriving far above the limit",
                });
                assert_eq!(message, expected);
            }
            _ => {}
        }
    }
    assert!(refusals >= 100, "{refusals}");
    assert_eq!(socket.closed().await.0, 4106);
    witness.is_quiet().await;
}

#[tokio::test]
async fn commands_that_wait_for_a_slow_answer_are_bounded() {
    struct Silent;

    #[async_trait::async_trait]
    impl fanfare_server::auth::Authorizer for Silent {
        async fn connect(
            &self,
            _: &fanfare_server::auth::Credentials<'_>,
        ) -> Result<fanfare_server::auth::Identity, fanfare_server::auth::Denied> {
            Err(fanfare_server::auth::Denied::NoCredentials)
        }

        async fn subscribe(
            &self,
            _: &fanfare_server::auth::Caller,
            _: &fanfare_server::protocol::ChannelName,
        ) -> Result<fanfare_server::auth::Grant, fanfare_server::auth::Denied> {
            std::future::pending().await
        }
    }

    let mut limits = Limits::default();
    limits.commands_burst = 1_000;
    let builder = Server::builder().authorizer(Silent).allow_anonymous();
    let server = TestServer::start(builder.limits(limits)).await;
    let mut socket = Socket::connect(server.address).await;
    for _ in 0..300 {
        socket
            .send(json!({ "type": "subscribe", "channel": "x" }))
            .await;
    }
    socket
        .expect(
            json!({ "type": "subscription_error", "channel": "x", "code": 4319, "retry": true }),
        )
        .await;
}

/// Keeps everything, so that even a long absence can be recovered.
fn roomy(slow_reader: SlowReader) -> ServerBuilder {
    let mut limits = Limits::default();
    limits.recovery_events_max = 1_000;
    limits.recovery_bytes_max = 64 << 20;
    let rule = ChannelRule::default()
        .with_history(1_000, Duration::from_secs(300))
        .with_slow_reader(slow_reader);
    let options = MemoryOptions::default()
        .with_channel_bytes_max(64 << 20)
        .with_history_bytes_max(16 * (64 << 20));
    Server::builder()
        .limits(limits)
        .engine(Engine::new(MemoryEngine::new(options)))
        .channel_rules(ChannelRules::new().with("", rule))
}

/// 20 KB each: a few hundred are more than kernel and outbox hold together.
async fn publish(server: &TestServer, numbers: std::ops::Range<u64>) {
    let padding = "x".repeat(20_000);
    for number in numbers {
        let data = json!({ "number": number, "padding": padding });
        server.events.broadcast("big", "n", &data).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_closed_as_slow_and_recovers_everything() {
    // T17.
    let server = TestServer::start(roomy(SlowReader::Close)).await;
    let mut slow = RawSocket::connect_narrow(server.address).await;
    slow.send_json(&json!({ "type": "subscribe", "channel": "big" }))
        .await;
    let joined = slow.receive_json().await;
    let mut witness = Socket::connect(server.address).await;
    witness.subscribe("big").await;
    let reading = tokio::spawn(async move {
        for number in 0..500 {
            witness
                .expect(json!({ "data": { "number": number } }))
                .await;
        }
    });
    publish(&server, 0..500).await;
    within("a reader that reads", reading).await.unwrap();

    let mut since = joined["position"].clone();
    let mut came = 0;
    let goodbye = loop {
        let message = slow.receive_json().await;
        if message["type"] != "event" {
            break message;
        }
        assert_eq!(message["data"]["number"], came);
        came += 1;
        since["offset"] = message["offset"].clone();
        since["tag"] = message["tag"].clone();
    };
    assert!(came < 500, "it cannot all have been waiting");
    let expected = json!({
        "type": "disconnect", "code": 4100, "reconnect": true, "after": 0,
        "reason": "too much data was waiting to be read",
    });
    assert_eq!(goodbye, expected);
    assert_eq!(slow.closed().await.unwrap().0, 4100);

    let mut back = Socket::connect(server.address).await;
    let reply = back
        .subscribe_with(json!({ "channel": "big", "since": since }))
        .await;
    assert_eq!(reply["recovered"], true);
    let events = reply["events"].as_array().unwrap();
    let numbers: Vec<_> = events
        .iter()
        .map(|event| event["data"]["number"].as_u64())
        .collect();
    assert_eq!(numbers, Vec::from_iter((came..500).map(Some)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_rule_says_so_a_slow_reader_is_told_of_a_gap_instead() {
    let server = TestServer::start(roomy(SlowReader::Drop)).await;
    let mut slow = RawSocket::connect_narrow(server.address).await;
    slow.send_json(&json!({ "type": "subscribe", "channel": "big" }))
        .await;
    slow.receive_json().await;
    publish(&server, 0..500).await;
    let mut came = 0;
    let gap = loop {
        let message = slow.receive_json().await;
        if message["type"] != "event" {
            break message;
        }
        assert_eq!(message["data"]["number"], came);
        came += 1;
    };
    assert!(came < 500);
    assert_eq!(
        (&gap["type"], &gap["channel"]),
        (&json!("gap"), &json!("big"))
    );
    assert!(gap["reason"].is_string());
    // It has caught up: what is published now comes again.
    publish(&server, 500..501).await;
    assert_eq!(slow.receive_json().await["data"]["number"], 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_that_is_left_out_of_a_message_is_not_closed_either() {
    let server = TestServer::start(roomy(SlowReader::Drop)).await;
    let mut slow = RawSocket::connect_narrow(server.address).await;
    slow.send_json(&json!({ "type": "subscribe", "channel": "big" }))
        .await;
    slow.receive_json().await;
    publish(&server, 0..500).await;
    for _ in 0..20 {
        let except = slow.id();
        let data = "x".repeat(20_000);
        server
            .events
            .broadcast_except("big", "n", &data, except)
            .await
            .unwrap();
    }
    publish(&server, 500..501).await;
    let gap = loop {
        let message = slow.receive_json().await;
        if message["type"] != "event" {
            break message;
        }
    };
    assert_eq!(gap["type"], "gap", "{gap}");
    publish(&server, 501..502).await;
    assert_eq!(slow.receive_json().await["data"]["number"], 501);
}

#[tokio::test]
async fn a_silent_connection_is_pinged_and_lives_as_long_as_it_answers() {
    let server = TestServer::start(with(|limits| {
        limits.ping_interval = Duration::from_millis(50);
        limits.stale_after = Duration::from_millis(400);
    }))
    .await;
    let mut mute = RawSocket::connect(server.address).await;
    let mut alive = RawSocket::connect(server.address).await;
    let mut pings = 0;
    let answering = async {
        // Longer than the other one is allowed to be silent.
        while pings < 20 {
            let (opcode, payload) = alive.receive().await.unwrap();
            assert_eq!(opcode, PING);
            alive.send(PONG, &payload).await;
            pings += 1;
        }
    };
    let falling_silent = async {
        assert_eq!(mute.receive().await.unwrap().0, PING);
        let (opcode, text) = mute.receive().await.unwrap();
        assert_eq!(opcode, TEXT, "one ping is enough");
        let goodbye: Value = serde_json::from_slice(&text).unwrap();
        let expected = json!({
            "type": "disconnect", "code": 4102, "reconnect": true, "after": 0,
            "reason": "nothing was received for too long",
        });
        assert_eq!(goodbye, expected);
        assert_eq!(mute.closed().await.unwrap().0, 4102);
    };
    tokio::join!(answering, falling_silent);
    alive.send_json(&json!({ "type": "ping" })).await;
    let pong = loop {
        let (opcode, payload) = alive.receive().await.unwrap();
        if opcode == TEXT {
            break payload;
        }
    };
    assert!(String::from_utf8(pong).unwrap().contains("pong"));
}

#[tokio::test]
async fn what_is_sent_shows_that_somebody_is_there() {
    let server = TestServer::start(with(|limits| {
        limits.ping_interval = Duration::from_millis(100);
        limits.stale_after = Duration::from_millis(300);
        limits.commands_burst = 1_000_000;
    }))
    .await;
    let (_, connected) = {
        let mut socket = Door::at(server.address).open().await.unwrap();
        let connected = socket.receive().await;
        (socket, connected)
    };
    assert_eq!(connected["ping_interval"], 100, "the client is told");
    let mut socket = RawSocket::connect(server.address).await;
    let mut mute = RawSocket::connect(server.address).await;
    // The application's own pings keep a connection that never answers WebSocket's.
    let talking = async {
        loop {
            socket.send(TEXT, br#"{"type":"ping"}"#).await;
            while socket.receive().await.unwrap().0 != TEXT {}
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = talking => {}
        closed = mute.closed() => assert_eq!(closed.unwrap().0, 4102),
    }
    socket.send(TEXT, br#"{"type":"ping"}"#).await;
    while socket.receive().await.unwrap().0 != TEXT {}
}

#[tokio::test]
async fn a_list_of_channels_is_one_command_with_a_reply_for_each() {
    let server = TestServer::start(with(|limits| limits.channels_max = 1_000)).await;
    let mut socket = Socket::connect(server.address).await;
    let list: Vec<Value> = (0..1_000)
        .map(|number| json!({ "channel": format!("c-{number}") }))
        .collect();
    let subscribe = json!({ "type": "subscribe", "id": 5, "channels": list });
    socket.send(subscribe.clone()).await;
    let mut channels = std::collections::HashSet::new();
    for _ in 0..1_000 {
        let reply = socket.receive().await;
        assert_eq!(reply["type"], "subscription_succeeded", "{reply}");
        assert_eq!(reply["id"], 5);
        channels.insert(reply["channel"].as_str().unwrap().to_owned());
    }
    assert_eq!(channels.len(), 1_000);
    // The allowance is used up: nothing of the list is carried out.
    socket.send(subscribe).await;
    let refused = socket.receive().await;
    assert!(
        refused["retry_after"].as_u64().unwrap() > 10_000,
        "{refused}"
    );
    assert_eq!(
        (&refused["code"], &refused["id"]),
        (&json!(4307), &json!(5))
    );
    socket.is_quiet().await;
    let too_many =
        json!({ "type": "subscribe", "channels": vec![json!({ "channel": "x" }); 1_001] });
    socket.send(too_many).await;
    let refused = socket.receive().await;
    assert_eq!(refused["code"], 4300, "{refused}");
}

#[tokio::test]
async fn subscriptions_wait_for_those_on_their_way_and_not_for_ever() {
    let redis = Redis::start().await;
    let options: RedisOptions = redis.url().parse().unwrap();
    let mut limits = Limits::default();
    (limits.subscribing_max, limits.engine_deadline) = (1, Duration::from_secs(4));
    let builder = suite::builder().engine(Engine::redis(options));
    let server = TestServer::start(builder.limits(limits)).await;
    let mut first = Door::at(server.address).enter().await;
    let mut second = Door::at(server.address).enter().await;
    redis.pause();
    first
        .send(json!({ "type": "subscribe", "channel": "a" }))
        .await;
    // It is on its way by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    second
        .send(json!({ "type": "subscribe", "channel": "b" }))
        .await;
    let refused = second.receive().await;
    redis.resume();
    let text = "the server has too many subscriptions under way, try again later";
    let expected = json!({
        "type": "subscription_error", "channel": "b", "code": 4315, "retry": true, "retry_after": 1_000, "error": text,
    });
    assert!(has(&refused, &expected), "{refused}");
    assert!(started.elapsed() >= Duration::from_secs(2));
    first
        .expect(json!({ "type": "subscription_succeeded", "channel": "a" }))
        .await;
    second.subscribe("b").await;
}
