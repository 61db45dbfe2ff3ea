//! The application over real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fanfare_tests::http::{self, Answer};
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::within;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    address: SocketAddr,
    chat: Arc<Chat>,
    stop: oneshot::Sender<()>,
    end: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, chat) = Chat::start(Store::in_memory(), Engine::memory())
            .await
            .unwrap();
        // The page's folder has an `index.js`, as a built client has.
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata");
        let app = app::router(&server, &chat, &ClientPackage::find(&package).unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let end = tokio::spawn(async move { server.serve_app(listener, app, stopped).await });
        Self {
            address,
            chat,
            stop,
            end,
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        within("the end of the server", self.end)
            .await
            .unwrap()
            .unwrap();
    }

    async fn login(&self, name: &str, team: &str) -> Visitor<'_> {
        let body = json!({ "name": name, "team": team });
        let answer = http::post(self.address, "/login", &[], &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Visitor {
            server: self,
            cookie,
        }
    }
}

/// Somebody who is signed in.
struct Visitor<'a> {
    server: &'a Running,
    cookie: String,
}

impl Visitor<'_> {
    async fn post(&self, path: &str, body: &Value) -> Answer {
        let origin = format!("http://{}", self.server.address);
        let headers = [("cookie", self.cookie.as_str()), ("origin", &origin)];
        http::post(self.server.address, path, &headers, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        let headers = [("cookie", self.cookie.as_str())];
        http::request(self.server.address, "GET", path, &headers, "").await
    }

    async fn say(&self, room: &str, text: &str, key: &str) -> Answer {
        let path = format!("/api/rooms/{room}/messages");
        self.post(&path, &json!({ "text": text, "key": key })).await
    }

    fn door(&self) -> Door {
        let origin = format!("http://{}", self.server.address);
        Door::at(self.server.address)
            .header("cookie", &self.cookie)
            .header("origin", &origin)
    }

    async fn connect(&self) -> Socket {
        self.door().enter().await
    }
}

#[tokio::test]
async fn what_is_said_is_kept_and_reaches_the_room_once() {
    let server = Running::start().await;
    let ann = server.login("Ann", "design").await;
    let bob = server.login("Bob", "engineering").await;
    let mut page = bob.connect().await;
    page.subscribe("presence-room.lobby").await;

    let said = ann.say("lobby", " hello ", "k1").await;
    assert_eq!(said.status, 200, "{said:?}");
    let again = ann.say("lobby", "hello", "k1").await;
    assert_eq!(again.json(), said.json());
    ann.say("lobby", "bye", "k2").await;
    for (number, text) in [(1, "hello"), (2, "bye")] {
        let event = page.expect(json!({ "event": "message" })).await;
        assert_eq!(event["data"]["number"], number);
        assert_eq!(event["data"]["text"], text);
        assert_eq!(event["user_id"], "ann");
    }
    let kept = bob.get("/api/rooms/lobby/messages").await.json();
    let texts = kept.as_array().unwrap().iter().map(|said| &said["text"]);
    assert_eq!(texts.collect::<Vec<_>>(), ["hello", "bye"]);
    page.close().await;
    server.stop().await;
}

#[tokio::test]
async fn a_team_room_is_for_its_team() {
    let server = Running::start().await;
    let ann = server.login("Ann", "design").await;
    let bob = server.login("Bob", "engineering").await;
    for (visitor, status) in [(&ann, 200), (&bob, 403)] {
        assert_eq!(visitor.say("design", "psst", "k").await.status, status);
        let read = visitor.get("/api/rooms/design/messages").await;
        assert_eq!(read.status, status);
        let page = visitor.connect().await;
        let question = json!({ "socket_id": page.id, "channel": "private-team.design" });
        let permission = visitor.post("/ws/auth", &question).await;
        assert_eq!(permission.status, status, "{permission:?}");
        page.close().await;
    }
    assert_eq!(ann.say("nowhere", "psst", "k").await.status, 404);
    let get = async |path| http::request(server.address, "GET", path, &[], "").await;
    assert_eq!(get("/api/rooms/lobby/messages").await.status, 401);
    assert_eq!(get("/api/me").await.json(), json!({ "user": null }));
    server.stop().await;
}

#[tokio::test]
async fn pokes_and_mentions_reach_one_user() {
    let server = Running::start().await;
    let ann = server.login("Ann", "design").await;
    let bob = server.login("Bob Lee", "engineering").await;
    let mut page = bob.connect().await;

    let poked = ann.post("/api/poke", &json!({ "user": "bob-lee" })).await;
    assert_eq!(poked.status, 202, "{poked:?}");
    let poke = page.expect(json!({ "event": "poke" })).await;
    assert_eq!(poke["data"]["from"]["name"], "Ann");

    // What is said where Bob may not read is not told to him either: the next one he gets is of the lobby.
    ann.say("design", "@bob-lee must not know", "k1").await;
    ann.say("lobby", "@bob-lee, good morning", "k2").await;
    let mention = page.expect(json!({ "event": "mention" })).await;
    assert_eq!(mention["data"]["room"], "lobby");
    page.close().await;
    server.stop().await;
}

#[tokio::test]
async fn a_cut_line_ends_connections_and_refuses_new_ones_for_a_while() {
    let server = Running::start().await;
    let ann = server.login("Ann", "design").await;
    let bob = server.login("Bob", "design").await;
    let mut page = ann.connect().await;
    let mut other = bob.connect().await;

    let too_long = ann.post("/api/cut", &json!({ "seconds": 31 })).await;
    assert_eq!(too_long.status, 400, "{too_long:?}");
    let cut = ann.post("/api/cut", &json!({ "seconds": 30 })).await;
    assert_eq!(cut.json(), json!({ "connections": 1 }));
    while page.next().await.is_some() {}
    let refused = ann.door().open().await.unwrap_err();
    assert_eq!(refused.status(), 503);
    other.is_quiet().await;
    bob.connect().await.close().await;

    // The clock has gone on: the line is whole again.
    let user = fanfare_server::protocol::UserId::new("ann").unwrap();
    let now = std::time::Instant::now();
    server.chat.lines.cut(&user, Duration::ZERO, now);
    ann.connect().await.close().await;
    other.close().await;
    server.stop().await;
}

#[tokio::test]
async fn signing_out_ends_session_and_connections() {
    let server = Running::start().await;
    let ann = server.login("Ann", "design").await;
    let mut page = ann.connect().await;
    assert_eq!(ann.get("/api/me").await.json()["user"]["id"], "ann");
    assert_eq!(ann.post("/logout", &json!({})).await.status, 204);
    page.expect(json!({ "type": "disconnect", "reconnect": false }))
        .await;
    assert_eq!(page.closed().await.0, 4005);
    assert_eq!(ann.get("/api/me").await.json()["user"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn the_page_and_the_client_are_served() {
    let server = Running::start().await;
    let get = async |path| http::request(server.address, "GET", path, &[], "").await;
    let page = get("/").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let html = String::from_utf8(page.body).unwrap();
    let quoted = html.split('"').filter(|text| text.starts_with('/'));
    for path in quoted {
        assert_eq!(get(path).await.status, 200, "{path}");
    }
    let client = get("/fanfare/index.js").await;
    assert_eq!(client.header("content-type"), Some("text/javascript"));
    assert_eq!(get("/fanfare/../Cargo.toml").await.status, 404);
    server.stop().await;
}
