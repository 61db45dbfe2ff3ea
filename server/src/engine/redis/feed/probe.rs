//! Finds pub/sub connections that are open and deaf, and leaves masters that are none any more.
//!
//! When a pub/sub connection was silent for a while, a message is published for it the way every message is: through a script, at
//! the server that owns the slot by what is known now. If that message does not arrive, the connection hears nothing, whatever its
//! socket says.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a connection to Redis is open and deaf".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::pubsub::{PubSubConnection, PubSubConnections};
use crate::clock::Instant;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::milliseconds;

/// Probes until it is stopped.
pub(crate) async fn run(
    store: ChannelStore,
    pubsubs: Arc<PubSubConnections>,
    stop: CancellationToken,
) {
    let probe_after = store.options().flow.probe_after;
    let mut turns = tokio::time::interval(probe_after / TURNS);
    let mut silent: HashMap<u64, Silence> = HashMap::new();
    let mut sending = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_) = sending.join_next() => continue,
            _ = turns.tick() => {}
        }
        let open = pubsubs.open();
        silent.retain(|number, _| open.iter().any(|pubsub| pubsub.number == *number));
        for pubsub in open {
            let silence = silent.entry(pubsub.number).or_default();
            match silence.next(pubsub.heard_at(), Instant::now(), probe_after) {
                Turn::Nothing => {}
                Turn::Probe => {
                    sending.spawn(send(store.clone(), Arc::clone(&pubsubs), pubsub));
                }
                Turn::GiveUp => {
                    warn!(server = %pubsub.server, "a pub/sub connection is open but receives nothing; it is replaced");
                    store.commands().topology().request_lookup();
                    pubsub.give_up();
                }
            }
        }
    }
}

/// What was tried on a silent pub/sub connection.
#[derive(Debug, Default)]
struct Silence {
    probed_at: Option<Instant>,
    misses: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Nothing,
    Probe,
    GiveUp,
}

impl Silence {
    fn next(&mut self, heard_at: Instant, now: Instant, probe_after: Duration) -> Turn {
        if self
            .probed_at
            .is_some_and(|probed_at| heard_at >= probed_at)
        {
            *self = Self::default();
        }
        match self.probed_at {
            None if now.saturating_duration_since(heard_at) < probe_after => Turn::Nothing,
            None => {
                self.probed_at = Some(now);
                Turn::Probe
            }
            Some(probed_at) if now.saturating_duration_since(probed_at) < probe_after / 2 => {
                Turn::Nothing
            }
            Some(_) => {
                self.misses += 1;
                self.probed_at = Some(now);
                if self.misses < MISSES_MAX {
                    Turn::Probe
                } else {
                    Turn::GiveUp
                }
            }
        }
    }
}

/// Publishes what a pub/sub connection should hear.
async fn send(store: ChannelStore, pubsubs: Arc<PubSubConnections>, pubsub: Arc<PubSubConnection>) {
    let deadline = store.options().flow.probe_after / 2;
    let sending = publish(&store, &pubsubs, &pubsub, deadline);
    if tokio::time::timeout(deadline, sending).await.is_err() {
        debug!(server = %pubsub.server, "a probe was not published in time");
    }
}

async fn publish(
    store: &ChannelStore,
    pubsubs: &PubSubConnections,
    pubsub: &PubSubConnection,
    deadline: Duration,
) {
    let topology = store.commands().topology();
    let mut probe = pubsub.probe();
    if topology.is_cluster()
        && let Ok(layout) = topology.layout().await
        && layout.owner(slot(probe.tag.as_str())) != Some(&pubsub.server)
    {
        // Its slot has moved; the connection's own master gets another one.
        let Some(other) = pubsubs.probe(&layout, &pubsub.server, pubsub.number) else {
            return;
        };
        let names = [other.name.clone()];
        if pubsub.subscribe(&names, deadline).await.is_err() {
            return;
        }
        pubsub.set_probe(other.clone());
        probe = other;
    }
    let keys = [store.keys().probe_count(&probe.tag)];
    let ttl = milliseconds(store.options().flow.probe_after * 10);
    let command = store.commands().publish_command().as_bytes();
    let name = probe.name.as_bytes();
    let call = Call {
        attempted: "probing",
        script: &store.scripts().publish_live,
        channel: &probe.tag,
        keys: &keys,
        args: &[command, name, b"", ttl.as_bytes(), b"1", b"", b"0"],
        last_args: None,
    };
    if let Err(error) = store.commands().run(call).await {
        debug!(server = %pubsub.server, %error, "a probe was not published");
    }
}

/// 10: how closely a silent connection is watched.
const TURNS: u32 = 10;

/// 2: one may be lost to a command connection that has just died.
const MISSES_MAX: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_connection_is_probed_twice_and_given_up() {
        let after = Duration::from_secs(5);
        let start = Instant::now();
        let mut silence = Silence::default();
        let mut at = |seconds: f64, heard: Instant| {
            silence.next(heard, start + Duration::from_secs_f64(seconds), after)
        };
        // (seconds, when the connection was heard last, what to do)
        let rows = [
            (4.0, start, Turn::Nothing),
            (5.0, start, Turn::Probe),
            (6.0, start, Turn::Nothing),
            (7.5, start, Turn::Probe),
            // A message came.
            (8.0, start + Duration::from_secs_f64(7.6), Turn::Nothing),
            (13.0, start + Duration::from_secs_f64(7.6), Turn::Probe),
            (15.5, start + Duration::from_secs_f64(7.6), Turn::Probe),
            (18.0, start + Duration::from_secs_f64(7.6), Turn::GiveUp),
        ];
        for (seconds, heard, expected) in rows {
            assert_eq!(at(seconds, heard), expected, "at {seconds} s");
        }
    }
}
