//! Requests to all live nodes and their replies, over two pub/sub channels: one for requests, and one for the replies to each node.
//!
//! A node is live until its lease in Redis runs out, by the clock of Redis. It takes the lease only once it listens, so every node
//! on the list receives what is sent. The list and the channels share one slot.
//!
//! Promise: docs/guarantees.md, *Questions and orders to the cluster*.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::{ChannelName, NameError};
use redis::Value;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::failover::AffectedChannels;
use super::format::{FORMAT, Formats, Listed, OtherFormats};
use crate::clock::Instant;
use crate::engine::redis::channel::keys::NODES;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::error::Backoff;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::text;
use crate::engine::{Arrival, Deliver, EngineError, NodeReplySender};

/// This node's side of requests: its place on the list of live nodes, what it sends, and what it replies.
pub(crate) struct NodeRequests {
    store: ChannelStore,
    role: Role,
    /// Tells this run of this node from all others.
    pub(crate) incarnation: u64,
    tasks: TaskTracker,
    /// `nodes`: it decides the slot of the list and of the channels.
    tag: ChannelName,
    requests_name: String,
    replies_name: String,
    listening: Mutex<Listening>,
    changed: Notify,
    /// The requests of this node that wait for replies, by id.
    waiting: Mutex<HashMap<u64, mpsc::Sender<(u64, Bytes)>>>,
    replying: Arc<Semaphore>,
    on_evict_request: OnEvictRequest,
    /// Whether nodes of other formats are live.
    pub(crate) formats: Formats,
    /// Notified whenever the lease of this node was renewed.
    pub(crate) leased: Notify,
}

/// Has this node evict the expired members of a channel.
pub(crate) type OnEvictRequest = Arc<dyn Fn(&ChannelName) + Send + Sync>;

/// Whether other nodes send requests to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has connections, and a place on the list of live nodes.
    Node,
    /// It only publishes and sends requests: no other node waits for its replies.
    Publisher,
}

/// The subscriptions to both channels.
#[derive(Debug, Default)]
struct Listening {
    /// The pub/sub connection that they were asked for on.
    pubsub: Option<u64>,
    /// Which call asks for them.
    call: Option<u64>,
    has_requests: bool,
    has_replies: bool,
    backoff: Backoff,
}

impl NodeRequests {
    /// A node that does not listen yet.
    pub(crate) fn new(
        store: ChannelStore,
        role: Role,
        tasks: TaskTracker,
        on_evict_request: OnEvictRequest,
    ) -> Result<Self, NameError> {
        let incarnation = fastrand::u64(1..);
        Ok(Self {
            requests_name: store.keys().requests(),
            replies_name: store.keys().replies(incarnation),
            store,
            role,
            incarnation,
            tasks,
            tag: ChannelName::new(NODES)?,
            listening: Mutex::default(),
            changed: Notify::new(),
            waiting: Mutex::default(),
            replying: Arc::new(Semaphore::new(REPLYING_MAX)),
            on_evict_request,
            formats: Formats::default(),
            leased: Notify::new(),
        })
    }

    /// The slot of the list and of the channels.
    pub(crate) fn slot(&self) -> u16 {
        slot(self.tag.as_str())
    }

    /// Refuses what a publisher attempts beside nodes of another format. Its readiness is not watched, and none of those nodes
    /// would have started if it were on the list.
    pub(crate) fn check_format(&self, attempted: &'static str) -> Result<(), EngineError> {
        match self.role {
            Role::Node => Ok(()),
            Role::Publisher => self.formats.refusal(attempted).map_or(Ok(()), Err),
        }
    }

    /// The channels to subscribe on the pub/sub connection that owns their slot; none if that has been asked for.
    pub(crate) fn missing(&self, pubsub: u64, call: u64, now: Instant) -> Vec<String> {
        let mut listening = lock(&self.listening);
        let is_same = listening.pubsub == Some(pubsub);
        if is_same && (listening.call.is_some() || listening.is_confirmed())
            || listening.backoff.pausing_until(now).is_some()
        {
            return Vec::new();
        }
        *listening = Listening {
            pubsub: Some(pubsub),
            call: Some(call),
            backoff: std::mem::take(&mut listening.backoff),
            ..Listening::default()
        };
        vec![self.requests_name.clone(), self.replies_name.clone()]
    }

    /// When a subscription that failed may be asked for again.
    pub(crate) fn pausing_until(&self, now: Instant) -> Option<Instant> {
        lock(&self.listening).backoff.pausing_until(now)
    }

