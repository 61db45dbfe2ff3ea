//! Refreshes the leases of this node's connections, and settles calls without a reply.
//!
//! Each server has its own rounds. A slow or unreachable server holds up its own channels and no other's.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a master of a Redis Cluster is away, slow, or back again".

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fanfare_protocol::{ChannelName, SocketId};
use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::eviction::LeaseTimings;
use super::held::{Batch, UncertainLeave};
use super::leases::PresenceLeases;
use super::scripts::BATCH_MAX;
use crate::delivery::Departure;
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;

/// When each server's next round is due. Pure: takes `now`.
#[derive(Default)]
struct Rounds {
    due: HashMap<Option<Server>, Instant>,
    under_way: HashSet<Option<Server>>,
    failing: HashSet<Option<Server>>,
    /// When channels last may have moved, and until when the next round must have begun.
    hurried: Option<(Instant, Instant)>,
}

/// A round that is over.
struct Ended {
    server: Option<Server>,
    began: Instant,
    failure: Option<CommandError>,
}

impl Rounds {
    /// The servers whose round begins now, out of those where something is held. One that is new begins at once.
    fn begin(&mut self, servers: HashSet<Option<Server>>, now: Instant) -> Vec<Option<Server>> {
        self.due.retain(|server, _| servers.contains(server));
        self.failing.retain(|server| servers.contains(server));
        let is_due = |server: &Option<Server>| self.due.get(server).is_none_or(|due| *due <= now);
        let mut beginning: Vec<_> = servers.into_iter().filter(is_due).collect();
        beginning.retain(|server| self.under_way.insert(server.clone()));
        beginning
    }

    /// Notes how a round ended, and when the next one is due.
    fn end(&mut self, ended: Ended, timings: &LeaseTimings) {
        let Ended {
            server,
            began,
            failure,
        } = ended;
        self.under_way.remove(&server);
        let name = server.as_ref().map(tracing::field::display);
        let interval = match failure {
            Some(error) => {
                if self.failing.insert(server.clone()) {
                    warn!(server = name, %error, "presence cannot be refreshed; trying again");
                }
                timings.pulse_interval
            }
            None => {
                if self.failing.remove(&server) {
                    info!(server = name, "presence is refreshed again");
                }
                timings.refresh_interval
            }
        };
        let mut due = began + interval;
        // Channels that moved here since the round began were not refreshed.
        if let Some((_, until)) = self.hurried.filter(|(when, _)| *when >= began) {
            due = due.min(until);
        }
        self.due.insert(server, due);
    }

    /// Channels may have moved to servers where no round has refreshed them: the next rounds begin by `until`.
    fn hurry(&mut self, now: Instant, until: Instant) {
        self.hurried = Some((now, until));
        for due in self.due.values_mut() {
            *due = until.min(*due);
        }
    }

    /// When something may be due next, at the latest at `latest`.
    fn next(&self, latest: Instant) -> Instant {
        let waiting = self.due.iter();
        let waiting = waiting.filter(|(server, _)| !self.under_way.contains(server));
        let first = waiting.map(|(_, due)| *due).min();
        first.map_or(latest, |first| first.min(latest))
    }
}

