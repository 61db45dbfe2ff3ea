//! Who listens to which channel.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::{ChannelName, RawJson};
use tokio::sync::Notify;

use crate::error::ClientError;
use crate::event::{ChannelState, ChannelStatus, Event};

use super::queue::{Listener, Queue, is_final};

/// The queues of all subscriptions.
#[derive(Debug)]
pub(super) struct Listeners {
    queues: HashMap<ChannelName, Vec<Arc<Queue>>>,
    events_max: usize,
    /// Told whenever a listener is dropped.
    gone: Arc<Notify>,
    failed: Vec<ChannelName>,
}

impl Listeners {
    pub(super) fn new(events_max: usize) -> Self {
        Self {
            queues: HashMap::new(),
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
        let queue = Arc::new(Queue::new(channel.clone(), self.events_max, state));
        let queues = self.queues.entry(channel).or_default();
        queues.push(Arc::clone(&queue));
        Listener::new(queue, Arc::clone(&self.gone))
    }

    /// Whether somebody listens to a channel.
    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        let queues = self.queues.get(channel).map_or(&[][..], Vec::as_slice);
        queues.iter().any(|queue| !queue.is_abandoned())
    }

    /// Waits until a listener is gone.
    pub(super) async fn one_gone(&self) {
        self.gone.notified().await;
    }

    /// Drops the queues that nobody listens to; the channels that have none left.
    pub(super) fn take_abandoned(&mut self) -> Vec<ChannelName> {
        let mut channels = Vec::new();
        self.queues.retain(|channel, queues| {
            queues.retain(|queue| !queue.is_abandoned());
            if queues.is_empty() {
                channels.push(channel.clone());
            }
            !queues.is_empty()
        });
        channels.sort();
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
            | Event::Updated { channel, .. }
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

    /// No connection will come: nobody listens to anything any more.
    pub(super) fn fail_all(&mut self, error: &ClientError) {
        for (channel, queues) in self.queues.drain() {
            for queue in queues {
                queue.push(Event::Channel(ChannelStatus {
                    channel: channel.clone(),
                    state: ChannelState::Failed,
                    previous: queue.state(),
                    recovered: false,
                    error: Some(error.clone()),
                }));
                queue.end();
            }
            self.failed.push(channel);
        }
    }

    /// Nothing more will come, for anybody.
    pub(super) fn end_all(&mut self) {
        for (_, queues) in self.queues.drain() {
            queues.iter().for_each(|queue| queue.end());
        }
    }

    fn push(&self, channel: &ChannelName, event: Event<RawJson>) {
        if let Some((last, others)) = self.queues.get(channel).and_then(|all| all.split_last()) {
            for queue in others {
                queue.push(event.clone());
            }
            last.push(event);
        }
    }

    fn end(&mut self, channel: &ChannelName) {
        let queues = self.queues.remove(channel).unwrap_or_default();
        queues.iter().for_each(|queue| queue.end());
    }
}
