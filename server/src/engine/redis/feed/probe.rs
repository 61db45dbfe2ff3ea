//! Finds connections that are open and deaf, and moves away from masters that are none any more.
//!
//! A pub/sub connection that was silent for a while is sent a message the way every message is published: through a script, at the server
//! that owns the slot by what is known now. When that message does not come in, the pub/sub connection hears nothing, whatever its socket
//! says.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::ChannelName;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::pubsub::{Probe, PubSubConnection};
use crate::clock::Instant;
use crate::engine::redis::channel::keys;
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::topology::Layout;
use crate::engine::redis::flow::Shared;

/// Probes until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut turns = tokio::time::interval(shared.flow.probe_after / TURNS);
    let mut silent: HashMap<u64, Silence> = HashMap::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        let pubsubs = shared.pubsubs.open();
        silent.retain(|number, _| pubsubs.iter().any(|pubsub| pubsub.number == *number));
        for pubsub in pubsubs {
            let silence = silent.entry(pubsub.number).or_default();
            match silence.next(pubsub.heard_at(), Instant::now(), shared.flow.probe_after) {
                Turn::Nothing => {}
                Turn::Probe => {
                    shared.tasks.spawn(send(Arc::clone(&shared), pubsub));
                }
                Turn::GiveUp => {
                    warn!(server = %pubsub.server, "a pub/sub connection is open but receives nothing; it is master_replaced");
                    shared.distrust();
                    pubsub.give_up(&shared.handoff);
                }
            }
        }
    }
}

/// What was tried on a pub/sub connection that is silent.
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
    fn next(&mut self, heard_at: Instant, now: Instant, probe_after: std::time::Duration) -> Turn {
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

/// Publishes what the pub/sub connection should hear.
async fn send(shared: Arc<Shared>, pubsub: Arc<PubSubConnection>) {
    let deadline = shared.flow.probe_after / 2;
    if tokio::time::timeout(deadline, publish(&shared, &pubsub))
        .await
        .is_err()
    {
        debug!(server = %pubsub.server, "a probe was not published in time");
    }
}

async fn publish(shared: &Shared, pubsub: &PubSubConnection) {
    let topology = shared.commands.topology();
    let mut probe = pubsub.probe();
    if topology.is_cluster()
        && let Ok(layout) = topology.layout().await
        && layout.owner(keys::slot(probe.tag.as_str())) != Some(&pubsub.server)
    {
        // Its slot has moved; the pub/sub connection's own master gets another one.
        let Some(other) = choose(shared, &layout, &pubsub.server, pubsub.number) else {
            return;
        };
        let names = [other.name.clone()];
        if pubsub
            .subscribe(&names, shared.flow.probe_after / 2)
            .await
            .is_err()
        {
            return;
        }
        pubsub.set_probe(other.clone());
        probe = other;
    }
    let keys = [shared.commands.keys().probe_count(&probe.tag)];
    let ttl = crate::engine::redis::milliseconds(shared.flow.probe_after * 10);
    let command = shared.commands.publish_command().as_bytes();
    let name = probe.name.as_bytes();
    let call = Call {
        attempted: "probing",
        script: &shared.commands.scripts().publish_live,
        channel: &probe.tag,
        keys: &keys,
        args: &[command, name, b"", ttl.as_bytes(), b"1", b"", b"0"],
    };
    if let Err(error) = shared.commands.run(call).await {
        debug!(server = %pubsub.server, %error, "a probe was not published");
    }
}

/// A probe channel on a master.
pub(crate) fn choose(
    shared: &Shared,
    layout: &Layout,
    server: &Server,
    pubsub: u64,
) -> Option<Probe> {
    let tags = (0..TAGS_TRIED).filter_map(|attempt| {
        let tag = format!("probe:{:x}:{pubsub}:{attempt}", shared.incarnation);
        ChannelName::new(&tag).ok()
    });
    let mut fitting = tags.filter(|tag| layout.owner(keys::slot(tag.as_str())) == Some(server));
    let tag = fitting.next()?;
    let name = shared.commands.keys().probe(&tag);
    Some(Probe { tag, name })
}

/// 10: how closely a silent pub/sub connection is watched.
const TURNS: u32 = 10;

/// 2: one may be lost to a command connection that has just died.
const MISSES_MAX: u32 = 2;

/// 100,000: even a master with one slot of 16,384 owns one of so many tags.
const TAGS_TRIED: u32 = 100_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_silent_connection_is_probed_twice_and_given_up() {
        let after = Duration::from_secs(5);
        let start = Instant::now();
        let mut silence = Silence::default();
        let mut at = |seconds: f64, heard: Instant| {
            silence.next(heard, start + Duration::from_secs_f64(seconds), after)
        };
        // (seconds, when the pub/sub connection was heard last, what to do)
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
