//! I5: losses are found and told in time, and what is repaired comes in time.

use std::collections::HashMap;
use std::time::Duration;

use fanfare_protocol::ChannelName;

use super::history::{History, Moment, Observation, Observed, Outcome, Publish};
use super::violation::{Violation, Wrong};

/// Follows every client on every channel.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut published: HashMap<&ChannelName, Vec<&Publish>> = HashMap::new();
    for publish in &history.publishes {
        published.entry(&publish.channel).or_default().push(publish);
    }
    let mut violations = Vec::new();
    for ((client, channel), log) in &history.logs {
        let published = published.get(channel).map_or(&[][..], Vec::as_slice);
        let mut watch = Watch::new(history, published);
        for observed in log {
            watch.observe(observed);
        }
        violations.extend(watch.wrongs.into_iter().map(|wrong| Violation {
            client: Some(client.clone()),
            channel: Some(channel.clone()),
            wrong,
        }));
    }
    violations
}

/// One client on one channel.
struct Watch<'a> {
    history: &'a History,
    /// What came out of the channel's publications, in the order of their first attempt.
    published: HashMap<&'a str, &'a Publish>,
    in_order: &'a [&'a Publish],
    seen: HashMap<&'a str, Moment>,
    /// Since when it has been subscribed without a break, and since which moment it is owed everything.
    since: Option<(Duration, Moment)>,
    wrongs: Vec<Wrong>,
}

impl<'a> Watch<'a> {
    fn new(history: &'a History, in_order: &'a [&'a Publish]) -> Self {
        let by_payload = in_order
            .iter()
            .map(|publish| (publish.payload.as_str(), *publish));
        Self {
            history,
            published: by_payload.collect(),
            in_order,
            seen: HashMap::new(),
            since: None,
            wrongs: Vec::new(),
        }
    }

    fn observe(&mut self, observed: &'a Observed) {
        let now = self.history.time(observed.at);
        match &observed.what {
            Observation::Joined { .. } | Observation::Resumed => {
                self.since = Some((now, observed.at));
            }
            Observation::Left => self.since = None,
            Observation::Gap { .. } | Observation::Reset { .. } => {
                self.told(now, observed.at);
                if let Some((since, _)) = self.since {
                    self.since = Some((since, observed.at));
                }
            }
            Observation::Message { payload, .. } => self.message(payload, observed.at, now),
            Observation::Skipped { .. } => {}
        }
    }

    fn message(&mut self, payload: &'a str, at: Moment, now: Duration) {
        if self.seen.insert(payload, at).is_some() {
            return;
        }
        let publish = self.published.get(payload);
        let (Some(publish), Some((since, _))) = (publish, self.since) else {
            return;
        };
        let Outcome::Accepted { returned, .. } = publish.outcome else {
            return;
        };
        let from = self.history.time(returned).max(since);
        let due = self.history.due(from, BOUND);
        if now > due {
            let payload = payload.to_owned();
            self.wrongs.push(Wrong::Late {
                payload,
                by: now - due,
            });
        }
    }

    /// The client is told that something was lost: what it has been owed the longest says whether in time.
    fn told(&mut self, now: Duration, at: Moment) {
        let Some((since, owed_since)) = self.since else {
            return;
        };
        let oldest = self.in_order.iter().find_map(|publish| {
            let Outcome::Accepted { returned, .. } = publish.outcome else {
                return None;
            };
            let is_lost = publish.called > owed_since
                && returned < at
                && !self.seen.contains_key(publish.payload.as_str());
            is_lost.then_some((publish, returned))
        });
        let Some((publish, returned)) = oldest else {
            return;
        };
        let due = self
            .history
            .due(self.history.time(returned).max(since), BOUND);
        if now > due {
            let payload = publish.payload.clone();
            self.wrongs.push(Wrong::ToldLate {
                payload,
                by: now - due,
            });
        }
    }
}

/// 35 s: 30 s are promised where nothing follows the lost message; 5 s for a machine that has much else to do.
const BOUND: Duration = Duration::from_secs(35);
