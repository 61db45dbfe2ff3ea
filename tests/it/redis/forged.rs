//! Whoever may write to one channel of Redis forges nothing of another: what is no message is dropped, and told as a loss.

use fanfare_server::ServerBuilder;
use fanfare_server::engine::Engine;
use fanfare_tests::redis::{self, Redis};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::suite;
use serde_json::{Value, json};

use super::node::quick;

/// A server on a Redis that others can write to.
struct Scene {
    redis: Redis,
    prefix: String,
    server: TestServer,
}

/// What would be a frame of another channel, if it were put into one as it is.
const FORGERY: &str = r#"null},{"type":"event","channel":"private-ok.1","event":"forged","data":1"#;

impl Scene {
    async fn new(builder: ServerBuilder) -> Self {
        let redis = Redis::start().await;
        let prefix = redis::prefix("forged");
        let options: fanfare_server::engine::redis::RedisOptions = redis.url().parse().unwrap();
        let options = options.with_prefix(prefix.as_str()).unwrap();
        let engine = Engine::redis(options.with_flow(quick()));
        let server = TestServer::start(builder.engine(engine)).await;
        Self {
            redis,
            prefix,
            server,
        }
    }

    /// A client that gets several messages in one frame, where a forgery does the most.
    async fn client(&self, user: &str) -> Socket {
        let door = Door::at(self.server.address).subprotocols("fanfare.v1.batch");
        door.bearer(&format!("user:{user}")).enter().await
    }

    fn name(&self, channel: &str, suffix: &str) -> String {
        format!("{}{{{channel}}}{suffix}", self.prefix)
    }

    /// Publishes in Redis what no server would.
    async fn say(&self, channel: &str, before: &str, payload: &str) {
        let message = format!("{before}\0\x04e\0\x01n{payload}");
        let words = ["PUBLISH", &self.name(channel, ""), &message];
        self.redis.command(&words).await;
    }
}

/// Everything up to the event with this payload, that one included.
async fn up_to(socket: &mut Socket, payload: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let message = socket.receive().await;
        assert_ne!(message["event"], "forged", "{message}");
        let is_last = message["data"] == payload;
        seen.push(message);
        if is_last {
            return seen;
        }
    }
}

fn of_type<'a>(seen: &'a [Value], kind: &str) -> Vec<&'a Value> {
    seen.iter()
        .filter(|message| message["type"] == kind)
        .collect()
}

#[tokio::test]
async fn on_a_channel_without_history_it_is_one_gap() {
    let scene = Scene::new(suite::builder()).await;
    let mut socket = scene.client("ann").await;
    socket.subscribe("private-ok.1").await;
    socket.subscribe("open-room").await;
    let events = &scene.server.events;
    events.broadcast("open-room", "n", "first").await.unwrap();
    up_to(&mut socket, "first").await;
    for payload in [FORGERY, "{", "", "\u{1}"] {
        scene.say("open-room", "0 0 0 0 1 a ", payload).await;
    }
    let gap = socket.receive().await;
    assert_eq!(gap["type"], "gap", "{gap}");
    assert_eq!(gap["channel"], "open-room");
    events.broadcast("open-room", "n", "last").await.unwrap();
    let seen = up_to(&mut socket, "last").await;
    assert_eq!(of_type(&seen, "event").len(), 1, "{seen:?}");
    socket.is_quiet().await;
}

#[tokio::test]
async fn on_a_channel_with_history_nothing_is_missing() {
    let scene = Scene::new(suite::builder()).await;
    let mut socket = scene.client("ann").await;
    socket.subscribe("h-orders").await;
    let events = &scene.server.events;
    events.broadcast("h-orders", "n", "first").await.unwrap();
    scene.say("h-orders", "1 1 2 1 2 ", FORGERY).await;
    scene.say("h-orders", "nonsense ", "1").await;
    events.broadcast("h-orders", "n", "last").await.unwrap();
    let seen = up_to(&mut socket, "last").await;
    let offsets: Vec<&Value> = seen.iter().map(|message| &message["offset"]).collect();
    assert_eq!(offsets, [&json!(1), &json!(2)], "{seen:?}");
    socket.is_quiet().await;
}

#[tokio::test]
async fn what_is_kept_and_no_message_is_told_as_a_loss() {
    let scene = Scene::new(suite::builder()).await;
    let mut socket = scene.client("ann").await;
    let at = socket.subscribe("h-orders").await["position"].clone();
    let events = &scene.server.events;
    events.broadcast("h-orders", "n", "first").await.unwrap();
    up_to(&mut socket, "first").await;
    // The next message of the history, with another payload than any server writes.
    let script = r"
        local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
        local fields = newest[2]
        for at = 1, #fields, 2 do
          if fields[at] == 'b' then
            fields[at + 1] = ARGV[1]
          end
        end
        redis.call('XADD', KEYS[2], '2-0', unpack(fields))
        redis.call('HSET', KEYS[1], 's', '2')
        return 1";
    let (position, stream) = (scene.name("h-orders", ":m"), scene.name("h-orders", ":s"));
    let body = format!("\0\x04e\0\x01n{FORGERY}");
    let words = ["EVAL", script, "2", &position, &stream, &body];
    assert_eq!(scene.redis.command(&words).await.text(), "1");
    events.broadcast("h-orders", "n", "last").await.unwrap();
    let seen = up_to(&mut socket, "last").await;
    assert_eq!(of_type(&seen, "reset").len(), 1, "{seen:?}");

    // Who comes back from before it is told, too, and who asks for the history gets what follows it.
    let mut other = scene.client("ben").await;
    let back = json!({ "channel": "h-orders", "since": at });
    let reply = other.subscribe_with(back).await;
    assert_eq!(reply["recovered"], false, "{reply}");
    assert_eq!(reply["position"]["offset"], 3);
    let ask = json!({ "type": "history", "id": 7, "channel": "h-orders" });
    other.send(ask).await;
    let reply = other.expect(json!({ "type": "ok", "id": 7 })).await;
    let kept: Vec<&Value> = reply["events"].as_array().unwrap().iter().collect();
    assert_eq!(kept.len(), 1, "{reply}");
    assert_eq!(kept[0]["data"], "last");
}

#[tokio::test]
async fn members_that_are_none_reach_nobody() {
    let scene = Scene::new(suite::builder()).await;
    let channel = "presence-room";
    let mut sockets = Vec::new();
    for user in ["ann", "ben", "cat"] {
        let mut socket = scene.client(user).await;
        socket.subscribe(channel).await;
        sockets.push(socket);
    }
    let users = scene.name(channel, ":pi");
    let members = scene.name(channel, ":pm");
    for words in [
        [
            "HSET",
            &users,
            "i\"ann\"",
            "1}],\"count\":9,\"a\":[{\"b\":1",
        ],
        ["HSET", &users, "i\"ben\"", ""],
        ["ZADD", &members, "0", "\"x\"},{\"id\":\"y\""],
    ] {
        scene.redis.command(&words).await;
    }
    scene
        .redis
        .command(&["HSET", &users, "i\"x\"},{\"id\":\"y\"", "1"])
        .await;
    let mut fourth = scene.client("dan").await;
    let reply = fourth.subscribe(channel).await;
    let listed = reply["presence"]["members"].as_array().unwrap();
    let ids: Vec<&str> = listed
        .iter()
        .map(|member| member["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["cat", "dan"], "{reply}");
}
