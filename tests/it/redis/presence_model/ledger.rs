//! What the presence scripts are to do, small enough to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare_protocol::{Member, SocketId};
use fanfare_server::delivery::Departure;
use fanfare_server::engine::redis::scripted::Next;

/// One channel: connections with a time when they count as gone; a user is here while there is one.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<SocketId, Entry>,
    infos: BTreeMap<String, Member>,
    /// What the channel is to be told next.
    pub(super) untold: Vec<Told>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) user: String,
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

/// A message about a member: who, and why they left if they did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) user: String,
    pub(super) left: Option<String>,
}

impl Ledger {
    pub(super) fn is_here(&self, user: &str) -> bool {
        self.entries.values().any(|entry| entry.user == user)
    }

    pub(super) fn join(
        &mut self,
        now: u64,
        may: May,
        connection: SocketId,
        member: &Member,
        lease: u64,
    ) {
        self.reap(now, may);
        let user = member.id.as_str();
        let held = self.entries.get(&connection);
        if held.is_some_and(|entry| entry.user != user) {
            self.remove(connection, Departure::Goodbye);
        }
        if !self.is_here(user) {
            self.untold.push(Told {
                user: user.to_owned(),
                left: None,
            });
        }
        self.infos.insert(user.to_owned(), member.clone());
        let entry = Entry {
            user: user.to_owned(),
            expiry: now + lease,
            is_lost: false,
        };
        self.entries.insert(connection, entry);
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
        self.reap(now, may);
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

    /// Answers who is unknown, and how long until the next one's time is up.
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
        let next = self.reap(now, may);
        (unknown, next)
    }

    /// Answers when the next one's time is up.
    pub(super) fn reap(&mut self, now: u64, may: May) -> Next {
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
            Some(expiry) if expiry <= now => Next::Spared,
            Some(expiry) => Next::In(Duration::from_millis(expiry - now)),
        }
    }

    pub(super) fn members(&mut self, now: u64, may: May) -> BTreeMap<String, Member> {
        self.reap(now, may);
        let users: BTreeSet<&str> = self.entries.values().map(|one| one.user.as_str()).collect();
        let here = self.infos.iter();
        let here = here.filter(|(user, _)| users.contains(user.as_str()));
        here.map(|(user, member)| (user.clone(), member.clone()))
            .collect()
    }

    /// Redis lost it all.
    pub(super) fn wipe(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, connection: SocketId, departure: Departure) {
        if let Some(Entry { user, .. }) = self.entries.remove(&connection)
            && !self.is_here(&user)
        {
            let left = Some(departure.reason().to_owned());
            self.untold.push(Told { user, left });
        }
    }
}
