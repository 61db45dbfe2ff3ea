//! What this node holds in presence channels, and how it stays there.
//!
//! Redis forgets a connection whose node says nothing about it for the length of a lease. So one task says so three times
//! within a lease, channel by channel, and joins again what Redis no longer knows: because this node was paused for too long, or
//! because Redis lost its data. Another task comes by when a lost connection's grace, or the lease of a node that died, is
//! over; where nobody comes by, the next call on that channel notices, from whichever node.
//!
//! When Redis was out of reach, nobody is taken out until every node has had the time to speak again: an outage of Redis is no
//! reason to show everybody as gone. [`super::uptime`] says how that is known, and a third task sees to it that it is. Who only
//! publishes holds nothing, runs none of the three, and so takes nobody out.
//!
//! A call without an answer is a **doubt**: Redis may show a connection that this node does not hold. It is not refreshed, so
//! it goes with its lease at the latest; and it is taken out with the next round.

mod expiry_queue;
mod held;
mod pulse;
mod rounds;
mod streams;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, RawJson, SocketId};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::expiry_queue::ExpiryQueue;
use self::held::{HeldConnections, Membership, UncertainLeave};
use self::pulse::Pulses;
use self::streams::Outcome;
use super::scripts::{BATCH_MAX, NextExpiry, PresenceScripts, Snapshot};
use crate::delivery::{Departure, Retention};
use crate::engine::EngineError;
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;

/// What this node holds, and the calls that keep it.
pub(crate) struct PresenceLeases {
    scripts: PresenceScripts,
    held: Mutex<HeldConnections>,
    expiries: ExpiryQueue,
    pulses: Pulses,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A call under way after which this node does not hold a connection. Dropped before it is settled, it is a doubt.
struct Unsettled<'a> {
    leases: &'a PresenceLeases,
    membership: Option<Membership>,
    departure: Departure,
}

impl PresenceLeases {
    /// Holds nothing yet.
    pub(crate) fn new(scripts: PresenceScripts) -> Self {
        Self {
            scripts,
            held: Mutex::default(),
            expiries: ExpiryQueue::new(),
            pulses: Pulses::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts the three tasks, once there was contact with Redis.
    pub(crate) async fn start(self: &Arc<Self>) {
        self.pulse().await;
        let (keeping, visiting) = (Arc::clone(self), Arc::clone(self));
        self.tasks.spawn(Arc::clone(self).keep_contact());
        self.tasks
            .spawn(async move { keeping.run_refreshes().await });
        self.tasks
            .spawn(async move { visiting.run_expiries().await });
        self.tasks.close();
    }

    /// Ends the tasks. What is held goes with its lease, unless it turns up elsewhere.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends the tasks and waits for them.
    pub(crate) async fn close(&self) {
        self.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Adds a connection and keeps it from now on.
    ///
    /// # Cancel safety
    /// If the future is dropped, it may have added the connection; it is not kept then, and is taken out with the next round.
    pub(crate) async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        let mut unsettled = self.unsettled(channel, connection, Departure::Removed);
        let joined = self
            .scripts
            .join(channel, connection, &member, retention)
            .await;
        match joined {
            Ok(()) => {
                unsettled.membership = None;
                self.held().hold(channel, connection, member, retention);
            }
            Err(EngineError::Unknown { .. }) => {}
            Err(_) => unsettled.membership = None,
        }
        joined
    }

    /// Replaces the info of a connection, with which it is kept from now on. Answers whether it is here.
    ///
    /// # Cancel safety
    /// If the future is dropped, it may have replaced the info.
    pub(crate) async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError> {
        // First here: who joins it again meanwhile finds out that it has another info by then.
        let before = self.held().exchange_info(channel, connection, info.clone());
        let updated = self
            .scripts
            .update(channel, connection, &info, retention)
            .await;
        match (updated, before) {
            // Redis has forgotten it, and it is still here.
            (Ok(false), Some(_)) => {
                let joined = self.join_again(channel, connection).await;
                joined.map_err(|error| self.scripts.verdict("updating presence", error))?;
                Ok(self.held().find(channel, connection).is_some())
            }
            (Err(error), Some(before)) => {
                if !matches!(error, EngineError::Unknown { .. }) {
                    self.held().exchange_info(channel, connection, before);
                }
                Err(error)
            }
            (updated, _) => updated,
        }
    }

    /// Takes a connection out and keeps it no longer, whatever the answer.
    pub(crate) async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Result<(), EngineError> {
        self.held().release(channel, connection);
        let mut unsettled = self.unsettled(channel, connection, departure);
        let wait = self
            .scripts
            .leave(channel, connection, departure, self.grace())
            .await?;
        unsettled.membership = None;
        self.held().settle(channel, connection);
        if let Some(wait) = wait {
            self.expiries.add(channel, wait);
        }
        Ok(())
    }

    /// Says that connections are still here; answers those that Redis does not know.
    pub(crate) async fn refresh(
        &self,
        held: &[Membership],
    ) -> Result<Vec<Membership>, EngineError> {
        let mut channels: HashMap<&ChannelName, Vec<SocketId>> = HashMap::new();
        for (channel, connection) in held {
            channels.entry(channel).or_default().push(*connection);
        }
        let lease = self.scripts.timings().lease;
        let mut unknown = Vec::new();
        for (channel, connections) in channels {
            for batch in connections.chunks(BATCH_MAX) {
                let refreshed = self.scripts.refresh(channel, batch, lease).await;
                let refreshed = refreshed
                    .map_err(|error| self.scripts.verdict("refreshing presence", error))?;
                let gone = refreshed.unknown.into_iter();
                unknown.extend(gone.map(|connection| (channel.clone(), connection)));
            }
        }
        Ok(unknown)
    }

    /// Who is here.
    pub(crate) async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Snapshot, EngineError> {
        self.scripts.members(channel, caller).await
    }

    /// Schedules an eviction of a channel's expired members. Answers whether this node does such things.
    pub(crate) fn look(&self, channel: &ChannelName) -> bool {
        let is_started = self.tasks.is_closed();
        if is_started {
            self.schedule_deferred_eviction(channel);
        }
        is_started
    }

    /// Lets what is lost here from now on count as present for `within`, and what is held as well, should the node end: its users
    /// turn up elsewhere.
    pub(crate) async fn hand_over(&self, within: Duration) {
        self.held().handed_over = Some(within);
        if let Some(error) = self.round().await {
            warn!(%error, "presence is not handed over yet; trying again");
        }
    }

    /// Looks for expired members when it is, until it is stopped. A server that is slow holds up no other's.
    async fn run_expiries(&self) {
        let mut under_way = FuturesUnordered::new();
        let mut waiting: HashMap<Option<Server>, HashSet<ChannelName>> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(server) = under_way.next(), if !under_way.is_empty() => {
                    if let Some(channels) = waiting.remove(&server)
                        && !channels.is_empty()
                    {
                        waiting.insert(server.clone(), HashSet::new());
                        under_way.push(self.evict_at_server(server, channels));
                    }
                }
                () = self.expiries.until_due() => {
                    for (server, channels) in self.due_expiries() {
                        // Where there is an entry somebody is on the way.
                        if let Some(waiting) = waiting.get_mut(&server) {
                            waiting.extend(channels);
                        } else {
                            waiting.insert(server.clone(), HashSet::new());
                            under_way.push(self.evict_at_server(server, channels));
                        }
                    }
                }
            }
        }
    }

