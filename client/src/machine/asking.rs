//! Commands of the application: taken in, sent, answered.

use fanfare_protocol::Code;

use crate::error::ClientError;
use crate::io::RequestId;
use crate::machine::Machine;
use crate::machine::joining::{PUBLISH_RATE, RATE_LIMITED};
use crate::machine::output::{Command, News, Output};
use crate::machine::requests::{Pending, Stage};
use crate::machine::values::{Question, Refusal, Values};
use crate::time::Millis;

impl<V: Values> Machine<V> {
    /// Sends a command of the application's: once there is a connection, and its channel is subscribed where that is wanted.
    ///
    /// Every request gets exactly one answer.
    pub fn ask(&mut self, question: Question<V>, now: Millis) {
        let id = self.take_id();
        let pending = Pending {
            id,
            bytes: question.bytes_with(id),
            question,
            expires: now
                + self
                    .options
                    .queue
                    .ttl
                    .min(self.idempotency_window.unwrap_or(u64::MAX)),
            stage: Stage::New,
            may_have_happened: false,
            is_orphaned: false,
            repetitions: 0,
        };
        self.ask_pending(pending, now);
    }

    /// Sends a command again that another machine has sent in the name of this user and got no answer to.
    pub fn ask_again(&mut self, question: Question<V>, user: V::User, now: Millis) {
        let id = self.take_id();
        if self.requests.owner().is_none() {
            self.requests.belong_to(Some(user));
        }
        let pending = Pending {
            id,
            bytes: question.bytes_with(id),
            question,
            expires: now + self.options.queue.ttl,
            stage: Stage::New,
            may_have_happened: true,
            is_orphaned: false,
            repetitions: 0,
        };
        self.ask_pending(pending, now);
    }

    fn ask_pending(&mut self, pending: Pending<V>, now: Millis) {
        let request = pending.question.request;
        let is_uncertain = pending.is_uncertain();
        match self.admit(pending) {
            Ok(()) => self.flush(now),
            Err(_) if is_uncertain => self.answer(request, Err(ClientError::UnknownOutcome)),
            Err(error) => self.answer(request, Err(error)),
        }
    }

    /// The application lost interest in a reply. What was sent stays sent.
    pub fn abort(&mut self, request: RequestId, now: Millis) {
        if self.requests.take(request).is_some() {
            self.answer(request, Err(ClientError::Aborted));
            self.flush(now);
        }
    }

    /// Sends what can be sent now, unless channels wait: they go first, or steady publishing would keep them from coming back.
    pub(crate) fn flush(&mut self, now: Millis) {
        if !self.has_queued {
            self.send_requests(now);
        }
    }

    pub(crate) fn send_requests(&mut self, now: Millis) {
        if !self.connection.is_open() {
            return;
        }
        let timeout = self.options.request_timeout;
        let limits = &self.options.queue;
        let channels = &self.channels;
        let is_open = |name: &V::Channel| {
            let found = channels.binary_search_by(|channel| channel.name.cmp(name));
            found.is_err() || found.is_ok_and(|at| !channels[at].holds_publishes())
        };
        let pace = &mut self.pace;
        let mut may_send = |bytes| pace.take(bytes, now);
        while let Some((id, command)) =
            (self.requests).next_to_send(now, timeout, limits, is_open, &mut may_send)
        {
            self.outputs.push(Output::Send {
                id: Some(id),
                command: Command::Asked(command),
            });
        }
    }

    pub(crate) fn request_done(&mut self, id: u64, reply: V::Reply, now: Millis) {
        if let Some(mut pending) = self.requests.take_sent(id) {
            if let (Some(channel), Some(update)) =
                (&pending.question.channel, pending.question.update.take())
            {
                self.updated(channel, update, id);
            }
            self.answer(pending.question.request, Ok(reply));
            self.flush(now);
        }
    }

    pub(crate) fn request_failed(&mut self, id: u64, refusal: &Refusal<V>, now: Millis) {
        let Some(mut pending) = self.requests.take_sent(id) else {
            return;
        };
        let is_unknown = refusal.code == Code::UNKNOWN_OUTCOME.number();
        let is_too_soon = matches!(refusal.code, RATE_LIMITED | PUBLISH_RATE);
        pending.may_have_happened |= is_unknown;
        let may_have_happened = pending.question.is_repeatable && pending.may_have_happened;
        // An update has the same outcome however often it is made.
        let may_repeat = may_have_happened || (pending.question.update.is_some() && refusal.retry);
        if is_too_soon && !may_have_happened {
            // Nothing came of it.
            let wait = refusal.retry_after.unwrap_or(1).max(1);
            self.requests.send_again(pending, now + wait);
        } else if !may_repeat {
            let is_uncertain = pending.question.update.is_some() && pending.may_have_happened;
            let error = match is_uncertain {
                true => ClientError::UnknownOutcome,
                false => refusal.error(),
            };
            self.answer(pending.question.request, Err(error));
        } else if (is_unknown || refusal.retry) && !pending.is_orphaned {
            let attempt = pending.repetitions;
            let delay = self.options.backoff.delay(attempt, &mut self.random);
            let at = now + delay.max(refusal.retry_after.unwrap_or(0)).max(1);
            self.requests.send_again(pending, at);
        } else {
            let request = pending.question.request;
            self.answer(request, Err(ClientError::UnknownOutcome));
        }
        self.flush(now);
    }

    /// Who the connection belongs to is known, or has changed.
    pub(crate) fn requests_belong_to(&mut self, user: Option<V::User>) {
        self.forget_info_of_others(user.as_ref());
        self.requests.belong_to(user);
        self.give_up_orphans();
    }

    /// Ends what may have happened and must not be sent again.
    pub(crate) fn give_up_orphans(&mut self) {
        while let Some(pending) = self.requests.take_orphan() {
            let request = pending.question.request;
            self.answer(request, Err(ClientError::UnknownOutcome));
        }
    }

    pub(crate) fn fail_overdue_requests(&mut self, now: Millis) {
        while let Some((pending, error)) = self.requests.take_overdue(now) {
            self.answer(pending.question.request, Err(error));
        }
    }

    /// The server has said how large a frame may be. It would close the connection for what was asked before that and is larger,
    /// each time that it comes again.
    pub(crate) fn fail_large_requests(&mut self) {
        let Some(bytes_max) = self.frame_bytes_max else {
            return;
        };
        while let Some(pending) = self.requests.take_larger(bytes_max) {
            let bytes = pending.bytes;
            let error = pending.verdict(ClientError::PayloadTooLarge { bytes, bytes_max });
            self.answer(pending.question.request, Err(error));
        }
    }

    pub(crate) fn fail_requests(&mut self, error: &ClientError<V::Text>) {
        while let Some(pending) = self.requests.pop() {
            let error = pending.verdict(error.clone());
            self.answer(pending.question.request, Err(error));
        }
    }

    fn admit(&mut self, pending: Pending<V>) -> Result<(), ClientError<V::Text>> {
        if self.connection.is_stopped() {
            return Err(ClientError::Closed);
        }
        let bytes = pending.bytes;
        if let Some(bytes_max) = self.frame_bytes_max.filter(|&max| bytes > max) {
            return Err(ClientError::PayloadTooLarge { bytes, bytes_max });
        }
        self.requests.check(bytes, &self.options.queue)?;
        self.requests.push(pending);
        Ok(())
    }

    pub(crate) fn answer(
        &mut self,
        request: RequestId,
        result: Result<V::Reply, ClientError<V::Text>>,
    ) {
        self.outputs.tell(News::Done { request, result });
    }
}
