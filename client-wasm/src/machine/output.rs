//! What comes out: a list of numbers, the first of them the kind of output.

use fanfare_client::machine::output::{Command, News, Output};
use fanfare_client::machine::values::Held;
use fanfare_client::{ClientError, GapReason, Machine};

use crate::machine::numbers::{
    Number, Numbers, put_count, put_number, put_optional, put_position, put_value,
};

/// Puts an output out.
pub(super) fn put_out(output: &Output<Numbers>) {
    match output {
        Output::Open { .. } => put_number(0),
        Output::Close(goodbye) => put_all(&[1, *goodbye as u32]),
        Output::Send { id, command } => {
            put_number(2);
            put_optional(*id);
            put_command(command);
        }
        Output::NeedToken(reason) => put_all(&[3, *reason as u32]),
        Output::NeedChannelAuth {
            channel, reason, ..
        } => {
            put_about(4, *channel);
            put_number(*reason as u32);
        }
        Output::CancelChannelAuth(channel) => put_about(5, *channel),
        Output::Tell(news) => put_news(news),
    }
}

fn put_news(news: &News<Numbers>) {
    match news {
        News::Status(status) => {
            let state = status.state as u32;
            put_all(&[6, state, status.attempt, u32::from(status.resumed)]);
            put_optional(status.retry_at.map(|at| at.0));
            put_value(status.user);
            put_error(status.error.as_ref());
        }
        News::Channel {
            channel,
            state,
            error,
            ..
        } => {
            put_about(7, *channel);
            put_number(*state as u32);
            put_error(error.as_ref());
        }
        News::Message {
            channel,
            content,
            position,
            recovered,
        } => {
            put_about(8, *channel);
            put_all(&[*content, u32::from(*recovered)]);
            put_position(*position);
        }
        News::Sync { channel, since, .. } => {
            put_about(9, *channel);
            for change in since {
                change.put();
            }
        }
        News::Change {
            channel, change, ..
        } => {
            put_about(10, *channel);
            change.put();
        }
        News::Gap { channel, hole } => {
            put_about(11, *channel);
            put_optional(hole.from);
            put_optional(hole.to);
            put_reason(&hole.reason);
        }
        News::Reset {
            channel,
            position,
            reason,
        } => {
            put_about(12, *channel);
            reason.put();
            put_position(Some(*position));
        }
        News::Done { request, result } => {
            put_number(13);
            put_count(request.0);
            put_error(result.as_ref().err());
        }
        News::Error(error) => {
            put_number(14);
            put_error(Some(error));
        }
    }
}

fn put_command(command: &Command<Numbers>) {
    match command {
        Command::Asked(request) => {
            put_number(0);
            put_count(request.0);
        }
        Command::Authenticate { token } => put_about(1, *token),
        Command::Subscribe(list) => {
            put_number(2);
            for wanted in list {
                wanted.channel.put();
                put_value(wanted.auth);
                put_value(wanted.channel_data);
                put_value(wanted.hint);
                put_value(wanted.info);
                put_optional(wanted.rewind.map(u64::from));
                put_position(wanted.since);
            }
        }
        Command::Unsubscribe { channel } => put_about(3, *channel),
        Command::Presence { channel } => put_about(4, *channel),
        Command::Ping => put_number(5),
    }
}

/// At the end of an output: its kind and what else is known; nothing where there is none.
fn put_error(error: Option<&ClientError<Number>>) {
    let Some(error) = error else { return };
    put_number(match error {
        ClientError::Server { .. } => 0,
        ClientError::Transport { .. } => 1,
        ClientError::HandshakeTimeout => 2,
        ClientError::PingTimeout => 3,
        ClientError::Token { .. } => 4,
        ClientError::AuthFailed { .. } => 5,
        ClientError::AuthTimeout => 6,
        ClientError::Timeout => 7,
        ClientError::Expired => 8,
        ClientError::QueueFull => 9,
        ClientError::Protocol => 10,
        ClientError::Unauthorized { .. } => 11,
        ClientError::AuthForbidden { .. } => 12,
        ClientError::PayloadTooLarge { .. } => 13,
        ClientError::Closed => 14,
        ClientError::UnknownOutcome => 15,
        ClientError::Aborted => 16,
        ClientError::TooManyChannels { .. } => 18,
        _ => 17,
    });
    match error {
        ClientError::Server {
            code,
            text,
            retry,
            retry_after,
        } => {
            put_about(u32::from(*code), *text);
            put_number(u32::from(*retry));
            put_optional(*retry_after);
        }
        ClientError::Transport { code, reason } => put_details(Some(*code), Some(*reason)),
        ClientError::Unauthorized { code, reason } => put_details(*code, *reason),
        ClientError::Token { reason } => put_details(None, *reason),
        ClientError::AuthForbidden { status, reason } => put_details(Some(*status), *reason),
        ClientError::AuthFailed { status, reason } => put_details(*status, *reason),
        ClientError::PayloadTooLarge { bytes, bytes_max } => {
            put_count(*bytes);
            put_count(*bytes_max);
        }
        _ => {}
    }
}

fn put_details(number: Option<u16>, reason: Option<Number>) {
    put_optional(number.map(u64::from));
    put_value(reason);
}

/// Why messages were lost: a number for each reason, and the server's words behind the last of them.
fn put_reason(reason: &GapReason<Number>) {
    match reason {
        GapReason::Expired => put_number(0),
        GapReason::Epoch => put_number(1),
        GapReason::Away => put_number(2),
        GapReason::Diverged => put_number(3),
        GapReason::Sequence => put_number(4),
        GapReason::Overflow => put_number(5),
        GapReason::Server(words) => put_about(6, *words),
        _ => put_number(7),
    }
}

/// Puts out the number of every value that is kept.
pub(super) fn put_held(machine: &Machine<Numbers>) {
    machine.visit_held(|held| {
        let number = match held {
            Held::Channel(number)
            | Held::User(number)
            | Held::Text(number)
            | Held::Hint(number)
            | Held::Change(number) => number,
        };
        number.put();
    });
}

fn put_about(kind: u32, value: Number) {
    put_number(kind);
    value.put();
}

fn put_all(numbers: &[u32]) {
    for &number in numbers {
        put_number(number);
    }
}
