//! What comes out: a list of numbers that begins with a [`seam::Output`].

use fanfare_client::machine::output::{Command, Goodbye, News, Output};
use fanfare_client::machine::values::Held;
use fanfare_client::{
    AuthReason, ChannelState, ClientError, ConnectionState, GapReason, Machine, TokenReason,
};

use crate::machine::numbers::{
    Number, Numbers, put_count, put_number, put_optional, put_position, put_value,
};
use crate::machine::seam::{self, ErrorKind};

/// Puts an output out.
pub(super) fn put_out(output: &Output<Numbers>) {
    match output {
        Output::Open { .. } => seam::Output::Open.put(),
        Output::Close(goodbye) => {
            seam::Output::Close.put();
            self::goodbye(*goodbye).put();
        }
        Output::Send { id, command } => {
            seam::Output::Send.put();
            put_optional(*id);
            put_command(command);
        }
        Output::NeedToken(reason) => {
            seam::Output::NeedToken.put();
            token_reason(*reason).put();
        }
        Output::NeedChannelAuth {
            channel, reason, ..
        } => {
            put_about(seam::Output::NeedChannelAuth, *channel);
            auth_reason(*reason).put();
        }
        Output::CancelChannelAuth(channel) => put_about(seam::Output::CancelChannelAuth, *channel),
        Output::Tell(news) => put_news(news),
    }
}

fn put_news(news: &News<Numbers>) {
    match news {
        News::Status(status) => {
            seam::Output::Status.put();
            connection_state(status.state).put();
            put_number(status.attempt);
            put_flag(status.resumed);
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
            put_about(seam::Output::Channel, *channel);
            channel_state(*state).put();
            put_error(error.as_ref());
        }
        News::Message {
            channel,
            content,
            position,
            recovered,
        } => {
            put_about(seam::Output::Message, *channel);
            put_number(*content);
            put_flag(*recovered);
            put_position(*position);
        }
        News::Sync { channel, since, .. } => {
            put_about(seam::Output::Members, *channel);
            for change in since {
                change.put();
            }
        }
        News::Change {
            channel, change, ..
        } => {
            put_about(seam::Output::Change, *channel);
            change.put();
        }
        News::Gap { channel, hole } => {
            put_about(seam::Output::Gap, *channel);
            put_optional(hole.from);
            put_optional(hole.to);
            put_reason(&hole.reason);
        }
        News::Reset {
            channel,
            position,
            reason,
        } => {
            put_about(seam::Output::Reset, *channel);
            reason.put();
            put_position(Some(*position));
        }
        News::Done { request, result } => {
            seam::Output::Done.put();
            put_count(request.0);
            put_error(result.as_ref().err());
        }
        News::Error(error) => {
            seam::Output::Error.put();
            put_error(Some(error));
        }
    }
}

