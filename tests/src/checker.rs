//! What was promised about messages, checked over a recorded history.
//!
//! - **I1** order: offsets rise by exactly 1 between two resets, no message comes twice, and none overtakes another.
//! - **I2** no silent gap: what was accepted while a client was subscribed, or while it was away and came back saying that nothing
//!   was missed, has arrived, or the client was told of a loss.
//! - **I3** agreement: one position holds one message, for all clients and publishers; clients whose histories differ are told to
//!   start anew.
//! - **I4** no phantom: what arrives was published to that channel, for that client, while it was subscribed.
//!
//! - **I5** detection: what is lost is found and told in time, what is repaired comes in time.
//! - **I6** presence: members come and go in turn, events lead to what the server says, and that is who is there.
//! - **I9** authorization: nothing comes once the permission has ended.
//! - **I10** resources: everything is given back.
//! - **I11** liveness: everybody is back in time once the last fault has healed.
//!
//! [`check`] answers for I1 to I4, [`check_all`] for these and all that a [`History`] can tell of the others; I10 is in
//! [`resources`].
//!
//! A history is checked once everything has come to rest: a client whose subscription has not ended by then is owed all that was
//! accepted. Payloads are unlike each other. A client that rewinds is recorded under a new name, for it sees messages again.

mod authorization;
mod detection;
mod history;
mod liveness;
mod presence;
pub mod resources;
mod run;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timed_tests;
mod violation;

use std::collections::{HashMap, HashSet};

use fanfare_protocol::{ChannelName, Epoch, Position, Tag};

pub use self::history::{
    Fault, FaultId, Grant, History, Moment, Observation, Observed, Outcome, Publish, PublishId,
    Recorder, Sight, Sighting, Stay, StayId,
};
use self::run::Run;
pub use self::violation::{Invariant, Violation, Wrong};

/// Everything that a history at rest is guilty of, I10 left out.
#[must_use]
pub fn check_all(history: &History) -> Vec<Violation> {
    let mut violations = check(history);
    violations.extend(detection::check(history));
    violations.extend(presence::check(history));
    violations.extend(authorization::check(history));
    violations.extend(liveness::check(history));
    violations
}

/// Everything that a history at rest is guilty of, of I1 to I4.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut published: HashMap<&ChannelName, Published<'_>> = HashMap::new();
    for publish in &history.publishes {
        let channel = published.entry(&publish.channel).or_default();
        let twin = channel.insert(publish.payload.as_str(), publish);
        assert!(twin.is_none(), "payloads must be unlike each other");
    }
    let nothing = Published::new();
    let none_forgotten = HashSet::new();
    let mut forgotten_in: HashMap<&ChannelName, HashSet<&str>> = HashMap::new();
    if history.store_may_lose {
        for (channel, seen) in Seen::of(history) {
            let published = published.get(channel).unwrap_or(&nothing);
            forgotten_in.insert(channel, forgotten(published, &seen));
        }
    }
    let mut violations = Vec::new();
    let mut agreement = Agreement::default();
    for publish in &history.publishes {
        if let Outcome::Accepted { position, .. } = publish.outcome {
            let payload = publish.payload.as_str();
            violations.extend(agreement.add(&publish.channel, position, payload));
        }
    }
    for ((client, channel), log) in &history.logs {
        let published = published.get(channel).unwrap_or(&nothing);
        let forgotten = forgotten_in.get(channel).unwrap_or(&none_forgotten);
        let run = Run::follow(history, (client, channel), log, published, forgotten);
        violations.extend(run.violations);
        for (position, payload) in run.messages {
            violations.extend(agreement.add(channel, Some(position), payload));
        }
        for position in run.kept {
            violations.extend(agreement.keep(channel, position));
        }
    }
    violations
}

/// The accepted messages of a channel that its store no longer knows: their place holds another one, or lies behind the end.
///
/// What clients saw at a place since they last had to start anew is what the store holds there.
fn forgotten<'a>(published: &Published<'a>, seen: &Seen) -> HashSet<&'a str> {
    let Some(end) = seen.end else {
        return HashSet::new();
    };
    let is_forgotten = |at: &Position| {
        let there = seen.places.get(&(at.epoch, at.offset));
        at.epoch != end.epoch || at.offset > end.offset || there.is_some_and(|tag| *tag != at.tag)
    };
    let accepted = published
        .values()
        .filter_map(|publish| match publish.outcome {
            Outcome::Accepted { position, .. } => Some((*publish, position?)),
            _ => None,
        });
    accepted
        .filter(|(_, at)| is_forgotten(at))
        .map(|(publish, _)| publish.payload.as_str())
        .collect()
}

impl History {
    /// Whether a message was published while two servers both accepted messages.
    fn is_in_a_split(&self, publish: &Publish) -> bool {
        let called = self.time(publish.called);
        let is_within =
            |split: &Fault| called >= split.from && split.until.is_none_or(|end| called <= end);
        self.splits.iter().any(is_within)
    }
}

/// What clients saw of a channel's positions.
#[derive(Default)]
struct Seen {
    /// What was seen last at every place.
    places: HashMap<(Epoch, u64), Tag>,
    /// What was seen last of all.
    end: Option<Position>,
}

impl Seen {
    /// Every channel's.
    fn of(history: &History) -> HashMap<&ChannelName, Self> {
        let mut sights: Vec<(Moment, &ChannelName, Position)> = Vec::new();
        for ((_, channel), log) in &history.logs {
            let is_start = |observed: &Observed| {
                let what = &observed.what;
                matches!(
                    what,
                    Observation::Joined { .. }
                        | Observation::Gap { .. }
                        | Observation::Reset { .. }
                )
            };
            let last_start = log.iter().rposition(is_start).unwrap_or(0);
            for observed in &log[last_start..] {
                if let Observation::Message {
                    position: Some(position),
                    ..
                } = observed.what
                {
                    sights.push((observed.at, channel, position));
                }
            }
        }
        sights.sort_by_key(|(at, ..)| *at);
        let mut channels: HashMap<&ChannelName, Self> = HashMap::new();
        for (_, channel, position) in sights {
            let seen = channels.entry(channel).or_default();
            let place = (position.epoch, position.offset);
            seen.places.insert(place, position.tag);
            seen.end = Some(position);
        }
        channels
    }
}

/// The publications of a channel by payload.
type Published<'a> = HashMap<&'a str, &'a Publish>;

/// What every position holds, in everybody's eyes.
#[derive(Default)]
struct Agreement<'a> {
    messages: HashMap<(&'a ChannelName, Position), &'a str>,
    /// What clients that are still subscribed build on.
    kept: HashMap<(&'a ChannelName, Epoch, u64), Tag>,
}

impl<'a> Agreement<'a> {
    fn add(
        &mut self,
        channel: &'a ChannelName,
        position: Option<Position>,
        payload: &'a str,
    ) -> Option<Violation> {
        let at = position?;
        let one = *self.messages.entry((channel, at)).or_insert(payload);
        (one != payload).then(|| Violation {
            client: None,
            channel: Some(channel.clone()),
            wrong: Wrong::Disagreement {
                at,
                one: one.to_owned(),
                other: payload.to_owned(),
            },
        })
    }

    fn keep(&mut self, channel: &'a ChannelName, other: Position) -> Option<Violation> {
        let place = (channel, other.epoch, other.offset);
        let tag = *self.kept.entry(place).or_insert(other.tag);
        (tag != other.tag).then(|| Violation {
            client: None,
            channel: Some(channel.clone()),
            wrong: Wrong::Diverged {
                one: Position { tag, ..other },
                other,
            },
        })
    }
}
