//! What goes in: a list of numbers that begins with an [`Input`].

use fanfare_client::machine::values::{
    self, Confirmation, Farewell, Greeting, Publication, Question, Refusal, Taken, Update,
};
use fanfare_client::{
    Backoff, ChannelAuthReply, Machine, Millis, Options, QueueLimits, RequestId, SubscribeOptions,
    TokenReply,
};
use fanfare_protocol::{ConnectionLimits, Epoch, Tag};

use crate::machine::numbers::{
    Number, Numbers, take_bits, take_count, take_flag, take_number, take_optional, take_position,
    take_tag, take_value, value,
};
use crate::machine::seam::{Asked, Input, NoToken, Said};

/// The options, in this order; all of them are there.
pub(super) fn options() -> Options {
    let mut options = Options::default();
    options.backoff = Backoff {
        min: take_count(),
        max: take_count(),
        reset_after: take_count(),
    };
    options.handshake_timeout = take_count();
    options.request_timeout = take_count();
    options.pong_timeout = take_count();
    options.probe_timeout = take_count();
    options.auth_timeout = take_count();
    options.queue = QueueLimits {
        ttl: take_count(),
        messages_max: take_number() as usize,
        bytes_max: take_number() as usize,
        ..options.queue
    };
    options.server_channels_max = take_number() as usize;
    options.token_provider = take_flag();
    options.channel_auth = take_flag();
    options
}

/// Takes an input in.
pub(super) fn take_in(machine: &mut Machine<Numbers>, now: Millis) {
    // Another version of the package would have to send what is none.
    match Input::of(take_number()).unwrap_or(Input::Unreadable) {
        Input::Connect => machine.connect(now),
        Input::Disconnect => machine.disconnect(now),
        Input::Opened => machine.opened(),
        Input::TimedOut => machine.timed_out(now),
        Input::Online => machine.online(now),
        Input::Offline => machine.offline(now),
        Input::Wake => machine.wake(now),
        Input::Suspend => machine.suspend(now),
        Input::Closed => machine.closed(take_number() as u16, value(), now),
        Input::SetToken => machine.set_token(take_value(), now),
        Input::Token => {
            let (token, why, reason) = (take_value(), NoToken::of(take_number()), take_value());
            let reply = match (token, why) {
                (Some(token), _) => TokenReply::Token(token),
                (None, Some(NoToken::Anonymous)) => TokenReply::Anonymous,
                (None, Some(NoToken::Unauthorized)) => TokenReply::Unauthorized { reason },
                (None, Some(NoToken::Failed) | None) => TokenReply::Failed { reason },
            };
            machine.token_answered(reply, now);
        }
        Input::ChannelAuth => {
            let channel = value();
            machine.channel_authorized(&channel, channel_auth(), now);
        }
        Input::Subscribe => {
            let channel = value();
            let mut options = SubscribeOptions::default();
            options.since = take_position();
            options.rewind = take_optional().map(|count| count as u32);
            options.data = take_value();
            options.info = take_value();
            machine.subscribe(channel, options);
        }
        Input::Unsubscribe => machine.unsubscribe(&value(), now),
        Input::Ask => {
            let request = RequestId(take_count());
            let (channel, bytes) = (take_value(), take_count());
            let (kind, value) = (Asked::of(take_number()), take_value());
            let is_repeatable = kind == Some(Asked::Repeatable);
            let question = Question {
                request,
                channel,
                command: request,
                bytes,
                is_repeatable,
                update: (kind == Some(Asked::Update)).then_some(Update(value)),
            };
            match value {
                Some(user) if is_repeatable => machine.ask_again(question, user, now),
                _ => machine.ask(question, now),
            }
        }
        Input::Abort => machine.abort(RequestId(take_count()), now),
        Input::MembersIncomplete => machine.members_incomplete(&value(), take_count()),
        input => {
            machine.heard(now);
            message(input, machine, now);
        }
    }
}

