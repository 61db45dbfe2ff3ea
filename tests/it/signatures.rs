//! Channel tokens that other backends make: the samples and vectors of docs/protocol.md, run and shown for real.

use std::fs;
use std::process::Command;

use fanfare_server::protocol::SocketId;
use fanfare_server::{ChannelRule, ChannelRules, Server};
use fanfare_tests::eventually;
use fanfare_tests::process::Folder;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Socket, has};
use serde_json::json;

const SECRET: &str = "a secret of at least thirty-two bytes";
const SOCKET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
const PAGE: &str = include_str!("../../docs/protocol.md");

/// A row of the page's table: channel, member data, `auth`.
struct Vector {
    channel: &'static str,
    channel_data: Option<&'static str>,
    auth: &'static str,
}

fn vectors() -> Vec<Vector> {
    let rows = PAGE.lines().filter(|line| line.contains("| `fanfare:"));
    let vectors: Vec<Vector> = rows
        .map(|row| {
            let cells: Vec<&str> = row
                .split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect();
            Vector {
                channel: cells[1],
                channel_data: Some(cells[2]).filter(|data| !data.is_empty()),
                auth: cells[3],
            }
        })
        .collect();
    assert_eq!(vectors.len(), 3);
    vectors
}

/// The page's sample in a language.
fn sample(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let mut parts = PAGE.split(begin.as_str()).skip(1);
    let (sample, _) = parts.next().unwrap().split_once("```").unwrap();
    assert!(parts.next().is_none(), "one sample in {language}");
    sample
}

