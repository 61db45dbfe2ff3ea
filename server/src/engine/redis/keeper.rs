//! What this node holds in presence channels, and how it stays there.
//!
//! Redis forgets a connection whose node says nothing about it for the length of a lease. So one task says so three times
//! within a lease, channel by channel, and joins again what Redis no longer knows: because this node was paused for too long, or
//! because Redis lost its data. Another task comes by when a lost connection's grace, or the lease of a node that died, is
//! over; where nobody comes by, the next call on that channel notices, from whichever node.
//!
//! When Redis was out of reach for longer than a refresh is late, nobody is taken out for being silent until every node has had
//! the time to speak again: an outage of Redis is no reason to show everybody as gone.
//!
//! A call without an answer is a **doubt**: Redis may show a connection that this node does not hold. It is not refreshed, so
//! it goes with its lease at the latest; and it is taken out with the next round.

mod held;
mod visits;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, SocketId};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use self::held::{Doubt, Held, Place};
use self::visits::Visits;
use super::error::CommandError;
use super::presence::{BATCH_MAX, LANES, Presence};
use crate::delivery::{Departure, Members, Retention};
use crate::engine::EngineError;

/// What this node holds, and the calls that keep it.
pub(super) struct Keeper {
    presence: Presence,
    held: Mutex<Held>,
    visits: Visits,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A call under way after which this node does not hold a connection. Dropped before it is settled, it is a doubt.
struct Unsettled<'a> {
    keeper: &'a Keeper,
    place: Option<Place>,
    departure: Departure,
}

impl Keeper {
    /// Holds nothing yet.
    pub(super) fn new(presence: Presence) -> Self {
        Self {
            presence,
            held: Mutex::default(),
            visits: Visits::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts the two tasks.
    pub(super) fn start(self: &Arc<Self>) {
        let (keeping, visiting) = (Arc::clone(self), Arc::clone(self));
        self.tasks.spawn(async move { keeping.keep().await });
        self.tasks.spawn(async move { visiting.visit().await });
        self.tasks.close();
    }

    /// Ends the tasks. What is held goes with its lease, unless it turns up elsewhere.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends the tasks and waits for them.
    pub(super) async fn close(&self) {
        self.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Adds a connection and keeps it from now on.
    ///
    /// # Cancel safety
    /// Dropped on its way, it may have added the connection; it is not kept then, and is taken out with the next round.
    pub(super) async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        let mut unsettled = self.unsettled(channel, connection, Departure::Removed);
        let joined = self
            .presence
            .join(channel, connection, &member, retention)
            .await;
        match joined {
            Ok(()) => {
                unsettled.place = None;
                self.held().hold(channel, connection, member, retention);
            }
            Err(EngineError::Unknown { .. }) => {}
            Err(_) => unsettled.place = None,
        }
        joined
    }

    /// Takes a connection out and keeps it no longer, whatever the answer.
    pub(super) async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Result<(), EngineError> {
        self.held().release(channel, connection);
        let mut unsettled = self.unsettled(channel, connection, departure);
        let wait = self
            .presence
            .leave(channel, connection, departure, self.grace())
            .await?;
        unsettled.place = None;
        self.held().settle(channel, connection);
        if let Some(wait) = wait {
            self.visits.add(channel, wait);
        }
        Ok(())
    }

    /// Says that connections are still here; answers those that Redis does not know.
    pub(super) async fn refresh(&self, held: &[Place]) -> Result<Vec<Place>, EngineError> {
        let mut channels: HashMap<&ChannelName, Vec<SocketId>> = HashMap::new();
        for (channel, connection) in held {
            channels.entry(channel).or_default().push(*connection);
        }
        let lease = self.presence.terms().lease;
        let mut unknown = Vec::new();
        for (channel, connections) in channels {
            for batch in connections.chunks(BATCH_MAX) {
                let refreshed = self.presence.refresh(channel, batch, lease).await;
                let refreshed = refreshed
                    .map_err(|error| self.presence.verdict("refreshing presence", error))?;
                let gone = refreshed.unknown.into_iter();
                unknown.extend(gone.map(|connection| (channel.clone(), connection)));
            }
        }
        Ok(unknown)
    }

    /// Who is here.
    pub(super) async fn members(&self, channel: &ChannelName) -> Result<Members, EngineError> {
        self.presence.members(channel).await
    }

    /// Lets what is lost here from now on count as present for `within`, and what is held as well, should the node end: its users
    /// turn up elsewhere.
    pub(super) async fn hand_over(&self, within: Duration) {
        self.held().handed_over = Some(within);
        if let Some((_, error)) = self.round().await.first() {
            warn!(%error, "presence is not handed over yet; trying again");
        }
    }

    /// Keeps what this node holds, until it is stopped.
    async fn keep(&self) {
        let interval = self.presence.terms().refresh_interval;
        let mut next = Instant::now() + interval;
        // By lane, since when.
        let mut failing: HashMap<usize, Instant> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
            let began = Instant::now();
            let failures = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                failures = self.round() => failures,
            };
            let pause = match failures.first() {
                None => interval,
                Some(_) => self.retry_pause(),
            };
            next = began + pause;
            self.judge(failures, &mut failing, began);
        }
    }

