//! The channels of one shard and the one task that owns them.
//!
//! Everything reaches the owner through its inbox, in order; nobody else touches a channel. That is why joining, leaving and
//! the switch from buffering to live need no lock and have no race.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fanfare_protocol::ChannelName;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::OnInterest;
use super::channel::NOTICE_BYTES;
use super::channel::{self, Channel, Waiting};
use super::op::{Activated, Op, SubscriberId};
use super::outbox::Outbox;
use super::sweep::Sweep;
use crate::delivery::Delivery;
use crate::fairness::Share;
use crate::tables::shrink_map;

/// The side of a shard that everybody sees.
#[derive(Debug, Default)]
pub(super) struct Shard {
    inbox: Mutex<Inbox>,
    /// Bytes of deliveries that were handed in and not yet encoded.
    waiting_bytes: AtomicUsize,
    wake: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    ops: Vec<Op>,
    /// Channels that lost a delivery because the shard was full.
    overflowed: HashSet<ChannelName>,
}

impl Shard {
    /// Hands in an operation. Never blocks for longer than the inbox is swapped.
    pub(super) fn push(&self, op: Op) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = inbox.ops.is_empty();
        inbox.ops.push(op);
        drop(inbox);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Hands in a delivery; past the hard bound it is dropped and its channel is told so.
    pub(super) fn deliver(&self, delivery: Delivery) {
        let bytes = delivery.cost_bytes();
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.overflowed.insert(delivery.channel);
            drop(inbox);
            self.wake.notify_one();
            return;
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.push(Op::Deliver(delivery));
    }

    /// Waits until the shard has room for more. Cancel safe.
    pub(super) async fn admit(&self) {
        loop {
            let room = self.room.notified();
            if self.waiting_bytes.load(Ordering::Relaxed) <= ADMIT_BYTES_MAX {
                return;
            }
            room.await;
        }
    }

    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    fn release(&self, bytes: usize) {
        let before = self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > ADMIT_BYTES_MAX && before - bytes <= ADMIT_BYTES_MAX {
            self.room.notify_waiters();
        }
    }

    fn take(&self, ops: &mut Vec<Op>) -> HashSet<ChannelName> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut inbox.ops, ops);
        std::mem::take(&mut inbox.overflowed)
    }
}

/// The owner: runs until it is told to stop.
pub(super) async fn run(shard: Arc<Shard>, on_interest: OnInterest, stop: CancellationToken) {
    let mut owner = Owner {
        shard: &shard,
        on_interest,
        channels: HashMap::new(),
        ready: VecDeque::new(),
    };
    let mut sweeps: VecDeque<Sweep> = VecDeque::new();
    let mut ops = Vec::new();
    let mut share = Share::of(SERVED_PER_TURN);
    loop {
        for channel in shard.take(&mut ops) {
            owner.announce_overflow(&channel);
        }
        // Joins and leaves cost something without a sweep, and may keep coming.
        share.spend(served(ops.len() / OPS_PER_SERVED));
        for op in ops.drain(..) {
            owner.apply(op);
        }
        while let Some(name) = owner.ready.pop_front() {
            sweeps.extend(owner.start_sweep(&name));
        }
        if let Some(mut sweep) = sweeps.pop_front() {
            // A sweep without subscribers costs something too.
            let count = sweep.step(share.left() as usize);
            share.spend(served(count).max(1));
            if sweep.is_done() {
                owner.finish_sweep(sweep);
            } else {
                sweeps.push_back(sweep);
            }
        } else if !share.is_spent() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = shard.wake.notified() => continue,
            }
        }
        if share.is_spent() {
            share.yield_if_spent().await;
            if stop.is_cancelled() {
                return;
            }
        }
    }
}

fn served(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

struct Owner<'a> {
    shard: &'a Shard,
    on_interest: OnInterest,
    channels: HashMap<ChannelName, Channel>,
    /// Channels with something waiting and no sweep under way.
    ready: VecDeque<ChannelName>,
}

