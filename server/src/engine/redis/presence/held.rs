//! The connections that a node holds in presence channels, and those that Redis may still show after a call without a reply. Pure:
//! takes `now`.
//!
//! Promise: docs/guarantees.md, *Presence*, "When Redis has lost the members, all servers put theirs back".

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, RawJson, SocketId};
use tokio::time::Instant;

use crate::delivery::{Departure, Retention};

/// A connection in a channel.
pub(super) type Membership = (ChannelName, SocketId);

/// Connections in a channel.
pub(super) type Batch = (ChannelName, Vec<SocketId>);

/// The connections that a node holds, and those that are uncertain.
#[derive(Debug, Default)]
pub(super) struct HeldConnections {
    channels: HashMap<ChannelName, HeldChannel>,
    uncertain: HashMap<Membership, UncertainLeave>,
    /// How long a connection that is lost here may take to appear at another node.
    pub(super) handed_over: Option<Duration>,
}

/// A channel's connections on this node.
#[derive(Debug)]
struct HeldChannel {
    retention: Retention,
    members: HashMap<SocketId, Member>,
}

/// A connection that Redis may show although this node does not hold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct UncertainLeave {
    /// How it is removed.
    pub(super) departure: Departure,
    /// Its lease is over by then.
    pub(super) until: Instant,
}

impl HeldConnections {
    /// Holds a connection from now on.
    pub(super) fn hold(
        &mut self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
    ) {
        self.settle(channel, connection);
        let entry = self
            .channels
            .entry(channel.clone())
            .or_insert_with(|| HeldChannel {
                retention,
                members: HashMap::new(),
            });
        entry.retention = retention;
        entry.members.insert(connection, member);
    }

    /// Holds a connection no longer.
    pub(super) fn release(&mut self, channel: &ChannelName, connection: SocketId) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.members.remove(&connection);
            if entry.members.is_empty() {
                self.channels.remove(channel);
            }
        }
    }

    /// Replaces the info of a connection that is held. Returns the previous one.
    pub(super) fn exchange_info(
        &mut self,
        channel: &ChannelName,
        connection: SocketId,
        info: RawJson,
    ) -> Option<RawJson> {
        let entry = self.channels.get_mut(channel)?;
        let member = entry.members.get_mut(&connection)?;
        Some(std::mem::replace(&mut member.info, info))
    }

    /// A connection that is held, with its present info.
    pub(super) fn find(
        &self,
        channel: &ChannelName,
        connection: SocketId,
    ) -> Option<(Member, Retention)> {
        let entry = self.channels.get(channel)?;
        let member = entry.members.get(&connection)?.clone();
        Some((member, entry.retention))
    }

    /// The servers with connections that are held or uncertain, where `owner` returns the server of a channel.
    pub(super) fn servers<S: Eq + Hash>(&self, owner: impl Fn(&ChannelName) -> S) -> HashSet<S> {
        let doubted = self.uncertain.keys().map(|(channel, _)| channel);
        self.channels.keys().chain(doubted).map(owner).collect()
    }

    /// All that is held at some servers, channel by channel, in batches.
    pub(super) fn batches<S: Eq + Hash>(
        &self,
        batch_max: usize,
        servers: impl IntoIterator<Item = S>,
        owner: impl Fn(&ChannelName) -> S,
    ) -> HashMap<S, Vec<Batch>> {
        let servers = servers.into_iter().map(|server| (server, Vec::new()));
        let mut batches: HashMap<S, Vec<Batch>> = servers.collect();
        if batches.is_empty() {
            return batches;
        }
        for (channel, entry) in &self.channels {
            let Some(batches) = batches.get_mut(&owner(channel)) else {
                continue;
            };
            let connections: Vec<SocketId> = entry.members.keys().copied().collect();
            let chunks = connections.chunks(batch_max);
            batches.extend(chunks.map(|chunk| (channel.clone(), chunk.to_vec())));
        }
        batches
    }

    /// Notes an uncertain connection.
    pub(super) fn note_uncertain(&mut self, membership: Membership, leave: UncertainLeave) {
        if self.uncertain.len() < UNCERTAIN_MAX {
            self.uncertain.insert(membership, leave);
        }
    }

    /// A reply of Redis has settled a connection.
    pub(super) fn settle(&mut self, channel: &ChannelName, connection: SocketId) {
        if !self.uncertain.is_empty() {
            self.uncertain.remove(&(channel.clone(), connection));
        }
    }

    /// The connections that are still uncertain in some channels: they have not come back, and their leases have not ended.
    pub(super) fn uncertain_leaves(
        &mut self,
        now: Instant,
        is_wanted: impl Fn(&ChannelName) -> bool,
    ) -> Vec<(Membership, UncertainLeave)> {
        let Self {
            channels,
            uncertain,
            ..
        } = self;
        uncertain.retain(|(channel, connection), leave| {
            let entry = channels.get(channel);
            let is_held = entry.is_some_and(|entry| entry.members.contains_key(connection));
            !is_held && leave.until > now
        });
        let open = uncertain.iter();
        let open = open.filter(|((channel, _), _)| is_wanted(channel));
        open.map(|(membership, leave)| (membership.clone(), *leave))
            .collect()
    }
}

