//! Random things happen to one channel on a real Redis; a model small enough to be read says what must come of them.
//!
//! What the model cannot foresee (epochs and tags) it takes from the answer, and checks that it is new.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_protocol::{Epoch, Position, Tag};
use fastrand::Rng;
use redis::{PushInfo, PushKind, Value};
use tokio::time::Instant;

use super::process::RedisProcess;
use super::publish::{channel, keyed, message};
use crate::delivery::{HistoryRange, Publication, Published, Retention};
use crate::engine::EngineError;
use crate::engine::redis::channel::envelope::position;
use crate::engine::redis::channel::envelope::{self, Count, PubSubMessage, Term};
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::channel::{history, publish};
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::scripts::Scripts;
use crate::engine::tag::random_id;

/// What went wrong, in a sentence.
pub(super) type Broken = String;

macro_rules! ensure {
    ($claim:expr, $($text:tt)+) => {
        if !$claim {
            return Err(format!($($text)+));
        }
    };
}

const TTL: Duration = Duration::from_mins(5);

/// Runs the model with scripts that may have a fault planted.
pub(super) async fn run(
    redis: &RedisProcess,
    scripts: &Scripts,
    seed: u64,
    steps: usize,
) -> Result<(), Broken> {
    let mut world = World::open(redis, scripts.clone()).await;
    let mut rng = Rng::with_seed(seed);
    for step in 0..steps {
        let stepped = world.step(&mut rng, step).await;
        stepped.map_err(|broken| format!("seed {seed}, step {step}: {broken}"))?;
    }
    let settled = world.settled().await;
    settled.map_err(|broken| format!("seed {seed}: {broken}"))
}

struct World<'a> {
    redis: &'a RedisProcess,
    admin: redis::aio::MultiplexedConnection,
    store: ChannelStore,
    arrived: Arc<Mutex<Vec<Vec<u8>>>>,
    _subscriber: redis::aio::MultiplexedConnection,
    model: Model,
}

/// What must be.
#[derive(Default)]
struct Model {
    /// Where the channel stands; nowhere before its first message, and when that was evicted.
    top: Option<Position>,
    kept: VecDeque<Kept>,
    keys: BTreeMap<&'static str, Option<Position>>,
    epochs: BTreeSet<Epoch>,
    tags: BTreeSet<Tag>,
    /// Where it stood earlier in this epoch.
    earlier: Vec<Position>,
    messages: Vec<Expected>,
    count: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    position: Position,
    previous: Tag,
    data: String,
}

/// A publication whose outcome may stay unknown: on a busy machine an answer can be late.
struct Sent {
    data: String,
    key: Option<&'static str>,
    retention: Retention,
}

/// A message that subscribers must get.
#[derive(Debug)]
enum Expected {
    Positioned(Kept),
    Live { data: String, is_counted_anew: bool },
}

const KEYS: [&str; 3] = ["k", "l", "m"];

impl<'a> World<'a> {
    async fn open(redis: &'a RedisProcess, scripts: Scripts) -> Self {
        let options = redis.options().with_budget(Duration::from_secs(20));
        let store = ChannelStore::new(options, scripts);
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let messages = Arc::clone(&arrived);
        let server = store.commands().topology().owner(&channel()).await.unwrap();
        let pushes = move |push: PushInfo| {
            if let (PushKind::Message, [_, Value::BulkString(bytes)]) = (&push.kind, &*push.data) {
                messages.lock().unwrap().push(bytes.clone());
            }
            Ok::<_, ()>(())
        };
        let connections = store.commands().topology().connections();
        let subscriber = connections.open_with(&server, pushes, None).await;
        let mut subscriber = subscriber.unwrap();
        subscriber
            .subscribe(store.keys().channel(&channel()))
            .await
            .unwrap();
        Self {
            redis,
            admin: redis.connect().await,
            store,
            arrived,
            _subscriber: subscriber,
            model: Model::default(),
        }
    }

