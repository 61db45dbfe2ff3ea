//! The connection: on the way, open, lost, on the way back, ended.

use fanfare_protocol::PROTOCOL_VERSION;

use crate::error::ClientError;
use crate::event::ConnectionState;
use crate::machine::Machine;
use crate::machine::loss::Loss;
use crate::machine::output::{Command, Goodbye, Output};
use crate::machine::timers::WAIT_MAX;
use crate::machine::values::{Greeting, Values};
use crate::time::Millis;

/// Where the connection is. What is known only in a state lives in that state.
#[derive(Debug)]
pub(crate) enum Connection<V: Values> {
    /// Never asked for.
    Idle,
    /// Waits for the token provider.
    AwaitingToken,
    /// A socket is asked for.
    Opening { until: Millis },
    /// The socket is open, `connected` has not come; the credentials may be under way.
    Greeting {
        until: Millis,
        authenticate: Option<u64>,
    },
    /// Greeted; the credentials are under way.
    Authenticating {
        session: Session<V>,
        authenticate: u64,
        until: Millis,
    },
    /// Ready.
    Open { session: Session<V>, since: Millis },
    /// Lost, or not found; tried again at a set time.
    Waiting { until: Millis },
    /// Not wanted any more.
    Stopped,
}

/// What is known of a greeted connection.
#[derive(Debug)]
pub(crate) struct Session<V: Values> {
    pub(crate) socket: V::Socket,
    pub(crate) user: Option<V::User>,
    pub(crate) ping_interval: u64,
    pub(crate) heard: Millis,
    pub(crate) ping: Ping,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Ping {
    /// The silence is measured at this time; a message does not move it, so that a busy connection arms no timers.
    CheckAt(Millis),
    /// Asked for a sign of life, which must come until then.
    Sent { until: Millis },
}

impl<V: Values> Session<V> {
    const fn pong_deadline(&self) -> Option<Millis> {
        match self.ping {
            Ping::Sent { until } => Some(until),
            Ping::CheckAt(_) => None,
        }
    }
}

impl<V: Values> Connection<V> {
    pub(crate) const fn session(&self) -> Option<&Session<V>> {
        match self {
            Self::Authenticating { session, .. } | Self::Open { session, .. } => Some(session),
            _ => None,
        }
    }

    pub(crate) const fn session_mut(&mut self) -> Option<&mut Session<V>> {
        match self {
            Self::Authenticating { session, .. } | Self::Open { session, .. } => Some(session),
            _ => None,
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Whether the application wants it.
    const fn is_wanted(&self) -> bool {
        !matches!(self, Self::Idle | Self::Stopped)
    }

    pub(crate) const fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }

    pub(crate) const fn has_socket(&self) -> bool {
        matches!(
            self,
            Self::Opening { .. }
                | Self::Greeting { .. }
                | Self::Authenticating { .. }
                | Self::Open { .. }
        )
    }

    pub(crate) const fn awaits_authentication(&self, id: u64) -> bool {
        match self {
            Self::Authenticating { authenticate, .. } => *authenticate == id,
            _ => false,
        }
    }

    /// When the peer is late.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match self {
            Self::Opening { until } | Self::Greeting { until, .. } => Some(*until),
            Self::Authenticating { session, until, .. } => {
                let pong = session.pong_deadline();
                Some(pong.map_or(*until, |pong| pong.min(*until)))
            }
            Self::Open { session, .. } => session.pong_deadline(),
            _ => None,
        }
    }

    /// When there is something to do that is nobody's fault.
    pub(crate) fn next_step_at(&self) -> Option<Millis> {
        match (self, self.session().map(|session| session.ping)) {
            (Self::Waiting { until }, _) => Some(*until),
            (_, Some(Ping::CheckAt(at))) => Some(at),
            _ => None,
        }
    }
}

/// What the application and the host's surroundings say.
impl<V: Values> Machine<V> {
    /// The application wants a connection. Also retries at once while one is waited for.
    pub fn connect(&mut self, now: Millis) {
        match self.connection {
            Connection::Idle | Connection::Stopped => {
                self.attempt = 0;
                self.was_connected = false;
                self.tokens.forgive();
                self.ask_again_for_refused_channels();
                self.begin(now);
            }
            Connection::Waiting { .. } => self.begin(now),
            _ => {}
        }
    }

