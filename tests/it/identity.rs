//! Who a connection belongs to: how it says so, how long that holds, and what it is told when it does not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use fanfare_server::auth::{
    Authorizer, Caller, CookieAuthorizer, Credentials, Denied, Grant, Identity, JwtAuthorizer,
    JwtKey, Origins, Policy, PublicOnly, first_of,
};
use fanfare_server::protocol::{ChannelName, RawJson, UserId};
use fanfare_server::{Limits, Server, ServerBuilder};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{suite, within};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SECRET: &str = "a secret of at least thirty-two bytes";

fn jwt_with(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}

fn seconds_from_now(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() + seconds
}

fn jwt(user: &str) -> String {
    jwt_with(
        SECRET,
        &json!({ "sub": user, "exp": seconds_from_now(600) }),
    )
}

/// A token that was good a minute ago.
fn old_jwt(user: &str) -> String {
    jwt_with(
        SECRET,
        &json!({ "sub": user, "exp": seconds_from_now(0) - 60 }),
    )
}

/// Tokens first, then the session cookie.
fn both() -> ServerBuilder {
    let tokens = JwtAuthorizer::new(JwtKey::hs256(SECRET).unwrap());
    let sessions = CookieAuthorizer::new("session", |value| async move {
        let user = value
            .strip_prefix("s-")
            .map(|user| UserId::new(user).unwrap());
        Ok(user.map(Identity::new))
    });
    Server::builder()
        .authorizer(first_of(tokens, sessions))
        .origins(Origins::any())
}

/// Deadlines short enough to be waited for.
fn hasty() -> Limits {
    let mut limits = Limits::default();
    limits.authentication_deadline = Duration::from_millis(300);
    limits
}

