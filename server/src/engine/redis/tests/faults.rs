//! Redis goes away, turns replica, stands still, is full, or does not let us in.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::process::RedisProcess;
use super::publish::{ALL, KEPT, channel, keyed, message, started};
use crate::delivery::{PublishLevel, Retention};
use crate::engine::redis::{RedisEngine, RedisOptions};
use crate::engine::{Broker, EngineError};

async fn start(options: RedisOptions) -> RedisEngine {
    let engine = RedisEngine::new(options);
    engine.start(Arc::new(|_| {})).await.unwrap();
    engine
}

async fn kept(engine: &RedisEngine) -> Vec<String> {
    let history = engine.history(&channel(), ALL, KEPT).await.unwrap();
    let data = history
        .entries
        .iter()
        .map(|entry| entry.data.as_str().to_owned());
    data.collect()
}

/// Executes nothing until somebody has given up waiting; what was sent meanwhile is executed afterwards.
async fn stand_still<T>(redis: &RedisProcess, until: impl Future<Output = T>) -> T {
    redis.signal("STOP");
    let given_up = until.await;
    redis.signal("CONT");
    given_up
}

#[tokio::test]
async fn a_demoted_master_refuses_and_its_successor_takes_what_was_tried_meanwhile() {
    let redis = RedisProcess::start(&[]).await;
    let engine = start(redis.options().with_budget(Duration::from_secs(20))).await;
    let short = start(redis.options().with_budget(Duration::from_millis(300))).await;
    redis.run(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    for retention in [KEPT, Retention::NONE] {
        let refused = short.publish(message(1), retention).await;
        assert!(
            matches!(refused, Err(EngineError::Unavailable { .. })),
            "{refused:?}"
        );
    }
    let promote = async {
        redis.run(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    };
    let (live, published, ()) = tokio::join!(
        engine.publish(message(2), Retention::NONE),
        engine.publish(message(3), KEPT),
        promote,
    );
    live.unwrap();
    assert_eq!(published.unwrap().position.unwrap().offset, 1);
    assert_eq!(kept(&engine).await, ["3"]);
}

#[tokio::test]
async fn a_publish_without_an_answer_is_unknown_and_its_key_yields_the_first_result() {
    let redis = RedisProcess::start(&[]).await;
    let deadline = Duration::from_millis(100);
    let options = redis.options().with_deadlines(deadline, deadline);
    let engine = start(options.with_budget(Duration::from_millis(300))).await;
    until(|| engine.publish(keyed(0, "first"), KEPT)).await;
    until(|| engine.publish(keyed(0, "live"), Retention::NONE)).await;
    for retention in [KEPT, Retention::NONE] {
        let key = if retention.is_positioned { "a" } else { "b" };
        let unanswered = stand_still(&redis, engine.publish(keyed(1, key), retention)).await;
        assert!(
            matches!(unanswered, Err(EngineError::Unknown { .. })),
            "{unanswered:?}"
        );
        let again = until(|| engine.publish(keyed(2, key), retention)).await;
        assert!(again.is_duplicate, "it was executed once Redis went on");
        assert_eq!(
            again.position.map(|position| position.offset),
            retention.is_positioned.then_some(2)
        );
    }
    assert_eq!(kept(&engine).await, ["0", "1"]);
}

#[tokio::test]
async fn an_unanswered_publish_is_repeated_where_it_can_be_recognised() {
    let redis = RedisProcess::start(&[]).await;
    let deadline = Duration::from_millis(100);
    let options = redis.options().with_deadlines(deadline, deadline);
    let engine = start(options.with_budget(Duration::from_secs(20))).await;
    engine.publish(message(0), KEPT).await.unwrap();
    // The connection that the first attempt goes out on is retired once that was given up.
    let (soon, channel) = (Instant::now() + deadline * 100, channel());
    let first = engine
        .store
        .commands()
        .connection(soon, &channel)
        .await
        .unwrap();
    let given_up = async {
        while !first.is_lost() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let publishing = engine.publish(message(1), KEPT);
    let (published, ()) = tokio::join!(publishing, stand_still(&redis, given_up));
    let published = published.unwrap();
    assert!(!published.is_duplicate, "the caller published once");
    assert_eq!(published.position.unwrap().offset, 2);
    assert_eq!(kept(&engine).await, ["0", "1"]);

    let pause = ["CLIENT", "PAUSE", "60000", "ALL"];
    redis.run(&pause).await.unwrap();
    let live = engine.publish(message(2), Retention::NONE).await;
    assert!(matches!(live, Err(EngineError::Unknown { .. })), "{live:?}");
}

#[tokio::test]
async fn a_full_redis_takes_nothing_and_says_so_at_once() {
    let redis = RedisProcess::start(&[]).await;
    let engine = started(&redis).await;
    engine.publish(message(1), KEPT).await.unwrap();
    let other = redis.options().with_budget(Duration::from_mins(5));
    redis
        .run(&["CONFIG", "SET", "maxmemory", "100"])
        .await
        .unwrap();
    let full = start(other).await;
    for retention in [KEPT, Retention::new(0, KEPT.ttl), Retention::NONE] {
        let refused = full.publish(keyed(2, "k"), retention).await;
        assert!(
            matches!(refused, Err(EngineError::Full { limit: 100, .. })),
            "{refused:?}"
        );
    }
    assert_eq!(kept(&engine).await, ["1"], "reading goes on");
    redis
        .run(&["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    let published = full.publish(keyed(3, "k"), KEPT).await.unwrap();
    assert!(!published.is_duplicate);
}

#[tokio::test]
async fn too_few_replicas_refuse_publishing_but_not_reading() {
    let redis = RedisProcess::start(&[]).await;
    let engine = start(redis.options().with_budget(Duration::from_mins(5))).await;
    engine.publish(message(1), KEPT).await.unwrap();
    redis
        .run(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await
        .unwrap();
    for retention in [KEPT, Retention::NONE] {
        let refused = engine.publish(message(2), retention).await;
        assert!(
            matches!(refused, Err(EngineError::Refused { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(kept(&engine).await, ["1"]);
}

#[tokio::test]
async fn a_restart_of_redis_is_no_error_for_who_publishes_afterwards() {
    let mut redis = RedisProcess::start(&[["appendonly", "yes"], ["appendfsync", "always"]]).await;
    let engine = start(redis.options().with_budget(Duration::from_secs(20))).await;
    engine.publish(message(1), KEPT).await.unwrap();
    redis.restart().await;
    engine.publish(message(2), Retention::NONE).await.unwrap();
    let published = engine.publish(message(3), KEPT).await.unwrap();
    assert_eq!(published.position.unwrap().offset, 2, "the log was kept");
}

#[tokio::test]
async fn a_wrong_password_is_one_clear_error_without_the_password() {
    let redis = RedisProcess::start(&[["requirepass", "right"]]).await;
    let url = |login: &str| format!("redis://{login}@{}", redis.address());
    for login in [":sesame", "sesame:sesame"] {
        let options: RedisOptions = url(login).parse().unwrap();
        let engine = RedisEngine::new(options.with_budget(Duration::from_mins(5)));
        let error = engine.start(Arc::new(|_| {})).await.unwrap_err();
        assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("127.0.0.1"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
    let nobody: RedisOptions = format!("redis://{}", redis.address()).parse().unwrap();
    let error = RedisEngine::new(nobody)
        .start(Arc::new(|_| {}))
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
    let right: RedisOptions = url(":right").parse().unwrap();
    start(right).await.publish(message(1), KEPT).await.unwrap();
    let credentials: RedisOptions = format!("redis://{}", redis.address()).parse().unwrap();
    start(credentials.with_credentials(None::<String>, "right")).await;
}

#[tokio::test]
async fn nobody_at_home_is_said_when_the_budget_is_used_up() {
    let options: RedisOptions = "redis://127.0.0.1:1".parse().unwrap();
    let options = options.with_budget(Duration::from_millis(200));
    let error = RedisEngine::new(options)
        .start(Arc::new(|_| {}))
        .await
        .unwrap_err();
    assert!(
        matches!(error, EngineError::Unavailable { .. }),
        "{error:?}"
    );
    let silent = RedisProcess::start(&[]).await;
    let deadline = Duration::from_millis(300);
    let options = silent.options().with_deadlines(deadline, deadline);
    let engine = start(options.with_budget(Duration::from_millis(1_500))).await;
    silent.signal("STOP");
    let first = engine.publish(message(1), Retention::NONE).await;
    assert!(
        matches!(first, Err(EngineError::Unknown { .. })),
        "{first:?}"
    );
    // Nothing is sent any more where nobody answers.
    let second = engine.publish(message(2), Retention::NONE).await;
    assert!(
        matches!(second, Err(EngineError::Unavailable { .. })),
        "{second:?}"
    );
    silent.signal("CONT");
}

#[tokio::test]
async fn a_cluster_is_not_taken_for_a_single_server_nor_the_other_way_round() {
    let part = RedisProcess::start(&[["cluster-enabled", "yes"]]).await;
    let error = RedisEngine::new(part.options())
        .start(Arc::new(|_| {}))
        .await
        .unwrap_err();
    assert!(
        matches!(error, EngineError::Unsupported { .. }),
        "{error:?}"
    );
    let single = RedisProcess::start(&[]).await;
    let url = format!("redis+cluster://{}", single.address());
    let options: RedisOptions = url.parse().unwrap();
    let error = RedisEngine::new(options)
        .start(Arc::new(|_| {}))
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_to_be_on_disk_is_promised_only_where_redis_writes_it() {
    let timeout = Duration::from_secs(5);
    let sent = |number| message(number).with_level(PublishLevel::Fsynced { timeout });
    let everysec = RedisProcess::start(&[["appendonly", "yes"]]).await;
    let engine = started(&everysec).await;
    let refused = engine.publish(sent(1), KEPT).await;
    let has_waitaof = refused.is_ok();
    assert!(
        has_waitaof || matches!(refused, Err(EngineError::Unsupported { .. })),
        "{refused:?}"
    );
    if !has_waitaof {
        assert_eq!(kept(&engine).await, [""; 0], "nothing was published");
    }
    let always = [["appendonly", "yes"], ["appendfsync", "always"]];
    let always = RedisProcess::start(&always).await;
    let engine = started(&always).await;
    engine.publish(sent(1), KEPT).await.unwrap();
    engine.publish(sent(2), Retention::NONE).await.unwrap();
    let nothing = RedisProcess::start(&[["appendfsync", "always"]]).await;
    let refused = started(&nothing).await.publish(sent(1), KEPT).await;
    assert!(
        matches!(refused, Err(EngineError::Unsupported { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_may_have_been_published_is_not_called_impossible_by_a_later_attempt() {
    let redis = RedisProcess::start(&[["appendonly", "yes"]]).await;
    let deadline = Duration::from_millis(200);
    let options = redis.options().with_deadlines(deadline, deadline);
    let engine = start(options.with_budget(Duration::from_secs(20))).await;
    let timeout = Duration::from_secs(5);
    let sent = |number| message(number).with_level(PublishLevel::Fsynced { timeout });
    if engine.publish(sent(1), KEPT).await.is_err() {
        // Before version 7.2 the disk is asked about by the settings alone: they must promise it.
        let always = ["CONFIG", "SET", "appendfsync", "always"];
        redis.run(&always).await.unwrap();
        engine.publish(sent(1), KEPT).await.unwrap();
    }
    // Questions are answered, writes are not: the first attempt may have been executed.
    let pause = ["CLIENT", "PAUSE", "60000", "WRITE"];
    redis.run(&pause).await.unwrap();
    let change = async {
        until_blocked(&redis).await;
        // From now on nobody can tell when something is on disk.
        redis.run(&["CONFIG", "SET", "appendonly", "no"]).await
    };
    let (outcome, changed) = tokio::join!(engine.publish(sent(2), KEPT), change);
    changed.unwrap();
    assert!(
        matches!(outcome, Err(EngineError::Unknown { .. })),
        "{outcome:?}"
    );
}

/// Waits until a call is held up by a pause.
async fn until_blocked(redis: &RedisProcess) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let info = redis.run(&["INFO", "clients"]).await.unwrap();
        let info: String = redis::from_redis_value(info).unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("blocked_clients:"));
        if line.is_some_and(|count| count.trim() != "0") {
            return;
        }
        assert!(Instant::now() < deadline, "no call is held up");
    }
}

#[tokio::test]
async fn without_replicas_a_message_is_accepted_and_not_confirmed() {
    let redis = RedisProcess::start(&[]).await;
    let engine = started(&redis).await;
    let level = PublishLevel::Replicated {
        replicas: 1,
        timeout: Duration::from_millis(50),
    };
    // More at once than there are connections for it.
    let sent = (0..40).map(|number| engine.publish(message(number).with_level(level), KEPT));
    for outcome in futures_util::future::join_all(sent).await {
        let is_told = matches!(
            outcome,
            Err(EngineError::LevelNotReached {
                position: Some(_),
                ..
            })
        );
        assert!(is_told, "{outcome:?}");
    }
    assert_eq!(kept(&engine).await.len(), 40);
}

#[tokio::test]
async fn a_level_may_wait_longer_than_a_command_takes() {
    let redis = RedisProcess::start(&[]).await;
    let command = Duration::from_millis(300);
    let options = redis.options();
    let connect = options.connect_deadline;
    let engine = RedisEngine::new(options.with_deadlines(connect, command));
    engine.start(Arc::new(|_| {})).await.unwrap();
    let level = PublishLevel::Replicated {
        replicas: 1,
        timeout: command * 3,
    };
    let started = Instant::now();
    let outcome = engine.publish(message(1).with_level(level), KEPT).await;
    assert!(
        matches!(outcome, Err(EngineError::LevelNotReached { .. })),
        "{outcome:?}"
    );
    // Redis counts in turns of its own clock.
    let waited = started.elapsed();
    assert!(waited > command * 2, "{waited:?}");
}

#[tokio::test]
async fn who_stops_waiting_for_replicas_leaves_no_connection_that_still_waits() {
    let redis = RedisProcess::start(&[]).await;
    let engine = started(&redis).await;
    let waiting = |timeout| {
        message(1).with_level(PublishLevel::Replicated {
            replicas: 1,
            timeout,
        })
    };
    let is_blocked = async || {
        let info = redis.run(&["INFO", "clients"]).await.unwrap();
        let info: String = redis::from_redis_value(info).unwrap();
        info.contains("blocked_clients:1")
    };
    let blocked = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_blocked().await {
            assert!(Instant::now() < deadline, "nobody waits for replicas");
        }
    };
    tokio::select! {
        outcome = engine.publish(waiting(Duration::from_mins(10)), KEPT) => {
            panic!("there are no replicas: {outcome:?}")
        }
        () = blocked => {}
    }
    let next = engine
        .publish(waiting(Duration::from_millis(50)), KEPT)
        .await;
    assert!(
        matches!(next, Err(EngineError::LevelNotReached { .. })),
        "{next:?}"
    );
}

#[tokio::test]
async fn listening_that_redis_refuses_is_asked_for_a_few_times() {
    let redis = RedisProcess::start(&[]).await;
    let options = redis.options().with_budget(Duration::from_secs(1));
    let probes = format!("&{}~{{probe:*", options.prefix);
    let only_probes = ["ACL", "SETUSER", "default", "resetchannels", &probes];
    // What the start tries besides may be listened to, and what nodes say to each other may not.
    let tried = [
        format!("&{}{{rights:*", options.prefix),
        format!("&{}~{{rights:*", options.prefix),
        format!("&{}~{{nodes}}:questions", options.prefix),
    ];
    let tried = tried.iter().map(String::as_str);
    let rights: Vec<&str> = only_probes.into_iter().chain(tried).collect();
    redis.run(&rights).await.unwrap();
    let refused = RedisEngine::new(options).start(Arc::new(|_| {})).await;
    assert!(
        matches!(refused, Err(EngineError::Unavailable { .. })),
        "{refused:?}"
    );
    let stats = redis.run(&["INFO", "commandstats"]).await.unwrap();
    let stats: String = redis::from_redis_value(stats).unwrap();
    let mut lines = stats.lines();
    let line = lines.find(|line| line.starts_with("cmdstat_subscribe:"));
    let count = line.and_then(|line| line.split("rejected_calls=").nth(1)?.split(',').next());
    let count: u32 = count.unwrap().parse().unwrap();
    assert!((1..=10).contains(&count), "{stats}");
}

#[tokio::test]
async fn a_closed_engine_refuses_everything() {
    let redis = RedisProcess::start(&[]).await;
    let early = RedisEngine::new(redis.options());
    let refused = early.publish(message(1), KEPT).await;
    assert!(
        matches!(refused, Err(EngineError::Unavailable { .. })),
        "{refused:?}"
    );
    let engine = started(&redis).await;
    engine.close().await;
    engine.close().await;
    let refused = engine.publish(message(1), KEPT).await;
    assert!(
        matches!(refused, Err(EngineError::Unavailable { .. })),
        "{refused:?}"
    );
}

/// Tries until it succeeds.
async fn until<T, F: Future<Output = Result<T, EngineError>>>(attempt: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}
