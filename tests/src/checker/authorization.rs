//! I9: nothing comes once the permission has ended.

use std::time::Duration;

use super::history::{History, Observation};
use super::violation::{Violation, Wrong};

/// Looks behind the end of every permission.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for grant in &history.grants {
        let key = (grant.client.clone(), grant.channel.clone());
        for observed in history.logs.get(&key).into_iter().flatten() {
            let Observation::Message { payload, .. } = &observed.what else {
                continue;
            };
            let after = history.time(observed.at).checked_sub(grant.until);
            if let Some(by) = after.filter(|after| *after > GRACE) {
                let payload = payload.clone();
                violations.push(Violation {
                    client: Some(grant.client.clone()),
                    channel: Some(grant.channel.clone()),
                    wrong: Wrong::NotPermitted { payload, by },
                });
            }
        }
    }
    violations
}

/// 5 s: what is promised.
const GRACE: Duration = Duration::from_secs(5);
