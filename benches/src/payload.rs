//! What is published: 128 bytes of text that name their own place in the stream.

/// The size of a payload, in bytes.
pub const PAYLOAD_BYTES: usize = 128;

/// Appends the payload with a sequence number: 16 hexadecimal digits, then letters that follow from it.
///
/// Printable and free of quotes, backslashes and line ends, so that it is the same inside a JSON string and in a line of text.
pub fn push(out: &mut Vec<u8>, sequence: u64) {
    let start = out.len();
    out.extend(
        (0..16)
            .rev()
            .map(|digit| HEX[((sequence >> (digit * 4)) & 0xf) as usize]),
    );
    let mut state = sequence.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while out.len() < start + PAYLOAD_BYTES {
        // Xorshift: any filler will do as long as two payloads never look alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.push(b'a' + (state % 26) as u8);
    }
}

/// The sequence number that a payload claims.
#[must_use]
pub fn sequence(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(..16)?;
    digits.iter().try_fold(0, |number, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(number << 4 | u64::from(value))
    })
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_sequence_number() {
        for number in [0, 1, 4_711, u64::MAX] {
            let mut out = Vec::new();
            push(&mut out, number);
            assert_eq!(out.len(), PAYLOAD_BYTES);
            assert_eq!(sequence(&out), Some(number));
            assert!(out.iter().all(u8::is_ascii_alphanumeric));
        }
    }

    #[test]
    fn what_is_no_payload_has_no_sequence_number() {
        assert_eq!(sequence(b"0123"), None);
        assert_eq!(sequence(b"{\"type\":\"event\",\"channel\""), None);
    }
}
