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

/// The channels spoken on since it was last certain that everybody hears.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    /// When this node last spoke on a channel.
    channels: HashMap<ChannelName, Instant>,
    /// There were too many to remember; when this node last spoke on any.
    overflowed: Option<Instant>,
}

/// Channels on which messages may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Channels {
    /// These.
    Some(Vec<ChannelName>),
    /// Any of those without positions.
    All,
}

impl Unheard {
    /// A message was given to a master, or may have been.
    pub(super) fn said(&self, channel: &ChannelName, now: Instant) {
        let mut said = self.lock();
        if let Some(last) = &mut said.overflowed {
            *last = now;
        } else if let Some(last) = said.channels.get_mut(channel) {
            *last = now;
        } else if said.channels.len() < CHANNELS_MAX {
            said.channels.insert(channel.clone(), now);
        } else {
            said.channels = HashMap::new();
            said.overflowed = Some(now);
        }
    }

    /// What was said before `until` was said to the master that everybody listens to.
    pub(super) fn reached_all(&self, until: Instant) {
        let mut said = self.lock();
        said.channels.retain(|_, last| *last >= until);
        said.overflowed = said.overflowed.filter(|last| *last >= until);
    }

    /// A master was replaced: what may be lost, of what was said within `age`. It is answered once.
    pub(super) fn take(&self, now: Instant, age: Duration) -> Channels {
        if let Some(oldest) = now.checked_sub(age) {
            self.reached_all(oldest);
        }
        let said = std::mem::take(&mut *self.lock());
        match said.overflowed {
            Some(_) => Channels::All,
            None => Channels::Some(said.channels.into_keys().collect()),
        }
    }

    /// A panic under the lock is a bug elsewhere, and the state was complete when it happened.
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    /// Adds those of another time.
    pub(super) fn and(self, more: Self) -> Self {
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
    pub(super) fn to_words(&self) -> Vec<String> {
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
    pub(super) fn read(word: &str) -> Self {
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

    const LONG: Duration = Duration::from_secs(60);

    fn channel(number: usize) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    fn some(numbers: &[usize]) -> Channels {
        Channels::Some(numbers.iter().copied().map(channel).collect())
    }

    #[test]
    fn what_was_said_since_it_was_last_certain_is_in_doubt_once() {
        let (unheard, start) = (Unheard::default(), Instant::now());
        let second = |number| start + Duration::from_secs(number);
        unheard.said(&channel(1), second(1));
        unheard.said(&channel(2), second(1));
        unheard.said(&channel(2), second(3));
        unheard.reached_all(second(2));
        assert_eq!(unheard.take(second(4), LONG), some(&[2]));
        assert_eq!(unheard.take(second(4), LONG), some(&[]));
        unheard.said(&channel(1), second(5));
        unheard.said(&channel(2), second(9));
        assert_eq!(
            unheard.take(second(10), Duration::from_secs(3)),
            some(&[2]),
            "the other is too old"
        );
    }

    #[test]
    fn too_many_to_remember_are_all() {
        let (unheard, start) = (Unheard::default(), Instant::now());
        for number in 0..=CHANNELS_MAX {
            unheard.said(&channel(number), start);
        }
        assert_eq!(unheard.take(start, LONG), Channels::All);
        assert_eq!(unheard.take(start, LONG), some(&[]));
        for number in 0..=CHANNELS_MAX {
            unheard.said(&channel(number), start);
        }
        unheard.reached_all(start + Duration::from_secs(1));
        assert_eq!(unheard.take(start, LONG), some(&[]));
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
