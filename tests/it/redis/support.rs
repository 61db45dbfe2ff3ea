//! The servers that the other tests here stand on.

use fanfare_tests::redis;

#[tokio::test]
async fn a_shared_server_takes_scripts_that_publish() {
    let redis = redis::shared().await;
    let key = redis::prefix("support") + "key";
    let script = "return redis.call('PUBLISH', KEYS[1], ARGV[1])";
    let receivers = redis.command(&["EVAL", script, "1", &key, "payload"]).await;
    assert_eq!(receivers.number(), Some(0));
}
