use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    end: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (server, app) = application().await.unwrap();
        let end = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.serve_app(listener, app, stopped).await.unwrap();
        });
        Self { address, stop, end }
    }

    /// Sends a request and answers its whole response.
    async fn post(&self, path: &str, cookie: &str, media_type: &str, body: &str) -> String {
        let address = self.address;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nCookie: {cookie}\r\n\
             Content-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        in_time(stream.read_to_string(&mut response)).await.unwrap();
        response
    }

    /// Signs in and answers the cookie.
    async fn login(&self, name: &str) -> String {
        let form = "application/x-www-form-urlencoded";
        let response = self
            .post("/login", "a=1", form, &format!("name={name}"))
            .await;
        assert!(response.starts_with("HTTP/1.1 303"), "{response}");
        let cookie = response.split("set-cookie: ").nth(1).unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn connect(&self, headers: &[(&'static str, &str)]) -> Result<Page, Error> {
        let mut request = format!("ws://{}/ws", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = connect_async(request).await?;
        Ok(Page(socket))
    }

    async fn connect_with(&self, cookie: &str) -> Page {
        let origin = format!("http://{}", self.address);
        let headers = [("cookie", cookie), ("origin", origin.as_str())];
        self.connect(&headers).await.unwrap()
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        in_time(self.end).await.unwrap();
    }
}

struct Page(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Page {
    async fn send(&mut self, command: Value) {
        self.0
            .send(Message::text(command.to_string()))
            .await
            .unwrap();
    }

    /// Sends a command with an id and waits for its reply.
    async fn ask(&mut self, mut command: Value) -> Value {
        let id = Value::from(7);
        command["id"] = id.clone();
        self.send(command).await;
        loop {
            let message = self.receive().await;
            if message["id"] == id {
                return message;
            }
        }
    }

    async fn next(&mut self, kind: &str) -> Value {
        loop {
            let message = self.receive().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    async fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = in_time(self.0.next()).await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let limit = timeout(Duration::from_secs(10), future);
    limit.await.expect("nothing happened for ten seconds")
}

#[tokio::test]
async fn the_session_signs_the_connection_in() {
    let server = Running::start().await;
    let cookie = server.login("ann").await;
    let mut page = server.connect_with(&cookie).await;
    let connected = page.next("connected").await;
    assert_eq!(connected["user_id"], "ann");

    let subscribe = |channel: &str| json!({ "type": "subscribe", "channel": channel });
    let lobby = page.ask(subscribe("presence-lobby")).await;
    let ann = json!({ "id": "ann", "info": { "name": "ann" } });
    assert_eq!(lobby["presence"]["members"], json!([ann]));
    let own = page.ask(subscribe("private-user.ann")).await;
    assert_eq!(own["type"], "subscription_succeeded");
    let other = page.ask(subscribe("private-user.bob")).await;
    assert_eq!(other["error"], "access denied");

    let response = server.post("/remind", &cookie, "text/plain", "").await;
    assert!(response.starts_with("HTTP/1.1 202"), "{response}");
    let reminder = page.next("event").await;
    assert_eq!(reminder["channel"], "user:ann");
    assert_eq!(reminder["data"]["text"], "ann, drink some water");
    drop(page);
    server.stop().await;
}

#[tokio::test]
async fn another_sites_page_gets_no_connection_with_the_cookie() {
    let server = Running::start().await;
    let cookie = server.login("ann").await;
    let own = format!("http://{}", server.address);
    let with = |origin: Option<&str>| {
        let origin = origin.map(str::to_owned);
        let (server, cookie) = (&server, &cookie);
        async move {
            let mut headers = vec![("cookie", cookie.as_str())];
            headers.extend(origin.as_deref().map(|origin| ("origin", origin)));
            server.connect(&headers).await
        }
    };
    assert!(with(Some(&own)).await.is_ok());
    for origin in [
        Some("https://evil.example"),
        Some("null"),
        Some("http://127.0.0.1"),
        None,
    ] {
        match with(origin).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403, "{origin:?}"),
            other => panic!("{origin:?}: {:?}", other.map(|_| ())),
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_auth_endpoint_knows_the_session_too() {
    let server = Running::start().await;
    let cookie = server.login("ann").await;
    let mut page = server.connect_with(&cookie).await;
    let socket = page.next("connected").await["socket_id"].clone();
    let ask = |channel: &str| json!({ "socketId": socket, "channel": channel }).to_string();

    let response = server
        .post(
            "/ws/auth",
            &cookie,
            "application/json",
            &ask("private-user.ann"),
        )
        .await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    let auth = serde_json::from_str::<Value>(body).unwrap()["auth"].clone();
    let subscribe = json!({ "type": "subscribe", "channel": "private-user.ann", "auth": auth });
    assert_eq!(page.ask(subscribe).await["type"], "subscription_succeeded");

    let denied = server
        .post(
            "/ws/auth",
            &cookie,
            "application/json",
            &ask("private-user.bob"),
        )
        .await;
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    let nobody = server
        .post(
            "/ws/auth",
            "a=1",
            "application/json",
            &ask("private-user.ann"),
        )
        .await;
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    drop(page);
    server.stop().await;
}

#[tokio::test]
async fn signing_out_ends_the_users_connections() {
    let server = Running::start().await;
    let cookie = server.login("ann").await;
    let mut page = server.connect_with(&cookie).await;
    page.next("connected").await;
    let response = server.post("/logout", &cookie, "text/plain", "").await;
    assert!(response.starts_with("HTTP/1.1 303"), "{response}");
    assert_eq!(page.next("disconnect").await["reconnect"], false);
    drop(page);

    let mut page = server.connect_with(&cookie).await;
    assert_eq!(page.next("connected").await.get("user_id"), None);
    drop(page);
    server.stop().await;
}
