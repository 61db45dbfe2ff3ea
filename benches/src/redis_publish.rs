//! What a publish through Redis costs, beside a plain `PUBLISH` in the same run.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanfare_server::Publication;
use fanfare_server::delivery::Retention;
use fanfare_server::engine::Engine;
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::protocol::{ChannelName, EventName, IdempotencyKey, RawJson};
use futures_util::future::join_all;

use crate::redis_server::RedisServer;
use crate::statistics::{median, median_ratio};
use crate::usage::process_time;

/// How something is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `PUBLISH`, one command per message on one shared connection: what the redis crate makes of it.
    Plain,
    /// `PUBLISH` in pipelines of 32: what the protocol allows.
    Pipelined,
    /// Our engine, on a channel that keeps nothing.
    Live,
    /// The same with an idempotency key.
    LiveKeyed,
    /// Our engine, on a channel that keeps 100 messages.
    Kept,
    /// The same with an idempotency key.
    KeptKeyed,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Pipelined,
        Self::Live,
        Self::LiveKeyed,
        Self::Kept,
        Self::KeptKeyed,
    ];

    /// Its row in the report.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain `PUBLISH`",
            Self::Pipelined => "plain `PUBLISH`, pipelines of 32",
            Self::Live => "Fanfare, nothing kept",
            Self::LiveKeyed => "Fanfare, nothing kept, with a key",
            Self::Kept => "Fanfare, history of 100",
            Self::KeptKeyed => "Fanfare, history of 100, with a key",
        }
    }
}

/// What one way cost in one round.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Publishes per second.
    pub per_second: f64,
    /// Redis's processor time each, in microseconds.
    pub redis_micros: f64,
    /// This process's, in microseconds.
    pub own_micros: f64,
}

/// How it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often each way takes its turn.
    pub rounds: u32,
    /// How long each turn takes.
    pub turn: Duration,
    /// How many publishes are under way at any time.
    pub concurrency: usize,
    /// Over how many channels they are spread.
    pub channels: usize,
}

/// Measures every way, each in every round.
///
/// # Errors
/// When Redis does not do what it is told.
pub async fn measure(server: &RedisServer, plan: Plan) -> io::Result<Vec<Vec<Cost>>> {
    let load = Load::open(server, plan).await?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let mut costs = Vec::new();
        for way in Way::ALL {
            // The first moments of a turn fill caches and load scripts.
            load.run(way, plan.turn / 10).await?;
            let before = (
                process_time(server.pid())?,
                process_time(std::process::id())?,
            );
            let started = Instant::now();
            let count = load.run(way, plan.turn).await? as f64;
            let took = started.elapsed();
            let micros = |pid, earlier| -> io::Result<f64> {
                let used = process_time(pid)? - earlier;
                Ok(used.total().as_secs_f64() * 1e6 / count)
            };
            costs.push(Cost {
                per_second: count / took.as_secs_f64(),
                redis_micros: micros(server.pid(), before.0)?,
                own_micros: micros(std::process::id(), before.1)?,
            });
        }
        rounds.push(costs);
    }
    Ok(rounds)
}

struct Load {
    engine: Engine,
    plain: redis::aio::MultiplexedConnection,
    channels: Vec<ChannelName>,
    plan: Plan,
    keys: AtomicU64,
}

impl Load {
    async fn open(server: &RedisServer, plan: Plan) -> io::Result<Self> {
        let options: RedisOptions = server.url().parse().map_err(io::Error::other)?;
        let engine = Engine::redis(options);
        let started = engine.broker.start(Arc::new(|_| {})).await;
        started.map_err(io::Error::other)?;
        let client = redis::Client::open(server.url()).map_err(io::Error::other)?;
        let plain = client.get_multiplexed_async_connection().await;
        let names = (0..plan.channels).map(|number| ChannelName::new(&format!("channel.{number}")));
        Ok(Self {
            engine,
            plain: plain.map_err(io::Error::other)?,
            channels: names.collect::<Result<_, _>>().map_err(io::Error::other)?,
            plan,
            keys: AtomicU64::new(0),
        })
    }

