//! The machine: one input in, any number of outputs out.

use alloc::string::String;
use alloc::vec::Vec;

use fanfare_protocol::json::encode_request;
use fanfare_protocol::{
    ChannelName, Command, IdempotencyKey, Member, Position, Request, ServerMessage, SocketId,
    UserId,
};

use crate::backoff::Random;
use crate::channel::{Channel, Phase};
use crate::connection::Connection;
use crate::event::{ChannelState, ConnectionStatus, Event};
use crate::io::{Input, Output, Payload};
use crate::loss::Goodbye;
use crate::options::Options;
use crate::outputs::Outputs;
use crate::requests::Requests;
use crate::time::Millis;
use crate::token::{ServerClock, Tokens};

/// One connection's worth of client: subscriptions, requests, positions, tokens.
#[derive(Debug)]
pub struct Client<P> {
    pub(crate) options: Options,
    pub(crate) random: Random,
    pub(crate) connection: Connection,
    pub(crate) status: ConnectionStatus,
    pub(crate) goodbye: Option<Goodbye>,
    /// Failures in a row.
    pub(crate) attempt: u32,
    /// Since the last `Connect`.
    pub(crate) was_connected: bool,
    /// What the host last said about the network.
    pub(crate) is_offline: bool,
    /// This server refuses even public channels until it has taken the credentials.
    pub(crate) needs_credentials: bool,
    pub(crate) clock: ServerClock,
    pub(crate) frame_bytes_max: Option<usize>,
    pub(crate) tokens: Tokens,
    /// Ordered by name.
    pub(crate) channels: Vec<Channel<P>>,
    /// The [`Slot`] of the first channel. No number is used again after the list has changed.
    pub(crate) first_slot: u32,
    pub(crate) requests: Requests,
    next_id: u64,
    /// Makes this client's idempotency keys differ from every other's.
    pub(crate) key_prefix: u64,
    pub(crate) outputs: Outputs<P>,
    pub(crate) timeout: Option<Millis>,
    /// `timeout` must be computed again.
    pub(crate) is_stale: bool,
    /// A timer came late: nothing fails for silence before this time.
    pub(crate) grace: Option<Millis>,
}

