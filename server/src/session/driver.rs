//! The one owner of a session: reads, writes, runs effects, keeps deadlines.

use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::{Code, ServerMessage};
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::Interest;
use tokio::time::{Instant, Sleep};

use super::effects::{self, Done, Setting};
use super::io::{Effect, Input, OpId, Output};
use super::{NORMAL_CLOSURE, Session};
use crate::clock::{self, Moment};
use crate::delivery::Departure;
use crate::fairness::{Share, units_of};
use crate::frame;
use crate::frame::reader::{FrameError, FrameReader, Incoming};
use crate::hub::prepared;
use crate::hub::{Flush, Membership, Offer, Outbox};
use crate::services::Services;
use crate::sessions::{Control, Judged, SessionHandle};

type Effects = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>;

/// A session and everything it owns.
pub(crate) struct Driver {
    services: Arc<Services>,
    handle: Arc<SessionHandle>,
    outbox: Arc<Outbox>,
    session: Session,
    reader: FrameReader,
    memberships: Vec<Membership>,
    /// Allocated only while something is under way.
    effects: Option<Box<Effects>>,
    request: Option<Arc<http::request::Parts>>,
    state: State,
    share: Share,
    /// Whether the reader holds frames that this turn did not get to.
    has_backlog: bool,
    /// Since when the socket has taken nothing of what waits for it.
    stalled_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The last words are queued; the peer may answer until the deadline.
    Closing {
        until: Instant,
        /// How much of what the peer still sends is read.
        bytes_left: usize,
    },
    Closed,
}

impl Driver {
    pub(crate) fn new(
        services: Arc<Services>,
        outbox: Arc<Outbox>,
        session: Session,
        request: Option<Arc<http::request::Parts>>,
    ) -> Self {
        let limits = &services.terms.limits;
        let bytes_max = if session.is_waiting_for_credentials() {
            limits.login_bytes_max.min(limits.message_bytes_max())
        } else {
            limits.message_bytes_max()
        };
        let reader = FrameReader::new(bytes_max, limits.fragments_max);
        let handle = Arc::new(SessionHandle::new(Arc::clone(&outbox)));
        let memberships = Vec::new();
        Self {
            services,
            handle,
            outbox,
            session,
            reader,
            memberships,
            effects: None,
            request,
            state: State::Open,
            share: Share::of(UNITS_PER_TURN),
            has_backlog: false,
            stalled_since: None,
        }
    }

    /// Makes the connection known to the rest of the server, before it is served. Answers whether it may be served: the user
    /// may have been disconnected since the handshake was judged, and then it is told so.
    pub(crate) fn register(&self, judged: Judged) -> bool {
        let sessions = &self.services.sessions;
        sessions.add(Arc::clone(&self.handle));
        let Some(user) = self.session.user() else {
            return true;
        };
        if sessions.bind(self.outbox.socket(), user, judged).is_ok() {
            return true;
        }
        self.handle.ask(Control::disconnected());
        false
    }

    /// Runs the connection to its end and cleans up after it. It is registered before.
    pub(crate) async fn run(mut self: Box<Self>) {
        // A panic would be a fault of ours. The others must not go on seeing a connection that nothing drives.
        let ran = AssertUnwindSafe(self.run_to_end()).catch_unwind().await;
        if ran.is_err() {
            tracing::error!(session = %self.outbox.socket(), "the task of a connection panicked");
        }
        self.finish();
    }

    async fn run_to_end(&mut self) {
        if self.services.is_stopping() {
            self.handle.ask(Control::shutting_down());
        }
        let timer = tokio::time::sleep_until(self.deadline());
        tokio::pin!(timer);
        self.drain(clock::moment());
        while self.state != State::Closed {
            let deadline = self.deadline();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            self.turn(timer.as_mut()).await;
            self.share.spend(1);
            self.share.yield_if_spent().await;
        }
    }