async fn user_of(door: Door) -> Option<String> {
    let mut socket = door.open().await.unwrap();
    let connected = socket.greeted().await;
    connected["user_id"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_token_in_the_header_says_it_at_once() {
    let server = TestServer::start(both()).await;
    let door = Door::at(server.address);
    assert_eq!(
        user_of(door.bearer(&jwt("ann"))).await.as_deref(),
        Some("ann")
    );
}

#[tokio::test]
async fn a_session_cookie_says_it_at_once() {
    let server = TestServer::start(both()).await;
    let door = Door::at(server.address).header("cookie", "session=s-ben");
    assert_eq!(user_of(door).await.as_deref(), Some("ben"));
}

#[tokio::test]
async fn cookies_of_other_scripts_in_any_encoding_do_not_hide_the_session() {
    const GREETING: &[u8] = br#""type":"connected""#;
    let server = TestServer::start(both()).await;
    // As a browser sends a cookie that some script has set; and the same in Latin-1.
    for visitor in [&b"visitor=Jos\xc3\xa9"[..], b"visitor=Jos\xe9", b"\xff\xfe"] {
        for (before, behind) in [
            (visitor, &b"session=s-ben"[..]),
            (b"session=s-ben", visitor),
        ] {
            let mut request = format!(
                "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\ncookie: ",
                server.address
            )
            .into_bytes();
            request.extend_from_slice(&[before, b"; ", behind, b"\r\n\r\n"].concat());
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&request).await.unwrap();
            let mut answer = Vec::new();
            let mut buffer = [0; 1_024];
            while !answer.windows(GREETING.len()).any(|part| part == GREETING) {
                let count = within("the greeting", stream.read(&mut buffer))
                    .await
                    .unwrap();
                assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&buffer[..count]);
            }
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.contains(r#""user_id":"ben""#), "{answer}");
        }
    }
}

#[tokio::test]
async fn of_a_token_and_a_cookie_the_first_counts() {
    let server = TestServer::start(both()).await;
    let door = Door::at(server.address).header("cookie", "session=s-ben");
    assert_eq!(
        user_of(door.bearer(&jwt("ann"))).await.as_deref(),
        Some("ann")
    );
}

#[tokio::test]
async fn a_bad_token_and_a_good_cookie_are_the_cookies_user() {
    let server = TestServer::start(both()).await;
    let door = Door::at(server.address).header("cookie", "session=s-ben");
    assert_eq!(
        user_of(door.bearer(&old_jwt("ann"))).await.as_deref(),
        Some("ben")
    );
}

#[tokio::test]
async fn when_both_fail_the_handshake_is_refused() {
    let server = TestServer::start(both()).await;
    let door = Door::at(server.address).header("cookie", "session=stale");
    let forged = jwt_with(
        &SECRET.replace('a', "b"),
        &json!({ "sub": "ann", "exp": seconds_from_now(60) }),
    );
    let unending = jwt_with(SECRET, &json!({ "sub": "ann" }));
    for token in [old_jwt("ann"), forged, unending, "x".to_owned()] {
        let refused = door.clone().bearer(&token).open().await.unwrap_err();
        assert_eq!(refused.status(), 401);
        let body: Value = serde_json::from_slice(refused.body().as_deref().unwrap()).unwrap();
        assert_eq!(body["code"], 4003);
        assert!(
            !body.to_string().contains(&token) || token == "x",
            "T6: {body}"
        );
    }
}

#[tokio::test]
async fn a_token_in_a_message_says_it_later() {
    let server = TestServer::start(both()).await;
    let mut socket = Socket::connect(server.address).await;
    // Until then nothing but that, signs of life and goodbyes are taken.
    for (command, reply) in [
        (
            json!({ "type": "subscribe", "id": 1, "channel": "orders" }),
            "subscription_error",
        ),
        (
            json!({ "type": "publish", "id": 1, "channel": "orders", "event": "e", "data": 1 }),
            "error",
        ),
        (
            json!({ "type": "unsubscribe", "id": 1, "channel": "orders" }),
            "error",
        ),
        (
            json!({ "type": "history", "id": 1, "channel": "orders" }),
            "error",
        ),
    ] {
        socket.send(command).await;
        socket
            .expect(json!({ "type": reply, "id": 1, "code": 4301 }))
            .await;
    }
    socket.is_quiet().await;
    let answer = socket.authenticate(&jwt("ann")).await;
    assert_eq!(answer["user_id"], "ann");
    let expires_ms = answer["expires_at"].as_u64().unwrap();
    assert!(
        expires_ms / 1_000 > seconds_from_now(500),
        "the token's end"
    );
    socket.subscribe("orders").await;
    let ann = UserId::new("ann").unwrap();
    assert_eq!(server.events.connections_of(&ann).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_token_in_a_message_ends_the_connection() {
    let server = TestServer::start(both()).await;
    let mut socket = Socket::connect(server.address).await;
    let token = old_jwt("ann");
    socket
        .send(json!({ "type": "authenticate", "id": 3, "token": token }))
        .await;
    socket
        .expect(json!({ "type": "error", "id": 3, "code": 4003 }))
        .await;
    socket
        .expect(json!({ "type": "disconnect", "code": 4003, "reconnect": false }))
        .await;
    assert_eq!(socket.closed().await.0, 4003);
}

#[tokio::test]
async fn who_shows_nothing_in_time_is_sent_away_to_get_a_token() {
    // T14: a socket that says nothing does not stay.
    let server = TestServer::start(both().limits(hasty())).await;
    let mut socket = Socket::connect(server.address).await;
    socket
        .expect(json!({ "type": "disconnect", "code": 4104, "reconnect": true }))
        .await;
    assert_eq!(socket.closed().await.0, 4104);
}

#[tokio::test]
async fn who_showed_a_stale_cookie_and_nothing_else_is_sent_away_for_good() {
    let server = TestServer::start(both().limits(hasty())).await;
    let door = Door::at(server.address).header("cookie", "session=stale");
    let mut socket = door.enter().await;
    socket
        .expect(json!({ "type": "disconnect", "code": 4003, "reconnect": false }))
        .await;
    assert_eq!(socket.closed().await.0, 4003);
}

#[tokio::test]
async fn a_stale_cookie_does_not_keep_a_token_from_counting() {
    let server = TestServer::start(both()).await;
    let door = Door::at(server.address).header("cookie", "session=stale");
    let mut socket = door.enter().await;
    assert_eq!(socket.authenticate(&jwt("ann")).await["user_id"], "ann");
}

#[tokio::test]
async fn anonymous_connections_are_a_switch() {
    let server = TestServer::start(both().allow_anonymous().limits(hasty())).await;
    let mut visitor = Socket::connect(server.address).await;
    visitor.subscribe("orders").await;
    let stale = Door::at(server.address).header("cookie", "session=stale");
    let mut stale = stale.enter().await;
    stale.subscribe("orders").await;
    let private = json!({ "type": "subscribe", "channel": "private-x" });
    visitor.send(private).await;
    visitor
        .expect(json!({ "type": "subscription_error" }))
        .await;
    // A visitor may sign in later, and the deadline is not theirs.
    assert_eq!(visitor.authenticate(&jwt("ann")).await["user_id"], "ann");
    let refused = Door::at(server.address)
        .bearer(&old_jwt("ann"))
        .open()
        .await;
    assert_eq!(
        refused.unwrap_err().status(),
        401,
        "a wrong token is not nobody"
    );
}

#[tokio::test]
async fn an_identity_that_ends_takes_the_connection_with_it() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Door::at(server.address)
        .bearer("user:ann:300")
        .enter()
        .await;
    socket
        .expect(json!({ "type": "disconnect", "code": 4105, "reconnect": true }))
        .await;
    assert_eq!(socket.closed().await.0, 4105);
}

#[tokio::test]
async fn a_new_token_keeps_the_connection() {
    let server = TestServer::start(suite::builder()).await;
    let mut refreshed = Door::at(server.address)
        .bearer("user:ann:400")
        .enter()
        .await;
    let mut clock = Door::at(server.address)
        .bearer("user:ben:600")
        .enter()
        .await;
    refreshed
        .send(json!({ "type": "authenticate", "id": 9, "token": "user:ann:60000" }))
        .await;
    let answer = refreshed.receive().await;
    let expected = json!({
        "type": "ok", "id": 9, "user_id": "ann", "expires_at": answer["expires_at"],
    });
    assert_eq!(answer, expected);
    assert!(answer["expires_at"].is_u64());
    assert_eq!(clock.closed().await.0, 4105);
    refreshed.is_quiet().await;
}

#[tokio::test]
async fn a_refused_new_token_leaves_the_old_one_in_force() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Door::at(server.address).bearer("user:ann").enter().await;
    for token in ["x", "user:ben"] {
        socket
            .send(json!({ "type": "authenticate", "id": 5, "token": token }))
            .await;
        let error = socket
            .expect(json!({ "type": "error", "id": 5, "code": 4314 }))
            .await;
        assert!(!error.to_string().contains("user:ben"), "T6: {error}");
    }
    let ann = UserId::new("ann").unwrap();
    server
        .events
        .send_to_user(&ann, "still.here", &())
        .await
        .unwrap();
    socket.expect(json!({ "event": "still.here" })).await;
}

#[tokio::test]
async fn a_personal_channel_belongs_to_its_user_alone() {
    let server = TestServer::start(suite::builder()).await;
    let mut ann = Door::at(server.address).bearer("user:ann").enter().await;
    let mut visitor = Socket::connect(server.address).await;
    for socket in [&mut ann, &mut visitor] {
        socket
            .send(json!({ "type": "subscribe", "channel": "user:ben" }))
            .await;
        socket
            .expect(json!({ "type": "subscription_error", "channel": "user:ben", "code": 4302 }))
            .await;
    }
    // Its own it may ask for again, to continue where it was.
    ann.subscribe("user:ann").await;
    let id = UserId::new("ann").unwrap();
    server.events.send_to_user(&id, "once", &()).await.unwrap();
    server.events.send_to_user(&id, "fence", &()).await.unwrap();
    ann.expect(json!({ "event": "once" })).await;
    ann.expect(json!({ "event": "fence" })).await;
}

#[tokio::test]
async fn a_user_id_that_is_no_channel_name_has_a_personal_channel_too() {
    let server = TestServer::start(both()).await;
    let mut socket = Socket::connect(server.address).await;
    let token = jwt("auth0|7");
    socket
        .send(json!({ "type": "authenticate", "id": 1, "token": token }))
        .await;
    socket
        .expect(json!({ "type": "ok", "user_id": "auth0|7" }))
        .await;
    let joined = json!({ "type": "subscription_succeeded", "channel": "user:auth0=7C7" });
    socket.expect(joined).await;
    let id = UserId::new("auth0|7").unwrap();
    server.events.send_to_user(&id, "hello", &()).await.unwrap();
    socket.expect(json!({ "event": "hello" })).await;
}

/// Does not answer, breaks down, or lets go after a moment, by the name of the channel.
struct Moody;

#[async_trait]
impl Authorizer for Moody {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        match credentials.token.map(|token| token.expose()) {
            Some("down") => Err(Denied::unavailable("the database is gone")),
            Some("panic") => panic!("planned"),
            _ => Err(Denied::NoCredentials),
        }
    }

    async fn subscribe(&self, _: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
        match channel.as_str() {
            "silent" => std::future::pending().await,
            "panic" => panic!("planned"),
            "short" => {
                let end = SystemTime::now() + Duration::from_millis(200);
                Ok(Grant::default().expiring_at(end))
            }
            _ => Ok(Grant::default()),
        }
    }

    async fn publish(
        &self,
        _: &Caller,
        _: &ChannelName,
        event: &fanfare_server::protocol::EventName,
    ) -> Result<(), Denied> {
        match event.as_str() {
            "forbidden" => Err(Denied::refused("not that")),
            "panic" => panic!("planned"),
            _ => Ok(()),
        }
    }
}

