//! Which server owns what: one server, the master that the sentinels name, or the masters of a cluster.
//!
//! The layout is remembered until a caller finds it wrong ([`Topology::distrust`]); then it is looked up once for all callers.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "Sentinel fails over" and "such a partition is over".

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::ChannelName;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Notify, watch};
use tracing::info;

use super::cluster::{self, SlotMap, slot};
use super::connections::{Connections, Server};
use super::error::CommandError;
use super::options::{RedisOptions, Target};
use super::sentinel;

/// Which server owns what.
pub(crate) struct Topology {
    options: RedisOptions,
    connections: Arc<Connections>,
    known: Mutex<Known>,
    changes: watch::Sender<u64>,
    replacements: AtomicU64,
    /// Notified when a caller needs the layout looked up at once.
    pub(crate) lookup_requested: Notify,
}

/// Which master owns which slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One master owns everything.
    Single(Server),
    /// The masters of a cluster.
    Cluster(Arc<SlotMap>),
}

/// What the sentinels say of the master in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opinion {
    /// A majority names it.
    TheSame,
    /// They name another.
    Another,
    /// Too few answer.
    None,
}

#[derive(Default)]
struct Known {
    layout: Option<Layout>,
    /// Whether a caller found the layout wrong.
    is_distrusted: bool,
    /// Whether the sentinels name another master than that of the layout. Then no caller uses it while it is looked up: what the old
    /// master accepts is lost.
    is_replaced: bool,
    /// The highest `config-epoch` that sentinels have named a master with.
    epoch: u64,
    looking: Option<Looking>,
}

impl Known {
    fn before(&self) -> sentinel::Before {
        let used = match &self.layout {
            Some(Layout::Single(server)) => Some(server.clone()),
            _ => None,
        };
        sentinel::Before {
            epoch: self.epoch,
            used,
        }
    }
}

type Looking = Shared<BoxFuture<'static, Result<Layout, CommandError>>>;

impl Layout {
    /// The owner of a slot, if it has one.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Server> {
        match self {
            Self::Single(server) => Some(server),
            Self::Cluster(map) => map.owner(slot),
        }
    }

    /// The first of the tags `<purpose>:0`, `<purpose>:1` and so on whose slot a server owns.
    pub(crate) fn tag_at(&self, server: &Server, purpose: &str) -> Option<ChannelName> {
        let tags = (0..TAGS_TRIED).filter_map(|n| ChannelName::new(&format!("{purpose}:{n}")).ok());
        let mut fitting = tags.filter(|tag| self.owner(slot(tag.as_str())) == Some(server));
        fitting.next()
    }

    /// Whether one of the masters is not among these.
    pub(crate) fn has_other_masters_than(&self, masters: &[Server]) -> bool {
        self.masters().iter().any(|one| !masters.contains(one))
    }

    /// Every master, each once.
    pub(crate) fn masters(&self) -> Vec<Server> {
        match self {
            Self::Single(server) => vec![server.clone()],
            Self::Cluster(map) => map.masters().to_vec(),
        }
    }
}

impl Topology {
    /// Nothing is known yet.
    pub(crate) fn new(options: RedisOptions) -> Self {
        Self {
            connections: Arc::new(Connections::new(options.clone())),
            options,
            known: Mutex::new(Known::default()),
            changes: watch::channel(0).0,
            replacements: AtomicU64::new(0),
            lookup_requested: Notify::new(),
        }
    }

