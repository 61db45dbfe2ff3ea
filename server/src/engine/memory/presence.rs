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
    /// The connections whose socket is lost, by when they count as gone.
    lost: BTreeSet<(Instant, SocketId)>,
}

#[derive(Debug)]
struct Connection {
    user: UserId,
    /// Its key in `lost`.
    lost_until: Option<Instant>,
}

#[derive(Debug)]
struct Present {
    info: RawJson,
    connections: usize,
}

/// What the channel is told.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// The user's first connection came.
    Added(Member),
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
                if let Some(until) = known.lost_until.take() {
                    self.lost.remove(&(until, connection));
                }
                if let Some(present) = self.users.get_mut(&member.id) {
                    present.info = member.info;
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
                lost_until: None,
            },
        );
        if let Some(present) = self.users.get_mut(&user) {
            present.info = member.info;
            present.connections += 1;
        } else {
            let present = Present {
                info: member.info.clone(),
                connections: 1,
            };
            self.users.insert(user, present);
            changes.push(Change::Added(member));
        }
        changes
    }

    /// Takes a connection out at once.
    pub(super) fn remove(&mut self, connection: SocketId, departure: Departure) -> Option<Change> {
        let Connection { user, lost_until } = self.connections.remove(&connection)?;
        if let Some(until) = lost_until {
            self.lost.remove(&(until, connection));
        }
        let present = self.users.get_mut(&user)?;
        present.connections -= 1;
        if present.connections > 0 {
            return None;
        }
        self.users.remove(&user);
        Some(Change::Removed(user, departure))
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
