//! Which users the application has disconnected lately: what was judged before that does not count after it.

use std::collections::{HashMap, VecDeque};

use fanfare_protocol::UserId;

/// When a connection's claim to a user was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// After so many revocations: an authorizer was asked then, and may have answered any time later.
    After(u64),
    /// By a channel token, which was signed at this time, in milliseconds since the Unix epoch, and after so many revocations: it
    /// names the connection, and is not older than that.
    At { unix_ms: u64, after: u64 },
    /// At some time after so many revocations, which may be long ago: a signature without a time of its own.
    Since(u64),
}

/// The users that were disconnected, bounded in number.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    count: u64,
    latest: HashMap<UserId, Revocation>,
    /// The same in the order in which they came. A user's earlier ones stay until it is their turn.
    order: VecDeque<(u64, UserId)>,
    /// The latest one that is forgotten.
    forgotten: Option<Revocation>,
}

#[derive(Debug, Clone, Copy)]
struct Revocation {
    number: u64,
    unix_ms: u64,
}

impl Revocations {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Notes that a user is disconnected now.
    pub(super) fn note(&mut self, user: &UserId, unix_ms: u64) {
        self.count += 1;
        let number = self.count;
        let revocation = Revocation { number, unix_ms };
        self.latest.insert(user.clone(), revocation);
        self.order.push_back((number, user.clone()));
        if self.order.len() > REVOCATIONS_MAX
            && let Some((number, user)) = self.order.pop_front()
            && let Some(oldest) = self.latest.get(&user).copied()
            && oldest.number == number
        {
            self.latest.remove(&user);
            self.forgotten = Some(oldest);
        }
    }

    /// Whether the user was disconnected after the claim was judged, or may have been.
    pub(super) fn is_revoked(&self, user: &UserId, judged: Judged) -> bool {
        let concerns = |revocation: &Revocation| match judged {
            Judged::After(number) | Judged::Since(number) => revocation.number > number,
            Judged::At { unix_ms, after } => {
                revocation.number > after && revocation.unix_ms >= unix_ms
            }
        };
        // Judgements are seconds old, a minute at most: none of them is older than what is forgotten, unless the application
        // disconnects users by the thousands. A signature without a time may be, and cannot be refused for good.
        let may_concern = !matches!(judged, Judged::Since(_));
        self.latest.get(user).is_some_and(concerns)
            || (may_concern && self.forgotten.as_ref().is_some_and(concerns))
    }
}

/// 8,192: a megabyte or two, and far more users than are disconnected within a minute.
const REVOCATIONS_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn what_was_judged_before_counts_no_more() {
        let mut revocations = Revocations::default();
        let before = revocations.count();
        revocations.note(&user("ann"), 1_000);
        let after = revocations.count();
        let ann = |judged| revocations.is_revoked(&user("ann"), judged);
        assert!(ann(Judged::After(before)) && !ann(Judged::After(after)));
        assert!(ann(Judged::Since(before)) && !ann(Judged::Since(after)));
        let at = |unix_ms, after| Judged::At { unix_ms, after };
        assert!(ann(at(999, before)) && ann(at(1_000, before)) && !ann(at(1_001, before)));
        // However far the clock of the node that signed it may be behind.
        assert!(!ann(at(999, after)));
        assert!(!revocations.is_revoked(&user("ben"), Judged::After(before)));
    }

    #[test]
    fn what_is_forgotten_counts_against_everybody_who_was_judged_before() {
        let mut revocations = Revocations::default();
        revocations.note(&user("ann"), 1_000);
        revocations.note(&user("ann"), 2_000);
        for number in 0..REVOCATIONS_MAX {
            revocations.note(&user(&format!("u{number}")), 3_000);
        }
        assert!(revocations.order.len() <= REVOCATIONS_MAX);
        assert!(revocations.latest.len() <= REVOCATIONS_MAX);
        assert!(revocations.is_revoked(&user("ann"), Judged::After(0)));
        let at = |unix_ms| Judged::At { unix_ms, after: 0 };
        assert!(revocations.is_revoked(&user("cid"), at(2_000)));
        assert!(!revocations.is_revoked(&user("cid"), at(2_001)));
        assert!(!revocations.is_revoked(&user("cid"), Judged::After(2)));
        assert!(!revocations.is_revoked(&user("ann"), Judged::Since(0)));
    }
}
