//! Commands that wait: for a connection, for their channel, or for their reply.

use alloc::vec::Vec;

use fanfare_protocol::Code;

use crate::error::ClientError;
use crate::io::RequestId;
use crate::machine::Machine;
use crate::machine::output::{Command, News, Output};
use crate::machine::timers::Earliest;
use crate::machine::values::{Question, Refusal, Values};
use crate::options::QueueLimits;
use crate::time::Millis;

/// Every request without an answer, in the order they were made.
#[derive(Debug)]
pub(crate) struct Requests<V: Values> {
    /// Ordered by `id`.
    pending: Vec<Pending<V>>,
    bytes: u64,
    in_flight: usize,
}

/// One request without an answer.
#[derive(Debug)]
pub(crate) struct Pending<V: Values> {
    /// The id on the wire; stays the same when the command is sent again.
    pub(crate) id: u64,
    pub(crate) question: Question<V>,
    /// The length of its frame.
    pub(crate) bytes: u64,
    /// When it is given up in any case.
    pub(crate) expires: Millis,
    pub(crate) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Never sent.
    New,
    /// Sent on an earlier connection, or without a clear answer; not to be sent again before this time.
    Again(Millis),
    /// Sent, and to be answered by this time.
    Sent(Millis),
}

impl<V: Values> Requests<V> {
    pub(crate) const fn new() -> Self {
        Self {
            pending: Vec::new(),
            bytes: 0,
            in_flight: 0,
        }
    }

    /// Whether another request of so many bytes has room.
    pub(crate) fn check(
        &self,
        bytes: u64,
        limits: &QueueLimits,
    ) -> Result<(), ClientError<V::Text>> {
        let waiting = self.pending.len() - self.in_flight;
        if waiting >= limits.messages_max || self.bytes + bytes > limits.bytes_max as u64 {
            return Err(ClientError::QueueFull);
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, pending: Pending<V>) {
        self.bytes += pending.bytes;
        self.pending.push(pending);
    }

    /// Takes the request that a reply belongs to, if it was sent.
    pub(crate) fn take_sent(&mut self, id: u64) -> Option<Pending<V>> {
        let at = self.find(id)?;
        matches!(self.pending[at].stage, Stage::Sent(_)).then(|| self.remove(at))
    }

    /// Takes a request of the host.
    pub(crate) fn take(&mut self, request: RequestId) -> Option<Pending<V>> {
        let at = (self.pending.iter()).position(|pending| pending.question.request == request)?;
        Some(self.remove(at))
    }

    /// Puts a sent request back, to be sent again no sooner than `at`.
    pub(crate) fn send_again(&mut self, mut pending: Pending<V>, at: Millis) {
        pending.stage = Stage::Again(at);
        self.bytes += pending.bytes;
        let place = (self.pending).partition_point(|other| other.id < pending.id);
        self.pending.insert(place, pending);
    }

    /// The connection is gone: what was sent is to be sent again.
    pub(crate) fn detach(&mut self, now: Millis) {
        for pending in &mut self.pending {
            if let Stage::Sent(_) = pending.stage {
                pending.stage = Stage::Again(now);
            }
        }
        self.in_flight = 0;
    }

    /// The next request that can be sent now; marks it as sent.
    pub(crate) fn next_to_send(
        &mut self,
        now: Millis,
        timeout: u64,
        limits: &QueueLimits,
        is_open: impl Fn(&V::Channel) -> bool,
    ) -> Option<(u64, V::Command)> {
        if self.in_flight >= limits.in_flight_max {
            return None;
        }
        let pending = self.pending.iter_mut().find(|pending| {
            let is_due = match pending.stage {
                Stage::New => true,
                Stage::Again(at) => at <= now,
                Stage::Sent(_) => false,
            };
            is_due && pending.question.channel.as_ref().is_none_or(&is_open)
        })?;
        pending.stage = Stage::Sent(now + timeout);
        self.in_flight += 1;
        Some((pending.id, pending.question.command.clone()))
    }

    /// Takes one request whose time is over, and what to tell its maker.
    pub(crate) fn take_overdue(
        &mut self,
        now: Millis,
    ) -> Option<(Pending<V>, ClientError<V::Text>)> {
        let at = (self.pending.iter()).position(|pending| pending.deadline() <= now)?;
        let pending = self.remove(at);
        let error = match pending.stage {
            Stage::New => ClientError::Expired,
            Stage::Again(_) | Stage::Sent(_) => ClientError::Timeout,
        };
        Some((pending, error))
    }

    /// Takes any request.
    pub(crate) fn pop(&mut self) -> Option<Pending<V>> {
        (!self.pending.is_empty()).then(|| self.remove(0))
    }

    /// The earliest time at which a request fails.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let mut first = Earliest(None);
        for pending in &self.pending {
            first.add(Some(pending.deadline()));
        }
        first.0
    }

