//! Who is here: from the server's own knowledge, in step with the channel's messages.

use std::collections::BTreeSet;
use std::time::Duration;

use fanfare_server::engine::Engine;
use fanfare_server::engine::memory::{MemoryEngine, MemoryOptions};
use fanfare_server::{ChannelRule, ChannelRules, Limits, ServerBuilder};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{suite, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

const ROOM: &str = "presence-room";

fn with_grace(grace: Duration) -> ServerBuilder {
    let options = MemoryOptions::default().with_presence_grace(grace);
    suite::builder().engine(Engine::new(MemoryEngine::new(options)))
}

/// A grace that no test waits for.
fn patient() -> ServerBuilder {
    with_grace(Duration::from_secs(3_600))
}

async fn enter(server: &TestServer, user: &str) -> Socket {
    let token = format!("user:{user}");
    Door::at(server.address).bearer(&token).enter().await
}

async fn member(server: &TestServer, user: &str) -> Socket {
    let mut socket = enter(server, user).await;
    socket.subscribe(ROOM).await;
    socket
}

async fn sees_added(socket: &mut Socket, user: &str) {
    let data = json!({ "id": user, "info": { "name": user } });
    socket
        .expect(json!({ "event": "member_added", "channel": ROOM, "data": data }))
        .await;
}

async fn sees_removed(socket: &mut Socket, user: &str, reason: &str) {
    let data = json!({ "id": user, "reason": reason });
    socket
        .expect(json!({ "event": "member_removed", "channel": ROOM, "data": data }))
        .await;
}

/// Nothing about members is on its way: a marker comes next.
async fn sees_nothing(server: &TestServer, socket: &mut Socket) {
    server.events.broadcast(ROOM, "fence", &()).await.unwrap();
    socket.expect(json!({ "event": "fence" })).await;
}

fn names(members: &Value) -> BTreeSet<String> {
    let members = members.as_array().unwrap().iter();
    members
        .map(|member| member["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_user_comes_with_the_first_connection_and_goes_with_the_last() {
    let server = TestServer::start(patient()).await;
    let mut ann = member(&server, "ann").await;
    let phone = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    let laptop = member(&server, "ben").await;
    sees_nothing(&server, &mut ann).await;
    phone.close().await;
    sees_nothing(&server, &mut ann).await;
    laptop.close().await;
    sees_removed(&mut ann, "ben", "left").await;
    let members = server.events.presence_members(ROOM).await.unwrap();
    assert_eq!(members.len(), 1);
}

#[tokio::test]
async fn a_user_joins_so_many_presence_channels_over_all_connections() {
    let mut limits = Limits::default();
    (limits.user_joins_burst, limits.user_joins_per_second) = (3, 1);
    let server = TestServer::start(patient().limits(limits)).await;
    let mut ben = member(&server, "ben").await;
    let (mut phone, mut laptop) = (enter(&server, "ann").await, enter(&server, "ann").await);
    phone.subscribe("presence-a").await;
    laptop.subscribe("presence-b").await;
    phone.subscribe(ROOM).await;
    sees_added(&mut ben, "ann").await;
    phone
        .send(json!({ "type": "unsubscribe", "channel": ROOM }))
        .await;
    phone.expect(json!({ "type": "unsubscribed" })).await;
    sees_removed(&mut ben, "ann", "left").await;
    let join = json!({ "type": "subscribe", "channel": ROOM });
    laptop.send(join.clone()).await;
    let refused = laptop.receive().await;
    assert_eq!(refused["code"], 4307, "{refused}");
    let wait_ms = refused["retry_after"].as_u64().unwrap();
    assert!((1..=1_000).contains(&wait_ms), "{refused}");
    let text = "a user joins at most 1 presence channels per second and 3 at once, slow down";
    assert_eq!(refused["error"], text);
    // The others have seen nothing of it, and have their own number. Other channels cost none.
    sees_nothing(&server, &mut ben).await;
    ben.subscribe("presence-a").await;
    laptop.subscribe("news").await;
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    laptop.subscribe(ROOM).await;
    sees_added(&mut ben, "ann").await;
}

#[tokio::test]
async fn who_joins_sees_who_is_there_and_not_itself_coming() {
    let server = TestServer::start(patient()).await;
    let mut ann = enter(&server, "ann").await;
    let joined = ann.subscribe(ROOM).await;
    assert_eq!(joined["presence"]["count"], 1);
    assert_eq!(
        names(&joined["presence"]["members"]),
        ["ann".to_owned()].into()
    );
    assert_eq!(joined["position"]["offset"], 1, "its own coming is in it");
    sees_nothing(&server, &mut ann).await;
}

#[tokio::test]
async fn a_subscription_moves_to_a_position_and_no_member_is_told() {
    let kept = ChannelRule::default().with_history(10, Duration::from_secs(300));
    let rules = ChannelRules::new().with(ROOM, kept);
    let server = TestServer::start(patient().channel_rules(rules)).await;
    let mut ann = member(&server, "ann").await;
    let mut ben = enter(&server, "ben").await;
    let joined = ben.subscribe(ROOM).await;
    sees_added(&mut ann, "ben").await;
    for number in 0..3 {
        server.events.broadcast(ROOM, "n", &number).await.unwrap();
        ann.expect(json!({ "event": "n", "data": number })).await;
        ben.expect(json!({ "event": "n", "data": number })).await;
    }
    let moved = ben
        .subscribe_with(json!({ "channel": ROOM, "since": joined["position"] }))
        .await;
    assert_eq!(moved["recovered"], true);
    assert_eq!(moved["presence"]["count"], 2);
    let events = moved["events"].as_array().unwrap().iter();
    let numbers: Vec<_> = events.map(|event| event["data"].as_u64()).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
    // Both see the next message, once, and nothing about members before it.
    server.events.broadcast(ROOM, "fence", &()).await.unwrap();
    for socket in [&mut ann, &mut ben] {
        socket.expect(json!({ "event": "fence" })).await;
    }
    assert_eq!(server.events.subscriber_count(ROOM).await.unwrap(), 2);
    ben.send(json!({ "type": "subscribe", "channel": ROOM }))
        .await;
    ben.expect(json!({ "type": "subscription_error", "code": 4309 }))
        .await;
}

#[tokio::test]
async fn goodbyes_take_effect_at_once() {
    let server = TestServer::start(patient()).await;
    let mut ann = member(&server, "ann").await;

    let mut ben = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    ben.send(json!({ "type": "unsubscribe", "channel": ROOM }))
        .await;
    sees_removed(&mut ann, "ben", "left").await;

    let mut cat = member(&server, "cat").await;
    sees_added(&mut ann, "cat").await;
    cat.send(json!({ "type": "disconnect" })).await;
    sees_removed(&mut ann, "cat", "left").await;

    let dan = member(&server, "dan").await;
    sees_added(&mut ann, "dan").await;
    dan.close().await;
    sees_removed(&mut ann, "dan", "left").await;
}

#[tokio::test]
async fn what_the_application_ends_takes_effect_at_once() {
    let server = TestServer::start(patient()).await;
    let mut ann = member(&server, "ann").await;

    let ben = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    let ben = ben.id.parse().unwrap();
    server.events.unsubscribe(ben, ROOM).await.unwrap();
    sees_removed(&mut ann, "ben", "removed").await;

    let mut cat = member(&server, "cat").await;
    sees_added(&mut ann, "cat").await;
    let id = fanfare_server::protocol::UserId::new("cat").unwrap();
    server.events.disconnect_user(&id).await.unwrap();
    assert_eq!(cat.closed().await.0, 4005);
    sees_removed(&mut ann, "cat", "removed").await;
}

#[tokio::test]
async fn a_lost_connection_counts_until_its_grace_is_over() {
    assert_eq!(
        MemoryOptions::default().presence_grace,
        Duration::from_secs(5)
    );
    let server = TestServer::start(with_grace(Duration::from_millis(150))).await;
    let mut ann = member(&server, "ann").await;
    let ben = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    ben.vanish();
    sees_removed(&mut ann, "ben", "lost").await;
}

#[tokio::test]
async fn who_is_back_within_the_grace_was_never_away() {
    let server = TestServer::start(patient()).await;
    let mut ann = member(&server, "ann").await;
    let ben = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    ben.vanish();
    let ben = member(&server, "ben").await;
    sees_nothing(&server, &mut ann).await;
    // The lost connection counts on its own: only its grace, or nothing, ends it.
    ben.close().await;
    sees_nothing(&server, &mut ann).await;
}

#[tokio::test]
async fn a_page_that_reloads_keeps_its_place() {
    let server = TestServer::start(patient()).await;
    let mut ann = member(&server, "ann").await;
    let mut ben = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    // RFC 6455, 7.4.1: a browser says 1001 when a page is left or reloaded, and cannot say which.
    let going_away = CloseFrame {
        code: 1001.into(),
        reason: "".into(),
    };
    ben.send_frame(Message::Close(Some(going_away))).await;
    ben.closed().await;
    let _ben = member(&server, "ben").await;
    sees_nothing(&server, &mut ann).await;
}

#[tokio::test]
async fn members_are_asked_for() {
    let server = TestServer::start(patient()).await;
    let mut ann = member(&server, "ann").await;
    let _ben = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    ann.send(json!({ "type": "presence", "id": 4, "channel": ROOM }))
        .await;
    let answer = ann
        .expect(json!({ "type": "ok", "id": 4, "count": 2, "position": { "offset": 2 } }))
        .await;
    assert_eq!(
        names(&answer["members"]),
        ["ann".to_owned(), "ben".to_owned()].into()
    );
    ann.subscribe("orders").await;
    let rows = [
        (
            json!({ "type": "presence", "id": 5, "channel": "orders" }),
            4313,
        ),
        (
            json!({ "type": "presence", "id": 5, "channel": "presence-x" }),
            4310,
        ),
        (json!({ "type": "presence", "channel": ROOM }), 4300),
    ];
    for (command, code) in rows {
        ann.send(command).await;
        ann.expect(json!({ "type": "error", "code": code })).await;
    }
}

#[tokio::test]
async fn a_user_finds_itself_in_a_list_that_is_capped() {
    let mut options = MemoryOptions::default();
    options.members_max = 2;
    let engine = Engine::new(MemoryEngine::new(options));
    let server = TestServer::start(suite::builder().engine(engine)).await;
    let mut sockets = Vec::new();
    for user in ["ann", "ben", "cleo"] {
        sockets.push(member(&server, user).await);
    }
    let capped = ["ann".to_owned(), "ben".to_owned()];
    let whole = names(&json!([{ "id": "ann" }, { "id": "ben" }, { "id": "dora" }]));
    let mut dora = enter(&server, "dora").await;
    let joined = dora.subscribe(ROOM).await;
    assert_eq!(joined["presence"]["count"], 4);
    assert_eq!(names(&joined["presence"]["members"]), whole);
    dora.send(json!({ "type": "presence", "id": 1, "channel": ROOM }))
        .await;
    let answer = dora.expect(json!({ "type": "ok", "count": 4 })).await;
    assert_eq!(names(&answer["members"]), whole);
    // The one who is listed anyway is listed once.
    let mut again = enter(&server, "ann").await;
    let joined = again.subscribe(ROOM).await;
    assert_eq!(joined["presence"]["members"].as_array().unwrap().len(), 2);
    assert_eq!(names(&joined["presence"]["members"]), capped.into());
}

#[tokio::test]
async fn presence_is_a_rule_and_not_a_prefix() {
    let rules = ChannelRules::new()
        .with("team:", ChannelRule::default().with_presence(true))
        .with("presence-off.", ChannelRule::default().with_presence(false));
    let server = TestServer::start(suite::builder().channel_rules(rules)).await;
    let mut ann = enter(&server, "ann").await;
    let joined = ann.subscribe("team:red").await;
    assert_eq!(joined["presence"]["count"], 1);
    let joined = ann.subscribe("presence-off.1").await;
    assert_eq!(joined.get("presence"), None);
}

#[tokio::test]
async fn members_come_back_with_what_was_missed() {
    let server = TestServer::start(patient()).await;
    let mut ann = member(&server, "ann").await;
    let ben = member(&server, "ben").await;
    sees_added(&mut ann, "ben").await;
    ann.send(json!({ "type": "presence", "id": 1, "channel": ROOM }))
        .await;
    let since = ann.expect(json!({ "type": "ok" })).await["position"].clone();
    ann.vanish();
    ben.close().await;
    let _cat = member(&server, "cat").await;

    let mut ann = enter(&server, "ann").await;
    let back = ann
        .subscribe_with(json!({ "channel": ROOM, "since": since }))
        .await;
    assert_eq!(back["recovered"], true);
    let events: Vec<_> = back["events"].as_array().unwrap().iter().collect();
    assert_eq!(events.len(), 2, "{back}");
    assert_eq!(events[0]["event"], "member_removed");
    assert_eq!(events[1]["data"]["id"], "cat");
    assert_eq!(
        names(&back["presence"]["members"]),
        ["ann".to_owned(), "cat".to_owned()].into()
    );
}

/// Follows a room from its snapshot on, until a marker comes.
async fn fold_until_marker(mut socket: Socket) -> BTreeSet<String> {
    let joined = socket.subscribe(ROOM).await;
    let mut members = names(&joined["presence"]["members"]);
    let mut offset = joined["position"]["offset"].as_u64().unwrap();
    loop {
        let event = socket.receive().await;
        offset += 1;
        assert_eq!(event["offset"], offset, "no message is missing: {event}");
        let id = event["data"]["id"].as_str().map(str::to_owned);
        match event["event"].as_str().unwrap() {
            "member_added" => assert!(members.insert(id.unwrap()), "added twice: {event}"),
            "member_removed" => {
                assert!(
                    members.remove(&id.unwrap()),
                    "removed, never added: {event}"
                );
            }
            "marker" => return members,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_changes_compose_while_others_come_and_go() {
    let server = TestServer::start(patient()).await;
    let address = server.address;
    let mut visitors = JoinSet::new();
    for number in 0..12 {
        let door = Door::at(address).bearer(&format!("user:visitor-{number}"));
        visitors.spawn(async move {
            let mut socket = door.enter().await;
            for _ in 0..6 {
                socket
                    .send(json!({ "type": "subscribe", "channel": ROOM }))
                    .await;
                socket
                    .send(json!({ "type": "unsubscribe", "channel": ROOM }))
                    .await;
                while socket.receive().await["type"] != "unsubscribed" {}
            }
            if number % 3 == 0 {
                socket.subscribe(ROOM).await;
            }
            socket
        });
    }
    let mut observers = JoinSet::new();
    for number in 0..12 {
        let door = Door::at(address).bearer(&format!("user:observer-{number}"));
        observers.spawn(async move { fold_until_marker(door.enter().await).await });
    }
    let sockets = within("the visitors", visitors.join_all()).await;
    fanfare_tests::eventually("the observers to be in", async || {
        let members = server.events.presence_members(ROOM).await.unwrap();
        members.len() == 12 + 4
    })
    .await;
    server.events.broadcast(ROOM, "marker", &()).await.unwrap();
    let members = server.events.presence_members(ROOM).await.unwrap();
    let truth: BTreeSet<_> = members.iter().map(|member| member.id.to_string()).collect();
    let seen = within("the observers", observers.join_all()).await;
    assert!(seen.iter().all(|seen| *seen == truth), "{seen:?} {truth:?}");
    drop(sockets);
}
