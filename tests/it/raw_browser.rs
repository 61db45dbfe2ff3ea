//! A page with nothing but `WebSocket`, `JSON.parse` and `fetch`, signed in by a session cookie: every message as written down
//! for such pages, and nothing that only a library could do.

use std::net::SocketAddr;

use fanfare_server::auth::{CookieAuthorizer, Denied, Grant, Identity, Policy};
use fanfare_server::protocol::{ChannelKind, RawJson, UserId};
use fanfare_server::{ChannelRule, ChannelRules, Server, ServerBuilder};
use fanfare_tests::http::{self, Answer};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use serde_json::{Value, json};

/// Sessions are called `s-<user>`; a private channel `private-user.<id>` is for that user, presence is for who is signed in.
fn builder() -> ServerBuilder {
    let sessions = CookieAuthorizer::new("session", |value| async move {
        let Some(name) = value.strip_prefix("s-") else {
            return Ok(None);
        };
        let info = RawJson::encode(&json!({ "name": name.to_uppercase() })).unwrap();
        Ok(Some(
            Identity::new(UserId::new(name).unwrap()).with_info(info),
        ))
    });
    let policy = Policy::over(sessions).with_subscribe(|caller, channel| async move {
        match channel.kind() {
            ChannelKind::Public => Ok(Grant::default()),
            ChannelKind::Presence => caller.user().map(|_| Grant::default()),
            _ if channel.without_prefix() == format!("user.{}", caller.user()?) => {
                Ok(Grant::default())
            }
            _ => Err(Denied::refused("Access denied")),
        }
    });
    let typing = ChannelRule::default().with_client_publish();
    Server::builder()
        .authorizer(policy)
        .allow_anonymous()
        .channel_rules(ChannelRules::new().with("presence-", typing))
}

/// One visitor's browser: its cookie goes along by itself, and so does its origin.
struct Browser {
    address: SocketAddr,
    session: String,
}

impl Browser {
    fn of(server: &TestServer, session: &str) -> Self {
        Self {
            address: server.address,
            session: format!("theme=dark; session={session}"),
        }
    }

    async fn open(&self) -> Socket {
        Door::at(self.address)
            .header("cookie", &self.session)
            .header("origin", &format!("http://{}", self.address))
            .enter()
            .await
    }

    async fn ask_permission(&self, socket: &Socket, channel: &str) -> Answer {
        let question = json!({ "socketId": socket.id, "channel": channel });
        let origin = format!("http://{}", self.address);
        let headers = [("cookie", self.session.as_str()), ("origin", &origin)];
        http::post(self.address, "/ws/auth", &headers, &question).await
    }
}

