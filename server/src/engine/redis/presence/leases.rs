//! The connections that this node holds in presence channels, and the calls that keep them there.
//!
//! Redis drops a connection whose node does not refresh it for the length of a lease. So a node refreshes each channel three times
//! within a lease, and joins again what Redis no longer knows: because the node was paused for too long, or because Redis lost its
//! data. Members are evicted when they expire ([`expiry`](super::expiry)), by any node that is allowed to
//! ([`eviction`](super::eviction)). A publisher holds nothing and evicts nobody.
//!
//! A call without a reply leaves an **uncertain** connection: Redis may show it although this node does not hold it. It is not
//! refreshed, so it expires with its lease at the latest; and the next refresh removes it.
//!
//! Promise: docs/guarantees.md, *Presence*, "When Redis has lost the members, all servers put theirs back".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, RawJson, SocketId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::expiry::Expiries;
use super::held::{HeldConnections, Membership, UncertainLeave};
use super::pulse::Pulses;
use super::scripts::{BATCH_MAX, PresenceScripts, Snapshot};
use crate::delivery::{Departure, Retention};
use crate::engine::EngineError;

/// The connections that this node holds, and the calls that keep them.
pub(crate) struct PresenceLeases {
    pub(super) scripts: PresenceScripts,
    held: Mutex<HeldConnections>,
    pub(super) expiries: Arc<Expiries>,
    pulses: Arc<Pulses>,
    pub(super) stop: CancellationToken,
    tasks: TaskTracker,
}

/// A call under way after which this node does not hold a connection. Dropped before it is settled, it is a doubt.
pub(super) struct Unsettled<'a> {
    leases: &'a PresenceLeases,
    pub(super) membership: Option<Membership>,
    departure: Departure,
}

impl PresenceLeases {
    /// A node that holds nothing yet.
    pub(crate) fn new(scripts: PresenceScripts) -> Self {
        Self {
            held: Mutex::default(),
            expiries: Arc::new(Expiries::new(scripts.clone())),
            pulses: Arc::new(Pulses::new(scripts.clone())),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            scripts,
        }
    }

    /// Starts the tasks after a first attempt to reach every master.
    pub(crate) async fn start(self: &Arc<Self>) {
        self.pulses.ask_all().await;
        let leases = Arc::clone(self);
        let (pulses, expiries) = (Arc::clone(&self.pulses), Arc::clone(&self.expiries));
        self.tasks.spawn(pulses.run(self.stop.clone()));
        self.tasks.spawn(expiries.run(self.stop.clone()));
        self.tasks
            .spawn(async move { leases.run_refreshes().await });
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

    /// Adds a connection and holds it from now on.
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

    /// Replaces the info of a connection, with which it is kept from now on. Returns whether it is present.
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
        // First here, so that a task that joins it again meanwhile finds the new info.
        let before = self.held().exchange_info(channel, connection, info.clone());
        let updated = self
            .scripts
            .update(channel, connection, &info, retention)
            .await;
        match (updated, before) {
            // Redis does not know it any more, and this node still holds it.
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

    /// Removes a connection and holds it no longer, whatever the reply.
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
            self.expiries.schedule(channel, wait);
        }
        Ok(())
    }

    /// Refreshes leases; returns the connections that Redis does not know.
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

    /// The members of a channel.
    pub(crate) async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Snapshot, EngineError> {
        self.scripts.members(channel, caller).await
    }

    /// Schedules an eviction of a channel's expired members. Returns whether this node evicts.
    pub(crate) fn schedule_eviction(&self, channel: &ChannelName) -> bool {
        let is_started = self.tasks.is_closed();
        if is_started {
            self.expiries.schedule_soon(channel);
        }
        is_started
    }

    /// Lets connections that are lost from now on count as present for `within`, and those that are held, too, should the node end:
    /// their users connect to other nodes.
    pub(crate) async fn hand_over(&self, within: Duration) {
        self.held().handed_over = Some(within);
        if let Some(error) = self.round().await {
            warn!(%error, "presence is not handed over yet; trying again");
        }
    }

    /// How long a connection that is lost now still counts as present.
    pub(super) fn grace(&self) -> Duration {
        let handed_over = self.held().handed_over;
        self.scripts
            .timings()
            .grace
            .max(handed_over.unwrap_or_default())
    }

    /// How long a connection still counts as present if it is not refreshed from now on. A loss only ever shortens that, so a lease
    /// that is handed over must last longer.
    pub(super) fn lease(&self) -> Duration {
        let timings = self.scripts.timings();
        let handed_over = self.held().handed_over;
        let handed_over = handed_over.map(|within| within + timings.refresh_interval);
        timings.lease.max(handed_over.unwrap_or_default())
    }

    /// A panic under the lock is a bug elsewhere, and the state was complete when it happened.
    pub(super) fn held(&self) -> MutexGuard<'_, HeldConnections> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unsettled(
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
