//! From fields to a [`ServerMessage`].

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::json::error::{DecodeError, DecodeProblem, Place};
use crate::json::field::Field;
use crate::json::value::{
    Object, ProblemOf, Reader, Value, flag, hexadecimal, item, items, name, number, number_u16,
    number_u32, object, position, text,
};
use crate::message::{
    Connected, ConnectionLimits, Disconnect, ErrorMessage, Event, Gap, Member, Presence, Reply,
    Reset, ServerMessage, Skipped, SubscriptionError, SubscriptionSucceeded, Unsubscribed,
};
use crate::name::{ChannelName, SocketId, UserId};
use crate::position::{Epoch, Position, Tag};

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
    let problem = Cell::new(None);
    let fields = Fields {
        reader: Reader::new(object),
        problem: &problem,
    };
    let message = message(&fields, payload);
    match problem.take() {
        None => Ok(message),
        Some(problem) => Err(DecodeError {
            id: fields.maybe_number(Field::Id),
            problem,
        }),
    }
}

/// Reads fields without stopping: what is missing or wrong has a stand-in, and the first problem is kept. Every way out of a
/// message that is half built costs code, and a browser loads it.
struct Fields<'a, O: Object> {
    reader: Reader<'a, O>,
    problem: &'a Cell<Option<ProblemOf<O>>>,
}

impl<'a, O: Object> Fields<'a, O> {
    fn within(&self, object: &'a O, within: Field) -> Self {
        Self {
            reader: Reader::within(object, within),
            problem: self.problem,
        }
    }

    fn fail(&self, problem: ProblemOf<O>) {
        let first = self.problem.take();
        self.problem.set(Some(first.unwrap_or(problem)));
    }

    fn optional<T>(
        &self,
        field: Field,
        read: fn(&O::Value, Place) -> Result<T, ProblemOf<O>>,
    ) -> Option<T> {
        let value = self.reader.present(field)?;
        match read(&value, self.reader.place(field)) {
            Ok(read) => Some(read),
            Err(problem) => {
                self.fail(problem);
                None
            }
        }
    }

    fn required<T: StandIn>(
        &self,
        field: Field,
        read: fn(&O::Value, Place) -> Result<T, ProblemOf<O>>,
    ) -> T {
        match self.optional(field, read) {
            Some(read) => read,
            None => {
                // Where it was there and wrong, that has been said, and is the first problem.
                self.fail(self.reader.missing(field));
                T::stand_in()
            }
        }
    }

    fn payload(&self, field: Field) -> O::Value {
        self.reader.payload(field).unwrap_or_else(|problem| {
            self.fail(problem);
            O::Value::null()
        })
    }

    fn number(&self, field: Field) -> u64 {
        self.required(field, number)
    }

    fn text(&self, field: Field) -> String {
        self.required(field, text)
    }

    fn flag(&self, field: Field) -> bool {
        self.required(field, flag)
    }

    fn code(&self) -> u16 {
        self.required(Field::Code, number_u16) as u16
    }

    fn channel(&self) -> ChannelName {
        self.required(Field::Channel, name)
    }

    fn maybe_number(&self, field: Field) -> Option<u64> {
        self.optional(field, number)
    }

    fn maybe_position(&self) -> Option<Position> {
        self.optional(Field::Position, position)
    }

    fn maybe_user(&self) -> Option<UserId> {
        self.optional(Field::UserId, name)
    }

    fn maybe_epoch(&self) -> Option<Epoch> {
        self.optional(Field::Epoch, hexadecimal).map(Epoch)
    }

