//! One channel's owner on this node: what waits, where the channel stands, who is live and who is still joining.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fanfare_protocol::{
    ChannelName, Epoch, Gap, Link, Position, Reset, ServerMessage, SubscriptionSucceeded, Tag,
};

use super::live::{Live, Subscriber};
use super::merge::{self, Joined};
use super::op::{Activated, Activation, Notice, Op, SubscriberId};
use super::outbox::{Offer, Outbox};
use super::prepared::{self, Joiner, Prepared};
use crate::delivery::Delivery;
use crate::dialect::Dialect;
use crate::rules::SlowReader;

/// A subscriber whose history is still being read.
#[derive(Debug)]
struct Buffering {
    outbox: Arc<Outbox>,
    buffered: Vec<Delivery>,
    bytes: usize,
    has_overflowed: bool,
}

/// What has arrived and was not handed on yet.
#[derive(Debug)]
pub(super) enum Waiting {
    Delivery(Delivery),
    Notice(Notice),
}

impl Waiting {
    /// The bytes it holds, for bounded queues.
    pub(super) fn cost_bytes(&self) -> usize {
        match self {
            Self::Delivery(delivery) => delivery.cost_bytes(),
            Self::Notice(_) => NOTICE_BYTES,
        }
    }
}

#[derive(Debug)]
pub(super) struct Channel {
    name: ChannelName,
    slow_reader: SlowReader,
    /// The last delivery that passed here.
    position: Option<Position>,
    /// The history that the live subscribers stand in.
    epoch: Option<Epoch>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// What has to wait for the end of a sweep.
    deferred: Vec<Op>,
    live_count: usize,
    pub(super) live: Live,
    buffering: HashMap<SubscriberId, Buffering>,
    dialects: [u32; Dialect::COUNT],
    /// The highest `from` among the live ones: below it the sweep must look closely.
    from_max: u64,
    pub(super) is_sweeping: bool,
    /// A loss that can be told only when the subscribers are back from a sweep.
    pending_gap: Option<&'static str>,
}

impl Channel {
    pub(super) fn new(name: ChannelName, slow_reader: SlowReader) -> Self {
        Self {
            name,
            slow_reader,
            position: None,
            epoch: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            deferred: Vec::new(),
            live_count: 0,
            live: Live::default(),
            buffering: HashMap::new(),
            dialects: [0; Dialect::COUNT],
            from_max: 0,
            is_sweeping: false,
            pending_gap: None,
        }
    }

    pub(super) fn subscriber_count(&self) -> usize {
        self.live_count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live_count == 0 && self.buffering.is_empty() && !self.is_sweeping
    }

    /// Keeps an operation for the end of the sweep.
    pub(super) fn defer(&mut self, op: Op) {
        self.deferred.push(op);
    }

    pub(super) fn take_deferred(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.deferred)
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn repeats_up_to(&self) -> u64 {
        self.from_max
    }

    pub(super) fn slow_reader(&self) -> SlowReader {
        self.slow_reader
    }

