//! WebSocket frames from server to client (RFC 6455, 5.2): unmasked, so the identical bytes serve everybody.

#[cfg(feature = "__frames")]
pub mod bare;
pub(crate) mod reader;

use bytes::{BufMut, Bytes, BytesMut};

/// The most bytes a frame's header takes from server to client.
pub(crate) const HEADER_BYTES_MAX: usize = 10;

/// The payload bound of a control frame (RFC 6455, 5.5).
pub(crate) const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

const TEXT: u8 = 0x1;
#[cfg(feature = "__frames")]
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Appends a text frame.
pub(crate) fn put_text(payload: &str, out: &mut BytesMut) {
    put(TEXT, payload.as_bytes(), out);
}

/// A ping without payload.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[0x80 | PING, 0])
}

/// A pong that echoes a ping's payload.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    control(PONG, payload)
}

/// A close frame; the reason is cut to what a control frame holds.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let mut payload = BytesMut::with_capacity(CONTROL_PAYLOAD_BYTES_MAX);
    payload.put_u16(code);
    let mut end = reason.len().min(CONTROL_PAYLOAD_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    payload.put_slice(&reason.as_bytes()[..end]);
    control(CLOSE, &payload)
}

/// A close frame without a code, the answer to one without a code.
pub(crate) fn close_without_code() -> Bytes {
    Bytes::from_static(&[0x80 | CLOSE, 0])
}

fn control(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 2);
    put(
        opcode,
        &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)],
        &mut out,
    );
    out.freeze()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each arm has checked the length it casts"
)]
fn put(opcode: u8, payload: &[u8], out: &mut BytesMut) {
    out.reserve(payload.len() + HEADER_BYTES_MAX);
    out.put_u8(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.put_u8(length as u8),
        length @ 126..=0xFFFF => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(payload);
}
