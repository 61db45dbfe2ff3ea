use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{get, post};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::*;

/// Small limits; local clients count like any other.
fn limits() -> AcceptLimits {
    AcceptLimits {
        first_byte_deadline: Duration::from_millis(600),
        head_deadline: Duration::from_millis(300),
        head_bytes_max: 2_048,
        connections_max: 1_000,
        connections_per_address_max: None,
        exempts_private_addresses: false,
        ..AcceptLimits::default()
    }
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    end: JoinHandle<AcceptReport>,
}

impl Running {
    async fn start(router: Router, limits: AcceptLimits, drain_deadline: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let end = tokio::spawn(async move {
            let ended = run(listener, router, &limits, drain_deadline, stop).await;
            ended.unwrap()
        });
        Self {
            address,
            shutdown,
            end,
        }
    }

    async fn greeting(limits: AcceptLimits) -> Self {
        let router = Router::new().route("/", get(|| async { "hello" }));
        Self::start(router, limits, Duration::from_secs(5)).await
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn stop(self) -> AcceptReport {
        self.shutdown.cancel();
        in_time(self.end).await.unwrap()
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one answer with `Content-Length`.
    async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.to_ascii_lowercase();
                let length = length.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    return text;
                }
            }
            let read = in_time(self.0.read_buf(&mut bytes)).await.unwrap();
            assert_ne!(read, 0, "closed after {text:?}");
        }
    }

    async fn get(&mut self) -> String {
        self.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        self.answer().await
    }

    /// Waits for the server to close, however it does.
    async fn closed(mut self) -> String {
        let mut bytes = Vec::new();
        let _ = in_time(self.0.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let limit = timeout(Duration::from_secs(10), future);
    limit.await.expect("nothing happened for ten seconds")
}

/// Connects until the server lets one in.
async fn admitted(server: &Running) -> Client {
    in_time(async {
        loop {
            let mut client = server.client().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if client.answer().await.starts_with("HTTP/1.1 200") {
                return client;
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_are_served_and_know_where_they_came_from() {
    let router = Router::new().route(
        "/",
        get(
            |ConnectInfo(peer): ConnectInfo<SocketAddr>,
             Extension(_): Extension<Arc<ConnectionPermit>>| async move { peer.to_string() },
        ),
    );
    let server = Running::start(router, limits(), Duration::from_secs(5)).await;
    let mut client = server.client().await;
    let own_address = client.0.local_addr().unwrap().to_string();
    for _ in 0..3 {
        assert!(client.get().await.ends_with(&own_address));
    }
    let report = server.stop().await;
    assert_eq!(
        report,
        AcceptReport {
            accepted: 1,
            ..AcceptReport::default()
        }
    );
}

#[tokio::test]
async fn connections_that_dawdle_are_closed_while_others_are_served() {
    let server = Running::greeting(limits()).await;
    let begin = Instant::now();
    let mut closing = JoinSet::new();
    for _ in 0..30 {
        let silent = server.client().await;
        closing.spawn(async move { (silent.closed().await, 600, begin.elapsed()) });

        let mut partial = server.client().await;
        partial.send("GET / HTTP/1.1\r\nHost: a\r\nX-Half: ").await;
        closing.spawn(async move { (partial.closed().await, 300, begin.elapsed()) });

        let mut dripping = server.client().await;
        closing.spawn(async move {
            let (mut read, mut write) = dripping.0.split();
            let drip = async {
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                let _ = write.write_all(b"GET / HTTP/1.1\r\n").await;
                while write.write_all(b"X-A: b\r\n").await.is_ok() {
                    pace.tick().await;
                }
            };
            let mut received = Vec::new();
            let closed = in_time(read.read_to_end(&mut received));
            tokio::select! {
                () = drip => {}
                _ = closed => {}
            }
            (String::from_utf8(received).unwrap(), 300, begin.elapsed())
        });
    }
    let good = async {
        let mut slowest = Duration::ZERO;
        let mut kept = server.client().await;
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        while begin.elapsed() < Duration::from_millis(700) {
            pace.tick().await;
            let asked = Instant::now();
            assert!(kept.get().await.ends_with("hello"));
            assert!(server.client().await.get().await.ends_with("hello"));
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let slowest = good.await;
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    while let Some(closed) = closing.join_next().await {
        let (received, earliest_ms, elapsed) = closed.unwrap();
        assert_eq!(received, "");
        assert!(elapsed >= Duration::from_millis(earliest_ms), "{elapsed:?}");
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_not_kept_forever() {
    let server = Running::greeting(limits()).await;
    let mut client = server.client().await;
    client.get().await;
    let begin = Instant::now();
    assert_eq!(client.closed().await, "");
    assert!(
        begin.elapsed() >= Duration::from_millis(250),
        "{:?}",
        begin.elapsed()
    );
    server.stop().await;
}

#[tokio::test]
async fn long_heads_are_refused() {
    let server = Running::greeting(limits()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(2_100)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    for head in [long, many] {
        let mut client = server.client().await;
        client.send(&head).await;
        let answer = client.closed().await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_above_a_cap_are_told_to_come_back() {
    let per_address = AcceptLimits {
        connections_per_address_max: Some(2),
        ..limits()
    };
    let in_all = AcceptLimits {
        connections_max: 2,
        ..limits()
    };
    for (limits, by_address) in [(per_address, true), (in_all, false)] {
        let server = Running::greeting(limits).await;
        let (mut first, mut second) = (server.client().await, server.client().await);
        first.get().await;
        second.get().await;

        let mut third = server.client().await;
        third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = third.closed().await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("Retry-After: 5"), "{answer}");

        assert!(second.get().await.ends_with("hello"));
        drop(first);
        let fourth = admitted(&server).await;
        drop((second, fourth));
        let report = server.stop().await;
        assert_eq!(report.accepted, 3);
        assert!(report.refused_address_full >= u64::from(by_address));
        assert!(report.refused_server_full >= u64::from(!by_address));
    }
}

#[tokio::test]
async fn an_upgraded_socket_counts_until_its_permit_is_dropped() {
    type Held = Arc<Mutex<Vec<(Arc<ConnectionPermit>, TcpStream)>>>;

    async fn upgrade(
        Extension(held): Extension<Held>,
        mut request: axum::extract::Request,
    ) -> http::Response<Body> {
        let permit = request
            .extensions_mut()
            .remove::<Arc<ConnectionPermit>>()
            .unwrap();
        let upgraded = hyper::upgrade::on(request);
        tokio::spawn(async move {
            let parts = upgraded
                .await
                .unwrap()
                .downcast::<TokioIo<DeadlineStream>>()
                .unwrap();
            let mut stream = parts.io.into_inner().into_inner();
            stream.write_all(b"raw").await.unwrap();
            held.lock().unwrap().push((permit, stream));
        });
        http::Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "raw")
            .body(Body::empty())
            .unwrap()
    }

    let held = Held::default();
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/raw", get(upgrade))
        .layer(Extension(held.clone()));
    let limits = AcceptLimits {
        connections_max: 1,
        ..limits()
    };
    let server = Running::start(router, limits, Duration::from_secs(5)).await;
    let mut client = server.client().await;
    client
        .send("GET /raw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    let mut received = Vec::new();
    while !received.ends_with(b"raw") {
        assert_ne!(in_time(client.0.read_buf(&mut received)).await.unwrap(), 0);
    }
    let refused = server.client().await.closed().await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");

    held.lock().unwrap().clear();
    let mut admitted = admitted(&server).await;
    assert!(admitted.get().await.ends_with("hello"));
    server.stop().await;
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_nobody_in() {
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (on_entry, on_gate) = (entered.clone(), gate.clone());
    let slow = move || {
        let (entered, gate) = (on_entry.clone(), on_gate.clone());
        async move {
            entered.notify_one();
            gate.notified().await;
            "at last"
        }
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/slow", post(slow));
    let patient = AcceptLimits {
        first_byte_deadline: Duration::from_secs(60),
        head_deadline: Duration::from_secs(60),
        ..limits()
    };
    let server = Running::start(router, patient, Duration::from_secs(60)).await;
    let (mut idle, silent) = (server.client().await, server.client().await);
    idle.get().await;
    let mut busy = server.client().await;
    busy.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    in_time(entered.notified()).await;

    let address = server.address;
    server.shutdown.cancel();
    assert_eq!(idle.closed().await, "");
    assert_eq!(silent.closed().await, "");
    assert!(TcpStream::connect(address).await.is_err());
    gate.notify_one();
    assert!(busy.answer().await.ends_with("at last"));
    let report = server.stop().await;
    assert_eq!(
        report,
        AcceptReport {
            accepted: 3,
            ..AcceptReport::default()
        }
    );
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut() {
    let entered = Arc::new(Notify::new());
    let on_entry = entered.clone();
    let stuck = move || {
        on_entry.notify_one();
        std::future::pending::<&'static str>()
    };
    let router = Router::new().route("/", get(stuck));
    let server = Running::start(router, limits(), Duration::from_millis(100)).await;
    let mut client = server.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    in_time(entered.notified()).await;
    let report = server.stop().await;
    assert_eq!(report.aborted, 1);
    assert_eq!(client.closed().await, "");
}

#[cfg(target_os = "linux")]
#[test]
fn failures_of_accept_are_told_apart() {
    let of_this_process = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];
    let of_one_connection = ["ECONNABORTED", "EINTR", "EHOSTUNREACH", "ENETDOWN"];
    let number = |name: &str| match name {
        "EINTR" => 4,
        "ENOMEM" => 12,
        "ENFILE" => 23,
        "EMFILE" => 24,
        "ENETDOWN" => 100,
        "ECONNABORTED" => 103,
        "ENOBUFS" => 105,
        "EHOSTUNREACH" => 113,
        _ => unreachable!("{name}"),
    };
    for name in of_this_process {
        let error = io::Error::from_raw_os_error(number(name));
        assert!(
            !concerns_one_connection(&error) && !is_final(&error),
            "{name}"
        );
    }
    for name in of_one_connection {
        let error = io::Error::from_raw_os_error(number(name));
        assert!(concerns_one_connection(&error), "{name}");
    }
}

#[test]
fn pauses_grow_to_a_second_with_half_of_them_jitter() {
    let ms = |failures, random| pause_after(failures, random).as_millis();
    let rows = [
        (1, 10, 20),
        (2, 20, 40),
        (3, 40, 80),
        (6, 320, 640),
        (7, 500, 1_000),
        (u32::MAX, 500, 1_000),
    ];
    for (failures, shortest, longest) in rows {
        assert_eq!(ms(failures, 0.0), shortest, "{failures}");
        assert_eq!(ms(failures, 1.0), longest, "{failures}");
        assert!(
            (shortest..longest).contains(&ms(failures, 0.5)),
            "{failures}"
        );
    }
}

#[test]
fn the_defaults_leave_files_for_other_things() {
    let limits = AcceptLimits::default();
    assert!(limits.connections_max + RESERVED_FILES <= open_files_max());
    assert!(limits.connections_per_address_max.unwrap() <= limits.connections_max);
}

#[tokio::test]
async fn a_socket_that_does_not_listen_is_an_error() {
    use socket2::{Domain, Socket, Type};

    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any_port.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let stop = CancellationToken::new();
    let limits = limits();
    let ended = run(
        listener,
        Router::new(),
        &limits,
        Duration::from_secs(5),
        stop,
    );
    let error = in_time(ended).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_closed() {
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/large", get(|| async { vec![b'x'; 16 << 20] }));
    let limits = AcceptLimits {
        connections_max: 1,
        write_deadline: Duration::from_millis(300),
        ..limits()
    };
    let server = Running::start(router, limits, Duration::from_secs(5)).await;
    let mut mute = server.client().await;
    mute.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // Only one may be connected: another one is let in once the first is gone.
    admitted(&server).await;
    drop(mute);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_arrives_whole() {
    let router = Router::new().route("/large", get(|| async { vec![b'x'; 4 << 20] }));
    let limits = AcceptLimits {
        write_deadline: Duration::from_millis(300),
        ..limits()
    };
    let server = Running::start(router, limits, Duration::from_secs(5)).await;
    let mut slow = server.client().await;
    let begun = Instant::now();
    slow.send("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let mut pauses = tokio::time::interval(Duration::from_millis(30));
    let mut piece = vec![0; 128 << 10];
    let mut received = 0;
    loop {
        pauses.tick().await;
        match in_time(slow.0.read(&mut piece)).await.unwrap() {
            0 => break,
            count => received += count,
        }
    }
    assert!(received > 4 << 20, "{received}");
    // It took longer than the deadline, which is about standing still.
    assert!(begun.elapsed() > Duration::from_millis(600));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_read_costs_the_kernel_little() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let endless = move || {
        let counter = Arc::clone(&counter);
        async move {
            let piece = bytes::Bytes::from_static(&[b'x'; 16 << 10]);
            Body::from_stream(futures_util::stream::repeat_with(move || {
                counter.fetch_add(piece.len(), Ordering::Relaxed);
                Ok::<_, io::Error>(piece.clone())
            }))
        }
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/endless", get(endless));
    let limits = AcceptLimits {
        connections_max: 1,
        write_deadline: Duration::from_millis(300),
        ..limits()
    };
    let server = Running::start(router, limits, Duration::from_secs(5)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut mute = Client(socket.connect(server.address).await.unwrap());
    mute.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    admitted(&server).await;
    let taken = taken.load(Ordering::Relaxed);
    assert!((16 << 10..768 << 10).contains(&taken), "{taken} bytes");
    server.stop().await;
}

#[tokio::test]
async fn requests_above_the_rate_wait_for_their_turn() {
    let limits = AcceptLimits {
        requests_per_second: 20,
        requests_burst: 5,
        ..limits()
    };
    let server = Running::greeting(limits).await;
    let mut client = server.client().await;
    let begun = Instant::now();
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.send(&(request.repeat(9) + last)).await;
    let answers = client.closed().await;
    assert_eq!(answers.matches("hello").count(), 10);
    assert!(begun.elapsed() >= Duration::from_millis(250));
    server.stop().await;
}
