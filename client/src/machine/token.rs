//! Who the client says it is: the token, when it must be renewed, and whom to ask.

use crate::io::TokenReason;
use crate::machine::values::Values;
use crate::time::Millis;

/// The token in use and the open question, if any.
#[derive(Debug)]
pub(crate) struct Tokens<V: Values> {
    provider: bool,
    current: Option<V::Text>,
    /// The provider is asked before the next connection, and why.
    wanted: Option<TokenReason>,
    expiry: Option<Expiry>,
    refresh_at: Option<Millis>,
    /// The provider has been asked and may take so long.
    pub(crate) asked: Option<Millis>,
    /// A token given in-band waits for its reply.
    pub(crate) refreshing: Option<Refreshing>,
    /// The server refused a token and has taken none since.
    refused: bool,
}

/// An `authenticate` on a connection that is already authenticated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refreshing {
    /// The command's id.
    pub(crate) id: u64,
    pub(crate) until: Millis,
    /// Given by the application: who the connection belongs to may change.
    pub(crate) by_application: bool,
}

#[derive(Debug, Clone, Copy)]
struct Expiry {
    /// In the server's time.
    at: u64,
    /// So long before it a new token is asked for.
    margin: u64,
}

impl<V: Values> Tokens<V> {
    pub(crate) fn new(provider: bool) -> Self {
        Self {
            provider,
            current: None,
            wanted: provider.then_some(TokenReason::Connect),
            expiry: None,
            refresh_at: None,
            asked: None,
            refreshing: None,
            refused: false,
        }
    }

    pub(crate) fn current(&self) -> Option<&V::Text> {
        self.current.as_ref()
    }

    /// Why the provider must be asked before a connection is made, if it must.
    pub(crate) fn reason_to_ask(&self, now: Millis) -> Option<TokenReason> {
        let is_due = self.refresh_at.is_some_and(|at| at <= now);
        self.wanted
            .or_else(|| is_due.then_some(TokenReason::Expiring))
    }

    /// When a new token should be asked for on an open connection.
    pub(crate) fn refresh_at(&self) -> Option<Millis> {
        self.refresh_at
    }

    pub(crate) fn postpone_refresh(&mut self, until: Millis) {
        self.refresh_at = Some(until);
    }

    /// Starts a question.
    pub(crate) fn ask(&mut self, until: Millis) {
        self.asked = Some(until);
        self.refresh_at = None;
    }

    /// The application's own token, or the provider's answer.
    pub(crate) fn set(&mut self, token: Option<V::Text>) {
        self.asked = None;
        self.wanted = None;
        self.expiry = None;
        self.refresh_at = None;
        self.current = token;
    }

    /// The application logs in or out.
    pub(crate) fn replace(&mut self, token: Option<V::Text>) {
        let is_logout = token.is_none();
        self.set(token);
        self.refused = false;
        self.refreshing = None;
        if is_logout && self.provider {
            self.wanted = Some(TokenReason::Connect);
        }
    }

    /// The application has ended the connection: who comes back is the provider's to say.
    pub(crate) fn end(&mut self) {
        if self.provider {
            self.replace(None);
        }
    }

    /// The server took the token.
    pub(crate) fn accepted(&mut self, expires_at: Option<u64>, now: Millis, clock: ServerClock) {
        self.refused = false;
        self.expiry = expires_at.map(|at| {
            let remaining = at.saturating_sub(clock.at(now));
            Expiry {
                at,
                margin: (remaining / 10).min(MARGIN_MAX),
            }
        });
        self.refresh_at = None;
        self.schedule(now, clock);
    }

    /// Computes the time of the next refresh, also after the server's clock was heard again.
    pub(crate) fn schedule(&mut self, now: Millis, clock: ServerClock) {
        if !self.provider || self.asked.is_some() || self.refreshing.is_some() {
            return;
        }
        if let Some(expiry) = self.expiry {
            let remaining = expiry.at.saturating_sub(clock.at(now));
            let wait = remaining.saturating_sub(expiry.margin).max(REFRESH_MIN);
            self.refresh_at = Some(now + wait);
        }
    }

