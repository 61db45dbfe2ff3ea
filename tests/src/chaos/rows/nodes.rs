//! What happens to server processes, and to clients all at once.

use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, RawJson};
use fanfare_server::Publication;
use serde_json::json;
use tokio::time::Instant;

use super::super::access;
use super::super::node::stop;
use super::super::stage::Stage;
use crate::socket::{Door, Socket};

/// Kills one node after the other, each in the middle of whatever it does.
pub(super) async fn kills(stage: &mut Stage) -> Vec<String> {
    let mut objections = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < stage.config.trouble {
        let node = stage.random.usize(..stage.nodes.len());
        let fault = stage.trouble(format!("kill node {node}"));
        stage.nodes[node].kill();
        stage.work(Duration::from_secs(1)).await;
        let back = stage.until_all_are_in().await;
        if back.is_none_or(|took| took > Duration::from_secs(10)) {
            objections.push(format!("clients of node {node} were not back within 10 s"));
        }
        stage.revive(node, fault).await;
        stage.work(Duration::from_secs(2)).await;
    }
    objections
}

/// Deploys all nodes, one after the other, as an orchestrator does with a load balancer that looks at readiness.
pub(super) async fn deploy(stage: &mut Stage) -> Vec<String> {
    let mut objections = Vec::new();
    for node in 0..stage.nodes.len() {
        let fault = stage.trouble(format!("deploy node {node}"));
        let addresses: Vec<_> = stage.nodes.iter().map(|node| node.address()).collect();
        let others = addresses.iter().copied().enumerate();
        let others = others
            .filter(|(number, _)| *number != node)
            .map(|(_, address)| address);
        stage.balancer.balance(others.collect());
        let begun = Instant::now();
        let is_well = stop(&mut stage.nodes[node]).await;
        let took = begun.elapsed();
        if !is_well || took > Duration::from_secs(30) {
            objections.push(format!(
                "node {node} took {took:.1?} to end, and ended well: {is_well}"
            ));
        }
        stage.nodes[node].restart().await;
        stage.balancer.balance(addresses);
        stage.recorder.healed(fault);
    }
    stage.until_all_are_in().await;
    let deploys = u32::try_from(stage.nodes.len()).unwrap_or(u32::MAX);
    let restless = stage.listeners.iter().take(stage.config.load.clients);
    let restless = restless
        .filter(|one| one.connections() > 1 + deploys)
        .count();
    if restless > 0 {
        objections.push(format!(
            "{restless} clients reconnected more than once per node"
        ));
    }
    objections
}

/// Stops nodes where they are: shorter than a lease, and longer.
pub(super) async fn pauses(stage: &mut Stage) -> Vec<String> {
    let mut pauses = vec![5, 20];
    if stage.config.trouble > Duration::from_secs(100) {
        pauses.push(60);
    }
    for (number, seconds) in pauses.into_iter().enumerate() {
        let node = number % stage.nodes.len();
        let fault = stage.trouble(format!("stop node {node} for {seconds} s"));
        stage.nodes[node].pause();
        stage.work(Duration::from_secs(seconds)).await;
        stage.nodes[node].resume();
        stage.recorder.healed(fault);
        stage.work(Duration::from_secs(3)).await;
    }
    Vec::new()
}

