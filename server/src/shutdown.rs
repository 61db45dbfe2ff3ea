//! The end: no new connections, everybody told when to come back, outboxes drained, the engine closed. One deadline for all.

use std::sync::Arc;

use tokio::time::timeout_at;

use crate::services::Services;

/// Ends a server. May be called several times; every call waits for the same end.
pub(crate) async fn run(services: &Arc<Services>) {
    let limits = &services.terms.limits;
    let until = tokio::time::Instant::now() + limits.shutdown_deadline;
    let is_first = !services.stopping.is_cancelled();
    services.stopping.cancel();
    if is_first {
        let sessions = services.sessions.all();
        tracing::info!(sessions = sessions.len(), "shutting down");
        for session in sessions {
            session.ask(services.farewell());
        }
    }
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
    if timeout_at(until, services.engine.broker.close())
        .await
        .is_err()
    {
        tracing::warn!("the engine did not close in time");
    }
    services.tasks.close();
    let ended = async {
        services.connections.wait().await;
        services.tasks.wait().await;
    };
    if timeout_at(until + CUT_GRACE, ended).await.is_err() {
        tracing::error!("some tasks outlived the shutdown");
    }
}

/// 1 s: cut sockets need no more than a turn of the runtime.
const CUT_GRACE: std::time::Duration = std::time::Duration::from_secs(1);