    /// Says when refreshing begins to fail and when it works again, and spares the silent where Redis was away for so long that
    /// nodes which are alive look silent too: those get the time to speak first.
    fn judge(
        &self,
        failures: Vec<(usize, CommandError)>,
        failing: &mut HashMap<usize, Instant>,
        began: Instant,
    ) {
        match failures.first() {
            Some((_, error)) if failing.is_empty() => {
                warn!(%error, "presence cannot be refreshed; trying again");
            }
            None if !failing.is_empty() => info!("presence is refreshed again"),
            _ => {}
        }
        let interval = self.presence.terms().refresh_interval;
        let before = std::mem::take(failing);
        for (lane, _) in failures {
            let since = before.get(&lane).copied().unwrap_or(began);
            if since.elapsed() >= interval / 2 {
                let until = Instant::now() + interval + self.retry_pause();
                self.presence.spare(lane, until);
            }
            failing.insert(lane, since);
        }
    }

    fn retry_pause(&self) -> Duration {
        self.presence.terms().refresh_interval.min(RETRY_PAUSE)
    }

    /// Looks for those whose time is up when it is, until it is stopped.
    async fn visit(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.visits.until_due() => {}
            }
            let due = self.visits.take_due();
            let visits = stream::iter(due)
                .map(|channel| self.reap(channel))
                .buffer_unordered(VISITS_MAX)
                .for_each(|()| std::future::ready(()));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = visits => {}
            }
        }
    }

    /// Refreshes everything once, and clears up the doubts. Answers the lanes in which that failed, and why.
    async fn round(&self) -> Vec<(usize, CommandError)> {
        self.clear_doubts().await;
        let lease = self.lease();
        let mut lanes: Vec<Vec<(ChannelName, Vec<SocketId>)>> = Vec::new();
        lanes.resize_with(LANES, Vec::new);
        for (channel, batch) in self.held().batches(BATCH_MAX) {
            let lane = self.presence.lane(&channel);
            lanes[lane].push((channel, batch));
        }
        let lanes = lanes.into_iter().enumerate();
        let refreshing = lanes.map(|(lane, batches)| async move {
            let refreshed = self.refresh_lane(batches, lease).await;
            refreshed.err().map(|error| (lane, error))
        });
        join_all(refreshing).await.into_iter().flatten().collect()
    }

    /// Refreshes the channels of a part of the slots, and gives up where Redis is not to be reached: the other parts may be
    /// elsewhere, and must not wait for it.
    async fn refresh_lane(
        &self,
        lane: Vec<(ChannelName, Vec<SocketId>)>,
        lease: Duration,
    ) -> Result<(), CommandError> {
        let mut batches = stream::iter(lane)
            .map(|(channel, batch)| async move {
                let outcome = self.refresh_batch(&channel, &batch, lease).await;
                (channel, outcome)
            })
            .buffer_unordered(LANE_BATCHES_MAX);
        while let Some((channel, outcome)) = batches.next().await {
            match outcome {
                Ok(()) => {}
                Err(error @ (CommandError::NotExecuted(_) | CommandError::Unknown(_))) => {
                    return Err(error);
                }
                // Of this channel alone.
                Err(error) => warn!(%channel, %error, "presence of a channel cannot be refreshed"),
            }
        }
        Ok(())
    }

    async fn refresh_batch(
        &self,
        channel: &ChannelName,
        batch: &[SocketId],
        lease: Duration,
    ) -> Result<(), CommandError> {
        let refreshed = self.presence.refresh(channel, batch, lease).await?;
        if let Some(wait) = refreshed.next_expiry {
            self.visit_before_next_round(channel, wait);
        }
        let mut joins = stream::iter(refreshed.unknown)
            .map(|connection| self.join_again(channel, connection))
            .buffer_unordered(JOINS_MAX);
        while let Some(joined) = joins.next().await {
            joined?;
        }
        Ok(())
    }

    /// Adds a connection that Redis has forgotten, if it is still here.
    async fn join_again(
        &self,
        channel: &ChannelName,
        connection: SocketId,
    ) -> Result<(), CommandError> {
        let Some((member, retention)) = self.held().find(channel, connection) else {
            return Ok(());
        };
        let mut unsettled = self.unsettled(channel, connection, Departure::Goodbye);
        self.presence
            .join_once(channel, connection, &member, retention)
            .await?;
        // It may have left meanwhile, and its leave may have come first. Then this join is one too many.
        if self.held().find(channel, connection).is_none() {
            self.presence
                .leave_once(channel, connection, Departure::Goodbye, self.grace())
                .await?;
        }
        unsettled.place = None;
        debug!(%channel, session = %connection, "joined again: Redis had forgotten it");
        Ok(())
    }

    /// Takes out what Redis may still show although this node does not hold it.
    async fn clear_doubts(&self) {
        let doubts = self.held().open_doubts(Instant::now());
        let mut cleared = stream::iter(doubts)
            .map(|(place, doubt)| async move {
                let (channel, connection) = &place;
                let left = self
                    .presence
                    .leave_once(channel, *connection, doubt.departure, self.grace())
                    .await;
                // It may have joined anew meanwhile, before it was taken out.
                let joined = self.join_again(channel, *connection).await;
                (place, left.and_then(|wait| joined.map(|()| wait)))
            })
            .buffer_unordered(VISITS_MAX);
        while let Some((place, left)) = cleared.next().await {
            match left {
                Ok(wait) => {
                    self.held().settle(&place.0, place.1);
                    if let Some(wait) = wait {
                        self.visits.add(&place.0, wait);
                    }
                }
                Err(CommandError::NotExecuted(_) | CommandError::Unknown(_)) => return,
                Err(_) => {}
            }
        }
    }

    /// Takes those out whose time is up, and comes back when the next one's is.
    async fn reap(&self, channel: ChannelName) {
        loop {
            if let Some(left) = self.presence.sparing_for(&channel) {
                return self.visits.add(&channel, left);
            }
            match self.presence.reap(&channel).await {
                Ok(Some(Duration::ZERO)) => {}
                Ok(Some(wait)) => return self.visit_before_next_round(&channel, wait),
                Ok(None) => return,
                // Whoever refreshes this channel next comes by.
                Err(error) => {
                    return debug!(%channel, %error, "expired members could not be taken out");
                }
            }
        }
    }

    fn visit_before_next_round(&self, channel: &ChannelName, wait: Duration) {
        if wait < self.presence.terms().refresh_interval {
            self.visits.add(channel, wait);
        }
    }

    /// How long a connection that is lost now still counts as present.
    fn grace(&self) -> Duration {
        let handed_over = self.held().handed_over;
        self.presence
            .terms()
            .grace
            .max(handed_over.unwrap_or_default())
    }

    /// How long a connection still counts as present that nothing is said about from now on. A loss only ever shortens that, so
    /// what is handed over must last longer.
    fn lease(&self) -> Duration {
        let terms = self.presence.terms();
        let handed_over = self.held().handed_over;
        let handed_over = handed_over.map(|within| within + terms.refresh_interval);
        terms.lease.max(handed_over.unwrap_or_default())
    }

    /// A panic under the lock is a bug elsewhere, and the state was complete when it happened.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Unsettled<'_> {
        Unsettled {
            keeper: self,
            place: Some((channel.clone(), connection)),
            departure,
        }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let until = Instant::now() + self.keeper.presence.terms().lease * 2;
            let doubt = Doubt {
                departure: self.departure,
                until,
            };
            self.keeper.held().doubt(place, doubt);
        }
    }
}

/// 4: calls of a lane under way at once; with all lanes 64, at most 1 MiB.
const LANE_BATCHES_MAX: usize = 4;

/// 16: joins under way at once after one refresh; with all lanes 1,024, about 2 MiB. 100,000 connections of one channel, which
/// are one lane, are joined again in 2 s where an answer takes 1 ms.
const JOINS_MAX: usize = 16;

/// 32: visits and doubts under way at once.
const VISITS_MAX: usize = 32;

/// 1 s: before a round that failed is made again; a lease has room for several.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
