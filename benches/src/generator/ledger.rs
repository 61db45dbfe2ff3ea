//! What was published, who has got it, and how long it took.

use std::time::Instant;

use crate::histogram::Histogram;
use crate::payload::{self, PAYLOAD_BYTES};
use crate::sequence::{Faults, Sequence};

/// The account of every message and every receiver.
///
/// Messages are numbered through all channels: message `n` goes to channel `n % channels`, and so does receiver `n`.
#[derive(Debug)]
pub struct Ledger {
    channels: u64,
    receivers_per_channel: u32,
    sequences: Vec<Sequence>,
    messages: Vec<Message>,
    payloads: Vec<u8>,
    completed: u64,
    deliveries: u64,
    corrupted: u64,
    latency: Histogram,
}

#[derive(Debug)]
struct Message {
    scheduled: Instant,
    outstanding: u32,
}

impl Ledger {
    /// An account of `receivers` that are spread evenly over `channels`.
    #[must_use]
    pub fn new(receivers: usize, channels: u64) -> Self {
        Self {
            channels,
            receivers_per_channel: u32::try_from(receivers as u64 / channels).unwrap_or(u32::MAX),
            sequences: std::iter::repeat_with(Sequence::default)
                .take(receivers)
                .collect(),
            messages: Vec::new(),
            payloads: Vec::new(),
            completed: 0,
            deliveries: 0,
            corrupted: 0,
            latency: Histogram::default(),
        }
    }

    /// Opens the account of a new message: its channel and its payload.
    pub fn publish(&mut self, scheduled: Instant) -> (u64, &[u8]) {
        let number = self.messages.len() as u64;
        payload::push(&mut self.payloads, number);
        self.messages.push(Message {
            scheduled,
            outstanding: self.receivers_per_channel,
        });
        (
            number % self.channels,
            &self.payloads[self.payloads.len() - PAYLOAD_BYTES..],
        )
    }

    /// Books what a receiver got.
    pub fn deliver(&mut self, receiver: usize, bytes: &[u8], now: Instant) {
        let channel = receiver as u64 % self.channels;
        let expected = self.sequences[receiver].expected() * self.channels + channel;
        let Some(number) = self.recognise(bytes, channel, expected) else {
            self.corrupted += 1;
            return;
        };
        if !self.sequences[receiver].accept(number / self.channels) {
            return;
        }
        let message = &mut self.messages[number as usize];
        self.deliveries += 1;
        self.latency
            .record(now.saturating_duration_since(message.scheduled));
        message.outstanding -= 1;
        if message.outstanding == 0 {
            self.completed += 1;
        }
    }

    /// How many messages some receiver has not got yet.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.messages.len() as u64 - self.completed
    }

    /// How many deliveries were booked, repetitions and corrupted ones not counted.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// The time from the moment a message was due to each of its deliveries.
    pub fn latency(&mut self) -> &mut Histogram {
        &mut self.latency
    }

    /// What is wrong with the account as it stands.
    #[must_use]
    pub fn faults(&self) -> Faults {
        let mut faults = Faults {
            corrupted: self.corrupted,
            ..Faults::default()
        };
        let published = self.messages.len() as u64;
        for (receiver, sequence) in (0..).zip(&self.sequences) {
            let behind = self.channels - 1 - receiver % self.channels;
            faults += sequence.faults((published + behind) / self.channels);
        }
        faults
    }

    /// The number of a message of `channel` with exactly these bytes; nearly always the expected one.
    fn recognise(&self, bytes: &[u8], channel: u64, expected: u64) -> Option<u64> {
        if self.payload(expected) == Some(bytes) {
            return Some(expected);
        }
        let number = payload::sequence(bytes)?;
        let is_ours = number % self.channels == channel && self.payload(number) == Some(bytes);
        is_ours.then_some(number)
    }

    fn payload(&self, number: u64) -> Option<&[u8]> {
        let start = usize::try_from(number).ok()?.checked_mul(PAYLOAD_BYTES)?;
        self.payloads.get(start..start + PAYLOAD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(receivers: usize, channels: u64, count: u64) -> (Ledger, Vec<Vec<u8>>) {
        let mut ledger = Ledger::new(receivers, channels);
        let now = Instant::now();
        let payloads = (0..count).map(|_| ledger.publish(now).1.to_vec()).collect();
        (ledger, payloads)
    }

    #[test]
    fn a_message_is_complete_once_every_receiver_of_its_channel_has_it() {
        let (mut ledger, payloads) = published(4, 2, 2);
        let now = Instant::now();
        ledger.deliver(0, &payloads[0], now);
        assert_eq!(ledger.under_way(), 2);
        ledger.deliver(2, &payloads[0], now);
        assert_eq!(ledger.under_way(), 1);
        ledger.deliver(1, &payloads[1], now);
        ledger.deliver(3, &payloads[1], now);
        assert_eq!((ledger.under_way(), ledger.deliveries()), (0, 4));
        assert_eq!(ledger.faults(), Faults::default());
    }

    #[test]
    fn planted_loss_is_found() {
        let (mut ledger, payloads) = published(2, 1, 3);
        for (receiver, message) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)] {
            ledger.deliver(receiver, &payloads[message], Instant::now());
        }
        assert_eq!(ledger.faults().lost, 1);
        assert_eq!(ledger.under_way(), 1);
    }

    #[test]
    fn planted_swap_and_repetition_are_found() {
        let (mut ledger, payloads) = published(1, 1, 3);
        for message in [1, 0, 2, 2] {
            ledger.deliver(0, &payloads[message], Instant::now());
        }
        let faults = ledger.faults();
        assert_eq!(
            (faults.lost, faults.reordered, faults.duplicated),
            (0, 1, 1)
        );
        assert_eq!(ledger.deliveries(), 3);
    }

    #[test]
    fn a_flipped_bit_a_cut_and_a_message_of_another_channel_are_corruption() {
        let (mut ledger, payloads) = published(2, 2, 4);
        let mut flipped = payloads[0].clone();
        flipped[100] ^= 1;
        for bytes in [&flipped[..], &payloads[0][..100], &payloads[1], b"gap"] {
            ledger.deliver(0, bytes, Instant::now());
        }
        assert_eq!(ledger.faults().corrupted, 4);
        assert_eq!(ledger.deliveries(), 0);
    }

    #[test]
    fn loss_on_one_of_several_channels_is_counted_there() {
        let (mut ledger, payloads) = published(3, 3, 7);
        for message in [0, 3, 6, 1, 4, 2] {
            ledger.deliver(message % 3, &payloads[message], Instant::now());
        }
        assert_eq!(ledger.faults().lost, 1);
    }
}