    /// The application wants no connection. Subscriptions stay wanted and come back with the next `connect`.
    pub fn disconnect(&mut self, now: Millis) {
        if self.connection.is_stopped() {
            return;
        }
        if self.connection.has_socket() {
            self.close(Goodbye::Normal);
        }
        self.stop(ConnectionState::Disconnected, None, now);
        self.tokens.end();
    }

    /// The network is back: whatever failed before says nothing about it.
    pub fn online(&mut self, now: Millis) {
        self.is_offline = false;
        match self.connection {
            Connection::Waiting { .. } => {
                self.attempt = 0;
                self.begin(now);
            }
            _ => self.probe(now),
        }
    }

    /// The network is said to be gone. VPNs and adapter changes say so falsely: an open connection is asked, an attempt that is
    /// under way goes on, and whatever is heard overrules the hint.
    pub fn offline(&mut self, now: Millis) {
        self.is_offline = true;
        match self.connection {
            Connection::Waiting { .. } => self.rest(now),
            _ => self.probe(now),
        }
    }

    /// The page is visible again, came out of the cache, or the clock jumped.
    pub fn wake(&mut self, now: Millis) {
        match self.connection {
            Connection::Waiting { .. } => self.begin(now),
            _ => self.probe(now),
        }
    }

    /// The page goes into the cache, where no code runs and no timer fires until `wake`.
    pub fn suspend(&mut self, now: Millis) {
        if !self.connection.is_wanted() {
            return;
        }
        if self.connection.has_socket() {
            self.close(Goodbye::Normal);
        }
        self.rest(now);
        self.suspend_channels();
        self.give_up_orphans();
    }

    /// Makes a new connection at once, with whatever credentials there are now.
    pub(crate) fn reconnect(&mut self, now: Millis) {
        self.close(Goodbye::Normal);
        self.detach(Connection::AwaitingToken, now);
        self.suspend_channels();
        self.give_up_orphans();
        self.begin(now);
    }

    /// The way to a connection: a token if one must be had, then a socket.
    pub(crate) fn begin(&mut self, now: Millis) {
        let reason = self.tokens.reason_to_ask(now);
        self.connection = Connection::AwaitingToken;
        self.announce(self.state_on_the_way(), None, None);
        match reason {
            Some(reason) => {
                self.tokens.ask(now + self.options.auth_timeout);
                self.outputs.push(Output::NeedToken(reason));
            }
            None => self.open_socket(now),
        }
    }

    pub(crate) fn open_socket(&mut self, now: Millis) {
        let until = now + self.options.handshake_timeout;
        self.parting = None;
        self.connection = Connection::Opening { until };
        let attempt = self.attempt;
        self.outputs.push(Output::Open { attempt });
    }

    /// The token provider says that the user may not connect.
    pub(crate) fn unauthorized(&mut self, reason: Option<V::Text>, now: Millis) {
        if self.connection.has_socket() {
            self.close(Goodbye::Normal);
        }
        let error = ClientError::Unauthorized { code: None, reason };
        self.stop(ConnectionState::Failed, Some(error), now);
    }

    fn probe(&mut self, now: Millis) {
        let until = now + self.options.probe_timeout;
        self.ping(until);
    }

    pub(crate) fn ping(&mut self, until: Millis) {
        let Some(session) = self.connection.session_mut() else {
            return;
        };
        let until = match session.ping {
            Ping::Sent { until: earlier } => until.min(earlier),
            Ping::CheckAt(_) => until,
        };
        session.ping = Ping::Sent { until };
        self.pace.spend();
        self.outputs.push(Output::Send {
            id: None,
            command: Command::Ping,
        });
    }

    /// Waits for the host to say that it makes sense again, but not for ever.
    fn rest(&mut self, now: Millis) {
        let until = now + self.offline_delay();
        self.detach(Connection::Waiting { until }, now);
        self.announce(ConnectionState::Offline, None, Some(until));
    }

    pub(crate) fn close(&mut self, goodbye: Goodbye) {
        self.outputs.push(Output::Close(goodbye));
    }
}

