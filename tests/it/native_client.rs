//! The Rust client against the real server, over lines that break.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fanfare_client::native::{NativeClient, NativeOptions, Subscription};
use fanfare_client::{
    Backoff, ChannelAuthReply, ChannelState, ClientError, ConnectionState, Event, Message, Options,
    SubscribeOptions, TokenReason, TokenReply,
};
use fanfare_server::protocol::{ChannelName, Code, EventName, RawJson, UserId};
use fanfare_server::{ChannelRule, ChannelRules};
use fanfare_tests::proxy::Proxy;
use fanfare_tests::server::TestServer;
use fanfare_tests::{eventually, http, suite, within};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

fn channel(name: &str) -> ChannelName {
    name.parse().unwrap()
}

fn hasty() -> NativeOptions {
    let backoff = Backoff {
        min: 1,
        max: 20,
        reset_after: 5_000,
    };
    NativeOptions::default().with_machine(Options::default().with_backoff(backoff))
}

fn connect(address: std::net::SocketAddr, options: NativeOptions) -> NativeClient {
    NativeClient::connect(&format!("ws://{address}/ws"), options).unwrap()
}

async fn listen(client: &NativeClient, name: &str) -> Subscription {
    let options = SubscribeOptions::default();
    let subscription = client.subscribe(channel(name), options).await.unwrap();
    let subscribed = within("a subscription", subscription.subscribed()).await;
    subscribed.unwrap();
    subscription
}

/// The next event that is not a change of the subscription's state.
async fn next(subscription: &mut Subscription) -> Event<RawJson> {
    loop {
        let event = within("an event", subscription.recv()).await;
        match event.unwrap() {
            Event::Channel(_) => {}
            event => return event,
        }
    }
}

