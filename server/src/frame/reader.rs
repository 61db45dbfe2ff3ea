//! WebSocket frames from client to server (RFC 6455, 5): masked, possibly in fragments. Headers are read by tungstenite.

use std::io::Cursor;

use tokio::time::Instant;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::CONTROL_PAYLOAD_BYTES_MAX;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message; its content is not kept.
    Binary,
    /// A ping and its payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// A close, with its code if it had one.
    Close(Option<u16>),
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a message has at most {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("a message comes in at most {fragments_max} fragments")]
    TooManyFragments { fragments_max: u32 },
    #[error("a message must be finished sooner")]
    TooSlow,
    #[error("a text message must be UTF-8")]
    NotUtf8,
    #[error("{0}")]
    Protocol(&'static str),
}

impl FrameError {
    /// The close code of RFC 6455, 7.4.1.
    pub(crate) fn close_code(&self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotUtf8 => 1007,
            Self::TooManyFragments { .. } | Self::TooSlow => 1008,
            Self::TooLarge { .. } => 1009,
        }
    }
}

/// Turns bytes into messages. Owns memory only while a message is incomplete.
#[derive(Debug)]
pub(crate) struct FrameReader {
    bytes_max: usize,
    fragments_max: u32,
    /// Bytes of a frame that is not complete.
    pending: Vec<u8>,
    consumed: usize,
    message: Vec<u8>,
    kind: Option<Data>,
    fragments: u32,
    started_at: Option<Instant>,
    pushed_at: Option<Instant>,
    is_stopped: bool,
}

impl FrameReader {
    pub(crate) fn new(bytes_max: usize, fragments_max: u32) -> Self {
        Self {
            bytes_max,
            fragments_max,
            pending: Vec::new(),
            consumed: 0,
            message: Vec::new(),
            kind: None,
            fragments: 0,
            started_at: None,
            pushed_at: None,
            is_stopped: false,
        }
    }

    /// When the message that is still incomplete began.
    pub(crate) fn started_at(&self) -> Option<Instant> {
        self.started_at
    }

    /// Ignores everything from now on.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        self.clear();
    }

    /// Whether everything is ignored.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Adds what was read. Call [`FrameReader::next`] until it answers `None` afterwards.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) {
        if !self.is_stopped {
            self.pending.extend_from_slice(bytes);
            self.started_at.get_or_insert(now);
            self.pushed_at = Some(now);
        }
    }

    /// The next complete message or control frame.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, FrameError> {
        loop {
            let Some((header, payload)) = self.next_frame()? else {
                self.settle();
                return Ok(None);
            };
            if let Some(incoming) = self.take(&header, payload)? {
                return Ok(Some(incoming));
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, FrameError> {
        let rest = &self.pending[self.consumed..];
        let mut cursor = Cursor::new(rest);
        let parsed = FrameHeader::parse(&mut cursor)
            .map_err(|_| FrameError::Protocol("the frame header is not valid"))?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let length = self.check(&header, length)?;
        let Some(payload) = rest.get(start..start + length) else {
            return Ok(None);
        };
        let mut payload = payload.to_vec();
        let Some(mask) = header.mask else {
            return Err(FrameError::Protocol("a client must mask its frames"));
        };
        unmask(&mut payload, mask);
        self.consumed += start + length;
        Ok(Some((header, payload)))
    }

    /// Refuses a frame by its header, before its payload is waited for.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<usize, FrameError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FrameError::Protocol("no extension was negotiated"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                Err(FrameError::Protocol("the opcode is reserved"))
            }
            OpCode::Control(_) if !header.is_final => {
                Err(FrameError::Protocol("a control frame is never fragmented"))
            }
            OpCode::Control(_) if length > CONTROL_PAYLOAD_BYTES_MAX => Err(FrameError::Protocol(
                "a control frame has at most 125 bytes",
            )),
            OpCode::Control(_) => Ok(length),
            OpCode::Data(_) if self.message.len().saturating_add(length) > self.bytes_max => {
                Err(FrameError::TooLarge {
                    bytes_max: self.bytes_max,
                })
            }
            OpCode::Data(Data::Continue) if self.kind.is_none() => {
                Err(FrameError::Protocol("a continuation needs a message"))
            }
            OpCode::Data(Data::Text | Data::Binary) if self.kind.is_some() => {
                Err(FrameError::Protocol("a message began inside another"))
            }
            OpCode::Data(_) => Ok(length),
        }
    }

    fn take(
        &mut self,
        header: &FrameHeader,
        payload: Vec<u8>,
    ) -> Result<Option<Incoming>, FrameError> {
        let kind = match header.opcode {
            OpCode::Control(Control::Close) => return close(&payload).map(Some),
            OpCode::Control(Control::Ping) => return Ok(Some(Incoming::Ping(payload))),
            OpCode::Control(_) => return Ok(Some(Incoming::Pong)),
            OpCode::Data(Data::Continue) => self.kind,
            OpCode::Data(kind) => Some(kind),
        };
        self.fragments += 1;
        if self.fragments > self.fragments_max {
            return Err(FrameError::TooManyFragments {
                fragments_max: self.fragments_max,
            });
        }
        if self.message.is_empty() {
            self.message = payload;
        } else {
            self.message.extend_from_slice(&payload);
        }
        self.kind = kind;
        if !header.is_final {
            return Ok(None);
        }
        self.kind = None;
        self.fragments = 0;
        let message = std::mem::take(&mut self.message);
        match kind {
            Some(Data::Text) => String::from_utf8(message)
                .map(|text| Some(Incoming::Text(text)))
                .map_err(|_| FrameError::NotUtf8),
            _ => Ok(Some(Incoming::Binary)),
        }
    }

    /// Everything complete was taken: gives memory back, and stops the message's clock if nothing is left of one. What is left
    /// of another message began with the last read.
    fn settle(&mut self) {
        let has_taken = self.consumed > 0;
        self.pending.drain(..self.consumed);
        self.consumed = 0;
        if self.kind.is_none() {
            if self.pending.is_empty() {
                self.clear();
            } else if has_taken {
                self.started_at = self.pushed_at;
            }
        }
    }

    fn clear(&mut self) {
        self.pending = Vec::new();
        self.message = Vec::new();
        self.consumed = 0;
        self.started_at = None;
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut chunks = payload.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// The code of a close frame (RFC 6455, 5.5.1 and 7.4): none, or one that may be sent, and a reason in UTF-8.
fn close(payload: &[u8]) -> Result<Incoming, FrameError> {
    let (code, reason) = match payload {
        [] => return Ok(Incoming::Close(None)),
        [_] => return Err(FrameError::Protocol("a close code has two bytes")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(FrameError::Protocol("the close code may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(FrameError::NotUtf8);
    }
    Ok(Incoming::Close(Some(code)))
}

#[cfg(test)]
mod tests;
