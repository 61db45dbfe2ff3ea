//! What is published in Redis and kept in streams. Pure.
//!
//! A **body** is written by the publishing node: two bytes with the length of its header, the header, the payload. The header is a
//! row of fields, each a letter, two bytes with its length, and its bytes; unknown letters are skipped, so that nodes of
//! two versions understand each other during a deploy. Numbers are big-endian.
//!
//! A **message** is what Redis fans out. The script knows the position, and puts it before the body as text:
//! `1 <epoch> <offset> <tag before> <tag> <body>`, or, on channels without positions,
//! `0 <config-epoch> <since> <number before> <number> <id> <body>`.
//!
//! Another program may publish anything on the channels in Redis. So every message is checked here, once per node: names by their
//! grammar, payloads for being one JSON value of the allowed size. What passes can be spliced into frames.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "another program writes to the Redis channels".

use std::str::FromStr;
use std::sync::Arc;

use fanfare_protocol::{ChannelName, EventName, Position, RawJson, SocketId, Tag, UserId};
use redis::Value;

use crate::delivery::{Delivery, Publication};
use crate::engine::redis::connection::text;

/// A message as it reaches a node.
#[derive(Debug, Clone)]
pub(crate) struct PubSubMessage {
    /// The message and its position.
    pub(crate) delivery: Delivery,
    /// On channels without positions: which message it is, so that losses are noticed.
    pub(crate) count: Option<Count>,
}

/// A message's number among those of a channel without positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// The term of the master that counts; always 0 outside of a Cluster.
    pub(crate) term: Term,
    /// The number of the message before it; 0 when the count had been forgotten, which says nothing about losses.
    pub(crate) previous: u64,
    /// Its own number; higher than all before it.
    pub(crate) number: u64,
    /// The message's id: the same when it is given to another master.
    pub(crate) id: u64,
}

/// How long one server has counted the messages of a channel without positions: the later a term, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Term {
    /// The `config-epoch` of the master: every failover raises it.
    pub(crate) epoch: u64,
    /// Since when it counts, by its own clock, in microseconds: a server that was started again counts in another term.
    pub(crate) since: u64,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message in Redis has no readable {part}")]
pub(crate) struct NotAMessage {
    pub(crate) part: &'static str,
}

/// Writes a publication's body.
///
/// No field is longer than its length can say: names have at most 200 bytes, and a longer id of a bus event is left out.
pub(crate) fn encode_body(publication: &Publication) -> Vec<u8> {
    let except = publication.except.map(|except| except.bits().to_be_bytes());
    let event_id = publication.event_id.as_deref().map(str::as_bytes);
    let fields = [
        (EVENT, Some(publication.event.as_str().as_bytes())),
        (EXCEPT, except.as_ref().map(<[u8; 16]>::as_slice)),
        (
            USER,
            publication
                .user
                .as_ref()
                .map(|user| user.as_str().as_bytes()),
        ),
        (
            EVENT_ID,
            event_id.filter(|id| id.len() <= EVENT_ID_BYTES_MAX),
        ),
    ];
    let payload = publication.data.as_str().as_bytes();
    let header = fields.iter().filter_map(|(_, field)| *field);
    let header_bytes: usize = header.map(|field| 3 + field.len()).sum();
    let mut body = Vec::with_capacity(2 + header_bytes + payload.len());
    put_length(&mut body, header_bytes);
    for (letter, field) in fields {
        if let Some(field) = field {
            body.push(letter);
            put_length(&mut body, field.len());
            body.extend_from_slice(field);
        }
    }
    body.extend_from_slice(payload);
    body
}

