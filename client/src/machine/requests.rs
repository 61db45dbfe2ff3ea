//! Commands that wait: for a connection, for their channel, or for their reply.

use alloc::vec::Vec;

use fanfare_protocol::Code;

use crate::error::ClientError;
use crate::io::RequestId;
use crate::machine::Machine;
use crate::machine::output::{Command, News, Output};
use crate::machine::timers::Earliest;
use crate::machine::values::{Question, Refusal, Update, Values};
use crate::options::QueueLimits;
use crate::time::Millis;

/// Every request without an answer, in the order they were made.
#[derive(Debug)]
pub(crate) struct Requests<V: Values> {
    /// Ordered by `id`.
    pending: Vec<Pending<V>>,
    bytes: u64,
    in_flight: usize,
    /// The user in whose name requests are sent. The server recognises a key of the same user on any connection, a key without a
    /// user on the same connection only.
    owner: Option<V::User>,
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
    /// An earlier attempt may have been carried out: a refusal of a later one does not undo it.
    pub(crate) may_have_happened: bool,
    /// The server no longer recognises a repetition: it would be made in the name of another user.
    pub(crate) is_orphaned: bool,
    /// How often it was put back.
    pub(crate) repetitions: u32,
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
            owner: None,
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
        let is_sent = matches!(self.pending[at].stage, Stage::Sent(_));
        is_sent.then(|| self.remove(at))
    }

    /// Takes a request of the host.
    pub(crate) fn take(&mut self, request: RequestId) -> Option<Pending<V>> {
        let at = (self.pending.iter()).position(|pending| pending.question.request == request)?;
        Some(self.remove(at))
    }

    /// Takes a request that is larger than a server takes.
    fn take_larger(&mut self, bytes_max: u64) -> Option<Pending<V>> {
        let at = (self.pending.iter()).position(|pending| pending.bytes > bytes_max)?;
        Some(self.remove(at))
    }

    /// Puts a sent request back, to be sent again no sooner than `at`.
    pub(crate) fn send_again(&mut self, mut pending: Pending<V>, at: Millis) {
        pending.stage = Stage::Again(at);
        pending.repetitions = pending.repetitions.saturating_add(1);
        self.bytes += pending.bytes;
        let place = (self.pending).partition_point(|other| other.id < pending.id);
        self.pending.insert(place, pending);
    }

    /// The connection is gone: what was sent is to be sent again.
    pub(crate) fn detach(&mut self, now: Millis) {
        for pending in &mut self.pending {
            if let Stage::Sent(_) = pending.stage {
                pending.stage = Stage::Again(now);
                pending.may_have_happened = true;
            }
        }
        self.in_flight = 0;
        if self.owner.is_none() {
            self.orphan();
        }
    }

    /// Requests are sent in the name of this user from now on. What was sent for another one, or for nobody, is orphaned.
    pub(crate) fn belong_to(&mut self, owner: Option<V::User>) {
        if owner.is_none() || owner != self.owner {
            self.orphan();
            self.owner = owner;
        }
    }

    /// The user in whose name requests were sent last.
    pub(crate) const fn owner(&self) -> Option<&V::User> {
        self.owner.as_ref()
    }

    /// Nobody recognises what was sent so far when it comes again.
    fn orphan(&mut self) {
        for pending in &mut self.pending {
            pending.is_orphaned |= pending.is_uncertain();
        }
    }

    /// Takes one request that is orphaned, and whose answer will not come any more.
    pub(crate) fn take_orphan(&mut self) -> Option<Pending<V>> {
        let is_lost =
            |pending: &Pending<V>| pending.is_orphaned && !matches!(pending.stage, Stage::Sent(_));
        let at = self.pending.iter().position(is_lost)?;
        Some(self.remove(at))
    }

    /// The next request that can be sent now; marks it as sent.
    pub(crate) fn next_to_send(
        &mut self,
        now: Millis,
        timeout: u64,
        limits: &QueueLimits,
        is_open: impl Fn(&V::Channel) -> bool,
        may_send: impl FnOnce(u64) -> bool,
    ) -> Option<(u64, V::Command)> {
        if self.in_flight >= limits.in_flight_max {
            return None;
        }
        let at = self.pending.iter().position(|pending| {
            let is_due = match pending.stage {
                Stage::New => true,
                Stage::Again(at) => at <= now,
                Stage::Sent(_) => false,
            };
            is_due
                && pending.question.channel.as_ref().is_none_or(&is_open)
                && !self.is_overtaken(pending)
        })?;
        let pending = &mut self.pending[at];
        if !may_send(pending.bytes) {
            return None;
        }
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
            Stage::New if !pending.may_have_happened => ClientError::Expired,
            _ => pending.verdict(ClientError::Timeout),
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

    /// Whether an update must wait for another of its channel, so that the last one is what remains: for one that is under way, and
    /// for a newer one, whose success is its own.
    fn is_overtaken(&self, pending: &Pending<V>) -> bool {
        pending.question.update.is_some()
            && self.pending.iter().any(|other| {
                other.question.update.is_some()
                    && other.question.channel == pending.question.channel
                    && (other.id > pending.id || matches!(other.stage, Stage::Sent(_)))
            })
    }

    /// The newest update of a channel that still has to be sent, for the first time or again.
    pub(crate) fn newest_update(&self, channel: &V::Channel) -> Option<&Update<V>> {
        let newest = self.pending.iter().rev().find(|pending| {
            pending.question.update.is_some()
                && pending.question.channel.as_ref() == Some(channel)
                && !matches!(pending.stage, Stage::Sent(_))
        });
        newest?.question.update.as_ref()
    }

    /// Takes the oldest update of a channel that was made before the command with this id.
    pub(crate) fn take_update(&mut self, channel: &V::Channel, before: u64) -> Option<Pending<V>> {
        let at = self.pending.iter().position(|pending| {
            pending.question.update.is_some()
                && pending.question.channel.as_ref() == Some(channel)
                && pending.id < before
        })?;
        Some(self.remove(at))
    }

    /// Takes an update that was sent and has no answer.
    pub(crate) fn take_uncertain_update(&mut self) -> Option<Pending<V>> {
        let at = self
            .pending
            .iter()
            .position(|pending| pending.question.update.is_some() && pending.may_have_happened)?;
        Some(self.remove(at))
    }

    /// The infos of updates.
    pub(crate) fn infos(&self) -> impl Iterator<Item = &V::Hint> {
        let updates = self
            .pending
            .iter()
            .filter_map(|pending| pending.question.update.as_ref());
        updates.filter_map(|Update(info)| info.as_ref())
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

    /// Whether it may have been carried out, and carried out twice without its key.
    fn is_uncertain(&self) -> bool {
        let was_sent = self.may_have_happened || matches!(self.stage, Stage::Sent(_));
        self.question.is_repeatable && was_sent
    }

    /// What its maker is told in place of an error that says nothing about an attempt without an answer.
    fn verdict<T>(&self, error: ClientError<T>) -> ClientError<T> {
        if self.is_uncertain() {
            ClientError::UnknownOutcome
        } else {
            error
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
        let is_too_soon = refusal.code == Code::RATE_LIMITED.number()
            || refusal.code == Code::PUBLISH_RATE.number();
        pending.may_have_happened |= is_unknown;
        let may_have_happened = pending.question.is_repeatable && pending.may_have_happened;
        // An update has the same outcome however often it is made.
        let may_repeat = may_have_happened || (pending.question.update.is_some() && refusal.retry);
        if is_too_soon {
            self.pace
                .block(refusal.retry_after.unwrap_or(1).max(1), now);
        }
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