fn put_command(command: &Command<Numbers>) {
    match command {
        Command::Asked(request) => {
            seam::Command::Asked.put();
            put_count(request.0);
        }
        Command::Authenticate { token } => {
            seam::Command::Authenticate.put();
            token.put();
        }
        Command::Subscribe(list) => {
            seam::Command::Subscribe.put();
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
        Command::Unsubscribe { channel } => {
            seam::Command::Unsubscribe.put();
            channel.put();
        }
        Command::Presence { channel } => {
            seam::Command::Presence.put();
            channel.put();
        }
        Command::Ping => seam::Command::Ping.put(),
    }
}

/// At the end of an output: its kind and what else is known; nothing where there is none.
fn put_error(error: Option<&ClientError<Number>>) {
    let Some(error) = error else { return };
    let kind = match error {
        ClientError::Server { .. } => ErrorKind::Server,
        ClientError::Transport { .. } => ErrorKind::Transport,
        ClientError::HandshakeTimeout => ErrorKind::HandshakeTimeout,
        ClientError::PingTimeout => ErrorKind::PingTimeout,
        ClientError::Token { .. } => ErrorKind::Token,
        ClientError::AuthFailed { .. } => ErrorKind::AuthFailed,
        ClientError::AuthTimeout => ErrorKind::AuthTimeout,
        ClientError::Timeout => ErrorKind::Timeout,
        ClientError::Expired => ErrorKind::Expired,
        ClientError::QueueFull => ErrorKind::QueueFull,
        ClientError::Protocol => ErrorKind::Protocol,
        ClientError::Unauthorized { .. } => ErrorKind::Unauthorized,
        ClientError::AuthForbidden { .. } => ErrorKind::AuthForbidden,
        ClientError::PayloadTooLarge { .. } => ErrorKind::PayloadTooLarge,
        ClientError::Closed => ErrorKind::Closed,
        ClientError::UnknownOutcome => ErrorKind::UnknownOutcome,
        ClientError::Aborted => ErrorKind::Aborted,
        ClientError::TooManyChannels { .. } => ErrorKind::TooManyChannels,
        // `TooManyJoins`; `AlreadySubscribed` is for hosts that share a channel among several listeners.
        _ => ErrorKind::TooManyJoins,
    };
    kind.put();
    match error {
        ClientError::Server {
            code,
            text,
            retry,
            retry_after,
        } => {
            put_details(Some(*code), Some(*text));
            put_flag(*retry);
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

/// Why messages were lost, and the server's words where it says so in its own.
fn put_reason(reason: &GapReason<Number>) {
    let (kind, words) = match reason {
        GapReason::Expired => (seam::GapReason::Expired, None),
        GapReason::Epoch => (seam::GapReason::Epoch, None),
        GapReason::Away => (seam::GapReason::Away, None),
        GapReason::Diverged => (seam::GapReason::Diverged, None),
        GapReason::Sequence => (seam::GapReason::Sequence, None),
        GapReason::Overflow => (seam::GapReason::Overflow, None),
        GapReason::Server(words) => (seam::GapReason::Server, Some(*words)),
        _ => (seam::GapReason::Server, None),
    };
    kind.put();
    put_value(words);
}

const fn connection_state(state: ConnectionState) -> seam::ConnectionState {
    match state {
        ConnectionState::Idle => seam::ConnectionState::Idle,
        ConnectionState::Connecting => seam::ConnectionState::Connecting,
        ConnectionState::Connected => seam::ConnectionState::Connected,
        ConnectionState::Reconnecting => seam::ConnectionState::Reconnecting,
        ConnectionState::Offline => seam::ConnectionState::Offline,
        ConnectionState::Disconnected => seam::ConnectionState::Disconnected,
        // `Failed`; the enum may have more states one day.
        _ => seam::ConnectionState::Failed,
    }
}

const fn channel_state(state: ChannelState) -> seam::ChannelState {
    match state {
        ChannelState::Authorizing => seam::ChannelState::Authorizing,
        ChannelState::Subscribing => seam::ChannelState::Subscribing,
        ChannelState::Subscribed => seam::ChannelState::Subscribed,
        ChannelState::Suspended => seam::ChannelState::Suspended,
        ChannelState::Failed => seam::ChannelState::Failed,
        // `Closed`.
        _ => seam::ChannelState::Closed,
    }
}

const fn token_reason(reason: TokenReason) -> seam::TokenReason {
    match reason {
        TokenReason::Connect => seam::TokenReason::Connect,
        TokenReason::Expiring => seam::TokenReason::Expiring,
        TokenReason::Rejected => seam::TokenReason::Rejected,
    }
}

const fn auth_reason(reason: AuthReason) -> seam::AuthReason {
    match reason {
        AuthReason::Subscribe => seam::AuthReason::Subscribe,
        AuthReason::Resubscribe => seam::AuthReason::Resubscribe,
        AuthReason::Expired => seam::AuthReason::Expired,
    }
}

const fn goodbye(goodbye: Goodbye) -> seam::Goodbye {
    match goodbye {
        Goodbye::Normal => seam::Goodbye::Normal,
        Goodbye::UnknownVersion => seam::Goodbye::UnknownVersion,
        Goodbye::NotThisProtocol => seam::Goodbye::NotThisProtocol,
        Goodbye::Silent => seam::Goodbye::Silent,
        Goodbye::NotGreeted => seam::Goodbye::NotGreeted,
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

fn put_about(output: seam::Output, channel: Number) {
    output.put();
    channel.put();
}

fn put_flag(flag: bool) {
    put_number(u32::from(flag));
}
