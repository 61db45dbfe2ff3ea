//! The auth endpoint and what it signs: one permission for one connection, one channel and one member.

use fanfare_server::protocol::SocketId;
use fanfare_tests::http::{self, Answer};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::suite;
use serde_json::{Value, json};

const ANN: (&str, &str) = ("authorization", "Bearer user:ann");

async fn ask(server: &TestServer, socket: &str, channel: &str) -> Answer {
    let question = json!({ "socket_id": socket, "channel": channel });
    http::post(server.address, "/ws/auth", &[ANN], &question).await
}

/// The permission of a connection for a channel.
async fn permission(server: &TestServer, socket: &Socket, channel: &str) -> Value {
    let answer = ask(server, &socket.id, channel).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

/// Shows a permission and is refused: code 4303.
async fn is_refused(socket: &mut Socket, mut subscribe: Value) {
    subscribe["type"] = json!("subscribe");
    let channel = subscribe["channel"].clone();
    socket.send(subscribe).await;
    socket
        .expect(json!({ "type": "subscription_error", "channel": channel, "code": 4303 }))
        .await;
}

#[tokio::test]
async fn the_endpoint_answers_each_question_with_its_status() {
    let server = TestServer::start(suite::builder()).await;
    let id = SocketId::from_bits(7).to_string();
    let rows = [
        (json!({ "socket_id": id, "channel": "private-ok.1" }), 200),
        (json!({ "socketId": id, "channel": "private-ok.1" }), 200),
        (
            json!({ "socket_id": id, "channel_name": "private-ok.1" }),
            200,
        ),
        (json!({ "socket_id": id, "channel": "private-no.1" }), 403),
        (json!({ "socket_id": id, "channel": "user:ann" }), 403),
        (
            json!({ "socket_id": "123.456", "channel": "private-ok.1" }),
            400,
        ),
        (json!({ "socket_id": id, "channel": "no spaces" }), 400),
        (json!({ "socket_id": id }), 400),
        (json!([]), 400),
    ];
    for (question, status) in rows {
        let answer = http::post(server.address, "/ws/auth", &[ANN], &question).await;
        assert_eq!(answer.status, status, "{question}");
        assert_eq!(answer.json()["error"].is_string(), status != 200);
        assert_eq!(answer.json()["auth"].is_string(), status == 200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let question = json!({ "socket_id": id, "channel": "private-ok.1" });
    let nobody = http::post(server.address, "/ws/auth", &[], &question).await;
    assert_eq!(nobody.status, 401);
    let wrong = [("authorization", "Bearer x")];
    let wrong = http::post(server.address, "/ws/auth", &wrong, &question).await;
    assert_eq!(wrong.status, 401);
}

#[tokio::test]
async fn the_endpoint_takes_forms_and_nothing_else_besides() {
    let server = TestServer::start(suite::builder()).await;
    let id = SocketId::from_bits(7);
    let ask = async |media_type: &str, body: &str| {
        let headers = [ANN, ("content-type", media_type)];
        let answer = http::request(server.address, "POST", "/ws/auth", &headers, body).await;
        answer.status
    };
    let form = format!("socket_id={id}&channel_name=private-ok.1");
    assert_eq!(ask("application/x-www-form-urlencoded", &form).await, 200);
    let json = json!({ "socket_id": id.to_string(), "channel": "private-ok.1" }).to_string();
    // A page of another site can send this without asking first.
    assert_eq!(ask("text/plain", &json).await, 415);
    assert_eq!(ask("application/json", "{").await, 400);
    let long = format!(r#"{{"pad":"{}"}}"#, "x".repeat(25_000));
    assert_eq!(ask("application/json", &long).await, 413);
    let answer = http::request(server.address, "GET", "/ws/auth", &[ANN], "").await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn a_permission_lets_an_anonymous_connection_in() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let permit = permission(&server, &socket, "private-ok.1").await;
    socket
        .subscribe_with(json!({ "channel": "private-ok.1", "auth": permit["auth"] }))
        .await;
    let permit = permission(&server, &socket, "presence-room").await;
    let joined = socket
        .subscribe_with(json!({
            "channel": "presence-room", "auth": permit["auth"], "channel_data": permit["channel_data"],
        }))
        .await;
    assert_eq!(joined["presence"]["members"][0]["id"], "ann");
    assert_eq!(joined["user_id"], "ann", "which of them this is");
    let since = &joined["position"];
    let moved = socket
        .subscribe_with(json!({ "channel": "presence-room", "since": since }))
        .await;
    assert_eq!(moved["user_id"], json!(null), "who it was");
}

#[tokio::test]
async fn a_permission_is_for_one_connection() {
    let server = TestServer::start(suite::builder()).await;
    let owner = Socket::connect(server.address).await;
    let mut thief = Socket::connect(server.address).await;
    let permit = permission(&server, &owner, "private-ok.1").await;
    is_refused(
        &mut thief,
        json!({ "channel": "private-ok.1", "auth": permit["auth"] }),
    )
    .await;
}

#[tokio::test]
async fn a_permission_is_for_one_channel() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let permit = permission(&server, &socket, "private-ok.1").await;
    // T12: not for its neighbours either.
    for channel in [
        "private-ok.2",
        "private-ok.11",
        "private-ok.1.",
        "private-OK.1",
    ] {
        is_refused(
            &mut socket,
            json!({ "channel": channel, "auth": permit["auth"] }),
        )
        .await;
    }
}

#[tokio::test]
async fn a_permission_is_for_its_user() {
    let server = TestServer::start(suite::builder()).await;
    let door = Door::at(server.address).bearer("user:ben");
    let mut ben = door.enter().await;
    let permit = permission(&server, &ben, "private-ok.1").await;
    let subscribe =
        json!({ "type": "subscribe", "channel": "private-ok.1", "auth": permit["auth"] });
    ben.send(subscribe).await;
    ben.expect(json!({ "type": "subscription_error", "code": 4327, "retry": false }))
        .await;
}

#[tokio::test]
async fn a_permission_of_another_server_counts_for_nothing() {
    let server = TestServer::start(suite::builder()).await;
    let other = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let permit = permission(&other, &socket, "private-ok.1").await;
    is_refused(
        &mut socket,
        json!({ "channel": "private-ok.1", "auth": permit["auth"] }),
    )
    .await;
}

#[tokio::test]
async fn servers_with_one_secret_accept_each_others_permissions() {
    let secret = "a secret of at least thirty-two bytes";
    let server = TestServer::start(suite::builder().secret(secret)).await;
    let other = TestServer::start(suite::builder().secret(secret)).await;
    let mut socket = Socket::connect(server.address).await;
    let permit = permission(&other, &socket, "private-ok.1").await;
    socket
        .subscribe_with(json!({ "channel": "private-ok.1", "auth": permit["auth"] }))
        .await;
}

#[tokio::test]
async fn altered_member_data_is_refused() {
    // T8: presence cannot be spoofed.
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let permit = permission(&server, &socket, "presence-room").await;
    let signed = permit["channel_data"].as_str().unwrap();
    for altered in [
        signed.replace("ann", "ben"),
        signed.replace("ann\"}", "ann\",\"admin\":true}"),
        format!("{signed} "),
        String::new(),
    ] {
        assert_ne!(altered, signed);
        let subscribe =
            json!({ "channel": "presence-room", "auth": permit["auth"], "channel_data": altered });
        is_refused(&mut socket, subscribe).await;
    }
    let without = json!({ "channel": "presence-room", "auth": permit["auth"] });
    is_refused(&mut socket, without).await;
    assert_eq!(
        server
            .events
            .presence_members("presence-room")
            .await
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn unsigned_member_data_makes_nobody_a_member() {
    let server = TestServer::start(suite::builder()).await;
    let claim = r#"{"id":"ann","info":{}}"#;
    let mut visitor = Socket::connect(server.address).await;
    let subscribe =
        json!({ "type": "subscribe", "channel": "presence-room", "channel_data": claim });
    visitor.send(subscribe.clone()).await;
    visitor
        .expect(json!({ "type": "subscription_error", "code": 4301 }))
        .await;
    // Whoever has a name keeps it.
    let mut ben = Door::at(server.address).bearer("user:ben").enter().await;
    let joined = ben.subscribe_with(subscribe).await;
    assert_eq!(joined["presence"]["members"][0]["id"], "ben");
}

#[tokio::test]
async fn text_that_is_no_permission_is_refused() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let permit = permission(&server, &socket, "private-ok.1").await;
    let auth = permit["auth"].as_str().unwrap();
    let mut flipped = auth.to_owned().into_bytes();
    let last = flipped.last_mut().unwrap();
    *last = if *last == b'A' { b'Q' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for auth in ["", "x", &auth[1..], &flipped, &"A".repeat(4_000)] {
        is_refused(
            &mut socket,
            json!({ "channel": "private-ok.1", "auth": auth }),
        )
        .await;
    }
}
