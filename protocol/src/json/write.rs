//! The only encoder: text is appended by hand, so that it costs no JSON library where size counts and no intermediate value where
//! speed counts.

use crate::command::{Command, Request, Subscribe};
use crate::json::field::Field;
use crate::json::writer::{Writer, write_list};
use crate::message::{
    Connected, ConnectionLimits, Disconnect, ErrorMessage, Event, Gap, Member, Presence, Reply,
    Reset, ServerMessage, Skipped, SubscriptionError, SubscriptionSucceeded, Unsubscribed,
};
use alloc::string::String;
use alloc::string::ToString as _;

/// Encodes a command.
#[must_use]
pub fn encode_request(request: &Request) -> String {
    let mut out = String::with_capacity(128);
    let mut object = Writer::open(&mut out, kind_of(&request.command));
    object.optional_number(Field::Id, request.id);
    match &request.command {
        Command::Authenticate { token } => object.text(Field::Token, token),
        Command::Subscribe(subscribe) => write_subscribe(subscribe, &mut object),
        Command::SubscribeAll(list) => {
            write_list(object.key(Field::Channels), list, |subscribe, out| {
                let mut object = Writer::bare(out);
                write_subscribe(subscribe, &mut object);
                object.close();
            });
        }
        Command::Unsubscribe { channel } | Command::Presence { channel } => {
            object.text(Field::Channel, channel.as_str());
        }
        Command::Publish {
            channel,
            event,
            data,
            key,
        } => {
            object.text(Field::Channel, channel.as_str());
            object.text(Field::Event, event.as_str());
            object.raw(Field::Data, data);
            object.optional_text(Field::Key, key.as_ref());
        }
        Command::Emit { event, data, key } => {
            object.text(Field::Event, event.as_str());
            object.raw(Field::Data, data);
            object.optional_text(Field::Key, key.as_ref());
        }
        Command::PresenceUpdate { channel, info } => {
            object.text(Field::Channel, channel.as_str());
            object.raw(Field::Info, info);
        }
        Command::History {
            channel,
            since,
            limit,
        } => {
            object.text(Field::Channel, channel.as_str());
            object.optional_position(Field::Since, *since);
            object.optional_number(Field::Limit, limit.map(u64::from));
        }
        Command::Ping | Command::Disconnect => {}
    }
    object.close();
    out
}

/// Encodes a message.
#[must_use]
pub fn encode_message(message: &ServerMessage) -> String {
    let mut out = String::with_capacity(128);
    encode_message_into(message, &mut out);
    out
}

/// Encodes several messages as one frame of the batch form: an array.
#[must_use]
pub fn encode_batch(messages: &[ServerMessage]) -> String {
    let mut out = String::with_capacity(128 * messages.len() + 2);
    write_list(&mut out, messages, encode_message_into);
    out
}

/// Appends a message to what is already there.
pub fn encode_message_into(message: &ServerMessage, out: &mut String) {
    match message {
        ServerMessage::Connected(connected) => write_connected(connected, out),
        ServerMessage::Ok(reply) => write_reply(reply, out),
        ServerMessage::Error(error) => write_error(error, out),
        ServerMessage::SubscriptionSucceeded(succeeded) => write_succeeded(succeeded, out),
        ServerMessage::SubscriptionError(error) => write_subscription_error(error, out),
        ServerMessage::Unsubscribed(unsubscribed) => write_unsubscribed(unsubscribed, out),
        ServerMessage::Event(event) => encode_event(event, out),
        ServerMessage::Skipped(skipped) => write_skipped(skipped, out),
        ServerMessage::Gap(gap) => write_gap(gap, out),
        ServerMessage::Reset(reset) => write_reset(reset, out),
        ServerMessage::Pong { timestamp } => {
            let mut object = Writer::open(out, "pong");
            object.number(Field::Timestamp, *timestamp);
            object.close();
        }
        ServerMessage::Disconnect(disconnect) => write_disconnect(disconnect, out),
    }
}

