//! The bounded queue from the pub/sub connections, and the task that reads it, in the order of arrival.
//!
//! A connection must never wait: Redis cuts off a subscriber that does not read. So when the queue is full, messages are dropped and
//! their channels are remembered, which is enough to read them from the history or to report a gap.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "more arrives than a server can take" and "another program
//! writes to the Redis channels".

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

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

/// What a pub/sub connection hands to the reader.
#[derive(Debug)]
pub(crate) enum Item {
    /// A message arrived.
    Message {
        /// The channel's name in Redis.
        name: Vec<u8>,
        /// What was published.
        payload: Vec<u8>,
    },
    /// Redis confirms a subscription.
    Subscribed(Vec<u8>),
    /// Redis has ended a subscription, asked or not.
    Unsubscribed(Vec<u8>),
    /// A call for subscriptions is over: Redis confirms no further ones.
    Settled {
        /// Which call.
        call: u64,
        /// The channels that it asked for.
        channels: Vec<ChannelName>,
    },
    /// The connection is gone.
    Lost,
}

/// The queue between connections and the reader.
#[derive(Debug)]
pub(crate) struct Handoff {
    queue: Mutex<Queue>,
    wake: Notify,
    bytes_max: usize,
}

/// What is waiting.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// In the order of arrival.
    pub(crate) items: VecDeque<(Arc<PubSubConnection>, Item)>,
    /// The channels, by their names in Redis, that lost messages here.
    pub(crate) dropped: HashSet<Vec<u8>>,
    bytes: usize,
}

impl Handoff {
    /// An empty queue for at most so many bytes of messages.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            bytes_max,
        }
    }

    /// Adds a push that arrived on a connection. Blocks no longer than a swap of the queue.
    pub(crate) fn push(&self, pubsub: &Arc<PubSubConnection>, push: PushInfo) {
        if let Some(item) = Item::of(push) {
            self.hand_over(pubsub, item);
        }
    }

    /// Adds an item behind all that have arrived so far.
    pub(crate) fn hand_over(&self, pubsub: &Arc<PubSubConnection>, item: Item) {
        let mut queue = self.lock();
        if let Item::Message { name, payload } = &item {
            let bytes = name.len() + payload.len() + ITEM_BYTES;
            if queue.bytes + bytes > self.bytes_max {
                if !queue.dropped.contains(name) {
                    queue.dropped.insert(name.clone());
                }
                drop(queue);
                self.wake.notify_one();
                return;
            }
            queue.bytes += bytes;
        }
        let was_empty = queue.items.is_empty();
        queue.items.push_back((Arc::clone(pubsub), item));
        drop(queue);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Waits until there is an item, and takes all of them. Cancel safe.
    pub(crate) async fn take(&self) -> Queue {
        loop {
            {
                let mut queue = self.lock();
                if !queue.items.is_empty() || !queue.dropped.is_empty() {
                    return std::mem::take(&mut *queue);
                }
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    /// The bytes of its payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            Self::Message { payload, .. } => payload.len(),
            Self::Subscribed(_) | Self::Unsubscribed(_) | Self::Settled { .. } | Self::Lost => 0,
        }
    }

    fn of(push: PushInfo) -> Option<Self> {
        let mut data = push.data.into_iter();
        let mut bytes = || match data.next() {
            Some(Value::BulkString(bytes)) => Some(bytes),
            Some(Value::SimpleString(text)) => Some(text.into_bytes()),
            _ => None,
        };
        match push.kind {
            PushKind::Message | PushKind::SMessage => Some(Self::Message {
                name: bytes()?,
                payload: bytes()?,
            }),
            PushKind::Subscribe | PushKind::SSubscribe => bytes().map(Self::Subscribed),
            PushKind::Unsubscribe | PushKind::SUnsubscribe => bytes().map(Self::Unsubscribed),
            PushKind::Disconnection => Some(Self::Lost),
            _ => None,
        }
    }
}

/// 64: what a waiting message takes beside its bytes.
const ITEM_BYTES: usize = 64;
