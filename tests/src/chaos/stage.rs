//! The system under load: everything that a row can trouble.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what does not start fails the run"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fanfare_protocol::ChannelName;
use fanfare_server::Publisher;
use fanfare_server::engine::Engine;
use fanfare_server::engine::redis::RedisOptions;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::access;
use super::listener::{Listener, ListenerConfig};
use super::load::Load;
use super::namespace::Split;
use super::node;
use super::planted::Plant;
use super::publisher::{Desk, Publishers, Voice};
use super::store::{Store, StoreKind};
use crate::checker::resources::{Amount, Sample};
use crate::checker::{FaultId, Recorder};
use crate::node::Node;
use crate::process::eventually;
use crate::proxy::Proxy;
use crate::redis;
use crate::redis::RedisConfig;

/// What a stage is set up with.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// The row that plays on it.
    pub row: &'static str,
    /// What the nodes stand on.
    pub store: StoreKind,
    /// How much there is to do.
    pub load: Load,
    /// Decides what is random.
    pub seed: u64,
    /// For how long it is to be troubled.
    pub trouble: Duration,
    /// The server program.
    pub server: PathBuf,
    /// Whether some clients write down what is wrong.
    pub is_planted: bool,
}

/// The system under load.
pub struct Stage {
    /// What it was set up with.
    pub config: StageConfig,
    /// Decides what is random.
    pub random: fastrand::Rng,
    /// What the nodes stand on.
    pub store: Store,
    /// The server processes.
    pub nodes: Vec<Node>,
    /// What clients connect to: one node after the other.
    pub balancer: Proxy,
    /// Where everything is written down.
    pub recorder: Recorder,
    /// The clients.
    pub listeners: Vec<Listener>,
    /// How often nodes and publishers had called the command that reads histories before any client was there: at its start each
    /// tries the commands that it needs.
    pub reads_of_starts: u64,
    /// Two network namespaces, where the row has them.
    pub split: Option<Split>,
    /// The application's hands, where the store can be shared.
    pub handles: Vec<Publisher>,
    next_payload: Arc<AtomicU64>,
    desk: Option<Desk>,
    publishers: Option<Publishers>,
    /// Whether somebody has left for good, so that not all can be in again.
    has_left: bool,
    baseline: Sample,
}

impl Stage {
    /// Sets everything up and waits until all clients are in.
    pub async fn set(config: StageConfig) -> Self {
        let count = match config.store {
            StoreKind::Memory => 1,
            _ => config.load.nodes,
        };
        let (store, split) = match config.store {
            StoreKind::Split | StoreKind::CarefulSplit => {
                let redis = match config.store {
                    StoreKind::CarefulSplit => RedisConfig::default()
                        .line("min-replicas-to-write 1")
                        .line("min-replicas-max-lag 2"),
                    _ => RedisConfig::default(),
                };
                let (split, store) = Split::set(redis).await;
                (store, Some(split))
            }
            kind => (Store::start(kind, count, config.seed).await, None),
        };
        let prefix = redis::prefix("chaos");
        let mut nodes = Vec::new();
        for number in 0..count {
            let place = split.as_ref().map(|split| split.place(number));
            let node = node::config(&config.server, store.url(number), &prefix, place);
            nodes.push(Node::start_with(node).await);
        }
        let balancer = Proxy::start(nodes[0].address()).await.unwrap();
        balancer.balance(nodes.iter().map(Node::address).collect());
        let mut stage = Self {
            random: fastrand::Rng::with_seed(config.seed),
            store,
            nodes,
            balancer,
            recorder: Recorder::default(),
            listeners: Vec::new(),
            split,
            handles: Vec::new(),
            next_payload: Arc::new(AtomicU64::new(1)),
            desk: None,
            publishers: None,
            has_left: false,
            baseline: Sample::new(),
            reads_of_starts: 0,
            config,
        };
        stage.handles = stage.connect_handles(&prefix).await;
        stage.reads_of_starts = stage.store.history_reads().await;
        stage.baseline = stage.sample().await;
        stage.fill().await;
        stage
    }

