//! Everything between Redis pub/sub and the hub of one node.
//!
//! ```text
//! connection ─ closure ─ Handoff ─ reader ─ Tracks ─ Deliver        messages
//! interest  ─ Lanes ─ (un)subscribe                                 wanted against subscribed
//! catch_up, sync ─ Redis ─ Tracks                                   what is missing
//! probe ─ Redis ─ connection                                        whether messages flow
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::{ChannelName, Position};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::ready;
use super::channel::ready::Publishing;
use super::channel::rights;
use super::connection::commands::Commands;
use super::connection::error::CommandError;
use super::connection::flow_options::FlowOptions;
use super::feed::catch_up;
use super::feed::handoff::Handoff;
use super::feed::interest;
use super::feed::probe;
use super::feed::pubsub::PubSubConnections;
use super::feed::reader;
use super::feed::reads::{self, Reads};
use super::feed::recent::Bounds;
use super::feed::sync;
use super::feed::tracks::{Times, Tracks};
use super::nodes::format::Formats;
use super::nodes::publish_guard::PublishGuard;
use super::nodes::requests::{self, NodeRequests, OnEvictRequest, Role};
use super::nodes::unconfirmed::UnconfirmedPublishes;
use super::nodes::watch;
use crate::clock::Instant;
use crate::delivery::{History, HistoryRange, Retention};
use crate::engine::{Deliver, EngineError, Health};

/// What reaches one node from Redis.
pub(super) struct Flow {
    shared: Arc<Shared>,
}

/// What the tasks of a flow share.
pub(super) struct Shared {
    pub(super) commands: Commands,
    pub(super) flow: FlowOptions,
    /// Tells this life of this node from all others.
    pub(super) incarnation: u64,
    pub(super) deliver: Deliver,
    pub(super) tracks: Tracks,
    pub(super) pubsubs: PubSubConnections,
    pub(super) handoff: Arc<Handoff>,
    pub(super) requests: Arc<NodeRequests>,
    pub(super) reads: Reads,
    pub(super) unconfirmed: UnconfirmedPublishes,
    /// Whether what this node publishes is taken.
    pub(super) publishing: Publishing,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    /// Somebody found out that servers are not what they were.
    is_distrusted: AtomicBool,
    /// A call that went to a master ended after that was replaced.
    published_during_failover: AtomicBool,
    /// The lease of this node was renewed.
    pub(super) leased: Notify,
    /// Whether nodes of other formats live.
    pub(super) formats: Formats,
    role: Role,
    /// What went wrong last while connecting.
    trouble: Mutex<Option<String>>,
}

impl Flow {
    /// Starts the tasks and waits until messages flow.
    ///
    /// # Errors
    /// When they do not within the budget of a call.
    pub(super) async fn start(
        commands: Commands,
        role: Role,
        deliver: Deliver,
        on_evict_request: OnEvictRequest,
    ) -> Result<Self, EngineError> {
        let flow = commands.options().flow;
        let incarnation = fastrand::u64(1..);
        let times = Times {
            unsubscribe_delay: flow.unsubscribe_delay,
            sync_interval: flow.sync_interval,
            retry_pause_max: commands.options().command_deadline,
        };
        let bounds = Bounds {
            channel_bytes_max: flow.recent_channel_bytes_max,
            bytes_max: flow.recent_bytes_max,
        };
        let tasks = TaskTracker::new();
        let tag = ChannelName::new(rights::NODES).map_err(|_| unavailable("no name for nodes"))?;
        let requests = NodeRequests::new(
            commands.clone(),
            role,
            incarnation,
            tasks.clone(),
            tag,
            on_evict_request,
        );
        let budget = commands.options().budget;
        let said_age_max = match commands.topology().is_cluster() {
            true => CUT_OFF_MASTER_MAX,
            false => Duration::MAX,
        };
        let shared = Arc::new(Shared {
            tracks: Tracks::new(Arc::clone(&deliver), times, bounds),
            pubsubs: PubSubConnections::default(),
            handoff: Arc::new(Handoff::new(flow.waiting_bytes_max)),
            requests: Arc::new(requests),
            reads: Reads::default(),
            unconfirmed: UnconfirmedPublishes::new(said_age_max),
            publishing: Publishing::default(),
            stop: CancellationToken::new(),
            is_distrusted: AtomicBool::new(false),
            published_during_failover: AtomicBool::new(false),
            leased: Notify::new(),
            formats: Formats::default(),
            role,
            trouble: Mutex::default(),
            commands,
            flow,
            incarnation,
            deliver,
            tasks,
        });
        let started = Self { shared };
        started.spawn_tasks();
        let shared = Arc::clone(&started.shared);
        let mut late = std::pin::pin!(tokio::time::sleep(budget));
        let outcome = loop {
            tokio::select! {
                biased;
                () = shared.formats.found.notified() => {
                    if let Some(refusal) = shared.formats.refusal("starting") {
                        break Err(refusal);
                    }
                }
                () = shared.leased.notified() => break Ok(()),
                () = &mut late => break Err(unavailable(&shared.trouble())),
            }
        };
        if outcome.is_err() {
            started.close().await;
        }
        outcome.map(|()| started)
    }