/// What the socket and the server say.
impl<V: Values> Machine<V> {
    /// The socket is open: the credentials go out before the greeting comes in.
    pub fn opened(&mut self) {
        let Connection::Opening { until } = self.connection else {
            return;
        };
        self.is_offline = false;
        let token = self.tokens.current().cloned();
        let authenticate = token.map(|token| self.send(Command::Authenticate { token }));
        self.connection = Connection::Greeting {
            until,
            authenticate,
        };
    }

    /// The first message of a connection.
    pub fn greeted(&mut self, hello: Greeting<V>, now: Millis) {
        self.opened();
        let Connection::Greeting {
            until,
            authenticate,
        } = self.connection
        else {
            return;
        };
        if hello.protocol != PROTOCOL_VERSION {
            self.close(Goodbye::UnknownVersion);
            self.stop(ConnectionState::Failed, Some(ClientError::Protocol), now);
            return;
        }
        self.set_clock(hello.server_time, now);
        self.take_limits(hello.limits, now);
        // The server says by how much a payload is too large. Here only frames end that can hold no payload of the limit.
        let frame_bytes_max = hello.max_payload_size.saturating_add(ENVELOPE_BYTES);
        self.frame_bytes_max = Some(
            hello
                .limits
                .map_or(frame_bytes_max, |limits| limits.message_bytes_max),
        );
        self.fail_large_requests();
        if authenticate.is_some() {
            self.pace.spend();
        } else if hello.user.is_some() {
            self.tokens.forgive();
        }
        let ping_interval = hello.ping_interval.clamp(PING_INTERVAL_MIN, WAIT_MAX);
        let session = Session {
            socket: hello.socket,
            user: hello.user,
            ping_interval,
            heard: now,
            ping: Ping::CheckAt(now + ping_interval),
        };
        match authenticate {
            Some(authenticate) => {
                self.connection = Connection::Authenticating {
                    session,
                    authenticate,
                    until,
                };
                self.start_channels();
            }
            None => self.ready(session, now),
        }
    }

    /// The credentials were taken.
    pub(crate) fn authenticated(&mut self, user: Option<V::User>, now: Millis) {
        let connection = core::mem::replace(&mut self.connection, Connection::AwaitingToken);
        if let Connection::Authenticating { mut session, .. } = connection {
            session.user = user.or(session.user);
            self.ready(session, now);
        }
    }

    /// Who the connection belongs to has changed, or was said again.
    pub(crate) fn identified(&mut self, user: Option<V::User>) {
        if let Some(session) = self.connection.session_mut()
            && user.is_some()
            && user != session.user
        {
            session.user.clone_from(&user);
            self.announce(ConnectionState::Connected, None, None);
            if self.connection.is_open() {
                self.ask_again_for_refused_channels();
                self.requests_belong_to(user);
            }
        }
        self.start_channels();
    }

    /// Any frame is a sign of life. What it says is told afterwards.
    pub fn heard(&mut self, now: Millis) {
        if let Some(session) = self.connection.session_mut() {
            session.heard = now;
            self.is_offline = false;
            if let Ping::Sent { .. } = session.ping {
                session.ping = Ping::CheckAt(now + session.ping_interval);
                self.is_stale = true;
            }
        }
    }

    /// A frame arrived that is not a message of this protocol. Where it is the first, this is not a server to talk to.
    pub fn unreadable(&mut self, now: Millis) {
        if let Connection::Greeting { .. } = self.connection {
            self.close(Goodbye::NotThisProtocol);
            self.lose(Loss::retry(ClientError::Protocol), now);
        } else {
            self.complain(ClientError::Protocol);
        }
    }

    /// The connection is ready for everything.
    fn ready(&mut self, session: Session<V>, now: Millis) {
        if session.user.is_some() && session.user.as_ref() != self.requests.owner() {
            self.ask_again_for_refused_channels();
        }
        self.requests_belong_to(session.user.clone());
        self.connection = Connection::Open {
            session,
            since: now,
        };
        self.is_resumed = self.was_connected;
        self.announce(ConnectionState::Connected, None, None);
        self.was_connected = true;
        self.start_channels();
        self.flush(now);
    }
}

/// 1 s: no server can make a client ping faster.
const PING_INTERVAL_MIN: u64 = 1_000;

/// 1 KiB: the names and the key of a publish at their longest, and the braces around them.
const ENVELOPE_BYTES: u64 = 1 << 10;
