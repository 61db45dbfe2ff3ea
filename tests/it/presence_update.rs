//! Members that change the info that the others see of them: who may, what it costs, and what the others are told.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use fanfare_server::auth::{Authorizer, Caller, Credentials, Denied, Grant, Identity};
use fanfare_server::engine::Engine;
use fanfare_server::engine::memory::{MemoryEngine, MemoryOptions};
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::protocol::{ChannelName, UserId};
use fanfare_server::{ChannelRule, ChannelRules, Limits, ServerBuilder};
use fanfare_tests::redis::Redis;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket, has};
use fanfare_tests::{eventually, suite, within};
use serde_json::{Value, json};
use tokio::time::interval;

/// Its members may change their info.
const ROOM: &str = "presence-own";
/// Its members may not.
const CLOSED: &str = "presence-closed";

fn rules() -> ChannelRules {
    let own = ChannelRule::default().with_presence_update();
    let narrow = own
        .clone()
        .with_client_publish()
        .with_client_bytes_per_second(1_000);
    ChannelRules::new()
        .with("presence-own-narrow", narrow)
        .with(ROOM, own.clone())
        .with("open-", own.with_client_publish())
}

/// A lost connection is waited for longer than any test lasts.
fn builder() -> ServerBuilder {
    let options = MemoryOptions::default().with_presence_grace(Duration::from_secs(3_600));
    let engine = Engine::new(MemoryEngine::new(options));
    suite::builder().engine(engine).channel_rules(rules())
}

async fn enter(server: &TestServer, user: &str) -> Socket {
    let token = format!("user:{user}");
    Door::at(server.address).bearer(&token).enter().await
}

async fn member(server: &TestServer, user: &str, channel: &str) -> Socket {
    let mut socket = enter(server, user).await;
    socket.subscribe(channel).await;
    socket
}

fn update(id: u64, channel: &str, info: &Value) -> Value {
    json!({ "type": "presence_update", "id": id, "channel": channel, "info": info })
}

fn updated(user: &str, info: &Value) -> Value {
    json!({ "type": "event", "event": "member_updated", "data": { "id": user, "info": info } })
}

/// Info of so many bytes.
fn info_of(bytes: usize, letter: char) -> Value {
    json!(letter.to_string().repeat(bytes - 2))
}

/// The answer to command `id`, whatever comes before it.
async fn answer(socket: &mut Socket, id: u64) -> Value {
    loop {
        let message = socket.receive().await;
        if message["id"] == id {
            return message;
        }
    }
}

/// Nothing of this channel is on its way: a marker comes next.
async fn sees_nothing(server: &TestServer, socket: &mut Socket, channel: &str) {
    let fence = server.events.broadcast(channel, "fence", &());
    fence.await.unwrap();
    socket.expect(json!({ "event": "fence" })).await;
}

async fn members(socket: &mut Socket, channel: &str) -> Value {
    let ask = json!({ "type": "presence", "id": 99, "channel": channel });
    socket.send(ask).await;
    answer(socket, 99).await["members"].clone()
}

#[tokio::test]
async fn the_others_see_an_update_in_its_place_and_the_list_agrees() {
    let server = TestServer::start(builder()).await;
    let mut ann = member(&server, "ann", ROOM).await;
    let mut ben = member(&server, "ben", ROOM).await;
    let came = ann.expect(json!({ "event": "member_added" })).await;
    let away = json!({ "name": "ben", "status": "away" });
    ben.send(update(7, ROOM, &away)).await;
    let told = ann.expect(updated("ben", &away)).await;
    let offset = came["offset"].as_u64().unwrap() + 1;
    assert_eq!(told["offset"], offset);
    assert_eq!(told["user_id"], Value::Null, "the server says it");
    // The member is told like the others, and has its answer, in any order.
    let mut replies = [ben.receive().await, ben.receive().await];
    replies.sort_by_key(|reply| reply["type"] == "ok");
    assert!(has(&replies[0], &updated("ben", &away)), "{replies:?}");
    assert_eq!(replies[1], json!({ "type": "ok", "id": 7 }));
    let list = members(&mut ann, ROOM).await;
    let expected =
        json!([{ "id": "ann", "info": { "name": "ann" } }, { "id": "ben", "info": away }]);
    assert_eq!(list, expected);
    // The same again is an answer and no event.
    ben.send(update(8, ROOM, &away)).await;
    ben.expect(json!({ "type": "ok", "id": 8 })).await;
    sees_nothing(&server, &mut ann, ROOM).await;
    // `null` takes it back; without an id there is no answer.
    let back = json!({ "type": "presence_update", "channel": ROOM, "info": null });
    ben.send(back).await;
    let known = json!({ "name": "ben" });
    ann.expect(updated("ben", &known)).await;
    ben.expect(json!({ "event": "fence" })).await;
    ben.expect(updated("ben", &known)).await;
    sees_nothing(&server, &mut ben, ROOM).await;
}

