//! What the application takes back: a user, a subscription, a permission. What was judged before does not count afterwards.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use fanfare_server::auth::{
    Authorizer, Caller, Credentials, Denied, Grant, Identity, Origins, Policy, PublicOnly,
};
use fanfare_server::protocol::{ChannelName, EventName, SocketId, UserId};
use fanfare_server::{ChannelRule, ChannelRules, Server};
use fanfare_tests::http;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket, has};
use fanfare_tests::{eventually, suite, within};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

/// The permission of a connection for a channel, as the auth endpoint gives it to who shows a token.
async fn permission(server: &TestServer, socket: &Socket, token: &str, channel: &str) -> Value {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let question = json!({ "socket_id": socket.id, "channel": channel });
    let answer = http::post(server.address, "/ws/auth", &headers, &question).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let mut subscribe = answer.json();
    subscribe["channel"] = json!(channel);
    subscribe
}

/// Shows a permission and answers what it is told.
async fn show(socket: &mut Socket, subscribe: &Value) -> Value {
    let mut subscribe = subscribe.clone();
    subscribe["type"] = json!("subscribe");
    socket.send(subscribe).await;
    socket.receive().await
}

#[track_caller]
fn is_refused(reply: &Value, code: u16) {
    let refused = json!({ "type": "subscription_error", "code": code });
    assert!(has(reply, &refused), "{reply}");
}

async fn is_ended_for_good(socket: &mut Socket) {
    socket
        .expect(json!({ "type": "disconnect", "code": 4005, "reconnect": false }))
        .await;
    assert_eq!(socket.closed().await.0, 4005);
}

