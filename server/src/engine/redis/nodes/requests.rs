//! Questions to all nodes and their answers.
//!
//! Live nodes are those whose lease in Redis has not run out, by Redis's clock. A node takes its lease only once it listens, so
//! whoever is on the list gets what is asked. List and channels share one slot.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::ChannelName;
use redis::Value;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::format::{Listed, OtherFormats};
use super::unconfirmed::AffectedChannels;
use crate::clock::Instant;
use crate::engine::redis::channel::keys;
use crate::engine::redis::connection::backoff::Backoff;
use crate::engine::redis::connection::commands::{Call, Commands};
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::feed::pubsub::PubSubConnection;
use crate::engine::redis::flow::Shared;
use crate::engine::{Arrival, Deliver, EngineError, NodeReplySender};

/// What this node has to do with questions.
pub(crate) struct NodeRequests {
    commands: Commands,
    incarnation: u64,
    tasks: TaskTracker,
    /// `nodes`: it decides the slot of the list and of the channels.
    tag: ChannelName,
    requests_name: String,
    replies_name: String,
    listening: Mutex<Listening>,
    changed: Notify,
    waiting: Mutex<HashMap<u64, mpsc::Sender<(u64, Bytes)>>>,
    replying: Arc<Semaphore>,
    on_evict_request: OnEvictRequest,
    deadline: Duration,
    lease: Duration,
}

/// Has this node look whose time is up in a channel.
pub(crate) type OnEvictRequest = Arc<dyn Fn(&ChannelName) + Send + Sync>;

/// Whether others ask this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has connections, and a place on the list of those that live.
    Node,
    /// It only publishes and asks: nobody waits for its answers, however it ends.
    Publisher,
}

/// The subscriptions of both channels.
#[derive(Debug, Default)]
struct Listening {
    pubsub: Option<u64>,
    request: Option<u64>,
    asked: bool,
    replies: bool,
    backoff: Backoff,
}

impl NodeRequests {
    /// Nobody listens yet.
    pub(crate) fn new(
        commands: Commands,
        role: Role,
        incarnation: u64,
        tasks: TaskTracker,
        tag: ChannelName,
        on_evict_request: OnEvictRequest,
    ) -> Self {
        let keys = commands.keys();
        let flow = commands.options().flow;
        Self {
            requests_name: keys.requests(),
            replies_name: keys.replies(incarnation),
            incarnation,
            tasks,
            tag,
            listening: Mutex::default(),
            changed: Notify::new(),
            waiting: Mutex::default(),
            replying: Arc::new(Semaphore::new(REPLYING_MAX)),
            on_evict_request,
            deadline: flow.ask_deadline,
            lease: match role {
                Role::Node => flow.lease_interval * 3,
                Role::Publisher => Duration::ZERO,
            },
            commands,
        }
    }

    /// The slot of the list and of the channels.
    pub(crate) fn slot(&self) -> u16 {
        keys::slot(self.tag.as_str())
    }

    /// The channels that have to be subscribed on the pub/sub connection that owns their slot, if they are not.
    pub(crate) fn missing(
        &self,
        pubsub: &PubSubConnection,
        request: u64,
        now: Instant,
    ) -> Vec<String> {
        let mut listening = lock(&self.listening);
        let is_same = listening.pubsub == Some(pubsub.number);
        if is_same && (listening.request.is_some() || listening.stands())
            || listening.backoff.pausing_until(now).is_some()
        {
            return Vec::new();
        }
        *listening = Listening {
            pubsub: Some(pubsub.number),
            request: Some(request),
            backoff: std::mem::take(&mut listening.backoff),
            ..Listening::default()
        };
        vec![self.requests_name.clone(), self.replies_name.clone()]
    }

    /// When a subscription that failed may be asked for again.
    pub(crate) fn pausing_until(&self, now: Instant) -> Option<Instant> {
        lock(&self.listening).backoff.pausing_until(now)
    }

    /// Redis confirms a subscription that is not one of a channel.
    pub(crate) fn subscribed(&self, pubsub: u64, name: &[u8]) {
        self.change(pubsub, name, true);
    }

    /// Redis has ended one; answers whether it concerned this node's listening.
    pub(crate) fn unsubscribed(&self, pubsub: u64, name: &[u8]) -> bool {
        self.change(pubsub, name, false)
    }

    /// A request for subscriptions is over: what it has not brought by now has failed.
    pub(crate) fn settled(&self, request: u64, now: Instant) {
        let mut listening = lock(&self.listening);
        if listening.request == Some(request) {
            listening.request = None;
            if listening.stands() {
                listening.backoff.succeed();
            } else {
                let longest = self.commands.options().command_deadline;
                listening.backoff.fail(now, longest);
            }
        }
    }

