//! What a connection may cost the server's memory and the kernel's, and for how long.

use std::fs;
use std::time::Duration;

use fanfare_server::auth::{Authorizer, Caller, Credentials, Denied, Grant, Identity};
use fanfare_server::protocol::ChannelName;
use fanfare_server::{Limits, Server};
use fanfare_tests::eventually;
use fanfare_tests::node::Node;
use fanfare_tests::raw::{RawSocket, TEXT, head};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::Door;
use fanfare_tests::suite::SuiteAuthorizer;
use futures_util::future::join_all;
use serde_json::json;

/// Nobody is anonymous: who shows no token with the handshake has to show one next.
fn members_only() -> fanfare_server::ServerBuilder {
    Server::builder().authorizer(SuiteAuthorizer)
}

#[tokio::test]
async fn before_login_a_message_is_no_larger_than_a_token_and_afterwards_it_is() {
    let server = TestServer::start(members_only()).await;
    let mut stranger = RawSocket::connect(server.address).await;
    // The header alone decides: no byte of the message has arrived.
    stranger.write(&head(true, TEXT, (16 << 10) + 1)).await;
    let (code, reason) = stranger.closed().await.unwrap();
    assert_eq!(
        (code, reason.as_str()),
        (1009, "a message has at most 16384 bytes")
    );

    let mut member = Door::at(server.address).enter().await;
    member.authenticate("user:ann").await;
    let large = "x".repeat(20 << 10);
    member
        .send(json!({ "type": "ping", "id": 1, "more": large }))
        .await;
    member.expect(json!({ "type": "pong" })).await;
    // So it is for one that showed its token with the handshake.
    let mut member = Door::at(server.address).bearer("user:ben").enter().await;
    member
        .send(json!({ "type": "ping", "id": 1, "more": large }))
        .await;
    member.expect(json!({ "type": "pong" })).await;
}

#[tokio::test]
async fn many_strangers_with_an_unfinished_message_cost_little() {
    let variables = [(
        "FANFARE_JWT_SECRET",
        "a secret of more than thirty-two bytes",
    )];
    // Members may send much: it is not the limit for them that holds.
    let node = Node::start(&["--client-payload-max", "1MiB"], &variables).await;
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", node.process_id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() << 10
    };
    let before = resident();
    let strangers = (0..400).map(async |number| {
        let mut socket = RawSocket::connect(node.address()).await;
        // More than a token, which may be refused by now, as it should; and no more than a token.
        let bytes = if number % 2 == 0 { 1_000_000 } else { 16_000 };
        socket.write(&head(true, TEXT, bytes)).await;
        socket.write(&vec![b'x'; bytes as usize - 1]).await;
        socket
    });
    let strangers = join_all(strangers).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes for 400 strangers");
    drop(strangers);
}

/// Lets everybody in and everything through.
struct Open;

#[async_trait::async_trait]
impl Authorizer for Open {
    async fn connect(&self, _: &Credentials<'_>) -> Result<Identity, Denied> {
        Err(Denied::NoCredentials)
    }

    async fn subscribe(&self, _: &Caller, _: &ChannelName) -> Result<Grant, Denied> {
        Ok(Grant::default())
    }
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_is_closed_although_its_outbox_has_room() {
    let mut limits = Limits::default();
    limits.write_deadline = Duration::from_millis(300);
    limits.close_deadline = Duration::from_millis(300);
    let builder = Server::builder().authorizer(Open).allow_anonymous();
    let server = TestServer::start(builder.limits(limits)).await;
    let mut mute = RawSocket::connect_narrow(server.address).await;
    mute.send_json(&json!({ "type": "subscribe", "channel": "big" }))
        .await;
    assert_eq!(mute.receive_json().await["type"], "subscription_succeeded");
    let is_alone = async || server.events.subscriber_count("big").await.unwrap() == 0;
    // More than the kernel's buffers hold, and less than the outbox takes besides.
    let large = "x".repeat(100_000);
    for _ in 0..9 {
        server.events.broadcast("big", "n", &large).await.unwrap();
    }
    eventually("the end of the subscription", is_alone).await;
    let count = async || server.events.connection_count().await.unwrap() == 0;
    eventually("the end of the connection", count).await;
    // No file is open any more, and the kernel still holds what the peer, which is there, has not read.
    assert_eq!(orphans(server.address.port()), 1);
    eventually("the kernel to let go", async || {
        orphans(server.address.port()) == 0
    })
    .await;
    drop(mute);
}

/// How many connections of a port the kernel keeps for what their peers have not taken: FIN-WAIT-1 in proc_net_tcp(5).
fn orphans(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let is_orphan = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let is_local = fields.next().is_some_and(|field| field.ends_with(&local));
        is_local && fields.nth(1) == Some("04")
    };
    table.lines().filter(|line| is_orphan(line)).count()
}
