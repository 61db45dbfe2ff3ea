//! The machine's values where they are names, JSON text and payloads.

use alloc::string::String;
use core::marker::PhantomData;

use fanfare_protocol::{
    ChannelKind, ChannelName, Command, Connected, Disconnect, ErrorMessage, Event, EventName,
    Member, Presence, RawJson, Reply, SocketId, SubscriptionError, UserId,
};

use crate::io::Payload;
use crate::machine::values::{Farewell, Greeting, Publication, Refusal, Said, Taken, Values};

/// Names and text.
#[derive(Debug)]
pub(crate) struct Wire<P>(PhantomData<P>);

/// What was published.
#[derive(Debug)]
pub(crate) struct Content<P> {
    pub(crate) event: EventName,
    pub(crate) data: P,
    pub(crate) user_id: Option<UserId>,
    pub(crate) event_id: Option<String>,
}

/// A coming, a going, or other info.
#[derive(Debug, Clone)]
pub(crate) enum Change<P> {
    Added(Member<P>),
    Updated(Member<P>),
    /// Who, and why in the server's words.
    Removed(UserId, Option<String>),
}

impl<P: Payload> Values for Wire<P> {
    type Channel = ChannelName;
    type User = UserId;
    type Socket = SocketId;
    type Text = String;
    type Hint = RawJson;
    type Command = Command;
    type Content = Content<P>;
    type Change = Change<P>;
    type Snapshot = Presence<P>;
    type Reply = Reply<P>;

    fn kind(channel: &ChannelName) -> ChannelKind {
        channel.kind()
    }

    fn personal(user: &UserId) -> ChannelName {
        ChannelName::user(user)
    }

    fn snapshot(reply: Reply<P>) -> Option<Presence<P>> {
        reply.presence
    }

    fn done() -> Reply<P> {
        Reply::new(0)
    }
}

impl<P: Payload> From<Connected> for Greeting<Wire<P>> {
    fn from(hello: Connected) -> Self {
        Self {
            socket: hello.socket_id,
            user: hello.user_id,
            protocol: hello.protocol,
            ping_interval: hello.ping_interval,
            max_payload_size: hello.max_payload_size,
            server_time: hello.server_time,
            limits: hello.limits,
        }
    }
}

impl<P: Payload> From<Event<P>> for Publication<Wire<P>> {
    fn from(event: Event<P>) -> Self {
        let change = match event.event.as_str() {
            EventName::MEMBER_ADDED => Some(event.data.member_added().map(Change::Added)),
            EventName::MEMBER_UPDATED => Some(event.data.member_added().map(Change::Updated)),
            EventName::MEMBER_REMOVED => {
                let removed = event.data.member_removed();
                Some(removed.map(|(id, reason)| Change::Removed(id, reason)))
            }
            _ => None,
        };
        let said = match change {
            Some(Some(change)) => Said::Change(change),
            Some(None) => Said::Unreadable,
            None => Said::Content(Content {
                event: event.event,
                data: event.data,
                user_id: event.user_id,
                event_id: event.event_id,
            }),
        };
        Self {
            said,
            offset: event.offset,
            tag: event.tag,
            epoch: event.epoch,
        }
    }
}

impl<P: Payload> From<Reply<P>> for Taken<Wire<P>> {
    fn from(reply: Reply<P>) -> Self {
        Self {
            id: reply.id,
            user: reply.user_id.clone(),
            expires_at: reply.expires_at,
            position: reply.position,
            reply,
        }
    }
}

impl<P: Payload> From<ErrorMessage> for Refusal<Wire<P>> {
    fn from(error: ErrorMessage) -> Self {
        Self {
            code: error.code,
            text: error.error,
            retry: error.retry,
            retry_after: error.retry_after,
        }
    }
}

impl<P: Payload> From<SubscriptionError> for Refusal<Wire<P>> {
    fn from(error: SubscriptionError) -> Self {
        Self {
            code: error.code,
            text: error.error,
            retry: error.retry,
            retry_after: error.retry_after,
        }
    }
}

impl<P: Payload> From<Disconnect> for Farewell<Wire<P>> {
    fn from(told: Disconnect) -> Self {
        Self {
            code: told.code,
            reason: told.reason,
            reconnect: told.reconnect,
            after: told.after,
        }
    }
}