#[tokio::test]
async fn an_update_is_in_the_history_and_recovered_like_any_message() {
    let server = TestServer::start(builder()).await;
    let mut ann = enter(&server, "ann").await;
    let joined = ann.subscribe(ROOM).await;
    ann.send(update(1, ROOM, &json!(1))).await;
    answer(&mut ann, 1).await;
    let mut ben = enter(&server, "ben").await;
    let since = json!({ "channel": ROOM, "since": joined["position"] });
    let recovered = ben.subscribe_with(since).await;
    assert_eq!(recovered["recovered"], true);
    let events = recovered["events"].as_array().unwrap().iter();
    let names: Vec<_> = events.map(|event| &event["event"]).collect();
    assert_eq!(names, ["member_updated", "member_added"]);
    let list = &recovered["presence"]["members"];
    assert_eq!(list[0], json!({ "id": "ann", "info": 1 }));
}

#[tokio::test]
async fn a_connection_subscribes_with_its_own_info_in_one_step() {
    let server = TestServer::start(builder()).await;
    let mut ann = member(&server, "ann", ROOM).await;
    let mut ben = enter(&server, "ben").await;
    let away = json!({ "status": "away" });
    let joined = ben
        .subscribe_with(json!({ "channel": ROOM, "info": away }))
        .await;
    let shown = json!([{ "id": "ann", "info": { "name": "ann" } }, { "id": "ben", "info": away }]);
    assert_eq!(joined["presence"]["members"], shown);
    let came = json!({ "id": "ben", "info": away });
    ann.expect(json!({ "event": "member_added", "data": came }))
        .await;
    // What it takes back is that, and not what it came with.
    ben.send(update(1, ROOM, &Value::Null)).await;
    ann.expect(updated("ben", &json!({ "name": "ben" }))).await;
    answer(&mut ben, 1).await;
    // In a list every channel is judged by itself.
    let mut cyd = enter(&server, "cyd").await;
    let list = json!([
        { "channel": ROOM, "info": away },
        { "channel": CLOSED, "info": away },
        { "channel": "orders", "info": away },
        { "channel": "presence-own-b", "info": null },
    ]);
    cyd.send(json!({ "type": "subscribe", "id": 5, "channels": list }))
        .await;
    let mut replies = Vec::new();
    while replies.len() < 4 {
        let reply = cyd.receive().await;
        assert_eq!(reply["id"], 5, "{reply}");
        let code = reply["code"].as_u64();
        replies.push((reply["channel"].as_str().unwrap().to_owned(), code));
    }
    replies.sort();
    let replies: Vec<_> = replies
        .iter()
        .map(|(channel, code)| (channel.as_str(), *code))
        .collect();
    let expected = [
        ("orders", Some(4313)),
        (CLOSED, Some(4330)),
        (ROOM, None),
        ("presence-own-b", None),
    ];
    assert_eq!(replies, expected);
    let came = json!({ "id": "cyd", "info": away });
    ann.expect(json!({ "event": "member_added", "data": came }))
        .await;
    let list = members(&mut cyd, "presence-own-b").await;
    assert_eq!(list, json!([{ "id": "cyd", "info": { "name": "cyd" } }]));
}