    /// How Redis is used.
    pub(super) fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// Whether channels are spread over servers, and pub/sub is sharded.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.options.target, Target::Cluster(_))
    }

    /// Whether sentinels name the master.
    pub(crate) fn has_sentinels(&self) -> bool {
        matches!(self.options.target, Target::Sentinel { .. })
    }

    /// The open connections.
    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// How often a master was replaced.
    pub(crate) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Relaxed)
    }

    /// Changes whenever the owners may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The server that owns a channel, with all its keys and its messages.
    pub(crate) async fn owner(
        self: &Arc<Self>,
        channel: &ChannelName,
    ) -> Result<Server, CommandError> {
        self.owner_of_slot(slot(channel.as_str())).await
    }

    /// The server that owns a slot.
    pub(crate) async fn owner_of_slot(self: &Arc<Self>, slot: u16) -> Result<Server, CommandError> {
        let layout = self.layout().await?;
        let Some(owner) = layout.owner(slot) else {
            self.distrust();
            let detail = format!("no server of the cluster serves slot {slot}");
            return Err(CommandError::NotExecuted(detail));
        };
        Ok(owner.clone())
    }

    /// The layout, looked up if it is not known or was found wrong.
    pub(crate) async fn layout(self: &Arc<Self>) -> Result<Layout, CommandError> {
        let looking = {
            let mut known = self.lock();
            let must_wait = known.is_replaced && known.looking.is_some();
            if let (Some(layout), false) = (&known.layout, known.is_distrusted || must_wait) {
                return Ok(layout.clone());
            }
            // A look-up that is over and still here: all callers that waited for it have given up.
            if known
                .looking
                .as_ref()
                .is_some_and(|looking| looking.peek().is_some())
            {
                known.looking = None;
            }
            let look_up = || Arc::clone(self).look_up().boxed().shared();
            known.looking.get_or_insert_with(look_up).clone()
        };
        looking.await
    }

    /// The layout as far as it is known, right or wrong.
    pub(crate) fn known_layout(&self) -> Option<Layout> {
        self.lock().layout.clone()
    }

    /// The owner of a slot as far as it is known, right or wrong.
    pub(crate) fn known_owner(&self, slot: u16) -> Option<Server> {
        let known = self.lock();
        known.layout.as_ref()?.owner(slot).cloned()
    }

    /// Whether the layout was looked up since a caller last found it wrong.
    pub(crate) fn is_trusted(&self) -> bool {
        let known = self.lock();
        known.layout.is_some() && !known.is_distrusted && known.looking.is_none()
    }

    /// Notes that the layout was found wrong: the next caller looks it up.
    pub(crate) fn distrust(&self) {
        self.lock().is_distrusted = true;
    }

    /// Distrusts the layout and has it looked up at once: masters may have changed.
    pub(crate) fn request_lookup(&self) {
        self.distrust();
        self.lookup_requested.notify_one();
    }

    /// Follows a `MOVED` redirection. The rest of the layout stays until a caller finds it wrong.
    pub(crate) fn moved(&self, slot: u16, owner: Server) {
        let mut known = self.lock();
        if let Some(Layout::Cluster(map)) = &mut known.layout {
            Arc::make_mut(map).assign(slot, owner);
        }
        drop(known);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Asks the sentinels whether the master in use is still the one they name. If not, it is distrusted.
    pub(crate) async fn ask_sentinels(&self) -> Opinion {
        let Target::Sentinel { sentinels, master } = &self.options.target else {
            return Opinion::None;
        };
        let before = self.lock().before();
        let epoch = before.epoch;
        let named = sentinel::named(&self.options, sentinels, master, before).await;
        // Sentinels that do not reply, or name no master, are no reason to leave one that accepts commands.
        let Ok((named, is_agreed)) = named else {
            return Opinion::None;
        };
        let mut known = self.lock();
        // Or else a look-up has overtaken this.
        if known.epoch != epoch {
            return Opinion::None;
        }
        known.epoch = named.epoch;
        let named = Layout::Single(named.server);
        let is_another = known.layout.as_ref().is_some_and(|used| *used != named);
        known.is_distrusted |= is_another;
        known.is_replaced = is_another;
        match (is_another, is_agreed) {
            (true, _) => Opinion::Another,
            (false, true) => Opinion::TheSame,
            (false, false) => Opinion::None,
        }
    }

    async fn look_up(self: Arc<Self>) -> Result<Layout, CommandError> {
        let (before, named_before) = {
            let mut known = self.lock();
            // A caller that finds it wrong from now on means the layout that is being looked up.
            known.is_distrusted = false;
            (known.layout.clone(), known.before())
        };
        let found = match &self.options.target {
            Target::Single(address) => Ok(Layout::Single(Server::new(address))),
            Target::Sentinel { sentinels, master } => {
                let (connections, options) = (&self.connections, &self.options);
                sentinel::master(connections, options, sentinels, master, named_before)
                    .await
                    .map(|named| {
                        self.lock().epoch = named.epoch;
                        Layout::Single(named.server)
                    })
            }
            Target::Cluster(seeds) => {
                let known = before.as_ref().map(Layout::masters).unwrap_or_default();
                let seeds = seeds.iter().map(Server::new);
                let map = cluster::read_map(&self.connections, known, seeds).await;
                map.map(|map| Layout::Cluster(Arc::new(map)))
            }
        };
        let mut known = self.lock();
        known.looking = None;
        match found {
            Ok(layout) => {
                known.layout = Some(layout.clone());
                known.is_replaced = false;
                drop(known);
                if before.as_ref() == Some(&layout) {
                    // The servers of a cluster that were asked for its map are not all masters.
                    self.connections.retain(&layout.masters());
                } else {
                    self.adopt(before.as_ref(), &layout);
                }
                Ok(layout)
            }
            Err(error) => {
                known.is_distrusted = true;
                Err(error)
            }
        }
    }

    fn adopt(&self, before: Option<&Layout>, layout: &Layout) {
        let masters = layout.masters();
        if before.is_some_and(|before| before.has_other_masters_than(&masters)) {
            self.replacements.fetch_add(1, Ordering::Relaxed);
        }
        self.connections.retain(&masters);
        info!(?masters, "Redis masters");
        self.changes.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 100,000: even a master with one slot of 16,384 owns one of so many tags.
const TAGS_TRIED: u32 = 100_000;
