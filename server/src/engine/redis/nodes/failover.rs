//! What a node does when a master is replaced: it tells other nodes on which channels without history messages may be lost.
//!
//! A master that is cut off goes on accepting publishes for a while. What it fans out reaches only the nodes that still listen to
//! it. On a channel with history the others find out by reading it; without history only the publishing node knows. So every node
//! remembers on which of these channels it published lately, and announces them once it learns that the master was replaced.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a partition: a master that was cut off goes on accepting
//! beside the new one", for channels without history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::requests::NodeRequests;
use crate::clock::Instant;
use crate::engine::redis::connection::topology::Topology;

/// What this node knows about publishes that a replaced master may have taken.
pub(crate) struct Failover {
    topology: Arc<Topology>,
    unconfirmed: UnconfirmedPublishes,
    /// A publish ended after a master was replaced.
    published_during_failover: Notify,
}

/// A publish under way on a channel without history. It is noted when it begins, because it may be delivered at once, and when it
/// ends, because it may have been delivered just then.
pub(crate) struct PublishGuard<'a> {
    failover: &'a Failover,
    channel: &'a ChannelName,
    /// How often masters had been replaced when it began.
    replacements: u64,
}

impl Failover {
    /// Nothing was published yet.
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        let age_max = match topology.is_cluster() {
            true => CUT_OFF_MASTER_MAX,
            false => Duration::MAX,
        };
        Self {
            topology,
            unconfirmed: UnconfirmedPublishes::new(age_max),
            published_during_failover: Notify::new(),
        }
    }

    /// Notes a publish on a channel without history, until the guard is dropped. Where masters are never replaced there is
    /// nothing to note.
    pub(crate) fn guard_publish<'a>(
        &'a self,
        channel: &'a ChannelName,
    ) -> Option<PublishGuard<'a>> {
        let is_replaceable = self.topology.has_sentinels() || self.topology.is_cluster();
        is_replaceable.then(|| {
            self.unconfirmed.note(channel, Instant::now());
            PublishGuard {
                failover: self,
                channel,
                replacements: self.topology.replacements(),
            }
        })
    }

    /// What was published before `until` went to the master that every node listens to.
    pub(crate) fn confirm_until(&self, until: Instant) {
        self.unconfirmed.confirm_until(until);
    }

    /// Tells other nodes what they may miss, unless `given_up` ends first. Returns whether they were told.
    async fn announce_possible_loss(
        &self,
        requests: &NodeRequests,
        given_up: impl Future<Output = ()>,
    ) -> bool {
        let channels = self.unconfirmed.take_unannounced();
        let is_announced = tokio::select! {
            biased;
            () = given_up => false,
            announced = requests.announce_possible_loss(&channels) => match announced {
                Ok(()) => true,
                Err(error) => {
                    debug!(%error, "other nodes are not told yet what they may miss");
                    false
                }
            },
        };
        if !is_announced {
            self.unconfirmed.add_unannounced(channels);
        }
        is_announced
    }
}

impl Drop for PublishGuard<'_> {
    fn drop(&mut self) {
        let failover = self.failover;
        failover.unconfirmed.note(self.channel, Instant::now());
        if failover.topology.replacements() != self.replacements {
            failover.published_during_failover.notify_one();
        }
    }
}

/// Announces possible losses after every failover, until it is stopped.
///
/// `settling` is how long calls to the old master may still be under way, and how long other nodes may take to move.
pub(crate) async fn run(
    failover: Arc<Failover>,
    requests: Arc<NodeRequests>,
    settling: Duration,
    stop: CancellationToken,
) {
    let mut changes = failover.topology.changes();
    let mut replacements = failover.topology.replacements();
    let mut is_settled = true;
    let mut announce_at = None;
    loop {
        let due = announce_at.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = failover.published_during_failover.notified() => {}
            Ok(()) = changes.changed() => {
                let before = std::mem::replace(&mut replacements, failover.topology.replacements());
                if before == replacements {
                    continue;
                }
            }
            () = tokio::time::sleep_until(due), if announce_at.is_some() => {
                if !std::mem::replace(&mut is_settled, true) {
                    failover.unconfirmed.master_replaced(Instant::now());
                }
                let announcing = failover.announce_possible_loss(&requests, stop.cancelled());
                let is_announced = announcing.await;
                announce_at = (!is_announced).then(|| Instant::now() + ANNOUNCE_PAUSE);
                continue;
            }
        }
        failover.unconfirmed.master_replaced(Instant::now());
        is_settled = false;
        announce_at = Some(Instant::now() + settling);
    }
    let late = tokio::time::sleep(ANNOUNCE_PAUSE);
    failover.announce_possible_loss(&requests, late).await;
}

/// The channels without history that this node has published on since it last knew that every node listens to the same master.
#[derive(Debug)]
struct UnconfirmedPublishes {
    state: Mutex<State>,
    /// A publish longer ago than this has reached all nodes.
    age_max: Duration,
}

#[derive(Debug)]
struct State {
    /// When this node last published on a channel.
    published: HashMap<ChannelName, Instant>,
    /// There were too many to remember: until then, this node may have published on any channel.
    overflowed: Option<Instant>,
    /// A master was replaced since these were published on, and other nodes have not been told yet.
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
    /// Nothing was published yet.
    fn new(age_max: Duration) -> Self {
        let state = State {
            published: HashMap::new(),
            overflowed: None,
            unannounced: AffectedChannels::NONE,
        };
        Self {
            state: Mutex::new(state),
            age_max,
        }
    }

    /// A message is about to be sent to a master, or a call that sent one has ended.
    fn note(&self, channel: &ChannelName, now: Instant) {
        let mut state = self.lock();
        if let Some(last) = state.published.get_mut(channel) {
            *last = now;
            return;
        }
        if state.published.len() >= CHANNELS_MAX {
            self.age(&mut state, now);
        }
        if state.published.len() >= CHANNELS_MAX {
            state.published = HashMap::new();
            state.overflowed = Some(now);
        }
        state.published.insert(channel.clone(), now);
    }

    /// What was published before `until` went to the master that every node listens to.
    fn confirm_until(&self, until: Instant) {
        self.lock().forget(until);
    }

    /// A master was replaced: what was published so far may be lost for other nodes.
    fn master_replaced(&self, now: Instant) {
        let mut state = self.lock();
        self.age(&mut state, now);
        let published = std::mem::take(&mut state.published);
        let published = match state.overflowed.take() {
            Some(_) => AffectedChannels::All,
            None => AffectedChannels::Some(published.into_keys().collect()),
        };
        state.add_unannounced(published);
    }

    /// Takes what other nodes have to be told. The caller gives it [back](Self::add_unannounced) if it cannot tell them.
    fn take_unannounced(&self) -> AffectedChannels {
        std::mem::replace(&mut self.lock().unannounced, AffectedChannels::NONE)
    }

    /// Adds channels that other nodes have to be told of.
    fn add_unannounced(&self, channels: AffectedChannels) {
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
        self.published.retain(|_, last| *last >= until);
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

/// 60 s: a master of a cluster that is cut off refuses commands after `cluster-node-timeout`, 15 s by default.
const CUT_OFF_MASTER_MAX: Duration = Duration::from_mins(1);

/// 1 s: between two attempts to tell other nodes.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);

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
    fn publishes_since_the_last_confirmation_are_announced_once() {
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
    fn old_publishes_have_reached_all_nodes() {
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
