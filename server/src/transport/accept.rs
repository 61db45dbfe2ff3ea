//! The accept loop of [`Server::serve_app`](crate::Server::serve_app): what `axum::serve` leaves open, closed.
//!
//! Every connection has a deadline for its first byte and for each request's head, counts against two caps, and ends with the
//! loop. HTTP/1.1 only.

mod gate;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::gate::ConnectionPermit;
use self::gate::{Full, Gate};
use crate::clock::Throttle;

/// What [`Server::serve`](crate::Server::serve) takes from the network, in time and number.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcceptLimits {
    /// How long a connection may stay silent before its first byte; 10 seconds.
    pub first_byte_deadline: Duration,
    /// How long a request's head may take, and a kept-alive connection may wait for the next one; 5 seconds.
    pub head_deadline: Duration,
    /// The longest head of a request, in bytes; 16 KiB. Longer ones are answered with 431.
    pub head_bytes_max: usize,
    /// How many connections may be open, WebSockets included. By default what the process may open as files, less a reserve.
    pub connections_max: usize,
    /// How many of them may come from one address (one /64 network for IPv6): a quarter of them, at most 4,096. `None` does not
    /// count; say so where a proxy with a public address is in front.
    pub connections_per_address_max: Option<usize>,
    /// Whether private and loopback addresses are not counted: what connects from there is a proxy or part of the house.
    pub exempts_private_addresses: bool,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        let connections_max = open_files_max().saturating_sub(RESERVED_FILES).max(1);
        Self {
            first_byte_deadline: Duration::from_secs(10),
            head_deadline: Duration::from_secs(5),
            head_bytes_max: 16 * 1_024,
            connections_max,
            connections_per_address_max: Some((connections_max / 4).clamp(1, 4_096)),
            exempts_private_addresses: true,
        }
    }
}

/// What happened while the loop ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AcceptReport {
    /// Connections that were let in.
    pub(crate) accepted: u64,
    /// Connections that were turned away because the server was full.
    pub(crate) refused_server_full: u64,
    /// Connections that were turned away because their address had as many as it may.
    pub(crate) refused_address_full: u64,
    /// How often `accept` failed for want of resources.
    pub(crate) failures: u64,
    /// Connections that had to be cut because they did not finish in time.
    pub(crate) aborted: usize,
}

/// Serves connections until it is told to stop; then no new ones come in, idle ones close, and requests have until
/// `drain_deadline` to finish.
///
/// A connection above a cap is answered with 503 and `Retry-After`, and closed. Requests carry their
/// [`ConnectInfo<SocketAddr>`] and an [`Arc<ConnectionPermit>`](ConnectionPermit) as extensions; whoever takes over the socket
/// of an upgraded connection keeps the permit as long as the socket.
///
/// # Errors
/// When the listener is not one. Lack of resources is waited out.
pub(crate) async fn run(
    listener: TcpListener,
    router: Router,
    limits: &AcceptLimits,
    drain_deadline: Duration,
    shutdown: CancellationToken,
) -> io::Result<AcceptReport> {
    let mut report = AcceptReport::default();
    let gate = Gate::new(
        limits.connections_max,
        limits.connections_per_address_max,
        limits.exempts_private_addresses,
    );
    let connections = Arc::new(Connections::new(router, limits, shutdown.clone()));
    let mut failures = 0;
    let mut broken = None;
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                failures = 0;
                match gate.admit(peer.ip()) {
                    Ok(permit) => {
                        report.accepted += 1;
                        connections.serve(stream, peer, permit);
                    }
                    Err(full) => {
                        match full {
                            Full::Server => report.refused_server_full += 1,
                            Full::Address => report.refused_address_full += 1,
                        }
                        connections.turn_away(stream, full);
                    }
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) if is_final(&error) => {
                broken = Some(error);
                break;
            }
            Err(error) => {
                report.failures += 1;
                failures += 1;
                let pause = pause_after(failures, fastrand::f64());
                tracing::warn!(%error, attempt = failures, "accept failed, pausing");
                shutdown
                    .run_until_cancelled(tokio::time::sleep(pause))
                    .await;
            }
        }
    }
    drop(listener);
    connections.shutdown.cancel();
    report.aborted = connections.end(drain_deadline).await;
    broken.map_or(Ok(report), Err)
}

