//! One channel: how far its subscription is.

use fanfare_protocol::ChannelKind;

use crate::event::ChannelState;
use crate::io::AuthReason;
use crate::machine::progress::Progress;
use crate::machine::recovery::Stream;
use crate::machine::values::Values;
use crate::options::SubscribeOptions;
use crate::time::Millis;

/// One channel that is wanted, was refused, or is still being left.
#[derive(Debug)]
pub(crate) struct Channel<V: Values> {
    pub(crate) name: V::Channel,
    pub(crate) options: SubscribeOptions<V::Hint>,
    pub(crate) origin: Origin,
    pub(crate) phase: Phase,
    /// As the application was last told.
    pub(crate) state: ChannelState,
    pub(crate) stream: Stream<V>,
    /// How often it failed since it was last healthy.
    pub(crate) attempt: u32,
    pub(crate) auth_reason: AuthReason,
    /// A channel token that waits to be sent, and the member data that came with it.
    pub(crate) grant: Option<(V::Text, Option<V::Text>)>,
    /// The info of the last update that succeeded: what the connection joins with when it comes back.
    pub(crate) info: Option<V::Hint>,
    /// The info that the last `subscribe` went out with.
    pub(crate) joining_with: Option<V::Hint>,
}

/// Who wanted a channel first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Application,
    /// The server joined the connection to it unasked.
    Server,
}

/// How far a subscription is on the current connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for a connection, or for its authentication.
    Suspended,
    /// Waits for its turn to be asked for.
    Queued,
    /// Waits for a channel token.
    Authorizing { until: Millis },
    /// The command is sent.
    Subscribing { id: u64, until: Millis },
    /// Confirmed.
    Subscribed { since: Millis },
    /// `unsubscribe` is sent, or waits for its turn ([`UNSENT`]); nothing else is until its reply, so that the server never sees
    /// two at a time.
    Leaving { id: u64, until: Millis, then: Then },
    /// Failed in a way that may pass.
    Waiting { until: Millis },
    /// Refused.
    Failed,
    /// More channels are wanted than the server allows: tried again once there is room.
    Surplus,
}

/// The id of an `unsubscribe` that waits for its turn.
pub(crate) const UNSENT: u64 = 0;

/// What follows when a channel is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It was not wanted any more.
    Forget,
    /// It is wanted (again).
    Subscribe,
}

impl<V: Values> Channel<V> {
    pub(crate) fn new(name: V::Channel, mut options: SubscribeOptions<V::Hint>) -> Self {
        Self {
            stream: Stream::new(name.clone(), options.since),
            name,
            origin: Origin::Application,
            phase: Phase::Suspended,
            state: ChannelState::Closed,
            attempt: 0,
            auth_reason: AuthReason::Subscribe,
            grant: None,
            info: options.info.take(),
            joining_with: None,
            options,
        }
    }

    /// Whether the application has it, or is to be told that it failed.
    pub(crate) const fn is_known(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Leaving {
                then: Then::Forget,
                ..
            }
        )
    }

    /// Whether a publish must wait for the subscription to be confirmed.
    pub(crate) const fn holds_publishes(&self) -> bool {
        let is_settled = matches!(
            self.phase,
            Phase::Subscribed { .. } | Phase::Failed | Phase::Surplus
        );
        self.is_known() && !is_settled
    }

    /// When the server, or the host, is late. While answers to others keep coming, it is busy and not silent.
    pub(crate) fn deadline(&self, progress: &Progress) -> Option<Millis> {
        match self.phase {
            Phase::Leaving { id: UNSENT, .. } => None,
            Phase::Authorizing { until } => Some(progress.authorizing.extend(until)),
            Phase::Subscribing { until, .. } => Some(progress.subscribing.extend(until)),
            Phase::Leaving { until, .. } => Some(until),
            _ => None,
        }
    }

    /// When it is tried again.
    pub(crate) const fn retry_at(&self) -> Option<Millis> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// When to ask for the members that the host's list lacks.
    pub(crate) fn complete_at(&self) -> Option<Millis> {
        match self.phase {
            Phase::Subscribed { .. } => self.stream.members.complete_at(),
            _ => None,
        }
    }

    pub(crate) fn needs_channel_auth(&self, channel_auth: bool) -> bool {
        let kind = V::kind(&self.name);
        channel_auth && matches!(kind, ChannelKind::Private | ChannelKind::Presence)
    }

    /// Whether a channel token must be had before it can be asked for.
    pub(crate) fn needs_grant(&self, channel_auth: bool) -> bool {
        self.grant.is_none() && self.needs_channel_auth(channel_auth)
    }

    pub(crate) const fn visible_state(&self) -> ChannelState {
        match self.phase {
            Phase::Suspended => ChannelState::Suspended,
            Phase::Authorizing { .. } => ChannelState::Authorizing,
            Phase::Queued
            | Phase::Subscribing { .. }
            | Phase::Waiting { .. }
            | Phase::Leaving {
                then: Then::Subscribe,
                ..
            } => ChannelState::Subscribing,
            Phase::Subscribed { .. } => ChannelState::Subscribed,
            Phase::Leaving {
                then: Then::Forget, ..
            } => ChannelState::Closed,
            Phase::Failed | Phase::Surplus => ChannelState::Failed,
        }
    }

    /// Whether it is one of those that the server counts.
    pub(crate) fn is_counted(&self) -> bool {
        V::kind(&self.name) != ChannelKind::Personal
    }

    /// Whether the server counts it now, or soon will. One that is left for good leaves its room to the next `subscribe`, which the
    /// server reads after the `unsubscribe`.
    pub(crate) fn takes_room(&self) -> bool {
        let is_asked_for = matches!(
            self.phase,
            Phase::Authorizing { .. }
                | Phase::Subscribing { .. }
                | Phase::Subscribed { .. }
                | Phase::Leaving { .. }
                | Phase::Waiting { .. }
        );
        is_asked_for && self.is_known() && self.is_counted()
    }

    /// Whether it will be asked for once the connection is ready for it.
    pub(crate) fn waits_for_room(&self) -> bool {
        matches!(self.phase, Phase::Suspended) && self.is_counted()
    }

    pub(crate) fn fail_once(&mut self, now: Millis, reset_after: u64) -> u32 {
        if let Phase::Subscribed { since } = self.phase
            && now.since(since) >= reset_after
        {
            self.attempt = 0;
        }
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        attempt
    }
}