    /// A pub/sub connection is gone.
    pub(crate) fn lost(&self, pubsub: u64) {
        let mut listening = lock(&self.listening);
        if listening.pubsub == Some(pubsub) {
            *listening = Listening::default();
        }
    }

    /// Resolves when this node listens. Cancel safe.
    pub(crate) async fn listening(&self) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.listening).stands() {
                return;
            }
            changed.await;
        }
    }

    /// A message came in that is not one of a channel. Answers where messages may be lost, if another node says that.
    pub(crate) fn take(
        self: &Arc<Self>,
        deliver: &Deliver,
        name: &[u8],
        payload: &[u8],
    ) -> Option<AffectedChannels> {
        if name == self.requests_name.as_bytes() {
            return self.take_request(deliver, payload);
        }
        if name == self.replies_name.as_bytes()
            && let Some((id, rest)) = take_number(payload)
            && let Some((from, body)) = take_number(rest)
            && let Some(asker) = lock(&self.waiting).get(&id)
        {
            if body.len() > REPLY_BYTES_MAX {
                let what = "an answer of another node is too long and does not count";
                self.commands.warn_unreadable(&self.tag, &what);
                return None;
            }
            // A full queue means that nobody waits any more, or that somebody answers without end.
            let _ = asker.try_send((from, Bytes::copy_from_slice(body)));
        }
        None
    }

    fn take_request(
        self: &Arc<Self>,
        deliver: &Deliver,
        payload: &[u8],
    ) -> Option<AffectedChannels> {
        let (id, rest) = take_number(payload)?;
        let (from, body) = take_number(rest)?;
        if from == self.incarnation {
            return None;
        }
        if body.len() > REQUEST_BYTES_MAX {
            let what = "a question of another node is too long and is not answered";
            self.commands.warn_unreadable(&self.tag, &what);
            return None;
        }
        match id {
            EVICT => {
                let channel = std::str::from_utf8(body).map(ChannelName::new);
                if let Ok(Ok(channel)) = channel {
                    (self.on_evict_request)(&channel);
                }
                None
            }
            POSSIBLE_LOSS => std::str::from_utf8(body).ok().map(AffectedChannels::read),
            _ => {
                self.answer(deliver, id, from, body);
                None
            }
        }
    }

    fn answer(self: &Arc<Self>, deliver: &Deliver, id: u64, from: u64, body: &[u8]) {
        let Ok(permit) = Arc::clone(&self.replying).try_acquire_owned() else {
            warn!("too many requests of other nodes at a time, one is not answered");
            return;
        };
        let (reply, answered) = NodeReplySender::channel();
        deliver(Arrival::NodeRequest {
            body: Bytes::copy_from_slice(body),
            reply,
        });
        let requests = Arc::clone(self);
        self.tasks.spawn(async move {
            let _permit = permit;
            if let Ok(Ok(body)) = tokio::time::timeout(requests.deadline, answered).await {
                let name = requests.commands.keys().replies(from);
                let message = message(id, requests.incarnation, &body);
                if let Err(error) = requests.say(&name, &message).await {
                    debug!(%error, "a question of another node was not answered");
                }
            }
        });
    }

    /// Asks every other live node.
    pub(crate) async fn request(&self, body: &[u8]) -> Result<Vec<Bytes>, EngineError> {
        let id = fastrand::u64(POSSIBLE_LOSS + 1..);
        let (answer, mut replies) = mpsc::channel(REPLIES_MAX);
        lock(&self.waiting).insert(id, answer);
        let _waiting = Waiting { requests: self, id };
        let deadline = Instant::now() + self.deadline;
        let message = message(id, self.incarnation, body);
        let nodes = self.say(&self.requests_name, &message).await?;
        let nodes = nodes.into_iter().map(|node| node.incarnation);
        // Nodes of another format never answer.
        let mut silent: HashSet<u64> = nodes.collect();
        silent.remove(&self.incarnation);
        let asked = silent.len();
        let mut bodies = Vec::with_capacity(asked);
        while !silent.is_empty()
            && let Ok(Some((from, body))) = tokio::time::timeout_at(deadline, replies.recv()).await
        {
            if silent.remove(&from) {
                bodies.push(body);
            }
        }
        if silent.is_empty() {
            return Ok(bodies);
        }
        Err(EngineError::Incomplete {
            answered: bodies.len(),
            asked,
        })
    }

    /// Has every other live node look whose time is up in a channel. None of them answers.
    pub(crate) fn request_eviction(self: &Arc<Self>, channel: &ChannelName) {
        let message = message(EVICT, self.incarnation, channel.as_str().as_bytes());
        let requests = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(error) = requests.say(&requests.requests_name, &message).await {
                debug!(%error, "no node was asked to evict expired members");
            }
        });
    }

    /// Tells every other live node where messages may be lost. None of them answers.
    pub(crate) async fn announce_possible_loss(
        &self,
        channels: &AffectedChannels,
    ) -> Result<(), EngineError> {
        for word in channels.to_chunks() {
            let message = message(POSSIBLE_LOSS, self.incarnation, word.as_bytes());
            self.say(&self.requests_name, &message).await?;
        }
        Ok(())
    }

    /// Says something to nodes; answers which nodes live.
    async fn say(&self, name: &str, message: &[u8]) -> Result<Vec<Listed>, EngineError> {
        self.run(self.lease, name, message)
            .await
            .map_err(|error| error.into_engine_error("asking other nodes", 0))
    }

    async fn run(
        &self,
        lease: Duration,
        name: &str,
        message: &[u8],
    ) -> Result<Vec<Listed>, CommandError> {
        let keys = [self.commands.keys().nodes()];
        let format = self.commands.options().format.to_string();
        let node = format!("{:x}", self.incarnation);
        let lease = lease.as_millis().to_string();
        let command = self.commands.publish_command().as_bytes();
        let call = Call {
            attempted: "asking other nodes",
            script: &self.commands.scripts().node,
            channel: &self.tag,
            keys: &keys,
            args: &[
                format.as_bytes(),
                node.as_bytes(),
                lease.as_bytes(),
                command,
                name.as_bytes(),
                message,
            ],
        };
        let Value::Array(nodes) = self.commands.run(call).await? else {
            return Ok(Vec::new());
        };
        let listed = |node: &Value| Listed::parse(crate::engine::redis::text(node)?);
        Ok(nodes.iter().filter_map(listed).collect())
    }

    fn change(&self, pubsub: u64, name: &[u8], stands: bool) -> bool {
        let mut listening = lock(&self.listening);
        if listening.pubsub != Some(pubsub) {
            return false;
        }
        let is_asked = name == self.requests_name.as_bytes();
        let is_answers = name == self.replies_name.as_bytes();
        if is_asked {
            listening.asked = stands;
        } else if is_answers {
            listening.replies = stands;
        }
        drop(listening);
        self.changed.notify_waiters();
        is_asked || is_answers
    }
}

