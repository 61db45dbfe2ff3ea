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
    let forgotten: HashMap<&ChannelName, HashSet<&str>> = match history.store_may_lose {
        true => (published.iter())
            .map(|(channel, published)| (*channel, forgotten(published)))
            .collect(),
        false => HashMap::new(),
    };
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
        let forgotten = forgotten.get(channel).unwrap_or(&none_forgotten);
        let run = Run::follow(client, channel, log, published, forgotten);
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
fn forgotten<'a>(published: &Published<'a>) -> HashSet<&'a str> {
    let mut accepted: Vec<(&Publish, Position)> = published
        .values()
        .filter_map(|publish| match publish.outcome {
            Outcome::Accepted { position, .. } => Some((*publish, position?)),
            _ => None,
        })
        .collect();
    accepted.sort_by_key(|(publish, _)| publish.called);
    let Some(&(_, end)) = accepted.last() else {
        return HashSet::new();
    };
    let places: HashMap<(Epoch, u64), Tag> = (accepted.iter())
        .map(|(_, at)| ((at.epoch, at.offset), at.tag))
        .collect();
    let is_forgotten = |at: &Position| {
        at.epoch != end.epoch
            || at.offset > end.offset
            || places.get(&(at.epoch, at.offset)) != Some(&at.tag)
    };
    (accepted.into_iter())
        .filter(|(_, at)| is_forgotten(at))
        .map(|(publish, _)| publish.payload.as_str())
        .collect()
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