    /// The bytes of what waits.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.cost_bytes();
        self.waiting.push_back(waiting);
    }

    /// Drops what waits for nobody; answers its bytes.
    pub(super) fn drain_waiting(&mut self) -> usize {
        self.waiting.clear();
        std::mem::take(&mut self.waiting_bytes)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.waiting_bytes -= waiting.cost_bytes();
        Some(waiting)
    }

    pub(super) fn join(&mut self, id: SubscriberId, outbox: Arc<Outbox>) {
        let buffering = Buffering {
            outbox,
            buffered: Vec::new(),
            bytes: 0,
            has_overflowed: false,
        };
        self.buffering.insert(id, buffering);
    }

    /// Takes a subscriber out. Must not be called during a sweep of this channel.
    pub(super) fn leave(&mut self, id: SubscriberId) {
        if let Some(gone) = self.live.remove(id) {
            self.dialects[gone.outbox.dialect().index()] -= 1;
            self.live_count -= 1;
        } else {
            self.stop_buffering(id);
        }
    }

    /// Takes the next run of waiting deliveries, about 16 KiB, checks its chain once for everybody, hands it to those who are
    /// still joining, and encodes it for those who are live.
    ///
    /// A run never crosses a notice or a change of epoch: what happened is told first.
    pub(super) fn next_run(&mut self) -> Option<Prepared> {
        let mut run = Vec::new();
        let mut bytes = 0;
        let mut new_epoch = None;
        while let Some(waiting) = self.waiting.front() {
            let cost = waiting.cost_bytes();
            let delivery = match waiting {
                Waiting::Delivery(delivery) => delivery,
                Waiting::Notice(_) if !run.is_empty() => break,
                Waiting::Notice(notice) => {
                    let notice = *notice;
                    self.pop();
                    new_epoch = self.take_notice(notice).or(new_epoch);
                    continue;
                }
            };
            if !run.is_empty() && bytes + cost > RUN_BYTES {
                break;
            }
            let (position, previous) = (delivery.position, delivery.previous);
            if let Some(next) = position {
                match self.link(next, previous) {
                    Link::Duplicate => {
                        self.pop();
                        continue;
                    }
                    // Every subscriber sees the jump in offsets and recovers it from the history by itself.
                    Link::Next | Link::Gap { .. } => {}
                    Link::Diverged if run.is_empty() => {
                        // The subscribers stand before the delivery that shows the new history.
                        let before = Position {
                            epoch: next.epoch,
                            offset: next.offset.saturating_sub(1),
                            tag: previous.unwrap_or_default(),
                        };
                        self.announce_reset(before, "the channel's history was replaced");
                        new_epoch = Some(next.epoch);
                    }
                    Link::Diverged => break,
                }
            }
            self.position = position.or(self.position);
            self.epoch = self.position.map(|position| position.epoch);
            bytes += cost;
            if let Some(Waiting::Delivery(delivery)) = self.pop() {
                run.push(delivery);
            }
        }
        if run.is_empty() {
            return None;
        }
        for buffering in self.buffering.values_mut() {
            buffering.hold(&run);
        }
        let in_use = self.dialects.map(|count| count > 0);
        Some(Prepared::new(run, new_epoch, in_use))
    }

    /// How a delivery follows what passed here; the first one may start anywhere in the history that the subscribers stand in.
    fn link(&self, next: Position, previous: Option<Tag>) -> Link {
        match (self.position, self.epoch) {
            (Some(at), _) => at.link(next, previous),
            (None, Some(epoch)) if epoch != next.epoch => Link::Diverged,
            (None, _) => Link::Next,
        }
    }

    /// Makes a joining subscription live: its reply, what it missed, and its place among the live ones, in one step.
    pub(super) fn activate(&mut self, id: SubscriberId, activation: Activation) -> Activated {
        let Some(buffering) = self.buffering.get_mut(&id) else {
            return Activated::Gone;
        };
        let Activation {
            request,
            wish,
            history,
            presence,
            member,
            is_last_try,
            bytes_max,
        } = activation;
        let buffered = std::mem::take(&mut buffering.buffered);
        buffering.bytes = 0;
        let has_overflowed = std::mem::take(&mut buffering.has_overflowed);
        let snapshot = presence.as_ref().map(|(_, position)| *position);
        let joined = match history {
            None => Ok(None),
            Some(_) if has_overflowed => Err(merge::Hole),
            Some(history) => {
                merge::merge(wish, history, snapshot, buffered.clone(), bytes_max).map(Some)
            }
        };
        let joined = match joined {
            Ok(joined) => joined,
            Err(merge::Hole) if !is_last_try => {
                // What is buffered stays: the next read of the history starts before it.
                buffering.restore(buffered, has_overflowed);
                return Activated::Hole;
            }
            Err(merge::Hole) => match self.position {
                Some(position) if snapshot.is_none() => Some(Joined {
                    position,
                    recovered: false,
                    events: Vec::new(),
                    live: Vec::new(),
                }),
                _ => return Activated::Failed,
            },
        };
        let Some(buffering) = self.stop_buffering(id) else {
            return Activated::Gone;
        };
        let (position, recovered, events, live) = match joined {
            Some(joined) => (
                Some(joined.position),
                joined.recovered,
                joined.events,
                joined.live,
            ),
            None => (None, false, Vec::new(), Vec::new()),
        };
        let reply = SubscriptionSucceeded {
            id: request,
            channel: self.name.clone(),
            position,
            recovered,
            events: events.iter().map(Delivery::to_event).collect(),
            presence: presence.map(|(presence, _)| presence),
            user_id: member,
        };
        self.go_live(id, buffering, reply, &live);
        Activated::Live
    }

    fn stop_buffering(&mut self, id: SubscriberId) -> Option<Buffering> {
        let stopped = self.buffering.remove(&id);
        if self.buffering.is_empty() {
            // Nothing of a storm of joins is kept.
            self.buffering = HashMap::new();
        }
        stopped
    }

    fn go_live(
        &mut self,
        id: SubscriberId,
        buffering: Buffering,
        reply: SubscriptionSucceeded,
        live: &[Delivery],
    ) {
        let outbox = buffering.outbox;
        let position = reply.position;
        let mut out = Joiner::new(outbox.dialect());
        out.push_message(&ServerMessage::SubscriptionSucceeded(reply));
        for delivery in live {
            out.push(delivery, None, Some(outbox.socket()));
        }
        let last = live
            .last()
            .and_then(|delivery| delivery.position)
            .or(position);
        offer(&outbox, &out.finish());
        let from = last.map_or(0, |position| position.offset);
        if self.epoch.is_none() {
            self.epoch = last.map(|position| position.epoch);
        }
        if self.position.is_none_or(|at| at.offset < from) {
            self.from_max = self.from_max.max(from);
        }
        self.live_count += 1;
        self.dialects[outbox.dialect().index()] += 1;
        self.live.push(Subscriber {
            id,
            from,
            is_dropping: false,
            outbox,
        });
    }

    /// Tells every live subscriber that messages were lost here and cannot be recovered.
    ///
    /// Who is just being swept is told right after.
    pub(super) fn announce_gap(&mut self, reason: &'static str) {
        if self.is_sweeping {
            self.pending_gap = Some(reason);
            return;
        }
        let gap = Gap {
            channel: self.name.clone(),
            from: None,
            to: None,
            reason: reason.to_owned(),
        };
        self.announce(&ServerMessage::Gap(gap));
    }

    /// Tells what had to wait for the end of a sweep.
    pub(super) fn announce_pending(&mut self) {
        if let Some(reason) = self.pending_gap.take() {
            self.announce_gap(reason);
        }
    }

    /// Tells the live subscribers; answers the epoch that what follows has to name, if it is another one.
    fn take_notice(&mut self, notice: Notice) -> Option<Epoch> {
        match notice {
            Notice::Gap { reason } => {
                self.announce_gap(reason);
                None
            }
            Notice::Reset { position, reason } => {
                self.announce_reset(position, reason);
                self.position = Some(position);
                self.epoch = Some(position.epoch);
                Some(position.epoch)
            }
        }
    }

    fn announce_reset(&mut self, position: Position, reason: &'static str) {
        self.from_max = 0;
        for subscriber in self.live.iter_mut() {
            subscriber.from = 0;
        }
        for buffering in self.buffering.values_mut() {
            buffering.has_overflowed = true;
        }
        self.announce(&ServerMessage::Reset(Reset {
            channel: self.name.clone(),
            position,
            reason: reason.to_owned(),
        }));
    }

    fn announce(&self, message: &ServerMessage) {
        for dialect in Dialect::ALL {
            if self.dialects[dialect.index()] == 0 {
                continue;
            }
            let frames = prepared::message(dialect, message);
            for subscriber in self
                .live
                .iter()
                .filter(|subscriber| subscriber.outbox.dialect() == dialect)
            {
                offer(&subscriber.outbox, &frames);
            }
        }
    }
}