    /// Redis confirms a subscription that is not one to a channel of an application.
    pub(crate) fn subscribed(&self, pubsub: u64, name: &[u8]) {
        self.set_confirmed(pubsub, name, true);
    }

    /// Redis has ended such a subscription; returns whether this node needs it.
    pub(crate) fn unsubscribed(&self, pubsub: u64, name: &[u8]) -> bool {
        self.set_confirmed(pubsub, name, false)
    }

    /// A call for subscriptions is over: what was not confirmed by now has failed.
    pub(crate) fn settled(&self, call: u64, now: Instant) {
        let mut listening = lock(&self.listening);
        if listening.call == Some(call) {
            listening.call = None;
            if listening.is_confirmed() {
                listening.backoff.succeed();
            } else {
                let longest = self.store.options().command_deadline;
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

    fn set_confirmed(&self, pubsub: u64, name: &[u8], is_confirmed: bool) -> bool {
        let mut listening = lock(&self.listening);
        if listening.pubsub != Some(pubsub) {
            return false;
        }
        let is_requests = name == self.requests_name.as_bytes();
        let is_replies = name == self.replies_name.as_bytes();
        if is_requests {
            listening.has_requests = is_confirmed;
        } else if is_replies {
            listening.has_replies = is_confirmed;
        }
        drop(listening);
        self.changed.notify_waiters();
        is_requests || is_replies
    }

    /// Resolves when this node listens. Cancel safe.
    async fn listening(&self) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.listening).is_confirmed() {
                return;
            }
            changed.await;
        }
    }

    /// Takes a message that is not one of a channel of an application. Returns where messages may be lost, if another node
    /// announces that.
    pub(crate) fn take(
        self: &Arc<Self>,
        deliver: &Deliver,
        name: &[u8],
        payload: &[u8],
    ) -> Option<AffectedChannels> {
        let is_request = name == self.requests_name.as_bytes();
        if !is_request && name != self.replies_name.as_bytes() {
            return None;
        }
        let (id, rest) = take_number(payload)?;
        let (from, body) = take_number(rest)?;
        let bytes_max = if is_request {
            REQUEST_BYTES_MAX
        } else {
            REPLY_BYTES_MAX
        };
        if body.len() > bytes_max {
            let what = "a request or a reply of another node is too long and does not count";
            self.store.warn_unreadable(&self.tag, &what);
            return None;
        }
        if is_request {
            return self.take_request(deliver, id, from, body);
        }
        if let Some(requester) = lock(&self.waiting).get(&id) {
            // A full queue means that the requester has given up, or that a node replies without end.
            let _ = requester.try_send((from, Bytes::copy_from_slice(body)));
        }
        None
    }