    /// Whether credentials that have ended may be others at the next try: the provider has not been told yet, or what comes with the
    /// handshake, such as a cookie, may have changed.
    pub(crate) fn may_be_renewed(&self) -> bool {
        !self.refused && (self.provider || self.current.is_none())
    }

    /// The server refused the token. Whether it is worth asking for another one.
    ///
    /// A token that the application set stays: without a provider the next `connect` has no other one to try.
    pub(crate) fn refuse(&mut self) -> bool {
        self.expiry = None;
        self.refresh_at = None;
        if self.provider {
            self.current = None;
            self.wanted = Some(TokenReason::Rejected);
        }
        let is_first = !core::mem::replace(&mut self.refused, true);
        self.provider && is_first
    }

    /// The connection is gone, and with it every question about it.
    pub(crate) fn detach(&mut self) {
        self.asked = None;
        self.refreshing = None;
        if self.provider && self.current.is_none() && self.wanted.is_none() {
            self.wanted = Some(TokenReason::Connect);
        }
    }

    /// A new `Connect`: what was refused before counts no longer.
    pub(crate) fn forgive(&mut self) {
        self.refused = false;
    }
}

/// How far the server's clock is ahead of the host's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServerClock(u64);

impl ServerClock {
    pub(crate) const fn heard(server_time: u64, now: Millis) -> Self {
        Self(server_time.wrapping_sub(now.0))
    }

    const fn at(self, now: Millis) -> u64 {
        now.0.wrapping_add(self.0)
    }
}

/// 60 s: enough for a slow provider and a retry.
const MARGIN_MAX: u64 = 60_000;

/// 1 s: tokens that live shorter are not renewed in a tight loop.
const REFRESH_MIN: u64 = 1_000;

#[cfg(test)]
mod tests {
    use fanfare_protocol::{Member, UserId};

    use super::*;
    use crate::io::Payload;
    use crate::wire::Wire;

    /// A payload that nobody has.
    #[derive(Debug, Clone)]
    enum Never {}

    impl Payload for Never {
        fn member_added(&self) -> Option<Member<Self>> {
            None
        }

        fn member_removed(&self) -> Option<(UserId, Option<String>)> {
            None
        }
    }

    #[track_caller]
    fn check(lifetime: u64, refresh_after: u64) {
        let now = Millis(5_000);
        let clock = ServerClock::heard(1_700_000_000_000, now);
        let mut tokens = Tokens::<Wire<Never>>::new(true);
        tokens.set(Some("t".to_owned()));
        tokens.accepted(Some(1_700_000_000_000 + lifetime), now, clock);
        assert_eq!(tokens.refresh_at(), Some(now + refresh_after));
    }

    #[test]
    fn a_token_is_renewed_a_minute_or_a_tenth_before_it_ends() {
        check(3_600_000, 3_540_000);
        check(600_000, 540_000);
        check(100_000, 90_000);
        check(500, 1_000);
        check(0, 1_000);
    }

    #[test]
    fn without_a_provider_nothing_is_renewed() {
        let mut tokens = Tokens::<Wire<Never>>::new(false);
        tokens.set(Some("t".to_owned()));
        tokens.accepted(Some(100_000), Millis(0), ServerClock::heard(0, Millis(0)));
        assert_eq!(tokens.refresh_at(), None);
        assert_eq!(tokens.reason_to_ask(Millis(200_000)), None);
    }

    #[test]
    fn only_the_first_refusal_is_worth_another_question() {
        let mut tokens = Tokens::<Wire<Never>>::new(true);
        assert!(tokens.refuse());
        assert_eq!(tokens.reason_to_ask(Millis(0)), Some(TokenReason::Rejected));
        assert!(!tokens.refuse());
        tokens.accepted(None, Millis(0), ServerClock::default());
        assert!(tokens.refuse());
    }
}
