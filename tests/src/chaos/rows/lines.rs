//! What happens on the way between nodes and Redis, and between clients and nodes.

use std::time::Duration;

use tokio::time::Instant;

use super::super::stage::{MARK, Stage};
use crate::eventually;
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

/// Cuts everything between nodes and Redis and refuses the first dials that follow, until that has happened often enough.
pub(super) async fn refusals(stage: &mut Stage) -> Vec<String> {
    let mut objections = Vec::new();
    let begun = Instant::now();
    let mut refused = 0;
    while refused < REFUSALS && begun.elapsed() < stage.config.trouble * 3 {
        let fault = stage
            .recorder
            .fault("cut all connections to Redis and refuse the next");
        let mut expected = Vec::new();
        for proxy in stage.store.proxies() {
            let times = stage.random.u64(1..=3);
            expected.push(proxy.done(RedisFault::Refuse) + times);
            proxy.plant(RedisFault::Refuse, times, "");
            proxy.cut_all();
        }
        eventually("all to be refused and let in again", async || {
            let proxies = stage.store.proxies().iter().zip(&expected);
            proxies
                .into_iter()
                .all(|(proxy, times)| proxy.done(RedisFault::Refuse) == *times && proxy.open() > 0)
        })
        .await;
        stage.recorder.healed(fault);
        let well = Duration::from_millis(stage.random.u64(0..200));
        stage.work(well).await;
        refused = expected.iter().sum();
    }
    stage.say_aloud(&format!("{refused} dials were refused"));
    if refused < REFUSALS {
        objections.push(format!("only {refused} dials were refused"));
    }
    let took = stage.until_ready().await;
    if took > Duration::from_secs(10) {
        objections.push(format!(
            "nodes were ready only {took:.1?} after the last refusal"
        ));
    }
    objections
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

/// 200: whoever gives up for good at some failure has had its chance.
const REFUSALS: u64 = 200;
