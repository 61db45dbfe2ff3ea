//! The end: not ready any more, then no new connections, everybody told to go elsewhere, outboxes drained, the engine closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::services::Services;

/// Ends a server. May be called several times; every call waits for the same end.
pub(crate) async fn run(services: &Arc<Services>) {
    let limits = &services.terms.limits;
    let (begun, is_first) = services.begin_drain();
    if is_first {
        services.tasks.spawn(drain(Arc::clone(services)));
    }
    let until = begun + limits.drain_delay + limits.drain_spread + limits.shutdown_deadline;
    services.stopping.cancelled().await;
    services.connections.close();
    if timeout_at(until, services.connections.wait())
        .await
        .is_err()
    {
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
    // What left its presence channels with the cut still needs the engine.
    let closing = async {
        let _ = timeout(CUT_GRACE, services.connections.wait()).await;
        services.engine.broker.close().await;
    };
    if timeout_at(until + CUT_GRACE, closing).await.is_err() {
        tracing::warn!("the engine did not close in time");
    }
    services.closed.cancel();
    services.tasks.close();
    let ended = async {
        services.connections.wait().await;
        services.tasks.wait().await;
    };
    if timeout_at(until + CUT_GRACE + CUT_GRACE, ended)
        .await
        .is_err()
    {
        tracing::error!("some tasks outlived the shutdown");
    }
}

/// The part that only the first call does; a task, because that call may be dropped.
async fn drain(services: Arc<Services>) {
    let limits = &services.terms.limits;
    tracing::info!(
        sessions = services.sessions.count(),
        delay_ms = limits.drain_delay.as_millis(),
        spread_ms = limits.drain_spread.as_millis(),
        "shutting down"
    );
    // Connections that the load balancer still sends are taken: they are told to go with the others.
    if !limits.drain_delay.is_zero() {
        sleep(limits.drain_delay).await;
    }
    services.stopping.cancel();
    let presence = &services.engine.presence;
    let handing_over = presence.hand_over(HAND_OVER);
    if timeout(HAND_OVER_DEADLINE, handing_over).await.is_err() {
        tracing::warn!("presence is not handed over in time");
    }
    let farewells = say_goodbye(&services, limits.drain_spread);
    services.stopped.run_until_cancelled(farewells).await;
}

/// Tells one session after the other to come back elsewhere. Those that come too late for the list are told on arrival.
async fn say_goodbye(services: &Services, spread: Duration) {
    let sessions = services.sessions.all();
    let begun = Instant::now();
    let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
    let mut due = begun;
    for session in sessions {
        if !spread.is_zero() {
            sleep_until(due).await;
            due += spread / count;
        }
        session.ask(services.farewell());
    }
}

/// 1 s: cut sockets need no more than a turn of the runtime.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// 30 s: a client that is told to go comes back within a few; the longest backoff of one that fails at first is 20.
const HAND_OVER: Duration = Duration::from_secs(30);

/// 1 s: not more of the time there is.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(1);
