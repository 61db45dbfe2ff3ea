//! The end of a connection, or of an attempt at one: whether to come back, and when.

use fanfare_protocol::{Code, Disposition};

use crate::error::ClientError;
use crate::event::ConnectionState;
use crate::machine::Machine;
use crate::machine::connection::Connection;
use crate::machine::output::{Goodbye, News, Status};
use crate::machine::timers::WAIT_MAX;
use crate::machine::values::{Farewell, Refusal, Values};
use crate::time::Millis;

/// The server has said goodbye.
#[derive(Debug)]
pub(crate) struct Parting<V: Values> {
    told: Farewell<V>,
    come_back_at: Millis,
    close_by: Millis,
}

/// Why a connection, or an attempt at one, has ended.
#[derive(Debug)]
pub(crate) struct Loss<V: Values> {
    error: ClientError<V::Text>,
    come_back_at: Option<Millis>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Retry,
    /// The server has sent the client elsewhere: nothing has failed.
    RetryAtOnce,
    Stop,
}

impl<V: Values> Machine<V> {
    /// The credentials were not taken, if that is what this is about.
    pub(crate) fn authentication_failed(
        &mut self,
        id: u64,
        error: &Refusal<V>,
        now: Millis,
    ) -> bool {
        let is_ours = match &self.connection {
            Connection::Authenticating { authenticate, .. } => *authenticate == id,
            Connection::Greeting { authenticate, .. } => *authenticate == Some(id),
            _ => false,
        };
        if !is_ours {
            return false;
        }
        let retry_after = error.retry_after;
        let (error, fate) = if error.retry {
            (error.error(), Fate::Retry)
        } else {
            self.refused_credentials(error.code, error.text.clone())
        };
        let loss = Loss {
            error,
            come_back_at: retry_after.map(|wait| now + wait.min(WAIT_MAX)),
            fate,
        };
        self.close(Goodbye::Normal);
        self.lose(loss, now);
        true
    }

    /// The server is about to close: what it still sends counts, its close code is known already.
    pub fn told_to_go(&mut self, told: Farewell<V>, now: Millis) {
        if self.connection.has_socket() {
            self.parting = Some(Parting {
                come_back_at: now + told.after.min(WAIT_MAX),
                close_by: now + GOODBYE_WAIT,
                told,
            });
        }
    }

    /// The socket is closed, or could not be opened (1006).
    pub fn closed(&mut self, code: u16, reason: V::Text, now: Millis) {
        // Any other code was received, or made of an answer that was.
        self.is_offline &= code == ABNORMAL;
        if self.connection.has_socket() && !self.part(now) {
            let loss = self.loss_of_code(code, reason, true);
            self.lose(loss, now);
        }
    }

    /// Ends a connection of which the server has said why; `false` when it has not.
    pub(crate) fn part(&mut self, now: Millis) -> bool {
        let Some(parting) = self.parting.take() else {
            return false;
        };
        let told = parting.told;
        let mut loss = self.loss_of_code(told.code, told.reason, told.reconnect);
        loss.come_back_at = (told.after > 0).then_some(parting.come_back_at);
        self.lose(loss, now);
        true
    }

    pub(crate) fn parting_deadline(&self) -> Option<Millis> {
        self.parting.as_ref().map(|parting| parting.close_by)
    }

    fn loss_of_code(&mut self, code: u16, reason: V::Text, reconnect: bool) -> Loss<V> {
        let needs_token = Code::number_needs_token(code);
        let is_final = !reconnect || Disposition::of_close(code) == Disposition::Stop;
        let retry = match Disposition::of_close(code) {
            Disposition::Immediate => Fate::RetryAtOnce,
            _ => Fate::Retry,
        };
        let (error, fate) = if needs_token && is_final {
            self.refused_credentials(code, reason)
        } else if needs_token && !self.tokens.may_be_renewed() {
            // It would come back as nobody in particular, or be refused again and again.
            self.tokens.refuse();
            let (code, reason) = (Some(code), Some(reason));
            (ClientError::Unauthorized { code, reason }, Fate::Stop)
        } else {
            if needs_token {
                self.tokens.refuse();
            }
            let fate = if is_final { Fate::Stop } else { retry };
            (ClientError::Transport { code, reason }, fate)
        };
        Loss {
            error,
            come_back_at: None,
            fate,
        }
    }

    /// A refusal is final unless the provider has not been told of one yet.
    fn refused_credentials(&mut self, code: u16, text: V::Text) -> (ClientError<V::Text>, Fate) {
        let fate = if self.tokens.refuse() {
            Fate::Retry
        } else {
            Fate::Stop
        };
        let (code, reason) = (Some(code), Some(text));
        (ClientError::Unauthorized { code, reason }, fate)
    }