impl Owner<'_> {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Deliver(delivery) => {
                let channel = delivery.channel.clone();
                self.take_in(channel, Waiting::Delivery(delivery));
            }
            Op::Notify { channel, notice } => {
                self.shard
                    .waiting_bytes
                    .fetch_add(NOTICE_BYTES, Ordering::Relaxed);
                self.take_in(channel, Waiting::Notice(notice));
            }
            Op::Join {
                channel,
                id,
                outbox,
                slow_reader,
                done,
            } => {
                let on_interest = &self.on_interest;
                let entry = self.channels.entry(channel.clone()).or_insert_with(|| {
                    on_interest(&channel, true);
                    Channel::new(channel, slow_reader)
                });
                entry.join(id, outbox);
                let _ = done.send(());
            }
            Op::Activate { ref channel, .. } | Op::Leave { ref channel, .. } => {
                // What arrived before comes first: it is swept before anybody joins the live ones or leaves them.
                match self.channels.get_mut(channel) {
                    Some(entry) if entry.is_sweeping || entry.has_waiting() => entry.defer(op),
                    _ => self.settle(op),
                }
            }
            Op::Count { channel, done } => {
                let _ = done.send(
                    self.channels
                        .get(&channel)
                        .map_or(0, Channel::subscriber_count),
                );
            }
            Op::Channels { done } => {
                let counts = self
                    .channels
                    .iter()
                    .map(|(name, entry)| (name.clone(), entry.subscriber_count()));
                let _ = done.send(counts.filter(|(_, count)| *count > 0).collect());
            }
        }
    }

    fn take_in(&mut self, channel: ChannelName, waiting: Waiting) {
        let Some(entry) = self.channels.get_mut(&channel) else {
            self.shard.release(waiting.cost_bytes());
            return;
        };
        if !entry.has_waiting() && !entry.is_sweeping {
            self.ready.push_back(channel);
        }
        entry.push(waiting);
    }

    /// Carries out what had to wait for a moment without a sweep.
    fn settle(&mut self, op: Op) {
        match op {
            Op::Activate {
                channel,
                id,
                activation,
                done,
            } => {
                let entry = self.channels.get_mut(&channel);
                let _ = done
                    .send(entry.map_or(Activated::Gone, |entry| entry.activate(id, *activation)));
            }
            Op::Leave {
                channel,
                id,
                farewell,
            } => self.leave(&channel, id, farewell),
            other => self.apply(other),
        }
    }

    fn leave(
        &mut self,
        channel: &ChannelName,
        id: SubscriberId,
        farewell: Option<(Arc<Outbox>, Bytes)>,
    ) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.leave(id);
            if entry.is_empty() {
                let left = entry.drain_waiting();
                self.shard.release(left);
                self.channels.remove(channel);
                shrink_map(&mut self.channels);
                (self.on_interest)(channel, false);
            }
        }
        if let Some((outbox, frames)) = farewell {
            channel::offer(&outbox, &frames);
        }
    }

    fn start_sweep(&mut self, name: &ChannelName) -> Option<Sweep> {
        let entry = self.channels.get_mut(name)?;
        let before = entry.waiting_bytes();
        let sweep = Sweep::start(name, entry);
        self.shard.release(before - entry.waiting_bytes());
        if sweep.is_none() {
            for op in entry.take_deferred() {
                self.settle(op);
            }
        }
        sweep
    }

    fn finish_sweep(&mut self, sweep: Sweep) {
        let name = sweep.channel.clone();
        let Some(entry) = self.channels.get_mut(&name) else {
            return;
        };
        sweep.finish(entry);
        entry.announce_pending();
        if entry.has_waiting() {
            self.ready.push_back(name);
        }
        for op in entry.take_deferred() {
            self.settle(op);
        }
    }

    fn announce_overflow(&mut self, channel: &ChannelName) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.announce_gap("the server was overloaded");
        }
    }
}

/// 512: about 2 ms of writes; then other tasks get their turn. Counted over all channels: a yield costs as much as a write, too
/// much for every channel with few subscribers.
const SERVED_PER_TURN: u32 = 512;

/// 8: what an operation costs beside a write.
const OPS_PER_SERVED: usize = 8;

/// 64 MiB: what a shard holds at most before it drops, and says so.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// 8 MiB: above it publishers wait.
const ADMIT_BYTES_MAX: usize = 8 << 20;
