//! What strangers send instead of HTTP/1.1: smuggled requests, other protocols, text that is meant for the log (T22, T30, T34).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::{any, post};
use fanfare_server::Server;
use fanfare_tests::node::{Balancer, Node};
use fanfare_tests::raw::RawSocket;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::Socket;
use fanfare_tests::{eventually, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The request that an attacker hides in the body of another.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";

/// Requests whose end is a matter of opinion: what is unclear, the headers behind `host`, and the body.
///
/// `LENGTH` stands for the length of the hidden request, `WHOLE` for that of an empty chunk and the hidden request, `EMPTY` for
/// the empty chunk.
const AMBIGUOUS: [(&str, &str, &str); 18] = [
    (
        "length beside chunks",
        "content-length: WHOLE\r\ntransfer-encoding: chunked\r\n",
        "EMPTY",
    ),
    (
        "chunks beside length",
        "transfer-encoding: chunked\r\ncontent-length: WHOLE\r\n",
        "EMPTY",
    ),
    (
        "two lengths",
        "content-length: 0\r\ncontent-length: LENGTH\r\n",
        "",
    ),
    ("a list of lengths", "content-length: 0, LENGTH\r\n", ""),
    ("a signed length", "content-length: +0\r\n", ""),
    ("a negative length", "content-length: -1\r\n", ""),
    ("a hexadecimal length", "content-length: 0x0\r\n", ""),
    (
        "a length of 2^64",
        "content-length: 18446744073709551616\r\n",
        "",
    ),
    ("space before the colon", "content-length : LENGTH\r\n", ""),
    (
        "chunked, then identity",
        "transfer-encoding: chunked, identity\r\n",
        "EMPTY",
    ),
    (
        "an unknown coding",
        "transfer-encoding: xchunked\r\n",
        "EMPTY",
    ),
    (
        "a tab before chunked",
        "content-length: WHOLE\r\ntransfer-encoding:\tchunked\r\n",
        "EMPTY",
    ),
    (
        "a vertical tab before chunked",
        "transfer-encoding: \u{b}chunked\r\n",
        "EMPTY",
    ),
    ("a folded header", "x: y\r\n content-length: LENGTH\r\n", ""),
    (
        "a chunk of negative size",
        "transfer-encoding: chunked\r\n",
        "-1\r\n",
    ),
    (
        "a chunk of too large a size",
        "transfer-encoding: chunked\r\n",
        "fffffffffffffffff\r\n",
    ),
    (
        "a chunk that ends too early",
        "transfer-encoding: chunked\r\n",
        "1\r\naXXEMPTY",
    ),
    (
        "line feeds alone",
        "content-length: 0\ntransfer-encoding: chunked\n",
        "EMPTY",
    ),
];

fn ambiguous() -> impl Iterator<Item = (&'static str, String)> {
    let empty = "0\r\n\r\n";
    let length = HIDDEN.len().to_string();
    let whole = (empty.len() + HIDDEN.len()).to_string();
    AMBIGUOUS.into_iter().map(move |(name, headers, body)| {
        let headers = headers.replace("LENGTH", &length).replace("WHOLE", &whole);
        let body = body.replace("EMPTY", empty);
        let end = if headers.contains('\r') { "\r\n" } else { "\n" };
        let request = format!("POST /taken HTTP/1.1{end}host: a{end}{headers}{end}{body}{HIDDEN}");
        (name, request)
    })
}

/// Sends bytes, says that nothing follows, and reads to the end.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close before everything is written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = within("the end of the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn application() -> (TestServer, Arc<AtomicUsize>) {
    let hidden = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hidden);
    let server = TestServer::start_app(Server::builder(), |server| {
        let found = any(async move || {
            count.fetch_add(1, Ordering::SeqCst);
            "found"
        });
        let taken = post(async |body: String| body.len().to_string());
        Router::new()
            .route("/hidden", found)
            .route("/taken", taken)
            .merge(server.router())
    })
    .await;
    (server, hidden)
}

#[tokio::test]
async fn a_request_in_the_body_of_another_is_never_answered() {
    let (server, hidden) = application().await;
    exchange(server.address, HIDDEN.as_bytes()).await;
    assert_eq!(hidden.swap(0, Ordering::SeqCst), 1, "it can be answered");
    for (name, request) in ambiguous() {
        let answer = exchange(server.address, request.as_bytes()).await;
        assert_eq!(hidden.load(Ordering::SeqCst), 0, "{name}: {answer}");
    }
}

