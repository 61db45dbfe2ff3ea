//! Tries at intervals whether Redis accepts a publish, through the script that every message takes.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a server cannot publish".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::publish;
use super::store::ChannelStore;
use crate::clock::Instant;
use crate::engine::Health;
use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;

/// The outcome of the last attempts.
#[derive(Debug, Default)]
pub(crate) struct Publishing(Mutex<Option<Trouble>>);

#[derive(Debug)]
struct Trouble {
    since: Instant,
    reason: String,
    /// Redis has refused it; otherwise it did not answer, or was not there.
    is_refused: bool,
}

impl Publishing {
    /// Whether publishing works, as far as is known. A short outage of Redis is no reason to send clients elsewhere.
    pub(crate) fn health(&self, now: Instant, stalled_after: Duration) -> Health {
        let trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |trouble: &&Trouble| {
            trouble.is_refused || now.saturating_duration_since(trouble.since) > stalled_after
        };
        match trouble.as_ref().filter(lasts) {
            Some(trouble) => Health::Refused {
                since: trouble.since,
                reason: trouble.reason.clone(),
            },
            None => Health::Flowing,
        }
    }

    /// Takes note of an attempt.
    fn note(&self, outcome: Result<(), CommandError>, now: Instant) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_refused = trouble.as_ref().is_some_and(|trouble| trouble.is_refused);
        let Err(error) = outcome else {
            *trouble = None;
            if was_refused {
                info!("Redis accepts what this server publishes again");
            }
            return;
        };
        let is_refused = match error {
            CommandError::NotExecuted(_) | CommandError::Unknown(_) => false,
            CommandError::Full | CommandError::Refused(_) | CommandError::Denied { .. } => true,
        };
        if is_refused && !was_refused {
            warn!(%error, "Redis refuses what this server publishes: it is not ready");
        }
        *trouble = Some(Trouble {
            since: trouble.as_ref().map_or(now, |trouble| trouble.since),
            reason: format!("publishing does not work: {error}"),
            is_refused,
        });
    }
}

/// Tries until it is stopped.
pub(crate) async fn run(store: ChannelStore, publishing: Arc<Publishing>, stop: CancellationToken) {
    let interval = store.options().flow.probe_after;
    let mut turns = tokio::time::interval(interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut channels = HashMap::new();
    loop {
        let attempt = async {
            turns.tick().await;
            try_all(&store, interval, &mut channels).await
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            outcome = attempt => publishing.note(outcome, Instant::now()),
        }
    }
}

/// Publishes at every master, on a channel that is used for nothing else.
async fn try_all(
    store: &ChannelStore,
    interval: Duration,
    channels: &mut HashMap<Server, ChannelName>,
) -> Result<(), CommandError> {
    let layout = store.commands().topology().layout().await?;
    let masters = layout.masters();
    let is_there = |server: &Server, channel: &ChannelName| {
        layout.owner(slot(channel.as_str())) == Some(server)
    };
    channels.retain(|server, channel| is_there(server, channel));
    for server in masters {
        if !channels.contains_key(&server) {
            let purpose = format!("ready:{:x}", fastrand::u64(1..));
            let Some(channel) = layout.tag_at(&server, &purpose) else {
                continue;
            };
            channels.insert(server.clone(), channel);
        }
        if let Some(channel) = channels.get(&server) {
            publish::probe(store, channel, interval * LIVES).await?;
        }
    }
    Ok(())
}

/// 4: what an attempt leaves behind is gone soon after its node is.
const LIVES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_at_once_and_an_absence_after_a_while() {
        let (publishing, start) = (Publishing::default(), Instant::now());
        let after = Duration::from_secs(10);
        let health = |seconds| publishing.health(start + Duration::from_secs(seconds), after);
        assert_eq!(health(0), Health::Flowing);
        publishing.note(Err(CommandError::not_executed("away")), start);
        assert_eq!(health(10), Health::Flowing);
        assert!(matches!(health(11), Health::Refused { .. }));
        publishing.note(Ok(()), start);
        assert_eq!(health(11), Health::Flowing);
        for error in [CommandError::Full, CommandError::Refused("no".to_owned())] {
            publishing.note(Err(error), start);
            assert!(matches!(health(0), Health::Refused { .. }));
        }
    }
}
