//! What a subscription has not received yet: bounded, and honest about what did not fit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::{ChannelName, Position, RawJson};
use tokio::sync::{Notify, watch};

use crate::error::ClientError;
use crate::event::{ChannelState, ChannelStatus, Event, Gap, GapReason};

/// Between the driver, which fills it, and one subscription, which drains it.
#[derive(Debug)]
pub(super) struct Queue {
    channel: ChannelName,
    events_max: usize,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    status: watch::Sender<(ChannelState, Option<ClientError>)>,
    is_dropped: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event<RawJson>>,
    /// Something did not fit. Nothing more is taken until the subscription has heard of it.
    lost: Option<Lost>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Lost {
    first: Option<u64>,
    last: Option<Position>,
}

/// The listening end of a queue; dropping it tells the driver.
#[derive(Debug)]
pub(super) struct Listener {
    queue: Arc<Queue>,
    gone: Arc<Notify>,
}

impl Listener {
    pub(super) fn new(queue: Arc<Queue>, gone: Arc<Notify>) -> Self {
        Self { queue, gone }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.queue.is_dropped.store(true, Ordering::Release);
        self.gone.notify_one();
    }
}

impl Queue {
    pub(super) fn new(channel: ChannelName, events_max: usize, state: ChannelState) -> Self {
        Self {
            channel,
            events_max,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            status: watch::Sender::new((state, None)),
            is_dropped: AtomicBool::new(false),
        }
    }

    pub(super) fn channel(&self) -> &ChannelName {
        &self.channel
    }

    pub(super) fn push(&self, event: Event<RawJson>) {
        if let Event::Channel(status) = &event {
            self.follow(status);
        }
        let mut waiting = self.lock();
        if let Some(lost) = &mut waiting.lost {
            lost.add(&event);
        } else if waiting.events.len() >= self.events_max {
            let mut lost = Lost::default();
            lost.add(&event);
            waiting.lost = Some(lost);
        } else {
            waiting.events.push_back(event);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.status.send_if_modified(|(state, _)| {
            let ends = !is_final(*state);
            if ends {
                *state = ChannelState::Closed;
            }
            ends
        });
        self.lock().has_ended = true;
        self.arrived.notify_one();
    }

    pub(super) async fn pop(&self) -> Option<Event<RawJson>> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut waiting = self.lock();
                if let Some(event) = waiting.events.pop_front() {
                    return Some(event);
                }
                if let Some(lost) = waiting.lost.take() {
                    return Some(Event::Gap(lost.gap(&self.channel)));
                }
                if waiting.has_ended {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Waits until the channel is subscribed, or will not be.
    pub(super) async fn subscribed(&self) -> Result<(), ClientError> {
        let mut status = self.status.subscribe();
        let status = status
            .wait_for(|(state, _)| *state == ChannelState::Subscribed || is_final(*state))
            .await;
        match status.as_deref() {
            Ok((ChannelState::Subscribed, _)) => Ok(()),
            Ok((_, Some(error))) => Err(error.clone()),
            _ => Err(ClientError::Closed),
        }
    }

    pub(super) fn state(&self) -> ChannelState {
        self.status.borrow().0
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    fn follow(&self, status: &ChannelStatus) {
        self.status
            .send_replace((status.state, status.error.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lost {
    fn add(&mut self, event: &Event<RawJson>) {
        let position = match event {
            Event::Message(message) => message.position,
            Event::Joined { position, .. }
            | Event::Updated { position, .. }
            | Event::Left { position, .. } => *position,
            Event::Gap(gap) => gap.position,
            Event::Reset(reset) => Some(reset.position),
            _ => None,
        };
        if let Some(position) = position {
            self.first.get_or_insert(position.offset);
            self.last = Some(position);
        }
    }

    fn gap(self, channel: &ChannelName) -> Gap {
        Gap {
            channel: channel.clone(),
            from: self.first,
            to: self.last.map(|position| position.offset),
            reason: GapReason::Overflow,
            position: self.last,
        }
    }
}

/// Whether a subscription in this state is over.
pub(super) const fn is_final(state: ChannelState) -> bool {
    matches!(state, ChannelState::Closed | ChannelState::Failed)
}
