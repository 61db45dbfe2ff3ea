//! What stands between the server and an application's authorizer: a deadline, shares of calls at once, a net for panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use fanfare_protocol::{ChannelName, EventName};
use futures_util::FutureExt as _;

use super::shares::{Shares, Slot};
use super::{Authorizer, Caller, Credentials, Denied, Grant, Identity};
use crate::clock::{self, Throttle};
use crate::config::Limits;

/// An authorizer whose every call ends in time, with an answer or with [`Denied::Unavailable`].
pub(crate) struct Guarded {
    inner: Arc<dyn Authorizer>,
    shares: Shares,
    warnings: Throttle,
}

impl Guarded {
    /// Guards an authorizer.
    pub(crate) fn new(inner: Arc<dyn Authorizer>, limits: &Limits) -> Self {
        Self {
            inner,
            shares: Shares::new(limits),
            warnings: Throttle::new(Duration::from_secs(1)),
        }
    }

    async fn run<T>(
        &self,
        slot: impl Future<Output = Option<Slot<'_>>>,
        call: impl Future<Output = Result<T, Denied>>,
    ) -> Result<T, Denied> {
        let in_turn = async {
            let slot = slot.await;
            let _slot = slot.ok_or_else(|| Denied::unavailable("the authorizer is closed"))?;
            let caught = AssertUnwindSafe(call).catch_unwind().await;
            caught.unwrap_or_else(|_| Err(Denied::unavailable("the authorizer panicked")))
        };
        let in_time = tokio::time::timeout(DEADLINE, in_turn).await;
        let result = in_time.unwrap_or_else(|_| Err(Denied::unavailable("no answer in time")));
        if let Err(Denied::Unavailable { detail }) = &result
            && let Some(unsaid) = self.warnings.turn()
        {
            tracing::warn!(error = detail.as_str(), unsaid, "authorizer unavailable");
        }
        result
    }
}

#[async_trait]
impl Authorizer for Guarded {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let slot = self.shares.connecting(credentials);
        let identity = self.run(slot, self.inner.connect(credentials)).await?;
        match has_ended(identity.expires_at) {
            true => Err(Denied::refused("the credentials have expired")),
            false => Ok(identity),
        }
    }

    async fn subscribe(&self, caller: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
        let slot = self.shares.command(caller);
        let granting = self.inner.subscribe(caller, channel);
        let grant = self.run(slot, granting).await?;
        match has_ended(grant.expires_at) {
            true => Err(Denied::refused("the permission has ended already")),
            false => Ok(grant),
        }
    }

    async fn publish(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        event: &EventName,
    ) -> Result<(), Denied> {
        let slot = self.shares.command(caller);
        self.run(slot, self.inner.publish(caller, channel, event))
            .await
    }

    fn reads_cookies(&self) -> bool {
        self.inner.reads_cookies()
    }
}

/// What has ended is refused, not confirmed first and ended at once.
fn has_ended(expires_at: Option<SystemTime>) -> bool {
    expires_at.is_some_and(|end| end <= clock::now())
}

/// Two seconds: a client waits longer than that for a reply, and a slow database should not hold thousands of calls.
const DEADLINE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use fanfare_protocol::{SocketId, UserId};
    use tokio::sync::Notify;

    use super::*;

    enum Mood {
        Silent,
        Panicking,
        Waiting(Arc<Notify>),
    }

    #[async_trait]
    impl Authorizer for Mood {
        async fn connect(&self, _: &Credentials<'_>) -> Result<Identity, Denied> {
            match self {
                Self::Silent => std::future::pending().await,
                Self::Panicking => panic!("a bug in the application"),
                Self::Waiting(gate) => gate.notified().await,
            }
            Ok(Identity::new(UserId::new("ann").unwrap()))
        }
    }

    fn nothing() -> Credentials<'static> {
        Credentials::new(None, None, None)
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_an_answer_after_two_seconds() {
        let guarded = Guarded::new(Arc::new(Mood::Silent), &Limits::default());
        let begin = tokio::time::Instant::now();
        let denied = guarded.connect(&nothing()).await.unwrap_err();
        assert_eq!(denied, Denied::unavailable("no answer in time"));
        assert_eq!(begin.elapsed(), DEADLINE);
    }

    #[tokio::test]
    async fn a_panic_is_no_answer() {
        let guarded = Guarded::new(Arc::new(Mood::Panicking), &Limits::default());
        let denied = guarded.connect(&nothing()).await.unwrap_err();
        assert_eq!(denied, Denied::unavailable("the authorizer panicked"));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_above_the_bound_wait_their_turn_and_no_longer_than_the_deadline() {
        let gate = Arc::new(Notify::new());
        let guarded = Arc::new(Guarded::new(
            Arc::new(Mood::Waiting(gate.clone())),
            &Limits::default(),
        ));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..Limits::default().authorizer_calls_max {
            let guarded = guarded.clone();
            calls.spawn(async move { guarded.connect(&nothing()).await });
        }
        while guarded.shares.connecting_available() > 0 {
            tokio::task::yield_now().await;
        }
        let credentials = nothing();
        let late = guarded.connect(&credentials);
        tokio::pin!(late);
        assert!(futures_util::poll!(&mut late).is_pending());
        gate.notify_waiters();
        while let Some(answer) = calls.join_next().await {
            assert!(answer.unwrap().is_ok());
        }
        assert!(futures_util::poll!(&mut late).is_pending());
        gate.notify_one();
        assert!(late.await.is_ok());
    }

    #[tokio::test]
    async fn what_has_ended_is_refused() {
        struct EndsAt(SystemTime);

        #[async_trait]
        impl Authorizer for EndsAt {
            async fn connect(&self, _: &Credentials<'_>) -> Result<Identity, Denied> {
                Ok(Identity::new(UserId::new("ann").unwrap()).expiring_at(self.0))
            }

            async fn subscribe(&self, _: &Caller, _: &ChannelName) -> Result<Grant, Denied> {
                Ok(Grant::default().expiring_at(self.0))
            }
        }

        let caller = Caller::new(SocketId::from_bits(1), None);
        let channel = ChannelName::new("private-a").unwrap();
        let now = clock::now();
        for (end, holds) in [(now, false), (now + Duration::from_secs(60), true)] {
            let guarded = Guarded::new(Arc::new(EndsAt(end)), &Limits::default());
            assert_eq!(guarded.connect(&nothing()).await.is_ok(), holds);
            assert_eq!(guarded.subscribe(&caller, &channel).await.is_ok(), holds);
        }
    }

    #[tokio::test]
    async fn the_defaults_shine_through() {
        let guarded = Guarded::new(Arc::new(Mood::Silent), &Limits::default());
        let caller = Caller::new(SocketId::from_bits(1), None);
        let channel = |name| ChannelName::new(name).unwrap();
        let public = guarded.subscribe(&caller, &channel("orders")).await;
        assert_eq!(public, Ok(Grant::default()));
        let private = guarded.subscribe(&caller, &channel("private-orders")).await;
        assert!(matches!(private, Err(Denied::Refused { .. })));
        let event = EventName::new("typing").unwrap();
        let publish = guarded.publish(&caller, &channel("orders"), &event).await;
        assert_eq!(publish, Ok(()));
        assert!(guarded.reads_cookies());
    }
}
