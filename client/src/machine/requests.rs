//! Commands that wait: for a connection, for their channel, or for their reply.

use alloc::vec::Vec;

use crate::error::ClientError;
use crate::io::RequestId;
use crate::machine::timers::Earliest;
use crate::machine::values::{Question, Update, Values};
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
    pub(crate) fn take_larger(&mut self, bytes_max: u64) -> Option<Pending<V>> {
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

    /// Takes the oldest update of a channel that was made before the command with this id. One that is under way has an answer of
    /// its own.
    pub(crate) fn take_update(&mut self, channel: &V::Channel, before: u64) -> Option<Pending<V>> {
        let at = self.pending.iter().position(|pending| {
            pending.question.update.is_some()
                && pending.question.channel.as_ref() == Some(channel)
                && pending.id < before
                && !matches!(pending.stage, Stage::Sent(_))
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
    pub(crate) fn is_uncertain(&self) -> bool {
        let was_sent = self.may_have_happened || matches!(self.stage, Stage::Sent(_));
        self.question.is_repeatable && was_sent
    }

    /// What its maker is told in place of an error that says nothing about an attempt without an answer.
    pub(crate) fn verdict<T>(&self, error: ClientError<T>) -> ClientError<T> {
        if self.is_uncertain() {
            ClientError::UnknownOutcome
        } else {
            error
        }
    }
}
