//! The machine: something happens, and any number of outputs come of it.

pub mod output;
pub mod values;

mod asking;
mod authentication;
mod backoff;
mod channel;
mod connection;
mod follow;
mod incoming;
mod joining;
mod loss;
mod outputs;
mod pace;
mod presence;
mod progress;
mod recovery;
mod requests;
mod shown;
mod subscription;
mod timers;
mod token;
mod turns;

use alloc::vec::Vec;

use fanfare_protocol::Position;

use crate::error::ClientError;
use crate::event::ChannelState;
use crate::options::Options;
use crate::time::Millis;
use channel::{Channel, Phase};
use connection::Connection;
use loss::Parting;
use output::{Command, News, Output};
use outputs::Outputs;
use pace::Pace;
use progress::Progress;
use requests::Requests;
use token::{ServerClock, Tokens};
use values::{Held, Values};

pub(crate) use backoff::Random;

/// One connection's worth of client: subscriptions, requests, positions, tokens.
///
/// It knows its values by what [`Values`] says of them alone, so that a host in a browser keeps them on the side of JavaScript and
/// gives numbers. [`Client`](crate::Client) is the same with names and JSON text.
///
/// **Tell it what has happened, [settle](Machine::settle), drain the outputs to `None`, arm one timer.** What a socket says is
/// told after [`Machine::heard`].
#[derive(Debug)]
pub struct Machine<V: Values> {
    options: Options,
    random: Random,
    connection: Connection<V>,
    parting: Option<Parting<V>>,
    /// Failures in a row.
    attempt: u32,
    /// Since the last `connect`.
    was_connected: bool,
    /// The connection follows an earlier one.
    is_resumed: bool,
    /// What the host last said about the network.
    is_offline: bool,
    /// This server refuses even public channels until it has taken the credentials.
    needs_credentials: bool,
    clock: ServerClock,
    frame_bytes_max: Option<u64>,
    /// How many channels the server allows; where it does not say it, what a refusal has taught.
    channels_max: u64,
    /// For how long the server recognises a publish that comes again.
    idempotency_window: Option<u64>,
    pace: Pace,
    /// Some channel waits for its turn.
    has_queued: bool,
    tokens: Tokens<V>,
    progress: Progress,
    /// In order.
    channels: Vec<Channel<V>>,
    /// Where the last channel was that was followed: most likely the next one is the same.
    followed: usize,
    /// The application was told that this connection's server joins it to too many channels.
    is_overjoined: bool,
    requests: Requests<V>,
    last_id: u64,
    outputs: Outputs<V>,
    timeout: Option<Millis>,
    /// `timeout` must be computed again, whatever else was told.
    is_stale: bool,
    /// All that was told moves no timer.
    is_plain: bool,
    /// A timer came late: nothing fails for silence before this time.
    grace: Option<Millis>,
}

