//! RESP2 and RESP3 as much as tests need: commands to a Redis, and where the frames of others end.
//!
//! Bounded: a frame has at most [`FRAME_BYTES_MAX`] bytes and [`DEPTH_MAX`] levels.

mod connection;

pub use self::connection::Connection;

/// What Redis says, or is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `+`: a status.
    Status(String),
    /// `-` or `!`: an error.
    Error(String),
    /// `:`: a number.
    Integer(i64),
    /// `$` or `=`: bytes.
    Bulk(Vec<u8>),
    /// `_`, or a length of -1.
    Null,
    /// `*` or `~`: a list.
    Array(Vec<Self>),
    /// `%`: names and values in turn.
    Map(Vec<Self>),
    /// `>`: what nobody asked for.
    Push(Vec<Self>),
    /// `,`, `#` or `(`: the text of it.
    Other(String),
}

/// Why bytes are not RESP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// A frame begins with a byte that none begins with.
    #[error("a frame cannot begin with the byte {0}")]
    Kind(u8),
    /// A length is not a number.
    #[error("a length is not a number")]
    Length,
    /// A frame is too large or too deep.
    #[error("a frame is larger than {FRAME_BYTES_MAX} bytes or deeper than {DEPTH_MAX} levels")]
    TooLarge,
}

impl Value {
    /// The elements of a list, a map or a push; none of anything else.
    #[must_use]
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) | Self::Map(elements) | Self::Push(elements) => elements,
            _ => &[],
        }
    }

    /// The text of a status, an error, a number or bytes; empty for anything else.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) | Self::Other(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }

    /// The number that this is or spells.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        self.text().parse().ok()
    }

    /// Whether this is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

/// The first frame and its length, once all of it is there.
///
/// # Errors
/// When the bytes are not RESP, or too many.
pub fn read(bytes: &[u8]) -> Result<Option<(Value, usize)>, RespError> {
    let mut reader = Reader { bytes, at: 0 };
    match reader.value(0)? {
        Some(value) => Ok(Some((value, reader.at))),
        None if bytes.len() > FRAME_BYTES_MAX => Err(RespError::TooLarge),
        None => Ok(None),
    }
}

/// A command as clients send it.
#[must_use]
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Option<Value>, RespError> {
        if depth > DEPTH_MAX {
            return Err(RespError::TooLarge);
        }
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let Some((&kind, rest)) = line.split_first() else {
            return Err(RespError::Length);
        };
        let text = String::from_utf8_lossy(rest).into_owned();
        let value = match kind {
            b'+' => Value::Status(text),
            b'-' => Value::Error(text),
            b':' => Value::Integer(text.parse().map_err(|_| RespError::Length)?),
            b'_' => Value::Null,
            b',' | b'#' | b'(' => Value::Other(text),
            b'$' | b'=' | b'!' => return self.bulk(kind, &text),
            b'*' | b'~' | b'%' | b'>' | b'|' => return self.elements(kind, &text, depth),
            other => return Err(RespError::Kind(other)),
        };
        Ok(Some(value))
    }

    fn bulk(&mut self, kind: u8, length: &str) -> Result<Option<Value>, RespError> {
        if length == "-1" {
            return Ok(Some(Value::Null));
        }
        let length: usize = length.parse().map_err(|_| RespError::Length)?;
        if length > FRAME_BYTES_MAX {
            return Err(RespError::TooLarge);
        }
        let Some(bytes) = self.bytes.get(self.at..self.at + length + 2) else {
            return Ok(None);
        };
        self.at += length + 2;
        let bytes = bytes[..length].to_vec();
        Ok(Some(match kind {
            b'!' => Value::Error(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Value::Bulk(bytes),
        }))
    }

    fn elements(
        &mut self,
        kind: u8,
        count: &str,
        depth: usize,
    ) -> Result<Option<Value>, RespError> {
        if count == "-1" {
            return Ok(Some(Value::Null));
        }
        let count: usize = count.parse().map_err(|_| RespError::Length)?;
        if count > FRAME_BYTES_MAX {
            return Err(RespError::TooLarge);
        }
        let count = if matches!(kind, b'%' | b'|') {
            count * 2
        } else {
            count
        };
        let mut elements = Vec::new();
        for _ in 0..count {
            let Some(element) = self.value(depth + 1)? else {
                return Ok(None);
            };
            elements.push(element);
        }
        match kind {
            b'>' => Ok(Some(Value::Push(elements))),
            b'%' => Ok(Some(Value::Map(elements))),
            // Attributes stand before the value that they say something about.
            b'|' => self.value(depth + 1),
            _ => Ok(Some(Value::Array(elements))),
        }
    }

    fn line(&mut self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.windows(2).position(|window| window == b"\r\n")?;
        self.at += length + 2;
        Some(&rest[..length])
    }
}

/// 64 MiB: more than any test sends.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// 16: what `COMMAND DOCS` needs is 9.
pub const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        let bytes = text.as_bytes();
        assert_eq!(read(bytes), Ok(Some((expected, bytes.len()))));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None), "{:?}", &text[..end]);
        }
    }

    #[test]
    fn frames_of_both_versions_are_read_once_all_of_them_is_there() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        check("+OK\r\n", Value::Status("OK".to_owned()));
        check("$-1\r\n", Value::Null);
        check(
            "*2\r\n$1\r\na\r\n:-7\r\n",
            Value::Array(vec![bulk("a"), Value::Integer(-7)]),
        );
        check(
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n",
            Value::Push(vec![bulk("message"), bulk("c"), bulk("\r\n")]),
        );
        check(
            "%1\r\n+a\r\n#t\r\n",
            Value::Map(vec![
                Value::Status("a".to_owned()),
                Value::Other("t".to_owned()),
            ]),
        );
        check("|1\r\n+a\r\n:1\r\n_\r\n", Value::Null);
        check("!3\r\nERR\r\n", Value::Error("ERR".to_owned()));
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(RespError::Kind(b'G')));
        assert_eq!(read(b"$x\r\n"), Err(RespError::Length));
        assert_eq!(read(b"$99999999999\r\n"), Err(RespError::TooLarge));
        assert_eq!(
            read("*1\r\n".repeat(40).as_bytes()),
            Err(RespError::TooLarge)
        );
    }

    #[test]
    fn commands_are_lists_of_bytes() {
        assert_eq!(command(&[b"GET", b"a"]), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    }
}