    /// Lets publishers begin.
    pub fn publish(&mut self) {
        let clients = self.listeners.iter().step_by(CLIENTS_PER_VOICE);
        let load = &self.config.load;
        let mut voices: Vec<Voice> = clients
            .enumerate()
            .map(|(number, listener)| {
                let (channels, _) = load.channels_of(number * CLIENTS_PER_VOICE);
                Voice::Client(listener.client.clone(), channels)
            })
            .collect();
        // Applications publish more than clients do.
        let share = voices.len() * 3 / self.handles.len().max(1);
        for handle in &self.handles {
            voices.extend((0..share).map(|_| Voice::Application(handle.clone())));
        }
        let channels = [load.kept_channels(), load.live_channels()].concat();
        let desk = Desk {
            voices: Arc::new(voices),
            channels: Arc::new(channels),
            recorder: self.recorder.clone(),
            next: Arc::clone(&self.next_payload),
            mark: MARK,
        };
        let pace = load.publishes_per_second;
        self.publishers = Some(Publishers::start(desk.clone(), pace, self.config.seed));
        self.desk = Some(desk);
    }

    /// Has publishers stop and waits for what is under way. [`Stage::say`] goes on.
    pub async fn silence(&mut self) {
        if let Some(publishers) = self.publishers.take() {
            publishers.stop().await;
        }
    }

    /// Notes a fault and says so.
    #[must_use]
    pub fn trouble(&self, what: impl Into<String>) -> FaultId {
        let what = what.into();
        self.say_aloud(&what);
        self.recorder.fault(what)
    }

    /// Tells whoever watches the run.
    pub fn say_aloud(&self, what: &str) {
        eprintln!("{:<5} {:6.1?} {what}", self.config.row, self.recorder.now());
    }

    /// Lets the system work for a while.
    pub async fn work(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Starts a node that was killed; it is well again once it is ready.
    pub async fn revive(&mut self, node: usize, fault: FaultId) {
        self.nodes[node].restart().await;
        self.recorder.healed(fault);
    }

    /// Waits until all nodes say that they are ready; how long that took.
    pub async fn until_ready(&self) -> Duration {
        let begun = Instant::now();
        eventually("nodes that are ready", async || {
            for node in &self.nodes {
                if !node.is_ready().await {
                    return false;
                }
            }
            true
        })
        .await;
        begun.elapsed()
    }

    /// Waits until every client is subscribed to everything; how long that took, or nothing when it took too long.
    pub async fn until_all_are_in(&self) -> Option<Duration> {
        let begun = Instant::now();
        let load = &self.config.load;
        let all_in = async {
            let mut look = tokio::time::interval(LOOK_EVERY);
            loop {
                look.tick().await;
                let is_in = |(number, listener): (usize, &Listener)| {
                    let (channels, room) = load.channels_of(number);
                    listener.is_subscribed_to(channels.len() + usize::from(room.is_some()))
                };
                let clients = self.listeners.iter().take(load.clients);
                if clients.enumerate().all(is_in) {
                    return;
                }
            }
        };
        let outcome = tokio::time::timeout(BACK_MAX, all_in).await;
        outcome.is_ok().then(|| begun.elapsed())
    }

    /// Lets everything come to rest: the last messages are seen, members are agreed upon, and asked for.
    pub async fn rest(&mut self) {
        if !self.has_left {
            self.until_all_are_in().await;
        }
        // What is published after the last fault shows who is back.
        self.work(LAST_WORDS).await;
        self.silence().await;
        let begun = Instant::now();
        while begun.elapsed() < REST_MAX && !self.say_last_words().await {}
        let agreed = async {
            let mut look = tokio::time::interval(LOOK_EVERY);
            while !self.agrees_about_members() {
                look.tick().await;
            }
        };
        // Whether they agree in time is for the checker to say.
        let _ = tokio::time::timeout(REST_MAX, agreed).await;
        for listener in &self.listeners {
            listener.ask().await;
        }
    }

    /// Sends all clients home and answers what was not given back.
    pub async fn close(&mut self, patience: Duration) -> (Sample, Sample) {
        for listener in std::mem::take(&mut self.listeners) {
            listener.close().await;
        }
        self.desk = None;
        let begun = Instant::now();
        let mut after = self.sample().await;
        while begun.elapsed() < patience && !is_within(&self.baseline, &after) {
            tokio::time::sleep(LOOK_EVERY).await;
            after = self.sample().await;
        }
        for handle in std::mem::take(&mut self.handles) {
            // A store that is gone by then makes no difference.
            let _ = handle.close().await;
        }
        (self.baseline.clone(), after)
    }

    /// Adds a client.
    pub async fn add_listener(&mut self, config: ListenerConfig) {
        let listener = Listener::start(config, &self.recorder).await;
        self.listeners.push(listener);
    }

    /// Has somebody say goodbye who is in the room of a client.
    pub async fn let_one_leave(&mut self, witness: usize) {
        let room = self.listeners[witness].room.clone();
        let place = self.listeners.iter().rposition(|one| one.room == room);
        if let Some(place) = place {
            self.listeners.remove(place).close().await;
            self.has_left = true;
        }
    }

    /// What clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.balancer.address())
    }