/// Cuts all clients at once.
pub(super) async fn storms(stage: &mut Stage) -> Vec<String> {
    let mut objections = Vec::new();
    let load = &stage.config.load;
    // Rooms have a history, too.
    let channels = load.kept_channels().len() + load.presence_channels().len();
    let channels = u64::try_from(channels).unwrap_or(u64::MAX);
    // Until now every node has heard of every channel for the first time, and read it once for all subscribers. On a slow machine
    // some of them have come back meanwhile, and the node had to read messages.
    let nodes = u64::try_from(stage.nodes.len()).unwrap_or(u64::MAX);
    let first = stage.store.history_reads().await - stage.reads_of_starts;
    if first > 0 {
        stage.say_aloud(&format!(
            "{first} calls of `XRANGE` for the first subscriptions to {channels} channels on each of {nodes} nodes"
        ));
    }
    objections.extend(too_many_calls(first, CALLS_OF_A_READ * channels * nodes));
    let begun = Instant::now();
    let mut storms = 0;
    while storms < 3 || begun.elapsed() < stage.config.trouble {
        let before = stage.store.history_reads().await;
        let fault = stage.trouble("cut all clients");
        stage.balancer.cut_all();
        stage.recorder.healed(fault);
        stage.work(Duration::from_millis(500)).await;
        let back = stage.until_all_are_in().await;
        if back.is_none_or(|took| took > Duration::from_secs(15)) {
            objections.push("not all clients were back within 15 s".to_owned());
        }
        // The nodes that clients come back to follow their channels already, for others.
        let reads = stage.store.history_reads().await - before;
        if reads > 0 {
            stage.say_aloud(&format!("{reads} calls of `XRANGE`"));
        }
        objections.extend(too_many_calls(reads, channels));
        storms += 1;
    }
    objections
}

/// `XRANGE` is called once to learn where a channel stands, and three times to read a few of its messages.
const CALLS_OF_A_READ: u64 = 3;

/// The objection to more calls than so many and a tenth.
fn too_many_calls(reads: u64, due: u64) -> Option<String> {
    let objection = || format!("`XRANGE` was called {reads} times where {due} would do");
    (reads * 10 > due * 11).then(objection)
}

/// Clients that subscribe to a channel that says much and then do not read.
pub(super) async fn slow_readers(stage: &mut Stage) -> Vec<String> {
    let mut objections = Vec::new();
    let mut deaf: Vec<Socket> = Vec::new();
    for number in 0..DEAF {
        let address = stage.nodes[number % stage.nodes.len()].address();
        let door = Door::at(address).bearer(&access::token(&format!("deaf-{number}")));
        let mut socket = door.enter().await;
        socket
            .send(json!({ "type": "subscribe", "channel": FLOOD }))
            .await;
        deaf.push(socket);
    }
    let before = bytes(stage);
    let payload = RawJson::encode(&"x".repeat(FLOOD_BYTES));
    let names = (
        FLOOD.parse::<ChannelName>(),
        "flood".parse::<EventName>(),
        payload,
    );
    let (Ok(channel), Ok(event), Ok(data)) = names else {
        return vec!["the flood has no name".to_owned()];
    };
    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / FLOODS_PER_SECOND);
    while begun.elapsed() < stage.config.trouble {
        tick.tick().await;
        let publication = Publication::new(channel.clone(), event.clone(), data.clone());
        if let Some(handle) = stage.handles.first() {
            // What is refused is not there to be read.
            let _ = handle.publish(publication).await;
        }
    }
    let left = match stage.handles.first() {
        Some(handle) => handle.subscriber_count(channel).await.unwrap_or(0),
        None => 0,
    };
    if left >= DEAF {
        objections.push("nobody was let go for not reading: nothing was tested".to_owned());
    }
    let more = bytes(stage).saturating_sub(before);
    let bound = BYTES_EACH * u64::try_from(DEAF).unwrap_or(u64::MAX) + BYTES_BESIDES;
    if more > bound {
        objections.push(format!(
            "nodes grew by {more} bytes over {DEAF} clients that do not read"
        ));
    }
    drop(deaf);
    objections
}

fn bytes(stage: &Stage) -> u64 {
    let nodes = stage.nodes.iter();
    nodes
        .filter_map(|node| Some(node.open_files_and_bytes()?.1))
        .sum()
}

/// The channel that says much.
const FLOOD: &str = "l-flood";
/// 60: as many as there are others in the short form.
const DEAF: usize = 60;
/// 50 kB, twenty times a second: 1 MB/s for each of them.
const FLOOD_BYTES: usize = 50_000;
/// 20 per second.
const FLOODS_PER_SECOND: u32 = 20;
/// 1.25 MiB: an outbox holds 1 MiB.
const BYTES_EACH: u64 = 1_310_720;
/// 192 MiB for all that is under way in three nodes.
const BYTES_BESIDES: u64 = 192 << 20;