impl PresenceLeases {
    /// Refreshes until it is stopped.
    pub(super) async fn run_refreshes(&self) {
        let timings = *self.scripts.timings();
        // New servers are found by then: where a connection joined lately, or where channels have moved to.
        let look_interval = timings.refresh_interval / 2;
        let mut layouts = self.scripts.store().commands().topology().changes();
        let mut rounds = Rounds::default();
        let mut under_way = FuturesUnordered::new();
        let mut looked = Instant::now();
        loop {
            let next = rounds.next(looked + look_interval);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(ended) = under_way.next(), if !under_way.is_empty() => rounds.end(ended, &timings),
                Ok(()) = layouts.changed() => {
                    let now = Instant::now();
                    rounds.hurry(now, now + look_interval);
                }
                () = tokio::time::sleep_until(next) => {
                    looked = Instant::now();
                    let owner = self.scripts.owners();
                    let held = self.held();
                    let beginning = rounds.begin(held.servers(&owner), looked);
                    let batches = held.batches(BATCH_MAX, beginning, &owner);
                    drop(held);
                    for (server, batches) in batches {
                        under_way.push(self.timed_round(server, batches, looked));
                    }
                }
            }
        }
    }

    /// Makes one round at every server. Returns why some of it failed, if it did.
    pub(super) async fn round(&self) -> Option<CommandError> {
        let owner = self.scripts.owners();
        let batches = {
            let held = self.held();
            held.batches(BATCH_MAX, held.servers(&owner), &owner)
        };
        let rounds = batches.into_iter();
        let rounds = rounds.map(|(server, batches)| self.round_at(server, batches));
        join_all(rounds).await.into_iter().flatten().next()
    }

    async fn timed_round(
        &self,
        server: Option<Server>,
        batches: Vec<Batch>,
        began: Instant,
    ) -> Ended {
        let failure = self.round_at(server.clone(), batches).await;
        Ended {
            server,
            began,
            failure,
        }
    }

    /// Refreshes all leases at a server once, and then settles uncertain connections. Returns why some of it failed, if it did.
    async fn round_at(&self, server: Option<Server>, batches: Vec<Batch>) -> Option<CommandError> {
        let lease = self.lease();
        let refreshed = Outcome::of(batches, REFRESHES_MAX, async |channel, batch| {
            self.refresh_batch(&channel, &batch, lease).await
        })
        .await;
        // Leases come first, and an unreachable server is not waited for twice.
        if refreshed.is_away {
            return refreshed.failure;
        }
        let owner = self.scripts.owners();
        let is_there = |channel: &ChannelName| owner(channel) == server;
        let uncertain = self.held().uncertain_leaves(Instant::now(), is_there);
        let uncertain = uncertain
            .into_iter()
            .map(|((channel, connection), leave)| (channel, (connection, leave)))
            .collect();
        let cleared = Outcome::of(
            uncertain,
            UNCERTAIN_MAX,
            async |channel, (connection, leave)| {
                self.settle_uncertain(&channel, connection, leave).await
            },
        )
        .await;
        refreshed.failure.or(cleared.failure)
    }

    async fn refresh_batch(
        &self,
        channel: &ChannelName,
        batch: &[SocketId],
        lease: Duration,
    ) -> Result<(), CommandError> {
        let refreshed = self.scripts.refresh(channel, batch, lease).await?;
        self.expiries
            .schedule_before_refresh(channel, refreshed.next);
        let mut joins = stream::iter(refreshed.unknown)
            .map(|connection| self.join_again(channel, connection))
            .buffer_unordered(JOINS_MAX);
        while let Some(joined) = joins.next().await {
            joined?;
        }
        Ok(())
    }

    /// Adds a connection that Redis does not know any more, if this node still holds it.
    pub(super) async fn join_again(
        &self,
        channel: &ChannelName,
        connection: SocketId,
    ) -> Result<(), CommandError> {
        let Some((mut member, mut retention)) = self.held().find(channel, connection) else {
            return Ok(());
        };
        let mut unsettled = self.unsettled(channel, connection, Departure::Goodbye);
        loop {
            self.scripts
                .join_once(channel, connection, &member, retention)
                .await?;
            let found = self.held().find(channel, connection);
            match found {
                Some((present, _)) if present.info == member.info => break,
                // It was updated meanwhile, and the update may have been executed first: then this join showed the old info.
                Some(present) => (member, retention) = present,
                // It has left meanwhile, and the leave may have been executed first. Then this join must be undone.
                None => {
                    self.scripts
                        .leave_once(channel, connection, Departure::Goodbye, self.grace())
                        .await?;
                    break;
                }
            }
        }
        unsettled.membership = None;
        debug!(%channel, session = %connection, "joined again: Redis had forgotten it");
        Ok(())
    }

    /// Removes a connection that Redis may still show although this node does not hold it.
    async fn settle_uncertain(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        leave: UncertainLeave,
    ) -> Result<(), CommandError> {
        let left = self
            .scripts
            .leave_once(channel, connection, leave.departure, self.grace())
            .await;
        // It may have joined again meanwhile, before this removed it.
        self.join_again(channel, connection).await?;
        let wait = left?;
        self.held().settle(channel, connection);
        if let Some(wait) = wait {
            self.expiries.schedule(channel, wait);
        }
        Ok(())
    }
}

/// 64: refreshes of one server under way at once; at most 1 MiB.
const REFRESHES_MAX: usize = 64;