    /// Publishes one message through an application's handle and waits until it is accepted.
    pub async fn say(&self, channel: &ChannelName) -> Option<String> {
        let desk = self.desk.as_ref()?;
        let can_say = |voice: &&Voice| match voice {
            Voice::Application(_) => true,
            Voice::Client(_, channels) => channels.contains(channel),
        };
        // Applications come last.
        let voice = desk.voices.iter().rev().find(can_say)?;
        desk.publish(voice, channel).await
    }

    /// Has applications publish so many messages on every channel at once; resolves when each was accepted or given up.
    pub fn say_at_once(&self, count: usize) -> impl Future<Output = ()> + use<> {
        let load = &self.config.load;
        let channels = [load.kept_channels(), load.live_channels()].concat();
        let mut saying = JoinSet::new();
        let handles = self.handles.iter().cycle();
        for (channel, handle) in channels
            .iter()
            .cycle()
            .zip(handles)
            .take(channels.len() * count)
        {
            let Some(desk) = self.desk.clone() else { break };
            let (voice, channel) = (Voice::Application(handle.clone()), channel.clone());
            saying.spawn(async move {
                desk.publish(&voice, &channel).await;
            });
        }
        async move { while saying.join_next().await.is_some() {} }
    }

    async fn fill(&mut self) {
        let url = self.url();
        let starting = (0..self.config.load.clients).map(|number| {
            let (channels, room) = self.config.load.channels_of(number);
            ListenerConfig {
                name: format!("client-{number}"),
                url: url.clone(),
                channels,
                room,
                token: None,
                plant: Plant::of(number).filter(|_| self.config.is_planted),
            }
        });
        for config in starting.collect::<Vec<_>>() {
            self.add_listener(config).await;
        }
        let is_full = self.until_all_are_in().await;
        assert!(is_full.is_some(), "not all clients got in before any fault");
    }

    async fn connect_handles(&self, prefix: &str) -> Vec<Publisher> {
        let mut handles = Vec::new();
        for number in 0..HANDLES {
            let Some(url) = self.store.url(self.nodes.len() + number) else {
                break;
            };
            let options: RedisOptions = url.parse().expect("a URL of a store");
            let options = options.with_prefix(prefix).expect("a prefix of ours");
            handles.push(connect_handle(&options).await);
        }
        handles
    }

