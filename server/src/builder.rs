//! Builds a server: the only place that names concrete engines.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::guarded::Guarded;
use crate::auth::origin::OriginGate;
use crate::auth::{Authorizer, ChannelTokens, Origins, PublicOnly, WeakSecret};
use crate::budget::Budgets;
use crate::cluster::{Node, NodeRequests};
use crate::config::Limits;
use crate::delivery::PublishLevel;
use crate::engine::{Arrival, Broker, Deliver, Engine, EngineError};
use crate::health;
use crate::hub::{Hub, Notice, OnInterest};
use crate::publish::Publisher;
use crate::refusal_log::RefusalLog;
use crate::rules::ChannelRules;
use crate::server::Server;
use crate::services::Services;
use crate::session::Terms;
use crate::session::reads::Reads;
use crate::sessions::Sessions;
use crate::transport::accept::AcceptLimits;

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The signing secret is too short.
    #[error("the signing secret is too short")]
    Secret(#[source] WeakSecret),
    /// The path does not begin with a slash, or has more than letters, digits, `-`, `_`, `.` and `/`.
    #[error("the path {path:?} must look like \"/ws\"")]
    Path {
        /// The path.
        path: String,
    },
    /// Two routes of the server would have the same path.
    #[error(
        "the path {path:?} is that of the WebSocket or its auth endpoint, and of the health checks"
    )]
    PathTaken {
        /// The path.
        path: String,
    },
    /// The engine did not start.
    #[error("the engine did not start")]
    Engine(#[source] EngineError),
}

/// Collects what a server needs; everything has a default.
#[must_use]
pub struct ServerBuilder {
    path: String,
    health_path: String,
    authorizer: Arc<dyn Authorizer>,
    allows_anonymous: bool,
    origins: Origins,
    rules: ChannelRules,
    limits: Limits,
    accept_limits: AcceptLimits,
    secrets: Vec<Vec<u8>>,
    engine: Option<Engine>,
    shards: usize,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            path: "/ws".to_owned(),
            health_path: "/health".to_owned(),
            authorizer: Arc::new(PublicOnly),
            allows_anonymous: true,
            origins: Origins::same_host(),
            rules: ChannelRules::new(),
            limits: Limits::default(),
            accept_limits: AcceptLimits::default(),
            secrets: Vec::new(),
            engine: None,
            shards: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl ServerBuilder {
    /// Where the WebSocket is served; `/ws` by default. The auth endpoint is below it: `/ws/auth`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Where the server says whether it is well; `/health` by default: `/health/live` and `/health/ready` below it.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.health_path = path.into();
        self
    }

    /// Who may connect, subscribe and publish. By default everybody is anonymous and only public channels are open.
    ///
    /// With an authorizer, anonymous connections are refused unless [`ServerBuilder::allow_anonymous`] says otherwise.
    pub fn authorizer(mut self, authorizer: impl Authorizer + 'static) -> Self {
        self.authorizer = Arc::new(authorizer);
        self.allows_anonymous = false;
        self
    }

    /// Lets connections without credentials in, next to those with. Call it after [`ServerBuilder::authorizer`].
    pub fn allow_anonymous(mut self) -> Self {
        self.allows_anonymous = true;
        self
    }

    /// Which websites may connect. By default, where cookies count, only the server's own host.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// What channels keep and who may publish; by default everything is live only.
    pub fn channel_rules(mut self, rules: ChannelRules) -> Self {
        self.rules = rules;
        self
    }

    /// What a connection may ask.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What [`Server::serve`] takes from the network.
    pub fn accept_limits(mut self, limits: AcceptLimits) -> Self {
        self.accept_limits = limits;
        self
    }