    /// Waits for the next thing to happen and deals with it. Deadlines come first: a peer must not be able to keep them from
    /// being looked at.
    async fn turn(&mut self, timer: Pin<&mut Sleep>) {
        let interest = self.interest();
        tokio::select! {
            biased;
            () = timer => self.timed_out(),
            () = self.outbox.woken() => self.look_around(),
            Some(done) = next_done(&mut self.effects) => self.done(done),
            () = std::future::ready(()), if self.has_backlog => self.take_frames(),
            ready = self.outbox.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => match ready {
                Ok(ready) => {
                    if ready.is_writable() {
                        self.flush();
                    }
                    if ready.is_readable() || ready.is_read_closed() {
                        self.read();
                    }
                }
                Err(_) => self.state = State::Closed,
            },
        }
    }

    /// What is wanted of the socket, if anything.
    fn interest(&self) -> Option<Interest> {
        let writes = (!self.outbox.is_empty()).then_some(Interest::WRITABLE);
        let is_heard_out = matches!(self.state, State::Closing { bytes_left: 0, .. });
        let reads = (!is_heard_out).then_some(Interest::READABLE);
        match (reads, writes) {
            (Some(reads), Some(writes)) => Some(reads.add(writes)),
            (reads, writes) => reads.or(writes),
        }
    }

    fn deadline(&self) -> Instant {
        let limits = &self.services.terms.limits;
        let own = match self.state {
            State::Closing { until, .. } => return until,
            State::Open | State::Closed => self.session.next_timeout(),
        };
        let message = self.reader.started_at();
        let message = message.map(|started| started + limits.message_deadline);
        let write = self
            .stalled_since
            .map(|since| since + limits.write_deadline);
        [message, write]
            .into_iter()
            .flatten()
            .fold(own, Instant::min)
    }

    /// Something other than the socket wants attention: the outbox or the letter box.
    fn look_around(&mut self) {
        let now = clock::moment();
        if self.outbox.is_broken() {
            self.state = State::Closed;
            return;
        }
        if self.outbox.is_slow() && self.state == State::Open {
            self.input(Input::Slow, now);
        }
        while let Some(control) = self.handle.next() {
            self.input(Input::Control(control), now);
            self.share.spend(1);
            if self.share.is_spent() {
                self.outbox.wake();
                break;
            }
        }
        self.flush();
    }

    fn timed_out(&mut self) {
        let now = clock::moment();
        if let State::Closing { .. } = self.state {
            self.state = State::Closed;
            return;
        }
        let message_deadline = self.services.terms.limits.message_deadline;
        if self
            .reader
            .started_at()
            .is_some_and(|started| now.instant >= started + message_deadline)
        {
            return self.fail(&FrameError::TooSlow);
        }
        let write_deadline = self.services.terms.limits.write_deadline;
        if self
            .stalled_since
            .is_some_and(|since| now.instant >= since + write_deadline)
        {
            // It wakes this driver, which then says so.
            self.stalled_since = None;
            return self.outbox.mark_slow();
        }
        self.input(Input::TimedOut, now);
    }

    fn read(&mut self) {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.outbox.try_read(&mut buffer) {
                Ok(0) => return self.state = State::Closed,
                Ok(count) => {
                    self.take_in(&buffer[..count]);
                    let is_over = self.state == State::Closed || self.interest().is_none();
                    if count < buffer.len() || is_over || self.share.is_spent() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.state = State::Closed,
            }
        }
    }

    /// Takes bytes in. While closing, only the peer's close still matters, and only so much is read in search of it.
    pub(crate) fn take_in(&mut self, bytes: &[u8]) {
        let now = clock::moment();
        self.share.spend(units_of(bytes.len()));
        self.reader.push(bytes, now.instant);
        match &mut self.state {
            State::Open => self.session.handle(Input::Heard, now),
            State::Closing { bytes_left, .. } => {
                *bytes_left = bytes_left.saturating_sub(bytes.len());
                if *bytes_left == 0 {
                    return self.stop_reading(now.instant, UNREAD_DEADLINE);
                }
            }
            State::Closed => {}
        }
        self.take_frames();
    }