/// 100,000: more departures without a reply are left to their leases.
const UNCERTAIN_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fanfare_protocol::UserId;

    use super::*;

    const KEPT: Retention = Retention::new(10, Duration::from_secs(60));

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn ann() -> Member {
        Member {
            id: UserId::new("ann").unwrap(),
            info: RawJson::null(),
        }
    }

    fn uncertain_leave(until: Instant) -> UncertainLeave {
        let departure = Departure::Removed;
        UncertainLeave { departure, until }
    }

    #[test]
    fn all_that_is_held_comes_in_batches() {
        let mut held = HeldConnections::default();
        let (a, b) = (channel("presence-a"), channel("presence-b"));
        let connections: Vec<SocketId> = (0..7).map(SocketId::from_bits).collect();
        for connection in &connections {
            held.hold(&a, *connection, ann(), KEPT);
        }
        held.hold(&b, connections[0], ann(), KEPT);
        held.release(&a, connections[6]);
        held.release(&b, connections[0]);
        let at = |channel: &ChannelName| channel.as_str() == "presence-a";
        let mut batches = held.batches(4, [true, false], at);
        assert_eq!(batches.remove(&false), Some(Vec::new()));
        assert_eq!(held.batches(4, [false], at)[&false], []);
        assert_eq!(held.servers(at), HashSet::from([true]));
        let batches = batches.remove(&true).unwrap();
        let sizes: BTreeSet<usize> = batches.iter().map(|(_, batch)| batch.len()).collect();
        assert_eq!(sizes, BTreeSet::from([2, 4]));
        assert!(batches.iter().all(|(channel, _)| *channel == a));
        let all: BTreeSet<SocketId> = batches.into_iter().flat_map(|(_, batch)| batch).collect();
        assert_eq!(all, connections[..6].iter().copied().collect());
        assert!(held.find(&a, connections[6]).is_none());
        assert_eq!(held.find(&a, connections[5]), Some((ann(), KEPT)));
        let info = RawJson::trusted("1");
        let before = held.exchange_info(&a, connections[5], info.clone());
        assert_eq!(before, Some(RawJson::null()));
        let updated = Member { info, ..ann() };
        assert_eq!(held.find(&a, connections[5]), Some((updated, KEPT)));
        assert_eq!(
            held.exchange_info(&a, connections[6], RawJson::null()),
            None,
            "not held"
        );
    }

    #[test]
    fn a_doubt_ends_with_an_answer_with_a_return_and_with_its_lease() {
        let mut held = HeldConnections::default();
        let now = Instant::now();
        let room = channel("presence-a");
        let [answered, back, late, open] = [1, 2, 3, 4].map(SocketId::from_bits);
        for connection in [answered, back, open] {
            held.note_uncertain(
                (room.clone(), connection),
                uncertain_leave(now + Duration::from_secs(1)),
            );
        }
        held.note_uncertain((room.clone(), late), uncertain_leave(now));
        held.settle(&room, answered);
        held.hold(&room, back, ann(), KEPT);
        assert!(held.uncertain_leaves(now, |_| false).is_empty());
        let left: Vec<Membership> = held
            .uncertain_leaves(now, |_| true)
            .into_iter()
            .map(|(membership, _)| membership)
            .collect();
        assert_eq!(left, [(room, open)]);
    }
}