fn moody() -> ServerBuilder {
    Server::builder()
        .authorizer(Moody)
        .allow_anonymous()
        .channel_rules(suite::rules())
}

#[tokio::test]
async fn an_authorizer_that_does_not_answer_means_not_now() {
    // T24: what breaks down in one call takes nothing else with it.
    let server = TestServer::start(moody()).await;
    for token in ["down", "panic"] {
        let refused = Door::at(server.address)
            .bearer(token)
            .open()
            .await
            .unwrap_err();
        assert_eq!(refused.status(), 503);
    }
    let mut socket = Socket::connect(server.address).await;
    for channel in ["panic", "silent"] {
        socket
            .send(json!({ "type": "subscribe", "id": 1, "channel": channel }))
            .await;
        socket
            .expect(json!({ "type": "subscription_error", "id": 1, "code": 4315, "retry": true }))
            .await;
    }
    socket.subscribe("orders").await;
}

#[tokio::test]
async fn a_public_channel_is_the_authorizers_business_too() {
    let policy = Policy::over(PublicOnly).with_subscribe(|_, channel| async move {
        match channel.as_str() {
            "closed" => Err(Denied::refused("closed today")),
            _ => Ok(Grant::default()),
        }
    });
    let builder = Server::builder().authorizer(policy).allow_anonymous();
    let server = TestServer::start(builder).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe("open").await;
    socket
        .send(json!({ "type": "subscribe", "channel": "closed" }))
        .await;
    let refused = json!({ "type": "subscription_error", "code": 4302, "error": "closed today" });
    socket.expect(refused).await;
}

