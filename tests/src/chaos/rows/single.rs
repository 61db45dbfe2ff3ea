//! What happens to a single Redis.

use std::time::Duration;

use tokio::time::Instant;

use super::super::stage::Stage;
use super::super::store::is_well;
use crate::eventually;

/// Kills Redis and starts it again with its append-only file.
pub(super) async fn restarts(stage: &mut Stage) -> Vec<String> {
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let fault = stage.trouble("kill Redis");
        stage.store.single().kill();
        let away = Duration::from_millis(stage.random.u64(200..3_000));
        stage.work(away).await;
        stage.store.single().restart().await;
        stage.until_ready().await;
        stage.recorder.healed(fault);
        stage.work(Duration::from_secs(3)).await;
    }
    Vec::new()
}

/// Kills Redis and starts it again with nothing.
pub(super) async fn restarts_empty(stage: &mut Stage) -> Vec<String> {
    stage.recorder.store_may_lose();
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let fault = stage.trouble("kill Redis, which keeps nothing");
        stage.store.single().kill();
        let away = Duration::from_millis(stage.random.u64(100..2_000));
        stage.work(away).await;
        stage.store.single().restart_empty().await;
        stage.until_ready().await;
        stage.recorder.healed(fault);
        stage.work(Duration::from_secs(6)).await;
    }
    Vec::new()
}

/// Starts Redis again with what it held some time ago.
pub(super) async fn restarts_from_old(stage: &mut Stage) -> Vec<String> {
    stage.recorder.store_may_lose();
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let snapshot = stage.store.single().snapshot().await;
        let later = Duration::from_millis(stage.random.u64(1_000..4_000));
        stage.work(later).await;
        let fault = stage.trouble("start Redis again with an old snapshot");
        stage.store.single().restart_from(&snapshot).await;
        stage.until_ready().await;
        stage.recorder.healed(fault);
        stage.work(Duration::from_secs(4)).await;
    }
    Vec::new()
}

/// Loses the last messages of a channel and publishes exactly as many new ones, so that offsets alone look right.
pub(super) async fn as_many_new_as_lost(stage: &mut Stage) -> Vec<String> {
    stage.recorder.store_may_lose();
    stage.silence().await;
    let Some(channel) = stage.config.load.kept_channels().first().cloned() else {
        return vec!["there is no channel with history".to_owned()];
    };
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let snapshot = stage.store.single().snapshot().await;
        let count = stage.random.usize(1..6);
        let mut last = None;
        for _ in 0..count {
            last = stage.say(&channel).await;
        }
        let Some(last) = last else {
            return vec!["a message was not accepted without any fault".to_owned()];
        };
        eventually("everybody to have seen what will be lost", async || {
            stage
                .listeners
                .iter()
                .all(|one| one.has_seen(&channel, &last))
        })
        .await;
        let fault = stage.trouble(format!("lose {count} messages, publish {count}"));
        stage.store.single().restart_from(&snapshot).await;
        stage.until_ready().await;
        for _ in 0..count {
            stage.say(&channel).await;
        }
        stage.recorder.healed(fault);
        stage.work(Duration::from_secs(1)).await;
    }
    stage.publish();
    Vec::new()
}

/// Ends the subscriber connections of all nodes, again and again.
pub(super) async fn kills_subscribers(stage: &mut Stage) -> Vec<String> {
    let begun = Instant::now();
    let before: Vec<u32> = stage
        .listeners
        .iter()
        .map(|one| one.connections())
        .collect();
    while begun.elapsed() < stage.config.trouble {
        let fault = stage.trouble("CLIENT KILL TYPE pubsub");
        let redis = stage.store.single();
        let killed = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        stage.recorder.healed(fault);
        if killed.number() == Some(0) {
            return vec!["no node had a subscriber connection to be killed".to_owned()];
        }
        stage.work(Duration::from_secs(2)).await;
    }
    let after = stage.listeners.iter().map(|one| one.connections());
    let moved = before.iter().zip(after).take(stage.config.load.clients);
    let moved = moved.filter(|(before, after)| *before != after).count();
    let objection = format!("{moved} clients lost their connection");
    (moved > 0).then_some(objection).into_iter().collect()
}

/// Has Redis stand still in three ways.
pub(super) async fn stalls(stage: &mut Stage) -> Vec<String> {
    let mut objections = Vec::new();
    let begun = Instant::now();
    let redis = stage.store.single();
    redis
        .command(&["CONFIG", "SET", "busy-reply-threshold", "300"])
        .await;
    while begun.elapsed() < stage.config.trouble {
        let fault = stage.trouble("CLIENT PAUSE for 5 s");
        let redis = stage.store.single();
        let paused = redis.command(&["CLIENT", "PAUSE", "5000", "ALL"]).await;
        if !is_well(&paused) {
            objections.push(format!("CLIENT PAUSE: {}", paused.text()));
        }
        stage.work(Duration::from_secs(5)).await;
        stage.recorder.healed(fault);
        within_5_s(stage, &mut objections).await;

        let fault = stage.trouble("DEBUG SLEEP for 3 s");
        let redis = stage.store.single();
        let slept = redis.command(&["DEBUG", "SLEEP", "3"]).await;
        if !is_well(&slept) {
            objections.push(format!("DEBUG SLEEP: {}", slept.text()));
        }
        stage.recorder.healed(fault);
        within_5_s(stage, &mut objections).await;

        let fault = stage.trouble("a script that does not end");
        let redis = stage.store.single();
        if let Ok(mut endless) = redis.connect().await {
            let sent = endless.send(&["EVAL", "while true do end", "0"]).await;
            if sent.is_ok() {
                stage.work(Duration::from_secs(3)).await;
                stage.store.single().command(&["SCRIPT", "KILL"]).await;
            }
        }
        stage.recorder.healed(fault);
        within_5_s(stage, &mut objections).await;
    }
    objections
}

async fn within_5_s(stage: &Stage, objections: &mut Vec<String>) {
    let took = stage.until_ready().await;
    if took > Duration::from_secs(5) {
        objections.push(format!("nodes were ready only {took:.1?} after Redis was"));
    }
    stage.work(Duration::from_secs(2)).await;
}
