//! One walk over a channel's live subscribers with one run of deliveries. It never waits for a socket.

use bytes::Bytes;
use fanfare_protocol::{ChannelName, Gap, ServerMessage};

use super::channel::{self, Channel};
use super::live::Subscriber;
use super::outbox::Offer;
use super::prepared::{self, Prepared};
use crate::rules::SlowReader;

/// A walk under way. While it lasts it owns the channel's live subscribers, so nobody can join or leave in between.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) channel: ChannelName,
    prepared: Prepared,
    subscribers: Vec<Subscriber>,
    at: usize,
    looks_closely: bool,
    slow_reader: SlowReader,
}

impl Sweep {
    /// Starts a walk if something waits and somebody listens.
    pub(super) fn start(name: &ChannelName, channel: &mut Channel) -> Option<Self> {
        let prepared = channel.next_run()?;
        let is_repeating = prepared
            .first_offset()
            .is_some_and(|first| first <= channel.repeats_up_to());
        let looks_closely = is_repeating || prepared.has_exception();
        channel.is_sweeping = true;
        Some(Self {
            channel: name.clone(),
            prepared,
            subscribers: channel.live.lend(),
            at: 0,
            looks_closely,
            slow_reader: channel.slow_reader(),
        })
    }

    /// Serves up to so many further subscribers; answers how many.
    pub(super) fn step(&mut self, count_max: usize) -> usize {
        let start = self.at;
        let end = self.subscribers.len().min(start + count_max);
        for subscriber in &mut self.subscribers[start..end] {
            let own;
            let frames = if self.looks_closely && is_special(&self.prepared, subscriber) {
                own = apart(&self.prepared, subscriber);
                &own
            } else if let Some(frames) = self.prepared.joined(subscriber.outbox.dialect()) {
                frames
            } else {
                continue;
            };
            match self.slow_reader {
                SlowReader::Close => channel::offer(&subscriber.outbox, frames),
                SlowReader::Drop => offer_or_drop(&self.channel, subscriber, frames),
            }
        }
        self.at = end;
        end - start
    }

    /// Whether everybody has been served.
    pub(super) fn is_done(&self) -> bool {
        self.at == self.subscribers.len()
    }

    /// Gives the subscribers back.
    pub(super) fn finish(self, channel: &mut Channel) {
        channel.live.take_back(self.subscribers);
        channel.is_sweeping = false;
    }
}

fn is_special(prepared: &Prepared, subscriber: &Subscriber) -> bool {
    prepared
        .first_offset()
        .is_some_and(|first| first <= subscriber.from)
        || prepared.excludes(subscriber.outbox.socket())
}

/// The buffer of a subscriber that has had some of the run, or must not get some of it.
fn apart(prepared: &Prepared, subscriber: &Subscriber) -> Bytes {
    let outbox = &subscriber.outbox;
    prepared.join(outbox.dialect(), Some(outbox.socket()), subscriber.from)
}

fn offer_or_drop(channel: &ChannelName, subscriber: &mut Subscriber, frames: &Bytes) {
    let outbox = &subscriber.outbox;
    if subscriber.is_dropping && !outbox.is_empty() {
        return;
    }
    subscriber.is_dropping = !frames.is_empty() && outbox.offer(frames) == Offer::Full;
    if subscriber.is_dropping {
        let reason = "the connection did not read fast enough".to_owned();
        let gap = ServerMessage::Gap(Gap {
            channel: channel.clone(),
            from: None,
            to: None,
            reason,
        });
        outbox.notice(prepared::message(outbox.dialect(), &gap));
    }
}