    /// Deals with the frames that were read, as far as this turn goes.
    fn take_frames(&mut self) {
        let now = clock::moment();
        self.has_backlog = false;
        loop {
            if self.share.is_spent() {
                self.has_backlog = true;
                break;
            }
            self.share.spend(1);
            match self.reader.next() {
                Ok(None) => break,
                Ok(Some(Incoming::Close(code))) => return self.peer_closed(code),
                Ok(Some(_)) if self.state != State::Open => {}
                Ok(Some(Incoming::Text(text))) => {
                    self.share.spend(units_of(text.len()));
                    let input = match self.outbox.dialect().decode(&text) {
                        Ok(request) => Input::Command(request),
                        Err(error) => Input::Undecodable(error),
                    };
                    self.input(input, now);
                }
                Ok(Some(Incoming::Binary(_))) => self.input(Input::Binary, now),
                Ok(Some(Incoming::Ping(payload))) => {
                    self.input(Input::Frame, now);
                    self.offer(&frame::pong(&payload));
                }
                Ok(Some(Incoming::Pong | Incoming::Fragment)) => self.input(Input::Frame, now),
                Err(error) => return self.fail(&error),
            }
        }
        self.drain(now);
    }

    fn input(&mut self, input: Input, now: Moment) {
        self.session.handle(input, now);
        self.drain(now);
    }

    fn done(&mut self, done: Done) {
        if self
            .effects
            .as_ref()
            .is_some_and(|effects| effects.is_empty())
        {
            self.effects = None;
        }
        self.memberships.extend(done.membership);
        let now = clock::moment();
        self.session.charge_answer(done.answered_bytes, now);
        self.input(Input::Done(done.op, done.outcome), now);
    }