impl Listening {
    fn stands(&self) -> bool {
        self.asked && self.replies
    }
}

/// Somebody waits for answers.
struct Waiting<'a> {
    requests: &'a NodeRequests,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.requests.waiting).remove(&self.id);
    }
}

/// Keeps this node on the list of those that live, until it is told to stop; then takes it off.
pub(crate) async fn keep_lease(shared: Arc<Shared>, stop: CancellationToken) {
    let requests = &shared.requests;
    let mut turns = tokio::time::interval(shared.flow.lease_interval);
    loop {
        let turn = async {
            turns.tick().await;
            requests.listening().await;
            match requests.run(requests.lease, "", b"").await {
                Err(error) => debug!(%error, "the lease of this node was not renewed"),
                Ok(listed) => {
                    let others = OtherFormats::among(&listed, requests.commands.options().format);
                    let is_alone = others.is_none();
                    shared.formats.note(others, Instant::now());
                    if is_alone {
                        shared.leased.notify_one();
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = turn => {}
        }
    }
    let leaving = requests.run(Duration::ZERO, "", b"");
    let _ = tokio::time::timeout(LEAVING_DEADLINE, leaving).await;
}

/// `id`, who says it, and the body.
fn message(id: u64, from: u64, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&from.to_be_bytes());
    message.extend_from_slice(body);
    message
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 0: stands where a question has its number, and asks for no answer.
const EVICT: u64 = 0;

/// 1: likewise.
const POSSIBLE_LOSS: u64 = 1;

/// 256: questions of other nodes that are being answered at a time.
const REPLYING_MAX: usize = 256;

/// 64 KiB: a question has two names at most, and a word about losses some 32 KiB of them.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// 8 MiB: 20,000 names, each of them as long as it may be.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// 1,024: answers that wait; more nodes than one Redis carries.
const REPLIES_MAX: usize = 1_024;

/// 1 s: a node that cannot say goodbye is missed when its lease runs out.
const LEAVING_DEADLINE: Duration = Duration::from_secs(1);
