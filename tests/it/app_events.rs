//! The dialect of applications that say `action`: every frame as they wrote it down.

use fanfare_server::auth::{CookieAuthorizer, Identity};
use fanfare_server::protocol::UserId;
use fanfare_server::{Server, ServerBuilder};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use serde_json::{Value, json};

/// A session cookie is looked at and not asked for.
fn builder() -> ServerBuilder {
    let sessions = CookieAuthorizer::new("session", |value| async move {
        Ok((value == "s-ann").then(|| Identity::new(UserId::new("ann").unwrap())))
    });
    Server::builder().authorizer(sessions).allow_anonymous()
}

async fn open(door: &Door) -> (Socket, Value) {
    let door = door.clone().subprotocols("app-events.v1");
    let mut socket = door.open().await.unwrap();
    assert_eq!(socket.subprotocol.as_deref(), Some("app-events.v1"));
    let connected = socket.receive().await;
    (socket, connected)
}

async fn subscribed(socket: &mut Socket, channel: &str) {
    let subscribe = json!({ "action": "subscribe", "channel": channel });
    socket.send(subscribe).await;
    let expected = json!({ "type": "subscribed", "channel": channel });
    assert_eq!(socket.receive().await, expected);
}

/// What comes next: an answer to a ping, so nothing was on its way.
async fn is_quiet(socket: &mut Socket) {
    socket.send(json!({ "action": "ping" })).await;
    let pong = socket.receive().await;
    assert_eq!(pong["type"], "pong", "{pong}");
    assert!(pong["timestamp"].is_u64());
    assert_eq!(pong.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_connection_is_told_its_id_and_its_user() {
    let server = TestServer::start(builder()).await;
    let (_, connected) = open(&Door::at(server.address)).await;
    let id = &connected["connectionId"];
    assert_eq!(
        connected,
        json!({ "type": "connected", "connectionId": id })
    );
    assert!(id.is_string());

    let signed_in = Door::at(server.address)
        .header("cookie", "session=s-ann")
        .header("origin", &format!("http://{}", server.address));
    let (_, connected) = open(&signed_in).await;
    let id = &connected["connectionId"];
    let expected = json!({ "type": "connected", "connectionId": id, "userId": "ann" });
    assert_eq!(connected, expected);
}

#[tokio::test]
async fn a_published_event_comes_as_a_message_with_type_and_data() {
    let server = TestServer::start(builder()).await;
    let (mut socket, _) = open(&Door::at(server.address)).await;
    subscribed(&mut socket, "org:abc123").await;
    let data = json!({ "resourceId": "r-1", "resourceType": "Invoice" });
    server
        .events
        .broadcast("org:abc123", "resource.updated", &data)
        .await
        .unwrap();
    let expected = json!({
        "type": "message", "channel": "org:abc123", "data": { "type": "resource.updated", "data": data },
    });
    assert_eq!(socket.receive().await, expected);
    let leave = json!({ "action": "unsubscribe", "channel": "org:abc123" });
    socket.send(leave).await;
    let expected = json!({ "type": "unsubscribed", "channel": "org:abc123" });
    assert_eq!(socket.receive().await, expected);
    server
        .events
        .broadcast("org:abc123", "late", &())
        .await
        .unwrap();
    is_quiet(&mut socket).await;
}

#[tokio::test]
async fn both_dialects_meet_in_one_channel() {
    let server = TestServer::start(builder()).await;
    let (mut socket, _) = open(&Door::at(server.address)).await;
    let mut native = Socket::connect(server.address).await;
    subscribed(&mut socket, "org:abc123").await;
    native.subscribe("org:abc123").await;
    for number in 0..20 {
        server
            .events
            .broadcast("org:abc123", "n", &number)
            .await
            .unwrap();
    }
    for number in 0..20 {
        let data = json!({ "type": "n", "data": number });
        socket
            .expect(json!({ "type": "message", "data": data }))
            .await;
        native
            .expect(json!({ "type": "event", "data": number }))
            .await;
    }
    assert_eq!(
        server.events.subscriber_count("org:abc123").await.unwrap(),
        2
    );
}

#[tokio::test]
async fn disconnect_ends_the_connection() {
    let server = TestServer::start(builder()).await;
    let (mut socket, _) = open(&Door::at(server.address)).await;
    socket.send(json!({ "action": "disconnect" })).await;
    assert_eq!(socket.closed().await.0, 1000);
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_connection_lives_on() {
    let server = TestServer::start(builder()).await;
    let (mut socket, _) = open(&Door::at(server.address)).await;
    let rows = [
        (r#"{"action":"dance"}"#, 4001),
        (r#"{"type":"ping"}"#, 4300),
        ("ping", 4300),
        (r#"{"action":"subscribe","channel":"no spaces"}"#, 4304),
        (r#"{"action":"unsubscribe","channel":"elsewhere"}"#, 4310),
    ];
    for (text, code) in rows {
        socket.send_text(text).await;
        let error = socket
            .expect(json!({ "type": "error", "code": code }))
            .await;
        assert!(error["error"].is_string());
    }
    let private = json!({ "action": "subscribe", "channel": "private-user.ann" });
    socket.send(private).await;
    socket
        .expect(json!({ "type": "error", "channel": "private-user.ann", "code": 4302 }))
        .await;
    is_quiet(&mut socket).await;
}

#[tokio::test]
async fn the_application_ends_it_with_a_close_code() {
    let server = TestServer::start(builder()).await;
    let signed_in = Door::at(server.address)
        .header("cookie", "session=s-ann")
        .header("origin", &format!("http://{}", server.address));
    let (mut socket, _) = open(&signed_in).await;
    let ann = UserId::new("ann").unwrap();
    assert_eq!(server.events.disconnect_user(&ann).await.unwrap(), 1);
    assert_eq!(socket.closed().await.0, 4005);
}

#[tokio::test]
async fn a_list_of_channels_is_answered_one_by_one() {
    let server = TestServer::start(builder()).await;
    let (mut socket, _) = open(&Door::at(server.address)).await;
    let list = json!([{ "channel": "a" }, { "channel": "private-b" }, { "channel": "c" }]);
    socket
        .send(json!({ "action": "subscribe", "channels": list }))
        .await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = socket.receive().await;
        answers.push(format!("{} {}", answer["type"], answer["channel"]));
    }
    answers.sort();
    let expected = [
        r#""error" "private-b""#,
        r#""subscribed" "a""#,
        r#""subscribed" "c""#,
    ];
    assert_eq!(answers, expected);
    is_quiet(&mut socket).await;
}
