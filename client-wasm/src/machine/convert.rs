//! From the machine's types to plain JavaScript objects, and positions back.

use fanfare_client::{
    AuthReason, ChannelState, ClientError, ConnectionState, ConnectionStatus, GapReason,
    TokenReason,
};
use fanfare_protocol::{ChannelName, Epoch, Event, Member, NameError, Position, Reply, UserId};
use wasm_bindgen::JsValue;

use crate::bridge::Fields;
use crate::clock::Clock;
use crate::names::{CHANNELS, EVENTS, USERS};
use crate::read::Data;
use crate::text::{hexadecimal, socket_text};

impl Fields {
    /// Sets a field of an object that this module made.
    pub(crate) fn set(&self, name: &str, value: impl Into<JsValue>) {
        self.set_value(name, &value.into());
    }

    /// Sets a field when there is a value for it.
    pub(crate) fn set_some(&self, name: &str, value: Option<impl Into<JsValue>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

/// Where an error comes from: JavaScript's names of the server's refusals say it.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    Connection,
    Subscription,
    Request,
}

pub(crate) fn error(error: &ClientError, refused: Refused) -> Fields {
    let fields = Fields::new();
    fields.set("code", error_code(error, refused));
    fields.set("message", error.text());
    fields.set("retryable", error.is_retryable());
    match error {
        ClientError::Server {
            code, retry_after, ..
        } => {
            fields.set("serverCode", *code);
            fields.set_some("retryAfter", retry_after.map(number));
        }
        ClientError::Transport { code, .. } => fields.set("serverCode", *code),
        ClientError::AuthForbidden { status } => fields.set("status", *status),
        _ => {}
    }
    fields
}

pub(crate) fn channel_error(problem: &ClientError, channel: &ChannelName) -> Fields {
    let fields = error(problem, Refused::Subscription);
    fields.set("channel", channel.as_str());
    fields
}

fn error_code(error: &ClientError, refused: Refused) -> &'static str {
    match (error.name(), refused) {
        ("rejected", Refused::Subscription) => "subscribe-rejected",
        ("rejected", Refused::Request) => "publish-rejected",
        ("rejected", Refused::Connection) => "rejected",
        (name, _) => name,
    }
}

pub(crate) fn status(status: &ConnectionStatus, user: Option<&UserId>, clock: &Clock) -> Fields {
    let fields = Fields::new();
    fields.set("state", connection_state(status.state));
    fields.set("previous", connection_state(status.previous));
    fields.set("attempt", status.attempt);
    fields.set("resumed", status.resumed);
    let socket_id = status.socket_id.map(socket_text);
    fields.set_some("socketId", socket_id);
    fields.set_some("userId", user.map(UserId::as_str));
    fields.set_some("retryAt", status.retry_at.map(|at| clock.date(at)));
    fields.set_some("code", status.code);
    fields.set_some("reason", status.reason.as_deref());
    let problem = status.error.as_ref();
    fields.set_some("error", problem.map(|it| error(it, Refused::Connection)));
    fields
}

pub(crate) fn position(position: Position) -> Fields {
    let fields = Fields::new();
    fields.set("epoch", hexadecimal(position.epoch.0.into(), 1));
    fields.set("offset", number(position.offset));
    fields.set("tag", hexadecimal(position.tag.0.into(), 1));
    fields
}

/// Reads a position that an application kept; `None` when it is none.
pub(crate) fn read_position(fields: &Fields) -> Option<Position> {
    Some(Position {
        epoch: fields.text("epoch")?.parse().ok()?,
        offset: fields.number("offset")?,
        tag: fields.text("tag")?.parse().ok()?,
    })
}

pub(crate) fn members(members: Vec<Member<Data>>) -> js_sys::Array {
    let list = js_sys::Array::new();
    for member in members {
        let fields = Fields::new();
        fields.set("id", member.id.as_str());
        fields.set("info", member.info.0);
        list.push(&fields);
    }
    list
}

