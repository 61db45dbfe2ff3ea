//! What the connections of one server share. The builder wires it; nothing in here decides anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanfare_protocol::ChannelName;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::origin::OriginGate;
use crate::auth::{Authorizer, ChannelTokens};
use crate::budget::Budgets;
use crate::engine::Engine;
use crate::hub::Hub;
use crate::publish::Publisher;
use crate::refusal_log::RefusalLog;
use crate::session::Terms;
use crate::session::reads::Reads;
use crate::sessions::Sessions;

pub(crate) struct Services {
    pub(crate) terms: Arc<Terms>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) engine: Engine,
    pub(crate) publisher: Publisher,
    /// What clients may still publish on each channel.
    pub(crate) channel_bytes: Budgets<ChannelName>,
    /// What large answers may cost.
    pub(crate) reads: Reads,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) tokens: Arc<ChannelTokens>,
    pub(crate) origins: Arc<OriginGate>,
    /// Which refusals and failures of sessions are in the log.
    pub(crate) refusals: RefusalLog,
    pub(crate) allows_anonymous: bool,
    /// The sessions, and what they still have to do after their sockets are gone.
    pub(crate) connections: TaskTracker,
    /// Every other task of the server.
    pub(crate) tasks: TaskTracker,
    /// Whether anything has ever asked for the readiness: then there may be a load balancer that needs time to notice the end.
    pub(crate) was_asked_for_readiness: AtomicBool,
    /// Whether the server was told to end; it is not ready for connections since then.
    pub(crate) draining: AtomicBool,
    /// Cancelled when no new connection is taken any more.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when the last connection was told to go.
    pub(crate) told: CancellationToken,
    /// Cancelled when the owners of the hub may end: no session is left.
    pub(crate) stopped: CancellationToken,
    /// Cancelled when the engine is closed: nobody asks any more.
    pub(crate) closed: CancellationToken,
}

impl Services {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins the end; answers whether this call did it.
    pub(crate) fn begin_drain(&self) -> bool {
        !self.draining.swap(true, Ordering::Relaxed)
    }
}
