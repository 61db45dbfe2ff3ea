//! How a connection comes to belong to somebody.

use fanfare_protocol::{ChannelName, Code, Reply, ServerMessage, UserId};

use super::io::{Effect, Outcome, Output, Refusal};
use super::{Access, Session, Task};
use crate::auth::Token;
use crate::clock;
use crate::sessions::Control;

impl Session {
    pub(super) fn authenticate(&mut self, request: Option<u64>, token: Token) {
        if self.is_authenticating() {
            return self.refuse(request, Code::BUSY, None);
        }
        self.start(Task::Authenticate { request }, Effect::Authenticate(token));
    }

    fn is_authenticating(&self) -> bool {
        let mut tasks = self.tasks.iter();
        tasks.any(|(_, task)| matches!(task, Task::Authenticate { .. }))
    }

    /// Whether an anonymous connection is about to have a user: what follows its credentials is that user's, and must not be
    /// judged as nobody's.
    pub(super) fn is_logging_in(&self) -> bool {
        matches!(self.access, Access::Anonymous) && self.is_authenticating()
    }

    pub(super) fn authenticated(&mut self, request: Option<u64>, outcome: Outcome) {
        match outcome {
            Outcome::Authenticated { identity, ends_at } => {
                if self.user().is_some_and(|user| *user != identity.user) {
                    let text = "a connection cannot change its user".to_owned();
                    return self.refuse(request, Code::TOKEN_REFUSED, Some(text));
                }
                let is_new = self.user().is_none();
                let user = identity.user.clone();
                if let Some(id) = request {
                    let expires_at = identity.expires_at.map(clock::as_unix_ms);
                    self.send(ServerMessage::Ok(Reply {
                        user_id: Some(user.clone()),
                        expires_at,
                        ..Reply::new(id)
                    }));
                }
                self.access = Access::Identified { identity, ends_at };
                if is_new {
                    self.identified(&user);
                }
            }
            Outcome::Refused(Refusal {
                code: Code::CREDENTIALS_REFUSED,
                text,
                ..
            }) => {
                if self.user().is_some() {
                    return self.refuse(request, Code::TOKEN_REFUSED, text);
                }
                let reason = text.unwrap_or_else(|| Code::CREDENTIALS_REFUSED.text().to_owned());
                self.refuse(request, Code::CREDENTIALS_REFUSED, Some(reason.clone()));
                self.close(Code::CREDENTIALS_REFUSED, &reason, 0);
            }
            Outcome::Refused(Refusal {
                code: code @ Code::DISCONNECTED,
                ..
            }) => self.close(code, code.text(), 0),
            Outcome::Refused(refusal) => self.refuse_for(request, refusal),
            Outcome::Subscribed { .. } | Outcome::Replied(_) | Outcome::Accepted => {}
        }
    }

    pub(super) fn identified(&mut self, user: &UserId) {
        let channel = ChannelName::user(user);
        self.outputs.push_back(Output::Identified);
        self.control(Control::Subscribe(channel));
    }
}
