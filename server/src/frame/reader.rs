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
    /// A binary message.
    Binary(Vec<u8>),
    /// A part of a message that is not the last one.
    Fragment,
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
///
/// A payload is unmasked as it arrives, and text is checked as it arrives: what is not UTF-8 is refused at the first byte that
/// shows it, however much of its frame is still missing.
#[derive(Debug)]
pub(crate) struct FrameReader {
    bytes_max: usize,
    fragments_max: u32,
    /// Bytes that were not looked at yet.
    pending: Vec<u8>,
    consumed: usize,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// What has arrived of a message.
    message: Vec<u8>,
    /// How much of the message is known to be UTF-8.
    checked: usize,
    /// What has arrived of a control frame.
    control: Vec<u8>,
    kind: Option<Data>,
    fragments: u32,
    started_at: Option<Instant>,
    pushed_at: Option<Instant>,
    is_stopped: bool,
}

/// A frame whose header was accepted.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    /// Turned so that it begins with the key of the next byte.
    mask: [u8; 4],
    bytes_left: usize,
}

impl FrameReader {
    pub(crate) fn new(bytes_max: usize, fragments_max: u32) -> Self {
        Self {
            bytes_max,
            fragments_max,
            pending: Vec::new(),
            consumed: 0,
            frame: None,
            message: Vec::new(),
            checked: 0,
            control: Vec::new(),
            kind: None,
            fragments: 0,
            started_at: None,
            pushed_at: None,
            is_stopped: false,
        }
    }

    /// Sets the largest message from the next frame on.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
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

    /// Adds what was read. Call [`FrameReader::next`] until it answers `None` before more is added.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) {
        if !self.is_stopped {
            self.pending.extend_from_slice(bytes);
            self.started_at.get_or_insert(now);
            self.pushed_at = Some(now);
        }
    }

    /// The next complete message, fragment or control frame; one step, however much was added.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, FrameError> {
        if self.is_stopped {
            return Ok(None);
        }
        let frame = match self.frame.take() {
            Some(frame) => Some(frame),
            None => self.next_header()?,
        };
        let Some(mut frame) = frame else {
            self.settle();
            return Ok(None);
        };
        self.take_payload(&mut frame);
        if frame.bytes_left > 0 {
            self.frame = Some(frame);
            self.check_text()?;
            self.settle();
            return Ok(None);
        }
        let incoming = match frame.opcode {
            OpCode::Control(control) => self.take_control(control)?,
            OpCode::Data(_) => self.take_data(frame.is_final)?,
        };
        if self.kind.is_none() {
            // What follows began with the last read.
            self.started_at = self.pushed_at;
        }
        Ok(Some(incoming))
    }

    fn next_header(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut cursor = Cursor::new(&self.pending[self.consumed..]);
        let parsed = FrameHeader::parse(&mut cursor)
            .map_err(|_| FrameError::Protocol("the frame header is not valid"))?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        let header_bytes = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let frame = self.check(&header, length)?;
        self.consumed += header_bytes;
        if let OpCode::Data(kind) = frame.opcode {
            self.fragments += 1;
            if self.fragments > self.fragments_max {
                return Err(FrameError::TooManyFragments {
                    fragments_max: self.fragments_max,
                });
            }
            self.kind.get_or_insert(kind);
        }
        Ok(Some(frame))
    }

    /// Refuses a frame by its header, before its payload is waited for.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<Frame, FrameError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FrameError::Protocol("no extension was negotiated"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                return Err(FrameError::Protocol("the opcode is reserved"));
            }
            OpCode::Control(_) if !header.is_final => {
                return Err(FrameError::Protocol("a control frame is never fragmented"));
            }
            OpCode::Control(_) if length > CONTROL_PAYLOAD_BYTES_MAX => {
                return Err(FrameError::Protocol(
                    "a control frame has at most 125 bytes",
                ));
            }
            OpCode::Data(_) if self.message.len().saturating_add(length) > self.bytes_max => {
                return Err(FrameError::TooLarge {
                    bytes_max: self.bytes_max,
                });
            }
            OpCode::Data(Data::Continue) if self.kind.is_none() => {
                return Err(FrameError::Protocol("a continuation needs a message"));
            }
            OpCode::Data(Data::Text | Data::Binary) if self.kind.is_some() => {
                return Err(FrameError::Protocol("a message began inside another"));
            }
            OpCode::Control(_) | OpCode::Data(_) => {}
        }
        let Some(mask) = header.mask else {
            return Err(FrameError::Protocol("a client must mask its frames"));
        };
        Ok(Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            mask,
            bytes_left: length,
        })
    }

    /// Moves what is there of a frame's payload to where it belongs.
    fn take_payload(&mut self, frame: &mut Frame) {
        let rest = &self.pending[self.consumed..];
        let count = rest.len().min(frame.bytes_left);
        let target = match frame.opcode {
            OpCode::Control(_) => &mut self.control,
            OpCode::Data(_) => &mut self.message,
        };
        let start = target.len();
        target.extend_from_slice(&rest[..count]);
        unmask(&mut target[start..], frame.mask);
        frame.mask.rotate_left(count % 4);
        frame.bytes_left -= count;
        self.consumed += count;
    }

    fn take_control(&mut self, control: Control) -> Result<Incoming, FrameError> {
        let payload = std::mem::take(&mut self.control);
        match control {
            Control::Close => close(&payload),
            Control::Ping => Ok(Incoming::Ping(payload)),
            _ => Ok(Incoming::Pong),
        }
    }

    fn take_data(&mut self, is_final: bool) -> Result<Incoming, FrameError> {
        if !is_final {
            self.check_text()?;
            return Ok(Incoming::Fragment);
        }
        self.fragments = 0;
        self.checked = 0;
        let message = std::mem::take(&mut self.message);
        match self.kind.take() {
            Some(Data::Text) => String::from_utf8(message)
                .map(Incoming::Text)
                .map_err(|_| FrameError::NotUtf8),
            _ => Ok(Incoming::Binary(message)),
        }
    }

    /// Looks at what came since the last check. A character may be incomplete as long as what is there can begin one.
    fn check_text(&mut self) -> Result<(), FrameError> {
        if self.kind != Some(Data::Text) {
            return Ok(());
        }
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(FrameError::NotUtf8),
        }
        Ok(())
    }

    /// Everything there was is taken: gives memory back, and stops the clock if nothing is left of a message.
    fn settle(&mut self) {
        self.pending.drain(..self.consumed);
        self.consumed = 0;
        if self.pending.is_empty() {
            if self.kind.is_none() && self.frame.is_none() {
                self.clear();
            } else {
                self.pending = Vec::new();
            }
        }
    }

    /// Begins anew, as if nothing had come.
    fn clear(&mut self) {
        let empty = Self::new(self.bytes_max, self.fragments_max);
        let is_stopped = self.is_stopped;
        *self = Self {
            is_stopped,
            ..empty
        };
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
