//! Time: what is due, who is late, and when to look again.

use crate::error::ClientError;
use crate::machine::Machine;
use crate::machine::connection::{Connection, Ping};
use crate::machine::loss::Loss;
use crate::machine::output::Goodbye;
use crate::machine::values::Values;
use crate::time::Millis;

impl<V: Values> Machine<V> {
    /// The time of [`Machine::next_timeout`] has come.
    pub fn timed_out(&mut self, now: Millis) {
        if self.timeout.is_none_or(|timeout| timeout > now) {
            return;
        }
        let may_fail = self.may_fail(now);
        self.tick_connection(may_fail, now);
        self.tick_tokens(may_fail, now);
        for at in (0..self.channels.len()).rev() {
            let channel = &self.channels[at];
            if may_fail
                && channel
                    .deadline(&self.progress)
                    .is_some_and(|until| until <= now)
            {
                self.channel_overdue(at, now);
            } else if channel.retry_at().is_some_and(|until| until <= now) {
                self.start(at);
            } else if channel.complete_at().is_some_and(|at| at <= now) {
                self.complete_members(at, now);
            } else if may_fail {
                self.channels[at].stream.members.give_up(now);
            }
        }
        if may_fail {
            self.fail_overdue_requests(now);
        }
        // Among them snapshots of members whose time has come.
        self.has_queued = true;
        self.flush(now);
    }

    /// A timer that comes much too late says that this device slept, not that the peer is silent: what the peer has sent
    /// meanwhile gets a turn, and a second, before anything is given up.
    fn may_fail(&mut self, now: Millis) -> bool {
        let Some(due) = self.deadline() else {
            return true;
        };
        match self.grace {
            Some(until) if now < until => false,
            Some(until) if due <= until => {
                self.grace = None;
                true
            }
            _ if now.since(due) >= LATE => {
                self.grace = Some(now + GRACE);
                false
            }
            _ => {
                self.grace = None;
                true
            }
        }
    }

    fn tick_tokens(&mut self, may_fail: bool, now: Millis) {
        let is_due = |until: Option<Millis>| until.is_some_and(|until| until <= now);
        if may_fail && is_due(self.tokens.asked) {
            self.token_failed(None, now);
        }
        if let Some(refreshing) = self.tokens.refreshing
            && may_fail
            && refreshing.until <= now
        {
            self.refresh_failed(refreshing, None, now);
        }
        if self.connection.is_open() && is_due(self.tokens.refresh_at()) {
            self.need_token(now);
        }
    }

    /// When somebody is late.
    fn deadline(&self) -> Option<Millis> {
        let mut first = Earliest(self.connection.deadline());
        first.add(self.tokens.asked);
        first.add(self.tokens.refreshing.map(|refreshing| refreshing.until));
        first.add(self.requests.deadline());
        for channel in &self.channels {
            first.add(channel.deadline(&self.progress));
            first.add(channel.stream.members.deadline());
        }
        first.0
    }

    pub(crate) fn compute_timeout(&self, now: Millis) -> Option<Millis> {
        let mut first = Earliest(self.deadline());
        if let (Some(deadline), Some(until)) = (&mut first.0, self.grace) {
            *deadline = until.max(*deadline);
        }
        if self.connection.is_open() {
            first.add(self.tokens.refresh_at());
        }
        first.add(self.requests.send_again_at(now));
        if self.connection.session().is_some() {
            first.add(self.pace.next_try(now));
        }
        first.add(self.connection.next_step_at());
        first.add(self.parting_deadline());
        for channel in &self.channels {
            first.add(channel.retry_at());
            first.add(channel.complete_at());
            // What is due waits for the pace.
            let resync_at = channel.stream.members.resync_at();
            first.add(resync_at.filter(|&due| due > now));
        }
        first.0
    }
}

/// 5 min: no number of a server's keeps a client away for longer.
pub(crate) const WAIT_MAX: u64 = 300_000;

/// The first of several times that need not be.
pub(crate) struct Earliest(pub(crate) Option<Millis>);

impl Earliest {
    pub(crate) fn add(&mut self, time: Option<Millis>) {
        if let Some(time) = time
            && self.0.is_none_or(|first| time < first)
        {
            self.0 = Some(time);
        }
    }
}

/// The connection's own timers.
impl<V: Values> Machine<V> {
    /// Does what is due; what is overdue fails only when `may_fail`.
    fn tick_connection(&mut self, may_fail: bool, now: Millis) {
        if let Connection::Waiting { until } = self.connection
            && until <= now
        {
            self.begin(now);
            return;
        }
        if self.parting_deadline().is_some_and(|until| until <= now) {
            self.close(Goodbye::Normal);
            self.part(now);
            return;
        }
        if may_fail && self.connection.deadline().is_some_and(|until| until <= now) {
            let (error, goodbye) = match self.connection {
                Connection::Open { .. } => (ClientError::PingTimeout, Goodbye::Silent),
                _ => (ClientError::HandshakeTimeout, Goodbye::NotGreeted),
            };
            self.close(goodbye);
            self.lose(Loss::retry(error), now);
            return;
        }
        self.measure_silence(now);
    }

    fn measure_silence(&mut self, now: Millis) {
        let Some(session) = self.connection.session_mut() else {
            return;
        };
        let silent_at = session.heard + session.ping_interval;
        match session.ping {
            Ping::CheckAt(at) if at <= now && silent_at <= now => {
                self.ping(now + self.options.pong_timeout);
            }
            Ping::CheckAt(at) if at <= now => session.ping = Ping::CheckAt(silent_at),
            _ => {}
        }
    }
}

/// 1 s: no busy page delays a timer so long, a sleeping one does.
const LATE: u64 = 1_000;

/// 1 s: what has arrived during the sleep is read by then.
const GRACE: u64 = 1_000;
