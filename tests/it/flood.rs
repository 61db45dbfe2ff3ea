//! What one connection may do to the others by sending without end: nothing (T15, T18, T19).
//!
//! The server has one thread, the peers that flood have another, and come back as soon as they are cut. Every bound here is ten
//! times what `cargo run --release -p fanfare-benches --bin flood` holds the server to.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::routing::get;
use fanfare_server::{AcceptLimits, Limits, Server};
use fanfare_tests::raw::{CONTINUATION, PING, PONG, RawSocket, TEXT, frame};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::Socket;
use fanfare_tests::{http, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// One flood at a time: each of them has the machine to itself.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn pings_do_not_keep_the_others_waiting() {
    floods(Flood::WebSocket(frame(true, PING, b"")));
}

#[test]
fn pongs_do_not_keep_the_others_waiting() {
    floods(Flood::WebSocket(frame(true, PONG, b"")));
}

#[test]
fn empty_fragments_do_not_keep_the_others_waiting() {
    let mut message = frame(false, TEXT, b"");
    for _ in 0..1_000 {
        message.extend(frame(false, CONTINUATION, b""));
    }
    message.extend(frame(true, CONTINUATION, b""));
    floods(Flood::WebSocket(message));
}

#[test]
fn tiny_texts_do_not_keep_the_others_waiting() {
    floods(Flood::WebSocket(frame(true, TEXT, b"{}")));
}

#[test]
fn pipelined_requests_do_not_keep_the_others_waiting() {
    floods(Flood::Requests);
}

#[test]
fn answers_that_are_half_read_do_not_keep_the_others_waiting() {
    floods(Flood::HalfRead);
}

#[test]
fn a_flooder_is_cut_once_it_is_told_so() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = OneThread::start();
    runtime().block_on(async {
        let socket = RawSocket::connect(server.address).await;
        let (mut from_server, mut to_server) = socket.into_stream().into_split();
        let (tell, told) = oneshot::channel();
        let listening = tokio::spawn(async move {
            let mut heard = Vec::new();
            let mut piece = [0; 4_096];
            while !heard.windows(4).any(|window| window == b"4106") {
                let count = from_server.read(&mut piece).await.unwrap();
                assert_ne!(count, 0, "it was cut without a word");
                heard.extend_from_slice(&piece[..count]);
            }
            tell.send(Instant::now()).unwrap();
            // The rest is read, so that nothing but the server ends the connection.
            while matches!(from_server.read(&mut piece).await, Ok(1..)) {}
        });
        let chunk = frame(true, TEXT, br#"{"type":"ping"}"#).repeat(1_000);
        let mut written_since = 0;
        let until_cut = async {
            while let Ok(count) = to_server.write(&chunk).await {
                if !told.is_empty() {
                    written_since += count;
                }
            }
        };
        within("the cut", until_cut).await;
        let cut_at = Instant::now();
        within("the end", listening).await.unwrap();
        let cut_after = cut_at.saturating_duration_since(told.await.unwrap());
        assert!(cut_after < Duration::from_secs(10), "{cut_after:?}");
        // What the kernels hold of a connection, and not what a server that goes on reading takes.
        assert!(written_since < 16 << 20, "{written_since} bytes");
    });
    server.stop();
}

/// What a peer does without end.
#[derive(Clone)]
enum Flood {
    /// Sends frames, and reads what is answered.
    WebSocket(Vec<u8>),
    /// Sends requests, and reads what is answered.
    Requests,
    /// Asks for what is large, reads the beginning, and asks again.
    HalfRead,
}

/// Floods with one peer, with two and with twenty, and looks at how the others fare.
fn floods(flood: Flood) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for peers in [1, 2, 20] {
        let server = OneThread::start();
        let flooding = Flooding::start(server.address, &flood, peers);
        runtime().block_on(others_are_served(server.address));
        flooding.stop();
        server.stop();
    }
}