/// Reads a message of a channel, with a payload of at most so many bytes.
pub(crate) fn decode_message(
    channel: &ChannelName,
    message: &[u8],
    payload_bytes_max: usize,
) -> Result<PubSubMessage, NotAMessage> {
    let mut rest = message;
    match take_word(&mut rest, "kind")? {
        "1" => {
            let epoch = take(&mut rest, "epoch")?;
            let offset = take(&mut rest, "offset")?;
            let previous = take(&mut rest, "tag before")?;
            let tag = take(&mut rest, "tag")?;
            let position = Position { epoch, offset, tag };
            let publication = decode_body(channel, rest, payload_bytes_max)?;
            Ok(PubSubMessage {
                delivery: Delivery::new(publication, Some(position), Some(previous)),
                count: None,
            })
        }
        "0" => {
            let epoch = take(&mut rest, "config-epoch")?;
            let since = take(&mut rest, "start of a term")?;
            let term = Term { epoch, since };
            let previous = take(&mut rest, "number before")?;
            let number = take(&mut rest, "number")?;
            let id = take_word(&mut rest, "id")?;
            let id = u64::from_str_radix(id, 16).map_err(|_| NotAMessage { part: "id" })?;
            let publication = decode_body(channel, rest, payload_bytes_max)?;
            Ok(PubSubMessage {
                delivery: Delivery::new(publication, None, None),
                count: Some(Count {
                    term,
                    previous,
                    number,
                    id,
                }),
            })
        }
        _ => Err(NotAMessage { part: "kind" }),
    }
}

/// Reads a message that was kept.
pub(crate) fn decode_kept(
    channel: &ChannelName,
    position: Position,
    previous: Tag,
    body: &[u8],
    payload_bytes_max: usize,
) -> Result<Delivery, NotAMessage> {
    let publication = decode_body(channel, body, payload_bytes_max)?;
    Ok(Delivery::new(publication, Some(position), Some(previous)))
}

fn decode_body(
    channel: &ChannelName,
    body: &[u8],
    payload_bytes_max: usize,
) -> Result<Publication, NotAMessage> {
    let mut rest = body;
    let mut header = take_field(&mut rest).ok_or(NotAMessage { part: "header" })?;
    let (mut event, mut except, mut user, mut event_id) = (None, None, None, None);
    while let Some((letter, after)) = header.split_first() {
        header = after;
        let field = take_field(&mut header).ok_or(NotAMessage { part: "header" })?;
        let text = || std::str::from_utf8(field).ok();
        let unreadable = |part| NotAMessage { part };
        match *letter {
            EVENT => event = text().and_then(|text| EventName::new(text).ok()),
            EXCEPT => {
                let bits = <[u8; 16]>::try_from(field).map_err(|_| unreadable("exception"))?;
                except = Some(SocketId::from_bits(u128::from_be_bytes(bits)));
            }
            USER => {
                let name = text().and_then(|text| UserId::new(text).ok());
                user = Some(name.ok_or_else(|| unreadable("user"))?);
            }
            EVENT_ID => event_id = Some(Arc::from(text().ok_or_else(|| unreadable("event id"))?)),
            _ => {}
        }
    }
    let event = event.ok_or(NotAMessage { part: "event" })?;
    let payload = payload(rest, payload_bytes_max).ok_or(NotAMessage { part: "payload" })?;
    let mut publication = Publication::new(channel.clone(), event, payload);
    publication.except = except;
    publication.user = user;
    publication.event_id = event_id;
    Ok(publication)
}

/// What others wrote into Redis, if it is one JSON value and not too long.
pub(crate) fn payload(bytes: &[u8], bytes_max: usize) -> Option<RawJson> {
    if bytes.len() > bytes_max {
        return None;
    }
    RawJson::parse(std::str::from_utf8(bytes).ok()?).ok()
}

/// Reads a position as scripts reply it.
pub(crate) fn position(epoch: &Value, offset: &Value, tag: &Value) -> Option<Position> {
    Some(Position {
        epoch: text(epoch)?.parse().ok()?,
        offset: text(offset)?.parse().ok()?,
        tag: text(tag)?.parse().ok()?,
    })
}

/// Takes two bytes of length and so many bytes.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (field, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(field)
}

fn take<T: FromStr>(rest: &mut &[u8], part: &'static str) -> Result<T, NotAMessage> {
    let word = take_word(rest, part)?;
    word.parse().map_err(|_| NotAMessage { part })
}

