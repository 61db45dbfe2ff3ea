//! Who is here and wants what, on this node.
//!
//! The hub never waits for a socket, an engine or a lock held elsewhere. It knows no engine, no session and no HTTP: deliveries
//! come in through [`Hub::enqueue`], subscribers through [`Hub::join`], and which channels are wanted goes out through one
//! callback.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_protocol::{ChannelName, ServerMessage};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::merge::Wish;
pub(crate) use self::op::{Activated, Activation, Notice};
use self::op::{Op, SubscriberId};
pub(crate) use self::outbox::{Flush, Offer, Outbox, Stream};
use self::shard::Shard;
use crate::delivery::Delivery;
use crate::rules::SlowReader;

mod channel;
mod live;
mod merge;
mod op;
mod outbox;
pub(crate) mod prepared;
mod shard;
mod sweep;

/// Told, in order per channel, when a channel gets its first and loses its last membership. It may only record.
pub(crate) type OnInterest = Arc<dyn Fn(&ChannelName, bool) + Send + Sync>;

/// This node's channels, spread over shards; each shard has one owner.
pub(crate) struct Hub {
    shards: Box<[Arc<Shard>]>,
    hasher: RandomState,
    next_id: AtomicU64,
}

impl Hub {
    /// Starts the owners; they end when `stop` is cancelled.
    pub(crate) fn start(
        shards: usize,
        on_interest: &OnInterest,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let shards: Box<[Arc<Shard>]> = (0..shards.max(1)).map(|_| Arc::default()).collect();
        for shard in &shards {
            tasks.spawn(shard::run(
                Arc::clone(shard),
                Arc::clone(on_interest),
                stop.clone(),
            ));
        }
        Arc::new(Self {
            shards,
            hasher: RandomState::new(),
            next_id: AtomicU64::new(1),
        })
    }

    /// Takes a delivery for its channel's subscribers here. Order per channel is kept; never blocks.
    pub(crate) fn enqueue(&self, delivery: Delivery) {
        self.shard(&delivery.channel).deliver(delivery);
    }

    /// Tells a channel's subscribers here what happened to its messages, in its place among the deliveries; never blocks.
    pub(crate) fn notify(&self, channel: ChannelName, notice: Notice) {
        let shard = Arc::clone(self.shard(&channel));
        shard.push(Op::Notify { channel, notice });
    }

    /// Waits until this channel's shard has room for another delivery. Cancel safe.
    pub(crate) async fn admit(&self, channel: &ChannelName) {
        self.shard(channel).admit().await;
    }

    /// Adds a subscriber that is still joining: from now on its channel's deliveries are held for it.
    ///
    /// Answers `None` when the hub has stopped.
    pub(crate) async fn join(
        &self,
        channel: ChannelName,
        outbox: Arc<Outbox>,
        slow_reader: SlowReader,
    ) -> Option<Membership> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let shard = Arc::clone(self.shard(&channel));
        let (done, joined) = oneshot::channel();
        // The guard exists before the entry does: whoever drops this future half-way leaves nothing behind.
        let membership = Membership {
            shard,
            channel: channel.clone(),
            id,
            outbox: Arc::clone(&outbox),
            farewell: None,
        };
        membership.shard.push(Op::Join {
            channel,
            id,
            outbox,
            slow_reader,
            done,
        });
        joined.await.ok()?;
        Some(membership)
    }

    /// How many connections are subscribed to a channel on this node.
    pub(crate) async fn subscriber_count(&self, channel: &ChannelName) -> usize {
        let (done, count) = oneshot::channel();
        self.shard(channel).push(Op::Count {
            channel: channel.clone(),
            done,
        });
        count.await.unwrap_or(0)
    }

    /// The channels with subscribers on this node, and how many each has.
    pub(crate) async fn channels(&self) -> Vec<(ChannelName, usize)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let (done, channels) = oneshot::channel();
            shard.push(Op::Channels { done });
            all.extend(channels.await.unwrap_or_default());
        }
        all
    }

    /// The bytes of deliveries that are not encoded yet.
    #[cfg(test)]
    fn waiting_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.waiting_bytes()).sum()
    }

    fn shard(&self, channel: &ChannelName) -> &Arc<Shard> {
        let hash = self.hasher.hash_one(channel);
        let count = self.shards.len() as u64;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a remainder of the number of shards is an index"
        )]
        let at = (hash % count) as usize;
        &self.shards[at]
    }
}

/// A session's place in a channel. Dropping it leaves the channel.
#[derive(Debug)]
pub(crate) struct Membership {
    shard: Arc<Shard>,
    channel: ChannelName,
    id: SubscriberId,
    outbox: Arc<Outbox>,
    farewell: Option<bytes::Bytes>,
}

impl Membership {
    /// The channel.
    pub(crate) fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Makes the subscription live: reply, missed messages and the switch are one step of the channel's owner.
    pub(crate) async fn activate(&self, activation: Activation) -> Activated {
        let (done, activated) = oneshot::channel();
        let activation = Box::new(activation);
        self.shard.push(Op::Activate {
            channel: self.channel.clone(),
            id: self.id,
            activation,
            done,
        });
        activated.await.unwrap_or(Activated::Gone)
    }

    /// Leaves with a last message, which is sent when nothing of the channel can follow it any more.
    pub(crate) fn leave_with(mut self, message: &ServerMessage) {
        self.farewell = Some(prepared::message(self.outbox.dialect(), message));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let farewell = self
            .farewell
            .take()
            .map(|frames| (Arc::clone(&self.outbox), frames));
        self.shard.push(Op::Leave {
            channel: self.channel.clone(),
            id: self.id,
            farewell,
        });
    }
}

#[cfg(test)]
mod tests;
