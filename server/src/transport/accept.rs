//! The accept loop of [`Server::serve_app`](crate::Server::serve_app): what `axum::serve` leaves open, closed.
//!
//! Every connection has a deadline for its first byte, for each request's head and for what it does not read, counts against
//! two caps, costs the kernel no more than its buffers, and ends with the loop. HTTP/1.1 only.

mod gate;
mod pace;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse as _;
use http::StatusCode;
use http::header::HOST;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::gate::ConnectionPermit;
use self::gate::{Full, Gate};
use self::pace::Pace;
pub(crate) use self::stream::DeadlineStream;
use crate::clock::Throttle;
use crate::fairness::Share;

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
    /// How long a connection may take nothing of an answer before it is closed; 30 seconds. What the kernel's send buffer holds
    /// counts as taken; on Linux the kernel ends the connection when its peer takes nothing of that for as long, also that of a
    /// WebSocket. For WebSockets the rest is [`Limits::write_deadline`](crate::Limits::write_deadline).
    pub write_deadline: Duration,
    /// How many requests a connection may send per second on average; 200. More of them wait; those of addresses that are not
    /// counted do not.
    pub requests_per_second: u32,
    /// How many requests may come at once; 1,000.
    pub requests_burst: u32,
    /// The kernel's send buffer of a connection (`SO_SNDBUF`); 256 KiB, of which Linux makes twice as much. `None` leaves it to
    /// the kernel, which grows it to 4 MiB by default (`net.ipv4.tcp_wmem`).
    pub send_buffer_bytes: Option<usize>,
    /// How much the kernel holds of what cannot be sent yet (`TCP_NOTSENT_LOWAT`, Linux); 128 KiB. It is what a peer that does
    /// not read costs; the send buffer bounds what is sent and not acknowledged besides. `None` sets no bound.
    pub unsent_bytes_max: Option<u32>,
    /// The kernel's receive buffer of a connection (`SO_RCVBUF`); 256 KiB, of which Linux makes twice as much. `None` leaves it
    /// to the kernel, which grows it to 6 MiB or more (`net.ipv4.tcp_rmem`).
    pub receive_buffer_bytes: Option<usize>,
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
            write_deadline: Duration::from_secs(30),
            requests_per_second: 200,
            requests_burst: 1_000,
            send_buffer_bytes: Some(256 << 10),
            unsent_bytes_max: Some(128 << 10),
            receive_buffer_bytes: Some(256 << 10),
        }
    }
}

impl AcceptLimits {
    /// Bounds what a connection costs the kernel. The socket that listens would pass these options on, but not to connections
    /// that have been waiting since before the loop began.
    fn bound_buffers(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        #[cfg(any(target_os = "android", target_os = "linux"))]
        {
            if let Some(bytes) = self.unsent_bytes_max {
                socket.set_tcp_notsent_lowat(bytes)?;
            }
            // What fits into the kernel's buffers is written in time. Whether it is taken, too, only the kernel sees.
            socket.set_tcp_user_timeout(Some(self.write_deadline))?;
        }
        Ok(())
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
    let mut share = Share::of(ACCEPTS_PER_TURN);
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                failures = 0;
                match gate.admit(peer.ip()) {
                    Ok(permit) => {
                        report.accepted += 1;
                        let pace = if gate.exempts(peer.ip()) {
                            Pace::unlimited()
                        } else {
                            Pace::new(limits.requests_per_second, limits.requests_burst)
                        };
                        connections.serve(stream, peer, permit, pace);
                    }
                    Err(full) => {
                        match full {
                            Full::Server => report.refused_server_full += 1,
                            Full::Address => report.refused_address_full += 1,
                        }
                        connections.turn_away(stream, full);
                    }
                }
                share.spend(1);
                share.yield_if_spent().await;
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
    limits: AcceptLimits,
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
            limits: limits.clone(),
            shutdown,
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            lingering: Arc::new(Semaphore::new(LINGERING_MAX)),
            warnings: Throttle::new(Duration::from_secs(5)),
        }
    }

    fn serve(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        permit: ConnectionPermit,
        pace: Pace,
    ) {
        let connections = Arc::clone(self);
        self.tasks.spawn(async move {
            let served = connections.serve_requests(stream, peer, Arc::new(permit), pace);
            connections.abort.run_until_cancelled(served).await;
        });
    }

    async fn serve_requests(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: Arc<ConnectionPermit>,
        pace: Pace,
    ) {
        if let Err(error) = self.limits.bound_buffers(&stream) {
            tracing::debug!(%error, "a connection has the kernel's own buffer sizes");
        }
        // Waiting here costs no buffer, and hyper's deadline for the head begins with the first byte.
        let mut byte = [0];
        let first_byte = timeout(self.limits.first_byte_deadline, stream.peek(&mut byte));
        let Some(Ok(Ok(1))) = self.shutdown.run_until_cancelled(first_byte).await else {
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let router = TowerToHyperService::new(self.router.clone());
        let pace = Arc::new(pace);
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(peer));
            extensions.insert(Arc::clone(&permit));
            let (router, pace) = (router.clone(), Arc::clone(&pace));
            async move {
                pace.turn().await;
                if !has_one_host(&request) {
                    return Ok((StatusCode::BAD_REQUEST, WITHOUT_HOST).into_response());
                }
                router.call(request).await
            }
        });
        let stream = DeadlineStream::new(stream, self.limits.write_deadline);
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

/// Whether a request names exactly one host; in HTTP/1.0 it may name none (RFC 9112, section 3.2).
///
/// Two servers that read different ones of several judge the same request for different sites.
fn has_one_host<B>(request: &http::Request<B>) -> bool {
    match request.headers().get_all(HOST).iter().count() {
        0 => request.version() < http::Version::HTTP_11,
        hosts => hosts == 1,
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

/// 16: each of them is a task and some allocations; then other tasks get their turn.
const ACCEPTS_PER_TURN: u32 = 16;
/// What a request gets that names no host, or several.
const WITHOUT_HOST: &str = "a request needs exactly one Host header\n";
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