/// Another connection is answered, so is the health check, and a mute connection is closed in time.
async fn others_are_served(address: SocketAddr) {
    let mut mute = RawSocket::connect(address).await;
    let mut witness = Socket::connect(address).await;
    let silent_since = Instant::now();
    let mut ticks = interval(Duration::from_millis(20));
    let mut waits = Vec::new();
    while silent_since.elapsed() < STALE_AFTER {
        ticks.tick().await;
        let asked = Instant::now();
        witness.send(json!({ "type": "ping", "id": 1 })).await;
        witness.expect(json!({ "type": "pong" })).await;
        waits.push(asked.elapsed());
        let asked = Instant::now();
        let answer = http::request(address, "GET", "/health/live", &[], "").await;
        assert_eq!(answer.status, 200);
        let waited = asked.elapsed();
        assert!(waited < Duration::from_millis(2_500), "health: {waited:?}");
    }
    waits.sort_unstable();
    let p99 = waits[(waits.len() * 99).div_ceil(100) - 1];
    assert!(p99 < Duration::from_secs(1), "{waits:?}");

    let goodbye = loop {
        match mute.receive().await {
            Some((PING, _)) => {}
            other => break other,
        }
    };
    let goodbye: Value = serde_json::from_slice(&goodbye.unwrap().1).unwrap();
    assert_eq!(goodbye["code"], 4102, "{goodbye}");
    let late = silent_since.elapsed().saturating_sub(STALE_AFTER);
    assert!(late < Duration::from_secs(5), "{late:?} late");
}

/// A server on a thread of its own.
struct OneThread {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl OneThread {
    fn start() -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut limits = Limits::default();
                limits.ping_interval = STALE_AFTER / 2;
                limits.stale_after = STALE_AFTER;
                let mut accept_limits = AcceptLimits::default();
                accept_limits.exempts_private_addresses = false;
                let builder = Server::builder()
                    .limits(limits)
                    .accept_limits(accept_limits);
                let server = TestServer::start_app(builder, |server| {
                    let large = get(|| async { vec![b'x'; 4 << 20] });
                    server.router().route("/large", large)
                });
                let server = server.await;
                tell.send(server.address).unwrap();
                let _ = stopped.await;
                server.stop().await;
            });
        });
        Self {
            address: told.recv().unwrap(),
            stop,
            thread,
        }
    }

    fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

/// Peers that flood, on a thread of their own.
struct Flooding {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Flooding {
    fn start(address: SocketAddr, flood: &Flood, peers: usize) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let flood = flood.clone();
        let (begin, begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut all = JoinSet::new();
                for _ in 0..peers {
                    let (flood, begin) = (flood.clone(), begin.clone());
                    all.spawn(async move {
                        loop {
                            // One that is cut comes back.
                            let _ = flood.once(address, &begin).await;
                        }
                    });
                }
                tokio::select! {
                    _ = &mut stopped => {}
                    Some(ended) = all.join_next() => ended.unwrap(),
                }
            });
        });
        begun.recv().unwrap();
        Self { stop, thread }
    }

    fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

impl Flood {
    async fn once(
        &self,
        address: SocketAddr,
        begin: &std::sync::mpsc::Sender<()>,
    ) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        let chunk = match self {
            Self::WebSocket(frames) => {
                stream.write_all(HANDSHAKE).await?;
                frames.repeat((64 << 10) / frames.len() + 1)
            }
            Self::Requests => LIVE.repeat(500),
            Self::HalfRead => {
                stream.write_all(&LARGE.repeat(100)).await?;
                let mut half = vec![0; 64 << 10];
                stream.read_exact(&mut half).await?;
                let _ = begin.send(());
                // Held for a while, and left with most of it unread: the server never closes first.
                let _ = timeout(Duration::from_millis(100), std::future::pending::<()>()).await;
                return Ok(());
            }
        };
        let (mut from_server, mut to_server) = stream.into_split();
        let reading = async {
            let mut piece = vec![0; 64 << 10];
            while from_server.read(&mut piece).await? > 0 {}
            Ok(())
        };
        let writing = async {
            loop {
                to_server.write_all(&chunk).await?;
                let _ = begin.send(());
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// 1 s: so long the others are looked at.
const STALE_AFTER: Duration = Duration::from_secs(1);

const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";

const LARGE: &[u8] = b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n";
