//! From fields to a [`ServerMessage`].

use crate::json::error::{DecodeError, DecodeProblem};
use crate::json::field::Field;
use crate::json::value::{
    Object, ProblemOf, Reader, Value, epoch, flag, item, items, name, number, number_u16,
    number_u32, object, position, tag, text,
};
use crate::message::{
    Connected, Disconnect, ErrorMessage, Event, Gap, Member, Presence, Reply, Reset, ServerMessage,
    Skipped, SubscriptionError, SubscriptionSucceeded, Unsubscribed,
};
use crate::name::ChannelName;

/// Reads every message of a frame: one object, or an array of them.
///
/// The messages of a batch stand alone: one that cannot be read does not take the others with it.
pub fn read_messages<V: Value, P>(
    frame: V,
    payload: fn(V) -> P,
) -> Vec<Result<ServerMessage<P>, DecodeError<V::Problem>>> {
    let values = match frame.items() {
        Some(values) => values,
        None => vec![frame],
    };
    let read = |value: V| match value.object() {
        Some(object) => read_message(&object, payload),
        None => Err(DecodeError {
            id: None,
            problem: DecodeProblem::NotAnObject.into(),
        }),
    };
    values.into_iter().map(read).collect()
}

/// Reads one message; `payload` turns a payload's value into what the caller keeps.
///
/// # Errors
/// When the type is unknown ([`DecodeProblem::UnknownType`]: a newer server may say more, carry on), or a field that the type
/// promises is missing or wrong.
pub fn read_message<O: Object, P>(
    object: &O,
    payload: fn(O::Value) -> P,
) -> Result<ServerMessage<P>, DecodeError<ProblemOf<O>>> {
    let fields = Reader::new(object);
    message(&fields, payload).map_err(|problem| DecodeError {
        id: fields.optional(Field::Id, number).unwrap_or(None),
        problem,
    })
}

fn message<O: Object, P>(
    fields: &Reader<'_, O>,
    payload: fn(O::Value) -> P,
) -> Result<ServerMessage<P>, ProblemOf<O>> {
    fields.kind(Field::Type, |kind| {
        Ok(match kind {
            "event" => {
                let channel = fields.required(Field::Channel, name)?;
                ServerMessage::Event(event(fields, channel, payload)?)
            }
            "connected" => ServerMessage::Connected(connected(fields)?),
            "ok" => ServerMessage::Ok(reply(fields, payload)?),
            "error" => ServerMessage::Error(error(fields)?),
            "subscription_succeeded" => {
                ServerMessage::SubscriptionSucceeded(subscription_succeeded(fields, payload)?)
            }
            "subscription_error" => ServerMessage::SubscriptionError(subscription_error(fields)?),
            "unsubscribed" => ServerMessage::Unsubscribed(unsubscribed(fields)?),
            "skipped" => ServerMessage::Skipped(skipped(fields)?),
            "gap" => ServerMessage::Gap(gap(fields)?),
            "reset" => ServerMessage::Reset(reset(fields)?),
            "pong" => ServerMessage::Pong {
                timestamp: fields.required(Field::Timestamp, number)?,
            },
            "disconnect" => ServerMessage::Disconnect(disconnect(fields)?),
            _ => return Err(DecodeProblem::UnknownType.into()),
        })
    })
}

fn event<O: Object, P>(
    fields: &Reader<'_, O>,
    channel: ChannelName,
    payload: fn(O::Value) -> P,
) -> Result<Event<P>, ProblemOf<O>> {
    Ok(Event {
        channel,
        event: fields.required(Field::Event, name)?,
        data: payload(fields.payload(Field::Data)?),
        offset: fields.optional(Field::Offset, number)?,
        tag: fields.optional(Field::Tag, tag)?,
        epoch: fields.optional(Field::Epoch, epoch)?,
        user_id: fields.optional(Field::UserId, name)?,
        event_id: fields.optional(Field::EventId, text)?,
    })
}

fn events<V: Value, P>(
    list: &[V],
    channel: &ChannelName,
    payload: fn(V) -> P,
) -> Result<Vec<Event<P>>, V::Problem> {
    let read = |value: &V| {
        let fields = item(value, Field::Events)?;
        event(
            &Reader::within(&fields, Field::Events),
            channel.clone(),
            payload,
        )
    };
    list.iter().map(read).collect()
}

fn members<V: Value, P>(list: &[V], payload: fn(V) -> P) -> Result<Vec<Member<P>>, V::Problem> {
    let read = |value: &V| {
        let object = item(value, Field::Members)?;
        let fields = Reader::within(&object, Field::Members);
        Ok(Member {
            id: fields.required(Field::Id, name)?,
            info: payload(fields.payload(Field::Info)?),
        })
    };
    list.iter().map(read).collect()
}

fn presence<O: Object, P>(
    fields: &Reader<'_, O>,
    payload: fn(O::Value) -> P,
) -> Result<Presence<P>, ProblemOf<O>> {
    Ok(Presence {
        count: fields.required(Field::Count, number)?,
        members: members(&fields.required(Field::Members, items)?, payload)?,
    })
}

