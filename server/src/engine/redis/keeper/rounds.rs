//! The rounds in which a node says that its connections are still here, and clears up what it doubts.
//!
//! Each server has its own stream of calls. One that is not to be reached costs its own channels the round, and no other's.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fanfare_protocol::{ChannelName, SocketId};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Keeper;
use super::held::Doubt;
use crate::delivery::Departure;
use crate::engine::redis::connections::Server;
use crate::engine::redis::error::CommandError;
use crate::engine::redis::presence::{BATCH_MAX, Next};

/// What became of calls to several servers.
#[derive(Default)]
pub(super) struct Outcome {
    /// The servers that were given up, by what was known when the calls were made.
    away: HashSet<Option<Server>>,
    /// Why a call failed, if one did.
    failure: Option<CommandError>,
}

impl Keeper {
    /// Keeps what this node holds, until it is stopped.
    pub(super) async fn keep(&self) {
        let terms = *self.presence.terms();
        let mut next = Instant::now() + terms.refresh_interval;
        let mut is_failing = false;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
            let began = Instant::now();
            let failure = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                failure = self.round() => failure,
            };
            match &failure {
                Some(error) if !is_failing => {
                    warn!(%error, "presence cannot be refreshed; trying again");
                }
                None if is_failing => info!("presence is refreshed again"),
                _ => {}
            }
            is_failing = failure.is_some();
            next = began
                + match is_failing {
                    false => terms.refresh_interval,
                    true => terms.pulse_interval,
                };
        }
    }

    /// Refreshes everything once, and then clears up the doubts. Answers why some of it failed, if it did.
    pub(super) async fn round(&self) -> Option<CommandError> {
        let lease = self.lease();
        let batches: Vec<_> = self.held().batches(BATCH_MAX).collect();
        let refreshed = self
            .by_server(batches, REFRESHES_MAX, |channel, batch| async move {
                self.refresh_batch(&channel, &batch, lease).await
            })
            .await;
        // Whoever is here has said so before anything else is said, and nobody waits twice for the same server.
        let doubts = self.held().open_doubts(Instant::now());
        let doubts = doubts
            .into_iter()
            .map(|((channel, connection), doubt)| (channel, (connection, doubt)))
            .filter(|(channel, _)| !refreshed.away.contains(&self.presence.known_owner(channel)))
            .collect();
        let cleared = self
            .by_server(
                doubts,
                DOUBTS_MAX,
                |channel, (connection, doubt): (SocketId, Doubt)| async move {
                    self.clear_doubt(&channel, connection, doubt).await
                },
            )
            .await;
        refreshed.failure.or(cleared.failure)
    }

    /// Makes calls, some at once to each server. When as many as that have failed in a row, the server is given up: every
    /// further one would run into its deadline too.
    pub(super) async fn by_server<T, F>(
        &self,
        calls: Vec<(ChannelName, T)>,
        at_once: usize,
        call: impl Fn(ChannelName, T) -> F,
    ) -> Outcome
    where
        F: Future<Output = Result<(), CommandError>>,
    {
        let mut servers: HashMap<Option<Server>, Vec<(ChannelName, T)>> = HashMap::new();
        for (channel, what) in calls {
            let server = self.presence.known_owner(&channel);
            servers.entry(server).or_default().push((channel, what));
        }
        let call = &call;
        let streams = servers.into_iter().map(|(server, calls)| async move {
            let enough = at_once.min(calls.len());
            let answers = calls.into_iter().map(|(channel, what)| {
                let answer = call(channel.clone(), what);
                async move { (channel, answer.await) }
            });
            let mut answers = stream::iter(answers).buffer_unordered(at_once);
            let (mut in_a_row, mut failure) = (0, None);
            while let Some((channel, answer)) = answers.next().await {
                match answer {
                    Ok(()) => in_a_row = 0,
                    Err(error @ (CommandError::NotExecuted(_) | CommandError::Unknown(_))) => {
                        in_a_row += 1;
                        failure = Some(error);
                    }
                    // Of this channel alone.
                    Err(error) => {
                        in_a_row = 0;
                        warn!(%channel, %error, "presence of a channel cannot be kept");
                    }
                }
                if in_a_row == enough {
                    break;
                }
            }
            (server, failure, in_a_row == enough)
        });
        let mut outcome = Outcome::default();
        for (server, failure, is_away) in join_all(streams).await {
            outcome.failure = outcome.failure.or(failure);
            if is_away {
                outcome.away.insert(server);
            }
        }
        outcome
    }

    async fn refresh_batch(
        &self,
        channel: &ChannelName,
        batch: &[SocketId],
        lease: Duration,
    ) -> Result<(), CommandError> {
        let refreshed = self.presence.refresh(channel, batch, lease).await?;
        self.visit_before_next_round(channel, refreshed.next);
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
    async fn clear_doubt(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        doubt: Doubt,
    ) -> Result<(), CommandError> {
        let left = self
            .presence
            .leave_once(channel, connection, doubt.departure, self.grace())
            .await;
        // It may have joined anew meanwhile, before it was taken out.
        self.join_again(channel, connection).await?;
        let wait = left?;
        self.held().settle(channel, connection);
        if let Some(wait) = wait {
            self.visits.add(channel, wait);
        }
        Ok(())
    }

    /// Has somebody come by when a member's time is up, unless the next round does.
    pub(super) fn visit_before_next_round(&self, channel: &ChannelName, next: Next) {
        match next {
            Next::In(wait) if wait < self.presence.terms().refresh_interval => {
                self.visits.add(channel, wait);
            }
            Next::Spared => self.visit_the_spared(channel),
            Next::In(_) | Next::Never => {}
        }
    }

    /// Has somebody come by soon where a member was spared, who may be gone for all that.
    pub(super) fn visit_the_spared(&self, channel: &ChannelName) {
        let pause = self.presence.terms().pulse_interval;
        self.visits.add_within(channel, pause, pause);
    }
}

/// 64: refreshes of one server under way at once; at most 1 MiB.
const REFRESHES_MAX: usize = 64;

/// 16: joins under way at once after one refresh; with all refreshes 1,024, about 2 MiB. 100,000 connections of one channel,
/// which are one after the other, are joined again in 2 s where an answer takes 1 ms.
const JOINS_MAX: usize = 16;

/// 32: doubts of one server that are being cleared at once.
const DOUBTS_MAX: usize = 32;