    /// The earliest time, after `now`, at which a request may be sent again.
    pub(crate) fn send_again_at(&self, now: Millis) -> Option<Millis> {
        let mut first = Earliest(None);
        for pending in &self.pending {
            if let Stage::Again(at) = pending.stage
                && at > now
            {
                first.add(Some(at));
            }
        }
        first.0
    }

    /// The channels that requests are about.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &V::Channel> {
        (self.pending.iter()).filter_map(|pending| pending.question.channel.as_ref())
    }

    fn find(&self, id: u64) -> Option<usize> {
        (self.pending)
            .binary_search_by_key(&id, |pending| pending.id)
            .ok()
    }

    fn remove(&mut self, at: usize) -> Pending<V> {
        let pending = self.pending.remove(at);
        self.bytes -= pending.bytes;
        if let Stage::Sent(_) = pending.stage {
            self.in_flight -= 1;
        }
        pending
    }
}

impl<V: Values> Pending<V> {
    fn deadline(&self) -> Millis {
        match self.stage {
            Stage::Sent(until) => until.min(self.expires),
            Stage::New | Stage::Again(_) => self.expires,
        }
    }
}

/// What the application asks for, and what becomes of it.
impl<V: Values> Machine<V> {
    /// Sends a command of the application's: once there is a connection, and its channel is subscribed where that is wanted.
    ///
    /// Every request gets exactly one answer.
    pub fn ask(&mut self, question: Question<V>, now: Millis) {
        let id = self.take_id();
        let request = question.request;
        let pending = Pending {
            id,
            bytes: question.bytes + bytes_of_id(id),
            question,
            expires: now + self.options.queue.ttl,
            stage: Stage::New,
        };
        match self.admit(pending) {
            Ok(()) => self.flush(now),
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

    /// Sends what can be sent now.
    pub(crate) fn flush(&mut self, now: Millis) {
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
        while let Some((id, command)) = self.requests.next_to_send(now, timeout, limits, is_open) {
            self.outputs.push(Output::Send {
                id: Some(id),
                command: Command::Asked(command),
            });
        }
    }

    pub(crate) fn request_done(&mut self, id: u64, reply: V::Reply, now: Millis) {
        if let Some(pending) = self.requests.take_sent(id) {
            self.answer(pending.question.request, Ok(reply));
            self.flush(now);
        }
    }

    pub(crate) fn request_failed(&mut self, id: u64, refusal: &Refusal<V>, now: Millis) {
        let Some(pending) = self.requests.take_sent(id) else {
            return;
        };
        let is_unknown = refusal.code == Code::UNKNOWN_OUTCOME.number();
        if is_unknown && pending.question.is_repeatable {
            let delay = self.options.backoff.delay(0, &mut self.random);
            let at = now + delay.max(refusal.retry_after.unwrap_or(0)).max(1);
            self.requests.send_again(pending, at);
        } else {
            self.answer(pending.question.request, Err(refusal.error()));
        }
        self.flush(now);
    }

    pub(crate) fn fail_overdue_requests(&mut self, now: Millis) {
        while let Some((pending, error)) = self.requests.take_overdue(now) {
            self.answer(pending.question.request, Err(error));
        }
    }

    pub(crate) fn fail_requests(&mut self, error: &ClientError<V::Text>) {
        while let Some(pending) = self.requests.pop() {
            self.answer(pending.question.request, Err(error.clone()));
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

    fn answer(&mut self, request: RequestId, result: Result<V::Reply, ClientError<V::Text>>) {
        self.outputs.tell(News::Done { request, result });
    }
}

/// The length of `,"id":` and the digits.
fn bytes_of_id(mut id: u64) -> u64 {
    let mut bytes = 6;
    while id > 0 {
        bytes += 1;
        id /= 10;
    }
    bytes
}