    async fn step(&mut self, rng: &mut Rng, step: usize) -> Result<(), Broken> {
        let retention = Retention::new([0, 1, 3, 5][rng.usize(..4)], TTL);
        match rng.u8(..64) / 2 {
            0..=9 => self.publish(message(step), None, retention).await,
            10..=14 => {
                let key = KEYS[rng.usize(..KEYS.len())];
                self.publish(keyed(step, key), Some(key), retention).await
            }
            15..=17 => self.repeat_unanswered(step, Retention::new(5, TTL)).await,
            18..=20 => self.publish_live(message(step), None).await,
            21 => {
                let key = KEYS[rng.usize(..KEYS.len())];
                self.publish_live(keyed(step, key), Some(key)).await
            }
            22 => {
                history::clear(&self.store, &channel())
                    .await
                    .map_err(told)?;
                self.model.kept.clear();
                let life = self.life(self.store.keys().stream(&channel())).await;
                ensure!(life == -2, "what was forgotten is still there");
                let top = self.read(HistoryRange::Last { limit: 0 }, true).await?;
                ensure!(top.offset == 0, "a forgotten channel stands at {top:?}");
                Ok(())
            }
            23 => {
                self.delete(self.store.keys().stream(&channel())).await;
                self.model.kept.clear();
                Ok(())
            }
            24 => {
                self.delete(self.store.keys().position(&channel())).await;
                self.model.top = None;
                Ok(())
            }
            25 => {
                self.delete(self.store.keys().count(&channel())).await;
                self.model.count = None;
                Ok(())
            }
            26 => {
                self.go_back(rng).await;
                Ok(())
            }
            27 if rng.bool() => self.refuse_all(step).await,
            _ => {
                let offset = rng.u64(..self.model.top.map_or(3, |top| top.offset + 2));
                let limit = rng.u32(..7);
                let ranges = [
                    HistoryRange::After { offset, limit },
                    HistoryRange::Last { limit },
                ];
                self.read(ranges[rng.usize(..2)], false).await.map(|_| ())
            }
        }
    }

    async fn publish(
        &mut self,
        sent: Publication,
        key: Option<&'static str>,
        retention: Retention,
    ) -> Result<(), Broken> {
        let Some(published) = self.try_publish(&sent, key, retention).await? else {
            return Ok(());
        };
        if let Some(first) = key.and_then(|key| self.model.keys.get(key)) {
            let expected = Published::duplicate(*first);
            ensure!(
                published == expected,
                "a repetition is answered {published:?} instead of {first:?}"
            );
            return Ok(());
        }
        ensure!(
            !published.is_duplicate,
            "a new message is called a repetition"
        );
        let position = published.position.ok_or("no position")?;
        self.model
            .publish(position, sent.data.as_str(), retention)?;
        if let Some(key) = key {
            self.model.keys.insert(key, Some(position));
        }
        self.check_lives(retention).await
    }