    fn spawn_tasks(&self) {
        let shared = &self.shared;
        let (tasks, stop) = (&shared.tasks, &shared.stop);
        tasks.spawn(interest::run(Arc::clone(shared), stop.clone()));
        tasks.spawn(reader::run(Arc::clone(shared), stop.clone()));
        tasks.spawn(catch_up::run(Arc::clone(shared), stop.clone()));
        tasks.spawn(sync::run(Arc::clone(shared), stop.clone()));
        tasks.spawn(sync::tell(Arc::clone(shared), stop.clone()));
        tasks.spawn(probe::run(Arc::clone(shared), stop.clone()));
        tasks.spawn(ready::run(Arc::clone(shared), stop.clone()));
        tasks.spawn(requests::keep_lease(Arc::clone(shared), stop.clone()));
        if shared.commands.topology().has_sentinels() {
            tasks.spawn(watch::run(Arc::clone(shared), stop.clone()));
        }
    }

    /// States whether a channel is wanted.
    pub(super) fn set_interest(&self, channel: &ChannelName, retention: Retention, wanted: bool) {
        self.shared
            .tracks
            .record_interest(channel, retention, wanted);
    }

    /// Resolves when what is published on a wanted channel passes.
    pub(super) async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError> {
        let Some(ready) = self.shared.tracks.when_ready(channel) else {
            return Err(unavailable("the channel is not wanted here"));
        };
        match tokio::time::timeout(self.shared.commands.options().budget, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(unavailable("the channel is not wanted here any more")),
            Err(_) => Err(unavailable(&self.shared.trouble())),
        }
    }

    /// Reads part of a channel's history.
    pub(super) async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError> {
        reads::read(&self.shared, channel, range, retention).await
    }

    /// Takes note of what this node published itself: it is in every answer from now on.
    pub(super) fn note_published(
        &self,
        channel: &ChannelName,
        position: Option<Position>,
        retention: Retention,
    ) {
        self.shared
            .tracks
            .note_published(channel, position, retention);
    }

    /// This node says something on a channel without positions, for as long as the answer is kept.
    pub(super) fn guard_publish<'a>(
        &'a self,
        channel: &'a ChannelName,
    ) -> Option<PublishGuard<'a>> {
        let topology = self.shared.commands.topology();
        let is_replaceable = topology.has_sentinels() || topology.is_cluster();
        is_replaceable.then(|| PublishGuard::new(&self.shared, channel))
    }

    /// Takes note that a history was dropped.
    pub(super) fn note_cleared(&self, channel: &ChannelName) {
        self.shared.tracks.note_cleared(channel);
    }

    /// Waits, for a moment, until everything up to a position has been handed over here. Where a channel is not followed, there is
    /// nothing to wait for.
    pub(super) async fn reached(&self, channel: &ChannelName, position: Position) {
        if let Some(reached) = self.shared.tracks.when_reached(channel, position) {
            let _ = tokio::time::timeout(self.shared.flow.sync_grace, reached).await;
        }
    }

    /// Asks every other live node.
    pub(super) async fn request(&self, request: &[u8]) -> Result<Vec<Bytes>, EngineError> {
        self.shared.requests.request(request).await
    }

    /// Has every other live node look whose time is up in a channel.
    pub(super) fn request_eviction(&self, channel: &ChannelName) {
        self.shared.requests.request_eviction(channel);
    }

    /// Whether messages flow, and nodes of no other format are there.
    pub(super) fn health(&self) -> Health {
        if let stalled @ Health::Stalled { .. } = self.shared.formats.health() {
            return stalled;
        }
        let (now, stalled_after) = (Instant::now(), self.shared.flow.stalled_after);
        match self.shared.pubsubs.health(now, stalled_after) {
            Health::Flowing => self.shared.publishing.health(now, stalled_after),
            stalled => stalled,
        }
    }

    /// Refuses what a publisher attempts beside nodes of another format. Nobody sees whether it is ready, and no node of theirs
    /// would have started if it were on the list.
    pub(super) fn check_format(&self, attempted: &'static str) -> Result<(), EngineError> {
        match self.shared.role {
            Role::Node => Ok(()),
            Role::Publisher => {
                let refusal = self.shared.formats.refusal(attempted);
                refusal.map_or(Ok(()), Err)
            }
        }
    }

    /// Ends the tasks and waits for them.
    pub(super) async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tracks.close();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    /// Says that masters may have changed: they are looked up at once.
    pub(super) fn distrust(&self) {
        self.commands.topology().distrust();
        self.is_distrusted.store(true, Ordering::Relaxed);
        self.tracks.unsettled.notify_one();
    }

    /// Whether somebody said so since.
    pub(super) fn take_distrust(&self) -> bool {
        self.is_distrusted.swap(false, Ordering::Relaxed)
    }

    /// Says that a message may have gone to a master that was replaced meanwhile.
    pub(super) fn note_published_during_failover(&self) {
        self.published_during_failover
            .store(true, Ordering::Relaxed);
        self.tracks.unsettled.notify_one();
    }

    /// Whether somebody said so since.
    pub(super) fn take_published_during_failover(&self) -> bool {
        self.published_during_failover
            .swap(false, Ordering::Relaxed)
    }

    /// Notes what went wrong while connecting.
    pub(super) fn note_trouble(&self, trouble: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    fn trouble(&self) -> String {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = trouble.clone();
        trouble.unwrap_or_else(|| "Redis does not confirm the subscription in time".to_owned())
    }
}

fn unavailable(detail: &str) -> EngineError {
    CommandError::not_executed(detail).into_engine_error("subscribing", 0)
}

/// 60 s: a master of a cluster that is cut off refuses commands after `cluster-node-timeout`, 15 s by default.
const CUT_OFF_MASTER_MAX: Duration = Duration::from_mins(1);