#[tokio::test]
async fn what_the_balancer_refuses_is_not_smuggled_past_it() {
    let (server, hidden) = application().await;
    let rule = "http-request deny if { path /hidden }";
    let balancer = Balancer::start_with(&[server.address], &[rule]).await;
    let refused = exchange(balancer.address(), HIDDEN.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    for (name, request) in ambiguous() {
        // The balancer keeps its connections to the server: what one visitor left behind would be the next one's request.
        let answer = exchange(balancer.address(), request.as_bytes()).await;
        let next = "POST /taken HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nnext";
        let answer_of_next = exchange(balancer.address(), next.as_bytes()).await;
        assert!(
            answer_of_next.ends_with("\r\n\r\n4"),
            "{name}: {answer_of_next}"
        );
        assert_eq!(hidden.load(Ordering::SeqCst), 0, "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_request_for_another_host_is_not_passed_on() {
    let (server, _) = application().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = elsewhere.local_addr().unwrap();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for request in [
        format!("GET http://{target}/ws HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n"),
        format!("GET //{target}/ws HTTP/1.1\r\nhost: {target}\r\n{upgrade}\r\n"),
        format!("GET /ws/../../{target} HTTP/1.1\r\nhost: {target}\r\n{upgrade}\r\n"),
    ] {
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{request}: {answer}");
    }
    // A connection that was made would wait in the listener's queue already.
    let visited = std::future::poll_fn(|context| {
        std::task::Poll::Ready(elsewhere.poll_accept(context).is_ready())
    });
    assert!(!visited.await);
}

#[tokio::test]
async fn a_request_names_one_host() {
    let (server, hidden) = application().await;
    for (version, hosts, status) in [
        ("1.1", "host: a\r\n", "200"),
        ("1.1", "", "400"),
        ("1.1", "host: a\r\nhost: a\r\n", "400"),
        ("1.1", "host: a\r\nhost: b\r\n", "400"),
        ("1.0", "", "200"),
        ("1.0", "host: a\r\nhost: b\r\n", "400"),
    ] {
        let request = format!("GET /hidden HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        let answer = exchange(server.address, request.as_bytes()).await;
        let answered = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(answered, status, "{request}: {answer}");
        let times = hidden.swap(0, Ordering::SeqCst);
        assert_eq!(times, usize::from(status == "200"), "{request}");
    }
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let (server, _) = application().await;
    // RFC 9113, 3.4: the preface of a client that assumes HTTP/2, and its empty SETTINGS.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = exchange(server.address, preface).await;
    let is_settings = answer.as_bytes().get(3) == Some(&4);
    assert!(!is_settings, "{answer:?}");
    // RFC 7540, 3.2: an upgrade within HTTP/1.1 is ignored.
    let upgrade = "GET /hidden HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
                   http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let answer = exchange(server.address, upgrade.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    // A flood of frames is a flood of bytes that are no request: the connection ends and the others live.
    let mut guest = Socket::connect(server.address).await;
    let empty_data = [0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(100_000);
    exchange(server.address, &[preface.as_slice(), &empty_data].concat()).await;
    guest.is_quiet().await;
}

#[tokio::test]
async fn a_log_line_stays_one_line_whatever_peers_say() {
    let arguments = [
        "--log",
        "trace",
        "--drain-delay",
        "0s",
        "--drain-spread",
        "0s",
    ];
    let mut node = Node::start(&arguments, &[("FANFARE_JWT_SECRET", SECRET)]).await;
    let huge = "x".repeat(12 << 10);
    // Every place of a request whose content may reach the log. A header cannot hold control characters.
    for text in ["\u{9b}31mred", "a\u{2028}b\u{85}c", "%0d%0aforged", &huge] {
        for name in [
            "origin",
            "cookie",
            "authorization",
            "user-agent",
            "x-forwarded-for",
        ] {
            let request = format!("GET /ws HTTP/1.1\r\nhost: a\r\n{name}: {text}\r\n\r\n");
            exchange(node.address(), request.as_bytes()).await;
        }
    }
    // And of commands, whose text can hold everything.
    let controls = [
        "\u{1b}[31mred",
        "one\r\nWARN forged: two",
        "nul\0",
        "\u{9b}0m",
        "\u{2028}",
    ];
    for text in controls.into_iter().chain([huge.as_str()]) {
        for command in ["subscribe", "history", "publish", "unknown", "authenticate"] {
            let (mut peer, _) = RawSocket::handshake(node.address(), &[]).await;
            let message = json!({ "type": command, "channel": text, "event": text, "token": text });
            peer.send_json(&message).await;
            peer.send_json(&json!({ "type": text })).await;
            peer.end().await;
            peer.closed().await;
        }
    }
    node.terminate();
    eventually("the end", async || node.outcome().is_some()).await;
    let log = node.log();
    assert!(
        log.lines().count() > 60,
        "it was told to log everything: {log}"
    );
    // The first line is the address, for programs that start the server; every other begins with its time.
    for line in log.lines().filter(|line| !line.starts_with("listening on")) {
        assert!(line.starts_with("20"), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.len() < 4_096, "a line of {} bytes", line.len());
    }
}

const SECRET: &str = "a secret of at least thirty-two bytes";