#[tokio::test]
async fn a_user_whom_a_channel_token_alone_names_is_found_and_disconnected() {
    let server = TestServer::start(suite::builder()).await;
    for (name, channel) in [("ann", "private-ok.1"), ("ben", "presence-room")] {
        let mut socket = Socket::connect(server.address).await;
        let permit = permission(&server, &socket, &format!("user:{name}"), channel).await;
        assert_eq!(server.events.connections_of(&user(name)).await.unwrap(), []);
        socket.subscribe_with(permit).await;
        let id: SocketId = socket.id.parse().unwrap();
        let found = server.events.connections_of(&user(name)).await.unwrap();
        assert_eq!(found, [id], "{channel}");
        let ended = server.events.disconnect_user(&user(name)).await.unwrap();
        assert_eq!(ended, 1, "{channel}");
        is_ended_for_good(&mut socket).await;
        eventually("the connection to be forgotten", async || {
            let found = server.events.connections_of(&user(name)).await.unwrap();
            found.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_channel_token_gives_no_personal_channel() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let permit = permission(&server, &socket, "user:ann", "private-ok.1").await;
    socket.subscribe_with(permit).await;
    let (ann, note) = (user("ann"), json!(1));
    let sent = server.events.send_to_user(&ann, "note", &note);
    sent.await.unwrap();
    socket.is_quiet().await;
    let personal = show(&mut socket, &json!({ "channel": "user:ann" })).await;
    is_refused(&personal, 4302);
}

#[tokio::test]
async fn a_token_of_a_disconnected_user_that_was_not_shown_yet_does_not_count() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let mut other = Socket::connect(server.address).await;
    let permit = permission(&server, &socket, "user:ann", "private-ok.1").await;
    let of_ben = permission(&server, &other, "user:ben", "private-ok.1").await;
    assert_eq!(
        server.events.disconnect_user(&user("ann")).await.unwrap(),
        0
    );
    is_refused(&show(&mut socket, &permit).await, 4303);
    socket.is_quiet().await;
    other.subscribe_with(of_ben).await;
    // What is signed afterwards counts.
    eventually("a new permission to count", async || {
        let permit = permission(&server, &socket, "user:ann", "private-ok.1").await;
        show(&mut socket, &permit).await["type"] == "subscription_succeeded"
    })
    .await;
}

#[tokio::test]
async fn who_was_removed_from_a_channel_does_not_come_back_with_the_same_token() {
    let server = TestServer::start(suite::builder()).await;
    for channel in ["private-ok.1", "presence-room"] {
        let mut socket = Socket::connect(server.address).await;
        let id: SocketId = socket.id.parse().unwrap();
        let permit = permission(&server, &socket, "user:ann", channel).await;
        let spare = permission(&server, &socket, "user:ann", channel).await;
        socket.subscribe_with(permit.clone()).await;
        // Who leaves may come back with it.
        socket
            .send(json!({ "type": "unsubscribe", "channel": channel }))
            .await;
        socket
            .expect(json!({ "type": "unsubscribed", "code": 1000 }))
            .await;
        socket.subscribe_with(permit.clone()).await;
        server.events.unsubscribe(id, channel).await.unwrap();
        socket
            .expect(json!({ "type": "unsubscribed", "code": 4318 }))
            .await;
        is_refused(&show(&mut socket, &permit).await, 4303);
        is_refused(&show(&mut socket, &spare).await, 4303);
        // Another channel is another matter, and so is a permission that is given afterwards.
        let permit = permission(&server, &socket, "user:ann", "private-ok.2").await;
        socket.subscribe_with(permit).await;
        eventually("a new permission to count", async || {
            let permit = permission(&server, &socket, "user:ann", channel).await;
            show(&mut socket, &permit).await["type"] == "subscription_succeeded"
        })
        .await;
    }
}

#[tokio::test]
async fn the_application_may_let_in_again_whom_it_removed() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let id: SocketId = socket.id.parse().unwrap();
    let permit = permission(&server, &socket, "user:ann", "private-ok.1").await;
    socket.subscribe_with(permit.clone()).await;
    server.events.unsubscribe(id, "private-ok.1").await.unwrap();
    socket
        .expect(json!({ "type": "unsubscribed", "code": 4318 }))
        .await;
    server.events.subscribe(id, "private-ok.1").await.unwrap();
    socket
        .expect(json!({ "type": "subscription_succeeded" }))
        .await;
    socket
        .send(json!({ "type": "unsubscribe", "channel": "private-ok.1" }))
        .await;
    socket.expect(json!({ "type": "unsubscribed" })).await;
    socket.subscribe_with(permit).await;
}

#[tokio::test]
async fn one_connection_holds_one_user() {
    let server = TestServer::start(suite::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let of_ann = permission(&server, &socket, "user:ann", "private-ok.1").await;
    let of_ben = permission(&server, &socket, "user:ben", "presence-room").await;
    socket.subscribe_with(of_ann).await;
    is_refused(&show(&mut socket, &of_ben).await, 4327);
    let members = server.events.presence_members("presence-room").await;
    assert!(members.unwrap().is_empty());
    socket
        .send(json!({ "type": "authenticate", "id": 1, "token": "user:ben" }))
        .await;
    socket
        .expect(json!({ "type": "error", "id": 1, "code": 4314, "retry": false }))
        .await;
    let answer = socket.authenticate("user:ann").await;
    assert_eq!(answer["user_id"], "ann");
}

#[tokio::test]
async fn of_two_users_at_the_same_time_one_is_refused() {
    let server = TestServer::start(suite::builder()).await;
    for _ in 0..20 {
        let mut socket = Socket::connect(server.address).await;
        let mut permits = Vec::new();
        for (name, channel) in [("ann", "presence-a"), ("ben", "presence-b")] {
            let token = format!("user:{name}");
            let mut permit = permission(&server, &socket, &token, channel).await;
            permit["type"] = json!("subscribe");
            permits.push(permit);
        }
        for permit in permits {
            socket.send(permit).await;
        }
        let mut replies = [socket.receive().await, socket.receive().await];
        replies.sort_by_key(|reply| reply["type"] == "subscription_succeeded");
        is_refused(&replies[0], 4327);
        assert_eq!(replies[1]["type"], "subscription_succeeded");
        socket.is_quiet().await;
    }
}

/// Finds a session good, and then takes its time to say so.
struct Stalling {
    asked: Semaphore,
    answers: Semaphore,
}

impl Stalling {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Semaphore::new(0),
            answers: Semaphore::new(0),
        })
    }

    async fn is_asked(&self) {
        let asked = within("the authorizer to be asked", self.asked.acquire()).await;
        asked.unwrap().forget();
    }
}

/// Says who it is after a while.
struct Stalls(Arc<Stalling>);

/// Says after a while that it may publish.
struct StallsPublishing(Arc<Stalling>);

#[async_trait]
impl Authorizer for StallsPublishing {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let token = credentials.token.ok_or(Denied::NoCredentials)?;
        Ok(Identity::new(user(token.expose())))
    }

    async fn publish(&self, _: &Caller, _: &ChannelName, _: &EventName) -> Result<(), Denied> {
        self.0.asked.add_permits(1);
        self.0.answers.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[async_trait]
impl Authorizer for Stalls {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let token = credentials.token.ok_or(Denied::NoCredentials)?;
        let identity = Identity::new(user(token.expose()));
        self.0.asked.add_permits(1);
        self.0.answers.acquire().await.unwrap().forget();
        Ok(identity)
    }
}

