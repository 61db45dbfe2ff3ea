//! The pub/sub connections that messages arrive on: one to every master.
//!
//! A connection to a whole cluster would be less work, but the client library's queues messages without a bound and restores its
//! subscriptions by itself, so that a loss goes unnoticed. Here nothing subscribes again by itself: a connection that is lost takes
//! its subscriptions along, and [`interest`](super::interest) compares what is wanted with what is subscribed.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a server's connection to Redis breaks".

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{PushInfo, Value};

use super::reader::{Handoff, Item};
use crate::clock::Instant;
use crate::engine::Health;
use crate::engine::redis::channel::keys::Keys;
use crate::engine::redis::connection::connections::{Connections, Server};
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::Layout;

/// A connection that messages arrive on.
#[derive(Debug)]
pub(crate) struct PubSubConnection {
    /// The master.
    pub(crate) server: Server,
    /// Unique for the life of the engine.
    pub(crate) number: u64,
    /// The channel that shows whether messages arrive.
    probe: Mutex<Probe>,
    handoff: Arc<Handoff>,
    is_sharded: bool,
    connection: Mutex<Option<MultiplexedConnection>>,
    is_lost: AtomicBool,
    born: Instant,
    /// Microseconds from `born` to the last message.
    heard_after: AtomicU64,
}

/// A channel in Redis that only one pub/sub connection listens to, on its own master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The part of its name in braces, which decides the slot.
    pub(crate) tag: ChannelName,
    /// Its name in Redis.
    pub(crate) name: String,
}

