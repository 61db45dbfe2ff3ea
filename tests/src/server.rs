//! A server in the test's own process.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what does not start fails the test"
)]

use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use fanfare_server::{Handle, Server, ServerBuilder};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::within;

/// A server in the test's own process, on a port of its own. Stops when it is dropped.
#[derive(Debug)]
pub struct TestServer {
    /// The server.
    pub server: Server,
    /// The application's hand on it.
    pub events: Handle,
    /// Where it listens.
    pub address: SocketAddr,
    stop: DropGuard,
    serving: JoinHandle<io::Result<()>>,
}

impl TestServer {
    /// Serves its own routes with the server's own accept loop.
    pub async fn start(builder: ServerBuilder) -> Self {
        Self::start_app(builder, |server| server.router()).await
    }

    /// Serves an application with the server's own accept loop.
    pub async fn start_app(builder: ServerBuilder, app: impl FnOnce(&Server) -> Router) -> Self {
        let (server, listener) = built(builder).await;
        let address = listener.local_addr().unwrap();
        let app = app(&server);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_app(listener, app, stopped).await }
        });
        Self {
            events: server.handle(),
            server,
            address,
            stop: stop.drop_guard(),
            serving,
        }
    }

    /// Serves an application with `axum::serve`, the way it comes.
    pub async fn start_in_axum(
        builder: ServerBuilder,
        app: impl FnOnce(&Server) -> Router,
    ) -> Self {
        let (server, listener) = built(builder).await;
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, app(&server))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        Self {
            events: server.handle(),
            server,
            address,
            stop: stop.drop_guard(),
            serving: tokio::spawn(serving.into_future()),
        }
    }

    /// Ends it the way an application does, by its shutdown future, and waits until everything has ended.
    pub async fn stop(self) {
        drop(self.stop);
        let served = within("the end of the server", self.serving).await;
        served.expect("serving does not panic").unwrap();
    }

    /// Waits until serving has ended by itself.
    pub async fn ended(self) {
        let served = within("the end of the server", self.serving).await;
        served.expect("serving does not panic").unwrap();
    }
}

async fn built(builder: ServerBuilder) -> (Server, TcpListener) {
    let server = builder.build().await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    (server, listener)
}
