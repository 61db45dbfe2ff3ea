//! One connection's protocol state, without I/O: [`Session::handle`], then [`Session::poll_output`] until it is empty, then
//! wait for [`Session::next_timeout`].
//!
//! A session has exactly one owner, its [driver]. That is why subscribing, leaving and closing cannot race: what happens to
//! one channel happens one step after the other, and commands for a channel whose step is still under way wait in line.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{
    ChannelName, Code, Connected, ConnectionLimits, Disconnect, ErrorMessage, PROTOCOL_VERSION,
    Request, ServerMessage, SocketId, SubscriptionError, UserId,
};

use self::io::{Input, OpId, Outcome, Output, Refusal};
use self::lists::Lists;
use self::removals::Removals;
use self::subscription::Subscription;
use crate::auth::{Caller, Identity};
use crate::budget::Budget;
use crate::clock::{Instant, Moment};
use crate::config::Limits;
use crate::delivery::Departure;
use crate::rules::ChannelRules;
use crate::sessions::Control;

mod commands;
pub(crate) mod driver;
mod effects;
mod identity;
pub(crate) mod io;
mod joining;
mod lists;
mod permit;
mod presence;
pub(crate) mod reads;
mod removals;
mod subscription;

/// Who may do what on a connection.
#[derive(Debug)]
pub(crate) enum Access {
    /// Nobody yet: only `authenticate`, `ping` and `disconnect` are taken, until a deadline.
    Waiting {
        /// Whether the handshake showed something that was refused.
        was_refused: bool,
    },
    /// Nobody in particular.
    Anonymous,
    /// A user.
    Identified {
        /// Who.
        identity: Identity,
        /// When the identity ends.
        ends_at: Option<Instant>,
    },
}

/// What every session of a server shares.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) limits: Limits,
    pub(crate) rules: Arc<ChannelRules>,
    /// For how long the engine recognises a publish by its key.
    pub(crate) idempotency_window: Duration,
}

/// One connection's protocol state.
#[derive(Debug)]
pub(crate) struct Session {
    id: SocketId,
    /// Where it comes from, where addresses are counted.
    address: Option<IpAddr>,
    terms: Arc<Terms>,
    access: Access,
    /// Ordered by channel.
    subscriptions: Vec<Subscription>,
    removals: Removals,
    tasks: Vec<(OpId, Task)>,
    next_op: OpId,
    /// Commands for channels whose step is still under way.
    line: VecDeque<Queued>,
    line_bytes: usize,
    budget: Budget,
    /// What it may still publish, in bytes.
    publish_bytes: Budget,
    lists: Lists,
    strikes: u32,
    /// For frames that are no messages.
    frames: Budget,
    opened_at: Instant,
    heard_at: Instant,
    is_pinged: bool,
    is_closing: bool,
    departure: Departure,
    outputs: VecDeque<Output>,
}

/// What an effect under way is for.
#[derive(Debug)]
enum Task {
    Authenticate {
        request: Option<u64>,
    },
    Subscribe {
        request: Option<u64>,
        channel: ChannelName,
    },
    Leave {
        channel: ChannelName,
    },
    Reply {
        request: Option<u64>,
        channel: ChannelName,
    },
}

/// What waits for its turn on a channel.
#[derive(Debug)]
enum Queued {
    Command(Request),
    Control(Control),
}

impl Session {
    /// A session that says `connected` first.
    pub(crate) fn new(id: SocketId, terms: Arc<Terms>, access: Access, now: Moment) -> Self {
        let budget = Budget::full(terms.limits.commands_rate(), now.instant);
        let publish_bytes = Budget::full(terms.limits.client_bytes_rate(), now.instant);
        let frames = Budget::full(terms.limits.frames_rate(), now.instant);
        let lists = Lists::new(&terms.limits, now.instant);
        let mut session = Self {
            id,
            address: None,
            terms,
            access,
            subscriptions: Vec::new(),
            removals: Removals::default(),
            tasks: Vec::new(),
            next_op: 1,
            line: VecDeque::new(),
            line_bytes: 0,
            budget,
            publish_bytes,
            lists,
            strikes: 0,
            frames,
            opened_at: now.instant,
            heard_at: now.instant,
            is_pinged: false,
            is_closing: false,
            departure: Departure::Lost,
            outputs: VecDeque::new(),
        };
        session.send(ServerMessage::Connected(session.greeting(now)));
        if let Some(user) = session.user().cloned() {
            session.identified(&user);
        }
        session
    }

    /// Says which address it counts for.
    pub(crate) fn at_address(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }

