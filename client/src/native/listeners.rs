//! Who listens to which channel.

use std::sync::Arc;

use fanfare_protocol::{ChannelName, RawJson};
use tokio::sync::Notify;

use crate::event::{ChannelState, Event};

use super::queue::{Listener, Queue, is_final};

/// The queues of all subscriptions.
#[derive(Debug)]
pub(super) struct Listeners {
    queues: Vec<Arc<Queue>>,
    events_max: usize,
    /// Told whenever a listener is dropped.
    gone: Arc<Notify>,
    failed: Vec<ChannelName>,
}

impl Listeners {
    pub(super) fn new(events_max: usize) -> Self {
        Self {
            queues: Vec::new(),
            events_max,
            gone: Arc::new(Notify::new()),
            failed: Vec::new(),
        }
    }

    /// Another listener of a channel, which is in this state now.
    pub(super) fn add(&mut self, channel: ChannelName, state: ChannelState) -> Listener {
        let state = if is_final(state) {
            ChannelState::Suspended
        } else {
            state
        };
        let queue = Arc::new(Queue::new(channel, self.events_max, state));
        self.queues.push(Arc::clone(&queue));
        Listener::new(queue, Arc::clone(&self.gone))
    }

    /// Waits until a listener is gone.
    pub(super) async fn one_gone(&self) {
        self.gone.notified().await;
    }

    /// Drops the queues that nobody listens to; the channels that have none left.
    pub(super) fn take_abandoned(&mut self) -> Vec<ChannelName> {
        let gone: Vec<Arc<Queue>> = (self.queues)
            .extract_if(.., |queue| queue.is_abandoned())
            .collect();
        let mut channels: Vec<ChannelName> = (gone.iter())
            .map(|queue| queue.channel().clone())
            .filter(|channel| !self.queues.iter().any(|other| other.channel() == channel))
            .collect();
        channels.sort();
        channels.dedup();
        channels
    }

    /// Takes one channel whose listeners have heard that it failed: the machine need not keep it.
    pub(super) fn take_failed(&mut self) -> Option<ChannelName> {
        self.failed.pop()
    }

    /// Hands an event to everybody who listens to its channel.
    pub(super) fn tell(&mut self, event: Event<RawJson>) {
        let (channel, state) = match &event {
            Event::Channel(status) => (status.channel.clone(), Some(status.state)),
            Event::Message(message) => (message.channel.clone(), None),
            Event::Gap(gap) => (gap.channel.clone(), None),
            Event::Reset(reset) => (reset.channel.clone(), None),
            Event::Sync { channel, .. }
            | Event::Joined { channel, .. }
            | Event::Left { channel, .. } => (channel.clone(), None),
            Event::Connection(_) | Event::RequestDone { .. } | Event::Error(_) => return,
        };
        self.push(&channel, event);
        if let Some(state) = state.filter(|&state| is_final(state)) {
            self.end(&channel);
            if state == ChannelState::Failed {
                self.failed.push(channel);
            }
        }
    }

    /// Nothing more will come, for anybody.
    pub(super) fn end_all(&mut self) {
        for queue in self.queues.drain(..) {
            queue.end();
        }
    }

    fn push(&self, channel: &ChannelName, event: Event<RawJson>) {
        let mut queues = (self.queues.iter()).filter(|queue| queue.channel() == channel);
        let Some(mut queue) = queues.next() else {
            return;
        };
        for next in queues {
            queue.push(event.clone());
            queue = next;
        }
        queue.push(event);
    }

    fn end(&mut self, channel: &ChannelName) {
        self.queues.retain(|queue| {
            let is_other = queue.channel() != channel;
            if !is_other {
                queue.end();
            }
            is_other
        });
    }
}
