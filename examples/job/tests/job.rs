//! The job as a process, with a real Redis.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use std::process::Output;
use std::time::Duration;

use fanfare_server::engine::Engine;
use fanfare_server::{ChannelRule, ChannelRules, Server};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::Socket;
use fanfare_tests::{redis, within};
use serde_json::json;
use tokio::process::Command;

async fn run(redis_url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_job"));
    command.args(arguments).env("REDIS_URL", redis_url);
    within("the end of the job", command.output())
        .await
        .unwrap()
}

#[tokio::test]
async fn it_publishes_through_the_redis_of_the_servers() {
    let redis = redis::shared().await;
    let url = format!("{}?prefix={}", redis.url(), redis::prefix("job"));
    for number in 1..=2 {
        let output = run(&url, &["orders", "order.created", r#"{"id":7}"#]).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("published as number {number}\n"));
        assert!(output.status.success());
    }
    let output = run(&url, &["live", "order.created", "{}"]).await;
    assert_eq!(output.stdout, b"published\n", "a channel without history");
    let output = run(&url, &["orders", "order.created", "{id:7}"]).await;
    assert!(!output.status.success(), "that is no JSON");
}

#[tokio::test]
async fn whoever_is_subscribed_at_a_server_gets_it() {
    let redis = redis::shared().await;
    let url = format!("{}?prefix={}", redis.url(), redis::prefix("job"));
    let kept = ChannelRule::default().with_history(100, Duration::from_secs(300));
    let builder = Server::builder()
        .engine(Engine::redis(url.parse().unwrap()))
        .channel_rules(ChannelRules::new().with("orders", kept));
    let server = TestServer::start(builder).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe("orders").await;
    let output = run(&url, &["orders", "order.created", r#"{"id":7}"#]).await;
    assert!(output.status.success());
    socket
        .expect(json!({ "event": "order.created", "data": { "id": 7 }, "offset": 1 }))
        .await;
    server.stop().await;
}