    /// The secret that signs channel tokens, at least 32 bytes; all nodes need the same one. Without it every process has a
    /// random one of its own, which is right for a single node.
    ///
    /// Called again, it adds an older secret whose tokens still count: the first one signs.
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Where messages and members are kept; in memory by default.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Starts the server's tasks on the current tokio runtime.
    ///
    /// # Errors
    /// When the secret or the path is no good, or the engine does not start.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn build(self) -> Result<Server, BuildError> {
        let path = checked_path(self.path)?;
        let health_path = checked_health_path(self.health_path, &path)?;
        let tokens = Arc::new(channel_tokens(&self.secrets)?);
        let engine = self.engine.unwrap_or_else(Engine::memory);
        let rules = Arc::new(self.rules);
        warn_of_idle_rules(&rules);
        let terms = Arc::new(Terms {
            limits: self.limits,
            rules: Arc::clone(&rules),
            idempotency_window: engine.broker.idempotency_window(),
        });
        let tasks = TaskTracker::new();
        let stopped = CancellationToken::new();
        let closed = CancellationToken::new();
        let on_interest = on_interest(Arc::clone(&engine.broker), Arc::clone(&rules));
        let hub = Hub::start(self.shards, &on_interest, &tasks, &stopped);
        let sessions = Arc::new(Sessions::default());
        let node = Arc::new(Node {
            hub: Arc::clone(&hub),
            sessions: Arc::clone(&sessions),
            stopped: stopped.clone(),
        });
        let (requests, serving) = NodeRequests::served_by(Arc::clone(&node), closed.clone());
        let deliver = deliver_to(Arc::clone(&hub), requests);
        let payload_bytes_max = terms.limits.payload_bytes_max;
        engine.broker.bound_payloads(payload_bytes_max);
        if let Err(error) = engine.broker.start(deliver).await {
            stopped.cancel();
            return Err(BuildError::Engine(error));
        }
        tasks.spawn(serving);
        let publisher = Publisher {
            engine: engine.clone(),
            rules,
            node: Some(node),
            payload_bytes_max: terms.limits.payload_bytes_max,
            deadline: terms.limits.engine_deadline,
            level: PublishLevel::default(),
            calls: TaskTracker::new(),
            doubts: Arc::default(),
        };
        let authorizer: Arc<dyn Authorizer> =
            Arc::new(Guarded::new(self.authorizer, &terms.limits));
        let reads = Reads::new(&terms.limits);
        let origins = Arc::new(OriginGate::new(self.origins, Arc::clone(&authorizer)));
        let services = Arc::new(Services {
            terms,
            hub,
            engine,
            publisher,
            channel_bytes: Budgets::default(),
            reads,
            sessions,
            authorizer,
            tokens,
            origins,
            refusals: RefusalLog::new(),
            allows_anonymous: self.allows_anonymous,
            connections: TaskTracker::new(),
            tasks,
            was_asked_for_readiness: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            told: CancellationToken::new(),
            stopped,
            closed,
        });
        Ok(Server::new(services, path, health_path, self.accept_limits))
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Which channels are wanted goes from the hub to the engine.
fn on_interest(broker: Arc<dyn Broker>, rules: Arc<ChannelRules>) -> OnInterest {
    Arc::new(move |channel, wanted| broker.set_interest(channel, rules.retention(channel), wanted))
}

/// What arrives goes from the engine to the hub, and what is asked to whoever answers.
fn deliver_to(hub: Arc<Hub>, requests: NodeRequests) -> Deliver {
    Arc::new(move |arrival| match arrival {
        Arrival::Delivery(delivery) => hub.enqueue(delivery),
        Arrival::Gap { channel, reason } => hub.notify(channel, Notice::Gap { reason }),
        Arrival::Reset {
            channel,
            position,
            reason,
        } => hub.notify(channel, Notice::Reset { position, reason }),
        Arrival::NodeRequest { body, reply } => requests.take(body, reply),
    })
}

fn warn_of_idle_rules(rules: &ChannelRules) {
    for prefix in rules.idle_presence_updates() {
        tracing::warn!(
            prefix,
            "a channel rule lets members change their info, which has no effect: its channels have no presence"
        );
    }
}

fn checked_path(path: String) -> Result<String, BuildError> {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'.');
    let is_good = path.starts_with('/')
        && path.bytes().all(is_plain)
        && (path.len() == 1 || !path.ends_with('/'));
    if is_good {
        Ok(path)
    } else {
        Err(BuildError::Path { path })
    }
}

/// Checks where the health checks are, beside the WebSocket's path.
fn checked_health_path(health_path: String, path: &str) -> Result<String, BuildError> {
    let health_path = checked_path(health_path)?;
    match health::paths(&health_path)
        .into_iter()
        .find(|check| check == path)
    {
        Some(path) => Err(BuildError::PathTaken { path }),
        None => Ok(health_path),
    }
}

fn channel_tokens(secrets: &[Vec<u8>]) -> Result<ChannelTokens, BuildError> {
    let Some((first, older)) = secrets.split_first() else {
        return Ok(ChannelTokens::random());
    };
    let mut tokens = ChannelTokens::new(first).map_err(BuildError::Secret)?;
    for secret in older {
        tokens = tokens
            .with_previous_secret(secret)
            .map_err(BuildError::Secret)?;
    }
    Ok(tokens)
}