    /// Takes one input. Afterwards drain [`Session::poll_output`].
    pub(crate) fn handle(&mut self, input: Input, now: Moment) {
        if self.is_closing {
            return;
        }
        match input {
            Input::Heard => self.heard(now),
            Input::Command(request) => self.command(request, now),
            Input::Undecodable(error) => {
                if self.may_command(error.id, now) {
                    self.send(ServerMessage::Error(error.to_message()));
                }
            }
            Input::Binary => {
                if self.may_command(None, now) {
                    let text = "messages are text frames, this one was binary".to_owned();
                    self.refuse(None, Code::BAD_MESSAGE, Some(text));
                }
            }
            Input::Frame => self.frame(now),
            Input::Control(control) => {
                self.note_removal(&control, now);
                self.control(control);
            }
            Input::Done(op, outcome) => self.done(op, outcome, now),
            Input::Slow => self.close(Code::SLOW_CONSUMER, Code::SLOW_CONSUMER.text(), 0),
            Input::TimedOut => self.timed_out(now),
        }
    }

    /// The next thing to do.
    #[must_use]
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // An idle session owns no queues.
            self.outputs = VecDeque::new();
            if self.tasks.is_empty() {
                self.tasks = Vec::new();
            }
        }
        output
    }

    /// When to call with [`Input::TimedOut`].
    #[must_use]
    pub(crate) fn next_timeout(&self) -> Instant {
        let limits = &self.terms.limits;
        let liveness = if self.is_pinged {
            limits.stale_after
        } else {
            limits.ping_interval
        };
        let mut next = self.heard_at + liveness;
        match &self.access {
            Access::Waiting { .. } => {
                next = next.min(self.opened_at + limits.authentication_deadline)
            }
            Access::Identified {
                ends_at: Some(ends_at),
                ..
            } => next = next.min(*ends_at),
            Access::Anonymous | Access::Identified { .. } => {}
        }
        self.subscriptions
            .iter()
            // A step under way is not interrupted; its end asks again.
            .filter(|subscription| subscription.step.is_none())
            .filter_map(|subscription| subscription.expires_at)
            .fold(next, Instant::min)
    }

    /// Who the connection belongs to.
    pub(crate) fn user(&self) -> Option<&UserId> {
        match &self.access {
            Access::Identified { identity, .. } => Some(&identity.user),
            Access::Waiting { .. } | Access::Anonymous => None,
        }
    }

    /// The connection as an authorizer sees it.
    pub(crate) fn caller(&self) -> Caller {
        let identity = match &self.access {
            Access::Identified { identity, .. } => Some(identity.clone()),
            Access::Waiting { .. } | Access::Anonymous => None,
        };
        Caller::new(self.id, identity).at_address(self.address)
    }

    /// Whether the connection still has to say who it is.
    pub(crate) fn is_waiting_for_credentials(&self) -> bool {
        matches!(self.access, Access::Waiting { .. })
    }

    /// How the connection would leave its presence channels if it ended now.
    pub(crate) fn departure(&self) -> Departure {
        self.departure
    }

    /// The client said goodbye with the WebSocket's own close.
    pub(crate) fn said_goodbye(&mut self) {
        self.departure = Departure::Goodbye;
    }

    fn greeting(&self, now: Moment) -> Connected {
        let limits = &self.terms.limits;
        let bytes = limits.client_bytes_rate();
        Connected {
            socket_id: self.id,
            user_id: self.user().cloned(),
            protocol: PROTOCOL_VERSION,
            ping_interval: milliseconds(limits.ping_interval),
            max_payload_size: limits.client_payload_bytes_max() as u64,
            server_time: now.unix_ms,
            limits: Some(ConnectionLimits {
                channels_max: limits.channels_max as u64,
                commands_per_second: limits.commands_per_second.into(),
                commands_burst: limits.commands_burst.into(),
                message_bytes_max: limits.message_bytes_max() as u64,
                bytes_per_second: Some(bytes.per_second.into()),
                bytes_burst: Some(bytes.burst.into()),
                idempotency_window: Some(milliseconds(self.terms.idempotency_window)),
            }),
        }
    }

    fn heard(&mut self, now: Moment) {
        self.heard_at = now.instant;
        self.is_pinged = false;
    }

    /// Takes a command from the connection's budget; answers whether it may be carried out.
    fn may_command(&mut self, request: Option<u64>, now: Moment) -> bool {
        let limits = &self.terms.limits;
        match self.budget.take(1, limits.commands_rate(), now.instant) {
            Ok(()) => {
                self.strikes = self.strikes.saturating_sub(1);
                true
            }
            Err(wait) => {
                self.is_above_limit(request, wait);
                false
            }
        }
    }

    /// Takes a frame that is no message from the connection's budget.
    fn frame(&mut self, now: Moment) {
        let rate = self.terms.limits.frames_rate();
        if self.frames.take(1, rate, now.instant).is_err() {
            let reason = "pings, pongs and fragments kept arriving far above the limit";
            self.close(Code::FLOODING, reason, 0);
        }
    }

    /// Charges the connection for an answer that goes out: so many bytes count as a command.
    pub(crate) fn charge_answer(&mut self, bytes: usize, now: Moment) {
        let limits = &self.terms.limits;
        let commands = bytes / limits.answer_bytes_per_command.max(1);
        if commands > 0 {
            let cost = u32::try_from(commands).unwrap_or(u32::MAX);
            self.budget
                .charge(cost, limits.commands_rate(), now.instant);
        }
    }

    /// Tells a client that it asks for too much, or closes the connection of one that was told often enough.
    fn is_above_limit(&mut self, request: Option<u64>, wait: Duration) {
        self.strikes += 1;
        let burst = self.terms.limits.commands_burst;
        if self.strikes > burst.saturating_mul(STRIKES_PER_BURST) {
            return self.close(Code::FLOODING, Code::FLOODING.text(), 0);
        }
        let refusal = Refusal::new(Code::RATE_LIMITED).with_retry_after(wait);
        self.refuse_for(request, refusal);
    }

    fn done(&mut self, op: OpId, outcome: Outcome, now: Moment) {
        let Some(at) = self.tasks.iter().position(|(other, _)| *other == op) else {
            return;
        };
        let (_, task) = self.tasks.swap_remove(at);
        match task {
            Task::Authenticate { request } => {
                self.authenticated(request, outcome);
                self.after_login(now);
            }
            Task::Subscribe { request, channel } => {
                self.start_next();
                self.subscribed(request, &channel, outcome);
                self.next_in_line(&channel, now);
            }
            Task::Leave { channel } => {
                self.forget(&channel);
                self.next_in_line(&channel, now);
            }
            Task::Reply { request, channel } => {
                match outcome {
                    Outcome::Replied(reply) => self.send(ServerMessage::Ok(*reply)),
                    Outcome::Refused(refusal) => self.refuse_for(request, refusal),
                    Outcome::Accepted
                    | Outcome::Authenticated { .. }
                    | Outcome::Subscribed { .. } => {}
                }
                self.release(&channel);
                self.next_in_line(&channel, now);
            }
        }
    }

    fn timed_out(&mut self, now: Moment) {
        let limits = &self.terms.limits;
        let silent = now.instant.duration_since(self.heard_at);
        if silent >= limits.stale_after {
            return self.close(Code::STALE, Code::STALE.text(), 0);
        }
        match &self.access {
            Access::Waiting { was_refused }
                if now.instant >= self.opened_at + limits.authentication_deadline =>
            {
                let code = if *was_refused {
                    Code::CREDENTIALS_REFUSED
                } else {
                    Code::AUTHENTICATION_TIMEOUT
                };
                return self.close(code, code.text(), 0);
            }
            Access::Identified {
                ends_at: Some(ends_at),
                ..
            } if now.instant >= *ends_at => {
                return self.close(Code::TOKEN_EXPIRED, Code::TOKEN_EXPIRED.text(), 0);
            }
            Access::Waiting { .. } | Access::Anonymous | Access::Identified { .. } => {}
        }
        if silent >= limits.ping_interval && !self.is_pinged {
            self.is_pinged = true;
            self.outputs.push_back(Output::Ping);
        }
        self.end_expired(now);
    }

    fn send(&mut self, message: ServerMessage) {
        self.outputs.push_back(Output::Send(message));
    }

    fn refuse(&mut self, request: Option<u64>, code: Code, text: Option<String>) {
        let refusal = Refusal {
            text,
            ..Refusal::new(code)
        };
        self.refuse_for(request, refusal);
    }

    fn refuse_for(&mut self, request: Option<u64>, refusal: Refusal) {
        let mut message = ErrorMessage::new(request, refusal.code);
        message.retry_after = refusal.retry_after_ms();
        if let Some(text) = refusal.text {
            message.error = text;
        }
        self.send(ServerMessage::Error(message));
    }

    fn refuse_subscription(
        &mut self,
        request: Option<u64>,
        channel: &ChannelName,
        refusal: Refusal,
    ) {
        let mut message = SubscriptionError::new(request, channel.clone(), refusal.code);
        message.retry_after = refusal.retry_after_ms();
        if let Some(text) = refusal.text {
            message.error = text;
        }
        self.send(ServerMessage::SubscriptionError(message));
    }

    fn close(&mut self, code: Code, reason: &str, after: u64) {
        let reconnect = code.disposition() != fanfare_protocol::Disposition::Stop;
        if !reconnect {
            self.departure = Departure::Removed;
        }
        let message = Disconnect {
            code: code.number(),
            reason: reason.to_owned(),
            reconnect,
            after,
        };
        self.send(ServerMessage::Disconnect(message));
        self.outputs.push_back(Output::Close {
            code: code.number(),
            reason: reason.to_owned(),
        });
        self.is_closing = true;
    }

    fn goodbye(&mut self) {
        self.departure = Departure::Goodbye;
        self.outputs.push_back(Output::Close {
            code: NORMAL_CLOSURE,
            reason: "goodbye".to_owned(),
        });
        self.is_closing = true;
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 6455, 7.4.1.
pub(crate) const NORMAL_CLOSURE: u16 = 1000;

/// 5: so many bursts above the limit are no accident. Every command within the limit makes up for one above it.
const STRIKES_PER_BURST: u32 = 5;

#[cfg(test)]
mod tests;