/// Appends an `event` message to what is already there; allocates only to grow `out`.
pub fn encode_event(event: &Event, out: &mut String) {
    let mut object = Writer::open(out, "event");
    object.text(Field::Channel, event.channel.as_str());
    write_event_fields(event, &mut object);
    object.close();
}

/// Appends events as they stand in `events` lists: an array of objects with neither `type` nor `channel`.
pub fn encode_list(events: &[Event], out: &mut String) {
    write_list(out, events, |event, out| {
        let mut object = Writer::bare(out);
        write_event_fields(event, &mut object);
        object.close();
    });
}

const fn kind_of(command: &Command) -> &'static str {
    match command {
        Command::Authenticate { .. } => "authenticate",
        Command::Subscribe(_) | Command::SubscribeAll(_) => "subscribe",
        Command::Unsubscribe { .. } => "unsubscribe",
        Command::Publish { .. } => "publish",
        Command::Emit { .. } => "emit",
        Command::Presence { .. } => "presence",
        Command::PresenceUpdate { .. } => "presence_update",
        Command::History { .. } => "history",
        Command::Ping => "ping",
        Command::Disconnect => "disconnect",
    }
}

fn write_subscribe(subscribe: &Subscribe, object: &mut Writer<'_>) {
    object.text(Field::Channel, subscribe.channel.as_str());
    object.optional_text(Field::Auth, subscribe.auth.as_ref());
    object.optional_text(Field::ChannelData, subscribe.channel_data.as_ref());
    if let Some(data) = &subscribe.data {
        object.raw(Field::Data, data);
    }
    if let Some(info) = &subscribe.info {
        object.raw(Field::Info, info);
    }
    object.optional_position(Field::Since, subscribe.since);
    object.optional_number(Field::Rewind, subscribe.rewind.map(u64::from));
}

fn write_event_fields(event: &Event, object: &mut Writer<'_>) {
    object.text(Field::Event, event.event.as_str());
    object.raw(Field::Data, &event.data);
    object.optional_number(Field::Offset, event.offset);
    object.optional_hexadecimal(Field::Tag, event.tag.map(|tag| tag.0));
    object.optional_hexadecimal(Field::Epoch, event.epoch.map(|epoch| epoch.0));
    object.optional_text(Field::UserId, event.user_id.as_ref());
    object.optional_text(Field::EventId, event.event_id.as_ref());
}

fn write_connected(connected: &Connected, out: &mut String) {
    let mut object = Writer::open(out, "connected");
    object.text(Field::SocketId, &connected.socket_id.to_string());
    object.optional_text(Field::UserId, connected.user_id.as_ref());
    object.number(Field::Protocol, u64::from(connected.protocol));
    object.number(Field::PingInterval, connected.ping_interval);
    object.number(Field::MaxPayloadSize, connected.max_payload_size);
    object.number(Field::ServerTime, connected.server_time);
    if let Some(limits) = &connected.limits {
        write_limits(limits, object.key(Field::Limits));
    }
    object.close();
}

fn write_limits(limits: &ConnectionLimits, out: &mut String) {
    let mut object = Writer::bare(out);
    object.number(Field::ChannelsMax, limits.channels_max);
    object.number(Field::CommandsPerSecond, limits.commands_per_second);
    object.number(Field::CommandsBurst, limits.commands_burst);
    object.number(Field::MessageBytesMax, limits.message_bytes_max);
    object.optional_number(Field::BytesPerSecond, limits.bytes_per_second);
    object.optional_number(Field::BytesBurst, limits.bytes_burst);
    object.optional_number(Field::IdempotencyWindow, limits.idempotency_window);
    object.close();
}

fn write_reply(reply: &Reply, out: &mut String) {
    let mut object = Writer::open(out, "ok");
    object.number(Field::Id, reply.id);
    object.optional_text(Field::UserId, reply.user_id.as_ref());
    object.optional_number(Field::ExpiresAt, reply.expires_at);
    object.optional_text(Field::EventId, reply.event_id.as_ref());
    if let Some(presence) = &reply.presence {
        write_members(&presence.members, object.key(Field::Members));
        object.number(Field::Count, presence.count);
    }
    if let Some(events) = &reply.events {
        if let Some(event) = events.first() {
            object.text(Field::Channel, event.channel.as_str());
        }
        encode_list(events, object.key(Field::Events));
    }
    object.optional_position(Field::Position, reply.position);
    object.close();
}

