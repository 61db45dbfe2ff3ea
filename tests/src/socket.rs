//! A peer that speaks JSON text over a plain WebSocket: what a page can do without any library.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Response};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::within;

/// A peer that speaks JSON text.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// What came together with what was asked for.
    waiting: VecDeque<Value>,
    closed: Option<(u16, String)>,
    frames: usize,
    /// The subprotocol that the server chose.
    pub subprotocol: Option<String>,
    /// What the server calls the connection, once [`Socket::greeted`].
    pub id: String,
}

/// Where to connect to, and what to show.
#[derive(Debug, Clone)]
pub struct Door {
    address: SocketAddr,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Door {
    /// `/ws` at an address, with nothing to show.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            path: "/ws".to_owned(),
            headers: Vec::new(),
        }
    }

    /// Another path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// A bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Subprotocols to choose from.
    #[must_use]
    pub fn subprotocols(self, names: &str) -> Self {
        self.header("sec-websocket-protocol", names)
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The server's answer when it does not switch protocols.
    pub async fn open(&self) -> Result<Socket, Response<Option<Vec<u8>>>> {
        match self.attempt().await {
            Ok(socket) => Ok(socket),
            Err(Error::Http(response)) => Err(*response),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    /// Shakes hands, if there is anybody.
    ///
    /// # Errors
    /// Whatever went wrong.
    pub async fn attempt(&self) -> Result<Socket, Error> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{}{}", self.address, self.path);
        let mut request = url.into_client_request()?;
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        let shaking = tokio_tungstenite::client_async(request, stream);
        let (stream, response) = within("a handshake", shaking).await?;
        let subprotocol = response.headers().get("sec-websocket-protocol");
        Ok(Socket {
            stream,
            waiting: VecDeque::new(),
            closed: None,
            frames: 0,
            subprotocol: subprotocol.map(|name| name.to_str().unwrap().to_owned()),
            id: String::new(),
        })
    }

    /// Shakes hands and takes `connected`, and the confirmation of the personal channel when the handshake says who it is.
    pub async fn enter(&self) -> Socket {
        let mut socket = self.open().await.unwrap();
        socket.greeted().await;
        socket
    }
}

impl Socket {
    /// An anonymous connection at `/ws` that has seen `connected`.
    pub async fn connect(address: SocketAddr) -> Self {
        Door::at(address).enter().await
    }

    /// Takes `connected`, and what follows it when the connection belongs to a user already.
    pub async fn greeted(&mut self) -> Value {
        let connected = self
            .expect(json!({ "type": "connected", "protocol": 1 }))
            .await;
        connected["socket_id"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.id);
        if connected["user_id"].is_string() {
            let joined = json!({ "type": "subscription_succeeded", "recovered": false });
            let joined = self.expect(joined).await;
            assert!(joined["channel"].as_str().unwrap().starts_with("user:"));
        }
        connected
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    /// Sends text as it is.
    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send_frame(Message::text(text.into())).await;
    }

    /// Sends a frame. A peer that is gone meanwhile is no failure: receiving will tell.
    pub async fn send_frame(&mut self, frame: Message) {
        let _ = within("room to send", self.stream.send(frame)).await;
    }

    /// The next message; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The next message.
    pub async fn receive(&mut self) -> Value {
        let next = within("a message", self.next()).await;
        next.unwrap_or_else(|| panic!("the connection ended: {:?}", self.closed))
    }

    /// The next message, which has to have these fields, with these values; `null` stands for a field that must be absent.
    #[track_caller]
    pub fn expect(&mut self, fields: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let next = tokio::time::timeout(crate::DEADLINE, self.next()).await;
            let Ok(message) = next else {
                panic!("{caller}: nothing came, expected {fields}");
            };
            let Some(message) = message else {
                panic!(
                    "{caller}: the connection ended ({:?}), expected {fields}",
                    self.closed
                );
            };
            assert!(
                has(&message, &fields),
                "{caller}:\n     came {message}\n expected {fields}"
            );
            message
        }
    }

    /// Subscribes to a channel and takes the confirmation.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) -> impl Future<Output = Value> {
        self.subscribe_with(json!({ "channel": channel }))
    }

    /// Subscribes with more fields than the channel and takes the confirmation.
    #[track_caller]
    pub fn subscribe_with(&mut self, mut fields: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            fields["type"] = json!("subscribe");
            let channel = fields["channel"].clone();
            self.send(fields).await;
            let reply = self.receive().await;
            let confirmed = json!({ "type": "subscription_succeeded", "channel": channel });
            assert!(has(&reply, &confirmed), "{caller}: not subscribed: {reply}");
            reply
        }
    }

    /// Shows a token and takes the answer and the confirmation of the personal channel.
    pub async fn authenticate(&mut self, token: &str) -> Value {
        self.send(json!({ "type": "authenticate", "id": 1, "token": token }))
            .await;
        let answer = self.expect(json!({ "type": "ok", "id": 1 })).await;
        let channel = format!("user:{}", answer["user_id"].as_str().unwrap());
        self.expect(json!({ "type": "subscription_succeeded", "channel": channel }))
            .await;
        answer
    }

    /// How many frames of text have come so far.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Asserts that the connection lives and that nothing was on its way to it.
    #[track_caller]
    pub fn is_quiet(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            self.send(json!({ "type": "ping" })).await;
            let message = self.receive().await;
            assert_eq!(message["type"], "pong", "{caller}: {message}");
        }
    }

    /// Reads to the end and answers the code and reason of the close; 1006 when there was none, as in a browser.
    pub async fn closed(&mut self) -> (u16, String) {
        within("the end of the connection", async {
            while self.next().await.is_some() {}
        })
        .await;
        self.closed.clone().unwrap_or((1006, String::new()))
    }

    /// Says goodbye with WebSocket's own close and reads to the end.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
        self.closed().await;
    }

    /// Lets go of the connection without another word, as a machine that loses its power.
    pub fn vanish(self) {
        self.stream.get_ref().set_zero_linger().unwrap();
    }

    /// Takes the next frame; answers whether there was one.
    async fn read(&mut self) -> bool {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => {
                self.frames += 1;
                match serde_json::from_str(&text).unwrap() {
                    Value::Array(messages) => self.waiting.extend(messages),
                    message => self.waiting.push_back(message),
                }
                true
            }
            Some(Ok(Message::Close(close))) => {
                let close = close.map(|close| (close.code.into(), close.reason.to_string()));
                self.closed = self.closed.take().or(close);
                true
            }
            Some(Ok(_)) => true,
            Some(Err(_)) | None => false,
        }
    }
}

/// Whether `message` has what `fields` asks for: objects field by field, everything else as a whole.
#[must_use]
pub fn has(message: &Value, fields: &Value) -> bool {
    match (message, fields) {
        (Value::Object(message), Value::Object(fields)) => fields
            .iter()
            .all(|(name, value)| has(message.get(name).unwrap_or(&Value::Null), value)),
        _ => message == fields,
    }
}