/// What a reply says beside that it came.
pub(crate) fn reply(reply: Reply<Data>) -> Fields {
    let fields = Fields::new();
    fields.set_some("userId", reply.user_id.as_ref().map(UserId::as_str));
    fields.set_some("expiresAt", reply.expires_at.map(number));
    fields.set_some("eventId", reply.event_id);
    fields.set_some("position", reply.position.map(position));
    if let Some(presence) = reply.presence {
        fields.set("count", number(presence.count));
        fields.set("members", members(presence.members));
    }
    let epoch = reply.position.map(|position| position.epoch);
    fields.set_some("events", reply.events.map(|list| events(list, epoch)));
    fields
}

/// The events of a history. Its first is of the epoch that the reply ends in, unless it says another.
fn events(events: Vec<Event<Data>>, mut epoch: Option<Epoch>) -> js_sys::Array {
    let list = js_sys::Array::new();
    for event in events {
        epoch = event.epoch.or(epoch);
        let fields = Fields::new();
        fields.set("channel", channel_value(&event.channel));
        fields.set(
            "event",
            EVENTS.with(|names| names.value(event.event.as_str())),
        );
        fields.set("data", event.data.0);
        fields.set_some("offset", event.offset.map(number));
        let epoch = epoch.filter(|_| event.offset.is_some());
        fields.set_some("epoch", epoch.map(epoch_text));
        fields.set_some("userId", event.user_id.as_ref().map(user_value));
        fields.set_some("eventId", event.event_id);
        list.push(&fields);
    }
    list
}

pub(crate) fn channel_value(channel: &ChannelName) -> JsValue {
    CHANNELS.with(|names| names.value(channel.as_str()))
}

pub(crate) fn user_value(user: &UserId) -> JsValue {
    USERS.with(|names| names.value(user.as_str()))
}

pub(crate) fn epoch_text(epoch: Epoch) -> String {
    hexadecimal(epoch.0.into(), 1)
}

/// A sentence about a name that is none, as its `Display` has it, without the machinery of formatting.
pub(crate) fn name_problem(problem: &NameError) -> String {
    match problem {
        NameError::Empty { what } => ["the ", what, " must not be empty"].concat(),
        NameError::TooLong { what, .. } => ["the ", what, " is too long"].concat(),
        NameError::BadCharacter {
            what, character, ..
        } => {
            let shown = character.encode_utf8(&mut [0; 4]).to_owned();
            ["the ", what, " must not contain `", &shown, "`"].concat()
        }
        _ => "this is no name".to_owned(),
    }
}

/// Exact up to 2^53, which no number of the protocol exceeds.
pub(crate) const fn number(number: u64) -> f64 {
    number as f64
}

pub(crate) const fn connection_state(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Idle => "idle",
        ConnectionState::Connecting => "connecting",
        ConnectionState::Connected => "connected",
        ConnectionState::Reconnecting => "reconnecting",
        ConnectionState::Offline => "offline",
        ConnectionState::Disconnected => "disconnected",
        _ => "failed",
    }
}

pub(crate) const fn channel_state(state: ChannelState) -> &'static str {
    match state {
        ChannelState::Authorizing => "authorizing",
        ChannelState::Subscribing => "subscribing",
        ChannelState::Subscribed => "subscribed",
        ChannelState::Suspended => "suspended",
        ChannelState::Closed => "closed",
        _ => "failed",
    }
}

pub(crate) fn gap_reason(reason: &GapReason) -> &str {
    match reason {
        GapReason::Expired => "expired",
        GapReason::Epoch => "epoch",
        GapReason::Away => "away",
        GapReason::Diverged => "diverged",
        GapReason::Server(words) => words,
        _ => "sequence",
    }
}

pub(crate) const fn token_reason(reason: TokenReason) -> &'static str {
    match reason {
        TokenReason::Connect => "connect",
        TokenReason::Expiring => "expiring",
        TokenReason::Rejected => "rejected",
    }
}

pub(crate) const fn auth_reason(reason: AuthReason) -> &'static str {
    match reason {
        AuthReason::Subscribe => "subscribe",
        AuthReason::Resubscribe => "resubscribe",
        AuthReason::Expired => "expired",
    }
}
