//! What happens on the way between nodes and Redis, and between clients and nodes.

use std::time::Duration;

use tokio::time::Instant;

use super::super::stage::{MARK, Stage};
use crate::proxy::{Conditions, RedisFault};

/// Loses one pub/sub message at a time.
pub(super) async fn lost_messages(stage: &mut Stage) -> Vec<String> {
    let begun = Instant::now();
    let proxies = stage.store.proxies().len() - 1;
    while begun.elapsed() < stage.config.trouble {
        let proxy = stage.random.usize(..proxies);
        stage.store.proxies()[proxy].plant(RedisFault::DropMessage, 1, MARK);
        stage.work(Duration::from_millis(100)).await;
    }
    let proxies = stage.store.proxies().iter();
    let lost: u64 = proxies
        .map(|proxy| proxy.done(RedisFault::DropMessage))
        .sum();
    stage.say_aloud(&format!("{lost} messages were lost on their way to a node"));
    let objection = "no message was lost: nothing was tested".to_owned();
    (lost == 0).then_some(objection).into_iter().collect()
}

/// Loses the reply of one publish at a time, which has happened.
pub(super) async fn lost_replies(stage: &mut Stage) -> Vec<String> {
    let begun = Instant::now();
    let count = stage.store.proxies().len();
    while begun.elapsed() < stage.config.trouble {
        let proxy = stage.random.usize(..count);
        stage.store.proxies()[proxy].plant(RedisFault::CutAfter, 1, MARK);
        stage.work(Duration::from_millis(100)).await;
    }
    let proxies = stage.store.proxies().iter();
    let lost: u64 = proxies.map(|proxy| proxy.done(RedisFault::CutAfter)).sum();
    stage.say_aloud(&format!("{lost} replies were lost"));
    let objection = "no reply was lost: nothing was tested".to_owned();
    (lost == 0).then_some(objection).into_iter().collect()
}

/// Cuts everything between nodes and Redis and refuses what comes next.
pub(super) async fn refusals(stage: &mut Stage) -> Vec<String> {
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let fault = stage.trouble("cut all connections to Redis and refuse new ones");
        let away = Duration::from_millis(stage.random.u64(20..1_500));
        for proxy in stage.store.proxies() {
            proxy.refuse(true);
            proxy.cut_all();
        }
        stage.work(away).await;
        for proxy in stage.store.proxies() {
            proxy.refuse(false);
        }
        stage.recorder.healed(fault);
        let well = Duration::from_millis(stage.random.u64(20..1_500));
        stage.work(well).await;
    }
    let took = stage.until_ready().await;
    let objection = format!("nodes were ready only {took:.1?} after the last refusal");
    (took > Duration::from_secs(10))
        .then_some(objection)
        .into_iter()
        .collect()
}

/// Makes the lines of clients bad in every way.
pub(super) async fn bad_lines(stage: &mut Stage) -> Vec<String> {
    let share = stage.config.trouble / 5;
    for (what, conditions) in [
        (
            "late by up to 2 s",
            Conditions {
                latency_max: Duration::from_secs(2),
                ..Conditions::default()
            },
        ),
        (
            "in slices of one byte",
            Conditions {
                slice_bytes: Some(1),
                ..Conditions::default()
            },
        ),
        (
            "no faster than 5 kB/s",
            Conditions {
                bytes_per_second: Some(5_000),
                ..Conditions::default()
            },
        ),
    ] {
        let fault = stage.trouble(format!("lines of clients: {what}"));
        stage.balancer.set_conditions(conditions);
        stage.work(share).await;
        stage.balancer.set_conditions(Conditions::default());
        stage.recorder.healed(fault);
    }
    let fault = stage.trouble("lines of clients: reset");
    let resets = Instant::now();
    while resets.elapsed() < share {
        stage.balancer.cut_all();
        stage.work(Duration::from_secs(1)).await;
    }
    stage.recorder.healed(fault);
    let fault = stage.trouble("lines of clients: half-open");
    stage.balancer.stall(true);
    stage.work(share.min(Duration::from_secs(20))).await;
    stage.balancer.stall(false);
    stage.recorder.healed(fault);
    Vec::new()
}
