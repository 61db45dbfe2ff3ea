//! WebSocket frames (RFC 6455, 5.2), as little of them as a benchmark needs.

use std::io;

/// A frame that a server sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is: [`TEXT`], [`CLOSE`], [`PING`] or another one.
    pub opcode: u8,
    /// What it carries.
    pub payload: &'a [u8],
    /// How many bytes of the input it takes.
    pub length: usize,
}

/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const PING: u8 = 0x9;
/// Opcode of a pong.
pub const PONG: u8 = 0xa;

/// Reads the first frame of a server's stream; `None` when it is not complete yet.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for what no server of this benchmark may send: a masked or fragmented frame, a reserved
/// bit, or one longer than a megabyte.
pub fn parse(bytes: &[u8]) -> io::Result<Option<Frame<'_>>> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0xf0 != FIN || second & MASKED != 0 {
        return Err(malformed());
    }
    let (header, size) = match (second, rest) {
        (126, &[a, b, ..]) => (4, usize::from(u16::from_be_bytes([a, b]))),
        (127, &[0, 0, 0, 0, a, b, c, d, ..]) => (10, widen(u32::from_be_bytes([a, b, c, d]))),
        (127, &[_, _, _, _, _, _, _, _, ..]) => return Err(malformed()),
        (126 | 127, _) => return Ok(None),
        (short, _) => (2, usize::from(short)),
    };
    if size > PAYLOAD_BYTES_MAX {
        return Err(malformed());
    }
    let length = header + size;
    Ok(bytes.get(header..length).map(|payload| Frame {
        opcode: first & 0x0f,
        payload,
        length,
    }))
}

/// Appends a server's text frame.
pub fn push_text(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(FIN | TEXT);
    push_length(out, 0, payload.len());
    out.extend_from_slice(payload);
}

/// A client's frame, masked as RFC 6455 demands.
#[must_use]
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    out.push(FIN | opcode);
    push_length(&mut out, MASKED, payload.len());
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

fn push_length(out: &mut Vec<u8>, flag: u8, length: usize) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => out.push(flag | short),
        (_, Ok(medium)) => {
            out.push(flag | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(flag | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

fn widen(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed WebSocket frame")
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Any key will do: it protects proxies, of which there are none here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// 1 MiB: joined buffers end at 16 KiB, so a longer frame means that the stream is out of step.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        push_text(&mut out, &vec![b'x'; length]);
        out
    }

    #[test]
    fn every_length_form_survives_the_round_trip() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let bytes = text(length);
            let frame = parse(&bytes).unwrap().unwrap();
            assert_eq!(
                (frame.opcode, frame.payload.len(), frame.length),
                (TEXT, length, bytes.len())
            );
        }
    }

    #[test]
    fn a_cut_frame_is_incomplete_wherever_it_is_cut() {
        for length in [5, 300, 70_000] {
            let bytes = text(length);
            for cut in [0, 1, 2, 3, 4, 9, 10, bytes.len() - 1] {
                if cut < bytes.len() {
                    assert_eq!(parse(&bytes[..cut]).unwrap(), None, "{length} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn only_the_first_of_two_frames_is_read() {
        let mut bytes = text(3);
        bytes.extend(text(200));
        let first = parse(&bytes).unwrap().unwrap().length;
        assert_eq!(first, 5);
        assert_eq!(parse(&bytes[first..]).unwrap().unwrap().payload.len(), 200);
    }

    #[test]
    fn masked_fragmented_reserved_and_endless_frames_are_refused() {
        let endless = [0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        for bytes in [&masked(TEXT, b"x")[..], &[0x01, 0], &[0xc1, 0], &endless] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_masked_frame_is_the_one_of_the_specification() {
        // RFC 6455 5.7: a single-frame masked text message that contains "Hello".
        let expect = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(masked(TEXT, b"Hello"), expect);
    }
}
