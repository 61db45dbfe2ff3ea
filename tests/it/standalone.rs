//! The standalone server as a process: how it starts, what it writes, how it ends.

use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_tests::node::{Node, program};
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{eventually, within};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::process::Command;

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

#[tokio::test]
async fn a_signal_sends_its_clients_away_and_ends_it_with_success() {
    let mut node = Node::start(&["--drain-delay", "0s", "--drain-spread", "0s"], &[]).await;
    let mut socket = Socket::connect(node.address()).await;
    node.terminate();
    socket
        .expect(json!({ "type": "disconnect", "code": 4200, "reconnect": true, "after": 0 }))
        .await;
    assert_eq!(socket.closed().await.0, 4200);
    eventually("the end", async || node.outcome().is_some()).await;
    assert_eq!(node.outcome().unwrap().code(), Some(0), "{}", node.log());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut node = Node::start(&["--drain-delay", "2h"], &[]).await;
    let mut socket = Socket::connect(node.address()).await;
    node.terminate();
    eventually("the first signal to be heard", async || {
        node.log().contains("asked to stop")
    })
    .await;
    socket.is_quiet().await;
    assert!(node.outcome().is_none());
    node.terminate();
    eventually("the end", async || node.outcome().is_some()).await;
    assert_eq!(node.outcome().unwrap().code(), Some(1));
    assert!(node.log().contains("asked twice to stop"), "{}", node.log());
}

#[tokio::test]
async fn its_log_tells_no_secret_and_no_token() {
    let arguments = ["--rule", "private-=open", "--log", "trace"];
    let variables = [("FANFARE_SECRET", SECRET), ("FANFARE_JWT_SECRET", SECRET)];
    let node = Node::start(&arguments, &variables).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({ "sub": "ann", "exp": now.as_secs() + 600 });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    let mut by_header = Door::at(node.address()).bearer(&token).enter().await;
    by_header.subscribe("private-a").await;
    let mut by_message = Door::at(node.address()).enter().await;
    by_message.authenticate(&token).await;
    by_message.subscribe("private-a").await;
    let log = node.log();
    assert!(!log.is_empty());
    for secret in [SECRET, token.as_str()] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn what_is_wrong_ends_the_start_with_one_sentence() {
    let start = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        let ended = within("the end", command.env_remove("REDIS_URL").output()).await;
        let output = ended.unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty(), "it does not listen");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = start(&["--rule", "orders"]).await;
    assert_eq!(
        said,
        "error: the rule \"orders\" must look like PREFIX=history:100,ttl:5m,publish\n"
    );
    let said = start(&["--secret", "short"]).await;
    assert!(
        said.starts_with("error: the signing secret is too short"),
        "{said}"
    );
    let said = start(&["--path", "ws"]).await;
    assert_eq!(said, "error: the path \"ws\" must look like \"/ws\"\n");
    // Nobody listens there, and whoever reads the log is not told the password.
    let said = start(&[
        "--log",
        "error",
        "--redis-url",
        "redis://app:hunter2@127.0.0.1:1/",
    ])
    .await;
    assert!(
        said.starts_with("error: the engine did not start"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}