impl PubSubConnection {
    /// Opens a connection to a master. Everything that arrives on it goes into the hand-off, its end included.
    pub(crate) async fn open(
        connections: Arc<Connections>,
        handoff: Arc<Handoff>,
        server: Server,
        number: u64,
        probe: Probe,
        is_sharded: bool,
    ) -> Result<Arc<Self>, CommandError> {
        let pubsub = Arc::new(Self {
            server: server.clone(),
            number,
            probe: Mutex::new(probe),
            handoff: Arc::clone(&handoff),
            is_sharded,
            connection: Mutex::new(None),
            is_lost: AtomicBool::new(false),
            born: Instant::now(),
            heard_after: AtomicU64::new(0),
        });
        // The client's connection holds the closure, and `Self` holds that connection: only a weak reference lets both end.
        let weak = Arc::downgrade(&pubsub);
        let pushes = move |push: PushInfo| {
            if let Some(pubsub) = weak.upgrade() {
                handoff.push(&pubsub, push);
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let connection = connections.open_with(&server, pushes, None).await?;
        *lock(&pubsub.connection) = Some(connection);
        Ok(pubsub)
    }

    /// Asks for subscriptions. Each of them counts once its confirmation has arrived.
    ///
    /// # Errors
    /// When the connection failed, or Redis refused at least one of them: the first error.
    pub(crate) async fn subscribe(
        &self,
        names: &[String],
        deadline: Duration,
    ) -> Result<(), CommandError> {
        let command = if self.is_sharded {
            "SSUBSCRIBE"
        } else {
            "SUBSCRIBE"
        };
        self.send(command, names, deadline).await
    }

    /// Ends subscriptions, likewise.
    pub(crate) async fn unsubscribe(
        &self,
        names: &[String],
        deadline: Duration,
    ) -> Result<(), CommandError> {
        let command = if self.is_sharded {
            "SUNSUBSCRIBE"
        } else {
            "UNSUBSCRIBE"
        };
        self.send(command, names, deadline).await
    }

    /// One command per name: in a cluster each has a slot of its own, and each has a reply of its own.
    async fn send(
        &self,
        command: &str,
        names: &[String],
        deadline: Duration,
    ) -> Result<(), CommandError> {
        let Some(mut connection) = lock(&self.connection).clone() else {
            return Err(CommandError::not_executed("the connection is not open"));
        };
        let mut commands = redis::pipe();
        for name in names {
            commands.cmd(command).arg(name);
        }
        let sent = connection.req_packed_commands(&commands, 0, names.len());
        let replies = match tokio::time::timeout(deadline, sent).await {
            Ok(Ok(replies)) => replies,
            Ok(Err(error)) => return Err(CommandError::while_executing(&error)),
            Err(_) => {
                let detail = format!("{} did not answer within {deadline:?}", self.server);
                return Err(CommandError::Unknown(detail));
            }
        };
        for answer in replies {
            if let Value::ServerError(error) = answer {
                return Err(CommandError::while_executing(&error.into()));
            }
        }
        Ok(())
    }

    /// The channel that shows whether messages arrive.
    pub(crate) fn probe(&self) -> Probe {
        lock(&self.probe).clone()
    }

    /// Takes another channel for that.
    pub(crate) fn set_probe(&self, probe: Probe) {
        *lock(&self.probe) = probe;
    }

    /// Notes that a message came in.
    pub(crate) fn hear(&self, now: Instant) {
        let after = now.saturating_duration_since(self.born).as_micros();
        let after = u64::try_from(after).unwrap_or(u64::MAX).max(1);
        self.heard_after.fetch_max(after, Ordering::Relaxed);
    }

    /// When the last message came in, or else when the pub/sub connection was opened.
    pub(crate) fn heard_at(&self) -> Instant {
        self.born + Duration::from_micros(self.heard_after.load(Ordering::Relaxed))
    }

    /// Whether it is known to be gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Gives the pub/sub connection up; what is subscribed on it is lost.
    pub(crate) fn give_up(self: &Arc<Self>) {
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            self.handoff.hand_over(self, Item::Lost);
        }
        self.note_lost();
    }

    /// Notes that it is gone, and closes it.
    pub(crate) fn note_lost(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
        *lock(&self.connection) = None;
    }
}

/// The pub/sub connections of a node, by master.
pub(crate) struct PubSubConnections {
    masters: Mutex<BTreeMap<Server, MasterState>>,
    /// What went wrong last, at whichever server.
    trouble: Mutex<Option<String>>,
    keys: Keys,
    /// What the names of probes begin with: only this run of this node uses them.
    probe_tag: String,
    /// Where messages go.
    pub(crate) handoff: Arc<Handoff>,
}

/// A master and the pub/sub connection to it.
#[derive(Debug)]
struct MasterState {
    pubsub: Option<Arc<PubSubConnection>>,
    /// When the last message arrived from this master on earlier connections.
    heard_at: Instant,
    /// What went wrong last.
    trouble: Option<String>,
}

impl PubSubConnections {
    /// No master is known yet.
    pub(crate) fn new(keys: Keys, incarnation: u64, handoff: Arc<Handoff>) -> Self {
        Self {
            masters: Mutex::default(),
            trouble: Mutex::default(),
            keys,
            probe_tag: format!("probe:{incarnation:x}"),
            handoff,
        }
    }

    /// A probe for a pub/sub connection to a master.
    pub(crate) fn probe(&self, layout: &Layout, server: &Server, number: u64) -> Option<Probe> {
        let tag = layout.tag_at(server, &format!("{}:{number}", self.probe_tag))?;
        let name = self.keys.probe(&tag);
        Some(Probe { tag, name })
    }

    /// Sets the masters. Returns the pub/sub connections to servers that are none any more.
    pub(crate) fn retain(&self, masters: &[Server], now: Instant) -> Vec<Arc<PubSubConnection>> {
        let mut states = self.lock();
        let gone: Vec<Server> = states
            .keys()
            .filter(|server| !masters.contains(server))
            .cloned()
            .collect();
        let gone = gone.iter().filter_map(|server| states.remove(server));
        let gone: Vec<MasterState> = gone.collect();
        // A master that takes over from a silent one has not been heard either.
        let heard_at = gone.iter().map(MasterState::heard_at).min().unwrap_or(now);
        for master in masters {
            states.entry(master.clone()).or_insert_with(|| MasterState {
                pubsub: None,
                heard_at,
                trouble: None,
            });
        }
        gone.into_iter()
            .filter_map(|master| master.pubsub)
            .collect()
    }

