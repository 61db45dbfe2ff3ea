//! A running server: routes for an axum application, or an accept loop of its own.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::auth::endpoint::{self, AuthEndpoint};
use crate::builder::ServerBuilder;
use crate::handle::Handle;
use crate::health;
use crate::services::Services;
use crate::transport::accept::{self, AcceptLimits};
use crate::transport::websocket;

/// A running server.
///
/// Its tasks run until [`Handle::shutdown`]; dropping it does not end them.
#[derive(Clone)]
pub struct Server {
    services: Arc<Services>,
    path: String,
    health_path: String,
    accept_limits: AcceptLimits,
}

impl Server {
    /// Starts with the defaults: memory engine, public channels, everybody anonymous, `/ws`.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    pub(crate) fn new(
        services: Arc<Services>,
        path: String,
        health_path: String,
        accept_limits: AcceptLimits,
    ) -> Self {
        Self {
            services,
            path,
            health_path,
            accept_limits,
        }
    }

    /// Publishes, asks and orders from anywhere in the application. Cheap to clone.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.services))
    }

    /// The routes, to be merged into an axum application: the WebSocket, the auth endpoint below it, and the health checks
    /// `/health/live` and `/health/ready` (elsewhere with [`ServerBuilder::health_path`]).
    ///
    /// The application's own layers apply, so an authorizer finds in the request whatever they put there.
    pub fn router(&self) -> Router {
        let services = &self.services;
        let auth = endpoint::router(AuthEndpoint {
            path: format!("{}/auth", self.path.trim_end_matches('/')).into(),
            authorizer: Arc::clone(&services.authorizer),
            tokens: Arc::clone(&services.tokens),
            origins: Arc::clone(&services.origins),
            rules: Arc::clone(&services.terms.rules),
        });
        Router::new()
            .route(&self.path, get(websocket::upgrade))
            .with_state(Arc::clone(services))
            .merge(auth)
            .merge(health::router(&self.health_path, Arc::clone(services)))
    }

    /// Serves only the server's own routes; see [`Server::serve_app`].
    ///
    /// # Errors
    /// When the listener does not listen.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        self.serve_app(listener, self.router(), shutdown).await
    }

    /// Serves an application with an accept loop that is safe in public: deadlines for the first byte and for the request
    /// head, caps per address and over all, and patience when file descriptors run out.
    ///
    /// Resolves when `shutdown` has, or [`Handle::shutdown`] was called, and everything has ended.
    ///
    /// # Errors
    /// When the listener does not listen.
    pub async fn serve_app(
        &self,
        listener: TcpListener,
        app: Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let handle = self.handle();
        // Cancelled when no new connection is taken any more: some time after the shutdown has begun.
        let begin = self.services.stopping.child_token();
        let drain_deadline = self.services.terms.limits.shutdown_deadline;
        let limits = &self.accept_limits;
        // Ends by itself when the listener turns out to be none, and then everything else has to end as well.
        let accepting = async {
            let accepted = accept::run(listener, app, limits, drain_deadline, begin.clone()).await;
            begin.cancel();
            accepted
        };
        let ending = async {
            tokio::select! {
                () = shutdown => {}
                () = begin.cancelled() => {}
            }
            handle.shutdown().await;
        };
        // Both at once: requests that take their time do not keep the sessions from their farewell, nor the other way round.
        let (accepted, ()) = tokio::join!(accepting, ending);
        let report = accepted?;
        tracing::info!(?report, "stopped accepting");
        Ok(())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
