//! Asks the sentinels whether the master is still the same: now and then, and as soon as one of them says that it was replaced.
//!
//! A master that was cut off and replaced goes on accepting what is lost later, and nothing that is sent to it fails. After
//! the network has healed, Sentinel takes some ten seconds until it demotes such a master. The same holds for a healthy master
//! that an operator has replaced: until every node has left it, both give out the same offsets.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{ConnectionAddr, PushKind};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::clock::Instant;
use crate::engine::redis::connection::options::Target;
use crate::engine::redis::connection::sentinel;
use crate::engine::redis::connection::topology::Opinion;
use crate::engine::redis::flow::Shared;

/// Asks until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let is_replaced = Notify::new();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = follow_all(&shared, &is_replaced) => {}
        () = ask(&shared, &is_replaced) => {}
    }
}

/// Asks in turns, and when a sentinel has spoken of a new master.
async fn ask(shared: &Shared, is_replaced: &Notify) {
    let topology = shared.commands.topology();
    loop {
        // Nodes that started together do not ask together.
        let pause = shared
            .flow
            .sentinel_interval
            .mul_f64(0.8 + 0.4 * fastrand::f64());
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
                    shared.unconfirmed.confirm_until(until);
                }
            }
            Opinion::Another => {
                info!("the sentinels name another Redis master than the one in use");
                shared.distrust();
            }
            Opinion::None => {}
        }
    }
}

/// Follows every sentinel, for as long as this is awaited.
async fn follow_all(shared: &Shared, is_replaced: &Notify) {
    if let Target::Sentinel { sentinels, .. } = &shared.commands.options().target {
        let following = sentinels.iter();
        join_all(following.map(|address| follow(shared, address, is_replaced))).await;
    }
    // Nobody to follow is no reason not to ask.
    std::future::pending().await
}

/// Listens to one sentinel, and again when it was lost. What it says is only a reason to ask all of them.
async fn follow(shared: &Shared, address: &ConnectionAddr, is_replaced: &Notify) {
    loop {
        // 16: one failover says it twice; what does not fit says nothing more.
        let (told, mut events) = mpsc::channel(16);
        let listening = sentinel::listen(shared.commands.options(), address, told).await;
        match &listening {
            Ok(_) => {
                // It may have been said while nobody listened.
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
        tokio::time::sleep(shared.flow.sentinel_interval).await;
    }
}

/// 5 s: a sentinel that has made a master tells the others of it every 2 s.
const SPREADING_MAX: Duration = Duration::from_secs(5);
