//! Subscribes to what is wanted, and to nothing else.
//!
//! One task, and one comparison for everything that can happen: a first subscriber, a last one, a connection that was lost, a
//! master that was replaced, a slot that moved. Each of them only makes a difference between wanted and subscribed.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "Sentinel fails over" and "slots move in a Redis Cluster".

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::pubsub::{PubSubConnection, PubSubConnections};
use super::reader::Item;
use super::tracks::{ConnectionPlan, Tracks};
use crate::clock::Instant;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::{Layout, Topology};
use crate::engine::redis::nodes::requests::NodeRequests;

/// The task that opens pub/sub connections and subscribes.
pub(crate) struct Interest {
    store: ChannelStore,
    tracks: Arc<Tracks>,
    pubsubs: Arc<PubSubConnections>,
    requests: Arc<NodeRequests>,
    jobs: JoinSet<Done>,
    layout: Option<Layout>,
    is_looking: bool,
    /// When the layout is looked at again.
    look_at: Instant,
    opening: HashSet<Server>,
    /// How often in a row a pub/sub connection to a server could not be opened, and when it may be tried again.
    failures: HashMap<Server, (u32, Instant)>,
    /// Numbers the calls for subscriptions.
    calls: u64,
    /// Numbers the pub/sub connections.
    opened: u64,
}

/// What a job has done.
enum Done {
    Looked(Result<Layout, CommandError>),
    Opened(Server, Result<Arc<PubSubConnection>, CommandError>),
    Subscribed,
}

impl Interest {
    /// Subscribes to what the tracks want, and to what this node needs for requests.
    pub(crate) fn new(
        store: ChannelStore,
        tracks: Arc<Tracks>,
        pubsubs: Arc<PubSubConnections>,
        requests: Arc<NodeRequests>,
    ) -> Self {
        Self {
            store,
            tracks,
            pubsubs,
            requests,
            jobs: JoinSet::new(),
            layout: None,
            is_looking: false,
            look_at: Instant::now(),
            opening: HashSet::new(),
            failures: HashMap::new(),
            calls: 0,
            opened: 0,
        }
    }

    /// Reconciles until it is stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let topology = Arc::clone(self.topology());
        let tracks = Arc::clone(&self.tracks);
        let mut changes = topology.changes();
        loop {
            let next = self.step();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.jobs.join_next() => {
                    if let Ok(done) = done {
                        self.finish(done);
                    }
                }
                Ok(()) = changes.changed() => self.look_at = Instant::now(),
                () = topology.lookup_requested.notified() => self.look_at = Instant::now(),
                () = tracks.unsettled.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
        self.jobs.shutdown().await;
        for pubsub in self.pubsubs.open() {
            pubsub.note_lost();
        }
    }

