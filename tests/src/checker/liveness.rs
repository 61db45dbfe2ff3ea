//! I11: everybody is back in time once the last fault has healed.

use std::time::Duration;

use fanfare_protocol::ChannelName;

use super::history::{History, Observation, Observed, Outcome};
use super::violation::{Violation, Wrong};

/// Looks at everybody after the last fault.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let ends = (history.faults.iter()).map(|fault| fault.until.unwrap_or(fault.from));
    // Without a fault nobody was made to come back.
    let healed = ends.max();
    let mut violations = Vec::new();
    for ((client, channel), log) in &history.logs {
        if history.ended.contains(client) {
            continue;
        }
        if let Some(what) = missing(history, channel, log, healed) {
            violations.push(Violation {
                client: Some(client.clone()),
                channel: Some(channel.clone()),
                wrong: Wrong::NotBack { what },
            });
        }
    }
    violations
}

/// What a client is missing on a channel.
fn missing(
    history: &History,
    channel: &ChannelName,
    log: &[Observed],
    healed: Option<Duration>,
) -> Option<&'static str> {
    let due = healed.map_or(Duration::MAX, |healed| healed + BOUND);
    let healed = healed.unwrap_or_default();
    let mut subscribed_at = None;
    for observed in log {
        match observed.what {
            Observation::Joined { .. } | Observation::Resumed => {
                subscribed_at = Some(history.time(observed.at));
            }
            Observation::Left => subscribed_at = None,
            _ => {}
        }
    }
    if subscribed_at.is_none_or(|at| at > due) {
        return Some("subscription");
    }
    let is_said = history.publishes.iter().any(|publish| {
        let is_accepted = matches!(publish.outcome, Outcome::Accepted { .. });
        let called = history.time(publish.called);
        is_accepted && publish.channel == *channel && called > healed && called + MARGIN < due
    });
    let is_heard = log.iter().any(|observed| {
        let at = history.time(observed.at);
        matches!(observed.what, Observation::Message { .. }) && at > healed && at <= due
    });
    (is_said && !is_heard).then_some("message")
}

/// 30 s: what is promised.
const BOUND: Duration = Duration::from_secs(30);
/// 15 s: what was said so long before the end has had its time to arrive.
const MARGIN: Duration = Duration::from_secs(15);