/// 16: joins under way at once after one refresh; with all refreshes 1,024, about 2 MiB. 100,000 connections of one channel,
/// which are one after the other, are joined again in 2 s where an answer takes 1 ms.
const JOINS_MAX: usize = 16;

/// 32: uncertain connections of one server that are settled at once.
const UNCERTAIN_MAX: usize = 32;

/// What became of calls to one server.
#[derive(Default)]
pub(super) struct Outcome {
    /// Whether the server was given up.
    pub(super) is_away: bool,
    /// Why a call failed, if one did.
    pub(super) failure: Option<CommandError>,
}

impl Outcome {
    /// Makes calls to one server, some at once. When as many as that have failed in a row, the server is given up: every further
    /// one would run into its deadline too.
    pub(super) async fn of<T, F>(
        calls: Vec<(ChannelName, T)>,
        at_once: usize,
        call: impl Fn(ChannelName, T) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), CommandError>>,
    {
        let enough = at_once.min(calls.len());
        let answers = calls.into_iter().map(|(channel, what)| {
            let answer = call(channel.clone(), what);
            async move { (channel, answer.await) }
        });
        let mut answers = stream::iter(answers).buffer_unordered(at_once);
        let mut outcome = Self::default();
        let mut in_a_row = 0;
        while let Some((channel, answer)) = answers.next().await {
            match answer {
                Ok(()) => in_a_row = 0,
                Err(error @ (CommandError::NotExecuted(_) | CommandError::Unknown(_))) => {
                    in_a_row += 1;
                    outcome.failure = Some(error);
                }
                // Of this channel alone.
                Err(error) => {
                    in_a_row = 0;
                    warn!(%channel, %error, "presence of a channel cannot be kept");
                }
            }
            if in_a_row == enough {
                outcome.is_away = true;
                break;
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::redis::RedisOptions;
    use std::slice;

    /// Rounds every 5 s, looks every second.
    fn timings() -> LeaseTimings {
        let options: RedisOptions = "redis://localhost".parse().unwrap();
        LeaseTimings::new(&options)
    }

    fn server(port: u16) -> Option<Server> {
        Some(Server::at("redis", port))
    }

    fn ended(server: Option<Server>, began: Instant, is_failure: bool) -> Ended {
        let failure = is_failure.then(|| CommandError::not_executed("it is away"));
        Ended {
            server,
            began,
            failure,
        }
    }

    #[test]
    fn every_server_has_its_own_rounds() {
        let (a, b) = (server(1), server(2));
        let both = || HashSet::from([a.clone(), b.clone()]);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rounds = Rounds::default();
        assert_eq!(rounds.begin(both(), at(0)).len(), 2, "new ones");
        assert_eq!(rounds.begin(both(), at(9)), [], "under way");
        rounds.end(ended(a.clone(), at(9), false), &timings());
        assert_eq!(rounds.next(at(99)), at(14));
        assert_eq!(rounds.begin(both(), at(13)), []);
        let beginning = rounds.begin(both(), at(14));
        assert_eq!(beginning, slice::from_ref(&a), "b is still under way");
        rounds.end(ended(b.clone(), at(9), true), &timings());
        assert_eq!(rounds.next(at(99)), at(10), "soon after a failure");
        rounds.end(ended(a.clone(), at(14), false), &timings());
        rounds.end(ended(b.clone(), at(14), false), &timings());
        assert_eq!(rounds.next(at(99)), at(19));
        rounds.hurry(at(14), at(15));
        assert_eq!(rounds.next(at(99)), at(15), "channels may have moved");
        assert_eq!(rounds.begin(HashSet::from([a]), at(15)).len(), 1);
        assert_eq!(
            rounds.begin(HashSet::from([b.clone()]), at(15)),
            [b],
            "new again"
        );
    }

    #[test]
    fn channels_that_move_during_a_round_wait_for_no_whole_interval() {
        let a = server(1);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rounds = Rounds::default();
        rounds.begin(HashSet::from([a.clone()]), at(0));
        rounds.hurry(at(1), at(3));
        rounds.end(ended(a.clone(), at(0), false), &timings());
        assert_eq!(rounds.next(at(99)), at(3));
        rounds.begin(HashSet::from([a.clone()]), at(3));
        rounds.end(ended(a, at(3), false), &timings());
        assert_eq!(rounds.next(at(99)), at(8));
    }
}
