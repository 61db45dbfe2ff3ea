//! Makes sense of what comes in on the pub/sub connections, in the order of arrival.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::handoff::Item;
use super::pubsub::PubSubConnection;
use crate::clock::{Instant, Throttle};
use crate::engine::redis::channel::envelope;
use crate::engine::redis::flow::Shared;
use crate::fairness::{Share, units_of};

/// Reads until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let reader = Reader {
        shared,
        overflows: Throttle::new(WARN_INTERVAL),
    };
    // Kept from one load to the next: while messages keep coming, every load may be small and there at once.
    let mut share = Share::of(UNITS_PER_TURN);
    loop {
        let queue = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            queue = reader.shared.handoff.take() => queue,
        };
        for (pubsub, item) in queue.items {
            share.spend(1 + units_of(item.payload_bytes()));
            reader.take(&pubsub, item);
            share.yield_if_spent().await;
            if stop.is_cancelled() {
                return;
            }
        }
        // After everything that came before: what is read now has what was dropped.
        if !queue.dropped.is_empty() {
            reader.note_dropped(queue.dropped.iter());
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    overflows: Throttle,
}

impl Reader {
    fn take(&self, pubsub: &Arc<PubSubConnection>, item: Item) {
        let now = Instant::now();
        let shared = &self.shared;
        match item {
            Item::Lost => {
                info!(server = %pubsub.server, "pub/sub connection lost");
                pubsub.note_lost();
                shared.tracks.lost(pubsub.number, now);
                shared.requests.lost(pubsub.number);
                shared.distrust();
            }
            Item::Settled { request, channels } => {
                let tracks = &shared.tracks;
                tracks.settled(pubsub.number, request, channels, now);
                shared.requests.settled(request, now);
            }
            _ if pubsub.is_lost() => {}
            Item::Message { name, payload } => {
                pubsub.hear(now);
                self.take_message(pubsub, &name, &payload, now);
            }
            Item::Subscribed(name) => {
                pubsub.hear(now);
                match shared.commands.keys().parse_channel(&name) {
                    Some(channel) => shared.tracks.subscribed(pubsub.number, &channel),
                    None => shared.requests.subscribed(pubsub.number, &name),
                }
            }
            Item::Unsubscribed(name) => {
                let is_surprise = match shared.commands.keys().parse_channel(&name) {
                    Some(channel) => shared.tracks.unsubscribed(pubsub.number, &channel, now),
                    None => shared.requests.unsubscribed(pubsub.number, &name),
                };
                if is_surprise {
                    // The slot has a new owner.
                    shared.distrust();
                }
            }
        }
    }

    fn take_message(&self, pubsub: &PubSubConnection, name: &[u8], payload: &[u8], now: Instant) {
        let shared = &self.shared;
        let Some(channel) = shared.commands.keys().parse_channel(name) else {
            let lost = shared.requests.take(&shared.deliver, name, payload);
            if let Some(channels) = lost {
                shared.tracks.possible_loss(&channels, now);
            }
            return;
        };
        let commands = &shared.commands;
        match envelope::decode_message(&channel, payload, commands.payload_bytes_max()) {
            Ok(message) => shared.tracks.arrived(pubsub.number, message, now),
            Err(error) => {
                commands.warn_unreadable(&channel, &error);
                // It may have stood for a message of the channel, so that it counts as one that was lost.
                shared.tracks.dropped(&channel, now);
            }
        }
    }

    fn note_dropped<'a>(&self, names: impl ExactSizeIterator<Item = &'a Vec<u8>>) {
        if let Some(held_back) = self.overflows.turn() {
            let channels = names.len();
            warn!(
                channels,
                held_back, "messages come in faster than this node takes them"
            );
        }
        let now = Instant::now();
        for name in names {
            if let Some(channel) = self.shared.commands.keys().parse_channel(name) {
                self.shared.tracks.dropped(&channel, now);
            }
        }
    }
}

/// 512: about half a millisecond; then other tasks get their turn.
const UNITS_PER_TURN: u32 = 512;

/// 10 s: what a peer can cause is logged no more often.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
