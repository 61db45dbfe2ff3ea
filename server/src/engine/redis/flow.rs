//! What reaches one node from Redis: the tasks of [`feed`](super::feed) and [`nodes`](super::nodes), put together.
//!
//! ```text
//! pub/sub connection ─ Handoff ─ Reader ─ Tracks ─ Deliver          messages
//! Interest ─ pub/sub connections                                    wanted against subscribed
//! catch_up ─ Redis ─ Tracks                                         what is missing
//! probe ─ Redis ─ pub/sub connection                                whether messages arrive
//! ```

use std::sync::Arc;

use bytes::Bytes;
use fanfare_protocol::{ChannelName, Position};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::ready::{self, Publishing};
use super::channel::store::ChannelStore;
use super::connection::error::CommandError;
use super::connection::sentinel;
use super::feed::interest::Interest;
use super::feed::pubsub::PubSubConnections;
use super::feed::reader::Handoff;
use super::feed::reader::Reader;
use super::feed::reads::Reads;
use super::feed::recent::Bounds;
use super::feed::tracks::{Times, Tracks};
use super::feed::{catch_up, probe};
use super::nodes::failover::{self, Failover, PublishGuard};
use super::nodes::requests::{self, NodeRequests, OnEvictRequest, Role};
use crate::clock::Instant;
use crate::delivery::{History, HistoryRange, Retention};
use crate::engine::{Deliver, EngineError, Health};

/// What reaches one node from Redis.
pub(super) struct Flow {
    store: ChannelStore,
    tracks: Arc<Tracks>,
    pubsubs: Arc<PubSubConnections>,
    requests: Arc<NodeRequests>,
    reads: Arc<Reads>,
    failover: Arc<Failover>,
    publishing: Arc<Publishing>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Flow {
    /// Starts the tasks and waits until messages arrive.
    ///
    /// # Errors
    /// When they do not within the budget of a call.
    pub(super) async fn start(
        store: ChannelStore,
        role: Role,
        deliver: Deliver,
        on_evict_request: OnEvictRequest,
    ) -> Result<Self, EngineError> {
        let options = store.options();
        let times = Times {
            unsubscribe_delay: options.flow.unsubscribe_delay,
            sync_interval: options.flow.sync_interval,
            retry_pause_max: options.command_deadline,
        };
        let bounds = Bounds {
            channel_bytes_max: options.flow.recent_channel_bytes_max,
            bytes_max: options.flow.recent_bytes_max,
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let requests = NodeRequests::new(store.clone(), role, tasks.clone(), on_evict_request);
        let requests = requests.map_err(|error| unavailable(&error.to_string()))?;
        let tracks = Arc::new(Tracks::new(Arc::clone(&deliver), times, bounds));
        let handoff = Arc::new(Handoff::new(options.flow.waiting_bytes_max));
        let pubsubs = PubSubConnections::new(store.keys().clone(), requests.incarnation, handoff);
        let reads = Reads::new(
            store.clone(),
            Arc::clone(&tracks),
            tasks.clone(),
            stop.clone(),
        );
        let flow = Self {
            pubsubs: Arc::new(pubsubs),
            requests: Arc::new(requests),
            reads: Arc::new(reads),
            failover: Arc::new(Failover::new(Arc::clone(store.commands().topology()))),
            publishing: Arc::default(),
            store,
            tracks,
            tasks,
            stop,
        };
        flow.spawn_feed(deliver);
        flow.spawn_nodes();
        match flow.until_listening().await {
            Ok(()) => Ok(flow),
            Err(error) => {
                flow.close().await;
                Err(error)
            }
        }
    }

    fn spawn_feed(&self, deliver: Deliver) {
        let (store, tracks) = (|| self.store.clone(), || Arc::clone(&self.tracks));
        let (pubsubs, requests) = (|| Arc::clone(&self.pubsubs), || Arc::clone(&self.requests));
        let stop = || self.stop.clone();
        let interest = Interest::new(store(), tracks(), pubsubs(), requests());
        let reader = Reader::new(store(), tracks(), requests(), deliver);
        let handoff = Arc::clone(&self.pubsubs.handoff);
        let flow = self.store.options().flow;
        self.tasks.spawn(interest.run(stop()));
        self.tasks.spawn(reader.run(handoff, stop()));
        self.tasks.spawn(catch_up::run(store(), tracks(), stop()));
        self.tasks
            .spawn(catch_up::compare_all(store(), tracks(), stop()));
        self.tasks
            .spawn(catch_up::report_losses(flow, tracks(), stop()));
        self.tasks.spawn(probe::run(store(), pubsubs(), stop()));
    }

    fn spawn_nodes(&self) {
        let options = self.store.options();
        let topology = self.store.commands().topology();
        let publishing = Arc::clone(&self.publishing);
        let requests = Arc::clone(&self.requests);
        let failover = Arc::clone(&self.failover);
        let settling = options.command_deadline;
        let stop = || self.stop.clone();
        self.tasks
            .spawn(ready::run(self.store.clone(), publishing, stop()));
        self.tasks
            .spawn(requests::keep_lease(Arc::clone(&requests), stop()));
        self.tasks.spawn(failover::run(
            Arc::clone(&failover),
            requests,
            settling,
            stop(),
        ));
        if topology.has_sentinels() {
            let confirm = move |until| failover.confirm_until(until);
            let watching = sentinel::watch(Arc::clone(topology), confirm, stop());
            self.tasks.spawn(watching);
        }
    }

    /// Waits until this node has its lease, which it takes once it listens.
    async fn until_listening(&self) -> Result<(), EngineError> {
        let formats = &self.requests.formats;
        let mut late = std::pin::pin!(tokio::time::sleep(self.store.options().budget));
        loop {
            tokio::select! {
                biased;
                () = formats.found.notified() => {
                    if let Some(refusal) = formats.refusal("starting") {
                        return Err(refusal);
                    }
                }
                () = self.requests.leased.notified() => return Ok(()),
                () = &mut late => return Err(unavailable(&self.pubsubs.last_trouble())),
            }
        }
    }

    /// States whether a channel is wanted.
    pub(super) fn set_interest(&self, channel: &ChannelName, retention: Retention, wanted: bool) {
        self.tracks.record_interest(channel, retention, wanted);
    }

    /// Resolves when what is published on a wanted channel is delivered here.
    pub(super) async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError> {
        let Some(ready) = self.tracks.when_ready(channel) else {
            return Err(unavailable("the channel is not wanted here"));
        };
        match tokio::time::timeout(self.store.options().budget, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(unavailable("the channel is not wanted here any more")),
            Err(_) => Err(unavailable(&self.pubsubs.last_trouble())),
        }
    }

    /// Reads part of a channel's history.
    pub(super) async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError> {
        self.reads.read(channel, range, retention).await
    }

    /// Notes what this node published itself: every later answer must hold it.
    pub(super) fn note_published(
        &self,
        channel: &ChannelName,
        position: Option<Position>,
        retention: Retention,
    ) {
        self.tracks.note_published(channel, position, retention);
    }

    /// Notes a publish on a channel without history, until the guard is dropped.
    pub(super) fn guard_publish<'a>(
        &'a self,
        channel: &'a ChannelName,
    ) -> Option<PublishGuard<'a>> {
        self.failover.guard_publish(channel)
    }

