//! What happens to a master under Sentinel.

use std::time::Duration;

use tokio::time::Instant;

use super::super::stage::Stage;
use super::super::store::StoreKind;
use crate::process::eventually;

/// Kills the master; it comes back as a replica.
pub(super) async fn kills(stage: &mut Stage) -> Vec<String> {
    every_master(stage, "kill", async |stage: &mut Stage, master| {
        let cut = Instant::now();
        stage.store.sentinel().servers[master].kill();
        stage.store.sentinel().until_failed_over(master).await;
        until_accepted(stage).await;
        let outage = cut.elapsed();
        stage.store.sentinel().servers[master].restart().await;
        (outage > OUTAGE_MAX).then(|| format!("nothing was accepted for {outage:.1?}"))
    })
    .await
}

/// Stops the master until it is replaced, and lets it go on: connections that were left on it must be left.
pub(super) async fn comes_back(stage: &mut Stage) -> Vec<String> {
    every_master(stage, "stop", async |stage: &mut Stage, master| {
        stage.store.sentinel().servers[master].pause();
        stage.store.sentinel().until_failed_over(master).await;
        stage.work(Duration::from_secs(1)).await;
        stage.store.sentinel().servers[master].resume();
        let took = stage.until_ready().await;
        (took > PROBED_MAX).then(|| format!("nodes stayed on the old master for {took:.1?}"))
    })
    .await
}

/// Stops the master, so that publishes wait in its sockets and are repeated at the one that takes over, and lets it go on: then
/// it takes them as well, and gives them the same offsets.
pub(super) async fn wakes_with_publishes(stage: &mut Stage) -> Vec<String> {
    every_master(stage, "stop", async |stage: &mut Stage, master| {
        stage.store.sentinel().servers[master].pause();
        let said = stage.say_at_once(IN_FLIGHT);
        stage.store.sentinel().until_failed_over(master).await;
        stage.work(REPEATED).await;
        stage.store.sentinel().servers[master].resume();
        said.await;
        None
    })
    .await
}

/// Troubles whoever is the master, one after the other, and answers what is wrong about it.
async fn every_master(
    stage: &mut Stage,
    what: &str,
    mut replace: impl AsyncFnMut(&mut Stage, usize) -> Option<String>,
) -> Vec<String> {
    let mut objections = Vec::new();
    stage.recorder.store_may_lose();
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let Some(master) = stage.store.sentinel().master().await else {
            return vec![NO_MASTER.to_owned()];
        };
        let fault = stage.trouble(format!("{what} the master, server {master}"));
        // When it comes back it takes itself for the master until it is told.
        stage.recorder.splits(fault);
        objections.extend(replace(stage, master).await);
        stage.store.sentinel().until_all_follow().await;
        stage.until_ready().await;
        stage.recorder.healed(fault);
        stage.work(Duration::from_secs(3)).await;
    }
    objections
}

/// The same while one sentinel, the first that nodes know, takes connections and says nothing.
pub(super) async fn kills_beside_a_silent_sentinel(stage: &mut Stage) -> Vec<String> {
    let begun = Instant::now();
    stage.store.sentinel().pause_sentinel(0, true);
    let objections = kills(stage).await;
    stage
        .work(SENTINEL_SILENT.saturating_sub(begun.elapsed()))
        .await;
    stage.store.sentinel().pause_sentinel(0, false);
    stage.store.sentinel().until_all_follow().await;
    objections
}

/// Cuts the master and half of the nodes off from the others, which get a master of their own, and mends it.
pub(super) async fn partition(stage: &mut Stage) -> Vec<String> {
    stage.recorder.store_may_lose();
    let Some(master) = stage.store.sentinel().master().await else {
        return vec![NO_MASTER.to_owned()];
    };
    let fault = stage.trouble("cut the master off with half of the nodes");
    // A master that needs a replica stops accepting some time after it was cut off, perhaps after the other has begun.
    let both = stage.recorder.fault("two masters");
    stage.recorder.splits(both);
    if let Some(split) = &stage.split {
        split.cut();
    }
    stage.store.sentinel().until_failed_over(master).await;
    if stage.config.store == StoreKind::CarefulSplit {
        stage.work(NO_REPLICA_MAX).await;
        stage.recorder.healed(both);
    }
    stage
        .work(stage.config.trouble.min(Duration::from_secs(20)))
        .await;
    if let Some(split) = &stage.split {
        split.mend();
    }
    stage.say_aloud("mended");
    let took = until_left(stage, master).await;
    stage.say_aloud(&format!(
        "nobody listens to the old master after {took:.1?}"
    ));
    let objection = format!("nodes stayed on the old master for {took:.1?}");
    stage.store.sentinel().until_all_follow().await;
    stage.until_ready().await;
    stage.recorder.healed(fault);
    if stage.config.store == StoreKind::Split {
        stage.recorder.healed(both);
    }
    stage.work(Duration::from_secs(5)).await;
    (took > LEFT_MAX).then_some(objection).into_iter().collect()
}

/// Waits until no node listens to a server any more; how long that took.
async fn until_left(stage: &mut Stage, server: usize) -> Duration {
    let begun = Instant::now();
    let server = &stage.store.sentinel().servers[server];
    eventually("an old master that nobody listens to", async || {
        let listened = server.try_command(&["PUBSUB", "CHANNELS", PREFIX]).await;
        listened.is_ok_and(|channels| channels.elements().is_empty())
    })
    .await;
    begun.elapsed()
}

/// Waits until a message is accepted.
async fn until_accepted(stage: &Stage) {
    let channels = stage.config.load.kept_channels();
    if let Some(channel) = channels.first() {
        while stage.say(channel).await.is_none() {}
    }
}

/// 3: publishes per channel that wait in the sockets of a master that is stopped.
const IN_FLIGHT: usize = 3;
/// 500 ms: the first of them are repeated by then, and nodes are still on both masters.
const REPEATED: Duration = Duration::from_millis(500);
/// 3 s: `min-replicas-max-lag` is 2 s, and Redis looks once a second.
const NO_REPLICA_MAX: Duration = Duration::from_secs(3);
/// 30 s: many times what one question may take.
const SENTINEL_SILENT: Duration = Duration::from_secs(30);
/// 8 s: 5 s are asked for; detection and election took 2.3 s when they were measured alone on the machine.
const OUTAGE_MAX: Duration = Duration::from_secs(8);
/// 12 s: a deaf connection is found within 10 s.
const PROBED_MAX: Duration = Duration::from_secs(12);
/// 13 s: nodes ask the sentinels every 5 s, give or take a fifth, and one question may have gone into the cut: 7.5 s. On a busy
/// machine the next question takes up to its deadline too, and so do looking up the master and having it confirm: 4.5 s.
const LEFT_MAX: Duration = Duration::from_secs(13);
/// The names of what nodes listen to.
const PREFIX: &str = "chaos-*";
/// What the rows cannot begin with.
const NO_MASTER: &str = "the sentinels name no master";
