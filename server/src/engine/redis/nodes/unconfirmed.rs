//! What this node said on channels without positions while it may have spoken to a master that was replaced already.
//!
//! A master that is cut off goes on accepting for a while. What it fans out reaches the nodes on its own side and is lost for
//! all others; where there is a history they find out by reading it, elsewhere nobody can tell. So a node that has spoken to
//! such a master says so as soon as it knows better: on these channels something may be missing.
//!
//! Pure: takes `now`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;

use crate::clock::Instant;

/// The channels spoken on since it was last certain that everybody hears, and those that others have to be told of.
#[derive(Debug)]
pub(crate) struct UnconfirmedPublishes {
    state: Mutex<State>,
    /// What was said longer ago than this was heard by all.
    age_max: Duration,
}

#[derive(Debug)]
struct State {
    /// When this node last spoke on a channel.
    note: HashMap<ChannelName, Instant>,
    /// There were too many to remember: on any channel, something was said until then.
    overflowed: Option<Instant>,
    /// A master was replaced since these were spoken on, and nobody was told yet.
    unannounced: AffectedChannels,
}

/// Channels on which messages may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AffectedChannels {
    /// These.
    Some(Vec<ChannelName>),
    /// Any of those without positions.
    All,
}

impl UnconfirmedPublishes {
    /// Nothing was said yet.
    pub(crate) fn new(age_max: Duration) -> Self {
        let state = State {
            note: HashMap::new(),
            overflowed: None,
            unannounced: AffectedChannels::NONE,
        };
        Self {
            state: Mutex::new(state),
            age_max,
        }
    }

    /// A message is given to a master, or was.
    pub(crate) fn note(&self, channel: &ChannelName, now: Instant) {
        let mut state = self.lock();
        if let Some(last) = state.note.get_mut(channel) {
            *last = now;
            return;
        }
        if state.note.len() >= CHANNELS_MAX {
            self.age(&mut state, now);
        }
        if state.note.len() >= CHANNELS_MAX {
            state.note = HashMap::new();
            state.overflowed = Some(now);
        }
        state.note.insert(channel.clone(), now);
    }

    /// What was said before `until` was said to the master that everybody listens to.
    pub(crate) fn confirm_until(&self, until: Instant) {
        self.lock().forget(until);
    }

    /// A master was replaced, and what was said so far may be lost.
    pub(crate) fn master_replaced(&self, now: Instant) {
        let mut state = self.lock();
        self.age(&mut state, now);
        let note = std::mem::take(&mut state.note);
        let note = match state.overflowed.take() {
            Some(_) => AffectedChannels::All,
            None => AffectedChannels::Some(note.into_keys().collect()),
        };
        state.add_unannounced(note);
    }

    /// What others have to be told of; whoever fails to tell them gives it [back](Self::add_unannounced).
    pub(crate) fn take_unannounced(&self) -> AffectedChannels {
        std::mem::replace(&mut self.lock().unannounced, AffectedChannels::NONE)
    }

    /// Others have to be told of these.
    pub(crate) fn add_unannounced(&self, channels: AffectedChannels) {
        self.lock().add_unannounced(channels);
    }

    fn age(&self, state: &mut State, now: Instant) {
        if let Some(oldest) = now.checked_sub(self.age_max) {
            state.forget(oldest);
        }
    }

    /// A panic under the lock is a bug elsewhere, and the state was complete when it happened.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, until: Instant) {
        self.note.retain(|_, last| *last >= until);
        self.overflowed = self.overflowed.filter(|last| *last >= until);
    }

    fn add_unannounced(&mut self, channels: AffectedChannels) {
        let unannounced = std::mem::replace(&mut self.unannounced, AffectedChannels::NONE);
        self.unannounced = unannounced.and(channels);
    }
}

impl AffectedChannels {
    /// None.
    pub(crate) const NONE: Self = Self::Some(Vec::new());

    /// Adds those of another time.
    pub(crate) fn and(self, more: Self) -> Self {
        match (self, more) {
            (Self::Some(mut channels), Self::Some(more)) => {
                channels.extend(more);
                channels.sort_unstable();
                channels.dedup();
                Self::Some(channels)
            }
            _ => Self::All,
        }
    }

    /// As texts for other nodes, each within a bound.
    pub(crate) fn to_chunks(&self) -> Vec<String> {
        let channels = match self {
            Self::All => return vec![ALL.to_owned()],
            Self::Some(channels) => channels,
        };
        let mut chunks: Vec<String> = Vec::new();
        for channel in channels {
            match chunks.last_mut() {
                Some(word) if word.len() < CHUNK_BYTES_MAX => {
                    word.push(BETWEEN);
                    word.push_str(channel.as_str());
                }
                _ => chunks.push(channel.as_str().to_owned()),
            }
        }
        chunks
    }