    /// Notes that a history was cleared.
    pub(super) fn note_cleared(&self, channel: &ChannelName) {
        self.tracks.note_cleared(channel);
    }

    /// Waits, for a moment, until everything up to a position has been delivered here. Where a channel is not followed, there is
    /// nothing to wait for.
    pub(super) async fn reached(&self, channel: &ChannelName, position: Position) {
        if let Some(reached) = self.tracks.when_reached(channel, position) {
            let grace = self.store.options().flow.sync_grace;
            let _ = tokio::time::timeout(grace, reached).await;
        }
    }

    /// Sends a request to every other live node and returns the replies.
    pub(super) async fn request(&self, request: &[u8]) -> Result<Vec<Bytes>, EngineError> {
        self.requests.request(request).await
    }

    /// Has every other live node evict the expired members of a channel.
    pub(super) fn request_eviction(&self, channel: &ChannelName) {
        self.requests.request_eviction(channel);
    }

    /// Whether messages arrive, publishing works, and no node of another format is live.
    pub(super) fn health(&self) -> Health {
        if let stalled @ Health::Stalled { .. } = self.requests.formats.health() {
            return stalled;
        }
        let (now, stalled_after) = (Instant::now(), self.store.options().flow.stalled_after);
        match self.pubsubs.health(now, stalled_after) {
            Health::Flowing => self.publishing.health(now, stalled_after),
            stalled => stalled,
        }
    }

    /// Refuses what a publisher attempts beside nodes of another format.
    pub(super) fn check_format(&self, attempted: &'static str) -> Result<(), EngineError> {
        self.requests.check_format(attempted)
    }

    /// Ends the tasks and waits for them.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tracks.close();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn unavailable(detail: &str) -> EngineError {
    CommandError::not_executed(detail).into_engine_error("subscribing", 0)
}