    /// Carries out what the session wants.
    fn drain(&mut self, now: Moment) {
        let mut last_words = Vec::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                // It goes with the close, which even a connection that is too slow for anything else is told.
                Output::Send(message @ ServerMessage::Disconnect(_)) => last_words
                    .extend_from_slice(&prepared::message(self.outbox.dialect(), &message)),
                Output::Send(message) => {
                    self.offer(&prepared::message(self.outbox.dialect(), &message))
                }
                Output::Ping => self.offer(&frame::ping()),
                Output::Do(op, effect) => self.start(op, effect),
                Output::Leave { channel, farewell } => {
                    let at = self
                        .memberships
                        .iter()
                        .position(|membership| *membership.channel() == channel);
                    let membership = at.map(|at| self.memberships.swap_remove(at));
                    if let (Some(membership), Some(farewell)) = (membership, farewell) {
                        membership.leave_with(&farewell);
                    }
                }
                Output::Identified => {
                    self.request = None;
                    let limits = &self.services.terms.limits;
                    self.reader.set_bytes_max(limits.message_bytes_max());
                }
                Output::Close { code, reason } => {
                    last_words.extend_from_slice(&frame::close(code, &reason));
                    self.close(std::mem::take(&mut last_words).into(), now.instant);
                    if code == Code::FLOODING.number() {
                        self.stop_reading(now.instant, UNREAD_DEADLINE);
                    }
                }
            }
        }
    }

    fn start(&mut self, op: OpId, effect: Effect) {
        let setting = Setting {
            services: Arc::clone(&self.services),
            outbox: Arc::clone(&self.outbox),
            caller: self.session.caller(),
            request: self.request.clone(),
            answered_bytes: AtomicUsize::new(0),
        };
        self.effects
            .get_or_insert_default()
            .push(Box::pin(effects::run(setting, op, effect)));
    }

    fn offer(&mut self, frames: &Bytes) {
        if !frames.is_empty() && self.outbox.offer(frames) == Offer::Full {
            self.outbox.mark_slow();
        }
    }

    fn flush(&mut self) {
        match self.outbox.flush() {
            Ok(Flush::Done) => self.stalled_since = None,
            Ok(Flush::Advanced) => self.stalled_since = Some(Instant::now()),
            Ok(Flush::Stuck) => {
                self.stalled_since.get_or_insert_with(Instant::now);
            }
            Err(_) => return self.state = State::Closed,
        }
        if self.reader.is_stopped() && self.outbox.is_empty() {
            // The peer's own close will not be understood any more: the end of the stream tells it not to wait for anything.
            self.outbox.end();
        }
    }

    /// The last words, then a little time for the peer's.
    fn close(&mut self, last_words: Bytes, now: Instant) {
        if self.state == State::Open {
            self.outbox.close_with(&last_words);
            self.state = State::Closing {
                until: now + self.services.terms.limits.close_deadline,
                bytes_left: CLOSING_BYTES_MAX,
            };
            // For everybody else it is over now, however long the peer takes to say so too.
            self.memberships.clear();
            if self.session.departure() == Departure::Removed {
                // What is still being judged was asked by a user whom the application has disconnected meanwhile.
                self.effects = None;
            }
            self.leave_presence();
        }
    }

    fn fail(&mut self, error: &FrameError) {
        tracing::debug!(session = %self.outbox.socket(), %error, "closing on a bad frame");
        let now = Instant::now();
        self.close(frame::close(error.close_code(), &error.to_string()), now);
        self.stop_reading(now, self.services.terms.limits.close_deadline);
    }

    /// Understands nothing more of what the peer sends. Some of it is still taken from the socket: closing one that has unread
    /// bytes resets the connection, and the peer may lose the last words to that.
    fn stop_reading(&mut self, now: Instant, deadline: Duration) {
        self.reader.stop();
        self.has_backlog = false;
        if let State::Closing { until, bytes_left } = &mut self.state {
            *until = (*until).min(now + deadline);
            *bytes_left = (*bytes_left).min(UNREAD_BYTES_MAX);
        }
        self.flush();
    }

    fn peer_closed(&mut self, code: Option<u16>) {
        if self.state == State::Open {
            // `close()` in a browser says no code; a page that is left, or reloaded, says 1001.
            if matches!(code, None | Some(NORMAL_CLOSURE)) {
                self.session.said_goodbye();
            }
            let answer = code.map_or_else(frame::close_without_code, |code| frame::close(code, ""));
            self.outbox.close_with(&answer);
        }
        // Both closes are said: what the socket took is all there is to do.
        self.flush();
        self.state = State::Closed;
    }

    fn finish(mut self: Box<Self>) {
        let socket = self.outbox.socket();
        self.services.sessions.remove(socket);
        self.memberships.clear();
        self.effects = None;
        self.outbox.let_go();
        self.leave_presence();
    }

    /// Takes the connection out of its presence channels, and of those it was on its way into.
    fn leave_presence(&self) {
        let channels = self.session.presence_channels();
        if channels.is_empty() {
            return;
        }
        let (socket, departure) = (self.outbox.socket(), self.session.departure());
        let services = Arc::clone(&self.services);
        self.services.connections.spawn(async move {
            for channel in channels {
                let leave = services.engine.presence.leave(&channel, socket, departure);
                let left = tokio::time::timeout(services.terms.limits.engine_deadline, leave).await;
                let has_failed = !matches!(left, Ok(Ok(())));
                if has_failed && services.refusals.turn("leaving").is_some() {
                    tracing::warn!(session = %socket, %channel, "leaving a presence channel failed; its lease will end it");
                }
            }
        });
    }
}

async fn next_done(effects: &mut Option<Box<Effects>>) -> Option<Done> {
    match effects {
        Some(effects) => effects.next().await,
        None => None,
    }
}

/// 4 KiB on the stack: an idle connection owns no buffer.
const READ_BYTES: usize = 4 << 10;

/// 64: some 32 frames, or 32 KiB; a few hundred microseconds.
const UNITS_PER_TURN: u32 = 64;

/// 256 KiB: what a peer may have had under way when it was told of the close.
const CLOSING_BYTES_MAX: usize = 256 << 10;

/// 64 KiB: what is taken from a peer that is not listened to any more.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// 500 ms: for the last words to a peer that is not read any more.
const UNREAD_DEADLINE: Duration = Duration::from_millis(500);
