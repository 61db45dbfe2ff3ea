//! Subscribing to many channels at once: what a list costs, and how many of its channels are worked on at a time.

use std::collections::VecDeque;

use fanfare_protocol::{Code, Command, RawJson, Request, SUBSCRIBE_CHANNELS_MAX, Subscribe};

use super::io::{Effect, OpId, Output};
use super::{Session, Task};
use crate::budget::{Budget, Rate};
use crate::clock::{Instant, Moment};
use crate::config::Limits;

/// What subscribing through lists has used up, and the subscriptions that wait for their turn.
#[derive(Debug)]
pub(super) struct Lists {
    /// How many more channels lists may name now.
    allowance: Budget,
    /// Subscriptions that are worked on.
    running: usize,
    /// Subscriptions that are not worked on yet. Their channels are busy, so that later commands for them keep their order.
    waiting: VecDeque<(OpId, Effect)>,
    waiting_bytes: usize,
}

impl Lists {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            allowance: Budget::full(allowance(limits), now),
            running: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }
}

impl Session {
    /// Takes the channels of a list from the connection's allowance; answers whether it may be carried out. One command of one
    /// channel is always allowed.
    pub(super) fn may_subscribe(&mut self, request: &Request, now: Moment) -> bool {
        let Command::SubscribeAll(list) = &request.command else {
            return true;
        };
        if self.lists.waiting_bytes > WAITING_BYTES_MAX {
            self.refuse(request.id, Code::BUSY, None);
            return false;
        }
        let limits = &self.terms.limits;
        let channels = u32::try_from(list.len()).unwrap_or(u32::MAX);
        let taken = (self.lists.allowance).take(channels, allowance(limits), now.instant);
        match taken {
            Ok(()) => true,
            Err(wait) => {
                self.is_above_limit(request.id, wait);
                false
            }
        }
    }

    /// Subscribes to every channel of a list; each gets its own reply.
    pub(super) fn subscribe_all(&mut self, id: Option<u64>, list: Vec<Subscribe>, now: Moment) {
        for subscribe in list {
            if self.is_busy(&subscribe.channel) {
                let command = Command::Subscribe(subscribe);
                self.queue(Request { id, command });
            } else {
                self.subscribe(id, subscribe, now);
            }
        }
    }

    /// Starts a task, or keeps it until there is room: a list must not set off more work at a time than single commands do.
    pub(super) fn start(&mut self, task: Task, effect: Effect) -> OpId {
        let op = self.next_op;
        self.next_op += 1;
        self.tasks.push((op, task));
        if let Effect::Subscribe(joining) = &effect {
            if self.lists.running >= SUBSCRIBING_MAX {
                self.lists.waiting_bytes += WAITING_BYTES + cost_of(&joining.subscribe);
                self.lists.waiting.push_back((op, effect));
                return op;
            }
            self.lists.running += 1;
        }
        self.outputs.push_back(Output::Do(op, effect));
        op
    }

    /// A subscription that was worked on has ended: the next one has its turn.
    pub(super) fn start_next(&mut self) {
        match self.lists.waiting.pop_front() {
            Some((op, effect)) => {
                if let Effect::Subscribe(joining) = &effect {
                    self.lists.waiting_bytes -= WAITING_BYTES + cost_of(&joining.subscribe);
                }
                self.outputs.push_back(Output::Do(op, effect));
            }
            None => self.lists.running -= 1,
        }
        if self.lists.waiting.is_empty() {
            self.lists.waiting = VecDeque::new();
        }
    }
}

/// What a subscription holds in memory while it waits.
pub(super) fn cost_of(subscribe: &Subscribe) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let json = |json: &Option<RawJson>| json.as_ref().map_or(0, RawJson::len);
    let texts = text(&subscribe.auth) + text(&subscribe.channel_data);
    texts + json(&subscribe.data) + json(&subscribe.info)
}

/// A connection may bring all its channels back at once, and a list of any allowed length must be possible.
fn allowance(limits: &Limits) -> Rate {
    let burst = limits.channels_max.max(SUBSCRIBE_CHANNELS_MAX);
    Rate {
        per_second: limits.commands_per_second,
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
    }
}

/// 16: enough to keep an engine on the network busy, few enough that many connections do not fill its queues.
const SUBSCRIBING_MAX: usize = 16;

/// 256 bytes: a channel's name and the places of its position and task.
const WAITING_BYTES: usize = 256;

/// 2 MiB, above what 5,000 channels with their tokens hold; with more waiting no further list is taken.
const WAITING_BYTES_MAX: usize = 2 << 20;
