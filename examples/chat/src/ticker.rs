//! A numbered message every second: whoever misses one can see it.

use std::time::Duration;

use fanfare_server::Handle;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::sentence;
use crate::rooms::TICKER;

/// Publishes until it is dropped.
pub(crate) async fn run(events: &Handle) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = 0_u64;
    loop {
        seconds.tick().await;
        number += 1;
        let tick = json!({ "number": number });
        if let Err(error) = events.broadcast(TICKER, "tick", &tick).await {
            tracing::warn!(error = sentence(&error), "no tick");
            number -= 1;
        }
    }
}
