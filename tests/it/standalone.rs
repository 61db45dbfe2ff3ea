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
    let mut node = Node::start(&["--drain-delay", "0s", "--drain-per-second", "1000"], &[]).await;
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
        node.log().contains("stopping: a signal")
    })
    .await;
    socket.is_quiet().await;
    assert!(node.outcome().is_none());
    node.terminate();
    eventually("the end", async || node.outcome().is_some()).await;
    assert_eq!(node.outcome().unwrap().code(), Some(1));
    assert!(node.log().contains("a second signal"), "{}", node.log());
}

#[tokio::test]
async fn its_log_tells_no_secret_and_no_token() {
    let arguments = ["--rule", "private-=open", "--log", "trace"];
    let variables = [("FANFARE_SECRET", SECRET), ("FANFARE_JWT_SECRET", SECRET)];
    let node = Node::start(&arguments, &variables).await;
    let token = token_of("ann");
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

fn token_of(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({ "sub": user, "exp": now.as_secs() + 600 });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

#[tokio::test]
async fn a_rule_lets_members_change_their_info_and_says_where_there_are_none() {
    let arguments = [
        "--rule",
        "presence-=open,presence-update",
        "--rule",
        "chat-=presence-update",
    ];
    let node = Node::start(&arguments, &[("FANFARE_JWT_SECRET", SECRET)]).await;
    let mut ann = Door::at(node.address())
        .bearer(&token_of("ann"))
        .enter()
        .await;
    ann.subscribe("presence-a").await;
    ann.send(json!({ "type": "presence_update", "channel": "presence-a", "info": "away" }))
        .await;
    let data = json!({ "id": "ann", "info": "away" });
    ann.expect(json!({ "event": "member_updated", "data": data }))
        .await;
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("has no effect"));
    let lines: Vec<&str> = lines.collect();
    let [line] = lines.as_slice() else {
        panic!("{log}")
    };
    assert!(line.contains("WARN") && line.contains("chat-"), "{line}");
}

/// Runs `fanfare token` and answers what it wrote: its status, the token, the complaint.
async fn token(arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(program());
    command.arg("token").args(arguments).env_remove("REDIS_URL");
    command.env("FANFARE_SECRET", SECRET);
    command.env("FANFARE_JWT_SECRET", SECRET);
    let output = within("the end", command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    let is_made = output.status.success();
    (is_made, text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn it_makes_the_tokens_that_it_takes() {
    let variables = [("FANFARE_SECRET", SECRET), ("FANFARE_JWT_SECRET", SECRET)];
    let arguments = ["--allow-anonymous", "--jwt-audience", "realtime"];
    let node = Node::start(&arguments, &variables).await;
    let info = r#"{"name":"Ann"}"#;
    for form in [&[][..], &["--signature"], &["--lasts", "1h"]] {
        let mut socket = Socket::connect(node.address()).await;
        let id = socket.id.clone();
        for channel in ["private-a", "presence-a"] {
            let asked = [
                "--channel",
                channel,
                "--socket-id",
                &id,
                "--user",
                "ann",
                "--info",
                info,
            ];
            let (is_made, said, error) = token(&[&asked[..], form].concat()).await;
            assert!(is_made, "{error}");
            let mut subscribe: serde_json::Value = serde_json::from_str(&said).unwrap();
            subscribe["channel"] = json!(channel);
            let joined = socket.subscribe_with(subscribe).await;
            if channel == "presence-a" {
                let member = json!({ "id": "ann", "info": { "name": "Ann" } });
                assert_eq!(joined["presence"]["members"][0], member);
            }
        }
        socket.close().await;
    }
    let (_, jwt, _) = token(&["--user", "ann", "--jwt-audience", "realtime"]).await;
    let mut by_header = Door::at(node.address()).bearer(&jwt).open().await.unwrap();
    assert_eq!(by_header.greeted().await["user_id"], "ann");
    let (_, other, _) = token(&["--user", "ann"]).await;
    let refused = Door::at(node.address()).bearer(&other).open().await;
    assert_eq!(refused.unwrap_err().status(), 401);
    assert!(
        node.log().contains("aud names no configured audience"),
        "{}",
        node.log()
    );
}

#[tokio::test]
async fn a_token_that_cannot_be_made_is_one_sentence() {
    let id = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    let rows: [(&[&str], &str); 5] = [
        (
            &["--channel", "presence-a", "--socket-id", id],
            "error: a presence channel needs a user: give --user",
        ),
        (&[], "error: a connection token needs a user: give --user"),
        (
            &["--channel", "a", "--socket-id", id, "--secret", "short"],
            "error: the secret cannot be used: a signing secret needs at least 32 bytes",
        ),
        (
            &["--channel", "a"],
            "error: the following required arguments were not provided",
        ),
        (
            &["--channel", "a b", "--socket-id", id],
            "error: invalid value 'a b' for '--channel <NAME>'",
        ),
    ];
    for (arguments, begins) in rows {
        let (is_made, said, error) = token(arguments).await;
        assert!(!is_made && said.is_empty(), "{arguments:?} {said}");
        assert!(error.starts_with(begins), "{error}");
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[tokio::test]
async fn its_log_says_why_a_page_was_refused() {
    let arguments = ["--origin", "https://app.example.com"];
    let node = Node::start(&arguments, &[]).await;
    let door = Door::at(node.address()).header("origin", "http://localhost:5173");
    for _ in 0..20 {
        assert_eq!(door.open().await.unwrap_err().status(), 403);
    }
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("origin refused"));
    let lines: Vec<&str> = lines.collect();
    let [line] = lines.as_slice() else {
        panic!("{log}")
    };
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains("origin=http://localhost:5173"), "{line}");
    assert!(line.contains("this origin is not allowed"), "{line}");
}

#[tokio::test]
async fn what_is_wrong_ends_the_start_with_one_sentence() {
    let start = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments);
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
    for path in ["/health/live", "/health/ready"] {
        let said = start(&["--path", path]).await;
        let taken = format!("error: the path \"{path}\" is that of the WebSocket");
        assert!(said.starts_with(&taken), "{said}");
    }
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
