//! From a publish on one node to the subscribers of all of them.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::node;
use crate::generator::{Generator, Pace, Target};
use crate::redis_server::RedisServer;
use crate::sequence::Faults;
use crate::usage;

/// Where nodes and load run, and who they are.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The program that serves when it is called with `serve`.
    pub program: &'a Path,
    /// How many nodes; 0 is one node without Redis.
    pub nodes: usize,
    /// The core of the nodes and of Redis.
    pub core: usize,
    /// The core of this process.
    pub own_core: usize,
}

/// What came out.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Median of the time from when a message was due to its delivery.
    pub p50: Option<Duration>,
    /// 99th percentile of the same.
    pub p99: Option<Duration>,
    /// Publishes per second, each delivered to its channel's subscribers.
    pub published_per_second: f64,
    /// Redis's microseconds per publish, in the closed loop.
    pub redis_micros: Option<f64>,
    /// The nodes' microseconds per publish, all nodes together, in the closed loop.
    pub node_micros: f64,
    /// What went wrong.
    pub faults: Faults,
}

/// Measures latency at a fixed rate, then throughput with a window; both on fresh nodes.
///
/// # Errors
/// When a process does not start or the load fails.
pub fn measure(setting: &Setting<'_>) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let redis = (setting.nodes > 0)
        .then(|| RedisServer::start(setting.core, setting.own_core))
        .transpose()?;
    let url = redis.as_ref().map(RedisServer::url);
    let nodes: io::Result<Vec<_>> = (0..setting.nodes.max(1))
        .map(|_| node::start(setting.program, url.as_deref(), setting.core))
        .collect();
    let nodes = nodes?;
    let targets: Vec<Target> = nodes.iter().map(|node| *node.target()).collect();

    let mut generator = Generator::connect_to_nodes(&targets, LATENCY_RECEIVERS, CHANNELS)?;
    let mut pace = Pace::per_second(RATE);
    generator.drive(&mut pace, Instant::now() + WARM_UP)?;
    generator.ledger().latency().clear();
    generator.drive(&mut pace, Instant::now() + DURATION)?;
    generator.drain(DRAIN_LIMIT)?;
    measured.p50 = generator.ledger().latency().quantile(0.5);
    measured.p99 = generator.ledger().latency().quantile(0.99);
    measured.faults += generator.ledger().faults();
    drop(generator);

    // Every channel has one subscriber on every node: each publish crosses Redis once and reaches all nodes.
    let receivers = WINDOW_CHANNELS as usize * targets.len();
    let mut generator = Generator::connect_to_nodes(&targets, receivers, WINDOW_CHANNELS)?;
    let mut pace = Pace::Window(WINDOW_CHANNELS);
    generator.drive(&mut pace, Instant::now() + WARM_UP)?;
    let used = || -> io::Result<(Option<Duration>, Duration)> {
        let redis = redis.as_ref().map(|redis| usage::process_time(redis.pid()));
        let redis = redis.transpose()?.map(|time| time.total());
        let mut all = Duration::ZERO;
        for node in &nodes {
            all += usage::process_time(node.pid())?.total();
        }
        Ok((redis, all))
    };
    let (before, deliveries, start) = (used()?, generator.ledger().deliveries(), Instant::now());
    generator.drive(&mut pace, start + DURATION)?;
    let (after, elapsed) = (used()?, start.elapsed());
    let deliveries = generator.ledger().deliveries() - deliveries;
    let published = deliveries as f64 / targets.len() as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / published.max(1.0);
    measured.published_per_second = published / elapsed.as_secs_f64();
    measured.redis_micros = before.0.zip(after.0).map(|(from, to)| micros(to - from));
    measured.node_micros = micros(after.1 - before.1);
    generator.drain(DRAIN_LIMIT)?;
    measured.faults += generator.ledger().faults();
    Ok(measured)
}

/// 240 subscribers of 8 channels at 200 messages per second: 6,000 deliveries per second, far from any limit.
const LATENCY_RECEIVERS: usize = 240;
const CHANNELS: u64 = 8;
const RATE: u32 = 200;
/// 64 channels with one message under way each.
const WINDOW_CHANNELS: u64 = 64;
const WARM_UP: Duration = Duration::from_millis(500);
const DURATION: Duration = Duration::from_secs(3);
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
