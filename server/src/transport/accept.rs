//! The accept loop of [`Server::serve_app`](crate::Server::serve_app).

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the accept loop takes from the network.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AcceptLimits {}

/// Accepts until it is told to stop.
pub(crate) async fn run(
    listener: TcpListener,
    app: Router,
    _limits: AcceptLimits,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}
