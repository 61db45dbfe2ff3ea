//! The end of a connection, or of an attempt at one: whether to come back, and when.

use alloc::string::String;
use fanfare_protocol::{Code, Disconnect, Disposition, ErrorMessage};

use crate::client::Client;
use crate::connection::{Connection, NORMAL};
use crate::error::ClientError;
use crate::event::{ConnectionState, ConnectionStatus, Event};
use crate::io::Payload;
use crate::time::Millis;

/// The server has said goodbye.
#[derive(Debug)]
pub(crate) struct Goodbye {
    told: Disconnect,
    come_back_at: Millis,
    close_by: Millis,
}

/// Why a connection, or an attempt at one, has ended.
#[derive(Debug)]
pub(crate) struct Loss {
    error: ClientError,
    come_back_at: Option<Millis>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Retry,
    Stop,
}

impl<P: Payload> Client<P> {
    /// The credentials were not taken, if that is what this is about.
    pub(crate) fn authentication_failed(
        &mut self,
        id: u64,
        error: &ErrorMessage,
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
            (server_error(error), Fate::Retry)
        } else {
            self.refused_credentials()
        };
        let loss = Loss {
            error,
            come_back_at: retry_after.map(|wait| now + wait),
            fate,
        };
        self.close(NORMAL, "");
        self.lose(loss, now);
        true
    }

    /// The server is about to close: what it still sends counts, its close code is known already.
    pub(crate) fn told_to_go(&mut self, told: Disconnect, now: Millis) {
        if self.connection.has_socket() {
            self.goodbye = Some(Goodbye {
                come_back_at: now + told.after,
                close_by: now + GOODBYE_WAIT,
                told,
            });
        }
    }

    pub(crate) fn closed(&mut self, code: u16, reason: String, now: Millis) {
        if !self.connection.has_socket() {
            return;
        }
        let loss = match self.goodbye.take() {
            Some(goodbye) => self.loss_of_goodbye(goodbye),
            None => self.loss_of_code(code, reason, true),
        };
        self.lose(loss, now);
    }

    pub(crate) fn goodbye_deadline(&self) -> Option<Millis> {
        self.goodbye.as_ref().map(|goodbye| goodbye.close_by)
    }

    fn loss_of_goodbye(&mut self, goodbye: Goodbye) -> Loss {
        let Disconnect {
            code,
            reason,
            reconnect,
            after,
        } = goodbye.told;
        let loss = self.loss_of_code(code, reason, reconnect);
        Loss {
            come_back_at: (after > 0).then_some(goodbye.come_back_at),
            ..loss
        }
    }

    fn loss_of_code(&mut self, code: u16, reason: String, reconnect: bool) -> Loss {
        let needs_token = Code::number_needs_token(code);
        let is_final = !reconnect || Disposition::of_close(code) == Disposition::Stop;
        let transport = ClientError::Transport { code, reason };
        let (error, fate) = match (needs_token, is_final) {
            (true, true) => self.refused_credentials(),
            (true, false) => {
                self.tokens.refuse();
                (transport, Fate::Retry)
            }
            (false, true) => (transport, Fate::Stop),
            (false, false) => (transport, Fate::Retry),
        };
        Loss {
            error,
            come_back_at: None,
            fate,
        }
    }

    /// A refusal is final unless the provider has not been told of one yet.
    fn refused_credentials(&mut self) -> (ClientError, Fate) {
        let fate = if self.tokens.refuse() {
            Fate::Retry
        } else {
            Fate::Stop
        };
        (ClientError::Unauthorized, fate)
    }

    pub(crate) fn lose(&mut self, loss: Loss, now: Millis) {
        if loss.fate == Fate::Stop {
            self.stop(ConnectionState::Failed, Some(loss.error), now);
            return;
        }
        if let Connection::Open { since, .. } = self.connection
            && now.since(since) >= self.options.backoff.reset_after
        {
            self.attempt = 0;
        }
        if self.is_offline {
            self.detach(Connection::Asleep, now);
            self.announce(ConnectionState::Offline, Some(loss.error), None);
        } else {
            let until = self.retry_at(loss.come_back_at, now);
            self.attempt = self.attempt.saturating_add(1);
            self.detach(Connection::Waiting { until }, now);
            let state = if self.was_connected {
                ConnectionState::Reconnecting
            } else {
                ConnectionState::Connecting
            };
            self.announce(state, Some(loss.error), Some(until));
        }
        self.suspend_channels();
    }

    /// A server that names a time has spread its clients already; jitter is added only to failures in a row.
    fn retry_at(&mut self, come_back_at: Option<Millis>, now: Millis) -> Millis {
        let delay = self.options.backoff.delay(self.attempt, &mut self.random);
        match come_back_at {
            Some(at) if self.attempt == 0 => at.max(now),
            Some(at) => at.max(now + delay),
            None => now + delay,
        }
    }

    pub(crate) fn stop(&mut self, state: ConnectionState, error: Option<ClientError>, now: Millis) {
        let answer = error.clone().unwrap_or(ClientError::Closed);
        self.detach(Connection::Stopped, now);
        self.announce(state, error, None);
        self.suspend_channels();
        self.fail_requests(&answer);
    }

    pub(crate) fn detach(&mut self, connection: Connection, now: Millis) {
        self.connection = connection;
        self.goodbye = None;
        self.tokens.detach();
        self.requests.detach(now);
    }

    pub(crate) fn announce(
        &mut self,
        state: ConnectionState,
        error: Option<ClientError>,
        retry_at: Option<Millis>,
    ) {
        let (code, reason) = match &error {
            Some(ClientError::Transport { code, reason }) => (Some(*code), Some(reason.clone())),
            _ => (None, None),
        };
        self.status = ConnectionStatus {
            state,
            previous: self.status.state,
            attempt: self.attempt,
            retry_at,
            socket_id: self.connection.session().map(|session| session.socket_id),
            resumed: state == ConnectionState::Connected && self.was_connected,
            error,
            code,
            reason,
        };
        let status = self.status.clone();
        self.emit(Event::Connection(status));
    }
}

impl Loss {
    pub(crate) const fn retry(error: ClientError) -> Self {
        Self {
            error,
            come_back_at: None,
            fate: Fate::Retry,
        }
    }
}

pub(crate) fn server_error(error: &ErrorMessage) -> ClientError {
    ClientError::Server {
        code: error.code,
        text: error.error.clone(),
        retry: error.retry,
        retry_after: error.retry_after,
    }
}

/// 5 s: a server that has said goodbye gets so long to flush and close.
const GOODBYE_WAIT: u64 = 5_000;