impl<P: Payload> Client<P> {
    /// A machine that has not been asked to connect.
    ///
    /// `seed` feeds the jitter and the idempotency keys: 64 bits that differ between clients.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            tokens: Tokens::new(options.token_provider),
            key_prefix: random.next(),
            options,
            random,
            connection: Connection::Idle,
            status: ConnectionStatus::idle(),
            goodbye: None,
            attempt: 0,
            was_connected: false,
            is_offline: false,
            needs_credentials: false,
            clock: ServerClock::default(),
            frame_bytes_max: None,
            channels: Vec::new(),
            first_slot: 0,
            requests: Requests::default(),
            next_id: 0,
            outputs: Outputs::new(),
            timeout: None,
            is_stale: false,
            grace: None,
        }
    }

    /// Takes one input. Drain [`Client::poll_output`] to `None` and arm [`Client::next_timeout`] afterwards.
    pub fn handle(&mut self, input: Input<P>, now: Millis) {
        self.is_stale |= !matches!(input, Input::Message(ServerMessage::Event(_)));
        match input {
            Input::Connect => self.connect(now),
            Input::Disconnect => self.disconnect(now),
            Input::Subscribe { channel, options } => self.subscribe(channel, options, now),
            Input::Unsubscribe { channel } => self.unsubscribe(&channel, now),
            Input::Publish { .. }
            | Input::Emit { .. }
            | Input::Presence { .. }
            | Input::History { .. } => self.ask(input, now),
            Input::Abort { request } => self.abort(request, now),
            Input::SetToken(token) => self.set_token(token, now),
            Input::Token(reply) => self.token_answered(reply, now),
            Input::ChannelAuth {
                channel,
                socket_id,
                reply,
            } => {
                if let Ok(at) = self.find(&channel)
                    && let Phase::Authorizing { .. } = self.channels[at].phase
                    && self.socket_id() == Some(socket_id)
                {
                    self.channel_authorized(at, reply, now);
                }
            }
            Input::Opened => self.opened(),
            Input::Message(message) => {
                self.heard(now);
                self.message(message, now);
            }
            Input::Unreadable => {
                self.heard(now);
                self.unreadable(now);
            }
            Input::Closed { code, reason } => self.closed(code, reason, now),
            Input::TimedOut => self.timed_out(now),
            Input::Online => self.online(now),
            Input::Offline => self.offline(now),
            Input::Wake => self.wake(now),
            Input::Suspend => self.suspend(now),
        }
        if core::mem::take(&mut self.is_stale) {
            self.timeout = self.compute_timeout(now);
        }
    }

    /// The next thing the host must do, until `None`.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.outputs.pop()
    }

    /// When to pass [`Input::TimedOut`]; the host arms exactly one timer, or none.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        self.timeout
    }

    /// The connection's state and how it came about.
    #[must_use]
    pub fn status(&self) -> &ConnectionStatus {
        &self.status
    }

    /// The id of the connection, while there is one.
    #[must_use]
    pub fn socket_id(&self) -> Option<SocketId> {
        self.connection.session().map(|session| session.socket_id)
    }

    /// Who the connection belongs to.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        self.connection
            .session()
            .and_then(|session| session.user_id.as_ref())
    }

    /// The state of a channel; `Closed` when nobody wants it.
    #[must_use]
    pub fn channel_state(&self, channel: &ChannelName) -> ChannelState {
        self.known(channel)
            .map_or(ChannelState::Closed, |channel| channel.state)
    }

    /// Where a subscription stands: the position of the last event that came out for it.
    #[must_use]
    pub fn position(&self, channel: &ChannelName) -> Option<Position> {
        self.known(channel)
            .and_then(|channel| channel.stream.position())
    }

    /// The known members of a presence channel, ordered by id. While the channel is not `Subscribed` they may be out of date.
    #[must_use]
    pub fn members(&self, channel: &ChannelName) -> &[Member<P>] {
        self.known(channel)
            .map_or(&[], |channel| channel.stream.members.list())
    }

    /// The channels that are wanted, or were and have failed, in the order of their names.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        let known = self.channels.iter().filter(|channel| channel.is_known());
        known.map(|channel| &channel.name)
    }
}

/// What every part uses.
impl<P: Payload> Client<P> {
    pub(crate) fn emit(&mut self, event: Event<P>) {
        self.outputs.push(Output::Event(event));
    }

    /// Sends a command that has a reply.
    pub(crate) fn send(&mut self, command: Command) -> u64 {
        let id = self.take_id();
        let request = Request {
            id: Some(id),
            command,
        };
        self.outputs.push(Output::Send(encode_request(&request)));
        id
    }

    /// Sends a command whose reply nobody waits for by its id.
    pub(crate) fn send_quietly(&mut self, command: Command) {
        let request = Request { id: None, command };
        self.outputs.push(Output::Send(encode_request(&request)));
    }

    pub(crate) const fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A key that no other publish of any client has.
    pub(crate) fn make_key(&self, id: u64) -> Option<IdempotencyKey> {
        let mut text = String::with_capacity(32);
        push_hexadecimal(self.key_prefix, &mut text);
        text.push('-');
        push_hexadecimal(id, &mut text);
        IdempotencyKey::new(&text).ok()
    }

    pub(crate) fn find(&self, name: &ChannelName) -> Result<usize, usize> {
        self.channels
            .binary_search_by(|channel| channel.name.as_str().cmp(name.as_str()))
    }

    pub(crate) fn find_subscribed(&self, name: &ChannelName) -> Option<usize> {
        let at = self.find(name).ok()?;
        matches!(self.channels[at].phase, Phase::Subscribed { .. }).then_some(at)
    }

    fn known(&self, name: &ChannelName) -> Option<&Channel<P>> {
        let channel = &self.channels[self.find(name).ok()?];
        channel.is_known().then_some(channel)
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
