//! The machine for hosts that hold names and text: one input in, any number of outputs out.

use alloc::string::String;
use alloc::vec::Vec;

use fanfare_protocol::{
    ChannelName, Command, IdempotencyKey, Member, Position, ServerMessage, SocketId, Tag, UserId,
};

use crate::event::{ChannelState, ConnectionStatus};
use crate::io::{Input, Output, Payload};
use crate::machine::values::{Confirmation, Question, Update};
use crate::machine::{Machine, Random};
use crate::members::Members;
use crate::options::Options;
use crate::time::Millis;
use crate::told::encode;
use crate::wire::Wire;

/// One connection's worth of client: subscriptions, requests, positions, tokens.
///
/// All decisions are the [`Machine`]'s. What it does not know is kept here: who is in a channel, and how things are named.
#[derive(Debug)]
pub struct Client<P: Payload> {
    pub(crate) machine: Machine<Wire<P>>,
    /// The rest of a list that was too long for one frame; the last is the next to go.
    pub(crate) frames: Vec<String>,
    pub(crate) status: ConnectionStatus,
    pub(crate) members: Vec<(ChannelName, Members<P>)>,
    /// Makes this client's idempotency keys differ from every other's.
    key_prefix: u64,
    keys: u64,
}

impl<P: Payload> Client<P> {
    /// A machine that has not been asked to connect.
    ///
    /// `seed` feeds the jitter and the idempotency keys: 64 bits that differ between clients.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            key_prefix: random.next(),
            machine: Machine::new(options, random.next()),
            status: ConnectionStatus::idle(),
            frames: Vec::new(),
            members: Vec::new(),
            keys: 0,
        }
    }

    /// Takes one input. Drain [`Client::poll_output`] to `None` and arm [`Client::next_timeout`] afterwards.
    pub fn handle(&mut self, input: Input<P>, now: Millis) {
        let machine = &mut self.machine;
        match input {
            Input::Connect => machine.connect(now),
            Input::Disconnect => machine.disconnect(now),
            Input::Subscribe { channel, options } => machine.subscribe(channel, options),
            Input::Unsubscribe { channel } => {
                machine.unsubscribe(&channel, now);
                self.members.retain(|(name, _)| *name != channel);
            }
            Input::Publish { .. }
            | Input::Emit { .. }
            | Input::Presence { .. }
            | Input::PresenceUpdate { .. }
            | Input::History { .. } => self.ask(input, now),
            Input::Abort { request } => machine.abort(request, now),
            Input::SetToken(token) => machine.set_token(token, now),
            Input::Token(reply) => machine.token_answered(reply, now),
            Input::ChannelAuth {
                channel,
                socket_id,
                reply,
            } => {
                if machine.socket() == Some(&socket_id) {
                    machine.channel_authorized(&channel, reply, now);
                }
            }
            Input::Opened => machine.opened(),
            Input::Message(message) => {
                machine.heard(now);
                self.message(message, now);
            }
            Input::Unreadable => {
                machine.heard(now);
                machine.unreadable(now);
            }
            Input::Closed { code, reason } => machine.closed(code, reason, now),
            Input::TimedOut => machine.timed_out(now),
            Input::Online => machine.online(now),
            Input::Offline => machine.offline(now),
            Input::Wake => machine.wake(now),
            Input::Suspend => machine.suspend(now),
        }
        self.machine.settle(now);
    }

    /// Takes note of a message that is exactly the next one of its channel; see [`Machine::follow`].
    pub fn follow(
        &mut self,
        channel: &ChannelName,
        offset: Option<u64>,
        tag: Tag,
        now: Millis,
    ) -> bool {
        self.machine.follow(channel, offset, tag, now)
    }

    /// The next thing the host must do, until `None`.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        if let Some(frame) = self.frames.pop() {
            return Some(Output::Send(frame));
        }
        let output = self.machine.poll_output()?;
        Some(self.told(output))
    }

    /// When to pass [`Input::TimedOut`]; the host arms exactly one timer, or none.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        self.machine.next_timeout()
    }

    /// The connection's state and how it came about, as it came out last.
    #[must_use]
    pub fn status(&self) -> &ConnectionStatus {
        &self.status
    }

    /// The id of the connection, while there is one.
    #[must_use]
    pub fn socket_id(&self) -> Option<SocketId> {
        self.machine.socket().copied()
    }

    /// Who the connection belongs to.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        self.machine.user()
    }

    /// The state of a channel; `Closed` when nobody wants it.
    #[must_use]
    pub fn channel_state(&self, channel: &ChannelName) -> ChannelState {
        self.machine.channel_state(channel)
    }

    /// Where a subscription stands: the position of the last event that came out for it.
    #[must_use]
    pub fn position(&self, channel: &ChannelName) -> Option<Position> {
        self.machine.position(channel)
    }

    /// The known members of a presence channel, ordered by id. While the channel is not `Subscribed` they may be out of date.
    #[must_use]
    pub fn members(&self, channel: &ChannelName) -> &[Member<P>] {
        let found = self.members.iter().find(|(name, _)| name == channel);
        found.map_or(&[], |(_, members)| members.list())
    }

    /// The members of a presence channel as a `Sync` tells them, for a listener that comes later than that; `None` while they are
    /// not known, or may be out of date.
    #[must_use]
    pub fn synced_members(&self, channel: &ChannelName) -> Option<(&[Member<P>], u64)> {
        let is_subscribed = self.channel_state(channel) == ChannelState::Subscribed;
        let (_, members) = self.members.iter().find(|(name, _)| name == channel)?;
        is_subscribed.then(|| (members.list(), members.count()))
    }

    /// The channels that are wanted, or were and have failed, in the order of their names.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.machine.channels()
    }
}

