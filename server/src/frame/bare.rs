//! The frame layer alone, for tests that look at nothing else.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::reader::{FrameReader, Incoming};

/// Reads the frames of a client as a connection of the server does.
#[derive(Debug)]
pub struct Frames(FrameReader);

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping and its payload.
    Ping(Vec<u8>),
    /// A pong, or a part of a message.
    Part,
    /// A close, with its code if it had one.
    Close(Option<u16>),
}

impl Frames {
    /// Messages of at most so many bytes and fragments.
    #[must_use]
    pub fn new(bytes_max: usize, fragments_max: u32) -> Self {
        Self(FrameReader::new(bytes_max, fragments_max))
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes, Instant::now());
    }

    /// The next message or control frame; `None` until more is added.
    ///
    /// # Errors
    /// The close frame that ends the connection.
    pub fn receive(&mut self) -> Result<Option<Received>, Bytes> {
        let incoming = self
            .0
            .next()
            .map_err(|error| super::close(error.close_code(), &error.to_string()))?;
        Ok(incoming.map(|incoming| match incoming {
            Incoming::Text(text) => Received::Text(text),
            Incoming::Binary(bytes) => Received::Binary(bytes),
            Incoming::Ping(payload) => Received::Ping(payload),
            Incoming::Pong | Incoming::Fragment => Received::Part,
            Incoming::Close(code) => Received::Close(code),
        }))
    }
}

/// A text message as a frame.
#[must_use]
pub fn text(payload: &str) -> Bytes {
    let mut out = BytesMut::new();
    super::put_text(payload, &mut out);
    out.freeze()
}

/// A binary message as a frame; the server itself never sends one.
#[must_use]
pub fn binary(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    super::put(super::BINARY, payload, &mut out);
    out.freeze()
}

/// The answer to a ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    super::pong(payload)
}

/// The answer to a close.
#[must_use]
pub fn close(code: Option<u16>) -> Bytes {
    code.map_or_else(super::close_without_code, |code| super::close(code, ""))
}