    fn take_request(
        self: &Arc<Self>,
        deliver: &Deliver,
        id: u64,
        from: u64,
        body: &[u8],
    ) -> Option<AffectedChannels> {
        if from == self.incarnation {
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
                self.reply(deliver, id, from, body);
                None
            }
        }
    }

    fn reply(self: &Arc<Self>, deliver: &Deliver, id: u64, from: u64, body: &[u8]) {
        let Ok(permit) = Arc::clone(&self.replying).try_acquire_owned() else {
            warn!("too many requests of other nodes at a time, one gets no reply");
            return;
        };
        let (reply, replied) = NodeReplySender::channel();
        deliver(Arrival::NodeRequest {
            body: Bytes::copy_from_slice(body),
            reply,
        });
        let requests = Arc::clone(self);
        let deadline = self.store.options().flow.ask_deadline;
        self.tasks.spawn(async move {
            let _permit = permit;
            if let Ok(Ok(body)) = tokio::time::timeout(deadline, replied).await {
                let name = requests.store.keys().replies(from);
                if let Err(error) = requests.send(&name, id, &body).await {
                    debug!(%error, "a request of another node got no reply");
                }
            }
        });
    }

    /// Sends a request to every other live node and returns the replies.
    ///
    /// # Errors
    /// When a live node did not reply in time.
    pub(crate) async fn request(&self, body: &[u8]) -> Result<Vec<Bytes>, EngineError> {
        let id = fastrand::u64(POSSIBLE_LOSS + 1..);
        let (reply, mut replies) = mpsc::channel(REPLIES_MAX);
        lock(&self.waiting).insert(id, reply);
        let _waiting = Waiting { requests: self, id };
        let deadline = Instant::now() + self.store.options().flow.ask_deadline;
        let nodes = self.send(&self.requests_name, id, body).await?;
        // Nodes of another format never reply.
        let mut silent: HashSet<u64> = nodes.into_iter().map(|node| node.incarnation).collect();
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

    /// Has every other live node evict the expired members of a channel. None of them replies.
    pub(crate) fn request_eviction(self: &Arc<Self>, channel: &ChannelName) {
        let (requests, channel) = (Arc::clone(self), channel.clone());
        self.tasks.spawn(async move {
            let body = channel.as_str().as_bytes();
            let sent = requests.send(&requests.requests_name, EVICT, body).await;
            if let Err(error) = sent {
                debug!(%error, "no node was asked to evict expired members");
            }
        });
    }

    /// Tells every other live node where messages may be lost. None of them replies.
    pub(super) async fn announce_possible_loss(
        &self,
        channels: &AffectedChannels,
    ) -> Result<(), EngineError> {
        for chunk in channels.to_chunks() {
            let name = &self.requests_name;
            self.send(name, POSSIBLE_LOSS, chunk.as_bytes()).await?;
        }
        Ok(())
    }

    /// Publishes a request or a reply; returns the live nodes.
    async fn send(&self, name: &str, id: u64, body: &[u8]) -> Result<Vec<Listed>, EngineError> {
        let message = message(id, self.incarnation, body);
        let sent = self.run_script(self.lease(), name, &message).await;
        sent.map_err(|error| error.into_engine_error("requesting from other nodes", 0))
    }

    fn lease(&self) -> Duration {
        match self.role {
            Role::Node => self.store.options().flow.lease_interval * 3,
            Role::Publisher => Duration::ZERO,
        }
    }

    /// Renews the lease of this node (or ends it, where it is zero), publishes unless `name` is empty, and returns the live nodes.
    async fn run_script(
        &self,
        lease: Duration,
        name: &str,
        message: &[u8],
    ) -> Result<Vec<Listed>, CommandError> {
        let keys = [self.store.keys().nodes()];
        let format = self.format().to_string();
        let node = format!("{:x}", self.incarnation);
        let lease = lease.as_millis().to_string();
        let command = self.store.commands().publish_command().as_bytes();
        let call = Call {
            attempted: "requesting from other nodes",
            script: &self.store.scripts().node,
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
            last_args: None,
        };
        let Value::Array(nodes) = self.store.commands().run(call).await? else {
            return Ok(Vec::new());
        };
        let listed = |node: &Value| Listed::parse(text(node)?);
        Ok(nodes.iter().filter_map(listed).collect())
    }

    fn format(&self) -> u32 {
        self.store.options().format.unwrap_or(FORMAT)
    }
}

impl Listening {
    fn is_confirmed(&self) -> bool {
        self.has_requests && self.has_replies
    }
}

/// A request that waits for replies until this is dropped.
struct Waiting<'a> {
    requests: &'a NodeRequests,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.requests.waiting).remove(&self.id);
    }
}

/// Keeps this node on the list of live nodes until it is stopped; then takes it off.
pub(crate) async fn keep_lease(requests: Arc<NodeRequests>, stop: CancellationToken) {
    let mut turns = tokio::time::interval(requests.store.options().flow.lease_interval);
    loop {
        let turn = async {
            turns.tick().await;
            requests.listening().await;
            match requests.run_script(requests.lease(), "", b"").await {
                Err(error) => debug!(%error, "the lease of this node was not renewed"),
                Ok(listed) => {
                    let others = OtherFormats::among(&listed, requests.format());
                    let is_alone = others.is_none();
                    requests.formats.note(others, Instant::now());
                    if is_alone {
                        requests.leased.notify_one();
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
    let leaving = requests.run_script(Duration::ZERO, "", b"");
    let _ = tokio::time::timeout(LEAVING_DEADLINE, leaving).await;
}

/// The id of the request, the sender, and the body.
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

/// 0: in place of a request's id; the nodes evict expired members of a channel and do not reply.
const EVICT: u64 = 0;

/// 1: likewise; messages may be lost on some channels.
const POSSIBLE_LOSS: u64 = 1;

/// 256: requests of other nodes that are being replied to at a time.
const REPLYING_MAX: usize = 256;

/// 64 KiB: a request has two names at most, and an announcement of losses some 32 KiB of them.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// 8 MiB: 20,000 names, each of them as long as it may be.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// 1,024: replies that wait; more nodes than one Redis carries.
const REPLIES_MAX: usize = 1_024;

/// 1 s: a node that cannot say goodbye is missed when its lease runs out.
const LEAVING_DEADLINE: Duration = Duration::from_secs(1);