    /// The visits that are due, by server.
    fn due_expiries(&self) -> HashMap<Option<Server>, HashSet<ChannelName>> {
        let owner = self.scripts.owners();
        let mut due: HashMap<_, HashSet<_>> = HashMap::new();
        for channel in self.expiries.take_due() {
            due.entry(owner(&channel)).or_default().insert(channel);
        }
        due
    }

    /// Looks in channels of one server, and answers which it was.
    async fn evict_at_server(
        &self,
        server: Option<Server>,
        channels: HashSet<ChannelName>,
    ) -> Option<Server> {
        let expiries = channels.into_iter().map(|channel| (channel, ())).collect();
        // Where that fails, whoever refreshes the channel next comes by.
        Outcome::of(expiries, EVICTIONS_MAX, async |channel, ()| {
            self.evict_expired(&channel).await
        })
        .await;
        server
    }

    /// Takes those out whose time is up, and comes back when the next one's is.
    async fn evict_expired(&self, channel: &ChannelName) -> Result<(), CommandError> {
        loop {
            match self.scripts.evict_expired(channel).await? {
                NextExpiry::In(Duration::ZERO) => {}
                next => {
                    self.schedule_eviction(channel, next);
                    return Ok(());
                }
            }
        }
    }

    /// How long a connection that is lost now still counts as present.
    fn grace(&self) -> Duration {
        let handed_over = self.held().handed_over;
        self.scripts
            .timings()
            .grace
            .max(handed_over.unwrap_or_default())
    }

    /// How long a connection still counts as present that nothing is said about from now on. A loss only ever shortens that, so
    /// what is handed over must last longer.
    fn lease(&self) -> Duration {
        let timings = self.scripts.timings();
        let handed_over = self.held().handed_over;
        let handed_over = handed_over.map(|within| within + timings.refresh_interval);
        timings.lease.max(handed_over.unwrap_or_default())
    }

    /// A panic under the lock is a bug elsewhere, and the state was complete when it happened.
    fn held(&self) -> MutexGuard<'_, HeldConnections> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Unsettled<'_> {
        Unsettled {
            leases: self,
            membership: Some((channel.clone(), connection)),
            departure,
        }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(membership) = self.membership.take() {
            let until = Instant::now() + self.leases.scripts.timings().lease * 2;
            let leave = UncertainLeave {
                departure: self.departure,
                until,
            };
            self.leases.held().note_uncertain(membership, leave);
        }
    }
}

/// 32: visits under way at once.
const EVICTIONS_MAX: usize = 32;
