//! Asks the sentinels now and then whether the master is still the same.
//!
//! A master that was cut off and replaced goes on accepting what is lost later, and nothing that is sent to it fails. After
//! the network has healed, Sentinel takes some ten seconds until it demotes such a master.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::flow::Shared;
use super::topology::Opinion;
use crate::clock::Instant;

/// Asks until it is told to stop.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let topology = shared.commands.topology();
    loop {
        // Nodes that started together do not ask together.
        let pause = shared
            .flow
            .sentinel_interval
            .mul_f64(0.8 + 0.4 * fastrand::f64());
        let asking = async {
            tokio::time::sleep(pause).await;
            let asked_at = Instant::now();
            (asked_at, topology.ask_sentinels().await)
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            (asked_at, opinion) = asking => match opinion {
                // Another master would need a majority, and have a higher epoch than these know, or will know in a moment.
                Opinion::TheSame => {
                    if let Some(until) = asked_at.checked_sub(SPREADING_MAX) {
                        shared.unheard.reached_all(until);
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
}

/// 5 s: a sentinel that has made a master tells the others of it every 2 s.
const SPREADING_MAX: Duration = Duration::from_secs(5);
