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
pub(crate) struct Unheard {
    state: Mutex<State>,
    /// What was said longer ago than this was heard by all.
    age_max: Duration,
}

#[derive(Debug)]
struct State {
    /// When this node last spoke on a channel.
    said: HashMap<ChannelName, Instant>,
    /// There were too many to remember: on any channel, something was said until then.
    overflowed: Option<Instant>,
    /// A master was replaced since these were spoken on, and nobody was told yet.
    owed: Channels,
}

/// Channels on which messages may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Channels {
    /// These.
    Some(Vec<ChannelName>),
    /// Any of those without positions.
    All,
}

impl Unheard {
    /// Nothing was said yet.
    pub(crate) fn new(age_max: Duration) -> Self {
        let state = State {
            said: HashMap::new(),
            overflowed: None,
            owed: Channels::NONE,
        };
        Self {
            state: Mutex::new(state),
            age_max,
        }
    }

    /// A message is given to a master, or was.
    pub(crate) fn said(&self, channel: &ChannelName, now: Instant) {
        let mut state = self.lock();
        if let Some(last) = state.said.get_mut(channel) {
            *last = now;
            return;
        }
        if state.said.len() >= CHANNELS_MAX {
            self.age(&mut state, now);
        }
        if state.said.len() >= CHANNELS_MAX {
            state.said = HashMap::new();
            state.overflowed = Some(now);
        }
        state.said.insert(channel.clone(), now);
    }

    /// What was said before `until` was said to the master that everybody listens to.
    pub(crate) fn reached_all(&self, until: Instant) {
        self.lock().forget(until);
    }

    /// A master was replaced, and what was said so far may be lost.
    pub(crate) fn replaced(&self, now: Instant) {
        let mut state = self.lock();
        self.age(&mut state, now);
        let said = std::mem::take(&mut state.said);
        let said = match state.overflowed.take() {
            Some(_) => Channels::All,
            None => Channels::Some(said.into_keys().collect()),
        };
        state.owe(said);
    }

    /// What others have to be told of; whoever fails to tell them gives it [back](Self::owe).
    pub(crate) fn take_owed(&self) -> Channels {
        std::mem::replace(&mut self.lock().owed, Channels::NONE)
    }

    /// Others have to be told of these.
    pub(crate) fn owe(&self, channels: Channels) {
        self.lock().owe(channels);
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
        self.said.retain(|_, last| *last >= until);
        self.overflowed = self.overflowed.filter(|last| *last >= until);
    }

    fn owe(&mut self, channels: Channels) {
        let owed = std::mem::replace(&mut self.owed, Channels::NONE);
        self.owed = owed.and(channels);
    }
}

impl Channels {
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
    pub(crate) fn to_words(&self) -> Vec<String> {
        let channels = match self {
            Self::All => return vec![ALL.to_owned()],
            Self::Some(channels) => channels,
        };
        let mut words: Vec<String> = Vec::new();
        for channel in channels {
            match words.last_mut() {
                Some(word) if word.len() < WORD_BYTES_MAX => {
                    word.push(BETWEEN);
                    word.push_str(channel.as_str());
                }
                _ => words.push(channel.as_str().to_owned()),
            }
        }
        words
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
const WORD_BYTES_MAX: usize = 32 << 10;

/// No name has it.
const BETWEEN: char = '\n';

/// No name is empty.
const ALL: &str = "";

#[cfg(test)]
mod tests {
    use super::*;

    fn unheard() -> (Unheard, Instant) {
        (Unheard::new(Duration::MAX), Instant::now())
    }

    fn channel(number: usize) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    fn some(numbers: &[usize]) -> Channels {
        Channels::Some(numbers.iter().copied().map(channel).collect())
    }

    #[track_caller]
    fn owed(unheard: &Unheard, now: Instant, expected: &Channels) {
        unheard.replaced(now);
        assert_eq!(unheard.take_owed(), *expected);
        assert_eq!(unheard.take_owed(), Channels::NONE, "it is owed once");
    }

    #[test]
    fn what_was_said_since_it_was_last_certain_is_in_doubt_once() {
        let (unheard, start) = unheard();
        let second = |number| start + Duration::from_secs(number);
        unheard.said(&channel(1), second(1));
        unheard.said(&channel(2), second(1));
        unheard.said(&channel(2), second(3));
        unheard.reached_all(second(2));
        owed(&unheard, second(4), &some(&[2]));
        // What could not be told is still owed, whatever is certain of later words.
        unheard.said(&channel(1), second(5));
        unheard.replaced(second(6));
        unheard.reached_all(second(7));
        unheard.said(&channel(2), second(8));
        let untold = unheard.take_owed();
        assert_eq!(untold, some(&[1]));
        unheard.owe(untold);
        owed(&unheard, second(9), &some(&[1, 2]));
    }

    #[test]
    fn what_is_old_was_heard() {
        let (unheard, start) = (Unheard::new(Duration::from_secs(60)), Instant::now());
        let later = start + Duration::from_secs(100);
        for number in 0..CHANNELS_MAX {
            unheard.said(&channel(number), start);
        }
        unheard.said(&channel(CHANNELS_MAX), later);
        owed(&unheard, later, &some(&[CHANNELS_MAX]));
    }

    #[test]
    fn too_many_to_remember_are_all_until_it_is_certain_again() {
        let (unheard, start) = unheard();
        let overflow = || {
            for number in 0..=CHANNELS_MAX {
                unheard.said(&channel(number), start);
            }
        };
        overflow();
        owed(&unheard, start, &Channels::All);
        overflow();
        let later = start + Duration::from_secs(1);
        unheard.said(&channel(7), later);
        unheard.reached_all(later);
        owed(&unheard, later, &some(&[7]));
    }

    #[test]
    fn words_are_bounded_and_come_back() {
        let channels = Channels::Some((0..CHANNELS_MAX).map(channel).collect());
        let words = channels.to_words();
        assert!(words.len() > 1 && words.iter().all(|word| word.len() < WORD_BYTES_MAX + 201));
        let read = words.iter().map(|word| Channels::read(word));
        let together = read.reduce(Channels::and).unwrap();
        assert_eq!(together, channels.and(some(&[])));
        for all in [Channels::All, Channels::All.and(some(&[1]))] {
            let words = all.to_words();
            assert_eq!(words.len(), 1);
            assert_eq!(Channels::read(&words[0]), Channels::All);
        }
        assert!(some(&[]).to_words().is_empty());
        assert_eq!(Channels::read("a b\nc1"), some(&[1]));
    }
}
