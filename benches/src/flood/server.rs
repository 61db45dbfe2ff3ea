//! The server under flood: one thread, the defaults, and deadlines that are short enough to look at.

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fanfare_server::{Limits, Server};
use tokio::net::TcpListener;

use crate::child::ServerProcess;
use crate::dialect::Dialect;
use crate::servers::Listeners;

/// Starts it on a core.
///
/// # Errors
/// As [`ServerProcess::start`].
pub fn start(program: &Path, core: usize) -> io::Result<ServerProcess> {
    let arguments = ["serve", "--cpu", &core.to_string()];
    ServerProcess::run(program, &arguments, Dialect::Fanfare)
}

/// Serves until the process is killed.
///
/// # Errors
/// When the runtime, the server or the listener fails.
pub fn serve() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut limits = Limits::default();
        limits.ping_interval = STALE_AFTER / 2;
        limits.stale_after = STALE_AFTER;
        limits.message_deadline = MESSAGE_DEADLINE;
        let server = Server::builder().limits(limits).build().await;
        let server = server.map_err(io::Error::other)?;
        let listeners = Listeners::bind()?;
        listeners.announce()?;
        let listener = TcpListener::from_std(listeners.subscribers)?;
        let large = Router::new().route("/large", get(|| async { vec![b'x'; LARGE_BYTES] }));
        let app = server.router().merge(large);
        server
            .serve_app(listener, app, std::future::pending())
            .await
    })
}

/// After so long without a word the server gives a connection up.
pub const STALE_AFTER: Duration = Duration::from_secs(2);
/// So long a message may take.
pub const MESSAGE_DEADLINE: Duration = Duration::from_secs(1);

/// 4 MiB: more than any buffer takes.
const LARGE_BYTES: usize = 4 << 20;
