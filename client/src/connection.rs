//! The connection: on the way, open, lost, on the way back, ended.

use fanfare_protocol::{Code, Command, Connected, PROTOCOL_VERSION, SocketId, UserId};

use crate::client::Client;
use crate::error::ClientError;
use crate::event::{ConnectionState, Event};
use crate::io::{Output, Payload};
use crate::loss::Loss;
use crate::time::Millis;

/// Where the connection is. What is known only in a state lives in that state.
#[derive(Debug)]
pub(crate) enum Connection {
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
        session: Session,
        authenticate: u64,
        until: Millis,
    },
    /// Ready.
    Open { session: Session, since: Millis },
    /// Lost, or not found; tried again at a set time.
    Waiting { until: Millis },
    /// Wanted, but no timer runs until the host says that it makes sense again.
    Asleep,
    /// Not wanted any more.
    Stopped,
}

/// What is known of a greeted connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) socket_id: SocketId,
    pub(crate) user_id: Option<UserId>,
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

impl Session {
    const fn pong_deadline(&self) -> Option<Millis> {
        match self.ping {
            Ping::Sent { until } => Some(until),
            Ping::CheckAt(_) => None,
        }
    }
}

impl Connection {
    pub(crate) const fn session(&self) -> Option<&Session> {
        match self {
            Self::Authenticating { session, .. } | Self::Open { session, .. } => Some(session),
            _ => None,
        }
    }

