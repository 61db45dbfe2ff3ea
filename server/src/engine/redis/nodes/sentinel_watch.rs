//! Asks the sentinels whether the master in use still is the master: at intervals, and as soon as one of them says otherwise.
//!
//! A master that was cut off and replaced goes on accepting what is lost later, and no command that is sent to it fails. After the
//! network has healed, Sentinel takes some ten seconds until it demotes such a master. The same holds for a healthy master that an
//! operator has replaced: until every node has left it, both give out the same offsets.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "such a partition is over" and "a healthy master is replaced".

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{ConnectionAddr, PushKind};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::failover::Failover;
use crate::clock::Instant;
use crate::engine::redis::connection::options::{RedisOptions, Target};
use crate::engine::redis::connection::sentinel;
use crate::engine::redis::connection::topology::{Opinion, Topology};

/// Asks until it is stopped.
pub(crate) async fn run(
    topology: Arc<Topology>,
    options: RedisOptions,
    failover: Arc<Failover>,
    stop: CancellationToken,
) {
    let is_replaced = Notify::new();
    let interval = options.flow.sentinel_interval;
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = follow_all(&options, &is_replaced) => {}
        () = ask(&topology, interval, &failover, &is_replaced) => {}
    }
}

/// Asks at intervals, and when a sentinel has announced a new master.
async fn ask(topology: &Topology, interval: Duration, failover: &Failover, is_replaced: &Notify) {
    loop {
        // Nodes that started together do not ask together.
        let pause = interval.mul_f64(0.8 + 0.4 * fastrand::f64());
        tokio::select! {
            biased;
            () = is_replaced.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let asked_at = Instant::now();
        match topology.ask_sentinels().await {
            // Another master would need a majority, and have a higher epoch than these know, or will know in a moment.
            Opinion::TheSame => {
                if let Some(until) = asked_at.checked_sub(SPREADING_MAX) {
                    failover.confirm_until(until);
                }
            }
            Opinion::Another => {
                info!("the sentinels name another Redis master than the one in use");
                topology.request_lookup();
            }
            Opinion::None => {}
        }
    }
}

/// Follows every sentinel, for as long as this is awaited.
async fn follow_all(options: &RedisOptions, is_replaced: &Notify) {
    if let Target::Sentinel { sentinels, .. } = &options.target {
        let following = sentinels.iter();
        join_all(following.map(|address| follow(options, address, is_replaced))).await;
    }
    // Without a sentinel to follow, asking goes on.
    std::future::pending().await
}

/// Listens to one sentinel, and again when the connection was lost. An event is only a reason to ask all of them.
async fn follow(options: &RedisOptions, address: &ConnectionAddr, is_replaced: &Notify) {
    loop {
        // 16: one failover makes two events; further ones say nothing more.
        let (told, mut events) = mpsc::channel(16);
        let listening = sentinel::listen(options, address, told).await;
        match &listening {
            Ok(_) => {
                // There may have been an event while this node did not listen.
                is_replaced.notify_one();
                while let Some(kind) = events.recv().await
                    && kind != PushKind::Disconnection
                {
                    if kind == PushKind::Message {
                        is_replaced.notify_one();
                    }
                }
            }
            Err(error) => debug!(%error, "a sentinel is not listened to"),
        }
        tokio::time::sleep(options.flow.sentinel_interval).await;
    }
}

/// 5 s: a sentinel that has made a master tells the others of it every 2 s.
const SPREADING_MAX: Duration = Duration::from_secs(5);