fn channel_auth() -> ChannelAuthReply<Number> {
    let (auth, channel_data, is_final) = (take_value(), take_value(), take_flag());
    let status = take_optional().map(|status| status as u16);
    let (retry_after, reason) = (take_optional(), take_value());
    match auth {
        Some(auth) => ChannelAuthReply::Granted { auth, channel_data },
        None if is_final => ChannelAuthReply::Forbidden {
            status: status.unwrap_or_default(),
            reason,
        },
        None => ChannelAuthReply::Failed {
            status,
            reason,
            retry_after,
        },
    }
}

/// What the server says.
fn message(input: Input, machine: &mut Machine<Numbers>, now: Millis) {
    match input {
        Input::Connected => machine.greeted(greeting(), now),
        Input::Ok => machine.replied(taken(), now),
        Input::Error => machine.failed(take_optional(), &refusal(), now),
        Input::Subscribed => {
            let channel = value();
            let reply = Confirmation {
                id: take_optional(),
                position: take_position(),
                recovered: take_flag(),
                members: take_flag().then_some(()),
            };
            let events = (0..take_number()).map(publication);
            machine.subscription_succeeded(channel, reply, events, now);
        }
        Input::Refused => {
            let channel = value();
            machine.subscription_error(&channel, take_optional(), &refusal(), now);
        }
        Input::Unsubscribed => {
            let channel = value();
            let (command, code) = (take_optional(), take_number());
            machine.unsubscribed(&channel, command, code as u16, value(), now);
        }
        Input::Event => {
            let channel = value();
            machine.published(channel, publication(0), now);
        }
        Input::Skipped => {
            let channel = value();
            let (offset, tag) = (take_count(), take_tag());
            machine.skipped(&channel, offset, tag, take_bits().map(Epoch), now);
        }
        Input::Gap => {
            let channel = value();
            let (from, to) = (take_optional(), take_optional());
            machine.messages_lost(&channel, from, to, value(), now);
        }
        Input::Reset => {
            let channel = value();
            if let Some(position) = take_position() {
                machine.history_restarted(&channel, position, value(), now);
            }
        }
        Input::Pong => machine.hear_clock(take_count(), now),
        Input::Leaving => machine.told_to_go(farewell(), now),
        _ => machine.unreadable(now),
    }
}

/// The event at this place of its message.
fn publication(at: u32) -> Publication<Numbers> {
    let said = match Said::of(take_number()) {
        Some(Said::Content) => values::Said::Content(at),
        Some(Said::Change) => values::Said::Change(value()),
        Some(Said::Unreadable) | None => values::Said::Unreadable,
    };
    Publication {
        said,
        offset: take_optional(),
        tag: take_bits().map(Tag),
        epoch: take_bits().map(Epoch),
    }
}

fn greeting() -> Greeting<Numbers> {
    Greeting {
        socket: (),
        user: take_value(),
        protocol: take_number(),
        ping_interval: take_count(),
        max_payload_size: take_count(),
        server_time: take_count(),
        limits: take_optional().map(limits),
    }
}

fn limits(channels_max: u64) -> ConnectionLimits {
    ConnectionLimits {
        channels_max,
        commands_per_second: take_count(),
        commands_burst: take_count(),
        message_bytes_max: take_count(),
        bytes_per_second: take_optional(),
        bytes_burst: take_optional(),
        idempotency_window: take_optional(),
    }
}

fn taken() -> Taken<Numbers> {
    Taken {
        id: take_count(),
        user: take_value(),
        expires_at: take_optional(),
        position: take_position(),
        reply: take_flag(),
    }
}

fn farewell() -> Farewell<Numbers> {
    Farewell {
        code: take_number() as u16,
        reason: value(),
        reconnect: take_flag(),
        after: take_count(),
    }
}

fn refusal() -> Refusal<Numbers> {
    Refusal {
        code: take_number() as u16,
        text: value(),
        retry: take_flag(),
        retry_after: take_optional(),
    }
}
