//! Keys of publications that may have been accepted: until an attempt with the same key says otherwise, no refusal of a
//! repetition makes the first attempt undone.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::delivery::KeyId;

/// The keys whose outcome is unknown, bounded in number and age. Those of clients, which can leave any number of them, are no
/// reason to forget those of the application.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    application: Keys,
    clients: Keys,
}

/// Keys in doubt that have a bound in common.
#[derive(Debug, Default)]
struct Keys {
    /// How many there are: publishing looks at the table only where it holds something.
    count: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    since: HashMap<KeyId, Instant>,
    /// In the order in which they came; those that were settled meanwhile included.
    order: VecDeque<(Instant, KeyId)>,
}

/// An attempt that is under way. Unless it is known what became of it, its key is in doubt once this is dropped.
pub(super) struct Attempt<'a> {
    doubts: &'a Doubts,
    id: Option<KeyId>,
}

impl Doubts {
    /// An attempt with this key begins.
    pub(super) fn attempt(&self, id: Option<KeyId>) -> Attempt<'_> {
        Attempt { doubts: self, id }
    }

    /// Whether an earlier attempt with this key may have been accepted.
    pub(super) fn has(&self, id: &KeyId) -> bool {
        self.of(id).has(id)
    }

    fn of(&self, id: &KeyId) -> &Keys {
        match id.is_of_application() {
            true => &self.application,
            false => &self.clients,
        }
    }
}

impl Keys {
    fn has(&self, id: &KeyId) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && {
            let mut table = self.lock();
            table.expire(Instant::now());
            self.count.store(table.since.len(), Ordering::Relaxed);
            table.since.contains_key(id)
        }
    }

    fn note(&self, id: KeyId) {
        let now = Instant::now();
        let mut table = self.lock();
        table.expire(now);
        if table.order.len() >= KEYS_MAX
            && let Some((at, oldest)) = table.order.pop_front()
        {
            table.forget(at, &oldest);
        }
        table.order.push_back((now, id.clone()));
        table.since.insert(id, now);
        self.count.store(table.since.len(), Ordering::Relaxed);
    }

    fn settle(&self, id: &KeyId) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut table = self.lock();
            table.since.remove(id);
            self.count.store(table.since.len(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && now.saturating_duration_since(*at) >= KEY_TTL
            && let Some((at, id)) = self.order.pop_front()
        {
            self.forget(at, &id);
        }
    }

    /// Forgets a key, unless it came again since.
    fn forget(&mut self, at: Instant, id: &KeyId) {
        if self.since.get(id) == Some(&at) {
            self.since.remove(id);
        }
    }
}

impl Attempt<'_> {
    /// It was accepted, now or before.
    pub(super) fn accepted(mut self) {
        if let Some(id) = self.id.take() {
            self.doubts.of(&id).settle(&id);
        }
    }

    /// It was certainly not accepted. Answers whether an earlier one may have been.
    pub(super) fn refused(mut self) -> bool {
        let id = self.id.take();
        id.is_some_and(|id| self.doubts.has(&id))
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.doubts.of(&id).note(id);
        }
    }
}

/// 10 minutes: so long a key counts. A repetition that comes later is another publication.
const KEY_TTL: Duration = Duration::from_mins(10);

/// 4,096 of each kind: at most some 2 MiB of names.
const KEYS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use fanfare_protocol::{ChannelName, EventName, IdempotencyKey, RawJson, SocketId};

    use super::*;
    use crate::delivery::Publication;

    fn publication() -> Publication {
        let channel = ChannelName::new("c").unwrap();
        let event = EventName::new("e").unwrap();
        Publication::new(channel, event, RawJson::null())
    }

    fn key_of(publication: Publication, key: &str) -> KeyId {
        let key = IdempotencyKey::new(key).unwrap();
        publication.with_key(key).key_id().unwrap()
    }

    /// A key of a client.
    fn id(key: &str) -> KeyId {
        key_of(publication().from_connection(SocketId::from_bits(1)), key)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_in_doubt_until_an_attempt_is_accepted_or_its_time_is_up() {
        let doubts = Doubts::default();
        assert!(!doubts.attempt(Some(id("a"))).refused());
        drop(doubts.attempt(Some(id("a"))));
        drop(doubts.attempt(Some(id("b"))));
        assert!(doubts.attempt(Some(id("a"))).refused());
        assert!(doubts.attempt(Some(id("a"))).refused(), "still");
        assert!(!doubts.attempt(Some(id("c"))).refused());
        doubts.attempt(Some(id("a"))).accepted();
        assert!(!doubts.has(&id("a")));
        drop(doubts.attempt(None));

        tokio::time::advance(KEY_TTL / 2).await;
        drop(doubts.attempt(Some(id("a"))));
        tokio::time::advance(KEY_TTL / 2).await;
        assert!(!doubts.has(&id("b")));
        assert!(doubts.has(&id("a")), "it came later");
        tokio::time::advance(KEY_TTL / 2).await;
        assert!(!doubts.has(&id("a")));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let doubts = Doubts::default();
        let applications = key_of(publication(), "0");
        drop(doubts.attempt(Some(applications.clone())));
        for number in 0..=KEYS_MAX {
            drop(doubts.attempt(Some(id(&format!("{number}")))));
        }
        assert!(!doubts.has(&id("0")));
        assert!(doubts.has(&id("1")));
        assert!(doubts.clients.lock().order.len() <= KEYS_MAX);
        assert!(doubts.has(&applications));
    }
}