/// The open connections and what they share.
struct Connections {
    http: http1::Builder,
    router: Router,
    first_byte_deadline: Duration,
    shutdown: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
    lingering: Arc<Semaphore>,
    warnings: Throttle,
}

impl Connections {
    fn new(router: Router, limits: &AcceptLimits, shutdown: CancellationToken) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.head_deadline)
            .max_header_size(limits.head_bytes_max)
            .max_buf_size(limits.head_bytes_max.max(BUFFER_BYTES_MAX));
        Self {
            http,
            router,
            first_byte_deadline: limits.first_byte_deadline,
            shutdown,
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            lingering: Arc::new(Semaphore::new(LINGERING_MAX)),
            warnings: Throttle::new(Duration::from_secs(5)),
        }
    }

    fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit) {
        let connections = Arc::clone(self);
        self.tasks.spawn(async move {
            let served = connections.serve_requests(stream, peer, Arc::new(permit));
            connections.abort.run_until_cancelled(served).await;
        });
    }

    async fn serve_requests(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: Arc<ConnectionPermit>,
    ) {
        // Waiting here costs no buffer, and hyper's deadline for the head begins with the first byte.
        let mut byte = [0];
        let first_byte = timeout(self.first_byte_deadline, stream.peek(&mut byte));
        let Some(Ok(Ok(1))) = self.shutdown.run_until_cancelled(first_byte).await else {
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(peer));
            extensions.insert(Arc::clone(&permit));
            router.call(request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Answers with 503. A few refused sockets linger until the peer has read that; above the bound they just close.
    fn turn_away(self: &Arc<Self>, mut stream: TcpStream, full: Full) {
        if let Some(unsaid) = self.warnings.turn() {
            tracing::warn!(error = %full, unsaid, "connection turned away");
        }
        let _ = stream.try_write(TURNED_AWAY);
        let Ok(slot) = Arc::clone(&self.lingering).try_acquire_owned() else {
            return;
        };
        let abort = self.abort.clone();
        self.tasks.spawn(async move {
            let _slot = slot;
            let farewell = timeout(LINGER, async {
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
                // Closing a socket with unread bytes resets it, and the peer may then lose the answer.
                let mut unread = [0; 512];
                while matches!(stream.read(&mut unread).await, Ok(1..)) {}
            });
            abort.run_until_cancelled(farewell).await;
        });
    }

    /// Waits until every connection has ended, and cuts those that did not in time; answers how many.
    async fn end(&self, deadline: Duration) -> usize {
        self.tasks.close();
        if timeout(deadline, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let aborted = self.tasks.len();
        self.abort.cancel();
        self.tasks.wait().await;
        aborted
    }
}

/// Whether a failed `accept` says something about the one connection that came, not about this process (accept(2)).
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

/// Whether no later `accept` can succeed: the socket does not listen.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}

/// How long to wait after so many failures in a row; `random` is in 0..1. Half of it is jitter, so that the processes of a
/// machine that has run out of files do not all come back at once.
fn pause_after(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    let longest = (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX);
    longest / 2 + longest.mul_f64(random / 2.0)
}

/// How many files this process may have open.
#[cfg(unix)]
fn open_files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit.current.unwrap_or(u64::MAX);
    usize::try_from(files).unwrap_or(usize::MAX).min(FILES_MAX)
}

/// How many files this process may have open.
#[cfg(not(unix))]
fn open_files_max() -> usize {
    16_384
}

/// The whole answer to a connection above a cap.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Retry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// A million: where the system sets no limit, memory still does.
#[cfg(unix)]
const FILES_MAX: usize = 1 << 20;
/// 64: files for the listener, the log, an engine's connections and the sockets that are being turned away.
const RESERVED_FILES: usize = 64 + LINGERING_MAX;
/// 64 refused sockets may linger at once.
const LINGERING_MAX: usize = 64;
const LINGER: Duration = Duration::from_secs(1);
/// 16 KiB: bodies pass through in pieces of this size.
const BUFFER_BYTES_MAX: usize = 16 * 1_024;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
