//! What happens to a Redis Cluster.

use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::time::Instant;

use super::super::stage::Stage;
use crate::checker::FaultId;

/// Moves the slots of half of the channels from master to master.
pub(super) async fn moves(stage: &mut Stage) -> Vec<String> {
    let load = &stage.config.load;
    let channels = [
        load.kept_channels(),
        load.live_channels(),
        load.presence_channels(),
    ]
    .concat();
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || begun.elapsed() < stage.config.trouble {
        for channel in channels.iter().skip(rounds % 2).step_by(2) {
            let fault = stage.trouble(format!("move the slot of {channel}"));
            let cluster = stage.store.cluster();
            let slot = cluster.slot(channel.as_str()).await;
            let from = cluster.until_owned(slot).await;
            cluster.move_slot(slot, from, (from + 1) % 3).await;
            stage.recorder.healed(fault);
        }
        rounds += 1;
        stage.work(Duration::from_secs(3)).await;
    }
    Vec::new()
}

/// Stops a master that has a replica, so that publishes wait in its sockets and are repeated at the one that takes over, and
/// lets it go on: then it takes them as well, and hands them on to the new master's subscribers.
pub(super) async fn wakes_with_publishes(stage: &mut Stage) -> Vec<String> {
    stage.recorder.store_may_lose();
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let (channel, slot, owner) = master(stage).await;
        let fault = stage.trouble(format!("stop the master of {channel}, server {owner}"));
        stage.store.cluster().servers[owner].pause();
        let said = stage.say_at_once(IN_FLIGHT);
        stage.store.cluster().until_replaced(slot, owner).await;
        stage.work(REPEATED).await;
        stage.store.cluster().servers[owner].resume();
        said.await;
        heals(stage, fault).await;
    }
    Vec::new()
}

/// Kills a master that has a replica.
pub(super) async fn kills(stage: &mut Stage) -> Vec<String> {
    stage.recorder.store_may_lose();
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let (channel, slot, owner) = master(stage).await;
        let fault = stage.trouble(format!("kill the master of {channel}, server {owner}"));
        let cluster = stage.store.cluster();
        cluster.servers[owner].kill();
        cluster.until_owned(slot).await;
        cluster.until_ok().await;
        cluster.servers[owner].restart().await;
        heals(stage, fault).await;
    }
    Vec::new()
}

/// A channel with history drawn at random, its slot and the server that is the slot's master.
async fn master(stage: &mut Stage) -> (ChannelName, u16, usize) {
    let channels = stage.config.load.kept_channels();
    let channel = channels[stage.random.usize(..channels.len())].clone();
    let cluster = stage.store.cluster();
    let slot = cluster.slot(channel.as_str()).await;
    let owner = cluster.until_owned(slot).await;
    (channel, slot, owner)
}

/// Waits until the cluster is whole and the nodes are ready, and lets them work before the next fault.
async fn heals(stage: &mut Stage, fault: FaultId) {
    let cluster = stage.store.cluster();
    cluster.until_ok().await;
    cluster.until_replicated().await;
    stage.until_ready().await;
    stage.recorder.healed(fault);
    stage.work(Duration::from_secs(3)).await;
}

/// 3: publishes per channel that wait in the sockets of a master that is stopped.
const IN_FLIGHT: usize = 3;
/// 500 ms: the first of them are repeated by then.
const REPEATED: Duration = Duration::from_millis(500);
