//! Scenarios for faults of the scripts that the model cannot meet: they need time, a replica, or a long way.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::Position;
use redis::Value;
use tokio::time::Instant;

use super::model::{Broken, run_publish};
use super::process::RedisProcess;
use super::publish::{ALL, KEPT, channel, keyed, message};
use crate::delivery::{PublishLevel, Retention};
use crate::engine::redis::RedisEngine;
use crate::engine::redis::channel::envelope::position;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::channel::{history, publish};
use crate::engine::redis::connection::scripts::Scripts;
use crate::engine::tag::tag_after;
use crate::engine::{Broker, EngineError};

type Outcome = Result<(), Broken>;

/// A busy channel's messages go one by one, each at its own age.
pub(super) async fn messages_go_by_their_own_age(
    redis: &RedisProcess,
    scripts: &Scripts,
) -> Outcome {
    let store = ChannelStore::new(redis.options(), scripts.clone());
    let retention = Retention::new(1_000, Duration::from_millis(600));
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut begins = 1;
    // One message more whenever the history is read: Redis never takes the channel for a quiet one.
    for number in 1.. {
        let sent_at = Instant::now();
        let sent = publish::publish(&store, &message(number), retention).await;
        let newest = sent.map_err(|error| error.to_string())?.position;
        let read = history::read(&store, &channel(), ALL, retention).await;
        let read = read.map_err(|error| error.to_string())?;
        // On a busy machine it may have been quiet after all: then everything goes at once, and that shows nothing.
        if sent_at.elapsed() >= retention.ttl {
            continue;
        }
        let offsets = read.entries.iter().filter_map(|entry| entry.position);
        let offsets: Vec<u64> = offsets.map(|position| position.offset).collect();
        let last = read.entries.last().and_then(|entry| entry.position);
        if last != newest {
            return Err(format!(
                "the newest message {newest:?} is gone, {last:?} is there"
            ));
        }
        match offsets.as_slice() {
            [only] => begins = *only,
            [first, ..] if *first > begins => return Ok(()),
            _ if Instant::now() > deadline => {
                return Err("the first message does not go".to_owned());
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A repetition is not confirmed by replicas that never got what it repeats.
///
/// Before version 7.2, Redis waits for all that any connection wrote before; from then on for the own connection's writes only.
pub(super) async fn a_repetition_waits_for_replicas_too(scripts: &Scripts) -> Outcome {
    let master = RedisProcess::start(&[]).await;
    let replica = RedisProcess::start(&[]).await;
    let port = master.port().to_string();
    replica
        .run(&["REPLICAOF", "127.0.0.1", &port])
        .await
        .unwrap();
    replica.until_replicating().await;
    let engine = RedisEngine::with_scripts(master.options(), scripts.clone());
    engine
        .start(Arc::new(|_| {}))
        .await
        .map_err(|error| error.to_string())?;
    let level = PublishLevel::Replicated {
        replicas: 1,
        timeout: Duration::from_millis(200),
    };
    let sent = |number: u32| keyed(number, "k").with_level(level);
    let refused = |outcome: &Result<_, EngineError>| {
        matches!(
            outcome,
            Err(EngineError::LevelNotReached {
                position: Some(_),
                ..
            })
        )
    };
    replica.signal("STOP");
    let first = engine.publish(sent(1), KEPT).await;
    // The connection that waited is reused: what it wrote itself was never confirmed, either.
    let again = engine.publish(sent(2), KEPT).await;
    let others: Vec<_> = {
        let waits = (0..4).map(|_| engine.publish(sent(3), KEPT));
        futures_util::future::join_all(waits).await
    };
    replica.signal("CONT");
    for outcome in [&first, &again].into_iter().chain(&others) {
        if !refused(outcome) {
            return Err(format!("without a replica: {outcome:?}"));
        }
    }
    let patient = PublishLevel::Replicated {
        replicas: 1,
        timeout: Duration::from_secs(10),
    };
    let last = engine
        .publish(keyed(4, "k").with_level(patient), KEPT)
        .await;
    match last {
        Ok(published) if published.is_duplicate => Ok(()),
        other => Err(format!("with the replica back: {other:?}")),
    }
}

/// Who waits for replicas or the disk has something written to wait for, also when all of it stood already.
pub(super) async fn a_repetition_that_waits_writes(
    redis: &RedisProcess,
    scripts: &Scripts,
) -> Outcome {
    let store = ChannelStore::new(redis.options(), scripts.clone());
    let level = PublishLevel::Replicated {
        replicas: 0,
        timeout: Duration::from_secs(1),
    };
    for (key, retention) in [("a", KEPT), ("b", Retention::NONE)] {
        for is_repetition in [false, true] {
            let before = writes(redis).await;
            let message = keyed(1, key).with_level(level);
            let sent = publish::publish(&store, &message, retention).await;
            let sent = sent.map_err(|error| error.to_string())?;
            if sent.is_duplicate != is_repetition || writes(redis).await == before {
                return Err(format!("{retention:?}: {sent:?} without a write"));
            }
        }
    }
    for repetition in ["", "1"] {
        let before = writes(redis).await;
        run_publish(&store, 0, 0xabc, repetition, KEPT).await?;
        // Where the channel stands may be forgotten by then.
        let position = store.keys().position(&channel());
        redis.run(&["DEL", &position]).await.unwrap();
        if writes(redis).await <= before + u64::from(repetition.is_empty()) {
            return Err("a known message is answered without a write".to_owned());
        }
    }
    Ok(())
}

/// How much Redis has passed on to its replicas and its log, or would have.
async fn writes(redis: &RedisProcess) -> u64 {
    let mut info = redis::cmd("INFO");
    let info = info.arg("persistence");
    let info: String = info.query_async(&mut redis.connect().await).await.unwrap();
    let count =
        crate::engine::redis::connection::startup::field(&info, "rdb_changes_since_last_save");
    count.and_then(|count| count.parse().ok()).unwrap()
}

/// An unanswered publication that newer ones may have pushed out of the history is not sent again.
pub(super) async fn what_was_pushed_out_is_not_sent_again(
    redis: &RedisProcess,
    scripts: &Scripts,
) -> Outcome {
    let store = ChannelStore::new(redis.options(), scripts.clone());
    let retention = Retention::new(20, Duration::from_mins(5));
    run_publish(&store, 0, 0xabc, "", retention).await?;
    for number in 1..=20 {
        let sent = publish::publish(&store, &message(number), retention).await;
        sent.map_err(|error| error.to_string())?;
    }
    let again = run_publish(&store, 0, 0xabc, "1", retention).await?;
    if again != Value::BulkString(b"UNTOLD".to_vec()) {
        return Err(format!("a repetition is answered {again:?}"));
    }
    // As long as it is kept it is found, however many came after it.
    let roomy = Retention::new(500, retention.ttl);
    let first = run_publish(&store, 0, 0xdef, "", roomy).await?;
    for number in 1..=200 {
        let sent = publish::publish(&store, &message(number), roomy).await;
        sent.map_err(|error| error.to_string())?;
    }
    let again = run_publish(&store, 0, 0xdef, "1", roomy).await?;
    if again != first {
        return Err(format!("{first:?} is answered {again:?} when repeated"));
    }
    Ok(())
}

/// Redis reads a first attempt after the repetition that was to replace it.
pub(super) async fn an_overtaken_attempt_is_too_late(
    redis: &RedisProcess,
    scripts: &Scripts,
) -> Outcome {
    let store = ChannelStore::new(redis.options(), scripts.clone());
    let roomy = Retention::new(1_000, Duration::from_mins(5));
    let id = |number: usize| u64::MAX - number as u64;
    let publish =
        async |number, repetition| run_publish(&store, number, id(number), repetition, roomy).await;
    let is_published = |answer: &Value| matches!(answer, Value::Array(_));
    for number in 0..REPEATED {
        if !is_published(&publish(number, "1").await?) {
            return Err("a repetition whose first attempt was lost is not published".to_owned());
        }
    }
    for number in 0..REPEATED {
        if is_published(&publish(number, "").await?) {
            return Err(format!("message {number} is there twice"));
        }
    }
    if !is_published(&publish(REPEATED, "").await?) {
        return Err("another message is taken for one of them".to_owned());
    }
    for number in REPEATED + 1..3 * REPEATED {
        publish(number, "1").await?;
    }
    let position = store.keys().position(&channel());
    let word = redis.run(&["HGET", &position, "r"]).await.unwrap();
    let word: String = redis::from_redis_value(word).unwrap();
    if word.len() > 17 * REPEATED + 1 {
        return Err(format!("{} bytes are left behind", word.len()));
    }
    Ok(())
}

/// A master is replaced by one that lacks its last messages, and some of these are repeated there: no position of the one is
/// a position of the other, and a repetition is still known by its id.
pub(super) async fn a_position_names_one_history(
    redis: &RedisProcess,
    scripts: &Scripts,
) -> Outcome {
    let store = ChannelStore::new(redis.options(), scripts.clone());
    let keys = store.keys();
    let names = [keys.position(&channel()), keys.stream(&channel())];
    let publish = async |id, repetition| {
        let answer = run_publish(&store, 0, id, repetition, KEPT).await?;
        published_at(&answer).ok_or_else(|| format!("answered {answer:?}"))
    };
    let [before, x, a, b, c] = [1, 2, 3, 4, 5];
    let common = publish(before, "").await?;
    let copies = copy(redis, &names).await;
    let mut old = Vec::new();
    for id in [x, a, b] {
        old.push(publish(id, "").await?);
    }
    restore(redis, &names, copies).await;
    let (mut at, mut new) = (common, Vec::new());
    for (id, repetition) in [(a, "1"), (c, ""), (b, "1")] {
        let next = publish(id, repetition).await?;
        if next.tag != tag_after(at.tag, id) || next.offset != at.offset + 1 {
            return Err(format!("{next:?} comes after {at:?}"));
        }
        at = next;
        new.push(next);
    }
    let again = publish(a, "1").await?;
    if again != new[0] {
        return Err(format!("{:?} is answered {again:?} when repeated", new[0]));
    }
    match old.iter().find(|old| new.contains(old)) {
        Some(shared) => Err(format!("{shared:?} is of two histories")),
        None => Ok(()),
    }
}

fn published_at(answer: &Value) -> Option<Position> {
    match answer {
        Value::Array(parts) => position(parts.first()?, parts.get(1)?, parts.get(2)?),
        _ => None,
    }
}

async fn copy(redis: &RedisProcess, names: &[String]) -> Vec<Vec<u8>> {
    let mut copies = Vec::new();
    for name in names {
        let mut dump = redis::cmd("DUMP");
        let dump = dump.arg(name).query_async(&mut redis.connect().await).await;
        copies.push(dump.unwrap());
    }
    copies
}

async fn restore(redis: &RedisProcess, names: &[String], copies: Vec<Vec<u8>>) {
    for (name, copy) in names.iter().zip(copies) {
        let mut restore = redis::cmd("RESTORE");
        restore.arg(name).arg(0).arg(copy).arg("REPLACE");
        let restored = restore.exec_async(&mut redis.connect().await).await;
        restored.unwrap();
    }
}

/// Without memory nothing is published, whatever the channel keeps and wherever it stands.
pub(super) async fn a_full_redis_takes_nothing(scripts: &Scripts) -> Outcome {
    let redis = RedisProcess::start(&[]).await;
    let store = ChannelStore::new(redis.options(), scripts.clone());
    let unkept = Retention::new(0, KEPT.ttl);
    for is_used in [false, true] {
        let memory_max = |bytes| ["CONFIG", "SET", "maxmemory", bytes];
        redis.run(&memory_max("100")).await.unwrap();
        for retention in [KEPT, unkept, Retention::NONE] {
            let refused = publish::publish(&store, &keyed(1, "k"), retention).await;
            if !matches!(refused, Err(EngineError::Full { .. })) {
                return Err(format!("used {is_used}, {retention:?}: {refused:?}"));
            }
        }
        redis.run(&memory_max("0")).await.unwrap();
        let published = publish::publish(&store, &message(2), KEPT).await;
        published.map_err(|error| error.to_string())?;
    }
    let read = history::read(&store, &channel(), ALL, KEPT).await;
    match read.map_err(|error| error.to_string())?.entries.len() {
        2 => Ok(()),
        count => Err(format!("{count} messages are kept of 2")),
    }
}

/// 64: as many repetitions as are remembered.
const REPEATED: usize = 64;
