//! The job as a process, with a real Redis.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use std::process::Output;

use fanfare_tests::{redis, within};
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
