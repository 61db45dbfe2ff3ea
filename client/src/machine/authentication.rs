//! Tokens on their way: asked for, answered, sent, renewed.

use crate::error::ClientError;
use crate::io::TokenReply;
use crate::machine::Machine;
use crate::machine::connection::Connection;
use crate::machine::loss::Loss;
use crate::machine::output::{Command, Output};
use crate::machine::token::Refreshing;
use crate::machine::values::{Refusal, Values};
use crate::time::Millis;

impl<V: Values> Machine<V> {
    /// The application logs in (a token) or out (none).
    pub fn set_token(&mut self, token: Option<V::Text>, now: Millis) {
        let is_login = token.is_some();
        self.tokens.replace(token);
        match self.connection {
            Connection::AwaitingToken if is_login => self.open_socket(now),
            Connection::AwaitingToken => self.begin(now),
            Connection::Open { .. } if is_login => self.authenticate_again(true, now),
            Connection::Open { .. }
            | Connection::Greeting { .. }
            | Connection::Authenticating { .. } => self.reconnect(now),
            _ => {}
        }
    }

    /// The answer to [`Output::NeedToken`].
    pub fn token_answered(&mut self, reply: TokenReply<V::Text>, now: Millis) {
        if self.tokens.asked.is_none() {
            return;
        }
        let is_connecting = matches!(self.connection, Connection::AwaitingToken);
        match reply {
            TokenReply::Token(token) => {
                self.tokens.set(Some(token));
                if is_connecting {
                    self.open_socket(now);
                } else {
                    self.authenticate_again(false, now);
                }
            }
            TokenReply::Anonymous => {
                self.tokens.set(None);
                if is_connecting {
                    self.open_socket(now);
                } else {
                    self.reconnect(now);
                }
            }
            TokenReply::Unauthorized { reason } => self.unauthorized(reason, now),
            TokenReply::Failed { reason } => self.token_failed(reason, now),
        }
    }

    pub(crate) fn token_failed(&mut self, reason: Option<V::Text>, now: Millis) {
        self.tokens.asked = None;
        let error = ClientError::Token { reason };
        if let Connection::AwaitingToken = self.connection {
            self.lose(Loss::retry(error), now);
        } else {
            self.complain(error);
            self.refresh_later(now);
        }
    }

    fn authenticate_again(&mut self, by_application: bool, now: Millis) {
        let Some(token) = self.tokens.current().cloned() else {
            return;
        };
        let id = self.send(Command::Authenticate { token });
        self.pace.spend();
        self.tokens.refreshing = Some(Refreshing {
            id,
            until: now + self.options.request_timeout,
            by_application,
        });
    }

    /// The server did not take a token on an open connection, or has not said so in time. The old one still counts.
    pub(crate) fn refresh_failed(
        &mut self,
        refreshing: Refreshing,
        refusal: Option<&Refusal<V>>,
        now: Millis,
    ) {
        self.tokens.refreshing = None;
        let is_final = refusal.filter(|refusal| !refusal.retry);
        if refreshing.by_application {
            self.reconnect(now);
        } else if let Some(refusal) = is_final {
            if self.tokens.refuse() {
                self.need_token(now);
            } else {
                self.complain(ClientError::Unauthorized {
                    code: Some(refusal.code),
                    reason: Some(refusal.text.clone()),
                });
            }
        } else {
            self.refresh_later(now);
        }
    }

    fn refresh_later(&mut self, now: Millis) {
        let delay = REFRESH_PAUSE + self.random.up_to(REFRESH_PAUSE);
        self.tokens.postpone_refresh(now + delay);
    }

    pub(crate) fn need_token(&mut self, now: Millis) {
        if let Some(reason) = self.tokens.reason_to_ask(now) {
            self.tokens.ask(now + self.options.auth_timeout);
            self.outputs.push(Output::NeedToken(reason));
        }
    }
}

/// 2 s: with as much jitter again, a short margin still has room for a second try.
const REFRESH_PAUSE: u64 = 2_000;