    /// Publishes as fast as it goes for a time; answers how many there were.
    async fn run(&self, way: Way, time: Duration) -> io::Result<u64> {
        let (is_over, deadline) = (AtomicBool::new(false), Instant::now() + time);
        let publishers =
            (0..self.plan.concurrency).map(|index| self.publish(way, index, &is_over, deadline));
        let counts: io::Result<Vec<u64>> = join_all(publishers).await.into_iter().collect();
        Ok(counts?.into_iter().sum())
    }

    async fn publish(
        &self,
        way: Way,
        index: usize,
        is_over: &AtomicBool,
        deadline: Instant,
    ) -> io::Result<u64> {
        let channel = &self.channels[index % self.channels.len()];
        let event = EventName::new("bench").map_err(io::Error::other)?;
        let data = RawJson::trusted(format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2)));
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            match way {
                Way::Plain => {
                    let mut connection = self.plain.clone();
                    let mut publish = redis::cmd("PUBLISH");
                    publish.arg(channel.as_str()).arg(data.as_str());
                    let sent = publish.exec_async(&mut connection).await;
                    sent.map_err(io::Error::other)?;
                    count += 1;
                }
                Way::Pipelined => {
                    let mut connection = self.plain.clone();
                    let mut pipeline = redis::pipe();
                    for _ in 0..PIPELINE {
                        pipeline
                            .cmd("PUBLISH")
                            .arg(channel.as_str())
                            .arg(data.as_str());
                    }
                    let sent = pipeline.exec_async(&mut connection).await;
                    sent.map_err(io::Error::other)?;
                    count += PIPELINE;
                }
                _ => {
                    let mut sent = Publication::new(channel.clone(), event.clone(), data.clone());
                    if matches!(way, Way::LiveKeyed | Way::KeptKeyed) {
                        let key = format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed));
                        let key = IdempotencyKey::new(&key).map_err(io::Error::other)?;
                        sent = sent.with_key(key);
                    }
                    let retention = match way {
                        Way::Live | Way::LiveKeyed => Retention::NONE,
                        _ => Retention::new(100, Duration::from_mins(5)),
                    };
                    let published = self.engine.broker.publish(sent, retention).await;
                    published.map_err(io::Error::other)?;
                    count += 1;
                }
            }
            if index == 0 && Instant::now() >= deadline {
                is_over.store(true, Ordering::Relaxed);
            }
        }
        Ok(count)
    }
}

/// The table of what was measured.
#[must_use]
pub fn render(rounds: &[Vec<Cost>]) -> String {
    let mut out = String::from(
        "| | publishes/s | Redis CPU µs | × plain | own CPU µs | × plain |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (index, way) in Way::ALL.into_iter().enumerate() {
        let of = |figure: fn(&Cost) -> f64| {
            let value = median(rounds.iter().map(|costs| figure(&costs[index])));
            let pairs = rounds
                .iter()
                .map(|costs| (figure(&costs[index]), figure(&costs[0])));
            (
                value.unwrap_or(f64::NAN),
                median_ratio(pairs).unwrap_or(f64::NAN),
            )
        };
        let (per_second, _) = of(|cost| cost.per_second);
        let (redis, redis_ratio) = of(|cost| cost.redis_micros);
        let (own, own_ratio) = of(|cost| cost.own_micros);
        let title = way.title();
        let _ = writeln!(
            out,
            "| {title} | {per_second:.0} | {redis:.2} | {redis_ratio:.2} | {own:.2} | {own_ratio:.2} |"
        );
    }
    out
}

/// 128: as in the fan-out benchmark.
const PAYLOAD_BYTES: usize = 128;

/// 32: where longer pipelines gain nothing any more.
const PIPELINE: u64 = 32;