    /// Reads such a text; what is no name in it is left out.
    pub(crate) fn read(word: &str) -> Self {
        if word == ALL {
            return Self::All;
        }
        let names = word.split(BETWEEN);
        Self::Some(
            names
                .filter_map(|name| ChannelName::new(name).ok())
                .collect(),
        )
    }
}

/// 10,000 names: at most 2 MiB, and beyond that it is simpler to doubt all.
const CHANNELS_MAX: usize = 10_000;

/// 32 KiB, and one name.
const CHUNK_BYTES_MAX: usize = 32 << 10;

/// No name has it.
const BETWEEN: char = '\n';

/// No name is empty.
const ALL: &str = "";

#[cfg(test)]
mod tests {
    use super::*;

    fn unconfirmed() -> (UnconfirmedPublishes, Instant) {
        (UnconfirmedPublishes::new(Duration::MAX), Instant::now())
    }

    fn channel(number: usize) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    fn some(numbers: &[usize]) -> AffectedChannels {
        AffectedChannels::Some(numbers.iter().copied().map(channel).collect())
    }

    #[track_caller]
    fn unannounced(unconfirmed: &UnconfirmedPublishes, now: Instant, expected: &AffectedChannels) {
        unconfirmed.master_replaced(now);
        assert_eq!(unconfirmed.take_unannounced(), *expected);
        assert_eq!(
            unconfirmed.take_unannounced(),
            AffectedChannels::NONE,
            "it is unannounced once"
        );
    }

    #[test]
    fn what_was_said_since_it_was_last_certain_is_in_doubt_once() {
        let (unconfirmed, start) = unconfirmed();
        let second = |number| start + Duration::from_secs(number);
        unconfirmed.note(&channel(1), second(1));
        unconfirmed.note(&channel(2), second(1));
        unconfirmed.note(&channel(2), second(3));
        unconfirmed.confirm_until(second(2));
        unannounced(&unconfirmed, second(4), &some(&[2]));
        // What could not be told is still owed, whatever is certain of later words.
        unconfirmed.note(&channel(1), second(5));
        unconfirmed.master_replaced(second(6));
        unconfirmed.confirm_until(second(7));
        unconfirmed.note(&channel(2), second(8));
        let untold = unconfirmed.take_unannounced();
        assert_eq!(untold, some(&[1]));
        unconfirmed.add_unannounced(untold);
        unannounced(&unconfirmed, second(9), &some(&[1, 2]));
    }

    #[test]
    fn what_is_old_was_heard() {
        let (unconfirmed, start) = (
            UnconfirmedPublishes::new(Duration::from_secs(60)),
            Instant::now(),
        );
        let later = start + Duration::from_secs(100);
        for number in 0..CHANNELS_MAX {
            unconfirmed.note(&channel(number), start);
        }
        unconfirmed.note(&channel(CHANNELS_MAX), later);
        unannounced(&unconfirmed, later, &some(&[CHANNELS_MAX]));
    }

    #[test]
    fn too_many_to_remember_are_all_until_it_is_certain_again() {
        let (unconfirmed, start) = unconfirmed();
        let overflow = || {
            for number in 0..=CHANNELS_MAX {
                unconfirmed.note(&channel(number), start);
            }
        };
        overflow();
        unannounced(&unconfirmed, start, &AffectedChannels::All);
        overflow();
        let later = start + Duration::from_secs(1);
        unconfirmed.note(&channel(7), later);
        unconfirmed.confirm_until(later);
        unannounced(&unconfirmed, later, &some(&[7]));
    }

    #[test]
    fn words_are_bounded_and_come_back() {
        let channels = AffectedChannels::Some((0..CHANNELS_MAX).map(channel).collect());
        let chunks = channels.to_chunks();
        assert!(chunks.len() > 1 && chunks.iter().all(|word| word.len() < CHUNK_BYTES_MAX + 201));
        let read = chunks.iter().map(|word| AffectedChannels::read(word));
        let together = read.reduce(AffectedChannels::and).unwrap();
        assert_eq!(together, channels.and(some(&[])));
        for all in [AffectedChannels::All, AffectedChannels::All.and(some(&[1]))] {
            let chunks = all.to_chunks();
            assert_eq!(chunks.len(), 1);
            assert_eq!(AffectedChannels::read(&chunks[0]), AffectedChannels::All);
        }
        assert!(some(&[]).to_chunks().is_empty());
        assert_eq!(AffectedChannels::read("a b\nc1"), some(&[1]));
    }
}