#[tokio::test]
async fn connected_says_what_a_page_needs_to_know() {
    let server = TestServer::start(builder()).await;
    let mut visitor = Door::at(server.address).open().await.unwrap();
    let connected = visitor.receive().await;
    let expected = json!({
        "type": "connected", "socket_id": connected["socket_id"], "protocol": 1, "ping_interval": 30_000,
        "max_payload_size": 32_768, "server_time": connected["server_time"],
        "limits": {
            "channels_max": 100, "commands_per_second": 50, "commands_burst": 200,
            "message_bytes_max": 49_152, "bytes_per_second": 65_536,
            "bytes_burst": 262_144, "idempotency_window": 600_000,
        },
    });
    assert_eq!(connected, expected);
    assert_eq!(connected["socket_id"].as_str().unwrap().len(), 32);
    assert!(connected["server_time"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(visitor.subprotocol, None, "none was offered");
    visitor.send(json!({ "type": "ping" })).await;
    let pong = visitor.receive().await;
    assert!(pong["timestamp"].as_u64() >= connected["server_time"].as_u64());
    assert_eq!(pong["type"], "pong");
}

#[tokio::test]
async fn a_public_channel_is_open_to_every_visitor() {
    let server = TestServer::start(builder()).await;
    let mut visitor = Socket::connect(server.address).await;
    visitor
        .send(json!({ "type": "subscribe", "channel": "orders" }))
        .await;
    let expected =
        json!({ "type": "subscription_succeeded", "channel": "orders", "recovered": false });
    assert_eq!(visitor.receive().await, expected);
    let order = json!({ "id": 7, "total": 12.5 });
    server
        .events
        .broadcast("orders", "order.created", &order)
        .await
        .unwrap();
    let expected =
        json!({ "type": "event", "channel": "orders", "event": "order.created", "data": order });
    assert_eq!(visitor.receive().await, expected);
    visitor
        .send(json!({ "type": "unsubscribe", "channel": "orders" }))
        .await;
    visitor
        .expect(json!({ "type": "unsubscribed", "channel": "orders", "code": 1000 }))
        .await;
    server
        .events
        .broadcast("orders", "late", &())
        .await
        .unwrap();
    visitor.is_quiet().await;
}

#[tokio::test]
async fn an_id_comes_back_with_its_answer() {
    let server = TestServer::start(builder()).await;
    let mut visitor = Socket::connect(server.address).await;
    visitor
        .subscribe_with(json!({ "id": 41, "channel": "orders" }))
        .await;
    let again = json!({ "type": "subscribe", "id": 42, "channel": "orders" });
    visitor.send(again).await;
    let refused = visitor.receive().await;
    let expected = json!({
        "type": "subscription_error", "id": 42, "channel": "orders", "code": 4309,
        "error": "already subscribed to this channel", "retry": false,
    });
    assert_eq!(refused, expected);
    visitor
        .send(json!({ "type": "unsubscribe", "id": 43, "channel": "elsewhere" }))
        .await;
    visitor
        .expect(json!({ "type": "error", "id": 43, "code": 4310 }))
        .await;
}

#[tokio::test]
async fn a_private_channel_takes_what_the_auth_endpoint_signed() {
    let server = TestServer::start(builder()).await;
    let ann = Browser::of(&server, "s-ann");
    let mut socket = ann.open().await;
    let answer = ann.ask_permission(&socket, "private-user.ann").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let auth = answer.json()["auth"].clone();
    assert_eq!(answer.json().get("channel_data"), None);
    socket
        .subscribe_with(json!({ "channel": "private-user.ann", "auth": auth }))
        .await;
    let note = json!({ "order": 7 });
    server
        .events
        .broadcast("private-user.ann", "order.confirmed", &note)
        .await
        .unwrap();
    socket
        .expect(json!({ "event": "order.confirmed", "data": note }))
        .await;
}

#[tokio::test]
async fn somebody_elses_private_channel_is_refused_at_both_doors() {
    let server = TestServer::start(builder()).await;
    let ann = Browser::of(&server, "s-ann");
    let mut socket = ann.open().await;
    let answer = ann.ask_permission(&socket, "private-user.ben").await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.json(),
        json!({ "error": "Access denied", "code": 4302 })
    );
    let wish = json!({ "type": "subscribe", "id": 1, "channel": "private-user.ben" });
    socket.send(wish).await;
    let refused = json!({
        "type": "subscription_error", "id": 1, "channel": "private-user.ben", "code": 4302,
        "error": "Access denied", "retry": false,
    });
    assert_eq!(socket.receive().await, refused);
    server
        .events
        .broadcast("private-user.ben", "secret", &())
        .await
        .unwrap();
    socket.is_quiet().await;
}

#[tokio::test]
async fn a_visitor_is_asked_to_sign_in() {
    let server = TestServer::start(builder()).await;
    let visitor = Browser::of(&server, "");
    let mut socket = visitor.open().await;
    for channel in ["private-user.ann", "presence-room"] {
        let answer = visitor.ask_permission(&socket, channel).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        socket
            .send(json!({ "type": "subscribe", "channel": channel }))
            .await;
        socket
            .expect(json!({ "type": "subscription_error", "channel": channel, "code": 4301 }))
            .await;
    }
}

#[tokio::test]
async fn members_see_each_other_come_and_go() {
    let server = TestServer::start(builder()).await;
    let (ann, ben) = (Browser::of(&server, "s-ann"), Browser::of(&server, "s-ben"));
    let mut first = ann.open().await;
    let permission = ann.ask_permission(&first, "presence-room").await.json();
    let member: Value = serde_json::from_str(permission["channel_data"].as_str().unwrap()).unwrap();
    let ann_is = json!({ "id": "ann", "info": { "name": "ANN" } });
    assert_eq!(member, ann_is);
    let joined = first
        .subscribe_with(json!({
            "channel": "presence-room", "auth": permission["auth"],
            "channel_data": permission["channel_data"],
        }))
        .await;
    assert_eq!(
        joined["presence"],
        json!({ "count": 1, "members": [ann_is] })
    );

    // The session on the connection is enough as well.
    let mut second = ben.open().await;
    let joined = second.subscribe("presence-room").await;
    let ben_is = json!({ "id": "ben", "info": { "name": "BEN" } });
    assert_eq!(
        joined["presence"],
        json!({ "count": 2, "members": [ann_is, ben_is] })
    );
    let added = json!({ "type": "event", "channel": "presence-room", "event": "member_added", "data": ben_is });
    first.expect(added).await;

    second
        .send(json!({ "type": "unsubscribe", "channel": "presence-room" }))
        .await;
    second.expect(json!({ "type": "unsubscribed" })).await;
    let removed = json!({ "event": "member_removed", "data": { "id": "ben", "reason": "left" } });
    first.expect(removed).await;
}

#[tokio::test]
async fn what_a_page_says_about_itself_counts_for_nothing() {
    let server = TestServer::start(builder()).await;
    let ben = Browser::of(&server, "s-ben");
    let mut socket = ben.open().await;
    let claim = json!({ "id": "ann", "name": "Ann" });
    // With a permission of the endpoint, and without one: the data beside it is not signed.
    let permission = ben.ask_permission(&socket, "presence-room").await.json();
    let joined = socket
        .subscribe_with(json!({
            "channel": "presence-room", "data": claim, "auth": permission["auth"],
        }))
        .await;
    let ben_is = json!({ "id": "ben", "info": { "name": "BEN" } });
    assert_eq!(joined["presence"]["members"], json!([ben_is]));
    let joined = socket
        .subscribe_with(json!({ "channel": "presence-hall", "data": claim }))
        .await;
    assert_eq!(joined["presence"]["members"], json!([ben_is]));
}

#[tokio::test]
async fn typing_reaches_the_others_in_the_room() {
    let server = TestServer::start(builder()).await;
    let (ann, ben) = (Browser::of(&server, "s-ann"), Browser::of(&server, "s-ben"));
    let (mut first, mut second) = (ann.open().await, ben.open().await);
    first.subscribe("presence-room").await;
    second.subscribe("presence-room").await;
    first.expect(json!({ "event": "member_added" })).await;
    let typing = json!({
        "type": "publish", "id": 1, "channel": "presence-room", "event": "typing", "data": { "on": true },
    });
    first.send(typing).await;
    let answers = [first.receive().await, first.receive().await];
    assert!(
        answers
            .iter()
            .any(|answer| answer["type"] == "ok" && answer["id"] == 1)
    );
    assert!(answers.iter().any(|answer| answer["event"] == "typing"));
    let heard = json!({ "event": "typing", "data": { "on": true }, "user_id": "ann" });
    second.expect(heard).await;
    // The server may say things there as well.
    server
        .events
        .broadcast("presence-room", "typing", &json!({ "id": "robot" }))
        .await
        .unwrap();
    second
        .expect(json!({ "event": "typing", "data": { "id": "robot" }, "user_id": null }))
        .await;
}

#[tokio::test]
async fn a_page_says_goodbye() {
    let server = TestServer::start(builder()).await;
    let mut visitor = Socket::connect(server.address).await;
    visitor.send(json!({ "type": "disconnect" })).await;
    assert_eq!(visitor.closed().await.0, 1000);
}

#[tokio::test]
async fn a_library_that_offers_it_gets_several_messages_in_one_frame() {
    let server = TestServer::start(builder()).await;
    let door = Door::at(server.address);
    let mut batched = door
        .subprotocols("fanfare.v1, fanfare.v1.batch")
        .enter()
        .await;
    assert_eq!(batched.subprotocol.as_deref(), Some("fanfare.v1.batch"));
    let mut plain = Socket::connect(server.address).await;
    batched.subscribe("orders").await;
    plain.subscribe("orders").await;
    let numbers: Vec<u32> = (0..200).collect();
    let all = numbers
        .iter()
        .map(|number| server.events.broadcast("orders", "n", number));
    for published in futures_util::future::join_all(all).await {
        published.unwrap();
    }
    for number in 0..200 {
        batched.expect(json!({ "data": number })).await;
        plain.expect(json!({ "data": number })).await;
    }
    assert!(batched.frames() < 200, "{} frames", batched.frames());
    assert!(plain.frames() >= 200);
}
