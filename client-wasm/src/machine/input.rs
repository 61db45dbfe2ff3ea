//! What goes in: an array, its first item the kind of input.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use core::str::FromStr;

use fanfare_client::{
    Backoff, ChannelAuthReply, Client, Input, Millis, Options, QueueLimits, RequestId,
    SubscribeOptions, TokenReply,
};
use fanfare_protocol::json::read_message;
use fanfare_protocol::{NameError, Position, RawJson};

use crate::machine::node::{Data, Node, Problem};
use crate::machine::output;

/// The options, in this order; all of them are there.
pub(super) fn options(list: Node) -> Options {
    let number = |at| list.number_at(at).unwrap_or_default();
    let size = |at| usize::try_from(number(at)).unwrap_or(usize::MAX);
    let mut options = Options::default();
    options.backoff = Backoff {
        min: number(0),
        max: number(1),
        reset_after: number(2),
    };
    options.handshake_timeout = number(3);
    options.request_timeout = number(4);
    options.pong_timeout = number(5);
    options.probe_timeout = number(6);
    options.auth_timeout = number(7);
    options.queue = QueueLimits {
        ttl: number(8),
        messages_max: size(9),
        bytes_max: size(10),
        ..options.queue
    };
    options.token_provider = number(11) > 0;
    options.channel_auth = number(12) > 0;
    options
}

/// Takes an input in. See `Machine::input` for what comes back.
pub(super) fn take(client: &mut Client<Data>, list: Node, now: Millis) -> Option<String> {
    match read(client, list) {
        Ok(input) => {
            client.handle(input, now);
            None
        }
        Err(answer) => answer,
    }
}

/// The input, or the answer when there is nothing for the machine to do.
fn read(client: &Client<Data>, list: Node) -> Result<Input<Data>, Option<String>> {
    Ok(match list.number_at(0).unwrap_or_default() {
        0 => match list.item(1).map(message) {
            Some(Ok(message)) => Input::Message(message),
            Some(Err(Problem::UnknownType)) => return Err(None),
            _ => Input::Unreadable,
        },
        1 => Input::Connect,
        2 => Input::Disconnect,
        3 => Input::Opened,
        4 => Input::TimedOut,
        5 => Input::Online,
        6 => Input::Offline,
        7 => Input::Wake,
        8 => Input::Suspend,
        9 => Input::Closed {
            code: small(list, 1),
            reason: list.string_at(2).unwrap_or_default(),
        },
        10 => Input::SetToken(list.string_at(1)),
        11 => Input::Token(match (list.string_at(2), small(list, 1)) {
            (Some(token), _) => TokenReply::Token(token),
            (None, 0) => TokenReply::Anonymous,
            (None, 1) => TokenReply::Unauthorized,
            (None, _) => TokenReply::Failed,
        }),
        12 => Input::ChannelAuth {
            channel: named(list, 1)?,
            socket_id: client.socket_id().ok_or(None)?,
            reply: channel_auth(list),
        },
        13 => Input::Subscribe {
            channel: named(list, 1)?,
            options: subscribe_options(list)?,
        },
        14 => Input::Unsubscribe {
            channel: named(list, 1)?,
        },
        15 => {
            let at = client.position(&named(list, 1).map_err(|_| None)?);
            return Err(at.map(output::position));
        }
        _ => return request(list),
    })
}

fn request(list: Node) -> Result<Input<Data>, Option<String>> {
    let request = RequestId(list.number_at(1).unwrap_or_default());
    Ok(match list.number_at(0).unwrap_or_default() {
        16 => Input::Publish {
            request,
            channel: named(list, 2)?,
            event: named(list, 3)?,
            data: json(list, 4).unwrap_or_else(RawJson::null),
            key: key(list, 5)?,
        },
        17 => Input::Emit {
            request,
            event: named(list, 3)?,
            data: json(list, 4).unwrap_or_else(RawJson::null),
            key: key(list, 5)?,
        },
        18 => Input::Presence {
            request,
            channel: named(list, 2)?,
        },
        19 => Input::History {
            request,
            channel: named(list, 2)?,
            since: position(list, 3)?,
            limit: list.number_at(4).map(|limit| limit as u32),
        },
        _ => Input::Abort { request },
    })
}

fn message(frame: Node) -> Result<fanfare_protocol::ServerMessage<Data>, Problem> {
    let read = read_message(&frame, |payload| Data(payload.0));
    read.map_err(|error| error.problem)
}

fn channel_auth(list: Node) -> ChannelAuthReply {
    match (list.string_at(2), small(list, 4)) {
        (Some(auth), _) => ChannelAuthReply::Granted {
            auth,
            channel_data: list.string_at(3),
        },
        (None, 0) => ChannelAuthReply::Failed {
            retry_after: list.number_at(5),
        },
        (None, status) => ChannelAuthReply::Forbidden { status },
    }
}

fn subscribe_options(list: Node) -> Result<SubscribeOptions, Option<String>> {
    let mut options = SubscribeOptions::default();
    options.since = position(list, 2)?;
    options.rewind = list.number_at(3).map(|count| count as u32);
    options.data = json(list, 4);
    Ok(options)
}

fn key<T: FromStr<Err = NameError>>(list: Node, at: u32) -> Result<Option<T>, Option<String>> {
    match list.item(at) {
        Some(_) => named(list, at).map(Some),
        None => Ok(None),
    }
}

fn json(list: Node, at: u32) -> Option<RawJson> {
    list.string_at(at).map(RawJson::trusted)
}

fn small(list: Node, at: u32) -> u16 {
    list.number_at(at).unwrap_or_default() as u16
}

fn position(list: Node, at: u32) -> Result<Option<Position>, Option<String>> {
    let Some(fields) = list.item(at) else {
        return Ok(None);
    };
    let read = || {
        Some(Position {
            epoch: fields.string_at(0)?.parse().ok()?,
            offset: fields.number_at(1)?,
            tag: fields.string_at(2)?.parse().ok()?,
        })
    };
    match read() {
        None => Err(Some("a position is {epoch, offset, tag}".to_owned())),
        position => Ok(position),
    }
}

fn named<T: FromStr<Err = NameError>>(list: Node, at: u32) -> Result<T, Option<String>> {
    let text = list.string_at(at).unwrap_or_default();
    text.parse()
        .map_err(|problem| Some(output::name_problem(&problem)))
}
