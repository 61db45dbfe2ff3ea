//! Which refusals of peers reach the log: every kind of them, at a bounded rate.

use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// Limits the log lines that refused peers cause: one line per kind of refusal and interval.
///
/// A kind is whatever the caller hashes: a reason, or a reason and an origin. Kinds share a fixed number of slots, so a peer
/// that makes up new kinds allocates nothing, and causes at most [`SETS`] × [`WAYS`] lines per [`INTERVAL`].
pub(crate) struct RefusalLog {
    hasher: RandomState,
    sets: Mutex<[[Slot; WAYS]; SETS]>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    kind: u64,
    written_at: Option<Instant>,
    unsaid: u64,
}

impl RefusalLog {
    /// A log in which the first refusal of every kind is written.
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            sets: Mutex::new([[Slot::default(); WAYS]; SETS]),
        }
    }

    /// Decides about one refusal: `None` when it goes unsaid, else the number of those that went unsaid in its slot before.
    pub(crate) fn turn(&self, kind: impl Hash) -> Option<u64> {
        let kind = self.hasher.hash_one(kind);
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        // The remainder is below the number of sets.
        let set = &mut sets[(kind % SETS as u64) as usize];
        let now = Instant::now();
        let is_recent = |slot: &Slot| slot.written_at.is_some_and(|at| now - at < INTERVAL);
        let own = set.iter().position(|slot| slot.kind == kind);
        let free = || set.iter().position(|slot| !is_recent(slot));
        let slot = &mut set[own.or_else(free).unwrap_or(0)];
        if is_recent(slot) {
            slot.unsaid += 1;
            return None;
        }
        slot.kind = kind;
        slot.written_at = Some(now);
        Some(std::mem::take(&mut slot.unsaid))
    }
}

impl fmt::Debug for RefusalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusalLog")
    }
}

/// What a peer wrote, as a log line may show it: ASCII with escapes, cut after [`SHOWN_BYTES_MAX`].
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN_BYTES_MAX).unwrap_or(self.0);
        write!(f, "{}", shown.escape_ascii())?;
        let cut = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        f.write_str(cut)
    }
}

/// 10 s: an operator who tries something again soon sees its line.
const INTERVAL: Duration = Duration::from_secs(10);
/// 16 sets of 4: more kinds than a server refuses at a time, and six lines per second at most.
const SETS: usize = 16;
const WAYS: usize = 4;
/// 200 bytes: the length of usual origins, several times over.
const SHOWN_BYTES_MAX: usize = 200;

/// Catches what the current thread logs down to a level, until the guard is dropped.
#[cfg(test)]
pub(crate) fn captured(level: tracing::Level) -> (Captured, tracing::subscriber::DefaultGuard) {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (captured, tracing::subscriber::set_default(subscriber))
}

/// Log lines for a test to look at.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Captured(std::sync::Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Captured {
    /// What was logged since the last call.
    pub(crate) fn taken(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }
}

#[cfg(test)]
impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_said_once_per_interval_with_how_many_went_unsaid() {
        let log = RefusalLog::new();
        assert_eq!(log.turn("expired"), Some(0));
        assert_eq!(log.turn("expired"), None);
        assert_eq!(log.turn("expired"), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(log.turn("expired"), Some(2));
        assert_eq!(log.turn("expired"), None);
        // Another kind has its own turn.
        assert_eq!(log.turn("malformed"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_a_peer_makes_up_cause_a_bounded_number_of_lines() {
        let log = RefusalLog::new();
        for _ in 0..3 {
            let lines = (0..100_000).filter(|kind| log.turn(kind).is_some());
            let count = lines.count();
            assert!((1..=SETS * WAYS).contains(&count), "{count}");
            tokio::time::advance(INTERVAL).await;
        }
    }

    #[test]
    fn what_a_peer_wrote_is_shown_in_one_short_line() {
        let shown = |bytes: &[u8]| Shown(bytes).to_string();
        assert_eq!(shown(b"https://app.example.com"), "https://app.example.com");
        assert_eq!(shown("\u{e9}\n\x1b".as_bytes()), r"\xc3\xa9\n\x1b");
        assert_eq!(shown(&[b'a'; 201]), format!("{}…", "a".repeat(200)));
    }
}
