//! The members of one channel: connections counted per user, lost ones held back for a while. Pure: takes `now`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fanfare_protocol::{Member, RawJson, SocketId, UserId};
use tokio::time::Instant;

use crate::delivery::Departure;

/// The members of one channel.
#[derive(Debug, Default)]
pub(super) struct Presence {
    connections: HashMap<SocketId, Connection>,
    /// Ordered, so that a capped list shows the same members every time.
    users: BTreeMap<UserId, Present>,
    /// The connections that are not shown, by user and by when another one was shown instead: of those of a user, the last
    /// one was shown last.
    hidden: BTreeMap<(UserId, u64), SocketId>,
    /// How many connections were ever hidden.
    hidden_count: u64,
    /// The connections whose socket is lost, by when they count as gone.
    lost: BTreeSet<(Instant, SocketId)>,
}

#[derive(Debug)]
struct Connection {
    user: UserId,
    info: RawJson,
    /// The number of its key in `hidden`; none while it is shown.
    hidden_as: Option<u64>,
    /// Its key in `lost`.
    lost_until: Option<Instant>,
}

#[derive(Debug)]
struct Present {
    shown: SocketId,
    /// What the shown connection has, which shares its text.
    info: RawJson,
    connections: usize,
}

/// What the channel is told.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// The user's first connection came.
    Added(Member),
    /// The user is shown with another info.
    Updated(Member),
    /// The user's last connection has gone.
    Removed(UserId, Departure),
}

impl Presence {
    /// Adds a connection.
    ///
    /// A connection belongs to one user at a time: joining as another one takes it out as the first.
    pub(super) fn join(&mut self, connection: SocketId, member: Member) -> Vec<Change> {
        let mut changes = Vec::new();
        match self.connections.get_mut(&connection) {
            Some(known) if known.user == member.id => {
                let lost_until = known.lost_until.take();
                if let Some(until) = lost_until {
                    self.lost.remove(&(until, connection));
                }
                if lost_until.is_some() || known.info != member.info {
                    known.info = member.info;
                    changes.extend(self.show(connection));
                }
                return changes;
            }
            Some(_) => changes.extend(self.remove(connection, Departure::Goodbye)),
            None => {}
        }
        let user = member.id.clone();
        self.connections.insert(
            connection,
            Connection {
                user: user.clone(),
                info: member.info.clone(),
                hidden_as: None,
                lost_until: None,
            },
        );
        if let Some(present) = self.users.get_mut(&user) {
            present.connections += 1;
            changes.extend(self.show(connection));
        } else {
            let present = Present {
                shown: connection,
                info: member.info.clone(),
                connections: 1,
            };
            self.users.insert(user, present);
            changes.push(Change::Added(member));
        }
        changes
    }

    /// Replaces what a connection shows, if it is here and shows something else.
    pub(super) fn update(&mut self, connection: SocketId, info: RawJson) -> Option<Change> {
        let known = self.connections.get_mut(&connection)?;
        if known.info == info {
            return None;
        }
        known.info = info;
        self.show(connection)
    }

    /// Shows a connection's info instead of what is shown of its user.
    fn show(&mut self, connection: SocketId) -> Option<Change> {
        let known = self.connections.get_mut(&connection)?;
        let (user, info) = (known.user.clone(), known.info.clone());
        if let Some(number) = known.hidden_as.take() {
            self.hidden.remove(&(user.clone(), number));
        }
        let present = self.users.get_mut(&user)?;
        if present.shown != connection
            && let Some(before) = self.connections.get_mut(&present.shown)
        {
            self.hidden_count += 1;
            before.hidden_as = Some(self.hidden_count);
            let key = (user.clone(), self.hidden_count);
            self.hidden.insert(key, present.shown);
        }
        present.shown = connection;
        let before = std::mem::replace(&mut present.info, info.clone());
        (before != info).then_some(Change::Updated(Member { id: user, info }))
    }

    /// Takes a connection out at once.
    pub(super) fn remove(&mut self, connection: SocketId, departure: Departure) -> Option<Change> {
        let gone = self.connections.remove(&connection)?;
        if let Some(until) = gone.lost_until {
            self.lost.remove(&(until, connection));
        }
        let user = gone.user;
        if let Some(number) = gone.hidden_as {
            self.hidden.remove(&(user.clone(), number));
        }
        let present = self.users.get_mut(&user)?;
        present.connections -= 1;
        if present.connections == 0 {
            self.users.remove(&user);
            return Some(Change::Removed(user, departure));
        }
        if present.shown != connection {
            return None;
        }
        let mut others = self.hidden.range((user.clone(), 0)..=(user, u64::MAX));
        let (_, successor) = others.next_back()?;
        self.show(*successor)
    }

    /// Notes that a connection's socket is lost. Answers whether [`Presence::expire`] must come by at `until`.
    pub(super) fn lose(&mut self, connection: SocketId, until: Instant) -> bool {
        match self.connections.get_mut(&connection) {
            Some(known) if known.lost_until.is_none() => {
                known.lost_until = Some(until);
                self.lost.insert((until, connection))
            }
            _ => false,
        }
    }

    /// Takes the lost connections out whose time is up, the longest lost first.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((until, connection)) = self.lost.first().copied()
            && until <= now
        {
            self.lost.pop_first();
            changes.extend(self.remove(connection, Departure::Lost));
        }
        changes
    }

    /// Whether a connection is here, lost or not.
    pub(super) fn has(&self, connection: SocketId) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Whether nobody is here.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// How many users are here.
    pub(super) fn count(&self) -> usize {
        self.users.len()
    }

    /// The first `limit` users by id, and besides them the one of `caller`.
    pub(super) fn members(&self, limit: usize, caller: Option<SocketId>) -> Vec<Member> {
        let member = |(id, present): (&UserId, &Present)| Member {
            id: id.clone(),
            info: present.info.clone(),
        };
        let mut members: Vec<Member> = self.users.iter().take(limit).map(member).collect();
        let own = caller.and_then(|caller| self.connections.get(&caller));
        // The list is in order: who comes after its last one is not in it.
        if let Some(Connection { user, .. }) = own
            && members.last().is_none_or(|last| last.id < *user)
        {
            members.extend(self.users.get_key_value(user).map(member));
        }
        members
    }
}
