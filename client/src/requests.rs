//! Commands that wait: for a connection, for their channel, or for their reply.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use fanfare_protocol::json::encode_request;
use fanfare_protocol::{ChannelName, Code, Command, ErrorMessage, IdempotencyKey, Reply, Request};

use crate::client::Client;
use crate::error::ClientError;
use crate::event::Event;
use crate::io::{Input, Output, Payload, RequestId};
use crate::loss::server_error;
use crate::options::QueueLimits;
use crate::time::Millis;
use crate::timers::Earliest;

/// Every request without an answer, in the order they were made.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Ordered by `id`.
    pending: Vec<Pending>,
    bytes: usize,
    in_flight: usize,
}

/// One request without an answer.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The id on the wire; stays the same when the command is sent again.
    pub(crate) id: u64,
    pub(crate) request: RequestId,
    /// A publish waits until this channel is subscribed, if it is wanted at all.
    pub(crate) channel: Option<ChannelName>,
    /// Whether a repetition is recognised by its key, so that the outcome of the first does not matter.
    pub(crate) is_repeatable: bool,
    pub(crate) text: String,
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

impl Requests {
    /// Whether another request of so many bytes has room.
    pub(crate) fn check(&self, bytes: usize, limits: &QueueLimits) -> Result<(), ClientError> {
        let waiting = self.pending.len() - self.in_flight;
        if waiting >= limits.messages_max || self.bytes + bytes > limits.bytes_max {
            return Err(ClientError::QueueFull);
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        self.bytes += pending.text.len();
        self.pending.push(pending);
    }

    /// Takes the request that a reply belongs to, if it was sent.
    pub(crate) fn take_sent(&mut self, id: u64) -> Option<Pending> {
        let at = self.find(id)?;
        matches!(self.pending[at].stage, Stage::Sent(_)).then(|| self.remove(at))
    }

    /// Takes a request of the host.
    pub(crate) fn take(&mut self, request: RequestId) -> Option<Pending> {
        let at = (self.pending.iter()).position(|pending| pending.request == request)?;
        Some(self.remove(at))
    }

    /// Puts a sent request back, to be sent again no sooner than `at`.
    pub(crate) fn send_again(&mut self, mut pending: Pending, at: Millis) {
        pending.stage = Stage::Again(at);
        self.bytes += pending.text.len();
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
        is_open: impl Fn(&ChannelName) -> bool,
    ) -> Option<&str> {
        if self.in_flight >= limits.in_flight_max {
            return None;
        }
        let pending = self.pending.iter_mut().find(|pending| {
            let is_due = match pending.stage {
                Stage::New => true,
                Stage::Again(at) => at <= now,
                Stage::Sent(_) => false,
            };
            is_due && pending.channel.as_ref().is_none_or(&is_open)
        })?;
        pending.stage = Stage::Sent(now + timeout);
        self.in_flight += 1;
        Some(&pending.text)
    }

    /// Takes one request whose time is over, and what to tell its maker.
    pub(crate) fn take_overdue(&mut self, now: Millis) -> Option<(Pending, ClientError)> {
        let at = (self.pending.iter()).position(|pending| pending.deadline() <= now)?;
        let pending = self.remove(at);
        let error = match pending.stage {
            Stage::New => ClientError::Expired,
            Stage::Again(_) | Stage::Sent(_) => ClientError::Timeout,
        };
        Some((pending, error))
    }

    /// Takes any request.
    pub(crate) fn pop(&mut self) -> Option<Pending> {
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

    fn find(&self, id: u64) -> Option<usize> {
        (self.pending)
            .binary_search_by_key(&id, |pending| pending.id)
            .ok()
    }

    fn remove(&mut self, at: usize) -> Pending {
        let pending = self.pending.remove(at);
        self.bytes -= pending.text.len();
        if let Stage::Sent(_) = pending.stage {
            self.in_flight -= 1;
        }
        pending
    }
}

impl Pending {
    fn deadline(&self) -> Millis {
        match self.stage {
            Stage::Sent(until) => until.min(self.expires),
            Stage::New | Stage::Again(_) => self.expires,
        }
    }
}

/// What the application asks for, and what becomes of it.
impl<P: Payload> Client<P> {
    pub(crate) fn ask(&mut self, input: Input<P>, now: Millis) {
        let id = self.take_id();
        let key = |key: Option<IdempotencyKey>| key.or_else(|| self.make_key(id));
        let (request, channel, is_repeatable, command) = match input {
            Input::Publish {
                request,
                channel,
                event,
                data,
                key: given,
            } => {
                let key = key(given);
                let name = Some(channel.clone());
                let command = Command::Publish {
                    channel,
                    event,
                    data,
                    key,
                };
                (request, name, true, command)
            }
            Input::Emit {
                request,
                event,
                data,
                key: given,
            } => {
                let key = key(given);
                (request, None, true, Command::Emit { event, data, key })
            }
            Input::Presence { request, channel } => {
                let name = Some(channel.clone());
                (request, name, false, Command::Presence { channel })
            }
            Input::History {
                request,
                channel,
                since,
                limit,
            } => {
                let name = Some(channel.clone());
                let command = Command::History {
                    channel,
                    since,
                    limit,
                };
                (request, name, false, command)
            }
            _ => return,
        };
        let text = encode_request(&Request {
            id: Some(id),
            command,
        });
        let pending = Pending {
            id,
            request,
            channel,
            is_repeatable,
            text,
            expires: now + self.options.queue.ttl,
            stage: Stage::New,
        };
        match self.admit(pending) {
            Ok(()) => self.flush(now),
            Err(error) => self.answer(request, Err(error)),
        }
    }

    pub(crate) fn abort(&mut self, request: RequestId, now: Millis) {
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
        let is_open = |name: &ChannelName| {
            let found = channels.binary_search_by(|channel| channel.name.cmp(name));
            found.is_err() || found.is_ok_and(|at| !channels[at].holds_publishes())
        };
        while let Some(text) = self.requests.next_to_send(now, timeout, limits, is_open) {
            self.outputs.push(Output::Send(text.to_owned()));
        }
    }

    pub(crate) fn request_done(&mut self, reply: Reply<P>, now: Millis) {
        if let Some(pending) = self.requests.take_sent(reply.id) {
            self.answer(pending.request, Ok(reply));
            self.flush(now);
        }
    }

    pub(crate) fn request_failed(&mut self, id: u64, error: &ErrorMessage, now: Millis) {
        let Some(pending) = self.requests.take_sent(id) else {
            return;
        };
        let is_unknown = error.code == Code::UNKNOWN_OUTCOME.number();
        if is_unknown && pending.is_repeatable {
            let delay = self.options.backoff.delay(0, &mut self.random);
            let at = now + delay.max(error.retry_after.unwrap_or(0)).max(1);
            self.requests.send_again(pending, at);
        } else {
            self.answer(pending.request, Err(server_error(error)));
        }
        self.flush(now);
    }

    pub(crate) fn fail_overdue_requests(&mut self, now: Millis) {
        while let Some((pending, error)) = self.requests.take_overdue(now) {
            self.answer(pending.request, Err(error));
        }
    }

    pub(crate) fn fail_requests(&mut self, error: &ClientError) {
        while let Some(pending) = self.requests.pop() {
            self.answer(pending.request, Err(error.clone()));
        }
    }

    fn admit(&mut self, pending: Pending) -> Result<(), ClientError> {
        if self.connection.is_stopped() {
            return Err(ClientError::Closed);
        }
        let bytes = pending.text.len();
        if let Some(bytes_max) = self.frame_bytes_max.filter(|&max| bytes > max) {
            return Err(ClientError::PayloadTooLarge { bytes, bytes_max });
        }
        self.requests.check(bytes, &self.options.queue)?;
        self.requests.push(pending);
        Ok(())
    }

    fn answer(&mut self, request: RequestId, result: Result<Reply<P>, ClientError>) {
        self.emit(Event::RequestDone { request, result });
    }
}
