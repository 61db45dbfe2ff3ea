//! The machine: one input in, any number of outputs out.

use std::collections::VecDeque;

use fanfare_protocol::{ChannelName, Member, Position, SocketId, UserId};

use crate::io::{ChannelState, ConnectionState, ConnectionStatus, Event, Input, Output, Payload};
use crate::options::Options;
use crate::time::Millis;

/// One connection's worth of client: subscriptions, requests, positions, tokens.
#[derive(Debug)]
pub struct Client<P> {
    options: Options,
    seed: u64,
    status: ConnectionStatus,
    outputs: VecDeque<Output<P>>,
}

impl<P: Payload> Client<P> {
    /// A machine that has not been asked to connect.
    ///
    /// `seed` feeds the jitter and the idempotency keys: 64 bits that differ between clients.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            seed,
            status: ConnectionStatus::idle(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input. Drain [`Client::poll_output`] to `None` and arm [`Client::next_timeout`] afterwards.
    pub fn handle(&mut self, input: Input<P>, _now: Millis) {
        let state = match input {
            Input::Connect => ConnectionState::Connecting,
            Input::Disconnect => ConnectionState::Disconnected,
            _ => return,
        };
        self.status.previous = std::mem::replace(&mut self.status.state, state);
        self.outputs
            .push_back(Output::Event(Event::Connection(self.status.clone())));
    }

    /// The next thing the host must do, until `None`.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.outputs.pop_front()
    }

    /// When to pass [`Input::TimedOut`]; the host arms exactly one timer, or none.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        None
    }

    /// The connection's state and how it came about.
    #[must_use]
    pub fn status(&self) -> &ConnectionStatus {
        &self.status
    }

    /// The id of the connection, while there is one.
    #[must_use]
    pub fn socket_id(&self) -> Option<SocketId> {
        self.status.socket_id
    }

    /// Who the connection belongs to.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        None
    }

    /// The state of a channel; `Closed` when nobody wants it.
    #[must_use]
    pub fn channel_state(&self, _channel: &ChannelName) -> ChannelState {
        ChannelState::Closed
    }

    /// Where a subscription stands: the position of the last event that came out for it.
    #[must_use]
    pub fn position(&self, _channel: &ChannelName) -> Option<Position> {
        None
    }

    /// The known members of a presence channel, ordered by id.
    #[must_use]
    pub fn members(&self, _channel: &ChannelName) -> &[Member<P>] {
        &[]
    }

    /// The channels that are wanted, or were and have failed, in the order of their names.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        std::iter::empty()
    }
}
