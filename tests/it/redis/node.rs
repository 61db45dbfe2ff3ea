//! One node's engine under test, and what reaches it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, IdempotencyKey, Link, Position, RawJson};
use fanfare_server::delivery::{Delivery, Publication, Retention};
use fanfare_server::engine::redis::{FlowOptions, RedisOptions};
use fanfare_server::engine::{Arrival, Deliver, Engine};
use fanfare_tests::eventually;

/// Keeps more than any test publishes.
pub(super) const KEPT: Retention = Retention::new(1_000, Duration::from_mins(5));

/// One node's engine, and what reached it.
pub(super) struct Node {
    pub(super) engine: Engine,
    record: Arc<Mutex<HashMap<ChannelName, Vec<Seen>>>>,
}

/// What reached a node on a channel.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Message(Box<Delivery>),
    Gap,
    Reset(Position),
}

impl Node {
    /// Starts an engine. Requests of other nodes are answered with `answer`, if there is one.
    pub(super) async fn start(options: RedisOptions, answer: Option<&'static str>) -> Self {
        let record: Arc<Mutex<HashMap<ChannelName, Vec<Seen>>>> = Arc::default();
        let shared = Arc::clone(&record);
        let deliver: Deliver = Arc::new(move |arrival| {
            let (channel, seen) = match arrival {
                Arrival::Delivery(delivery) => {
                    (delivery.channel.clone(), Seen::Message(Box::new(delivery)))
                }
                Arrival::Gap { channel, .. } => (channel, Seen::Gap),
                Arrival::Reset {
                    channel, position, ..
                } => (channel, Seen::Reset(position)),
                Arrival::NodeRequest { body, reply: to } => {
                    if let Some(answer) = answer {
                        to.send([body.as_ref(), answer.as_bytes()].concat().into());
                    }
                    return;
                }
                _ => return,
            };
            let mut record = shared.lock().unwrap_or_else(PoisonError::into_inner);
            record.entry(channel).or_default().push(seen);
        });
        let engine = Engine::redis(options);
        engine.broker.start(deliver).await.unwrap();
        Self { engine, record }
    }

    /// Follows a channel, from the moment this returns.
    pub(super) async fn follow(&self, channel: &ChannelName, retention: Retention) {
        self.engine.broker.set_interest(channel, retention, true);
        self.engine.broker.interested(channel).await.unwrap();
    }

    /// Publishes a number, and again with the same key until it is accepted.
    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        number: u64,
        retention: Retention,
    ) -> Option<Position> {
        let mut publication = message(channel, number);
        let key = format!("{number}-{:x}", fastrand::u64(..));
        publication.key = Some(IdempotencyKey::new(&key).unwrap());
        loop {
            let published = self.engine.broker.publish(publication.clone(), retention);
            if let Ok(published) = published.await {
                return published.position;
            }
            tokio::task::yield_now().await;
        }
    }

    /// What reached it on a channel so far.
    pub(super) fn seen(&self, channel: &ChannelName) -> Vec<Seen> {
        let record = self.record.lock().unwrap();
        record.get(channel).cloned().unwrap_or_default()
    }

    /// Waits until so many messages reached it on a channel; answers everything that did.
    pub(super) async fn messages(&self, channel: &ChannelName, count: usize) -> Vec<Seen> {
        let what = format!("{count} messages on {channel}");
        eventually(&what, async || numbers(&self.seen(channel)).len() >= count).await;
        self.seen(channel)
    }

    /// Waits for a reset of a channel.
    pub(super) async fn reset(&self, channel: &ChannelName) -> Position {
        let find = || {
            let seen = self.seen(channel);
            seen.iter().find_map(|seen| match seen {
                Seen::Reset(position) => Some(*position),
                _ => None,
            })
        };
        eventually("a reset", async || find().is_some()).await;
        find().unwrap()
    }

    /// Waits for a gap on a channel.
    pub(super) async fn gap(&self, channel: &ChannelName) {
        eventually("a gap", async || gaps(&self.seen(channel)) > 0).await;
    }
}

/// The numbers that were published, in the order of arrival.
pub(super) fn numbers(seen: &[Seen]) -> Vec<u64> {
    let messages = seen.iter().filter_map(|seen| match seen {
        Seen::Message(delivery) => Some(delivery.data.decode().unwrap()),
        _ => None,
    });
    messages.collect()
}

/// How many gaps were told.
pub(super) fn gaps(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Gap)).count()
}

/// Checks that nothing but messages came, each following the one before it.
#[track_caller]
pub(super) fn check_unbroken(seen: &[Seen]) {
    let mut at: Option<Position> = None;
    for seen in seen {
        let Seen::Message(delivery) = seen else {
            panic!("{seen:?} was told although nothing was lost");
        };
        let next = delivery.position.unwrap();
        if let Some(at) = at {
            assert_eq!(
                at.link(next, delivery.previous),
                Link::Next,
                "{at:?}, {next:?}"
            );
        }
        at = Some(next);
    }
}

/// A publication of a number.
pub(super) fn message(channel: &ChannelName, number: u64) -> Publication {
    let event = EventName::new("counted").unwrap();
    Publication::new(channel.clone(), event, RawJson::trusted(number.to_string()))
}

/// A channel's name.
pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

/// Options with a prefix of their own and everything sooner than an application wants it.
pub(super) fn options(url: &str) -> RedisOptions {
    let options: RedisOptions = url.parse().unwrap();
    let prefix = fanfare_tests::redis::prefix("flow");
    options.with_prefix(prefix).unwrap().with_flow(quick())
}

/// Intervals that are over soon. The connections stay as patient as ever.
pub(super) fn quick() -> FlowOptions {
    let mut flow = FlowOptions::default();
    flow.unsubscribe_delay = Duration::from_millis(100);
    flow.sync_interval = Duration::from_millis(500);
    flow.sync_grace = Duration::from_millis(200);
    flow
}