    /// The masters without a pub/sub connection.
    pub(crate) fn missing(&self) -> Vec<Server> {
        let masters = self.lock();
        let missing = masters.iter().filter(|(_, master)| master.is_missing());
        missing.map(|(server, _)| server.clone()).collect()
    }

    /// Puts an open pub/sub connection into its place, if it still has one.
    pub(crate) fn put(&self, pubsub: &Arc<PubSubConnection>) -> bool {
        let mut masters = self.lock();
        let Some(master) = masters.get_mut(&pubsub.server) else {
            return false;
        };
        master.heard_at = master.heard_at();
        master.pubsub = Some(Arc::clone(pubsub));
        true
    }

    /// Notes why messages do not arrive.
    pub(crate) fn note_trouble(&self, trouble: String) {
        *lock(&self.trouble) = Some(trouble);
    }

    /// What went wrong last, as a sentence for the caller of the engine.
    pub(crate) fn last_trouble(&self) -> String {
        let trouble = lock(&self.trouble).clone();
        trouble.unwrap_or_else(|| "Redis does not confirm the subscription in time".to_owned())
    }

    /// Notes why a master has no pub/sub connection.
    pub(crate) fn note_trouble_at(&self, server: &Server, trouble: String) {
        self.note_trouble(trouble.clone());
        if let Some(master) = self.lock().get_mut(server) {
            master.trouble = Some(trouble);
        }
    }

    /// The open pub/sub connection to a master.
    pub(crate) fn to(&self, server: &Server) -> Option<Arc<PubSubConnection>> {
        let masters = self.lock();
        let pubsub = masters.get(server)?.pubsub.as_ref()?;
        (!pubsub.is_lost()).then(|| Arc::clone(pubsub))
    }

    /// All open pub/sub connections.
    pub(crate) fn open(&self) -> Vec<Arc<PubSubConnection>> {
        let masters = self.lock();
        let pubsubs = masters.values().filter_map(|master| master.pubsub.as_ref());
        pubsubs
            .filter(|pubsub| !pubsub.is_lost())
            .cloned()
            .collect()
    }

    /// Whether a message has arrived from every master lately, and there is a master.
    pub(crate) fn health(&self, now: Instant, stalled_after: Duration) -> Health {
        let masters = self.lock();
        let silent = masters.iter().min_by_key(|(_, master)| master.heard_at());
        match silent {
            Some((server, master))
                if now.saturating_duration_since(master.heard_at()) > stalled_after =>
            {
                let since = master.heard_at();
                let trouble = master.trouble.as_deref().filter(|_| master.is_missing());
                let reason = trouble.map_or_else(
                    || format!("no message comes from {server}"),
                    |trouble| format!("no pub/sub connection: {trouble}"),
                );
                Health::Stalled { since, reason }
            }
            None => Health::Stalled {
                since: now,
                reason: "no Redis master is known".to_owned(),
            },
            _ => Health::Flowing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Server, MasterState>> {
        lock(&self.masters)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MasterState {
    fn is_missing(&self) -> bool {
        self.pubsub.as_ref().is_none_or(|pubsub| pubsub.is_lost())
    }

    /// A pub/sub connection counts from its first message: that it could be opened shows nothing.
    fn heard_at(&self) -> Instant {
        match &self.pubsub {
            Some(pubsub) if pubsub.heard_after.load(Ordering::Relaxed) > 0 => pubsub.heard_at(),
            _ => self.heard_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pubsubs() -> PubSubConnections {
        PubSubConnections::new(Keys::new("p:"), 1, Arc::new(Handoff::new(1)))
    }

    #[test]
    fn without_any_master_nothing_flows() {
        let (pubsubs, now) = (pubsubs(), Instant::now());
        let after = Duration::from_secs(1);
        assert!(matches!(pubsubs.health(now, after), Health::Stalled { .. }));
        pubsubs.retain(&[Server::at("a", 1)], now);
        assert!(matches!(pubsubs.health(now, after), Health::Flowing));
        pubsubs.retain(&[], now);
        assert!(matches!(pubsubs.health(now, after), Health::Stalled { .. }));
    }
}
