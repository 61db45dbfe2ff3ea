//! What a server can say, in few words.

use fanfare_client::Payload;
use fanfare_protocol::{
    ChannelName, Code, Connected, ConnectionLimits, Disconnect, Epoch, ErrorMessage, Event,
    EventName, Gap, Member, Position, Presence, Reply, Reset, ServerMessage, Skipped, SocketId,
    SubscriptionError, SubscriptionSucceeded, Tag, Unsubscribed, UserId,
};

/// A payload as a test writes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Text(&'static str),
    Number(u64),
    Added(UserId),
    Updated(UserId, u64),
    Removed(UserId),
}

impl Payload for Data {
    fn member_added(&self) -> Option<Member<Self>> {
        match self {
            Self::Added(id) => Some(member(id.as_str())),
            Self::Updated(id, info) => Some(Member {
                id: id.clone(),
                info: Self::Number(*info),
            }),
            _ => None,
        }
    }

    fn member_removed(&self) -> Option<(UserId, Option<String>)> {
        match self {
            Self::Removed(id) => Some((id.clone(), Some("left".to_owned()))),
            _ => None,
        }
    }
}

pub(crate) type Said = ServerMessage<Data>;

/// The server's clock when a connection is greeted.
pub(crate) const SERVER_TIME: u64 = 1_700_000_000_000;

pub(crate) fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).unwrap()
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub(crate) fn socket(number: u128) -> SocketId {
    SocketId::from_bits(number)
}

/// A position whose tag follows from epoch and offset: two histories never agree by chance.
pub(crate) fn at(epoch: u64, offset: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        offset,
        tag: tag(epoch, offset),
    }
}

pub(crate) fn tag(epoch: u64, offset: u64) -> Tag {
    if offset == 0 {
        Tag(0)
    } else {
        Tag(epoch * 1_000_000 + offset)
    }
}

pub(crate) fn member(id: &str) -> Member<Data> {
    Member {
        id: user(id),
        info: Data::Text("info"),
    }
}

pub(crate) fn hello() -> Connected {
    Connected {
        socket_id: socket(1),
        user_id: None,
        protocol: 1,
        ping_interval: 25_000,
        max_payload_size: 1024 * 1024,
        server_time: SERVER_TIME,
        limits: None,
    }
}

/// What a server allows that takes so many channels, and so many commands at once.
pub(crate) fn limits(channels_max: u64, commands_burst: u64) -> ConnectionLimits {
    ConnectionLimits {
        channels_max,
        commands_per_second: 50,
        commands_burst,
        message_bytes_max: 48 << 10,
        bytes_per_second: None,
        bytes_burst: None,
        idempotency_window: Some(600_000),
    }
}

pub(crate) fn connected() -> Said {
    ServerMessage::Connected(hello())
}

/// The server knows the user from the handshake.
pub(crate) fn connected_as(id: &str) -> Said {
    let mut hello = hello();
    hello.user_id = Some(user(id));
    ServerMessage::Connected(hello)
}

pub(crate) fn ok(id: u64) -> Said {
    ServerMessage::Ok(Reply::new(id))
}

pub(crate) fn authenticated(id: u64, user_id: &str, lifetime: Option<u64>) -> Said {
    ServerMessage::Ok(Reply {
        user_id: Some(user(user_id)),
        expires_at: lifetime.map(|lifetime| SERVER_TIME + lifetime),
        ..Reply::new(id)
    })
}

pub(crate) fn error(id: u64, code: Code) -> Said {
    ServerMessage::Error(ErrorMessage::new(Some(id), code))
}

pub(crate) fn succeeded(id: impl Into<Option<u64>>, channel: &str) -> SubscriptionSucceeded<Data> {
    SubscriptionSucceeded {
        id: id.into(),
        channel: name(channel),
        position: None,
        recovered: false,
        events: Vec::new(),
        presence: None,
        user_id: None,
    }
}

/// A confirmation of a channel that keeps history, after `since` or fresh.
pub(crate) fn succeeded_at(id: impl Into<Option<u64>>, channel: &str, position: Position) -> Said {
    ServerMessage::SubscriptionSucceeded(SubscriptionSucceeded {
        position: Some(position),
        ..succeeded(id, channel)
    })
}

