//! A peer that writes WebSocket frames byte by byte, so that it can also write wrong ones.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::net::SocketAddr;

use fanfare_protocol::SocketId;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::{self, Answer};
use crate::within;

/// A frame as it came: opcode and payload.
pub type Frame = (u8, Vec<u8>);

/// The opcode of a continuation.
pub const CONTINUATION: u8 = 0;
/// The opcode of a text message.
pub const TEXT: u8 = 1;
/// The opcode of a binary message.
pub const BINARY: u8 = 2;
/// The opcode of a close.
pub const CLOSE: u8 = 8;
/// The opcode of a ping.
pub const PING: u8 = 9;
/// The opcode of a pong.
pub const PONG: u8 = 10;

/// A peer that writes bytes.
#[derive(Debug)]
pub struct RawSocket {
    stream: TcpStream,
    /// What the server calls the connection, once it has said so.
    id: String,
}

impl RawSocket {
    /// Shakes hands at `/ws` and takes `connected`.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::enter(TcpSocket::new_v4().unwrap(), address).await
    }

    /// As [`RawSocket::connect`], with so little room for what is not read that it soon waits at the server.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        Self::enter(socket, address).await
    }

    /// Shakes hands at `/ws` with more headers; the answer may be a refusal.
    pub async fn handshake(address: SocketAddr, headers: &[(&str, &str)]) -> (Self, Answer) {
        Self::shake(TcpSocket::new_v4().unwrap(), address, headers).await
    }

    async fn enter(socket: TcpSocket, address: SocketAddr) -> Self {
        let (mut socket, answer) = Self::shake(socket, address, &[]).await;
        assert_eq!(answer.status, 101);
        let connected = socket.receive_json().await;
        assert_eq!(connected["type"], "connected");
        connected["socket_id"]
            .as_str()
            .unwrap()
            .clone_into(&mut socket.id);
        socket
    }

    async fn shake(
        socket: TcpSocket,
        address: SocketAddr,
        headers: &[(&str, &str)],
    ) -> (Self, Answer) {
        let mut stream = within("a connection", socket.connect(address))
            .await
            .unwrap();
        let more: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "GET /ws HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(
                within("the head of an answer", stream.read_u8())
                    .await
                    .unwrap(),
            );
        }
        let id = String::new();
        (Self { stream, id }, http::parse(&answer))
    }

    /// The connection itself, for peers that read and write at once.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The connection's id.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id.parse().unwrap()
    }

    /// Writes bytes as they are. A peer that is gone meanwhile is no failure: reading will tell.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = within("room to write", self.stream.write_all(bytes)).await;
    }

    /// Writes one final frame, masked.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.write(&frame(true, opcode, payload)).await;
    }

    /// Writes a text message.
    pub async fn send_json(&mut self, message: &Value) {
        self.send(TEXT, message.to_string().as_bytes()).await;
    }

    /// The next frame; none when the server has closed the connection.
    pub async fn receive(&mut self) -> Option<Frame> {
        within("a frame", self.read_frame()).await
    }

    /// The next frame, which has to be a text message.
    pub async fn receive_json(&mut self) -> Value {
        let (opcode, payload) = self.receive().await.unwrap();
        assert_eq!(opcode, TEXT, "{payload:?}");
        serde_json::from_slice(&payload).unwrap()
    }

    /// Reads to the end: the code and reason of the server's close frame, if there was one.
    pub async fn closed(&mut self) -> Option<(u16, String)> {
        while let Some((opcode, payload)) = self.receive().await {
            if opcode == CLOSE {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return Some((code, String::from_utf8(payload[2..].to_vec()).unwrap()));
            }
        }
        None
    }

    /// Says that nothing more will be written. What comes can still be read.
    pub async fn end(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Lets go of the connection without another word, as a machine that loses its power.
    pub fn vanish(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let first = self.stream.read_u8().await.ok()?;
        let second = self.stream.read_u8().await.ok()?;
        assert_eq!(first & 0xf0, 0x80, "servers send whole messages");
        assert_eq!(second & 0x80, 0, "servers do not mask");
        let length = match second {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((first & 0x0f, payload))
    }
}

/// A frame with a mask of zeros, under which the payload stays readable.
#[must_use]
pub fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(is_final, opcode, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a frame that claims a length.
#[must_use]
pub fn head(is_final: bool, opcode: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![u8::from(is_final) << 7 | opcode];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}
