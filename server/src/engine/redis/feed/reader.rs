//! Reads what arrives on the pub/sub connections, in the order of arrival.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "another program writes to the Redis channels".

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::handoff::{Handoff, Item};
use super::pubsub::PubSubConnection;
use super::tracks::Tracks;
use crate::clock::{Instant, Throttle};
use crate::engine::Deliver;
use crate::engine::redis::channel::envelope;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::nodes::requests::NodeRequests;
use crate::fairness::{Share, units_of};

/// The task that reads.
pub(crate) struct Reader {
    store: ChannelStore,
    tracks: Arc<Tracks>,
    requests: Arc<NodeRequests>,
    deliver: Deliver,
    overflows: Throttle,
}

impl Reader {
    /// A reader that hands messages to the tracks, and what concerns nodes to the requests.
    pub(crate) fn new(
        store: ChannelStore,
        tracks: Arc<Tracks>,
        requests: Arc<NodeRequests>,
        deliver: Deliver,
    ) -> Self {
        Self {
            store,
            tracks,
            requests,
            deliver,
            overflows: Throttle::new(WARN_INTERVAL),
        }
    }

    /// Reads until it is stopped.
    pub(crate) async fn run(self, handoff: Arc<Handoff>, stop: CancellationToken) {
        // Kept from one load to the next: while messages keep coming, every load may be small and there at once.
        let mut share = Share::of(UNITS_PER_TURN);
        loop {
            let queue = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                queue = handoff.take() => queue,
            };
            for (pubsub, item) in queue.items {
                share.spend(1 + units_of(item.payload_bytes()));
                self.take(&pubsub, item);
                share.yield_if_spent().await;
                if stop.is_cancelled() {
                    return;
                }
            }
            // After everything that came before: what is read now has what was dropped.
            if !queue.dropped.is_empty() {
                self.note_dropped(queue.dropped.iter());
            }
        }
    }

    fn take(&self, pubsub: &Arc<PubSubConnection>, item: Item) {
        let now = Instant::now();
        match item {
            Item::Lost => {
                info!(server = %pubsub.server, "pub/sub connection lost");
                pubsub.note_lost();
                self.tracks.lost(pubsub.number, now);
                self.requests.lost(pubsub.number);
                self.request_lookup();
            }
            Item::Settled { call, channels } => {
                let tracks = &self.tracks;
                tracks.settled(pubsub.number, call, channels, now);
                self.requests.settled(call, now);
            }
            _ if pubsub.is_lost() => {}
            Item::Message { name, payload } => {
                pubsub.hear(now);
                self.take_message(pubsub, &name, &payload, now);
            }
            Item::Subscribed(name) => {
                pubsub.hear(now);
                match self.store.keys().parse_channel(&name) {
                    Some(channel) => self.tracks.subscribed(pubsub.number, &channel),
                    None => self.requests.subscribed(pubsub.number, &name),
                }
            }
            Item::Unsubscribed(name) => {
                let is_surprise = match self.store.keys().parse_channel(&name) {
                    Some(channel) => self.tracks.unsubscribed(pubsub.number, &channel, now),
                    None => self.requests.unsubscribed(pubsub.number, &name),
                };
                if is_surprise {
                    // The slot has a new owner.
                    self.request_lookup();
                }
            }
        }
    }

    fn take_message(&self, pubsub: &PubSubConnection, name: &[u8], payload: &[u8], now: Instant) {
        let Some(channel) = self.store.keys().parse_channel(name) else {
            let lost = self.requests.take(&self.deliver, name, payload);
            if let Some(channels) = lost {
                self.tracks.possible_loss(&channels, now);
            }
            return;
        };
        match envelope::decode_message(&channel, payload, self.store.payload_bytes_max()) {
            Ok(message) => self.tracks.arrived(pubsub.number, message, now),
            Err(error) => {
                self.store.warn_unreadable(&channel, &error);
                // It may have stood for a message of the channel, so that it counts as one that was lost.
                self.tracks.dropped(&channel, now);
            }
        }
    }

    fn request_lookup(&self) {
        self.store.commands().topology().request_lookup();
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
            if let Some(channel) = self.store.keys().parse_channel(name) {
                self.tracks.dropped(&channel, now);
            }
        }
    }
}

/// 512: about half a millisecond; then other tasks get their turn.
const UNITS_PER_TURN: u32 = 512;

/// 10 s: what a peer can cause is logged no more often.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
