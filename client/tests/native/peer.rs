//! The server's end of a connection, spoken by hand.

use fanfare_protocol::json::{decode_request, encode_batch};
use fanfare_protocol::{
    ChannelName, Connected, ConnectionLimits, Epoch, Event, EventName, Position, RawJson, Request,
    SUBPROTOCOL_BATCH, ServerMessage, SocketId, Tag,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

pub(crate) struct Listener {
    listener: TcpListener,
}

pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    pub(crate) offered: String,
}

impl Listener {
    pub(crate) async fn bind() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.listener.local_addr().unwrap())
    }

    /// Accepts the next connection and greets it.
    pub(crate) async fn greet(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut offered = String::new();
        #[expect(clippy::result_large_err, reason = "the signature is the library's")]
        let choose =
            |request: &server::Request, response| Ok(choose_batch(request, response, &mut offered));
        let socket = accept_hdr_async(stream, choose).await.unwrap();
        let mut peer = Peer { socket, offered };
        peer.say(&[ServerMessage::Connected(Connected {
            socket_id: socket_id(),
            user_id: None,
            protocol: 1,
            ping_interval: 25_000,
            max_payload_size: 1024 * 1024,
            server_time: 1_700_000_000_000,
            limits: Some(ConnectionLimits {
                channels_max: 1_000,
                commands_per_second: 10_000,
                commands_burst: 10_000,
                message_bytes_max: 1 << 20,
                bytes_per_second: None,
                bytes_burst: None,
                idempotency_window: None,
            }),
        })])
        .await;
        peer
    }

    /// Answers the next handshake with a status.
    pub(crate) async fn refuse(&self, status: &str) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

impl Peer {
    /// Sends messages in one frame.
    pub(crate) async fn say(&mut self, messages: &[ServerMessage]) {
        self.say_text(&encode_batch(messages)).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next command of the client.
    pub(crate) async fn command(&mut self) -> Request {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return decode_request(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code that the client closes with, once the connection is down.
    pub(crate) async fn closed(mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = self.socket.next().await {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| frame.code.into());
            }
        }
        code
    }
}

pub(crate) fn socket_id() -> SocketId {
    SocketId::from_bits(7)
}

pub(crate) fn at(offset: u64) -> Position {
    Position {
        epoch: Epoch(1),
        offset,
        tag: Tag(offset * 16),
    }
}

pub(crate) fn event_at(channel: &str, offset: u64) -> Event {
    Event {
        channel: ChannelName::new(channel).unwrap(),
        event: EventName::new("e").unwrap(),
        data: RawJson::null(),
        offset: Some(offset),
        tag: Some(at(offset).tag),
        epoch: None,
        user_id: None,
        event_id: None,
    }
}

fn choose_batch(
    request: &server::Request,
    mut response: server::Response,
    offered: &mut String,
) -> server::Response {
    let header = request.headers().get("sec-websocket-protocol").unwrap();
    *offered = header.to_str().unwrap().to_owned();
    response.headers_mut().insert(
        "sec-websocket-protocol",
        HeaderValue::from_static(SUBPROTOCOL_BATCH),
    );
    response
}
