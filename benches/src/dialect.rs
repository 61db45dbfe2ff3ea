//! How the servers are spoken to: the handshake, the subscription and the way back from a frame to its payloads.

use memchr::memmem;

use crate::frame::{self, TEXT};
use crate::payload::PAYLOAD_BYTES;

/// What a server speaks on a subscriber's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The channel stands in the URL, a text frame is a payload.
    Bare,
    /// The channel stands in the URL, a text frame is what `fanfare.v1` would send.
    BareInEnvelope,
    /// `fanfare.v1`: a JSON object per frame.
    Fanfare,
    /// `fanfare.v1.batch`: a JSON object or an array of them per frame.
    FanfareBatch,
}

/// The server's answer to a subscription.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// From now on every message of the channel arrives.
    Subscribed,
    /// It was refused.
    Refused,
    /// Something else.
    Unrelated,
}

impl Dialect {
    /// The request that opens a connection.
    #[must_use]
    pub fn request(self, host: &str, channel: &str) -> String {
        let (query, extra) = match self {
            Self::Bare | Self::BareInEnvelope => (format!("?channel={channel}"), String::new()),
            Self::Fanfare => (String::new(), protocol("fanfare.v1")),
            Self::FanfareBatch => (String::new(), protocol("fanfare.v1.batch")),
        };
        format!(
            "GET /ws{query} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extra}\r\n"
        )
    }

    /// Whether the handshake subscribes already.
    #[must_use]
    pub fn subscribes_by_url(self) -> bool {
        matches!(self, Self::Bare | Self::BareInEnvelope)
    }

    /// The frame that subscribes; `None` where the handshake did it already.
    #[must_use]
    pub fn subscribe(self, channel: &str) -> Option<Vec<u8>> {
        let command = format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
        (!self.subscribes_by_url()).then(|| frame::masked(TEXT, command.as_bytes()))
    }

    /// What a frame says about a subscription.
    #[must_use]
    pub fn reply(self, text: &[u8]) -> Reply {
        let says = |kind: &str| memmem::find(text, kind.as_bytes()).is_some();
        if says(r#""type":"subscription_succeeded""#) {
            Reply::Subscribed
        } else if says(r#""type":"subscription_error""#) || says(r#""type":"error""#) {
            Reply::Refused
        } else {
            Reply::Unrelated
        }
    }

    /// Calls `deliver` for every payload in a text frame, in order.
    ///
    /// What is no payload at all, or one of the wrong length, is handed over as it is: the receiver counts it as corrupted.
    pub fn payloads(self, text: &[u8], mut deliver: impl FnMut(&[u8])) {
        if self == Self::Bare {
            return deliver(text);
        }
        let mut rest = text;
        let mut found = false;
        while let Some(index) = memmem::find(rest, DATA) {
            let start = index + DATA.len();
            let end = start + PAYLOAD_BYTES;
            match rest.get(start..=end) {
                Some([payload @ .., b'"']) => deliver(payload),
                _ => return deliver(rest),
            }
            found = true;
            rest = &rest[end..];
        }
        if !found {
            deliver(text);
        }
    }
}

/// Appends the text in which `fanfare.v1` carries a payload of a live-only channel.
pub fn push_event(out: &mut Vec<u8>, channel: &[u8], payload: &[u8]) {
    for part in [
        br#"{"type":"event","channel":""#,
        channel,
        br#"","event":"tick","data":""#,
        payload,
        br#""}"#,
    ] {
        out.extend_from_slice(part);
    }
}

/// The name of the channel with a number.
#[must_use]
pub fn channel_name(number: u64) -> String {
    format!("bench-{number}")
}

fn protocol(name: &str) -> String {
    format!("Sec-WebSocket-Protocol: {name}\r\n")
}

/// The sample key of RFC 6455 1.3: a benchmark has no use for random ones.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What RFC 6455 1.3 says a server answers to [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Payloads contain no quote, so this cannot occur inside one.
const DATA: &[u8] = br#""data":""#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;

    fn numbered(sequence: u64) -> String {
        let mut out = Vec::new();
        payload::push(&mut out, sequence);
        String::from_utf8(out).unwrap()
    }

    fn event(data: &str) -> String {
        let mut out = Vec::new();
        push_event(&mut out, b"bench-0", data.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(dialect: Dialect, text: &str, expect: &[&str]) {
        let mut found = Vec::new();
        dialect.payloads(text.as_bytes(), |payload| found.push(payload.to_vec()));
        let expect: Vec<Vec<u8>> = expect.iter().map(|text| text.as_bytes().to_vec()).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn payloads_of_every_dialect() {
        let (one, two) = (numbered(1), numbered(2));
        check(Dialect::Bare, &one, &[&one]);
        check(Dialect::Fanfare, &event(&one), &[&one]);
        check(Dialect::BareInEnvelope, &event(&one), &[&one]);
        check(Dialect::FanfareBatch, &event(&one), &[&one]);
        let batch = format!("[{},{}]", event(&one), event(&two));
        check(Dialect::FanfareBatch, &batch, &[&one, &two]);
    }

    #[test]
    fn what_is_no_payload_is_handed_over_to_be_counted() {
        let gap = r#"{"type":"gap","channel":"bench-0","reason":"slow"}"#;
        check(Dialect::Fanfare, gap, &[gap]);
        let mut found = 0;
        Dialect::Fanfare.payloads(event("too short").as_bytes(), |payload| {
            assert_eq!(payload::sequence(payload), None);
            found += 1;
        });
        assert_eq!(found, 1);
    }

    #[test]
    fn replies_are_told_apart() {
        for (text, expect) in [
            (
                r#"[{"type":"connected"},{"type":"subscription_succeeded"}]"#,
                Reply::Subscribed,
            ),
            (
                r#"{"type":"subscription_error","code":4300}"#,
                Reply::Refused,
            ),
            (r#"{"type":"connected","protocol":1}"#, Reply::Unrelated),
        ] {
            assert_eq!(Dialect::Fanfare.reply(text.as_bytes()), expect, "{text}");
        }
    }
}