async fn next_message(subscription: &mut Subscription) -> Message<RawJson> {
    match next(subscription).await {
        Event::Message(message) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

fn number(message: &Message<RawJson>) -> u64 {
    message.data.decode().unwrap()
}

#[tokio::test]
async fn every_message_arrives_once_and_in_order_over_a_line_that_keeps_breaking() {
    let server = TestServer::start(suite::builder()).await;
    let proxy = Proxy::start(server.address).await.unwrap();
    let client = connect(proxy.address(), hasty());
    let mut orders = listen(&client, "h-orders").await;
    for round in 0..30 {
        for number in round * 20..(round + 1) * 20 {
            let published = server.events.broadcast("h-orders", "n", &number).await;
            published.unwrap();
            if number % 20 == 10 {
                assert_eq!(proxy.cut_all(), 1);
            }
        }
        for expected in round * 20..(round + 1) * 20 {
            assert_eq!(number(&next_message(&mut orders).await), expected);
        }
    }
}

#[tokio::test]
async fn a_publish_on_a_line_that_breaks_happens_once() {
    let server = TestServer::start(suite::builder()).await;
    let proxy = Proxy::start(server.address).await.unwrap();
    let client = connect(proxy.address(), as_user("ann"));
    let mut orders = listen(&client, "h-orders").await;
    for round in 0..20_u64 {
        let sending = tokio::spawn({
            let client = client.clone();
            async move {
                let event: EventName = "n".parse().unwrap();
                let data = RawJson::encode(&round).unwrap();
                client.publish(&channel("h-orders"), &event, data).await
            }
        });
        proxy.cut_all();
        let position = within("an answer", sending).await.unwrap().unwrap();
        let message = next_message(&mut orders).await;
        assert_eq!(number(&message), round);
        assert_eq!(message.position, position);
    }
}

#[tokio::test]
async fn a_server_that_starts_anew_is_told_as_a_gap() {
    let first = TestServer::start(suite::builder()).await;
    let proxy = Proxy::start(first.address).await.unwrap();
    let client = connect(proxy.address(), hasty());
    let mut orders = listen(&client, "h-orders").await;
    first.events.broadcast("h-orders", "n", &1).await.unwrap();
    assert_eq!(number(&next_message(&mut orders).await), 1);
    let second = TestServer::start(suite::builder()).await;
    proxy.retarget(second.address);
    first.stop().await;
    let Event::Gap(gap) = next(&mut orders).await else {
        panic!("a gap is next");
    };
    assert_eq!((gap.from, gap.to), (None, None));
    second.events.broadcast("h-orders", "n", &2).await.unwrap();
    assert_eq!(number(&next_message(&mut orders).await), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = Proxy::start_on(port, ([127, 0, 0, 1], 1).into()).unwrap();
    let client = connect(proxy.address(), hasty());
    let tried = client.wait_for(|status| status.attempt >= 3);
    within("three attempts", tried).await.unwrap();
    let server = TestServer::start(suite::builder()).await;
    proxy.retarget(server.address);
    let status = within("a connection", client.connected()).await.unwrap();
    assert!(!status.resumed);
}

fn as_user(user: &str) -> NativeOptions {
    hasty().with_token(format!("user:{user}"))
}

#[tokio::test]
async fn members_see_each_other_come_and_go() {
    let server = TestServer::start(suite::builder()).await;
    let ann = connect(server.address, as_user("ann"));
    let mut room = listen(&ann, "presence-room").await;
    let Event::Sync { count, members, .. } = next(&mut room).await else {
        panic!("a snapshot comes first");
    };
    assert_eq!((count, members[0].id.as_str()), (1, "ann"));
    let bob = connect(server.address, as_user("bob"));
    let bobs = listen(&bob, "presence-room").await;
    let Event::Joined { member, .. } = next(&mut room).await else {
        panic!("bob comes");
    };
    let info: Value = member.info.decode().unwrap();
    assert_eq!(
        (member.id.as_str(), info),
        ("bob", json!({ "name": "bob" }))
    );
    let present = ann.presence(&channel("presence-room")).await.unwrap();
    assert_eq!(present.count, 2);
    within("the end", bob.close()).await;
    let Event::Left { id, info, .. } = next(&mut room).await else {
        panic!("bob goes");
    };
    assert_eq!(id.as_str(), "bob");
    assert!(info.is_some());
    drop(bobs);
}

#[tokio::test]
async fn the_personal_channel_is_recovered_over_reconnects() {
    let server = TestServer::start(suite::builder().channel_rules(ChannelRules::new().with(
        "user:",
        ChannelRule::default().with_history(100, Duration::from_secs(60)),
    )))
    .await;
    let proxy = Proxy::start(server.address).await.unwrap();
    let client = connect(proxy.address(), as_user("ann"));
    let mut inbox = listen(&client, "user:ann").await;
    let ann = UserId::new("ann").unwrap();
    for round in 0..10_u64 {
        let send = async |number: u64| server.events.send_to_user(&ann, "n", &number).await;
        send(round * 2).await.unwrap();
        proxy.cut_all();
        send(round * 2 + 1).await.unwrap();
        assert_eq!(number(&next_message(&mut inbox).await), round * 2);
        assert_eq!(number(&next_message(&mut inbox).await), round * 2 + 1);
    }
}

#[tokio::test]
async fn tokens_are_renewed_before_they_end() {
    let server = TestServer::start(suite::builder()).await;
    let renewals = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&renewals);
    let options = hasty().with_token_provider(move |reason| {
        if reason == TokenReason::Expiring {
            count.fetch_add(1, Ordering::Relaxed);
        }
        async { TokenReply::Token("user:ann:2500".to_owned()) }
    });
    let client = connect(server.address, options);
    let first = within("a connection", client.connected()).await.unwrap();
    eventually("two renewals", async || {
        renewals.load(Ordering::Relaxed) >= 2
    })
    .await;
    assert_eq!(client.status().socket_id, first.socket_id);
}

#[tokio::test]
async fn credentials_that_are_refused_are_final() {
    let server = TestServer::start(suite::builder()).await;
    let client = connect(server.address, hasty().with_token("nonsense"));
    let refused = within("a refusal", client.connected()).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(
            refused,
            ClientError::Unauthorized {
                code: Some(_),
                reason: Some(_)
            }
        ),
        "{refused}"
    );
    assert_eq!(client.status().state, ConnectionState::Failed);
}

#[tokio::test]
async fn private_channels_are_opened_by_the_identity_or_by_a_channel_token() {
    let server = TestServer::start(suite::builder()).await;
    let ann = connect(server.address, as_user("ann"));
    listen(&ann, "private-ok.1").await;
    let forbidden = ann.subscribe(channel("private-no.1"), SubscribeOptions::default());
    let forbidden = forbidden.await.unwrap();
    let refusal = within("a refusal", forbidden.subscribed()).await;
    let ClientError::Server { code, .. } = refusal.unwrap_err() else {
        panic!("the server refuses");
    };
    assert_eq!(code, Code::FORBIDDEN.number());
    assert_eq!(forbidden.state(), ChannelState::Failed);

    let address = server.address;
    let options = as_user("ann").with_channel_auth(move |request| async move {
        let question = json!({
            "socket_id": request.socket_id.to_string(),
            "channel": request.channel.as_str(),
        });
        let bearer = [("authorization", "Bearer user:ann")];
        let answer = http::post(address, "/ws/auth", &bearer, &question).await;
        match answer.json()["auth"].as_str() {
            Some(auth) => ChannelAuthReply::Granted {
                auth: auth.to_owned(),
                channel_data: None,
            },
            None => ChannelAuthReply::Forbidden {
                status: answer.status,
                reason: answer.json()["error"].as_str().map(str::to_owned),
            },
        }
    });
    let ann = connect(server.address, options);
    listen(&ann, "private-ok.2").await;
    let forbidden = ann.subscribe(channel("private-no.2"), SubscribeOptions::default());
    let refusal = forbidden.await.unwrap();
    let refusal = within("a refusal", refusal.subscribed()).await;
    let refusal = refusal.unwrap_err();
    assert!(
        matches!(
            refusal,
            ClientError::AuthForbidden {
                status: 403,
                reason: Some(_)
            }
        ),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_server_that_shuts_down_is_come_back_to() {
    let first = TestServer::start(suite::builder()).await;
    let proxy = Proxy::start(first.address).await.unwrap();
    let client = connect(proxy.address(), hasty());
    let before = within("a connection", client.connected()).await.unwrap();
    let second = TestServer::start(suite::builder()).await;
    proxy.retarget(second.address);
    first.stop().await;
    let is_back = |status: &fanfare_client::ConnectionStatus| {
        status.state == ConnectionState::Connected && status.socket_id != before.socket_id
    };
    let status = within("a connection to the other", client.wait_for(is_back)).await;
    assert!(status.unwrap().resumed);
}

#[tokio::test]
async fn a_server_that_sends_without_end_leaves_the_application_its_turns() {
    let ping = &b"\x89\x00"[..];
    let unknown = &b"\x81\x13{\"type\":\"whatever\"}"[..];
    for frame in [ping, unknown] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let flooding = std::thread::spawn(move || flood(&listener, frame));
        let client = connect(address, NativeOptions::default());
        within("a connection", client.connected()).await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut last = Instant::now();
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            ticks.tick().await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        within("the end of the client", client.close()).await;
        drop(client);
        flooding.join().unwrap();
    }
}

/// Takes one client in and sends it a frame until it is gone.
fn flood(listener: &std::net::TcpListener, frame: &[u8]) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim())
    });
    let accept = derive_accept_key(key.unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-protocol: fanfare.v1\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    let connected = json!({
        "type": "connected", "socket_id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "protocol": 1,
        "ping_interval": 30_000, "max_payload_size": 32_768, "server_time": 1,
    });
    let connected = connected.to_string();
    let length = u8::try_from(connected.len()).unwrap();
    stream.write_all(&[0x81, 126, 0, length]).unwrap();
    stream.write_all(connected.as_bytes()).unwrap();
    let chunk = frame.repeat(20_000);
    while stream.write_all(&chunk).is_ok() {}
}