#[tokio::test]
async fn a_subscription_that_moves_shows_other_info_on_the_way() {
    let server = TestServer::start(builder()).await;
    let mut ann = member(&server, "ann", ROOM).await;
    let mut ben = enter(&server, "ben").await;
    let joined = ben.subscribe(ROOM).await;
    ann.expect(json!({ "event": "member_added" })).await;
    let mut moving = json!({ "channel": ROOM, "since": joined["position"], "info": 1 });
    let moved = ben.subscribe_with(moving.clone()).await;
    assert_eq!(moved["presence"]["members"][1]["info"], 1);
    ann.expect(updated("ben", &json!(1))).await;
    // Without a word about it everything stays, and `null` takes it back here too.
    moving["info"].take();
    let stays = json!({ "channel": ROOM, "since": joined["position"] });
    let moved = ben.subscribe_with(stays).await;
    assert_eq!(moved["presence"]["members"][1]["info"], 1);
    ben.subscribe_with(moving).await;
    ann.expect(updated("ben", &json!({ "name": "ben" }))).await;
}

#[tokio::test]
async fn where_the_rule_does_not_allow_it_nothing_changes() {
    let server = TestServer::start(builder()).await;
    let mut ann = member(&server, "ann", CLOSED).await;
    let mut ben = enter(&server, "ben").await;
    let forged = json!({ "name": "ann" });
    let subscribe = json!({ "type": "subscribe", "id": 1, "channel": CLOSED, "info": forged });
    ben.send(subscribe).await;
    let refused = ben.receive().await;
    let expected = json!({
        "type": "subscription_error", "id": 1, "channel": CLOSED, "code": 4330, "retry": false,
        "error": "members may not change their info here",
    });
    assert_eq!(refused, expected);
    ben.subscribe(CLOSED).await;
    ann.expect(
        json!({ "event": "member_added", "data": { "id": "ben", "info": { "name": "ben" } } }),
    )
    .await;
    for info in [forged, Value::Null] {
        ben.send(update(2, CLOSED, &info)).await;
        let expected = json!({
            "type": "error", "id": 2, "code": 4330, "retry": false,
            "error": "members may not change their info here",
        });
        assert_eq!(ben.receive().await, expected);
    }
    sees_nothing(&server, &mut ann, CLOSED).await;
}

#[tokio::test]
async fn an_update_needs_a_subscription_a_channel_with_members_and_little_room() {
    let server = TestServer::start(builder()).await;
    let mut ann = enter(&server, "ann").await;
    ann.subscribe("orders").await;
    // A rule that allows it makes no members.
    ann.subscribe("open-a").await;
    let too_long = info_of(1_025, 'x');
    let rows = [
        (update(1, ROOM, &json!(1)), 4310),
        (update(1, "orders", &json!(1)), 4313),
        (update(1, "open-a", &json!(1)), 4313),
        (update(1, "user:ann", &json!(1)), 4313),
        (
            json!({ "type": "presence_update", "id": 1, "channel": ROOM }),
            4300,
        ),
    ];
    for (command, code) in rows {
        ann.send(command.clone()).await;
        let error = ann.receive().await;
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!(code)),
            "{command}"
        );
    }
    ann.send(json!({ "type": "subscribe", "id": 2, "channel": ROOM, "info": too_long }))
        .await;
    ann.expect(json!({ "type": "subscription_error", "id": 2, "code": 4306, "retry": false }))
        .await;
    ann.subscribe(ROOM).await;
    ann.send(update(3, ROOM, &too_long)).await;
    let expected = json!({
        "type": "error", "id": 3, "code": 4306, "retry": false,
        "error": "a member's info has at most 1024 bytes, this one has 1025",
    });
    assert_eq!(ann.receive().await, expected);
    ann.send(update(4, ROOM, &info_of(1_024, 'x'))).await;
    assert_eq!(answer(&mut ann, 4).await["type"], "ok");
    // The event is the server's alone.
    ann.send(json!({ "type": "publish", "id": 5, "channel": "open-a", "event": "member_updated", "data": 1 }))
        .await;
    assert_eq!(answer(&mut ann, 5).await["code"], 4305);
}

