//! A server that has run out of file descriptors keeps its connections and accepts again when it can.
//!
//! A binary of its own, because the limit holds for the whole process.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare_server::{AcceptLimits, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn accepts_again_after_file_descriptors_ran_out() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let few = Rlimit {
        current: Some(128),
        maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let log = Log::default();
    let (address, stop, server) = start(log.clone());
    let mut kept = connect(address);
    assert!(ask(&mut kept).ends_with("hello"));

    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    // Room for the near end of one connection, and none for the far end that the server would get.
    hoard.pop();
    let mut waiting = connect(address);
    waiting.write_all(REQUEST).unwrap();
    eventually(|| log.pauses() >= 3);
    assert!(File::open("/dev/null").is_err(), "a descriptor is left");
    assert!(ask(&mut kept).ends_with("hello"));

    let begin = Instant::now();
    let pauses = log.pauses();
    hoard.clear();
    assert!(answer(&mut waiting).ends_with("hello"));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    // It waited rather than spin: a pause takes a second at most, and doubles until then.
    assert!(pauses < 20, "{pauses} pauses");

    stop.send(()).unwrap();
    server.join().unwrap();
}

fn start(
    log: Log,
) -> (
    SocketAddr,
    tokio::sync::oneshot::Sender<()>,
    std::thread::JoinHandle<()>,
) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || log.clone())
            .finish();
        let _log = tracing::subscriber::set_default(subscriber);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut limits = AcceptLimits::default();
            // Above what the process may open: its own cap would keep it from ever running out.
            limits.connections_max = 1_000;
            limits.head_deadline = Duration::from_secs(60);
            let server = Server::builder()
                .accept_limits(limits)
                .build()
                .await
                .unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let app = Router::new()
                .route("/", get(|| async { "hello" }))
                .merge(server.router());
            let on_stop = async {
                let _ = stopped.await;
            };
            server.serve_app(listener, app, on_stop).await.unwrap();
        });
    });
    (told.recv().unwrap(), stop, server)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(REQUEST).unwrap();
    answer(stream)
}

fn answer(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let mut piece = [0; 512];
    while !received.ends_with(b"hello") {
        let length = stream.read(&mut piece).unwrap();
        assert_ne!(
            length,
            0,
            "closed after {:?}",
            String::from_utf8_lossy(&received)
        );
        received.extend_from_slice(&piece[..length]);
    }
    String::from_utf8(received).unwrap()
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "still not so after ten seconds"
        );
        std::thread::yield_now();
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn pauses(&self) -> usize {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.matches("accept failed, pausing").count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
