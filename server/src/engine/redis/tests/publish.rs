//! Publishing and reading on one server.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, IdempotencyKey, RawJson};

use super::process::RedisProcess;
use crate::delivery::{HistoryRange, Publication, Retention};
use crate::engine::Broker;
use crate::engine::redis::RedisEngine;

pub(super) const KEPT: Retention = Retention::new(100, Duration::from_mins(5));

pub(super) const ALL: HistoryRange = HistoryRange::After {
    offset: 0,
    limit: u32::MAX,
};

pub(super) fn channel() -> ChannelName {
    ChannelName::new("c").unwrap()
}

pub(super) fn message(data: impl std::fmt::Display) -> Publication {
    let data = RawJson::trusted(data.to_string());
    Publication::new(channel(), EventName::new("e").unwrap(), data)
}

pub(super) fn keyed(data: impl std::fmt::Display, key: &str) -> Publication {
    message(data).with_key(IdempotencyKey::new(key).unwrap())
}

pub(super) async fn started(redis: &RedisProcess) -> RedisEngine {
    let engine = RedisEngine::new(redis.options());
    engine.start(Arc::new(|_| {})).await.unwrap();
    engine
}

#[tokio::test]
async fn what_was_published_is_kept_in_order() {
    let redis = RedisProcess::start(&[]).await;
    let engine = started(&redis).await;
    for number in 1..=3 {
        let published = engine.publish(message(number), KEPT).await.unwrap();
        assert_eq!(published.position.unwrap().offset, number);
    }
    let history = engine.history(&channel(), ALL, KEPT).await.unwrap();
    let data: Vec<&str> = history
        .entries
        .iter()
        .map(|entry| entry.data.as_str())
        .collect();
    assert_eq!(data, ["1", "2", "3"]);
    assert_eq!(history.entries[2].position, Some(history.top));
}

#[tokio::test]
async fn a_forgotten_script_is_sent_again() {
    let redis = RedisProcess::start(&[]).await;
    let engine = started(&redis).await;
    for _ in 0..2 {
        redis.run(&["SCRIPT", "FLUSH"]).await.unwrap();
        engine.publish(message(1), KEPT).await.unwrap();
        redis.run(&["SCRIPT", "FLUSH"]).await.unwrap();
        engine.publish(message(1), Retention::NONE).await.unwrap();
        redis.run(&["SCRIPT", "FLUSH"]).await.unwrap();
        engine.history(&channel(), ALL, KEPT).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_yields_the_first_result() {
    let redis = RedisProcess::start(&[]).await;
    let engine = started(&redis).await;
    for retention in [KEPT, Retention::NONE] {
        let key = if retention.is_positioned { "a" } else { "b" };
        let first = engine.publish(keyed(1, key), retention).await.unwrap();
        engine.publish(message(2), retention).await.unwrap();
        let again = engine.publish(keyed(3, key), retention).await.unwrap();
        assert!(!first.is_duplicate && again.is_duplicate);
        assert_eq!(first.position, again.position);
    }
}