    pub(crate) fn lose(&mut self, loss: Loss<V>, now: Millis) {
        if loss.fate == Fate::Stop {
            self.stop(ConnectionState::Failed, Some(loss.error), now);
            return;
        }
        let lasted = match self.connection {
            Connection::Open { since, .. } => now.since(since),
            _ => 0,
        };
        // A server that sends everybody away as they come must not make a tight loop.
        let is_sent_elsewhere = loss.fate == Fate::RetryAtOnce && lasted >= SENT_ELSEWHERE_AFTER;
        if is_sent_elsewhere || lasted >= self.options.backoff.reset_after {
            self.attempt = 0;
        }
        let until = if is_sent_elsewhere {
            loss.come_back_at.unwrap_or(now)
        } else {
            let until = self.retry_at(loss.come_back_at, now);
            self.attempt = self.attempt.saturating_add(1);
            until
        };
        self.detach(Connection::Waiting { until }, now);
        self.announce(self.state_on_the_way(), Some(loss.error), Some(until));
        self.suspend_channels();
        self.give_up_orphans();
        // Not by a timer: a page in the background may wait a minute for one.
        if is_sent_elsewhere && until <= now {
            self.begin(now);
        }
    }

    /// What the application is told while there is no connection and one is wanted.
    pub(crate) const fn state_on_the_way(&self) -> ConnectionState {
        match (self.is_offline, self.was_connected) {
            (true, _) => ConnectionState::Offline,
            (false, true) => ConnectionState::Reconnecting,
            (false, false) => ConnectionState::Connecting,
        }
    }

    /// How long to wait while the network is said to be gone: attempts are pointless where that is true, and all there is where
    /// it is not.
    pub(crate) fn offline_delay(&mut self) -> u64 {
        let half = self.options.backoff.max / 2;
        half + self.random.up_to(half)
    }

    /// A server that names a time has spread its clients already; jitter is added only to failures in a row.
    fn retry_at(&mut self, come_back_at: Option<Millis>, now: Millis) -> Millis {
        let delay = match self.is_offline {
            true => self.offline_delay(),
            false => self.options.backoff.delay(self.attempt, &mut self.random),
        };
        match come_back_at {
            Some(at) if self.attempt == 0 => at.max(now),
            Some(at) => at.max(now + delay),
            None => now + delay,
        }
    }

    pub(crate) fn stop(
        &mut self,
        state: ConnectionState,
        error: Option<ClientError<V::Text>>,
        now: Millis,
    ) {
        let answer = error.clone().unwrap_or(ClientError::Closed);
        self.detach(Connection::Stopped, now);
        self.announce(state, error, None);
        self.suspend_channels();
        self.fail_requests(&answer);
    }

    pub(crate) fn detach(&mut self, connection: Connection<V>, now: Millis) {
        self.connection = connection;
        self.parting = None;
        self.is_overjoined = false;
        self.tokens.detach();
        self.requests.detach(now);
    }

    pub(crate) fn announce(
        &mut self,
        state: ConnectionState,
        error: Option<ClientError<V::Text>>,
        retry_at: Option<Millis>,
    ) {
        let session = self.connection.session();
        self.outputs.tell(News::Status(Status {
            state,
            attempt: self.attempt,
            resumed: session.is_some() && self.is_resumed,
            retry_at,
            socket: session.map(|session| session.socket.clone()),
            user: session.and_then(|session| session.user.clone()),
            error,
        }));
    }
}

impl<V: Values> Parting<V> {
    pub(crate) const fn reason(&self) -> &V::Text {
        &self.told.reason
    }
}

impl<V: Values> Loss<V> {
    pub(crate) const fn retry(error: ClientError<V::Text>) -> Self {
        Self {
            error,
            come_back_at: None,
            fate: Fate::Retry,
        }
    }
}

impl<V: Values> Refusal<V> {
    pub(crate) fn error(&self) -> ClientError<V::Text> {
        ClientError::Server {
            code: self.code,
            text: self.text.clone(),
            retry: self.retry,
            retry_after: self.retry_after,
        }
    }
}

/// RFC 6455, section 7.4.1: the connection was lost, or could not be made.
const ABNORMAL: u16 = 1006;

/// 1 s: a connection that lasted shorter counts as a failure, whoever ended it.
const SENT_ELSEWHERE_AFTER: u64 = 1_000;

/// 5 s: a server that has said goodbye gets so long to flush and close.
const GOODBYE_WAIT: u64 = 5_000;