    /// Starts whatever is needed now; returns when to look again at the latest.
    fn step(&mut self) -> Instant {
        let now = Instant::now();
        if now >= self.look_at && !self.is_looking {
            self.is_looking = true;
            self.look_at = now + LOOK_INTERVAL;
            let topology = Arc::clone(self.topology());
            self.jobs
                .spawn(async move { Done::Looked(topology.layout().await) });
        }
        let mut next = self.look_at;
        // A master that was lost may come back as something else, empty even, while another has taken over: the node does not go
        // back to it before the layout was looked up.
        let is_trusted = self.topology().is_trusted();
        for server in self.pubsubs.missing() {
            if self.opening.contains(&server) {
                continue;
            }
            if !is_trusted {
                self.look_at = self.look_at.min(now + OPEN_PAUSE_FIRST);
                next = next.min(self.look_at);
                continue;
            }
            match self.failures.get(&server) {
                Some((_, at)) if *at > now => next = next.min(*at),
                _ => self.open(server),
            }
        }
        if let Some(at) = self.subscribe(now) {
            next = next.min(at);
        }
        if self.is_looking {
            // Its end wakes this task.
            next = next.max(now + LOOK_INTERVAL);
        }
        next
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Subscribed => {}
            Done::Looked(Ok(layout)) => {
                self.is_looking = false;
                if self.layout.as_ref() == Some(&layout) {
                    return;
                }
                for pubsub in self.pubsubs.retain(&layout.masters(), Instant::now()) {
                    pubsub.give_up();
                }
                self.failures.clear();
                self.layout = Some(layout);
                self.tracks.look_at_all();
            }
            Done::Looked(Err(error)) => {
                self.is_looking = false;
                debug!(%error, "the Redis masters are not known");
                self.pubsubs.note_trouble(error.to_string());
            }
            Done::Opened(server, opened) => {
                self.opening.remove(&server);
                match opened {
                    Ok(pubsub) => self.opened(&server, &pubsub),
                    Err(error) => self.not_opened(server, &error),
                }
            }
        }
    }

    fn opened(&mut self, server: &Server, pubsub: &Arc<PubSubConnection>) {
        self.failures.remove(server);
        if self.pubsubs.put(pubsub) {
            info!(%server, "pub/sub connection opened");
            self.tracks.unsettled.notify_one();
        } else {
            pubsub.note_lost();
        }
    }

    fn not_opened(&mut self, server: Server, error: &CommandError) {
        self.pubsubs.note_trouble_at(&server, error.to_string());
        self.topology().distrust();
        let now = Instant::now();
        self.look_at = self.look_at.min(now + OPEN_PAUSE_FIRST);
        let (count, at) = self.failures.entry(server).or_insert((0, now));
        *count += 1;
        let pause = OPEN_PAUSE_FIRST * 2_u32.saturating_pow((*count).min(6));
        let pause = pause.min(OPEN_PAUSE_MAX);
        *at = now + pause.mul_f64(0.5 + 0.5 * fastrand::f64());
    }

    fn open(&mut self, server: Server) {
        let Some(layout) = &self.layout else {
            return;
        };
        self.opened += 1;
        let number = self.opened;
        let Some(probe) = self.pubsubs.probe(layout, &server, number) else {
            return;
        };
        self.opening.insert(server.clone());
        let topology = Arc::clone(self.topology());
        let handoff = Arc::clone(&self.pubsubs.handoff);
        let deadline = self.store.options().command_deadline;
        self.jobs.spawn(async move {
            let names = [probe.name.clone()];
            let opened = PubSubConnection::open(
                Arc::clone(topology.connections()),
                handoff,
                server.clone(),
                number,
                probe,
                topology.is_cluster(),
            );
            let opened = match opened.await {
                Ok(pubsub) => {
                    let listening = pubsub.subscribe(&names, deadline).await;
                    listening.map(|()| pubsub)
                }
                Err(error) => Err(error),
            };
            Done::Opened(server, opened)
        });
    }

    /// Asks Redis for what differs; returns when to look again.
    fn subscribe(&mut self, now: Instant) -> Option<Instant> {
        let layout = self.layout.clone()?;
        let pubsubs = Arc::clone(&self.pubsubs);
        let pubsub_of_slot = |slot| pubsubs.to(layout.owner(slot)?);
        self.calls += 1;
        let call = self.calls;
        if let Some(pubsub) = pubsub_of_slot(self.requests.slot()) {
            let names = self.requests.missing(pubsub.number, call, now);
            if !names.is_empty() {
                self.ask(pubsub, call, names, Vec::new(), Vec::new());
            }
        }
        let pubsub_of = |channel: &ChannelName| pubsub_of_slot(slot(channel.as_str()));
        let plan = self.tracks.plan(now, call, pubsub_of);
        for ConnectionPlan {
            pubsub,
            subscribe,
            unsubscribe,
        } in plan.pubsubs.into_values()
        {
            let names = |channels: &[ChannelName]| {
                let channels = channels.iter();
                channels
                    .map(|channel| self.store.keys().channel(channel))
                    .collect()
            };
            let (arriving, leaving) = (names(&subscribe), names(&unsubscribe));
            let channels = [subscribe, unsubscribe].concat();
            self.ask(pubsub, call, arriving, leaving, channels);
        }
        let pausing = self.requests.pausing_until(now);
        plan.next.into_iter().chain(pausing).min()
    }

    fn ask(
        &mut self,
        pubsub: Arc<PubSubConnection>,
        call: u64,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        channels: Vec<ChannelName>,
    ) {
        let topology = Arc::clone(self.topology());
        let handoff = Arc::clone(&self.pubsubs.handoff);
        let deadline = self.store.options().command_deadline;
        self.jobs.spawn(async move {
            let mut failed = None;
            for names in unsubscribe.chunks(BATCH) {
                failed = pubsub.unsubscribe(names, deadline).await.err().or(failed);
            }
            for names in subscribe.chunks(BATCH) {
                failed = pubsub.subscribe(names, deadline).await.err().or(failed);
            }
            if let Some(error) = failed {
                // Redis confirms each subscription that it made; the rest is asked for again, where it lives by then.
                debug!(server = %pubsub.server, %error, "subscriptions failed");
                topology.request_lookup();
                if matches!(error, CommandError::Unknown(_)) {
                    pubsub.give_up();
                }
            }
            handoff.hand_over(&pubsub, Item::Settled { call, channels });
            Done::Subscribed
        });
    }

    fn topology(&self) -> &Arc<Topology> {
        self.store.commands().topology()
    }
}

/// 512: commands for subscriptions that are written at once.
const BATCH: usize = 512;

/// 1 s: changes are noticed at once; this finds those that were not.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// 50 ms, doubled with every failure.
const OPEN_PAUSE_FIRST: Duration = Duration::from_millis(50);

/// 1 s: a failover takes some, and trying more often gains nothing.
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(1);