/// Runs a program over the vectors: each as `[socket_id, channel, channel_data]` in JSON, answered with one `auth` per line.
fn run(program: &str, file: &str, text: &str) {
    let folder = Folder::new("signatures").unwrap();
    let path = folder.path().join(file);
    fs::write(&path, text).unwrap();
    let asked: Vec<_> = vectors()
        .iter()
        .map(|vector| json!([SECRET, SOCKET, vector.channel, vector.channel_data]))
        .collect();
    let output = Command::new(program)
        .arg(&path)
        .arg(json!(asked).to_string())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let expected: Vec<_> = vectors().iter().map(|vector| vector.auth).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_sample_for_node_makes_the_vectors() {
    let main = "for (const [secret, ...claims] of JSON.parse(process.argv[2])) console.log(sign(secret, ...claims.filter((claim) => claim !== null)));";
    run("node", "sign.mjs", &format!("{}\n{main}\n", sample("js")));
}

#[test]
fn the_sample_for_python_makes_the_vectors() {
    let main = "import json, sys\nfor claims in json.loads(sys.argv[1]):\n    print(sign(*claims))";
    run(
        "python3",
        "sign.py",
        &format!("{}\n{main}\n", sample("python")),
    );
}

#[test]
fn the_vectors_are_signatures_of_ours() {
    use fanfare_server::auth::{ChannelTokens, TokenClaims};
    use fanfare_server::protocol::ChannelName;
    let tokens = ChannelTokens::new(SECRET).unwrap();
    for vector in vectors() {
        let channel = ChannelName::new(vector.channel).unwrap();
        let claims = TokenClaims::new(SOCKET.parse().unwrap(), &channel)
            .with_channel_data(vector.channel_data);
        assert_eq!(tokens.sign_plain(&claims).as_deref(), Some(vector.auth));
        let verified = tokens.verify(vector.auth, &claims, std::time::SystemTime::now());
        let user = verified.unwrap().user;
        assert_eq!(user.is_some(), vector.channel_data.is_some());
    }
}

/// Signs as the sample for Python does, for a connection that exists.
fn sign(socket: &Socket, channel: &str, channel_data: Option<&str>) -> serde_json::Value {
    use fanfare_server::auth::{ChannelTokens, TokenClaims};
    use fanfare_server::protocol::ChannelName;
    let tokens = ChannelTokens::new(SECRET).unwrap();
    let name = ChannelName::new(channel).unwrap();
    let claims =
        TokenClaims::new(socket.id.parse().unwrap(), &name).with_channel_data(channel_data);
    let auth = tokens.sign_plain(&claims).unwrap();
    let mut subscribe = json!({ "channel": channel, "auth": auth });
    if let Some(data) = channel_data {
        subscribe["channel_data"] = json!(data);
    }
    subscribe
}

async fn start() -> TestServer {
    let publish = ChannelRule::default().with_client_publish();
    let rules = ChannelRules::new().with("presence-", publish);
    TestServer::start(Server::builder().channel_rules(rules).secret(SECRET)).await
}

#[tokio::test]
async fn a_signature_lets_a_connection_in_and_names_its_user() {
    let server = start().await;
    let mut socket = Socket::connect(server.address).await;
    socket
        .subscribe_with(sign(&socket, "private-a", None))
        .await;
    let data = r#"{"user_id":7,"user_info":{"name":"Ann"}}"#;
    let joined = socket
        .subscribe_with(sign(&socket, "presence-a", Some(data)))
        .await;
    let member = json!({ "id": "7", "info": { "name": "Ann" } });
    assert_eq!(joined["presence"]["members"][0], member);
    assert_eq!(joined["user_id"], "7");
    // One connection, one user, whatever was signed.
    let other = sign(&socket, "presence-b", Some(r#"{"user_id":8}"#));
    is_refused(&mut socket, other, 4327).await;
    let user = "7".parse().unwrap();
    assert_eq!(server.events.disconnect_user(&user).await.unwrap(), 1);
    socket
        .expect(json!({ "type": "disconnect", "code": 4005 }))
        .await;
}

#[tokio::test]
async fn a_signature_counts_for_its_connection_channel_and_member_alone() {
    let server = start().await;
    let mut socket = Socket::connect(server.address).await;
    let other = Socket::connect(server.address).await;
    let data = r#"{"user_id":"7"}"#;
    let mut altered = sign(&socket, "presence-a", Some(data));
    altered["channel_data"] = json!(r#"{"user_id":"8"}"#);
    let mut without = sign(&socket, "presence-a", Some(data));
    without["channel_data"] = json!(null);
    let mut elsewhere = sign(&socket, "private-a", None);
    elsewhere["channel"] = json!("private-b");
    for wrong in [
        sign(&other, "private-a", None),
        elsewhere,
        altered,
        without,
        json!({ "channel": "private-a", "auth": "fanfare:" }),
    ] {
        is_refused(&mut socket, wrong, 4303).await;
    }
}

#[tokio::test]
async fn who_was_removed_does_not_come_back_with_a_signature() {
    let server = start().await;
    let mut socket = Socket::connect(server.address).await;
    let id: SocketId = socket.id.parse().unwrap();
    let signed = sign(&socket, "private-a", None);
    socket.subscribe_with(signed.clone()).await;
    server.events.unsubscribe(id, "private-a").await.unwrap();
    socket
        .expect(json!({ "type": "unsubscribed", "code": 4318 }))
        .await;
    is_refused(&mut socket, signed.clone(), 4302).await;
    server.events.subscribe(id, "private-a").await.unwrap();
    socket
        .expect(json!({ "type": "subscription_succeeded" }))
        .await;
}

#[tokio::test]
async fn a_signature_that_a_disconnected_user_has_not_shown_yet_does_not_count() {
    let server = start().await;
    let mut socket = Socket::connect(server.address).await;
    let signed = sign(&socket, "presence-a", Some(r#"{"user_id":"7"}"#));
    let user = "7".parse().unwrap();
    assert_eq!(server.events.disconnect_user(&user).await.unwrap(), 0);
    is_refused(&mut socket, signed, 4303).await;
    // A connection that is opened afterwards has other signatures.
    let mut socket = Socket::connect(server.address).await;
    let signed = sign(&socket, "presence-a", Some(r#"{"user_id":"7"}"#));
    socket.subscribe_with(signed).await;
    eventually("the member", async || {
        server
            .events
            .presence_members("presence-a")
            .await
            .unwrap()
            .len()
            == 1
    })
    .await;
}

async fn is_refused(socket: &mut Socket, mut subscribe: serde_json::Value, code: u16) {
    subscribe["type"] = json!("subscribe");
    socket.send(subscribe).await;
    let reply = socket.receive().await;
    let refused = json!({ "type": "subscription_error", "code": code });
    assert!(has(&reply, &refused), "{reply}");
}
