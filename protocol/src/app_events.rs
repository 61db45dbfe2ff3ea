//! The `app-events.v1` dialect: the same channels for clients that say `action` where the native dialect says `type`.
//!
//! | from the client | `action` and fields |
//! |---|---|
//! | subscribe | `subscribe`: `channel` and the other fields of the native `subscribe`, or `channels` |
//! | unsubscribe | `unsubscribe`: `channel` |
//! | sign of life | `ping` |
//! | goodbye | `disconnect` |
//!
//! | to the client | `type` and fields |
//! |---|---|
//! | first message | `connected`: `connectionId`, `userId?` |
//! | confirmed | `subscribed`: `channel` |
//! | ended | `unsubscribed`: `channel` |
//! | published | `message`: `channel`, `data: {type, data}` |
//! | failed | `error`: `channel?`, `code`, `error` |
//! | sign of life | `pong`: `timestamp` |
//!
//! There are no positions: what is published while such a client is away does not reach it.
//! `member_updated` is not shown: the dialect has no list of members that it would change.

#[cfg(feature = "json")]
use crate::command::{Command, Request};
use crate::json::{Field, Writer};
use crate::message::{Event, ServerMessage};
use crate::name::EventName;
use alloc::string::String;
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

/// Reads one command. An `id` is taken where there is one, and comes back in no message of this dialect.
///
/// # Errors
/// As [`json::decode_request`](crate::json::decode_request), with `action` in place of `type`.
#[cfg(feature = "json")]
pub fn decode_request(text: &str) -> Result<Request, crate::json::DecodeError> {
    use crate::json::{DecodeError, DecodeProblem, Reader, name, number, payload};

    let object = crate::json::root(text)?;
    let fields = Reader::new(&object);
    let id = fields.optional(Field::Id, number)?;
    let command = fields.kind(Field::Action, |action| {
        Ok(match action {
            "subscribe" => crate::json::read_subscribe(&fields, payload)?,
            "unsubscribe" => Command::Unsubscribe {
                channel: fields.required(Field::Channel, name)?,
            },
            "ping" => Command::Ping,
            "disconnect" => Command::Disconnect,
            _ => return Err(DecodeProblem::UnknownType),
        })
    });
    match command {
        Ok(command) => Ok(Request { id, command }),
        Err(problem) => Err(DecodeError { id, problem }),
    }
}

/// Encodes a message: no frame where the dialect has no word for it, several where a subscription brings events with it.
#[must_use]
pub fn encode_message(message: &ServerMessage) -> Vec<String> {
    match message {
        ServerMessage::Connected(connected) => vec![object("connected", |object| {
            object.text(Field::ConnectionId, &connected.socket_id.to_string());
            object.optional_text(Field::UserIdCamel, connected.user_id.as_ref());
        })],
        ServerMessage::SubscriptionSucceeded(succeeded) => {
            let subscribed = object("subscribed", |object| {
                object.text(Field::Channel, succeeded.channel.as_str());
            });
            let events = succeeded.events.iter().filter_map(shown);
            core::iter::once(subscribed).chain(events).collect()
        }
        ServerMessage::Unsubscribed(unsubscribed) => vec![object("unsubscribed", |object| {
            object.text(Field::Channel, unsubscribed.channel.as_str());
        })],
        ServerMessage::Event(event) => shown(event).into_iter().collect(),
        ServerMessage::Error(error) => vec![object("error", |object| {
            object.number(Field::Code, u64::from(error.code));
            object.text(Field::Error, &error.error);
        })],
        ServerMessage::SubscriptionError(error) => vec![object("error", |object| {
            object.text(Field::Channel, error.channel.as_str());
            object.number(Field::Code, u64::from(error.code));
            object.text(Field::Error, &error.error);
        })],
        ServerMessage::Pong { timestamp } => vec![object("pong", |object| {
            object.number(Field::Timestamp, *timestamp);
        })],
        ServerMessage::Ok(_)
        | ServerMessage::Skipped(_)
        | ServerMessage::Gap(_)
        | ServerMessage::Reset(_)
        | ServerMessage::Disconnect(_) => Vec::new(),
    }
}

/// Appends a `message` to what is already there, or nothing where the dialect does not show the event; allocates only to grow
/// `out`.
pub fn encode_event(event: &Event, out: &mut String) {
    if event.event.as_str() == EventName::MEMBER_UPDATED {
        return;
    }
    let mut object = Writer::open(out, "message");
    object.text(Field::Channel, event.channel.as_str());
    let mut data = Writer::open(object.key(Field::Data), event.event.as_str());
    data.raw(Field::Data, &event.data);
    data.close();
    object.close();
}

fn shown(event: &Event) -> Option<String> {
    let mut out = String::new();
    encode_event(event, &mut out);
    (!out.is_empty()).then_some(out)
}

fn object(kind: &str, write: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut out = String::with_capacity(96);
    let mut object = Writer::open(&mut out, kind);
    write(&mut object);
    object.close();
    out
}