fn write_error(error: &ErrorMessage, out: &mut String) {
    let mut object = Writer::open(out, "error");
    object.optional_number(Field::Id, error.id);
    object.number(Field::Code, u64::from(error.code));
    object.text(Field::Error, &error.error);
    object.flag(Field::Retry, error.retry);
    object.optional_number(Field::RetryAfter, error.retry_after);
    object.close();
}

fn write_succeeded(succeeded: &SubscriptionSucceeded, out: &mut String) {
    let mut object = Writer::open(out, "subscription_succeeded");
    object.optional_number(Field::Id, succeeded.id);
    object.text(Field::Channel, succeeded.channel.as_str());
    object.optional_position(Field::Position, succeeded.position);
    object.flag(Field::Recovered, succeeded.recovered);
    if !succeeded.events.is_empty() {
        encode_list(&succeeded.events, object.key(Field::Events));
    }
    if let Some(presence) = &succeeded.presence {
        write_presence(presence, object.key(Field::Presence));
    }
    object.optional_text(Field::UserId, succeeded.user_id.as_ref());
    object.close();
}

fn write_presence(presence: &Presence, out: &mut String) {
    let mut object = Writer::bare(out);
    object.number(Field::Count, presence.count);
    write_members(&presence.members, object.key(Field::Members));
    object.close();
}

fn write_members(members: &[Member], out: &mut String) {
    write_list(out, members, |member, out| {
        let mut object = Writer::bare(out);
        object.text(Field::Id, member.id.as_str());
        object.raw(Field::Info, &member.info);
        object.close();
    });
}

fn write_subscription_error(error: &SubscriptionError, out: &mut String) {
    let mut object = Writer::open(out, "subscription_error");
    object.optional_number(Field::Id, error.id);
    object.text(Field::Channel, error.channel.as_str());
    object.number(Field::Code, u64::from(error.code));
    object.text(Field::Error, &error.error);
    object.flag(Field::Retry, error.retry);
    object.optional_number(Field::RetryAfter, error.retry_after);
    object.close();
}

fn write_unsubscribed(unsubscribed: &Unsubscribed, out: &mut String) {
    let mut object = Writer::open(out, "unsubscribed");
    object.optional_number(Field::Id, unsubscribed.id);
    object.text(Field::Channel, unsubscribed.channel.as_str());
    object.number(Field::Code, u64::from(unsubscribed.code));
    object.text(Field::Reason, &unsubscribed.reason);
    object.close();
}

fn write_skipped(skipped: &Skipped, out: &mut String) {
    let mut object = Writer::open(out, "skipped");
    object.text(Field::Channel, skipped.channel.as_str());
    object.number(Field::Offset, skipped.offset);
    object.optional_hexadecimal(Field::Tag, Some(skipped.tag.0));
    object.optional_hexadecimal(Field::Epoch, skipped.epoch.map(|epoch| epoch.0));
    object.close();
}

fn write_gap(gap: &Gap, out: &mut String) {
    let mut object = Writer::open(out, "gap");
    object.text(Field::Channel, gap.channel.as_str());
    object.optional_number(Field::From, gap.from);
    object.optional_number(Field::To, gap.to);
    object.text(Field::Reason, &gap.reason);
    object.close();
}

fn write_reset(reset: &Reset, out: &mut String) {
    let mut object = Writer::open(out, "reset");
    object.text(Field::Channel, reset.channel.as_str());
    object.optional_position(Field::Position, Some(reset.position));
    object.text(Field::Reason, &reset.reason);
    object.close();
}

fn write_disconnect(disconnect: &Disconnect, out: &mut String) {
    let mut object = Writer::open(out, "disconnect");
    object.number(Field::Code, u64::from(disconnect.code));
    object.text(Field::Reason, &disconnect.reason);
    object.flag(Field::Reconnect, disconnect.reconnect);
    object.number(Field::After, disconnect.after);
    object.close();
}