    /// Publishes one message to every channel; whether everybody has seen it soon.
    async fn say_last_words(&self) -> bool {
        let load = &self.config.load;
        let channels = [load.kept_channels(), load.live_channels()].concat();
        let mut words = Vec::new();
        for channel in channels {
            match self.say(&channel).await {
                Some(payload) => words.push((channel, payload)),
                // Without a store not every channel has a client that publishes.
                None if self.handles.is_empty() => {}
                None => return false,
            }
        }
        let heard = async {
            let mut look = tokio::time::interval(LOOK_EVERY);
            loop {
                look.tick().await;
                let has_heard = |listener: &Listener| {
                    let mut words = words.iter();
                    words.all(|(channel, payload)| listener.has_seen(channel, payload))
                };
                if self.listeners.iter().all(has_heard) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), heard)
            .await
            .is_ok()
    }

    fn agrees_about_members(&self) -> bool {
        let rooms = self.config.load.presence_channels();
        rooms.iter().all(|room| {
            let there: Vec<&Listener> = (self.listeners.iter())
                .filter(|listener| listener.room.as_ref() == Some(room))
                .collect();
            let names: BTreeSet<String> = there.iter().map(|one| one.name.clone()).collect();
            there
                .iter()
                .all(|one| one.members().as_ref() == Some(&names))
        })
    }

    async fn sample(&self) -> Sample {
        let mut sample = Sample::new();
        let mut add = |what: String, amount: u64, allowance: u64| {
            sample.push(Amount {
                what,
                amount,
                allowance,
            });
        };
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some((files, bytes)) = node.open_files_and_bytes() {
                add(format!("open files of node {number}"), files, FILES_MORE);
                add(format!("bytes of node {number}"), bytes, BYTES_MORE);
            }
        }
        if self
            .store
            .servers()
            .iter()
            .any(|redis| redis.id().is_some())
        {
            let (clients, channels, eternal) = self.store.held().await;
            add("clients of the store".to_owned(), clients, CLIENTS_MORE);
            add(
                "subscribed channels of the store".to_owned(),
                channels,
                CHANNELS_MORE,
            );
            add("keys of the store that never expire".to_owned(), eternal, 0);
        }
        sample
    }
}

fn is_within(before: &[Amount], after: &[Amount]) -> bool {
    crate::checker::resources::check(before, after).is_empty()
}

/// Connects an application's handle. A machine that has much else to do may need more than one attempt.
async fn connect_handle(options: &RedisOptions) -> Publisher {
    let mut attempts = 1;
    loop {
        match Publisher::connect(Engine::redis(options.clone())).await {
            Ok(publisher) => return publisher.with_rules(access::rules()),
            Err(error) => assert!(attempts < ATTEMPTS, "a handle: {error}"),
        }
        attempts += 1;
    }
}

/// What every payload begins with.
pub const MARK: &str = "chaos-message-";
/// 10: an attempt takes about 5 s where nothing answers.
const ATTEMPTS: u32 = 10;
/// 2: more than one, as applications do.
const HANDLES: usize = 2;
/// 9: has no factor in common with the numbers of channels, so that without a store, too, every channel has somebody who
/// publishes there.
const CLIENTS_PER_VOICE: usize = 9;
/// 20 ms: often enough that nobody waits for the looking.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// 40 s: longer than is promised, so that the checker can see it.
const BACK_MAX: Duration = Duration::from_secs(40);
/// 3 s: every channel has had its message by then.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// 40 s: longer than is promised, so that the checker can see it.
const REST_MAX: Duration = Duration::from_secs(40);
/// 8: connections to a store that come and go.
const FILES_MORE: u64 = 8;
/// 96 MiB: what an allocator keeps after a load; a leak of a long run is more.
const BYTES_MORE: u64 = 96 << 20;
/// 12: connections to a store that come and go.
const CLIENTS_MORE: u64 = 12;
/// 4: nodes give up their interest after a while.
const CHANNELS_MORE: u64 = 4;
