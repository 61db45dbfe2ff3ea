//! WebSocket itself, byte by byte: what a peer may write, and what it is told when it may not (T15, T16).

use std::time::Duration;

use fanfare_server::{Limits, Server};
use fanfare_tests::eventually;
use fanfare_tests::raw::{BINARY, CLOSE, CONTINUATION, PING, PONG, RawSocket, TEXT, frame, head};
use fanfare_tests::server::TestServer;
use serde_json::json;

const PING_COMMAND: &[u8] = br#"{"type":"ping"}"#;

async fn start() -> TestServer {
    TestServer::start(Server::builder()).await
}

#[tokio::test]
async fn a_ping_is_answered_with_its_own_payload() {
    let server = start().await;
    let mut socket = RawSocket::connect(server.address).await;
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        socket.send(PING, payload).await;
        assert_eq!(socket.receive().await, Some((PONG, payload.to_vec())));
    }
    // A pong that nobody asked for is a sign of life and nothing more.
    socket.send(PONG, b"here").await;
    socket.send(TEXT, PING_COMMAND).await;
    assert_eq!(socket.receive_json().await["type"], "pong");
}

#[tokio::test]
async fn a_message_may_come_in_fragments_with_pings_in_between() {
    let server = start().await;
    let mut socket = RawSocket::connect(server.address).await;
    let (first, rest) = PING_COMMAND.split_at(3);
    let (second, third) = rest.split_at(5);
    socket.write(&frame(false, TEXT, first)).await;
    socket.write(&frame(true, PING, b"?")).await;
    socket.write(&frame(false, CONTINUATION, second)).await;
    socket.write(&frame(false, CONTINUATION, b"")).await;
    socket.write(&frame(true, CONTINUATION, third)).await;
    assert_eq!(socket.receive().await, Some((PONG, b"?".to_vec())));
    assert_eq!(socket.receive_json().await["type"], "pong");
}

#[tokio::test]
async fn bytes_may_come_one_by_one_and_frames_all_at_once() {
    let server = start().await;
    let mut socket = RawSocket::connect(server.address).await;
    for byte in frame(true, TEXT, PING_COMMAND) {
        socket.write(&[byte]).await;
    }
    assert_eq!(socket.receive_json().await["type"], "pong");
    let burst: Vec<u8> = (0..100)
        .flat_map(|_| frame(true, TEXT, PING_COMMAND))
        .collect();
    socket.write(&burst).await;
    for _ in 0..100 {
        assert_eq!(socket.receive_json().await["type"], "pong");
    }
}

#[tokio::test]
async fn a_mask_is_taken_off() {
    let server = start().await;
    let mut socket = RawSocket::connect(server.address).await;
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![0x81, 0x80 | PING_COMMAND.len() as u8];
    bytes.extend_from_slice(&mask);
    let masked = PING_COMMAND.iter().zip(mask.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    socket.write(&bytes).await;
    assert_eq!(socket.receive_json().await["type"], "pong");
}

#[tokio::test]
async fn a_binary_message_is_an_error_and_the_connection_lives_on() {
    let server = start().await;
    let mut socket = RawSocket::connect(server.address).await;
    socket.send(BINARY, &[0, 159, 146, 150]).await;
    let error = socket.receive_json().await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!(4300))
    );
    socket.send(TEXT, PING_COMMAND).await;
    assert_eq!(socket.receive_json().await["type"], "pong");
}

