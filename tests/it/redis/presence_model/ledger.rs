//! What the presence scripts are to do, small enough to be read.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_protocol::{Member, SocketId};
use fanfare_server::delivery::Departure;
use fanfare_server::engine::redis::scripted::Next;

/// One channel: connections with a time when they count as gone; a user is here while there is one, and shown with the info of
/// the one that joined or was updated last.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<SocketId, Entry>,
    /// How often a connection came to be the one that is shown.
    sequence: u64,
    /// What the channel is to be told next.
    pub(super) untold: Vec<Told>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) user: String,
    pub(super) info: String,
    sequence: u64,
    /// Milliseconds.
    pub(super) expiry: u64,
    pub(super) is_lost: bool,
}

/// Whom the caller may take out whose time is up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct May {
    pub(super) lost: bool,
    pub(super) silent: bool,
}

/// A message about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) user: String,
    pub(super) what: What,
}

/// What became of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Here now, with this info.
    Came(String),
    /// Shown with this info now.
    Shown(String),
    /// Gone, for this reason.
    Left(String),
}

impl Ledger {
    pub(super) fn join(
        &mut self,
        now: u64,
        may: May,
        connection: SocketId,
        member: &Member,
        lease: u64,
    ) {
        self.evict_expired(now, may);
        let user = member.id.as_str();
        let held = self.entries.get(&connection);
        if held.is_some_and(|entry| entry.user != user) {
            self.remove(connection, Departure::Goodbye);
        }
        let before = self.shown(user);
        let info = member.info.as_str();
        let held = self.entries.get(&connection);
        let kept = held.filter(|entry| !entry.is_lost && entry.info == info);
        let sequence = kept.map_or(self.sequence + 1, |entry| entry.sequence);
        self.sequence = self.sequence.max(sequence);
        let entry = Entry {
            user: user.to_owned(),
            info: info.to_owned(),
            sequence,
            expiry: now + lease,
            is_lost: false,
        };
        self.entries.insert(connection, entry);
        self.tell(user, before, Departure::Goodbye);
    }

    /// Answers whether the connection is here.
    pub(super) fn update(&mut self, now: u64, may: May, connection: SocketId, info: &str) -> bool {
        self.evict_expired(now, may);
        let Some(entry) = self.entries.get(&connection) else {
            return false;
        };
        let user = entry.user.clone();
        let before = self.shown(&user);
        if let Some(entry) = self.entries.get_mut(&connection)
            && entry.info != info
        {
            self.sequence += 1;
            entry.sequence = self.sequence;
            info.clone_into(&mut entry.info);
        }
        self.tell(&user, before, Departure::Goodbye);
        true
    }

    /// Answers how long a lost connection still counts.
    pub(super) fn leave(
        &mut self,
        now: u64,
        may: May,
        connection: SocketId,
        departure: Departure,
        grace: u64,
    ) -> Option<u64> {
        self.evict_expired(now, may);
        if departure != Departure::Lost {
            self.remove(connection, departure);
            return None;
        }
        let entry = self.entries.get_mut(&connection)?;
        if !entry.is_lost {
            entry.is_lost = true;
            entry.expiry = entry.expiry.min(now + grace);
        }
        Some(entry.expiry.saturating_sub(now))
    }

    /// Answers who is unknown, and how long until the next member expires.
    pub(super) fn refresh(
        &mut self,
        now: u64,
        may: May,
        connections: &[SocketId],
        lease: u64,
    ) -> (Vec<SocketId>, Next) {
        let mut unknown = Vec::new();
        for connection in connections {
            match self.entries.get_mut(connection) {
                None => unknown.push(*connection),
                Some(entry) if entry.is_lost => {}
                Some(entry) => entry.expiry = entry.expiry.max(now + lease),
            }
        }
        let next = self.evict_expired(now, may);
        (unknown, next)
    }

    /// Answers when the next member expires.
    pub(super) fn evict_expired(&mut self, now: u64, may: May) -> Next {
        let mut expired: Vec<(u64, SocketId)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.expiry <= now)
            .filter(|(_, entry)| if entry.is_lost { may.lost } else { may.silent })
            .map(|(connection, entry)| (entry.expiry, *connection))
            .collect();
        expired.sort_unstable();
        for (_, connection) in expired {
            self.remove(connection, Departure::Lost);
        }
        let first = self.entries.values().map(|entry| entry.expiry).min();
        match first {
            None => Next::Never,
            Some(expiry) if expiry <= now => Next::EvictionDeferred,
            Some(expiry) => Next::In(Duration::from_millis(expiry - now)),
        }
    }

    /// Users, each with the info that is shown.
    pub(super) fn members(&mut self, now: u64, may: May) -> BTreeMap<String, String> {
        self.evict_expired(now, may);
        let users = self.entries.values().map(|entry| &entry.user);
        let shown = users.filter_map(|user| Some((user.clone(), self.shown(user)?)));
        shown.collect()
    }

    /// Redis lost it all.
    pub(super) fn wipe(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, connection: SocketId, departure: Departure) {
        let Some(entry) = self.entries.get(&connection) else {
            return;
        };
        let user = entry.user.clone();
        let before = self.shown(&user);
        self.entries.remove(&connection);
        self.tell(&user, before, departure);
    }

    /// The info that is shown of a user who is here.
    fn shown(&self, user: &str) -> Option<String> {
        let own = self.entries.values().filter(|entry| entry.user == user);
        let shown = own.max_by_key(|entry| entry.sequence)?;
        Some(shown.info.clone())
    }

    /// The channel is told what is seen of a user now, if something else was seen `before`.
    fn tell(&mut self, user: &str, before: Option<String>, departure: Departure) {
        let what = match (before, self.shown(user)) {
            (None, Some(info)) => What::Came(info),
            (Some(before), Some(info)) if before != info => What::Shown(info),
            (Some(_), None) => What::Left(departure.reason().to_owned()),
            _ => return,
        };
        let user = user.to_owned();
        self.untold.push(Told { user, what });
    }
}
