//! Makes what is subscribed what is wanted.
//!
//! One task, and one comparison for everything that can happen: a first subscriber, a last one, a connection that was lost, a
//! master that changed, a slot that moved. Each of them only makes a difference between wanted and subscribed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::handoff::Item;
use super::probe;
use super::pubsub::PubSubConnection;
use super::tracks::ConnectionPlan;
use crate::clock::Instant;
use crate::engine::redis::channel::keys;
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::Layout;
use crate::engine::redis::flow::Shared;

/// Reconciles until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut changes = shared.commands.topology().changes();
    let mut interest = Interest {
        shared: Arc::clone(&shared),
        jobs: JoinSet::new(),
        layout: None,
        is_looking: false,
        look_at: Instant::now(),
        opening: HashSet::new(),
        failures: HashMap::new(),
        requests: 0,
        opened_count: 0,
    };
    loop {
        let next = interest.step();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(done) = interest.jobs.join_next() => {
                if let Ok(done) = done {
                    interest.finish(done);
                }
            }
            Ok(()) = changes.changed() => interest.look_at = Instant::now(),
            () = shared.tracks.unsettled.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
    interest.jobs.shutdown().await;
    let _ = tokio::time::timeout(OPEN_PAUSE_MAX, announce_pending(&shared)).await;
    for pubsub in shared.pubsubs.open() {
        pubsub.note_lost();
    }
}

/// Tells other nodes what they may miss; answers whether that worked.
async fn announce_pending(shared: &Shared) -> bool {
    let unannounced = shared.unconfirmed.take_unannounced();
    let told = shared.requests.announce_possible_loss(&unannounced).await;
    if let Err(error) = &told {
        debug!(%error, "other nodes are not told yet what they may miss");
        shared.unconfirmed.add_unannounced(unannounced);
    }
    told.is_ok()
}

struct Interest {
    shared: Arc<Shared>,
    jobs: JoinSet<Done>,
    layout: Option<Layout>,
    is_looking: bool,
    /// When the layout is looked at again.
    look_at: Instant,
    opening: HashSet<Server>,
    /// How often a pub/sub connection to a server could not be opened in a row, and when it may be tried again.
    failures: HashMap<Server, (u32, Instant)>,
    requests: u64,
    opened_count: u64,
}

/// What a job has done.
enum Done {
    Looked(Result<Layout, CommandError>),
    Opened(Server, Result<Arc<PubSubConnection>, CommandError>),
    Asked,
}

