//! Input nobody should send: a clear error, nothing else happens, and nothing that was accepted is lost.

use std::path::Path;

use fanfare_server::{ChannelRule, ChannelRules, Limits, ServerBuilder};
use fanfare_tests::raw::{RawSocket, TEXT, frame};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket, has};
use fanfare_tests::{http, suite, within};
use serde_json::{Value, json};

/// Nobody is stopped for talking too much here.
fn patient() -> ServerBuilder {
    let mut limits = Limits::default();
    limits.commands_burst = 1_000_000;
    limits.client_payload_bytes_max = 1 << 20;
    limits.client_bytes_burst = 16 << 20;
    suite::builder().limits(limits)
}

/// The golden file of that name.
fn golden(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/golden");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn every_bad_command_gets_the_error_that_is_written_down() {
    let server = TestServer::start(patient()).await;
    for (file, subprotocol) in [
        ("invalid.json", "fanfare.v1"),
        ("app_events_invalid.json", "app-events.v1"),
    ] {
        let door = Door::at(server.address).subprotocols(subprotocol);
        let mut socket = door.open().await.unwrap();
        socket.receive().await;
        let golden = golden(file);
        let rows = golden["frames"].as_array().unwrap();
        assert!(rows.len() >= 4);
        for row in rows {
            socket.send_text(row["text"].as_str().unwrap()).await;
            let expected = json!({ "type": "error", "code": row["code"], "error": row["error"] });
            let error = socket.expect(expected).await;
            if subprotocol == "fanfare.v1" {
                assert_eq!(
                    error.get("id").unwrap_or(&Value::Null),
                    &row["id"],
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_is_unusual_and_allowed_is_taken() {
    let server = TestServer::start(patient()).await;
    let golden = golden("tolerated.json");
    for row in golden["frames"].as_array().unwrap() {
        let mut socket = Socket::connect(server.address).await;
        socket.send_text(row["text"].as_str().unwrap()).await;
        socket.send(json!({ "type": "ping" })).await;
        while let Some(message) = within("an answer", socket.next()).await {
            let code = message["code"].as_u64().unwrap_or_default();
            assert!(![4001, 4300].contains(&code), "{row}: {message}");
            if message["type"] == "pong" {
                break;
            }
        }
    }
}

#[tokio::test]
async fn json_however_deep_is_passed_on_or_refused_and_no_crash() {
    // T24: a stack that overflows takes the whole process with it.
    let rule = ChannelRule::default()
        .with_client_publish()
        .with_client_bytes_per_second(16 << 20);
    let rules = ChannelRules::new().with("open-", rule);
    let server = TestServer::start(patient().channel_rules(rules)).await;
    let mut socket = RawSocket::connect(server.address).await;
    let subscribe = json!({ "type": "subscribe", "channel": "open-room" });
    socket.send_json(&subscribe).await;
    socket.receive_json().await;
    for depth in [100_usize, 10_000, 150_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let data = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let text =
                format!(r#"{{"type":"publish","channel":"open-room","event":"e","data":{data}}}"#);
            socket.send(TEXT, text.as_bytes()).await;
            // Payloads are nobody's business here: their depth is for whoever reads them.
            let (_, payload) = socket.receive().await.unwrap();
            assert!(payload.ends_with(format!(r#""data":{data}}}"#).as_bytes()));
        }
    }
    // What has to be understood is another matter.
    let deep = "[".repeat(500_000);
    for text in [deep.clone(), format!(r#"{{"type":"ping","id":{deep}"#)] {
        socket.send(TEXT, text.as_bytes()).await;
        assert_eq!(socket.receive_json().await["code"], 4300);
    }
    let member = format!(
        r#"{{"type":"subscribe","channel":"x","since":{deep}{}}}"#,
        "]".repeat(500_000)
    );
    socket.send(TEXT, member.as_bytes()).await;
    assert_eq!(socket.receive_json().await["code"], 4300);
}

#[tokio::test]
async fn names_outside_the_grammar_name_nothing() {
    // T12, T25.
    let server = TestServer::start(patient()).await;
    let mut socket = Socket::connect(server.address).await;
    let bad = [
        "",
        " ",
        "a b",
        "a*",
        "a?",
        "[a]",
        "{a}",
        "a\\b",
        "a\0b",
        "a\r\nb",
        "a/b",
        "a#b",
        "ü",
        "a\u{202e}b",
        "a\u{ff0e}b",
        "a'b",
        "a\"b",
        "<a>",
        "a%20b",
        "a+b",
        "$a",
        "a|b",
        "~a",
    ];
    let long = "x".repeat(201);
    for name in bad.into_iter().chain([long.as_str()]) {
        for kind in ["subscribe", "unsubscribe", "publish", "presence", "history"] {
            let command =
                json!({ "type": kind, "id": 1, "channel": name, "event": "e", "data": 1 });
            socket.send(command).await;
            socket
                .expect(json!({ "type": "error", "id": 1, "code": 4304 }))
                .await;
        }
    }
    assert!(server.events.channels().await.unwrap().is_empty());
    for name in ["constructor", "__proto__", "toString", &"x".repeat(200)] {
        // T31: a name like any other.
        socket.subscribe(name).await;
    }
}

#[tokio::test]
async fn payloads_are_passed_on_byte_for_byte() {
    let server = TestServer::start(patient()).await;
    let mut reader = RawSocket::connect(server.address).await;
    let subscribe = json!({ "type": "subscribe", "channel": "open-room" });
    reader.send_json(&subscribe).await;
    reader.receive_json().await;
    let mut sender = Socket::connect(server.address).await;
    sender.subscribe("open-room").await;
    for data in [
        r#"{ "b" : 1.50e+1, "a":"\u00e9\/", "a":[] }"#,
        "1e400",
        "-0",
        "123456789012345678901234567890",
        r#""\ud800""#,
        r#"{"__proto__":{"polluted":true},"constructor":1}"#,
        "\"</script>\u{2028}\"",
    ] {
        let text =
            format!(r#"{{"type":"publish","channel":"open-room","event":"e","data":{data}}}"#);
        sender.send_text(text).await;
        let (opcode, payload) = reader.receive().await.unwrap();
        assert_eq!(opcode, TEXT);
        let expected =
            format!(r#"{{"type":"event","channel":"open-room","event":"e","data":{data}}}"#);
        assert_eq!(String::from_utf8(payload).unwrap(), expected);
    }
}

#[tokio::test]
async fn heads_too_large_are_refused() {
    // T15.
    let server = TestServer::start(suite::builder()).await;
    let long = "x".repeat(20_000);
    let answer = http::request(server.address, "GET", "/ws", &[("x-pad", &long)], "").await;
    assert_eq!(answer.status, 431);
    let many: Vec<(&str, &str)> = (0..2_000).map(|_| ("x", "y")).collect();
    let answer = http::request(server.address, "GET", "/ws", &many, "").await;
    assert_eq!(answer.status, 431);
    Socket::connect(server.address).await.is_quiet().await;
}

/// Commands that make sense, to be broken.
const SEEDS: [&str; 8] = [
    r#"{"type":"subscribe","id":1,"channel":"open-room"}"#,
    r#"{"type":"subscribe","id":2,"channel":"h-x","since":{"epoch":"5f3a","offset":12,"tag":"a1"},"rewind":3}"#,
    r#"{"type":"unsubscribe","channel":"open-room"}"#,
    r#"{"type":"publish","id":3,"channel":"open-room","event":"e","data":{"a":[1,2,{"b":null}]},"key":"k"}"#,
    r#"{"type":"authenticate","id":4,"token":"user:eve"}"#,
    r#"{"type":"presence","id":5,"channel":"presence-room"}"#,
    r#"{"type":"history","id":6,"channel":"h-x","limit":10}"#,
    r#"{"type":"ping","id":9007199254740991}"#,
];

/// Breaks bytes: flips, cuts, doubles, swaps or inserts.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..6) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *random.choice(b"{}[]\",:\\0e-\x00\xff").unwrap()),
            3 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            4 => {
                let other = random.usize(..bytes.len());
                bytes.swap(at, other);
            }
            _ => bytes[at] = random.u8(..),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_broken_frames_hurt_nobody_else() {
    let server = TestServer::start(patient()).await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut witness = Socket::connect(server.address).await;
    witness.subscribe("h-orders").await;
    let mut socket = RawSocket::connect(server.address).await;
    let (mut survived, mut closed) = (0, 0);
    for number in 0..1_000 {
        let mut bytes = random.choice(SEEDS).unwrap().as_bytes().to_vec();
        let is_frame_broken = random.u8(..4) == 0;
        if is_frame_broken {
            bytes = frame(true, TEXT, &bytes);
            mutate(&mut random, &mut bytes);
        } else {
            mutate(&mut random, &mut bytes);
            bytes = frame(true, TEXT, &bytes);
        }
        socket.write(&bytes).await;
        // The answer to a question of our own shows that the connection lives.
        socket.send(TEXT, br#"{"type":"ping"}"#).await;
        if is_frame_broken {
            // A frame that claims to be longer swallows the question: there is nothing to wait for but the end.
            socket.end().await;
        }
        let is_alive = lives(&mut socket).await;
        match is_alive {
            Some(true) => survived += 1,
            Some(false) => closed += 1,
            None => assert!(is_frame_broken, "closed without a word"),
        }
        if is_frame_broken || is_alive != Some(true) {
            socket = RawSocket::connect(server.address).await;
        }
        server
            .events
            .broadcast("h-orders", "n", &number)
            .await
            .unwrap();
    }
    for number in 0..1_000_u64 {
        witness
            .expect(json!({ "data": number, "offset": number + 1 }))
            .await;
    }
    assert!(
        survived > 600 && closed > 20,
        "{survived} lived on, {closed} closed"
    );
}

/// Whether the connection answers; `false` when it was closed with a code, none when it ended without.
async fn lives(socket: &mut RawSocket) -> Option<bool> {
    loop {
        let (opcode, payload) = socket.receive().await?;
        match opcode {
            TEXT => {
                let message: Value = serde_json::from_slice(&payload).unwrap();
                if has(&message, &json!({ "type": "pong" })) {
                    return Some(true);
                }
                assert!(message["type"].is_string(), "{message}");
            }
            fanfare_tests::raw::CLOSE => {
                assert!(payload.is_empty() || payload.len() >= 2, "{payload:?}");
                return Some(false);
            }
            _ => {}
        }
    }
}
