//! What comes out: an array as JSON text, its first item the kind of output.

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use fanfare_client::{
    ChannelStatus, Client, ClientError, ConnectionStatus, Event, Gap, Message, Output, Reset,
};
use fanfare_protocol::json::List;
use fanfare_protocol::{Member, NameError, Position, UserId};

use crate::machine::node::Data;

/// An output as text.
pub(super) fn text(client: &Client<Data>, output: &Output<Data>) -> String {
    let mut text = String::with_capacity(128);
    let list = &mut List::open(&mut text);
    match output {
        Output::Event(event) => tell(client, event, list),
        Output::Send(text) => {
            list.number(0);
            list.text(text);
        }
        Output::Open { .. } => list.number(1),
        Output::Close { code, reason } => {
            list.number(2);
            list.number(u64::from(*code));
            list.text(reason);
        }
        Output::NeedToken { reason } => {
            list.number(3);
            list.text(reason.name());
        }
        Output::NeedChannelAuth {
            channel,
            socket_id,
            reason,
        } => {
            list.number(4);
            list.text(channel.as_str());
            list.hexadecimal(socket_id.bits(), 32);
            list.text(reason.name());
        }
        Output::CancelChannelAuth { channel } => {
            list.number(5);
            list.text(channel.as_str());
        }
    }
    list.close();
    text
}

fn tell(client: &Client<Data>, event: &Event<Data>, list: &mut List<'_>) {
    match event {
        Event::Connection(told) => status(client, told, list),
        Event::Channel(status) => channel(status, list),
        Event::Message(told) => message(client, told, list),
        Event::Sync {
            channel,
            count,
            members,
        } => {
            list.number(9);
            list.text(channel.as_str());
            list.number(*count);
            for Member { id, info } in members {
                list.text(id.as_str());
                list.number(u64::from(info.0));
            }
        }
        Event::Joined {
            channel, member, ..
        } => {
            list.number(10);
            list.text(channel.as_str());
            list.text(member.id.as_str());
            list.number(u64::from(member.info.0));
        }
        Event::Left {
            channel,
            id,
            reason,
            ..
        } => {
            list.number(11);
            list.text(channel.as_str());
            list.text(id.as_str());
            list.optional_text(reason.as_deref());
        }
        Event::Gap(told) => gap(told, list),
        Event::Reset(told) => reset(told, list),
        Event::RequestDone { request, result } => {
            list.number(14);
            list.number(request.0);
            if let Err(problem) = result {
                error(problem, list);
            }
        }
        Event::Error(problem) => {
            list.number(15);
            error(problem, list);
        }
    }
}

fn status(client: &Client<Data>, status: &ConnectionStatus, list: &mut List<'_>) {
    list.number(6);
    list.text(status.state.name());
    list.number(u64::from(status.attempt));
    list.flag(status.resumed);
    match status.socket_id {
        Some(id) => list.hexadecimal(id.bits(), 32),
        None => list.null(),
    }
    list.optional_text(client.user_id().map(UserId::as_str));
    list.optional_number(status.retry_at.map(|at| at.0));
    list.optional_number(status.code.map(u64::from));
    list.optional_text(status.reason.as_deref());
    if let Some(problem) = &status.error {
        error(problem, list);
    }
}

fn channel(status: &ChannelStatus, list: &mut List<'_>) {
    list.number(7);
    list.text(status.channel.as_str());
    list.text(status.state.name());
    if let Some(problem) = &status.error {
        error(problem, list);
    }
}

fn message(client: &Client<Data>, message: &Message<Data>, list: &mut List<'_>) {
    list.number(8);
    list.text(message.channel.as_str());
    list.text(message.event.as_str());
    list.number(u64::from(message.data.0));
    list.optional_text(message.user_id.as_ref().map(UserId::as_str));
    list.optional_text(message.event_id.as_deref());
    list.flag(message.recovered);
    list.optional_number(client.slot(&message.channel).map(|slot| u64::from(slot.0)));
    optional_position(message.position, list);
}

fn gap(gap: &Gap, list: &mut List<'_>) {
    list.number(12);
    list.text(gap.channel.as_str());
    list.optional_number(gap.from);
    list.optional_number(gap.to);
    list.text(gap.reason.name());
}

fn reset(reset: &Reset, list: &mut List<'_>) {
    list.number(13);
    list.text(reset.channel.as_str());
    list.text(&reset.reason);
    optional_position(Some(reset.position), list);
}

fn error(error: &ClientError, list: &mut List<'_>) {
    list.text(error.name());
    list.text(error.text());
    list.flag(error.is_retryable());
    let (code, status, retry_after) = match error {
        ClientError::Server {
            code, retry_after, ..
        } => (Some(*code), None, *retry_after),
        ClientError::Transport { code, .. } => (Some(*code), None, None),
        ClientError::AuthForbidden { status } => (None, Some(*status), None),
        _ => (None, None, None),
    };
    list.optional_number(code.map(u64::from));
    list.optional_number(status.map(u64::from));
    list.optional_number(retry_after);
}

fn optional_position(position: Option<Position>, list: &mut List<'_>) {
    if let Some(position) = position {
        list.hexadecimal(position.epoch.0.into(), 1);
        list.number(position.offset);
        list.hexadecimal(position.tag.0.into(), 1);
    }
}

/// A position as text.
pub(super) fn position(position: Position) -> String {
    let mut text = String::new();
    let mut list = List::open(&mut text);
    optional_position(Some(position), &mut list);
    list.close();
    text
}

/// A sentence about a name that is none, as its `Display` has it, without the machinery of formatting.
pub(super) fn name_problem(problem: &NameError) -> String {
    let (what, wrong) = match problem {
        NameError::Empty { what } => (what, " must not be empty"),
        NameError::TooLong { what, .. } => (what, " is too long"),
        NameError::BadCharacter { what, .. } => (what, " must not contain `"),
        _ => return "this is no name".to_owned(),
    };
    let mut text = String::from("the ");
    text.push_str(what);
    text.push_str(wrong);
    if let NameError::BadCharacter { character, .. } = problem {
        text.push(*character);
        text.push('`');
    }
    text
}
