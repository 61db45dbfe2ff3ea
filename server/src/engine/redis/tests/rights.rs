//! Logins of Redis that may not do everything: the start names what is missing, and the documented rights are enough.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, RawJson, SocketId, UserId};
use tokio::time::Instant;

use super::process::RedisProcess;
use super::publish::{ALL, KEPT, channel, keyed, message};
use crate::delivery::{Departure, PublishLevel, Retention};
use crate::engine::redis::{FlowOptions, RedisEngine, RedisOptions};
use crate::engine::{Broker, EngineError, Health, PresenceStore};

const DOCS: &str = include_str!("../../../../../docs/operations.md");

/// The line of docs/operations.md that makes a login, for a prefix.
fn documented(prefix: &str) -> Vec<String> {
    let mut lines = DOCS.lines();
    let line = lines.find(|line| line.starts_with("ACL SETUSER fanfare "));
    let words = line.expect("docs/operations.md has the line").split(' ');
    words.map(|word| word.replace("fanfare:", prefix)).collect()
}

/// A login with the documented rights and then some changes to them; the options that use it.
async fn login(redis: &RedisProcess, changes: &[&str]) -> RedisOptions {
    let options = redis.options();
    let prefix = options.prefix.to_string();
    let mut words = documented(&prefix);
    words.insert(3, "reset".to_owned());
    words.extend(
        changes
            .iter()
            .map(|change| change.replace("PREFIX", &prefix)),
    );
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    redis.run(&words).await.unwrap();
    options.with_credentials(Some("fanfare"), "PASSWORD")
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let redis = RedisProcess::start(&[]).await;
    let options = login(&redis, &[]).await;
    let engine = RedisEngine::new(options.clone());
    engine.start(Arc::new(|_| {})).await.unwrap();
    let other = RedisEngine::new(options);
    other.start(Arc::new(|_| {})).await.unwrap();
    for retention in [KEPT, Retention::new(0, KEPT.ttl), Retention::NONE] {
        engine.publish(message(1), retention).await.unwrap();
    }
    for _ in 0..2 {
        engine.publish(keyed(2, "k"), KEPT).await.unwrap();
        engine
            .publish(keyed(2, "l"), Retention::NONE)
            .await
            .unwrap();
    }
    engine.history(&channel(), ALL, KEPT).await.unwrap();
    engine.clear_history(&channel()).await.unwrap();
    let timeout = Duration::from_millis(50);
    let level = PublishLevel::Replicated {
        replicas: 1,
        timeout,
    };
    let waited = engine.publish(message(3).with_level(level), KEPT).await;
    assert!(
        matches!(waited, Err(EngineError::LevelNotReached { .. })),
        "{waited:?}"
    );
    let room = ChannelName::new("presence-room").unwrap();
    let member = Member {
        id: UserId::new("ann").unwrap(),
        info: RawJson::null(),
    };
    let socket = SocketId::from_bits(1);
    engine.join(&room, socket, member, KEPT).await.unwrap();
    assert_eq!(engine.members(&room, None).await.unwrap().count, 1);
    engine.refresh(&[(room.clone(), socket)]).await.unwrap();
    engine
        .leave(&room, socket, Departure::Goodbye)
        .await
        .unwrap();
    // Both nodes are there, and the other one has nobody to answer.
    let asked = engine.request(bytes::Bytes::from_static(b"?")).await;
    assert!(
        matches!(asked, Err(EngineError::Incomplete { asked: 1, .. })),
        "{asked:?}"
    );
    assert_eq!(engine.health(), Health::Flowing);
}

#[tokio::test]
async fn a_right_that_is_missing_ends_the_start_and_is_named() {
    let redis = RedisProcess::start(&[]).await;
    // (what is changed, the right that is named)
    let rows: [(&[&str], &str); 9] = [
        (&["resetkeys", "~other:*"], "~PREFIX*"),
        (&["resetchannels", "&other:*"], "&PREFIX*"),
        (&["resetchannels", "&PREFIX{*"], "&PREFIX*"),
        (&["resetkeys", "~PREFIX{*"], "~PREFIX*"),
        (&["-xadd"], "+xadd"),
        (&["-publish"], "+publish"),
        (&["-subscribe"], "+subscribe"),
        (&["-eval"], "+eval"),
        (&["-evalsha"], "+evalsha"),
    ];
    for (changes, right) in rows {
        let options = login(&redis, changes).await;
        let right = right.replace("PREFIX", &options.prefix);
        let options = options.with_budget(Duration::from_mins(5));
        let engine = RedisEngine::new(options);
        let starting = engine.start(Arc::new(|_| {}));
        // It is certain at once, and not tried for the five minutes of the budget.
        let refused = tokio::time::timeout(Duration::from_secs(60), starting).await;
        let refused = refused.expect("a sentence");
        let Err(EngineError::Refused { detail, .. }) = refused else {
            panic!("{changes:?}: {refused:?}");
        };
        assert!(detail.contains(&right), "{changes:?}: {detail}");
        assert!(!detail.contains("PASSWORD"), "{detail}");
    }
}

#[tokio::test]
async fn rights_that_vanish_make_the_node_unready_until_they_are_back() {
    let redis = RedisProcess::start(&[]).await;
    let flow = FlowOptions {
        probe_after: Duration::from_millis(200),
        ..FlowOptions::default()
    };
    // (what is taken, what is given, whether something was written before it was missed)
    let rows = [
        ("-xadd", "+xadd", false),
        ("-publish", "+publish", true),
        ("resetkeys", "allkeys", false),
    ];
    for (take, give, is_partial) in rows {
        let engine = RedisEngine::new(login(&redis, &[]).await.with_flow(flow));
        engine.start(Arc::new(|_| {})).await.unwrap();
        engine.publish(message(1), KEPT).await.unwrap();
        let is_well = |health: &Health| *health == Health::Flowing;
        until(&engine, "the start", is_well).await;
        let take_right = ["ACL", "SETUSER", "fanfare", take];
        redis.run(&take_right).await.unwrap();
        let is_refused = |health: &Health| matches!(health, Health::Refused { .. });
        until(&engine, take, is_refused).await;
        let refused = engine.publish(message(2), KEPT).await.unwrap_err();
        let is_honest = match refused {
            EngineError::Unknown { .. } => true,
            EngineError::Refused { .. } => !is_partial,
            _ => false,
        };
        assert!(is_honest, "{take}: {refused:?}");
        let give_right = ["ACL", "SETUSER", "fanfare", give];
        redis.run(&give_right).await.unwrap();
        until(&engine, give, is_well).await;
        engine.publish(message(3), KEPT).await.unwrap();
        engine.close().await;
    }
}

async fn until(engine: &RedisEngine, what: &str, is_so: impl Fn(&Health) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so(&engine.health()) {
        let health = engine.health();
        assert!(Instant::now() < deadline, "after {what}: {health:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
