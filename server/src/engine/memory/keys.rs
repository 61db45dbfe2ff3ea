//! Idempotency keys: what became of a publication, remembered for a while.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fanfare_protocol::Position;
use tokio::time::Instant;

use crate::delivery::{KeyId, Published};

/// Results by channel, sender and key, bounded in age and number.
#[derive(Debug, Default)]
pub(super) struct Keys {
    results: HashMap<KeyId, Option<Position>>,
    /// By age, oldest first: all live equally long.
    order: VecDeque<(Instant, KeyId)>,
}

impl Keys {
    /// The result of an earlier publication with this key.
    pub(super) fn find(&self, id: &KeyId) -> Option<Published> {
        self.results.get(id).copied().map(Published::duplicate)
    }

    /// Remembers a result. Answers whether a younger one than `ttl` had to go for it.
    pub(super) fn insert(
        &mut self,
        id: KeyId,
        position: Option<Position>,
        keys_max: usize,
        now: Instant,
    ) -> bool {
        let is_full = self.order.len() >= keys_max;
        if is_full && let Some((_, oldest)) = self.order.pop_front() {
            self.results.remove(&oldest);
        }
        self.order.push_back((now, id.clone()));
        self.results.insert(id, position);
        is_full
    }

    /// Drops the keys that are older than `ttl`.
    pub(super) fn expire(&mut self, ttl: Duration, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && now.saturating_duration_since(*at) >= ttl
        {
            if let Some((_, id)) = self.order.pop_front() {
                self.results.remove(&id);
            }
        }
    }
}