/// What goes in.
impl<P: Payload> Client<P> {
    fn message(&mut self, message: ServerMessage<P>, now: Millis) {
        let machine = &mut self.machine;
        match message {
            ServerMessage::Connected(hello) => machine.greeted(hello.into(), now),
            ServerMessage::Disconnect(told) => machine.told_to_go(told.into(), now),
            ServerMessage::Error(error) => machine.failed(error.id, &error.into(), now),
            ServerMessage::Event(event) => {
                machine.published(event.channel.clone(), event.into(), now);
            }
            ServerMessage::Skipped(told) => {
                machine.skipped(&told.channel, told.offset, told.tag, told.epoch, now);
            }
            ServerMessage::Ok(reply) => machine.replied(reply.into(), now),
            ServerMessage::SubscriptionSucceeded(reply) => {
                let confirmation = Confirmation {
                    id: reply.id,
                    position: reply.position,
                    recovered: reply.recovered,
                    members: reply.presence,
                };
                let events = reply.events.into_iter().map(Into::into);
                machine.subscription_succeeded(reply.channel, confirmation, events, now);
            }
            ServerMessage::SubscriptionError(error) => {
                let (channel, id) = (error.channel.clone(), error.id);
                machine.subscription_error(&channel, id, &error.into(), now);
            }
            ServerMessage::Unsubscribed(told) => {
                machine.unsubscribed(&told.channel, told.id, told.code, told.reason, now);
            }
            ServerMessage::Gap(gap) => {
                machine.messages_lost(&gap.channel, gap.from, gap.to, gap.reason, now);
            }
            ServerMessage::Reset(reset) => {
                machine.history_restarted(&reset.channel, reset.position, reset.reason, now);
            }
            ServerMessage::Pong { timestamp } => machine.hear_clock(timestamp, now),
            _ => {}
        }
    }

    fn ask(&mut self, input: Input<P>, now: Millis) {
        let (request, channel, command) = match input {
            Input::Publish {
                request,
                channel,
                event,
                data,
                key,
            } => {
                let key = key.or_else(|| self.make_key());
                let name = Some(channel.clone());
                let command = Command::Publish {
                    channel,
                    event,
                    data,
                    key,
                };
                (request, name, command)
            }
            Input::Emit {
                request,
                event,
                data,
                key,
            } => {
                let key = key.or_else(|| self.make_key());
                (request, None, Command::Emit { event, data, key })
            }
            Input::Presence { request, channel } => {
                let name = Some(channel.clone());
                (request, name, Command::Presence { channel })
            }
            Input::PresenceUpdate {
                request,
                channel,
                info,
            } => {
                let name = Some(channel.clone());
                (request, name, Command::PresenceUpdate { channel, info })
            }
            Input::History {
                request,
                channel,
                since,
                limit,
            } => {
                let name = Some(channel.clone());
                let command = Command::History {
                    channel,
                    since,
                    limit,
                };
                (request, name, command)
            }
            _ => return,
        };
        let question = Question {
            request,
            channel,
            bytes: encode(None, command.clone()).len() as u64,
            is_repeatable: matches!(command, Command::Publish { .. } | Command::Emit { .. }),
            update: update_of(&command),
            command,
        };
        self.machine.ask(question, now);
    }

    /// A key that no other publish of any client has.
    fn make_key(&mut self) -> Option<IdempotencyKey> {
        self.keys += 1;
        let mut text = String::with_capacity(32);
        push_hexadecimal(self.key_prefix, &mut text);
        text.push('-');
        push_hexadecimal(self.keys, &mut text);
        IdempotencyKey::new(&text).ok()
    }
}

/// What a command changes the own info to: JSON's `null` takes it back.
fn update_of<P: Payload>(command: &Command) -> Option<Update<Wire<P>>> {
    match command {
        Command::PresenceUpdate { info, .. } => {
            let info = Some(info.clone()).filter(|info| info.as_str() != "null");
            Some(Update(info))
        }
        _ => None,
    }
}

fn push_hexadecimal(number: u64, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let value = (number >> (digit * 4)) & 15;
        text.push(char::from(DIGITS[value as usize]));
    }
}