impl Buffering {
    fn hold(&mut self, run: &[Delivery]) {
        if self.has_overflowed {
            return;
        }
        self.bytes += run.iter().map(Delivery::cost_bytes).sum::<usize>();
        if self.buffered.len() + run.len() > BUFFERED_MAX || self.bytes > BUFFERED_BYTES_MAX {
            self.has_overflowed = true;
            self.buffered = Vec::new();
            self.bytes = 0;
            return;
        }
        self.buffered.extend_from_slice(run);
    }

    fn restore(&mut self, buffered: Vec<Delivery>, has_overflowed: bool) {
        if !has_overflowed {
            self.bytes = buffered.iter().map(Delivery::cost_bytes).sum();
            self.buffered = buffered;
        }
    }
}

/// Offers frames to one connection; who has no room for them is too slow.
pub(super) fn offer(outbox: &Outbox, frames: &bytes::Bytes) {
    if !frames.is_empty() && outbox.offer(frames) == Offer::Full {
        outbox.mark_slow();
    }
}

/// 128: what a notice that waits counts for in bounded queues.
pub(super) const NOTICE_BYTES: usize = 128;

/// 16 KiB: a run's joined buffer stays within one comfortable write.
const RUN_BYTES: usize = 16 << 10;

/// 256: what a joining subscription may hold back before it has to read the history again.
const BUFFERED_MAX: usize = 256;

/// 256 KiB, likewise.
const BUFFERED_BYTES_MAX: usize = 256 << 10;
