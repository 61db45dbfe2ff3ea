//! What waits while a channel's history is read.

use std::collections::VecDeque;

use fanfare_protocol::Position;

use crate::delivery::Delivery;

/// Messages that wait, within a bound.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    pub(super) deliveries: VecDeque<Delivery>,
    bytes: usize,
}

impl HeldBack {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Answers whether there was room; if not, everything held so far is dropped with it.
    pub(super) fn push(&mut self, delivery: Delivery) -> bool {
        let cost = delivery.cost_bytes();
        let has_room = self.deliveries.len() < HELD_MAX && self.bytes + cost <= HELD_BYTES_MAX;
        if has_room {
            self.bytes += cost;
            self.deliveries.push_back(delivery);
        } else {
            *self = Self::default();
        }
        has_room
    }

    /// The position before the unbroken run of messages that ends at `top`, if the message there is among them.
    pub(super) fn leading_to(&self, top: Position) -> Option<Position> {
        let positions = self.deliveries.iter().rev();
        let mut positions = positions.skip_while(|one| one.position != Some(top));
        let newest = positions.next()?;
        let mut begin = before(newest)?;
        for delivery in positions {
            if delivery.position == Some(begin) {
                begin = before(delivery)?;
            }
        }
        Some(begin)
    }

    pub(super) fn count_bytes(&mut self) {
        self.bytes = self.deliveries.iter().map(Delivery::cost_bytes).sum();
    }
}

/// The position that a message follows.
pub(super) fn before(delivery: &Delivery) -> Option<Position> {
    let position = delivery.position?;
    Some(Position {
        offset: position.offset.checked_sub(1)?,
        tag: delivery.previous?,
        ..position
    })
}

/// 256: what one channel holds back while its history is read; past that it is read again.
pub(super) const HELD_MAX: usize = 256;

/// 256 KiB, likewise.
const HELD_BYTES_MAX: usize = 256 << 10;
