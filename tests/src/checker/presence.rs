//! I6: members come and go in turn, events lead to what the server says, and that is who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare_protocol::ChannelName;

use super::history::{History, Sight, Sighting};
use super::violation::{Violation, Wrong};

/// Follows what every client knows of every presence channel.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut stays: BTreeMap<&ChannelName, Stays> = BTreeMap::new();
    for stay in &history.stays {
        let until = stay.until.unwrap_or(Duration::MAX);
        let users = stays.entry(&stay.channel).or_default();
        users
            .entry(&stay.user)
            .or_default()
            .push((stay.from, until));
    }
    let nobody = Stays::new();
    let mut violations = Vec::new();
    for ((client, channel), sights) in &history.sights {
        let mut look = Look {
            history,
            stays: stays.get(channel).unwrap_or(&nobody),
            members: None,
            shown: BTreeMap::new(),
            hidden: BTreeMap::new(),
            wrongs: Vec::new(),
        };
        for sight in sights {
            look.see(sight);
        }
        violations.extend(look.wrongs.into_iter().map(|wrong| Violation {
            client: Some(client.clone()),
            channel: Some(channel.clone()),
            wrong,
        }));
    }
    violations
}

/// When users were there.
type Stays<'a> = BTreeMap<&'a str, Vec<(Duration, Duration)>>;

/// What one client knows of one channel.
struct Look<'a> {
    history: &'a History,
    stays: &'a Stays<'a>,
    /// Unknown until there is a snapshot.
    members: Option<BTreeSet<String>>,
    /// Since when a member has been shown.
    shown: BTreeMap<String, Duration>,
    /// Since when a user has not been.
    hidden: BTreeMap<String, Duration>,
    wrongs: Vec<Wrong>,
}

impl Look<'_> {
    fn see(&mut self, sight: &Sight) {
        match &sight.what {
            Sighting::Snapshot(members) => self.replace(Some(members.clone()), sight.at),
            Sighting::Blind => self.replace(None, sight.at),
            Sighting::Came(user) => self.turn(user, true, sight.at),
            Sighting::Went(user) => self.turn(user, false, sight.at),
            Sighting::Asked(members) => self.asked(members, sight.at),
        }
    }

    fn turn(&mut self, user: &str, came: bool, at: Duration) {
        let Some(mut members) = self.members.clone() else {
            return;
        };
        let is_in_turn = match came {
            true => members.insert(user.to_owned()),
            false => members.remove(user),
        };
        if !is_in_turn {
            let user = user.to_owned();
            self.wrongs.push(Wrong::NotInTurn { user, came });
        }
        self.replace(Some(members), at);
    }

    /// Who is shown changes: who was shown or hidden for too long until now is noted.
    fn replace(&mut self, members: Option<BTreeSet<String>>, at: Duration) {
        let users: BTreeSet<String> = (self.stays.keys().map(|user| (*user).to_owned()))
            .chain(self.members.iter().flatten().cloned())
            .chain(members.iter().flatten().cloned())
            .collect();
        for user in users {
            let is_shown = members.as_ref().map(|members| members.contains(&user));
            if is_shown != Some(true)
                && let Some(from) = self.shown.remove(&user)
            {
                self.was_shown(&user, from, at);
            }
            if is_shown != Some(false)
                && let Some(from) = self.hidden.remove(&user)
            {
                self.was_hidden(&user, from, at);
            }
            match is_shown {
                Some(true) => _ = self.shown.entry(user).or_insert(at),
                Some(false) => _ = self.hidden.entry(user).or_insert(at),
                None => {}
            }
        }
        self.members = members;
    }

    /// At no time between the two was it too long since the user's last connection.
    fn was_shown(&mut self, user: &str, from: Duration, until: Duration) {
        let stays = self.stays.get(user).map_or(&[][..], Vec::as_slice);
        let late = without(stays, from, until)
            .into_iter()
            .find_map(|(from, until)| {
                until
                    .checked_sub(self.history.due(from, BOUND))
                    .filter(|by| !by.is_zero())
            });
        if let Some(by) = late {
            let user = user.to_owned();
            self.wrongs.push(Wrong::Ghost { user, by });
        }
    }

    /// At no time between the two was the user there for too long.
    fn was_hidden(&mut self, user: &str, from: Duration, until: Duration) {
        let stays = self.stays.get(user).map_or(&[][..], Vec::as_slice);
        let late = stays.iter().find_map(|(came, went)| {
            let (from, until) = (from.max(*came), until.min(*went));
            until
                .checked_sub(self.history.due(from, BOUND))
                .filter(|by| !by.is_zero())
        });
        if let Some(by) = late {
            let user = user.to_owned();
            self.wrongs.push(Wrong::Absent { user, by });
        }
    }

    fn asked(&mut self, told: &BTreeSet<String>, at: Duration) {
        let is_there = |stays: &[(Duration, Duration)]| {
            stays
                .iter()
                .any(|(from, until)| (*from..*until).contains(&at))
        };
        let there: BTreeSet<String> = (self.stays.iter())
            .filter(|(_, stays)| is_there(stays))
            .map(|(user, _)| (*user).to_owned())
            .collect();
        if *told != there {
            self.wrongs.push(Wrong::NotTheTruth {
                only_members: told.difference(&there).cloned().collect(),
                only_there: there.difference(told).cloned().collect(),
            });
        }
        // At rest, to know nothing is wrong, too.
        let known = self.members.clone().unwrap_or_default();
        if known != *told {
            self.wrongs.push(Wrong::OtherMembers {
                only_known: known.difference(told).cloned().collect(),
                only_told: told.difference(&known).cloned().collect(),
            });
        }
        // What is shown and hidden until now is looked at, too.
        let members = self.members.clone();
        self.replace(None, at);
        self.replace(members, at);
    }
}

/// The times without a stay that end between two others; they begin where the stay before ended.
fn without(
    stays: &[(Duration, Duration)],
    from: Duration,
    until: Duration,
) -> Vec<(Duration, Duration)> {
    let mut stays = stays.to_vec();
    stays.sort_unstable();
    let ends = stays.iter().map(|(_, went)| *went);
    let mut cursor = ends.filter(|went| *went <= from).max().unwrap_or(from);
    let mut gaps = Vec::new();
    for (came, went) in stays {
        let end = came.min(until);
        if end > cursor && end > from {
            gaps.push((cursor, end));
        }
        cursor = cursor.max(went);
    }
    if cursor < until {
        gaps.push((cursor, until));
    }
    gaps
}

/// 25 s: 20 s are promised; 5 s for a machine that has much else to do.
const BOUND: Duration = Duration::from_secs(25);