#[tokio::test]
async fn a_permission_that_ends_takes_the_subscription_with_it() {
    // T11: what was allowed once is not allowed for ever.
    let server = TestServer::start(moody()).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe("short").await;
    socket
        .expect(json!({ "type": "unsubscribed", "channel": "short", "code": 4303 }))
        .await;
    server.events.broadcast("short", "late", &()).await.unwrap();
    socket.is_quiet().await;
}

#[tokio::test]
async fn client_events_are_for_whom_rule_and_authorizer_let() {
    let server = TestServer::start(moody()).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe("open-room").await;
    socket.subscribe("orders").await;
    let publish = |channel: &str, event: &str| json!({ "type": "publish", "id": 1, "channel": channel, "event": event, "data": 1 });
    let rows = [
        (publish("orders", "e"), 4311),
        (publish("open-elsewhere", "e"), 4310),
        (publish("open-room", "member_added"), 4305),
        (publish("open-room", "forbidden"), 4302),
        (publish("open-room", "panic"), 4315),
    ];
    for (command, code) in rows {
        socket.send(command).await;
        socket
            .expect(json!({ "type": "error", "id": 1, "code": code }))
            .await;
    }
    let mut other = Socket::connect(server.address).await;
    other.subscribe("open-room").await;
    socket.send(publish("open-room", "fine")).await;
    other
        .expect(json!({ "event": "fine", "user_id": null }))
        .await;
}

#[tokio::test]
async fn info_for_other_members_is_bounded() {
    struct Talkative;

    #[async_trait]
    impl Authorizer for Talkative {
        async fn connect(&self, _: &Credentials<'_>) -> Result<Identity, Denied> {
            let info = RawJson::encode(&"x".repeat(10_000)).unwrap();
            Ok(Identity::new(UserId::new("ann").unwrap()).with_info(info))
        }

        async fn subscribe(&self, _: &Caller, _: &ChannelName) -> Result<Grant, Denied> {
            Ok(Grant::default())
        }
    }

    let server = TestServer::start(Server::builder().authorizer(Talkative)).await;
    let mut socket = Socket::connect(server.address).await;
    socket
        .send(json!({ "type": "subscribe", "channel": "presence-room" }))
        .await;
    socket
        .expect(json!({ "type": "subscription_error", "code": 4302 }))
        .await;
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