    /// The objects of a list, each with `read`.
    fn each<T>(
        &self,
        list: &[O::Value],
        within: Field,
        read: impl Fn(&Fields<'_, O>) -> T,
    ) -> Vec<T> {
        let mut all = Vec::with_capacity(list.len());
        for value in list {
            match item(value, within) {
                Ok(object) => {
                    let fields = Fields {
                        reader: Reader::within(&object, within),
                        problem: self.problem,
                    };
                    all.push(read(&fields));
                }
                Err(problem) => self.fail(problem),
            }
        }
        all
    }
}

/// What stands in a field's place until its message is given up.
pub(crate) trait StandIn {
    fn stand_in() -> Self;
}

macro_rules! stand_in {
    ($($kind:ty => $value:expr),* $(,)?) => {
        $(impl StandIn for $kind {
            fn stand_in() -> Self {
                $value
            }
        })*
    };
}

stand_in! {
    u64 => 0,
    bool => false,
    String => Self::new(),
    Position => Self::start(Epoch(0)),
    SocketId => Self::from_bits(0),
}

impl<V> StandIn for Vec<V> {
    fn stand_in() -> Self {
        Self::new()
    }
}

fn message<O: Object, P>(fields: &Fields<'_, O>, payload: fn(O::Value) -> P) -> ServerMessage<P> {
    let kind = fields.text(Field::Type);
    match kind.as_str() {
        "event" => {
            let channel = fields.channel();
            ServerMessage::Event(event(fields, channel, payload))
        }
        "connected" => ServerMessage::Connected(connected(fields)),
        "ok" => ServerMessage::Ok(reply(fields, payload)),
        "error" => ServerMessage::Error(error(fields)),
        "subscription_succeeded" => {
            ServerMessage::SubscriptionSucceeded(subscription_succeeded(fields, payload))
        }
        "subscription_error" => ServerMessage::SubscriptionError(SubscriptionError {
            id: fields.maybe_number(Field::Id),
            channel: fields.channel(),
            code: fields.code(),
            error: fields.text(Field::Error),
            retry: fields.flag(Field::Retry),
            retry_after: fields.maybe_number(Field::RetryAfter),
        }),
        "unsubscribed" => ServerMessage::Unsubscribed(Unsubscribed {
            id: fields.maybe_number(Field::Id),
            channel: fields.channel(),
            code: fields.code(),
            reason: fields.text(Field::Reason),
        }),
        "skipped" => ServerMessage::Skipped(Skipped {
            channel: fields.channel(),
            offset: fields.number(Field::Offset),
            tag: Tag(fields.required(Field::Tag, hexadecimal)),
            epoch: fields.maybe_epoch(),
        }),
        "gap" => ServerMessage::Gap(Gap {
            channel: fields.channel(),
            from: fields.maybe_number(Field::From),
            to: fields.maybe_number(Field::To),
            reason: fields.text(Field::Reason),
        }),
        "reset" => ServerMessage::Reset(Reset {
            channel: fields.channel(),
            position: fields.required(Field::Position, position),
            reason: fields.text(Field::Reason),
        }),
        "disconnect" => ServerMessage::Disconnect(Disconnect {
            code: fields.code(),
            reason: fields.text(Field::Reason),
            reconnect: fields.flag(Field::Reconnect),
            after: fields.number(Field::After),
        }),
        "pong" => ServerMessage::Pong {
            timestamp: fields.number(Field::Timestamp),
        },
        _ => {
            fields.fail(DecodeProblem::UnknownType.into());
            ServerMessage::Pong { timestamp: 0 }
        }
    }
}

fn event<O: Object, P>(
    fields: &Fields<'_, O>,
    channel: ChannelName,
    payload: fn(O::Value) -> P,
) -> Event<P> {
    Event {
        channel,
        event: fields.required(Field::Event, name),
        data: payload(fields.payload(Field::Data)),
        offset: fields.maybe_number(Field::Offset),
        tag: fields.optional(Field::Tag, hexadecimal).map(Tag),
        epoch: fields.maybe_epoch(),
        user_id: fields.maybe_user(),
        event_id: fields.optional(Field::EventId, text),
    }
}

fn events<O: Object, P>(
    fields: &Fields<'_, O>,
    list: &[O::Value],
    channel: &ChannelName,
    payload: fn(O::Value) -> P,
) -> Vec<Event<P>> {
    fields.each(list, Field::Events, |fields| {
        event(fields, channel.clone(), payload)
    })
}

fn presence<O: Object, P>(fields: &Fields<'_, O>, payload: fn(O::Value) -> P) -> Presence<P> {
    let count = fields.number(Field::Count);
    let list = fields.required(Field::Members, items);
    let members = fields.each(&list, Field::Members, |fields| Member {
        id: fields.required(Field::Id, name),
        info: payload(fields.payload(Field::Info)),
    });
    Presence { count, members }
}

fn connected<O: Object>(fields: &Fields<'_, O>) -> Connected {
    Connected {
        socket_id: fields.required(Field::SocketId, name),
        user_id: fields.maybe_user(),
        protocol: fields.required(Field::Protocol, number_u32) as u32,
        ping_interval: fields.number(Field::PingInterval),
        max_payload_size: fields.number(Field::MaxPayloadSize),
        server_time: fields.number(Field::ServerTime),
        limits: fields
            .optional(Field::Limits, object)
            .map(|object| limits(&fields.within(&object, Field::Limits))),
    }
}

fn limits<O: Object>(fields: &Fields<'_, O>) -> ConnectionLimits {
    ConnectionLimits {
        channels_max: fields.number(Field::ChannelsMax),
        commands_per_second: fields.number(Field::CommandsPerSecond),
        commands_burst: fields.number(Field::CommandsBurst),
        message_bytes_max: fields.number(Field::MessageBytesMax),
        bytes_per_second: fields.maybe_number(Field::BytesPerSecond),
        bytes_burst: fields.maybe_number(Field::BytesBurst),
        idempotency_window: fields.maybe_number(Field::IdempotencyWindow),
    }
}

fn reply<O: Object, P>(fields: &Fields<'_, O>, payload: fn(O::Value) -> P) -> Reply<P> {
    let past = fields.optional(Field::Events, items).map(|list| {
        if list.is_empty() {
            Vec::new()
        } else {
            events(fields, &list, &fields.channel(), payload)
        }
    });
    let has_members = fields.optional(Field::Members, items).is_some();
    Reply {
        id: fields.number(Field::Id),
        user_id: fields.maybe_user(),
        expires_at: fields.maybe_number(Field::ExpiresAt),
        position: fields.maybe_position(),
        event_id: fields.optional(Field::EventId, text),
        presence: has_members.then(|| presence(fields, payload)),
        events: past,
    }
}

fn error<O: Object>(fields: &Fields<'_, O>) -> ErrorMessage {
    ErrorMessage {
        id: fields.maybe_number(Field::Id),
        code: fields.code(),
        error: fields.text(Field::Error),
        retry: fields.flag(Field::Retry),
        retry_after: fields.maybe_number(Field::RetryAfter),
    }
}

fn subscription_succeeded<O: Object, P>(
    fields: &Fields<'_, O>,
    payload: fn(O::Value) -> P,
) -> SubscriptionSucceeded<P> {
    let channel = fields.channel();
    let missed = fields.optional(Field::Events, items).unwrap_or_default();
    let present = fields.optional(Field::Presence, object);
    SubscriptionSucceeded {
        id: fields.maybe_number(Field::Id),
        position: fields.maybe_position(),
        recovered: fields.flag(Field::Recovered),
        events: events(fields, &missed, &channel, payload),
        presence: present
            .as_ref()
            .map(|object| presence(&fields.within(object, Field::Presence), payload)),
        user_id: fields.maybe_user(),
        channel,
    }
}