#[tokio::test]
async fn a_handshake_that_is_still_being_judged_does_not_survive_a_revocation() {
    let stalling = Stalling::new();
    let builder = Server::builder().authorizer(Stalls(Arc::clone(&stalling)));
    let server = TestServer::start(builder).await;
    let door = Door::at(server.address).bearer("ann");
    let opening = tokio::spawn({
        let door = door.clone();
        async move { door.open().await.unwrap() }
    });
    stalling.is_asked().await;
    assert_eq!(
        server.events.disconnect_user(&user("ann")).await.unwrap(),
        0
    );
    stalling.answers.add_permits(1);
    let mut socket = opening.await.unwrap();
    socket.expect(json!({ "type": "connected" })).await;
    is_ended_for_good(&mut socket).await;
    // Who comes afterwards is judged anew, and others were never concerned.
    stalling.answers.add_permits(2);
    door.enter().await.is_quiet().await;
    let ben = Door::at(server.address).bearer("ben");
    ben.enter().await.is_quiet().await;
}

#[tokio::test]
async fn a_token_that_is_still_being_judged_does_not_survive_a_revocation() {
    let stalling = Stalling::new();
    let builder = Server::builder()
        .authorizer(Stalls(Arc::clone(&stalling)))
        .allow_anonymous();
    let server = TestServer::start(builder).await;
    let mut socket = Socket::connect(server.address).await;
    let authenticate = json!({ "type": "authenticate", "id": 1, "token": "ann" });
    socket.send(authenticate).await;
    stalling.is_asked().await;
    assert_eq!(
        server.events.disconnect_user(&user("ann")).await.unwrap(),
        0
    );
    stalling.answers.add_permits(1);
    is_ended_for_good(&mut socket).await;
    assert_eq!(
        server.events.connections_of(&user("ann")).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_publish_that_is_still_being_judged_does_not_survive_a_revocation() {
    let stalling = Stalling::new();
    let publish = ChannelRule::default().with_client_publish();
    let builder = Server::builder()
        .authorizer(StallsPublishing(Arc::clone(&stalling)))
        .channel_rules(ChannelRules::new().with("open-", publish));
    let server = TestServer::start(builder).await;
    let mut ann = Door::at(server.address).bearer("ann").enter().await;
    let mut ben = Door::at(server.address).bearer("ben").enter().await;
    ann.subscribe("open-a").await;
    ben.subscribe("open-a").await;
    ann.send(json!({ "type": "publish", "channel": "open-a", "event": "late", "data": 1 }))
        .await;
    stalling.is_asked().await;
    assert_eq!(
        server.events.disconnect_user(&user("ann")).await.unwrap(),
        1
    );
    ann.expect(json!({ "type": "disconnect", "code": 4005 }))
        .await;
    stalling.answers.add_permits(1);
    // Until it is gone the server waits for its close, and would publish.
    assert_eq!(ann.closed().await.0, 4005);
    server
        .events
        .broadcast("open-a", "marker", &json!(2))
        .await
        .unwrap();
    ben.expect(json!({ "type": "event", "event": "marker" }))
        .await;
}

#[tokio::test]
async fn a_permission_that_has_ended_is_refused_and_not_confirmed_first() {
    let policy = Policy::over(PublicOnly).with_subscribe(|_, _| async {
        Ok(Grant::default().expiring_at(SystemTime::now() - Duration::from_secs(1)))
    });
    let builder = Server::builder().authorizer(policy).allow_anonymous();
    let server = TestServer::start(builder).await;
    let mut socket = Socket::connect(server.address).await;
    let reply = show(&mut socket, &json!({ "channel": "orders" })).await;
    is_refused(&reply, 4302);
    socket.is_quiet().await;
}

/// A connection without a session ends with the session that asked; one with a session of its own may have it renewed.
#[tokio::test]
async fn a_permission_lasts_as_long_as_the_session() {
    let builder = suite::builder().origins(Origins::any());
    let server = TestServer::start(builder).await;
    let channel = "private-ok.1";
    let short = "user:ann:1500";
    let mut named = Door::at(server.address).bearer(short).enter().await;
    let permit = permission(&server, &named, short, channel).await;
    named.subscribe_with(permit).await;
    let mut anonymous = Socket::connect(server.address).await;
    let permit = permission(&server, &anonymous, short, channel).await;
    anonymous.subscribe_with(permit).await;
    named
        .send(json!({ "type": "authenticate", "id": 1, "token": "user:ann" }))
        .await;
    named.expect(json!({ "type": "ok", "id": 1 })).await;
    anonymous
        .expect(json!({ "type": "unsubscribed", "channel": channel, "code": 4303 }))
        .await;
    // Its permission was older, and counts still.
    named.is_quiet().await;
    server
        .events
        .broadcast(channel, "note", &json!(1))
        .await
        .unwrap();
    named
        .expect(json!({ "type": "event", "event": "note" }))
        .await;
    anonymous.is_quiet().await;
}