/// A confirmation with everything that was missed.
pub(crate) fn recovered(
    id: impl Into<Option<u64>>,
    channel: &str,
    position: Position,
    events: Vec<Event<Data>>,
) -> Said {
    ServerMessage::SubscriptionSucceeded(SubscriptionSucceeded {
        position: Some(position),
        recovered: true,
        events,
        ..succeeded(id, channel)
    })
}

pub(crate) fn refused(id: impl Into<Option<u64>>, channel: &str, code: Code) -> Said {
    ServerMessage::SubscriptionError(SubscriptionError::new(id.into(), name(channel), code))
}

pub(crate) fn unsubscribed(id: impl Into<Option<u64>>, channel: &str, code: u16) -> Said {
    ServerMessage::Unsubscribed(Unsubscribed {
        id: id.into(),
        channel: name(channel),
        code,
        reason: String::new(),
    })
}

/// An event on a channel without history.
pub(crate) fn event(channel: &str, event: &str) -> Event<Data> {
    Event {
        channel: name(channel),
        event: EventName::new(event).unwrap(),
        data: Data::Text("data"),
        offset: None,
        tag: None,
        epoch: None,
        user_id: None,
        event_id: None,
    }
}

/// The event of a channel at a position; the epoch is not repeated.
pub(crate) fn event_at(channel: &str, epoch: u64, offset: u64) -> Event<Data> {
    Event {
        offset: Some(offset),
        tag: Some(tag(epoch, offset)),
        ..event(channel, "e")
    }
}

pub(crate) fn live(channel: &str, epoch: u64, offset: u64) -> Said {
    ServerMessage::Event(event_at(channel, epoch, offset))
}

pub(crate) fn came(channel: &str, id: &str, position: Option<Position>) -> Event<Data> {
    Event {
        data: Data::Added(user(id)),
        offset: position.map(|position| position.offset),
        tag: position.map(|position| position.tag),
        ..event(channel, EventName::MEMBER_ADDED)
    }
}

pub(crate) fn updated(
    channel: &str,
    id: &str,
    info: u64,
    position: Option<Position>,
) -> Event<Data> {
    Event {
        data: Data::Updated(user(id), info),
        ..Event {
            event: EventName::new(EventName::MEMBER_UPDATED).unwrap(),
            ..came(channel, id, position)
        }
    }
}

pub(crate) fn went(channel: &str, id: &str, position: Option<Position>) -> Event<Data> {
    Event {
        data: Data::Removed(user(id)),
        offset: position.map(|position| position.offset),
        tag: position.map(|position| position.tag),
        ..event(channel, EventName::MEMBER_REMOVED)
    }
}

pub(crate) fn members(ids: &[&str]) -> Presence<Data> {
    Presence {
        count: ids.len() as u64,
        members: ids.iter().map(|id| member(id)).collect(),
    }
}

pub(crate) fn skipped(channel: &str, epoch: u64, offset: u64) -> Said {
    ServerMessage::Skipped(Skipped {
        channel: name(channel),
        offset,
        tag: tag(epoch, offset),
        epoch: None,
    })
}

pub(crate) fn gap(channel: &str, lost: Option<(u64, u64)>) -> Said {
    ServerMessage::Gap(Gap {
        channel: name(channel),
        from: lost.map(|(from, _)| from),
        to: lost.map(|(_, to)| to),
        reason: "slow".to_owned(),
    })
}

pub(crate) fn reset(channel: &str, position: Position) -> Said {
    ServerMessage::Reset(Reset {
        channel: name(channel),
        position,
        reason: "restarted".to_owned(),
    })
}

pub(crate) fn pong() -> Said {
    ServerMessage::Pong {
        timestamp: SERVER_TIME,
    }
}

pub(crate) fn goodbye(code: Code, reconnect: bool, after: u64) -> Said {
    ServerMessage::Disconnect(Disconnect {
        code: code.number(),
        reason: code.text().to_owned(),
        reconnect,
        after,
    })
}