impl Interest {
    /// Starts whatever is needed now; answers when to look again at the latest.
    fn step(&mut self) -> Instant {
        let now = Instant::now();
        if self.shared.take_distrust() {
            self.look_at = now;
        }
        if self.shared.take_published_during_failover() {
            self.announce_possible_loss();
        }
        if now >= self.look_at && !self.is_looking {
            self.is_looking = true;
            self.look_at = now + LOOK_INTERVAL;
            let topology = Arc::clone(self.shared.commands.topology());
            self.jobs
                .spawn(async move { Done::Looked(topology.layout().await) });
        }
        let mut next = self.look_at;
        // A master that was lost may come back as something else, empty even, while another has taken over: it is not gone back
        // to before somebody has said that it still is the master.
        let is_trusted = self.shared.commands.topology().is_trusted();
        for server in self.shared.pubsubs.missing() {
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
        let shared = &self.shared;
        match done {
            Done::Asked => {}
            Done::Looked(Ok(layout)) => {
                self.is_looking = false;
                if self.layout.as_ref() == Some(&layout) {
                    return;
                }
                let masters = layout.masters();
                for pubsub in shared.pubsubs.retain(&masters, Instant::now()) {
                    pubsub.give_up(&shared.handoff);
                }
                self.failures.clear();
                let before = self.layout.replace(layout);
                shared.tracks.look_at_all();
                if before.is_some_and(|before| before.has_other_masters_than(&masters)) {
                    self.announce_possible_loss();
                }
            }
            Done::Looked(Err(error)) => {
                self.is_looking = false;
                debug!(%error, "the Redis masters are not known");
                shared.note_trouble(error.to_string());
            }
            Done::Opened(server, Ok(pubsub)) => {
                self.opening.remove(&server);
                self.failures.remove(&server);
                if shared.pubsubs.put(&pubsub) {
                    info!(%server, "pub/sub connection opened");
                    shared.tracks.unsettled.notify_one();
                } else {
                    pubsub.note_lost();
                }
            }
            Done::Opened(server, Err(error)) => {
                self.opening.remove(&server);
                shared.pubsubs.note_trouble(&server, error.to_string());
                shared.note_trouble(error.to_string());
                shared.commands.topology().distrust();
                let now = Instant::now();
                self.look_at = self.look_at.min(now + OPEN_PAUSE_FIRST);
                let (count, at) = self.failures.entry(server).or_insert((0, now));
                *count += 1;
                let pause = OPEN_PAUSE_FIRST * 2_u32.saturating_pow((*count).min(6));
                let pause = pause.min(OPEN_PAUSE_MAX);
                *at = now + pause.mul_f64(0.5 + 0.5 * fastrand::f64());
            }
        }
    }

    /// A master was replaced. What this node said to it on channels without positions may be lost, and nobody else knows.
    fn announce_possible_loss(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.unconfirmed.master_replaced(Instant::now());
        self.jobs.spawn(async move {
            // By then most calls that were on their way to the old master are over, and other nodes listen to the new one.
            tokio::time::sleep(shared.commands.options().command_deadline).await;
            shared.unconfirmed.master_replaced(Instant::now());
            while !announce_pending(&shared).await {
                tokio::time::sleep(OPEN_PAUSE_MAX).await;
            }
            Done::Asked
        });
    }

    fn open(&mut self, server: Server) {
        let Some(layout) = self.layout.clone() else {
            return;
        };
        self.opened_count += 1;
        let number = self.opened_count;
        let Some(probe) = probe::choose(&self.shared, &layout, &server, number) else {
            return;
        };
        self.opening.insert(server.clone());
        let shared = Arc::clone(&self.shared);
        self.jobs.spawn(async move {
            let topology = shared.commands.topology();
            let names = [probe.name.clone()];
            let opened = PubSubConnection::open(
                Arc::clone(topology.connections()),
                Arc::clone(&shared.handoff),
                server.clone(),
                number,
                probe,
                topology.is_cluster(),
            );
            let opened = match opened.await {
                Ok(pubsub) => {
                    let deadline = shared.commands.options().command_deadline;
                    let listening = pubsub.subscribe(&names, deadline).await;
                    listening.map(|()| pubsub)
                }
                Err(error) => Err(error),
            };
            Done::Opened(server, opened)
        });
    }

    /// Asks for what differs; answers when to look again.
    fn subscribe(&mut self, now: Instant) -> Option<Instant> {
        let layout = self.layout.clone()?;
        let shared = Arc::clone(&self.shared);
        let pubsub_of_slot = |slot| shared.pubsubs.to(layout.owner(slot)?);
        self.requests += 1;
        let request = self.requests;
        if let Some(pubsub) = pubsub_of_slot(shared.requests.slot()) {
            let names = shared.requests.missing(&pubsub, request, now);
            if !names.is_empty() {
                self.ask(pubsub, request, names, Vec::new(), Vec::new());
            }
        }
        let pubsub_of = |channel: &ChannelName| pubsub_of_slot(keys::slot(channel.as_str()));
        let plan = shared.tracks.plan(now, request, pubsub_of);
        for ConnectionPlan {
            pubsub,
            subscribe,
            unsubscribe,
        } in plan.pubsubs.into_values()
        {
            let names = |channels: &[ChannelName]| {
                let channels = channels.iter();
                channels
                    .map(|channel| shared.commands.keys().channel(channel))
                    .collect()
            };
            let (arriving, leaving) = (names(&subscribe), names(&unsubscribe));
            let channels = [subscribe, unsubscribe].concat();
            self.ask(pubsub, request, arriving, leaving, channels);
        }
        let asking = shared.requests.pausing_until(now);
        plan.next.into_iter().chain(asking).min()
    }

    fn ask(
        &mut self,
        pubsub: Arc<PubSubConnection>,
        request: u64,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        channels: Vec<ChannelName>,
    ) {
        let shared = Arc::clone(&self.shared);
        self.jobs.spawn(async move {
            let deadline = shared.commands.options().command_deadline;
            let mut failed = None;
            for names in unsubscribe.chunks(BATCH) {
                failed = pubsub.unsubscribe(names, deadline).await.err().or(failed);
            }
            for names in subscribe.chunks(BATCH) {
                failed = pubsub.subscribe(names, deadline).await.err().or(failed);
            }
            if let Some(error) = failed {
                // Whatever has come to stand is known by its confirmation; the rest is asked for again, where it lives by then.
                debug!(server = %pubsub.server, %error, "subscriptions failed");
                shared.distrust();
                if matches!(error, CommandError::Unknown(_)) {
                    pubsub.give_up(&shared.handoff);
                }
            }
            let settled = Item::Settled { request, channels };
            shared.handoff.hand_over(&pubsub, settled);
            Done::Asked
        });
    }
}

/// 512: commands for subscriptions that are written at once.
const BATCH: usize = 512;

/// 1 s: what has changed is told at once; this is for what nobody noticed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// 50 ms, doubled with every failure.
const OPEN_PAUSE_FIRST: Duration = Duration::from_millis(50);

/// 1 s: a failover takes some, and nobody gains by trying more often.
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(1);
