//! From fields to a [`Request`].

use crate::command::{Command, Request, SUBSCRIBE_CHANNELS_MAX, Subscribe};
use crate::json::error::{DecodeError, DecodeProblem, Place};
use crate::json::field::Field;
use crate::json::value::{
    Object, Reader, Value, item, items, name, number, number_u32, position, text,
};
use crate::raw::RawJson;
use alloc::vec::Vec;

/// Reads a command of the native dialect.
pub(crate) fn read_request<O: Object<Value: Value<Problem = DecodeProblem>>>(
    object: &O,
    payload: fn(O::Value) -> RawJson,
) -> Result<Request, DecodeError> {
    let fields = Reader::new(object);
    let id = fields.optional(Field::Id, number)?;
    match command(&fields, payload) {
        Ok(command) => Ok(Request { id, command }),
        Err(problem) => Err(DecodeError { id, problem }),
    }
}

fn command<O: Object<Value: Value<Problem = DecodeProblem>>>(
    fields: &Reader<'_, O>,
    payload: fn(O::Value) -> RawJson,
) -> Result<Command, DecodeProblem> {
    fields.kind(Field::Type, |kind| {
        Ok(match kind {
            "authenticate" => Command::Authenticate {
                token: fields.required(Field::Token, text)?,
            },
            "subscribe" => read_subscribe(fields, payload)?,
            "unsubscribe" => Command::Unsubscribe {
                channel: fields.required(Field::Channel, name)?,
            },
            "publish" => Command::Publish {
                channel: fields.required(Field::Channel, name)?,
                event: fields.required(Field::Event, name)?,
                data: payload(fields.payload(Field::Data)?),
                key: fields.optional(Field::Key, name)?,
            },
            "emit" => Command::Emit {
                event: fields.required(Field::Event, name)?,
                data: payload(fields.payload(Field::Data)?),
                key: fields.optional(Field::Key, name)?,
            },
            "presence" => Command::Presence {
                channel: fields.required(Field::Channel, name)?,
            },
            "presence_update" => Command::PresenceUpdate {
                channel: fields.required(Field::Channel, name)?,
                info: payload(fields.payload(Field::Info)?),
            },
            "history" => Command::History {
                channel: fields.required(Field::Channel, name)?,
                since: fields.optional(Field::Since, position)?,
                limit: fields
                    .optional(Field::Limit, number_u32)?
                    .map(|limit| limit as u32),
            },
            "ping" => Command::Ping,
            "disconnect" => Command::Disconnect,
            _ => return Err(DecodeProblem::UnknownType),
        })
    })
}

/// Reads a `subscribe` of one channel or of several, the same in both dialects.
pub(crate) fn read_subscribe<O: Object<Value: Value<Problem = DecodeProblem>>>(
    fields: &Reader<'_, O>,
    payload: fn(O::Value) -> RawJson,
) -> Result<Command, DecodeProblem> {
    match fields.optional(Field::Channels, channels)? {
        None => Ok(Command::Subscribe(read_channel(fields, payload)?)),
        Some(list) => Ok(Command::SubscribeAll(
            list.iter()
                .map(|value| {
                    let object = item(value, Field::Channels)?;
                    read_channel(&Reader::within(&object, Field::Channels), payload)
                })
                .collect::<Result<_, _>>()?,
        )),
    }
}

/// The length of a list is checked before anything in it is read.
fn channels<V: Value<Problem = DecodeProblem>>(
    value: &V,
    at: Place,
) -> Result<Vec<V>, DecodeProblem> {
    let list = items(value, at)?;
    if list.is_empty() || list.len() > SUBSCRIBE_CHANNELS_MAX {
        let expected = "a list of 1 to 1,000 objects";
        return Err(DecodeProblem::WrongType { at, expected });
    }
    Ok(list)
}

fn read_channel<O: Object<Value: Value<Problem = DecodeProblem>>>(
    fields: &Reader<'_, O>,
    payload: fn(O::Value) -> RawJson,
) -> Result<Subscribe, DecodeProblem> {
    Ok(Subscribe {
        channel: fields.required(Field::Channel, name)?,
        auth: fields.optional(Field::Auth, text)?,
        channel_data: fields.optional(Field::ChannelData, text)?,
        data: fields.optional_payload(Field::Data).map(payload),
        info: fields.optional_payload(Field::Info).map(payload),
        since: fields.optional(Field::Since, position)?,
        rewind: fields
            .optional(Field::Rewind, number_u32)?
            .map(|count| count as u32),
    })
}
