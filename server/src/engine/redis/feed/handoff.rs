//! The bounded queue from the pub/sub connections to the reader.
//!
//! A connection must never wait: Redis cuts off a subscriber that does not read. So when the queue is full, messages are dropped and
//! their channels are remembered, which is enough to read them from the history or to report a gap.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "more arrives than a server can take".

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::ChannelName;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::pubsub::PubSubConnection;

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
