//! The end: not ready any more, then no new connections, everybody told to go elsewhere, outboxes drained, the engine closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::services::Services;
use crate::sessions::Control;

/// Ends a server. May be called several times; every call waits for the same end.
pub(crate) async fn run(services: &Arc<Services>) {
    if services.begin_drain() {
        services.tasks.spawn(drain(Arc::clone(services)));
    }
    services.stopping.cancelled().await;
    services.connections.close();
    // The deadline begins with the last connection's turn: until then all others are served.
    let too_late = async {
        services.told.cancelled().await;
        sleep(services.terms.limits.shutdown_deadline).await;
    };
    let have_ended = tokio::select! {
        () = services.connections.wait() => true,
        () = too_late => false,
    };
    if !have_ended {
        tracing::warn!(
            sessions = services.sessions.count(),
            "cutting the connections that did not end in time"
        );
        for session in services.sessions.all() {
            session.cut();
        }
    }
    // Nothing is delivered any more: the owners of the hub may end, and then the engine.
    services.stopped.cancel();
    let cut = Instant::now();
    // What left its presence channels with the cut still needs the engine.
    let closing = async {
        let _ = timeout(CUT_GRACE, services.connections.wait()).await;
        services.engine.broker.close().await;
    };
    if timeout_at(cut + CUT_GRACE, closing).await.is_err() {
        tracing::warn!("the engine did not close in time");
    }
    services.closed.cancel();
    services.tasks.close();
    let ended = async {
        services.connections.wait().await;
        services.tasks.wait().await;
    };
    if timeout_at(cut + CUT_GRACE + CUT_GRACE, ended)
        .await
        .is_err()
    {
        tracing::error!("some tasks outlived the shutdown");
    }
}

/// The part that only the first call does; a task, because that call may be dropped.
async fn drain(services: Arc<Services>) {
    let limits = &services.terms.limits;
    let delay = limits.drain_delay(services.was_asked_for_readiness.load(Ordering::Relaxed));
    tracing::info!(
        sessions = services.sessions.count(),
        delay_ms = delay.as_millis(),
        "shutting down"
    );
    // Connections that the load balancer still sends are taken: they are told to go with the others.
    if !delay.is_zero() {
        sleep(delay).await;
    }
    services.stopping.cancel();
    let presence = &services.engine.presence;
    let handing_over = presence.hand_over(HAND_OVER);
    if timeout(HAND_OVER_DEADLINE, handing_over).await.is_err() {
        tracing::warn!("presence is not handed over in time");
    }
    services
        .stopped
        .run_until_cancelled(say_goodbye(&services))
        .await;
    services.told.cancel();
}

/// Tells one session after the other to come back elsewhere at once. A session that comes too late for the list is told on
/// arrival.
async fn say_goodbye(services: &Services) {
    let sessions = services.sessions.all();
    let spread = services.terms.limits.drain_spread(sessions.len());
    tracing::info!(
        sessions = sessions.len(),
        spread_ms = spread.as_millis(),
        "sending the connections elsewhere"
    );
    let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
    let begun = Instant::now();
    for (turn, session) in (0..).zip(sessions) {
        let due = begun + spread * turn / count;
        // A timer has the resolution of a millisecond: several turns are due at once.
        if due > Instant::now() {
            sleep_until(due).await;
        }
        session.ask(Control::shutting_down());
    }
}

/// 1 s: cut sockets need no more than a turn of the runtime.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// 30 s: a client that is told to go comes back within a few; the longest backoff of one that fails at first is 20.
const HAND_OVER: Duration = Duration::from_secs(30);

/// 1 s: not more of the time there is.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(1);