    /// Publishes. When that ends without an answer, the message may be there or not: the model learns it from the subscriber.
    async fn try_publish(
        &mut self,
        sent: &Publication,
        key: Option<&'static str>,
        retention: Retention,
    ) -> Result<Option<Published>, Broken> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let connection = self.store.commands().connection(deadline, &channel()).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let is_new = |key| !self.model.keys.contains_key(key);
        match publish::publish(&self.store, sent, retention).await {
            // Nothing but a lost answer is a reason not to know.
            Err(EngineError::Unknown { .. }) if connection.is_lost() => {
                drop(connection);
                let data = sent.data.as_str().to_owned();
                let sent = Sent {
                    data,
                    key,
                    retention,
                };
                self.take_late(&[sent]).await?;
                Ok(None)
            }
            // Nobody can tell an attempt of one's own whose answer was lost from an earlier publication with the key.
            Ok(repeated) if connection.is_lost() && key.is_some_and(is_new) => {
                Ok(Some(Published::new(repeated.position)))
            }
            published => published.map(Some).map_err(told),
        }
    }

    /// Takes in what came of publications without an answer, once nothing more can come of them.
    async fn take_late(&mut self, sent: &[Sent]) -> Result<(), Broken> {
        self.store.commands().topology().connections().retain(&[]);
        self.until_alone().await?;
        let arrived = self.fence().await?;
        for bytes in arrived.get(self.model.messages.len()..).unwrap_or_default() {
            let late = envelope::decode_message(&channel(), bytes, 1 << 20);
            let late = late.map_err(|error| error.to_string())?.delivery;
            let is_it = |sent: &&Sent| sent.data == late.data.as_str();
            let sent = sent.iter().find(is_it).ok_or("an unknown message")?;
            match late.position {
                Some(position) => self.model.publish(position, &sent.data, sent.retention)?,
                None => self.model.publish_live(&sent.data),
            }
            if let Some(key) = sent.key {
                self.model.keys.insert(key, late.position);
            }
        }
        Ok(())
    }

    /// Waits until Redis has nobody to serve but this model's own two connections: what was sent over others was executed.
    async fn until_alone(&mut self) -> Result<(), Broken> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut info = redis::cmd("INFO");
            let info: String = info
                .arg("clients")
                .query_async(&mut self.admin)
                .await
                .unwrap();
            if info.contains("connected_clients:2\r") {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "somebody stays connected: {info}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The script is run twice with one id, as it is when its first answer is lost.
    async fn repeat_unanswered(&mut self, data: usize, retention: Retention) -> Result<(), Broken> {
        let id = random_id();
        let mut first = None;
        for repetition in ["", "1", "1"] {
            let answer = publish_once(&self.store, data, id, repetition, retention).await;
            if let Err(CommandError::Unknown(_)) = answer {
                let sent = Sent {
                    data: data.to_string(),
                    key: None,
                    retention,
                };
                return self.take_late(&[sent]).await;
            }
            let answer = answer.map_err(|error| error.to_string())?;
            let Value::Array(parts) = &answer else {
                return Err(format!("answered {answer:?}"));
            };
            let position = position(&parts[0], &parts[1], &parts[2]).ok_or("no position")?;
            let Some(first) = first else {
                self.model.publish(position, &data.to_string(), retention)?;
                first = Some(position);
                continue;
            };
            ensure!(position == first, "answered {position:?} after {first:?}");
        }
        Ok(())
    }

    async fn publish_live(
        &mut self,
        sent: Publication,
        key: Option<&'static str>,
    ) -> Result<(), Broken> {
        let Some(published) = self.try_publish(&sent, key, Retention::NONE).await? else {
            return Ok(());
        };
        ensure!(published.position.is_none(), "{published:?}");
        let is_known = key.is_some_and(|key| self.model.keys.contains_key(key));
        ensure!(published.is_duplicate == is_known, "{published:?}");
        if is_known {
            return Ok(());
        }
        if let Some(key) = key {
            self.model.keys.insert(key, None);
        }
        self.model.publish_live(sent.data.as_str());
        let life = self.life(self.store.keys().count(&channel())).await;
        ensure!((1..=600_000).contains(&life), "a count lives for {life} ms");
        Ok(())
    }

    async fn read(&mut self, range: HistoryRange, is_new: bool) -> Result<Position, Broken> {
        let retention = Retention::new(5, TTL);
        let read = history::read(&self.store, &channel(), range, retention).await;
        let read = read.map_err(told)?;
        let is_ahead = self.model.is_stream_ahead();
        match self.model.top {
            Some(top) if !is_ahead && !is_new => {
                ensure!(
                    read.top == top,
                    "the channel stands at {:?} instead of {top:?}",
                    read.top
                );
            }
            _ => {
                ensure!(
                    read.top == Position::start(read.top.epoch),
                    "a new epoch starts at {:?}",
                    read.top
                );
                self.model.begin(read.top)?;
            }
        }
        let expected = self.model.range(range);
        let entries = read.entries.iter().map(|entry| Kept {
            position: entry.position.unwrap(),
            previous: entry.previous.unwrap(),
            data: entry.data.as_str().to_owned(),
        });
        let entries: Vec<Kept> = entries.collect();
        ensure!(
            entries == expected,
            "{range:?} reads {entries:?} instead of {expected:?}"
        );
        Ok(read.top)
    }

    /// Redis restored where the channel stands from an older copy.
    async fn go_back(&mut self, rng: &mut Rng) {
        let earlier = &self.model.earlier;
        if earlier.is_empty() || self.model.top.is_none() {
            return;
        }
        let to = earlier[rng.usize(..earlier.len())];
        let (offset, tag) = (to.offset.to_string(), to.tag.to_string());
        let key = self.store.keys().position(&channel());
        let mut set = redis::cmd("HSET");
        set.arg(key).arg("s").arg(offset).arg("t").arg(tag);
        set.exec_async(&mut self.admin).await.unwrap();
        self.model.top = Some(to);
        // What is kept at the same place is another message's neighbour, and goes.
        if self
            .model
            .kept
            .back()
            .is_some_and(|newest| newest.position.offset <= to.offset)
        {
            self.model.kept.retain(|kept| kept.position == to);
            self.model.kept.clear();
            self.delete(self.store.keys().stream(&channel())).await;
        }
        self.model
            .earlier
            .retain(|position| position.offset < to.offset);
    }

    /// A master that became a replica refuses everything and nothing gets out.
    async fn refuse_all(&mut self, data: usize) -> Result<(), Broken> {
        self.redis
            .run(&["REPLICAOF", "127.0.0.1", "1"])
            .await
            .unwrap();
        let (kept, unkept, read) = (Retention::new(3, TTL), Retention::new(0, TTL), channel());
        // Gives up soon where nobody can succeed.
        let hasty = self.store.options().clone();
        let hasty = hasty.with_budget(Duration::from_millis(100));
        let hasty = ChannelStore::new(hasty, self.store.scripts().clone());
        let [one, two, three] = ["a", "b", "c"].map(|which| message(format!(r#""{data}{which}""#)));
        let answers = tokio::join!(
            publish::publish(&hasty, &one, kept),
            publish::publish(&hasty, &two, unkept),
            publish::publish(&hasty, &three, Retention::NONE),
            history::position(&hasty, &read, kept, None),
        );
        drop(hasty);
        self.redis.run(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        let answers = [
            answers.0,
            answers.1,
            answers.2,
            answers.3.map(|_| Published::new(None)),
        ];
        let is_late = |answer: &Result<_, _>| matches!(answer, Err(EngineError::Unknown { .. }));
        let late = answers.iter().any(is_late);
        for answer in answers {
            // On a busy machine the last attempt may be cut off; then nobody knows, except the subscriber.
            let is_refused = matches!(
                answer,
                Err(EngineError::Unavailable { .. } | EngineError::Unknown { .. })
            );
            ensure!(is_refused, "a replica answers {answer:?}");
        }
        if late {
            let sent = [(one, kept), (two, unkept), (three, Retention::NONE)];
            let sent = sent.map(|(message, retention)| Sent {
                data: message.data.as_str().to_owned(),
                key: None,
                retention,
            });
            self.take_late(&sent).await?;
        }
        Ok(())
    }

    async fn check_lives(&mut self, retention: Retention) -> Result<(), Broken> {
        let ttl = i64::try_from(retention.ttl.as_millis()).unwrap();
        let life = self.life(self.store.keys().position(&channel())).await;
        ensure!(life > ttl * 10, "a position lives for {life} ms");
        let life = self.life(self.store.keys().stream(&channel())).await;
        let is_right = if retention.size == 0 {
            life == -2
        } else {
            (1..=ttl).contains(&life)
        };
        ensure!(is_right, "a history lives for {life} ms");
        Ok(())
    }

    async fn life(&mut self, key: String) -> i64 {
        let mut life = redis::cmd("PTTL");
        life.arg(key).query_async(&mut self.admin).await.unwrap()
    }

    async fn delete(&mut self, key: String) {
        let mut delete = redis::cmd("DEL");
        delete.arg(key).exec_async(&mut self.admin).await.unwrap();
    }

    /// What has arrived, once all that was published before has.
    async fn fence(&mut self) -> Result<Vec<Vec<u8>>, Broken> {
        let fence = format!("fence {:x}", fastrand::u64(..));
        let mut publish = redis::cmd("PUBLISH");
        publish
            .arg(self.store.keys().channel(&channel()))
            .arg(&fence);
        publish.exec_async(&mut self.admin).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(arrived) = self.arrived_before(fence.as_bytes()) {
                return Ok(arrived);
            }
            ensure!(Instant::now() < deadline, "the fence does not arrive");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn arrived_before(&self, fence: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut arrived = self.arrived.lock().unwrap();
        arrived.pop_if(|last| last == fence)?;
        Some(arrived.clone())
    }

    /// Everything that subscribers were to get has arrived, in order, and nothing else.
    async fn settled(&mut self) -> Result<(), Broken> {
        let messages = self.fence().await?;
        ensure!(
            messages.len() == self.model.messages.len(),
            "{} messages arrived instead of {}",
            messages.len(),
            self.model.messages.len()
        );
        let mut number = 0;
        for (bytes, expected) in messages.iter().zip(&self.model.messages) {
            let message = envelope::decode_message(&channel(), bytes, 1 << 20);
            let message = message.map_err(|error| error.to_string())?;
            check_message(&message, expected, &mut number)?;
        }
        Ok(())
    }
}

/// Runs the script for channels with positions as the engine does, with an id of the caller's choice.
pub(super) async fn run_publish(
    store: &ChannelStore,
    data: usize,
    id: u64,
    repetition: &str,
    retention: Retention,
) -> Result<Value, Broken> {
    let published = publish_once(store, data, id, repetition, retention).await;
    published.map_err(|error| error.to_string())
}

async fn publish_once(
    store: &ChannelStore,
    data: usize,
    id: u64,
    repetition: &str,
    retention: Retention,
) -> Result<Value, CommandError> {
    let (keys, channel) = (store.keys(), channel());
    let names = [keys.position(&channel), keys.stream(&channel)];
    let (redis_channel, size) = (keys.channel(&channel), retention.size.to_string());
    let (epoch, id) = (publish::random_epoch().to_string(), format!("{id:x}"));
    let body = envelope::encode_body(&message(data));
    let ttl = retention.ttl.as_millis().to_string();
    let call = Call {
        attempted: "publishing",
        script: &store.scripts().publish,
        channel: &channel,
        keys: &names,
        args: &[
            b"PUBLISH",
            redis_channel.as_bytes(),
            epoch.as_bytes(),
            id.as_bytes(),
            &body,
            size.as_bytes(),
            ttl.as_bytes(),
            b"3000000",
            b"600000",
            repetition.as_bytes(),
            b"1",
        ],
        last_args: None,
    };
    store.commands().run(call).await
}

fn check_message(
    message: &PubSubMessage,
    expected: &Expected,
    number: &mut u64,
) -> Result<(), Broken> {
    let delivery = &message.delivery;
    match expected {
        Expected::Positioned(kept) => {
            let is_same = delivery.position == Some(kept.position)
                && delivery.previous == Some(kept.previous)
                && delivery.data.as_str() == kept.data;
            ensure!(is_same, "{delivery:?} arrived instead of {kept:?}");
        }
        Expected::Live {
            data,
            is_counted_anew,
        } => {
            ensure!(
                delivery.data.as_str() == data,
                "{delivery:?} arrived instead of {data}"
            );
            let count = message.count.ok_or("no count")?;
            let previous = if *is_counted_anew { 0 } else { *number };
            let is_next = count
                == Count {
                    term: Term::default(),
                    previous,
                    number: count.number,
                    id: count.id,
                }
                && count.number > *number
                && (*is_counted_anew || count.number == previous + 1);
            ensure!(is_next, "{count:?} after {number}");
            *number = count.number;
        }
    }
    Ok(())
}

impl Model {
    fn publish(
        &mut self,
        position: Position,
        data: &str,
        retention: Retention,
    ) -> Result<(), Broken> {
        ensure!(
            self.tags.insert(position.tag),
            "tag {} is used twice",
            position.tag
        );
        let is_ahead = self.is_stream_ahead() && retention.size > 0;
        let before = match self.top {
            Some(top) if !is_ahead => top,
            _ => {
                let start = Position::start(position.epoch);
                self.begin(start)?;
                start
            }
        };
        let expected = Position {
            epoch: before.epoch,
            offset: before.offset + 1,
            tag: position.tag,
        };
        ensure!(position == expected, "{position:?} follows {before:?}");
        let kept = Kept {
            position,
            previous: before.tag,
            data: data.to_owned(),
        };
        self.messages.push(Expected::Positioned(kept.clone()));
        self.earlier.push(before);
        self.top = Some(position);
        self.kept.push_back(kept);
        while self.kept.len() > retention.size as usize {
            self.kept.pop_front();
        }
        Ok(())
    }

    fn publish_live(&mut self, data: &str) {
        self.messages.push(Expected::Live {
            data: data.to_owned(),
            is_counted_anew: self.count.is_none(),
        });
        self.count = Some(0);
    }

    fn begin(&mut self, start: Position) -> Result<(), Broken> {
        ensure!(
            self.epochs.insert(start.epoch),
            "epoch {} begins twice",
            start.epoch
        );
        self.kept.clear();
        self.earlier.clear();
        self.top = Some(start);
        Ok(())
    }

    fn is_stream_ahead(&self) -> bool {
        let newest = self.kept.back().map(|kept| kept.position.offset);
        newest > self.top.map(|top| top.offset)
    }

    fn range(&self, range: HistoryRange) -> Vec<Kept> {
        let all = self.kept.iter().cloned();
        match range {
            HistoryRange::After { offset, limit } => all
                .filter(|kept| kept.position.offset > offset)
                .take(limit as usize)
                .collect(),
            HistoryRange::Last { limit } => all
                .skip(self.kept.len().saturating_sub(limit as usize))
                .collect(),
        }
    }
}

fn told(error: EngineError) -> Broken {
    format!("the engine says: {error}")
}

#[tokio::test]
async fn whatever_happens_to_a_channel_agrees_with_the_model() {
    let redis = RedisProcess::start(&[]).await;
    for seed in 0..25 {
        let outcome = run(&redis, &Scripts::default(), seed, 120).await;
        assert_eq!(outcome, Ok(()));
    }
}