fn take_word<'a>(rest: &mut &'a [u8], part: &'static str) -> Result<&'a str, NotAMessage> {
    let end = rest
        .iter()
        .take(WORD_BYTES_MAX)
        .position(|byte| *byte == b' ');
    let end = end.ok_or(NotAMessage { part })?;
    let word = std::str::from_utf8(&rest[..end]).map_err(|_| NotAMessage { part })?;
    *rest = &rest[end + 1..];
    Ok(word)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "no field has more than 8 KiB, and a header holds four"
)]
fn put_length(body: &mut Vec<u8>, length: usize) {
    body.extend_from_slice(&(length as u16).to_be_bytes());
}

const EVENT: u8 = b'e';
const EXCEPT: u8 = b'x';
const USER: u8 = b'u';
const EVENT_ID: u8 = b'i';

/// 8 KiB: ids of bus events have some dozen bytes.
const EVENT_ID_BYTES_MAX: usize = 8 << 10;

/// 24: a number below 2^64 has 20 digits, a tag 16.
const WORD_BYTES_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use fanfare_protocol::Epoch;
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn channel() -> ChannelName {
        ChannelName::new("c").unwrap()
    }

    fn publication() -> impl Strategy<Value = Publication> {
        let event = "[!-~]{1,200}";
        let user = proptest::option::of("\\PC{1,20}");
        let id = proptest::option::of(".{0,40}");
        (event, any::<Option<u128>>(), user, id, any::<String>()).prop_map(
            |(event, except, user, id, data)| {
                let event = EventName::new(&event).unwrap();
                let data = RawJson::encode(&data).unwrap();
                let mut publication = Publication::new(channel(), event, data);
                publication.except = except.map(SocketId::from_bits);
                publication.user = user.and_then(|user| UserId::new(&user).ok());
                publication.event_id = id.map(Arc::from);
                publication
            },
        )
    }

    #[track_caller]
    fn same(delivery: &Delivery, publication: &Publication) {
        assert_eq!(delivery.channel, publication.channel);
        assert_eq!(delivery.event, publication.event);
        assert_eq!(delivery.data, publication.data);
        assert_eq!(delivery.except, publication.except);
        assert_eq!(delivery.user, publication.user);
        assert_eq!(delivery.event_id, publication.event_id);
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_was(
            publication in publication(),
            (epoch, offset, tag, previous) in any::<(u64, u64, u64, u64)>(),
        ) {
            let position = Position { epoch: Epoch(epoch), offset, tag: Tag(tag) };
            let body = encode_body(&publication);
            let mut message = format!("1 {epoch:x} {offset} {previous:x} {tag:x} ").into_bytes();
            message.extend_from_slice(&body);
            let read = decode_message(&channel(), &message, MAX).unwrap();
            same(&read.delivery, &publication);
            prop_assert_eq!(read.delivery.position, Some(position));
            prop_assert_eq!(read.delivery.previous, Some(Tag(previous)));
            prop_assert_eq!(read.count, None);

            let kept = decode_kept(&channel(), position, Tag(previous), &body, MAX).unwrap();
            same(&kept, &publication);

            let mut message = format!("0 {tag} {epoch} {previous} {offset} {tag:x} ").into_bytes();
            message.extend_from_slice(&body);
            let read = decode_message(&channel(), &message, MAX).unwrap();
            same(&read.delivery, &publication);
            prop_assert_eq!(read.delivery.position, None);
            let term = Term { epoch: tag, since: epoch };
            prop_assert_eq!(read.count, Some(Count { term, previous, number: offset, id: tag }));
        }

        #[test]
        fn nothing_that_is_no_message_panics(bytes in any::<Vec<u8>>(), cut in any::<usize>()) {
            let _ = decode_message(&channel(), &bytes, MAX);
            let event = EventName::new("e").unwrap();
            let publication = Publication::new(channel(), event, RawJson::null());
            let mut message = b"0 0 0 1 2 a ".to_vec();
            message.extend_from_slice(&encode_body(&publication));
            message.truncate(cut % message.len());
            prop_assert!(decode_message(&channel(), &message, MAX).is_err());
        }

        /// What passes is one JSON value, whatever was written: it cannot end the frame that it is put into, nor begin another.
        #[test]
        fn what_passes_is_json(payload in json_or_not(), header in any::<Vec<u8>>()) {
            for mut message in [message_with(&payload), [b"0 0 0 1 2 a ", header.as_slice()].concat()] {
                if let Ok(read) = decode_message(&channel(), &message, MAX) {
                    let value = serde_json::from_str::<serde_json::Value>(read.delivery.data.as_str());
                    prop_assert!(value.is_ok(), "{payload:?}");
                    message.push(b'}');
                    prop_assert!(decode_message(&channel(), &message, MAX).is_err());
                }
            }
        }
    }

    fn message_with(payload: &str) -> Vec<u8> {
        let event = EventName::new("e").unwrap();
        let publication = Publication::new(channel(), event, RawJson::trusted(payload));
        [b"0 0 0 1 2 a ".to_vec(), encode_body(&publication)].concat()
    }

    fn json_or_not() -> impl Strategy<Value = String> {
        let pieces = [
            "{", "}", "[", "]", ",", ":", "\"a\"", "1", "null", " ", "\"", "\\", "\u{1}", "\n",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12)
            .prop_map(|all| all.concat())
    }

    #[test]
    fn a_payload_that_would_be_more_than_one_value_is_none() {
        let forgeries = [
            r#"null},{"type":"event","channel":"private-a","event":"e","data":1"#,
            r#"null,"channel":"private-a""#,
            "1 2",
            "",
            "{",
            "\"\u{1}\"",
            "NaN",
        ];
        for payload in forgeries {
            let error = decode_message(&channel(), &message_with(payload), MAX).unwrap_err();
            assert_eq!(error, NotAMessage { part: "payload" }, "{payload}");
        }
        let long = message_with("\"12345\"");
        assert!(decode_message(&channel(), &long, 7).is_ok());
        assert!(decode_message(&channel(), &long, 6).is_err());
    }

    #[test]
    fn fields_of_a_later_version_are_skipped() {
        let mut body = vec![0, 8, b'?', 0, 1, b'z', b'e', 0, 1, b'n'];
        body.extend_from_slice(b"null");
        let mut message = b"0 0 0 0 1 a ".to_vec();
        message.extend_from_slice(&body);
        let read = decode_message(&channel(), &message, MAX).unwrap();
        assert_eq!(read.delivery.event.as_str(), "n");
        assert_eq!(read.delivery.data, RawJson::null());
    }

    #[test]
    fn what_is_missing_is_named() {
        let rows: [(&[u8], &str); 13] = [
            (b"", "kind"),
            (b"2 x", "kind"),
            (b"1 g 1 0 1 ", "epoch"),
            (b"1 a x 0 1 ", "offset"),
            (b"0 x 2 ", "config-epoch"),
            (b"0 0 0 1 2 x ", "id"),
            (b"0 0 0 1 2 a ", "header"),
            (b"0 0 0 1 2 a \0\0null", "event"),
            (b"0 0 0 1 2 a \0\x04e\0\x01\x01null", "event"),
            (b"0 0 0 1 2 a \0\x08u\0\x01\x01e\0\x01nnull", "user"),
            (b"0 0 0 1 2 a \0\x08x\0\x01ae\0\x01nnull", "exception"),
            (b"0 0 0 1 2 a \0\x08i\0\x01\xffe\0\x01nnull", "event id"),
            (b"0 0 0 1 2 a \0\x04e\0\x01n\xff", "payload"),
        ];
        for (message, part) in rows {
            let error = decode_message(&channel(), message, MAX).unwrap_err();
            assert_eq!(error, NotAMessage { part });
        }
    }
}
