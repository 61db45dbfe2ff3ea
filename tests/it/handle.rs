//! The application's hand: every call, and what clients see of it.

use std::error::Error as _;
use std::time::Duration;

use fanfare_server::protocol::{ChannelName, EventName, IdempotencyKey, RawJson, SocketId, UserId};
use fanfare_server::{
    ChannelRule, ChannelRules, ClusterError, Handle, Publication, PublishError, ServerBuilder,
};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{eventually, suite};
use serde_json::{Value, json};

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn id(socket: &Socket) -> SocketId {
    socket.id.parse().unwrap()
}

async fn start() -> TestServer {
    TestServer::start(suite::builder()).await
}

async fn enter(server: &TestServer, user: &str) -> Socket {
    let token = format!("user:{user}");
    Door::at(server.address).bearer(&token).enter().await
}

/// The next event's name, which shows that nothing was before it.
async fn event(socket: &mut Socket) -> String {
    let event = socket.expect(json!({ "type": "event" })).await;
    event["event"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn broadcast_reaches_every_subscriber_and_nobody_else() {
    let server = start().await;
    let mut ann = Socket::connect(server.address).await;
    let mut ben = Socket::connect(server.address).await;
    let mut other = Socket::connect(server.address).await;
    ann.subscribe("orders").await;
    ben.subscribe("orders").await;
    other.subscribe("offers").await;
    let data = json!({ "id": 7, "text": "grün \u{1f600} \" \\ \u{2028}" });
    let published = server
        .events
        .broadcast("orders", "order.created", &data)
        .await
        .unwrap();
    assert_eq!(published.position, None, "orders keeps no history");
    let expected =
        json!({ "type": "event", "channel": "orders", "event": "order.created", "data": data });
    assert_eq!(ann.receive().await, expected);
    assert_eq!(ben.receive().await, expected);
    server
        .events
        .broadcast("offers", "fence", &())
        .await
        .unwrap();
    assert_eq!(event(&mut other).await, "fence");
}

#[tokio::test]
async fn broadcast_to_many_publishes_to_each_channel_once() {
    let server = start().await;
    let mut socket = Socket::connect(server.address).await;
    for channel in ["a", "b", "c"] {
        socket.subscribe(channel).await;
    }
    let published = server
        .events
        .broadcast_to_many(["a", "b", "a", "h-kept"], "hello", &1)
        .await
        .unwrap();
    let positions: Vec<_> = published
        .iter()
        .map(|published| published.position.map(|at| at.offset))
        .collect();
    assert_eq!(positions, [None, None, Some(1)]);
    let mut channels = Vec::new();
    for _ in 0..2 {
        let event = socket.expect(json!({ "event": "hello" })).await;
        channels.push(event["channel"].as_str().unwrap().to_owned());
    }
    channels.sort();
    assert_eq!(channels, ["a", "b"]);
    for channel in ["a", "b", "c"] {
        server
            .events
            .broadcast(channel, "fence", &())
            .await
            .unwrap();
        socket
            .expect(json!({ "event": "fence", "channel": channel }))
            .await;
    }
    let none: [&str; 0] = [];
    let published = server.events.broadcast_to_many(none, "hello", &1).await;
    assert!(published.unwrap().is_empty());
}

#[tokio::test]
async fn broadcast_except_leaves_one_connection_out() {
    let server = start().await;
    let mut sender = Socket::connect(server.address).await;
    let mut reader = Socket::connect(server.address).await;
    for socket in [&mut sender, &mut reader] {
        socket.subscribe("live").await;
        socket.subscribe("h-kept").await;
    }
    let except = id(&sender);
    let say = |channel: &'static str| {
        server
            .events
            .broadcast_except(channel, "said", "hi", except)
    };

    // Without history the sender hears nothing at all.
    say("live").await.unwrap();
    server.events.broadcast("live", "fence", &()).await.unwrap();
    assert_eq!(event(&mut sender).await, "fence");
    assert_eq!(event(&mut reader).await, "said");
    assert_eq!(event(&mut reader).await, "fence");

    // With history the offset moves on for it as well.
    let position = say("h-kept").await.unwrap().position.unwrap();
    let skipped = sender.receive().await;
    let tag = position.tag.to_string();
    assert_eq!(
        skipped,
        json!({ "type": "skipped", "channel": "h-kept", "offset": 1, "tag": tag })
    );
    reader
        .expect(json!({ "event": "said", "offset": 1, "tag": tag }))
        .await;
    server
        .events
        .broadcast("h-kept", "fence", &())
        .await
        .unwrap();
    sender
        .expect(json!({ "event": "fence", "offset": 2 }))
        .await;
    reader
        .expect(json!({ "event": "fence", "offset": 2 }))
        .await;
}

#[tokio::test]
async fn send_to_user_reaches_all_connections_of_the_user() {
    let server = start().await;
    let mut phone = enter(&server, "ann").await;
    let mut laptop = enter(&server, "ann").await;
    let mut ben = enter(&server, "ben").await;
    let (ann, data) = (user("ann"), json!({ "text": "your order left" }));
    server
        .events
        .send_to_user(&ann, "note", &data)
        .await
        .unwrap();
    let note = json!({ "type": "event", "channel": "user:ann", "event": "note", "data": data });
    assert_eq!(phone.receive().await, note);
    assert_eq!(laptop.receive().await, note);
    let everybody = [ann, user("ben")];
    server
        .events
        .send_to_users(&everybody, "fence", &())
        .await
        .unwrap();
    assert_eq!(event(&mut ben).await, "fence");
}

#[tokio::test]
async fn send_to_users_counts_a_repeated_user_once() {
    let server = start().await;
    let mut phone = enter(&server, "ann").await;
    let mut laptop = enter(&server, "ann").await;
    let mut ben = enter(&server, "ben").await;
    let (ann, other) = (user("ann"), user("ben"));
    let list = [&ann, &other, &ann, &ann, &other];
    let published = server.events.send_to_users(list, "note", &1).await.unwrap();
    assert_eq!(published.len(), 2);
    server
        .events
        .send_to_users([&ann, &other], "fence", &())
        .await
        .unwrap();
    for socket in [&mut phone, &mut laptop, &mut ben] {
        assert_eq!(event(socket).await, "note");
        assert_eq!(event(socket).await, "fence", "once, not twice");
    }
}

#[tokio::test]
async fn send_to_nobody_does_nothing() {
    let server = start().await;
    let mut ann = enter(&server, "ann").await;
    let nobody: [&UserId; 0] = [];
    let published = server
        .events
        .send_to_users(nobody, "note", &1)
        .await
        .unwrap();
    assert!(published.is_empty());
    server
        .events
        .send_to_user(&user("ann"), "fence", &())
        .await
        .unwrap();
    assert_eq!(event(&mut ann).await, "fence");
}

#[tokio::test]
async fn a_connection_that_is_in_several_addressed_channels_gets_one_copy_per_channel_in_order() {
    let server = start().await;
    let mut ann = enter(&server, "ann").await;
    ann.subscribe("orders").await;
    for number in 0..100 {
        server
            .events
            .broadcast("orders", "n", &number)
            .await
            .unwrap();
    }
    for number in 0..100 {
        ann.expect(json!({ "channel": "orders", "data": number }))
            .await;
    }
}

#[tokio::test]
async fn a_repeated_key_publishes_once() {
    let server = start().await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe("h-orders").await;
    let key = IdempotencyKey::new("order-7").unwrap();
    let publication = |data: &Value| {
        let channel = ChannelName::new("h-orders").unwrap();
        let event = EventName::new("paid").unwrap();
        Publication::new(channel, event, RawJson::encode(data).unwrap()).with_key(key.clone())
    };
    let first = server.events.publish(publication(&json!(1))).await.unwrap();
    let second = server.events.publish(publication(&json!(2))).await.unwrap();
    assert!(!first.is_duplicate && second.is_duplicate);
    assert_eq!(first.position, second.position);
    server
        .events
        .broadcast("h-orders", "fence", &())
        .await
        .unwrap();
    socket
        .expect(json!({ "event": "paid", "data": 1, "offset": 1 }))
        .await;
    socket
        .expect(json!({ "event": "fence", "offset": 2 }))
        .await;
}

#[tokio::test]
async fn subscribers_and_channels_are_counted() {
    let server = start().await;
    let events = &server.events;
    assert_eq!(events.subscriber_count("orders").await.unwrap(), 0);
    assert!(!events.has_subscribers("orders").await.unwrap());
    let mut ann = enter(&server, "ann").await;
    let mut ben = enter(&server, "ben").await;
    ann.subscribe("orders").await;
    ben.subscribe("orders").await;
    ben.subscribe("offers").await;
    assert_eq!(events.subscriber_count("orders").await.unwrap(), 2);
    assert!(events.has_subscribers("offers").await.unwrap());
    let names = |channels: Vec<ChannelName>| -> Vec<String> {
        channels.iter().map(ChannelName::to_string).collect()
    };
    let all = ["offers", "orders", "user:ann", "user:ben"];
    assert_eq!(names(events.channels().await.unwrap()), all);

    ann.send(json!({ "type": "unsubscribe", "channel": "orders" }))
        .await;
    ann.expect(json!({ "type": "unsubscribed" })).await;
    ben.vanish();
    eventually("the lost connection to be taken out", async || {
        names(events.channels().await.unwrap()) == ["user:ann"]
    })
    .await;
    assert_eq!(events.subscriber_count("orders").await.unwrap(), 0);
}

#[tokio::test]
async fn presence_members_are_users_with_what_is_known_of_them() {
    let server = start().await;
    let members = async |events: &Handle| -> Vec<(String, String)> {
        let members = events.presence_members("presence-room").await.unwrap();
        members
            .iter()
            .map(|member| (member.id.to_string(), member.info.as_str().to_owned()))
            .collect()
    };
    assert!(members(&server.events).await.is_empty());
    let mut sockets = Vec::new();
    for name in ["ann", "ann", "ben"] {
        let mut socket = enter(&server, name).await;
        socket.subscribe("presence-room").await;
        sockets.push(socket);
    }
    let member = |name: &str| (name.to_owned(), format!(r#"{{"name":"{name}"}}"#));
    assert_eq!(
        members(&server.events).await,
        [member("ann"), member("ben")]
    );
}

#[tokio::test]
async fn connections_of_a_user_are_known_until_they_end() {
    let server = start().await;
    let ann = user("ann");
    assert!(server.events.connections_of(&ann).await.unwrap().is_empty());
    let phone = enter(&server, "ann").await;
    let mut laptop = Socket::connect(server.address).await;
    assert_eq!(
        server.events.connections_of(&ann).await.unwrap(),
        [id(&phone)]
    );
    laptop.authenticate("user:ann").await;
    assert_eq!(
        server.events.connections_of(&ann).await.unwrap(),
        [id(&phone), id(&laptop)]
    );
    assert_eq!(server.events.connection_count().await.unwrap(), 2);
    phone.close().await;
    eventually("one connection to be gone", async || {
        server.events.connections_of(&ann).await.unwrap() == [id(&laptop)]
    })
    .await;
}

#[tokio::test]
async fn the_server_subscribes_and_unsubscribes_a_connection() {
    let server = start().await;
    let mut socket = Socket::connect(server.address).await;
    let me = id(&socket);
    // No authorizer is asked: this channel is refused to everybody.
    server.events.subscribe(me, "private-no.1").await.unwrap();
    assert_eq!(
        socket.receive().await,
        json!({ "type": "subscription_succeeded", "channel": "private-no.1", "recovered": false })
    );
    server
        .events
        .broadcast("private-no.1", "hello", &1)
        .await
        .unwrap();
    assert_eq!(event(&mut socket).await, "hello");
    // Again is no news.
    server.events.subscribe(me, "private-no.1").await.unwrap();
    server.events.unsubscribe(me, "private-no.1").await.unwrap();
    let unsubscribed = socket.receive().await;
    assert_eq!(
        unsubscribed,
        json!({
            "type": "unsubscribed", "channel": "private-no.1", "code": 4318,
            "reason": "the server ended this subscription",
        })
    );
    server
        .events
        .broadcast("private-no.1", "late", &1)
        .await
        .unwrap();
    // What it is not subscribed to is nothing to end.
    server.events.unsubscribe(me, "private-no.1").await.unwrap();
    server.events.subscribe(me, "open").await.unwrap();
    socket
        .expect(json!({ "type": "subscription_succeeded", "channel": "open" }))
        .await;
    socket.is_quiet().await;
}

#[tokio::test]
async fn disconnect_user_ends_all_connections_of_the_user_for_good() {
    let server = start().await;
    let mut phone = enter(&server, "ann").await;
    let mut laptop = enter(&server, "ann").await;
    let mut ben = enter(&server, "ben").await;
    assert_eq!(
        server.events.disconnect_user(&user("ann")).await.unwrap(),
        2
    );
    for socket in [&mut phone, &mut laptop] {
        let goodbye = socket.receive().await;
        assert_eq!(
            goodbye,
            json!({
                "type": "disconnect", "code": 4005, "reconnect": false, "after": 0,
                "reason": "the application ended this connection",
            })
        );
        assert_eq!(socket.closed().await.0, 4005);
    }
    ben.is_quiet().await;
    assert_eq!(
        server
            .events
            .disconnect_user(&user("nobody"))
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_its_reason() {
    let server = start().await;
    let events = &server.events;
    let error = events.broadcast("no spaces", "e", &1).await.unwrap_err();
    assert!(matches!(error, PublishError::Channel(_)), "{error}");
    assert_eq!(
        error.source().unwrap().to_string(),
        "the channel name must not contain a space (byte 2)"
    );
    let error = events.broadcast("c", "", &1).await.unwrap_err();
    assert!(matches!(error, PublishError::Event(_)), "{error}");
    for reserved in ["member_added", "member_updated", "member_removed"] {
        let error = events.broadcast("c", reserved, &1).await.unwrap_err();
        assert!(
            matches!(&error, PublishError::Reserved { event } if event.as_str() == reserved),
            "{error}"
        );
    }
    let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
    let error = events.broadcast("c", "e", &unwritable).await.unwrap_err();
    assert!(matches!(error, PublishError::Payload(_)), "{error}");
    let error = events.subscriber_count("no spaces").await.unwrap_err();
    assert!(matches!(error, ClusterError::Channel(_)), "{error}");
    let nobody = SocketId::from_bits(7);
    let error = events.subscribe(nobody, "c").await.unwrap_err();
    assert!(
        matches!(error, ClusterError::NoSuchConnection { socket } if socket == nobody),
        "{error}"
    );
}

#[tokio::test]
async fn a_stopped_server_publishes_nothing_and_says_so() {
    let server = start().await;
    server.events.shutdown().await;
    let error = server
        .events
        .broadcast("h-orders", "e", &1)
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Engine { .. }), "{error}");
    let error = server
        .events
        .presence_members("presence-x")
        .await
        .unwrap_err();
    assert!(matches!(error, ClusterError::Engine(_)), "{error}");
}

#[tokio::test]
async fn a_channel_may_be_of_a_prefix_of_the_applications_own() {
    let kept = ChannelRule::default().with_history(2, Duration::from_secs(60));
    let rules = ChannelRules::new().with("org:", kept);
    let builder: ServerBuilder = fanfare_server::Server::builder().channel_rules(rules);
    let server = TestServer::start(builder).await;
    let channel = ChannelName::of("org", "abc123").unwrap();
    let published = server.events.broadcast(channel, "e", &1).await.unwrap();
    assert_eq!(published.position.unwrap().offset, 1);
    let channel = ChannelName::chat("room-1").unwrap();
    let published = server.events.broadcast(channel, "e", &1).await.unwrap();
    assert_eq!(published.position, None);
}

#[tokio::test]
async fn a_dropped_connection_ends_without_a_word() {
    let server = start().await;
    let mut ann = enter(&server, "ann").await;
    let mut ben = enter(&server, "ben").await;
    let gone = id(&ann);
    server.events.drop_connection(gone).await.unwrap();
    assert_eq!(ann.next().await, None, "no message, no close frame");
    ben.is_quiet().await;
    eventually("the session to end", async || {
        server.events.connection_count().await.unwrap() == 1
    })
    .await;
    let again = server.events.drop_connection(gone).await.unwrap_err();
    assert_eq!(again.to_string(), format!("there is no connection {gone}"));
}