fn connected<O: Object>(fields: &Reader<'_, O>) -> Result<Connected, ProblemOf<O>> {
    Ok(Connected {
        socket_id: fields.required(Field::SocketId, name)?,
        user_id: fields.optional(Field::UserId, name)?,
        protocol: fields.required(Field::Protocol, number_u32)?,
        ping_interval: fields.required(Field::PingInterval, number)?,
        max_payload_size: fields.required(Field::MaxPayloadSize, number)?,
        server_time: fields.required(Field::ServerTime, number)?,
    })
}

fn reply<O: Object, P>(
    fields: &Reader<'_, O>,
    payload: fn(O::Value) -> P,
) -> Result<Reply<P>, ProblemOf<O>> {
    let history = match fields.optional(Field::Events, items)? {
        Some(list) if !list.is_empty() => {
            let channel = fields.required(Field::Channel, name)?;
            Some(events(&list, &channel, payload)?)
        }
        Some(_) => Some(Vec::new()),
        None => None,
    };
    let members = fields.optional(Field::Members, items)?;
    Ok(Reply {
        id: fields.required(Field::Id, number)?,
        user_id: fields.optional(Field::UserId, name)?,
        expires_at: fields.optional(Field::ExpiresAt, number)?,
        position: fields.optional(Field::Position, position)?,
        event_id: fields.optional(Field::EventId, text)?,
        presence: match members {
            Some(_) => Some(presence(fields, payload)?),
            None => None,
        },
        events: history,
    })
}

fn error<O: Object>(fields: &Reader<'_, O>) -> Result<ErrorMessage, ProblemOf<O>> {
    Ok(ErrorMessage {
        id: fields.optional(Field::Id, number)?,
        code: fields.required(Field::Code, number_u16)?,
        error: fields.required(Field::Error, text)?,
        retry: fields.required(Field::Retry, flag)?,
        retry_after: fields.optional(Field::RetryAfter, number)?,
    })
}

fn subscription_succeeded<O: Object, P>(
    fields: &Reader<'_, O>,
    payload: fn(O::Value) -> P,
) -> Result<SubscriptionSucceeded<P>, ProblemOf<O>> {
    let channel = fields.required(Field::Channel, name)?;
    let missed = match fields.optional(Field::Events, items)? {
        Some(list) => events(&list, &channel, payload)?,
        None => Vec::new(),
    };
    let present = match fields.optional(Field::Presence, object)? {
        Some(object) => Some(presence(
            &Reader::within(&object, Field::Presence),
            payload,
        )?),
        None => None,
    };
    Ok(SubscriptionSucceeded {
        id: fields.optional(Field::Id, number)?,
        channel,
        position: fields.optional(Field::Position, position)?,
        recovered: fields.required(Field::Recovered, flag)?,
        events: missed,
        presence: present,
    })
}

fn subscription_error<O: Object>(
    fields: &Reader<'_, O>,
) -> Result<SubscriptionError, ProblemOf<O>> {
    Ok(SubscriptionError {
        id: fields.optional(Field::Id, number)?,
        channel: fields.required(Field::Channel, name)?,
        code: fields.required(Field::Code, number_u16)?,
        error: fields.required(Field::Error, text)?,
        retry: fields.required(Field::Retry, flag)?,
    })
}

fn unsubscribed<O: Object>(fields: &Reader<'_, O>) -> Result<Unsubscribed, ProblemOf<O>> {
    Ok(Unsubscribed {
        id: fields.optional(Field::Id, number)?,
        channel: fields.required(Field::Channel, name)?,
        code: fields.required(Field::Code, number_u16)?,
        reason: fields.required(Field::Reason, text)?,
    })
}

fn skipped<O: Object>(fields: &Reader<'_, O>) -> Result<Skipped, ProblemOf<O>> {
    Ok(Skipped {
        channel: fields.required(Field::Channel, name)?,
        offset: fields.required(Field::Offset, number)?,
        tag: fields.required(Field::Tag, tag)?,
        epoch: fields.optional(Field::Epoch, epoch)?,
    })
}

fn gap<O: Object>(fields: &Reader<'_, O>) -> Result<Gap, ProblemOf<O>> {
    Ok(Gap {
        channel: fields.required(Field::Channel, name)?,
        from: fields.optional(Field::From, number)?,
        to: fields.optional(Field::To, number)?,
        reason: fields.required(Field::Reason, text)?,
    })
}

fn reset<O: Object>(fields: &Reader<'_, O>) -> Result<Reset, ProblemOf<O>> {
    Ok(Reset {
        channel: fields.required(Field::Channel, name)?,
        position: fields.required(Field::Position, position)?,
        reason: fields.required(Field::Reason, text)?,
    })
}

fn disconnect<O: Object>(fields: &Reader<'_, O>) -> Result<Disconnect, ProblemOf<O>> {
    Ok(Disconnect {
        code: fields.required(Field::Code, number_u16)?,
        reason: fields.required(Field::Reason, text)?,
        reconnect: fields.required(Field::Reconnect, flag)?,
        after: fields.required(Field::After, number)?,
    })
}