#[tokio::test]
async fn a_member_changes_its_own_info_alone() {
    let server = TestServer::start(builder()).await;
    let mut ann = member(&server, "ann", ROOM).await;
    let mut ben = member(&server, "ben", ROOM).await;
    ann.expect(json!({ "event": "member_added" })).await;
    // Whatever the command says about who it is.
    let mut command = update(1, ROOM, &json!({ "id": "ann", "name": "ann" }));
    for field in ["user", "user_id", "member", "data", "socket_id"] {
        command[field] = json!("ann");
    }
    command["data"] = json!({ "id": "ann" });
    command["channel_data"] = json!(r#"{"id":"ann"}"#);
    ben.send(command).await;
    ann.expect(updated("ben", &json!({ "id": "ann", "name": "ann" })))
        .await;
    let list = members(&mut ann, ROOM).await;
    assert_eq!(list[0], json!({ "id": "ann", "info": { "name": "ann" } }));
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn updates_are_paid_for_from_the_budgets_of_publishing() {
    let mut limits = Limits::default();
    limits.client_payload_bytes_max = 3_000;
    limits.client_bytes_burst = 3_000;
    limits.client_bytes_per_second = 1;
    let server = TestServer::start(builder().limits(limits)).await;
    let mut ann = member(&server, "ann", ROOM).await;
    ann.subscribe("open-a").await;
    for (id, letter) in [(1, 'a'), (2, 'b')] {
        ann.send(update(id, ROOM, &info_of(1_000, letter))).await;
        assert_eq!(answer(&mut ann, id).await["type"], "ok");
    }
    // Joining with info costs the same, and a publish comes from the same budget.
    let with_info = |id: u64| json!({ "type": "subscribe", "id": id, "channel": "presence-own-b", "info": info_of(900, 'c') });
    ann.send(with_info(3)).await;
    assert_eq!(answer(&mut ann, 3).await["type"], "subscription_succeeded");
    ann.send(update(4, ROOM, &info_of(1_000, 'd'))).await;
    let error = answer(&mut ann, 4).await;
    let refusal = (&error["type"], &error["code"], &error["retry"]);
    assert_eq!(refusal, (&json!("error"), &json!(4322), &json!(true)));
    assert!(error["retry_after"].as_u64().unwrap() > 800_000, "{error}");
    ann.send(json!({ "type": "publish", "id": 5, "channel": "open-a", "event": "e", "data": "x".repeat(500) }))
        .await;
    assert_eq!(answer(&mut ann, 5).await["code"], 4322);
    let mut again = with_info(6);
    again["channel"] = json!("presence-own-c");
    ann.send(again).await;
    let error = answer(&mut ann, 6).await;
    let refusal = (&error["type"], &error["code"]);
    assert_eq!(refusal, (&json!("subscription_error"), &json!(4322)));
    assert!(error["retry_after"].as_u64().unwrap() > 700_000, "{error}");
    ann.subscribe("presence-own-c").await;
}

#[tokio::test]
async fn a_channel_takes_so_much_info_of_all_its_members_and_keeps_no_joiner_out() {
    let server = TestServer::start(builder()).await;
    let room = "presence-own-narrow";
    let mut ann = member(&server, "ann", room).await;
    let mut ben = member(&server, "ben", room).await;
    // At once as much as one payload may have.
    ann.send(json!({ "type": "publish", "id": 1, "channel": room, "event": "e", "data": "x".repeat(32_000) }))
        .await;
    assert_eq!(answer(&mut ann, 1).await["type"], "ok");
    ben.send(update(2, room, &info_of(1_000, 'a'))).await;
    let error = answer(&mut ben, 2).await;
    let refusal = (&error["type"], &error["code"], &error["retry"]);
    assert_eq!(refusal, (&json!("error"), &json!(4323), &json!(true)));
    assert!(error["retry_after"].as_u64().unwrap() >= 100, "{error}");
    let mut cyd = enter(&server, "cyd").await;
    let info = info_of(1_000, 'c');
    let joined = cyd
        .subscribe_with(json!({ "channel": room, "info": info }))
        .await;
    assert_eq!(joined["presence"]["members"][2]["info"], info);
    // It takes nothing that the others would miss, and who moves is no joiner.
    let mut since = json!({ "type": "subscribe", "id": 3, "channel": room, "info": info });
    since["since"] = joined["position"].clone();
    cyd.send(since).await;
    let refused = answer(&mut cyd, 3).await;
    assert_eq!(refused["code"], 4323, "{refused}");
    ben.send(update(4, room, &json!("a"))).await;
    assert_eq!(answer(&mut ben, 4).await["type"], "ok");
}

/// Otherwise one user's infos would keep the channel in debt, and refuse everything that the others publish.
#[tokio::test]
async fn infos_that_come_with_subscriptions_leave_the_others_their_turn() {
    let server = TestServer::start(builder()).await;
    let room = "presence-own-narrow";
    let mut ann = member(&server, "ann", room).await;
    let mut ben = enter(&server, "ben").await;
    let mut moving = json!({ "type": "subscribe", "channel": room, "info": info_of(1_000, 'a') });
    moving["since"] = ben.subscribe(room).await["position"].clone();
    let mut refused = 0;
    for id in 0..50 {
        moving["id"] = json!(id);
        ben.send(moving.clone()).await;
        let answer = answer(&mut ben, id).await;
        refused += u32::from(answer["code"] == 4323);
    }
    assert!(refused > 5, "{refused}");
    ann.send(json!({ "type": "publish", "id": 1, "channel": room, "event": "e", "data": 1 }))
        .await;
    assert_eq!(answer(&mut ann, 1).await["type"], "ok");
}

#[tokio::test]
async fn an_update_is_one_command_among_others() {
    let mut limits = Limits::default();
    limits.commands_per_second = 1;
    limits.commands_burst = 4;
    let server = TestServer::start(builder().limits(limits)).await;
    let mut ann = member(&server, "ann", ROOM).await;
    for id in 1..4 {
        ann.send(update(id, ROOM, &json!(id))).await;
        assert_eq!(answer(&mut ann, id).await["type"], "ok");
    }
    ann.send(update(4, ROOM, &json!(4))).await;
    let error = answer(&mut ann, 4).await;
    assert_eq!(error["code"], 4307, "{error}");
    assert!(error["retry_after"].is_u64(), "{error}");
}

/// Lets every user into presence channels for half a second.
struct HalfASecond;

#[async_trait]
impl Authorizer for HalfASecond {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let token = credentials.token.ok_or(Denied::NoCredentials)?;
        Ok(Identity::new(UserId::new(token.expose()).unwrap()))
    }

    async fn subscribe(&self, _caller: &Caller, _channel: &ChannelName) -> Result<Grant, Denied> {
        let end = SystemTime::now() + Duration::from_millis(500);
        Ok(Grant::default().expiring_at(end))
    }
}

#[tokio::test]
async fn a_permission_that_has_ended_allows_no_update() {
    let builder = builder().authorizer(HalfASecond);
    let server = TestServer::start(builder).await;
    let mut ann = Door::at(server.address).bearer("ann").enter().await;
    ann.subscribe(ROOM).await;
    ann.expect(json!({ "type": "unsubscribed", "code": 4303 }))
        .await;
    ann.send(update(1, ROOM, &json!(1))).await;
    ann.expect(json!({ "type": "error", "id": 1, "code": 4310 }))
        .await;
}

#[tokio::test]
async fn who_was_removed_or_disconnected_changes_nothing_more() {
    let server = TestServer::start(builder()).await;
    let mut ann = member(&server, "ann", ROOM).await;
    let mut ben = member(&server, "ben", ROOM).await;
    ann.expect(json!({ "event": "member_added" })).await;
    let socket = ben.id.parse().unwrap();
    server.events.unsubscribe(socket, ROOM).await.unwrap();
    ben.expect(json!({ "type": "unsubscribed", "code": 4318 }))
        .await;
    ben.send(update(1, ROOM, &json!(1))).await;
    ben.expect(json!({ "type": "error", "id": 1, "code": 4310 }))
        .await;
    ann.expect(json!({ "event": "member_removed" })).await;
    // Updates that are on their way when the order comes are before it, or nothing.
    let mut cyd = member(&server, "cyd", ROOM).await;
    ann.expect(json!({ "event": "member_added" })).await;
    for id in 1..100 {
        cyd.send(update(id, ROOM, &json!(id))).await;
    }
    let user = UserId::new("cyd").unwrap();
    server.events.disconnect_user(&user).await.unwrap();
    loop {
        let event = ann.receive().await;
        if event["event"] == "member_removed" {
            assert_eq!(event["data"]["id"], "cyd");
            break;
        }
        assert_eq!(event["event"], "member_updated", "{event}");
    }
    sees_nothing(&server, &mut ann, ROOM).await;
}

#[tokio::test]
async fn the_dialect_without_member_lists_says_nothing_of_updates() {
    let server = TestServer::start(builder()).await;
    let door = Door::at(server.address).bearer("user:ann");
    let mut ann = door.subprotocols("app-events.v1").open().await.unwrap();
    for kind in ["connected", "subscribed"] {
        ann.expect(json!({ "type": kind })).await;
    }
    // It may come with info all the same.
    ann.send(json!({ "action": "subscribe", "channel": ROOM, "info": { "status": "here" } }))
        .await;
    ann.expect(json!({ "type": "subscribed", "channel": ROOM }))
        .await;
    let mut ben = enter(&server, "ben").await;
    let joined = ben.subscribe(ROOM).await;
    let shown = &joined["presence"]["members"][0];
    assert_eq!(*shown, json!({ "id": "ann", "info": { "status": "here" } }));
    ann.expect(json!({ "data": { "type": "member_added" } }))
        .await;
    ben.send(update(1, ROOM, &json!(1))).await;
    answer(&mut ben, 1).await;
    // Neither the live event nor one among others in one write.
    for number in 0..20 {
        ben.send(update(2, ROOM, &json!(number))).await;
        let data = json!(number);
        server.events.broadcast(ROOM, "n", &data).await.unwrap();
    }
    for number in 0..20 {
        let message = json!({ "type": "n", "data": number });
        let expected = json!({ "type": "message", "channel": ROOM, "data": message });
        assert_eq!(ann.receive().await, expected);
    }
    ann.send(json!({ "action": "presence_update", "channel": ROOM, "info": 1 }))
        .await;
    ann.expect(json!({ "type": "error", "code": 4001 })).await;
}

/// T19: what one member does without end costs that member, and the others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_updates_without_end_is_closed_and_the_others_are_served() {
    let server = TestServer::start(builder()).await;
    let mut witness = member(&server, "ann", ROOM).await;
    let mut flooder = member(&server, "ben", ROOM).await;
    let limits = Limits::default();
    let started = Instant::now();
    let flooding = tokio::spawn(async move {
        for number in 0..3_000 {
            let letter = if number % 2 == 0 { 'a' } else { 'b' };
            let info = info_of(1_000, letter);
            flooder.send(update(number, ROOM, &info)).await;
        }
        let mut refused = 0;
        while let Some(message) = within("an end", flooder.next()).await {
            let is_refusal = message["code"] == 4307 || message["code"] == 4322;
            refused += usize::from(message["type"] == "error" && is_refusal);
        }
        (refused, flooder.closed().await.0)
    });
    let (mut updates, mut slowest) = (0_u32, Duration::ZERO);
    let mut is_gone = false;
    let mut id = 0;
    let mut ticks = interval(Duration::from_millis(20));
    while !is_gone {
        ticks.tick().await;
        id += 1;
        let asked = Instant::now();
        witness.send(json!({ "type": "ping", "id": id })).await;
        loop {
            let message = witness.receive().await;
            match message["event"].as_str() {
                Some("member_updated") => updates += 1,
                Some("member_removed") => is_gone = true,
                _ => {}
            }
            if message["type"] == "pong" {
                break;
            }
        }
        slowest = slowest.max(asked.elapsed());
        is_gone |= flooding.is_finished();
    }
    let (refused, code) = within("the end of the flood", flooding).await.unwrap();
    assert_eq!(code, 4106);
    assert!(refused > 500, "{refused}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // As many as the flooder may have commands, and not as many as it sent.
    let seconds = u32::try_from(started.elapsed().as_secs()).unwrap() + 1;
    let allowed = limits.commands_burst + seconds * limits.commands_per_second;
    assert!(updates <= allowed, "{updates} of {allowed}");
}

/// A server that shares a Redis with others.
async fn node(redis: &Redis, engine_deadline: Duration) -> TestServer {
    let options: RedisOptions = redis.url().parse().unwrap();
    let mut limits = Limits::default();
    limits.engine_deadline = engine_deadline;
    let builder = suite::builder().channel_rules(rules());
    TestServer::start(builder.limits(limits).engine(Engine::redis(options))).await
}

#[tokio::test]
async fn the_members_of_every_server_see_an_update_and_no_more_when_its_connection_comes_back() {
    let redis = Redis::start().await;
    let deadline = Limits::default().engine_deadline;
    let (here, there) = (node(&redis, deadline).await, node(&redis, deadline).await);
    let mut ann = member(&there, "ann", ROOM).await;
    let mut ben = member(&here, "ben", ROOM).await;
    ann.expect(json!({ "event": "member_added" })).await;
    let away = json!({ "status": "away" });
    ben.send(update(1, ROOM, &away)).await;
    assert_eq!(answer(&mut ben, 1).await["type"], "ok");
    ann.expect(updated("ben", &away)).await;
    let shown = json!([{ "id": "ann", "info": { "name": "ann" } }, { "id": "ben", "info": away }]);
    assert_eq!(members(&mut ann, ROOM).await, shown);
    // The socket is lost, and the client is back on the other server with what it shows, in one step.
    drop(ben);
    let mut ben = enter(&there, "ben").await;
    let joined = ben
        .subscribe_with(json!({ "channel": ROOM, "info": away }))
        .await;
    assert_eq!(joined["presence"]["members"], shown);
    sees_nothing(&there, &mut ann, ROOM).await;
    ben.expect(json!({ "event": "fence" })).await;
    ben.send(update(2, ROOM, &Value::Null)).await;
    ann.expect(updated("ben", &json!({ "name": "ben" }))).await;
}

#[tokio::test]
async fn an_update_that_redis_did_not_answer_is_repeated_and_told_once() {
    let redis = Redis::start().await;
    let server = node(&redis, Duration::from_millis(500)).await;
    let mut ann = member(&server, "ann", ROOM).await;
    let mut ben = member(&server, "ben", ROOM).await;
    ann.expect(json!({ "event": "member_added" })).await;
    redis.pause();
    ben.send(update(1, ROOM, &json!("late"))).await;
    let refused = answer(&mut ben, 1).await;
    redis.resume();
    let expected = json!({
        "type": "error", "id": 1, "code": 4315, "retry": true,
        "error": "temporarily unavailable, try again",
    });
    assert_eq!(refused, expected);
    eventually("Redis to answer again", async || {
        ben.send(update(2, ROOM, &json!("late"))).await;
        answer(&mut ben, 2).await["type"] == "ok"
    })
    .await;
    ann.expect(updated("ben", &json!("late"))).await;
    eventually("Redis to take a message", async || {
        let fence = server.events.broadcast(ROOM, "fence", &());
        fence.await.is_ok()
    })
    .await;
    ann.expect(json!({ "event": "fence" })).await;
}