/// What is wrong, the bytes, and the close code that they earn.
type Row = (&'static str, Vec<u8>, u16);

fn wrong_frames() -> Vec<Row> {
    let unmasked = {
        let mut bytes = vec![0x81, PING_COMMAND.len() as u8];
        bytes.extend_from_slice(PING_COMMAND);
        bytes
    };
    let twice = [frame(false, TEXT, b"{"), frame(true, TEXT, b"}")].concat();
    vec![
        ("no mask", unmasked, 1002),
        (
            "an extension nobody negotiated",
            frame(true, 0x40 | TEXT, PING_COMMAND),
            1002,
        ),
        (
            "a reserved bit",
            frame(true, 0x20 | TEXT, PING_COMMAND),
            1002,
        ),
        ("a reserved opcode for data", frame(true, 3, b"x"), 1002),
        ("a reserved opcode for control", frame(true, 11, b"x"), 1002),
        (
            "a continuation of nothing",
            frame(true, CONTINUATION, b"x"),
            1002,
        ),
        ("a message inside a message", twice, 1002),
        ("a ping in fragments", frame(false, PING, b"x"), 1002),
        ("a long ping", frame(true, PING, &[0; 126]), 1002),
        ("half a close code", frame(true, CLOSE, &[3]), 1002),
        (
            "a close code that may not be sent",
            frame(true, CLOSE, &1005_u16.to_be_bytes()),
            1002,
        ),
        (
            "text that is none",
            frame(true, TEXT, &[b'"', 0xc3, 0x28, b'"']),
            1007,
        ),
        ("a length of 2^62", head(true, TEXT, 1 << 62), 1009),
        ("a length of 2^63", head(true, TEXT, 1 << 63), 1002),
        (
            "a byte too much",
            head(true, TEXT, (32 << 10) + (16 << 10) + 1),
            1009,
        ),
        (
            "a binary message that is too long",
            head(true, BINARY, 1 << 30),
            1009,
        ),
    ]
}

#[tokio::test]
async fn each_wrong_frame_is_answered_with_its_close_code() {
    let server = start().await;
    for (what, bytes, code) in wrong_frames() {
        let mut socket = RawSocket::connect(server.address).await;
        socket.write(&bytes).await;
        let (closed, reason) = socket.closed().await.unwrap();
        if what == "a length of 2^63" {
            // The most significant bit must be 0; too large is as good an answer.
            assert!([1002, 1009].contains(&closed), "{what}: {closed}");
        } else {
            assert_eq!(closed, code, "{what}");
        }
        assert!(!reason.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_message_too_large_in_fragments_is_too_large() {
    let server = start().await;
    let mut socket = RawSocket::connect(server.address).await;
    let part = vec![b' '; 400 << 10];
    socket.write(&frame(false, TEXT, &part)).await;
    socket.write(&frame(false, CONTINUATION, &part)).await;
    socket.write(&frame(false, CONTINUATION, &part)).await;
    assert_eq!(socket.closed().await.unwrap().0, 1009);
}

#[tokio::test]
async fn a_message_comes_in_so_many_fragments_and_no_more() {
    let mut limits = Limits::default();
    assert_eq!(limits.fragments_max, 1_024);
    limits.fragments_max = 16;
    let server = TestServer::start(Server::builder().limits(limits)).await;
    let mut socket = RawSocket::connect(server.address).await;
    let spaces = |count: usize| -> Vec<u8> {
        let empty = (0..count).flat_map(|_| frame(false, CONTINUATION, b" "));
        empty.collect()
    };
    socket.write(&frame(false, TEXT, PING_COMMAND)).await;
    socket.write(&spaces(14)).await;
    socket.write(&frame(true, CONTINUATION, b" ")).await;
    assert_eq!(
        socket.receive_json().await["type"],
        "pong",
        "sixteen are allowed"
    );
    socket.write(&frame(false, TEXT, b" ")).await;
    socket.write(&spaces(16)).await;
    assert_eq!(socket.closed().await.unwrap().0, 1008);
}

#[tokio::test]
async fn a_message_that_is_never_finished_ends_the_connection() {
    let mut limits = Limits::default();
    assert_eq!(limits.message_deadline, Duration::from_secs(10));
    limits.message_deadline = Duration::from_millis(200);
    let server = TestServer::start(Server::builder().limits(limits)).await;
    let whole = frame(true, TEXT, PING_COMMAND);
    for begun in [&whole[..1], &whole[..5], &frame(false, TEXT, b"{")] {
        let mut socket = RawSocket::connect(server.address).await;
        socket.write(begun).await;
        assert_eq!(socket.closed().await.unwrap().0, 1008);
    }
}

#[tokio::test]
async fn a_connection_that_fails_inside_a_frame_leaves_nothing() {
    let mut limits = Limits::default();
    limits.message_deadline = Duration::from_millis(200);
    // Long enough that the bytes after the failure are read.
    limits.close_deadline = Duration::from_secs(2);
    let server = TestServer::start(Server::builder().limits(limits)).await;
    let whole = frame(true, TEXT, &[b' '; 40]);
    let mut not_text = head(true, TEXT, 40);
    not_text.extend(frame(true, TEXT, b"  \xff").split_off(not_text.len()));
    for begun in [&whole[..20], &not_text] {
        let mut socket = RawSocket::connect(server.address).await;
        socket.write(begun).await;
        let (opcode, _) = socket.receive().await.unwrap();
        assert_eq!(opcode, CLOSE);
        for byte in [b' '; 20] {
            socket.write(&[byte]).await;
        }
        socket.closed().await;
        eventually("the connection to be gone", async || {
            server.events.connection_count().await.unwrap() == 0
        })
        .await;
    }
}

#[tokio::test]
async fn compression_is_never_agreed_to() {
    let server = start().await;
    let offer = [(
        "sec-websocket-extensions",
        "permessage-deflate; client_max_window_bits",
    )];
    let (_, answer) = RawSocket::handshake(server.address, &offer).await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-extensions"), None);
    // The example of RFC 6455, 1.3.
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
}

#[tokio::test]
async fn a_close_is_answered_with_a_close() {
    let server = start().await;
    let mut socket = RawSocket::connect(server.address).await;
    socket.send(CLOSE, &1000_u16.to_be_bytes()).await;
    assert_eq!(socket.closed().await.unwrap().0, 1000);
    let mut socket = RawSocket::connect(server.address).await;
    socket.send(CLOSE, b"").await;
    assert_eq!(socket.receive().await, Some((CLOSE, Vec::new())));
    assert_eq!(socket.receive().await, None);
}