    pub(crate) const fn session_mut(&mut self) -> Option<&mut Session> {
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
impl<P: Payload> Client<P> {
    pub(crate) fn connect(&mut self, now: Millis) {
        match self.connection {
            Connection::Idle | Connection::Stopped => {
                self.attempt = 0;
                self.was_connected = false;
                self.tokens.forgive();
                self.begin(now);
            }
            Connection::Waiting { .. } | Connection::Asleep => self.begin(now),
            _ => {}
        }
    }

    pub(crate) fn disconnect(&mut self, now: Millis) {
        if self.connection.is_stopped() {
            return;
        }
        if self.connection.has_socket() {
            self.close(NORMAL, "");
        }
        self.stop(ConnectionState::Disconnected, None, now);
    }

    /// The network is back: whatever failed before says nothing about it.
    pub(crate) fn online(&mut self, now: Millis) {
        self.is_offline = false;
        match self.connection {
            Connection::Waiting { .. } | Connection::Asleep => {
                self.attempt = 0;
                self.begin(now);
            }
            _ => self.probe(now),
        }
    }

    /// The network is said to be gone. An open connection is asked, for VPNs and adapter changes say so falsely.
    pub(crate) fn offline(&mut self, now: Millis) {
        self.is_offline = true;
        if self.connection.session().is_some() {
            self.probe(now);
        } else if self.connection.is_wanted() {
            self.fall_asleep(now);
        }
    }

    pub(crate) fn wake(&mut self, now: Millis) {
        match self.connection {
            Connection::Waiting { .. } | Connection::Asleep => self.begin(now),
            _ => self.probe(now),
        }
    }

    pub(crate) fn suspend(&mut self, now: Millis) {
        if self.connection.is_wanted() {
            self.fall_asleep(now);
        }
    }

    /// Makes a new connection at once, with whatever credentials there are now.
    pub(crate) fn reconnect(&mut self, now: Millis) {
        self.close(NORMAL, "");
        self.detach(Connection::Asleep, now);
        self.suspend_channels();
        self.begin(now);
    }

    /// The way to a connection: a token if one must be had, then a socket.
    pub(crate) fn begin(&mut self, now: Millis) {
        let state = if self.was_connected {
            ConnectionState::Reconnecting
        } else {
            ConnectionState::Connecting
        };
        let reason = self.tokens.reason_to_ask(now);
        self.connection = Connection::AwaitingToken;
        self.announce(state, None, None);
        match reason {
            Some(reason) => {
                self.tokens.ask(now + self.options.auth_timeout);
                self.outputs.push(Output::NeedToken { reason });
            }
            None => self.open_socket(now),
        }
    }

    pub(crate) fn open_socket(&mut self, now: Millis) {
        let until = now + self.options.handshake_timeout;
        self.goodbye = None;
        self.connection = Connection::Opening { until };
        let attempt = self.attempt;
        self.outputs.push(Output::Open { attempt });
    }

    /// Nobody may connect with these credentials.
    pub(crate) fn unauthorized(&mut self, now: Millis) {
        if self.connection.has_socket() {
            self.close(NORMAL, "");
        }
        self.stop(
            ConnectionState::Failed,
            Some(ClientError::Unauthorized),
            now,
        );
    }

    /// The token provider failed on the way to a connection.
    pub(crate) fn token_unavailable(&mut self, now: Millis) {
        self.lose(Loss::retry(ClientError::Token), now);
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
        self.send_quietly(Command::Ping);
    }

    fn fall_asleep(&mut self, now: Millis) {
        if self.connection.has_socket() {
            self.close(NORMAL, "");
        }
        self.detach(Connection::Asleep, now);
        self.announce(ConnectionState::Offline, None, None);
        self.suspend_channels();
    }

    pub(crate) fn close(&mut self, code: u16, reason: &'static str) {
        self.outputs.push(Output::Close { code, reason });
    }
}

/// What the socket and the server say.
impl<P: Payload> Client<P> {
    /// The socket is open: the credentials go out before the greeting comes in.
    pub(crate) fn opened(&mut self) {
        let Connection::Opening { until } = self.connection else {
            return;
        };
        let token = self.tokens.current().cloned();
        let authenticate = token.map(|token| self.send(Command::Authenticate { token }));
        self.connection = Connection::Greeting {
            until,
            authenticate,
        };
    }

    pub(crate) fn greeted(&mut self, hello: Connected, now: Millis) {
        self.opened();
        let Connection::Greeting {
            until,
            authenticate,
        } = self.connection
        else {
            return;
        };
        if hello.protocol != PROTOCOL_VERSION {
            self.close(Code::PROTOCOL_ERROR.number(), "unknown protocol version");
            self.stop(ConnectionState::Failed, Some(ClientError::Protocol), now);
            return;
        }
        self.hear_clock(hello.server_time, now);
        self.frame_bytes_max = usize::try_from(hello.max_payload_size).ok();
        let ping_interval = hello.ping_interval.max(PING_INTERVAL_MIN);
        let session = Session {
            socket_id: hello.socket_id,
            user_id: hello.user_id,
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
                self.start_channels(now);
            }
            None => self.ready(session, now),
        }
    }

    /// The credentials were taken.
    pub(crate) fn authenticated(&mut self, user: Option<UserId>, now: Millis) {
        let connection = core::mem::replace(&mut self.connection, Connection::Asleep);
        if let Connection::Authenticating { mut session, .. } = connection {
            session.user_id = user.or(session.user_id);
            self.ready(session, now);
        }
    }

    /// Who the connection belongs to has changed, or was said again.
    pub(crate) fn identified(&mut self, user: Option<UserId>, now: Millis) {
        if let Some(session) = self.connection.session_mut()
            && user.is_some()
            && user != session.user_id
        {
            session.user_id = user;
            self.status.previous = self.status.state;
            self.emit(Event::Connection(self.status.clone()));
        }
        self.start_channels(now);
    }

    /// Any frame is a sign of life.
    pub(crate) fn heard(&mut self, now: Millis) {
        if let Some(session) = self.connection.session_mut() {
            session.heard = now;
            if let Ping::Sent { .. } = session.ping {
                session.ping = Ping::CheckAt(now + session.ping_interval);
                self.is_stale = true;
            }
        }
    }

    /// The socket is open, but this is not a server to talk to.
    pub(crate) fn unreadable(&mut self, now: Millis) {
        if let Connection::Greeting { .. } = self.connection {
            self.close(Code::PROTOCOL_ERROR.number(), "not this protocol");
            self.lose(Loss::retry(ClientError::Protocol), now);
        } else {
            self.emit(Event::Error(ClientError::Protocol));
        }
    }

    /// The connection is ready for everything.
    fn ready(&mut self, session: Session, now: Millis) {
        self.connection = Connection::Open {
            session,
            since: now,
        };
        self.announce(ConnectionState::Connected, None, None);
        self.was_connected = true;
        self.start_channels(now);
        self.flush(now);
    }
}

/// RFC 6455 7.4.1, *normal closure*.
pub(crate) const NORMAL: u16 = 1000;

/// 1 s: no server can make a client ping faster.
const PING_INTERVAL_MIN: u64 = 1_000;