impl<V: Values> Machine<V> {
    /// A machine that has not been asked to connect.
    ///
    /// `seed` feeds the jitter: 64 bits that differ between clients.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            tokens: Tokens::new(options.token_provider),
            progress: Progress::new(&options),
            options,
            random: Random::new(seed),
            connection: Connection::Idle,
            parting: None,
            attempt: 0,
            was_connected: false,
            is_resumed: false,
            is_offline: false,
            needs_credentials: false,
            clock: ServerClock::default(),
            frame_bytes_max: None,
            channels_max: u64::MAX,
            idempotency_window: None,
            pace: Pace::new(None, Millis(0)),
            has_queued: false,
            channels: Vec::new(),
            followed: 0,
            is_overjoined: false,
            requests: Requests::new(),
            last_id: 0,
            outputs: Outputs::new(),
            timeout: None,
            is_stale: false,
            is_plain: false,
            grace: None,
        }
    }

    /// Ends what was told: the time for [`Machine::next_timeout`] is known again.
    pub fn settle(&mut self, now: Millis) {
        let is_plain = core::mem::take(&mut self.is_plain);
        if core::mem::take(&mut self.is_stale) || !is_plain {
            self.take_turns(now);
            self.timeout = self.compute_timeout(now);
        }
    }

    /// The next thing the host must do, until `None`.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<V>> {
        self.outputs.pop()
    }

    /// When to say that the time has come; the host arms exactly one timer, or none.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        self.timeout
    }

    /// The largest frame that the server takes, once it has greeted.
    #[must_use]
    pub fn frame_bytes_max(&self) -> Option<u64> {
        self.frame_bytes_max
    }

    /// The id of the connection, while there is one.
    #[must_use]
    pub fn socket(&self) -> Option<&V::Socket> {
        self.connection.session().map(|session| &session.socket)
    }

    /// Who the connection belongs to.
    #[must_use]
    pub fn user(&self) -> Option<&V::User> {
        self.connection.session()?.user.as_ref()
    }

    /// The state of a channel; `Closed` when nobody wants it.
    #[must_use]
    pub fn channel_state(&self, channel: &V::Channel) -> ChannelState {
        self.known(channel)
            .map_or(ChannelState::Closed, |channel| channel.state)
    }

    /// Where a subscription stands: the position of the last event that came out for it.
    #[must_use]
    pub fn position(&self, channel: &V::Channel) -> Option<Position> {
        self.known(channel)?.stream.position()
    }

    /// The channels that are wanted, or were and have failed, in order.
    pub fn channels(&self) -> impl Iterator<Item = &V::Channel> {
        let known = self.channels.iter().filter(|channel| channel.is_known());
        known.map(|channel| &channel.name)
    }
}

/// What a host that numbers its values must know.
impl<V: Values> Machine<V> {
    /// Visits every value that is kept for longer than until the outputs are drained, some more than once. What a host has numbered
    /// and is not among them will not come out again.
    pub fn visit_held<'a>(&'a self, mut visit: impl FnMut(Held<'a, V>)) {
        for channel in &self.channels {
            visit(Held::Channel(&channel.name));
            let hints = [&channel.options.data, &channel.info, &channel.joining_with];
            for hint in hints.into_iter().flatten() {
                visit(Held::Hint(hint));
            }
            if let Some((auth, channel_data)) = &channel.grant {
                visit(Held::Text(auth));
                channel_data.iter().for_each(|data| visit(Held::Text(data)));
            }
            for change in channel.stream.members.held() {
                visit(Held::Change(change));
            }
        }
        for channel in self.requests.channels() {
            visit(Held::Channel(channel));
        }
        for info in self.requests.infos() {
            visit(Held::Hint(info));
        }
        for user in self.user().into_iter().chain(self.requests.owner()) {
            visit(Held::User(user));
        }
        if let Some(token) = self.tokens.current() {
            visit(Held::Text(token));
        }
        if let Some(parting) = &self.parting {
            visit(Held::Text(parting.reason()));
        }
    }
}

/// What every part uses.
impl<V: Values> Machine<V> {
    fn complain(&mut self, error: ClientError<V::Text>) {
        self.outputs.tell(News::Error(error));
    }

    /// Sends a command that has a reply. Whether its turn has come is the caller's business.
    fn send(&mut self, command: Command<V>) -> u64 {
        let id = self.take_id();
        let id_on_wire = Some(id);
        self.outputs.push(Output::Send {
            id: id_on_wire,
            command,
        });
        id
    }

    const fn take_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn find(&self, name: &V::Channel) -> Result<usize, usize> {
        self.channels
            .binary_search_by(|channel| channel.name.cmp(name))
    }

    fn find_subscribed(&self, name: &V::Channel) -> Option<usize> {
        let at = self.find(name).ok()?;
        matches!(self.channels[at].phase, Phase::Subscribed { .. }).then_some(at)
    }

    fn known(&self, name: &V::Channel) -> Option<&Channel<V>> {
        let channel = &self.channels[self.find(name).ok()?];
        channel.is_known().then_some(channel)
    }
}
