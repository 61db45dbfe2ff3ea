//! Open connections to Redis servers: one for commands per server, shared by all callers, and a few exclusive ones for callers that
//! wait for replicas or the disk.
//!
//! A connection that was lost, or that left a command without a reply, serves no further command; an exclusive one not even when
//! its caller has stopped waiting for the reply. The next caller opens another, and callers that come while it opens wait for the
//! same attempt.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::CommandError;
use super::options::{Login, RedisOptions, Target, address};

/// A Redis server, by where it is reached: `host:port`, or the path of a socket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Server(Arc<str>);

/// An open connection for commands. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) server: Server,
    pub(crate) commands: MultiplexedConnection,
    /// Rises with every connection that this process opens.
    pub(crate) number: u64,
    is_lost: Arc<AtomicBool>,
}

/// The open connections.
pub(crate) struct Connections {
    options: RedisOptions,
    servers: Mutex<HashMap<Server, PerServer>>,
    opened: AtomicU64,
}

#[derive(Default)]
struct PerServer {
    shared: Option<Opening>,
    whole: Arc<Whole>,
}

type Opening = Shared<BoxFuture<'static, Result<Connection, CommandError>>>;

/// The exclusive connections to one server.
struct Whole {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// An exclusive connection of one caller. It is closed when this is dropped, unless it was given back.
pub(crate) struct WholeConnection {
    connection: Connection,
    home: Arc<Whole>,
    _permit: OwnedSemaphorePermit,
}

impl Server {
    /// The server at an address.
    pub(crate) fn new(address: &ConnectionAddr) -> Self {
        Self(match address {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Self::name(host, *port)
            }
            other => other.to_string().into(),
        })
    }

    /// The server at a host and port.
    pub(crate) fn at(host: &str, port: u16) -> Self {
        Self(Self::name(host, port))
    }

    fn name(host: &str, port: u16) -> Arc<str> {
        if host.contains(':') {
            format!("[{host}]:{port}").into()
        } else {
            format!("{host}:{port}").into()
        }
    }

    /// The host, where there is one.
    pub(crate) fn host(&self) -> Option<&str> {
        super::options::host_and_port(&self.0, 0).map(|(host, _)| host)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Connections {
    /// No connection yet.
    pub(crate) fn new(options: RedisOptions) -> Self {
        Self {
            options,
            servers: Mutex::new(HashMap::new()),
            opened: AtomicU64::new(0),
        }
    }

    /// The connection for commands to a server.
    pub(crate) async fn shared(
        self: &Arc<Self>,
        server: &Server,
    ) -> Result<Connection, CommandError> {
        let opening = {
            let mut servers = self.lock();
            let shared = &mut servers.entry(server.clone()).or_default().shared;
            // An attempt that failed, or a connection that was lost meanwhile.
            if let Some(Some(opened)) = shared.as_ref().map(Shared::peek)
                && opened.as_ref().map_or(true, Connection::is_lost)
            {
                *shared = None;
            }
            let deadline = Some(self.options.command_deadline);
            let opening = || {
                let opening = Arc::clone(self).open(server.clone(), deadline);
                opening.boxed().shared()
            };
            shared.get_or_insert_with(opening).clone()
        };
        opening.await
    }

    /// An exclusive connection to a server. Waits until one of the few is free.
    pub(crate) async fn whole(
        self: &Arc<Self>,
        server: &Server,
    ) -> Result<WholeConnection, CommandError> {
        let home = Arc::clone(&self.lock().entry(server.clone()).or_default().whole);
        let permit = Arc::clone(&home.permits).acquire_owned().await;
        let permit = permit.map_err(|_| CommandError::not_executed("the engine is closed"))?;
        let idle = loop {
            match lock(&home.idle).pop() {
                Some(connection) if connection.is_lost() => {}
                other => break other,
            }
        };
        let connection = match idle {
            Some(connection) => connection,
            // Its caller has a deadline of its own, which may be longer than that of a command.
            None => Arc::clone(self).open(server.clone(), None).await?,
        };
        Ok(WholeConnection {
            connection,
            home,
            _permit: permit,
        })
    }

    /// Lets no further command use a connection; those under way still get their replies.
    pub(crate) fn retire(&self, connection: &Connection) {
        connection.is_lost.store(true, Ordering::Relaxed);
        let mut servers = self.lock();
        if let Some(per_server) = servers.get_mut(&connection.server)
            && let Some(Some(Ok(shared))) = per_server.shared.as_ref().map(Shared::peek)
            && shared.number == connection.number
        {
            per_server.shared = None;
        }
    }

    /// Drops all connections but those to these servers.
    pub(crate) fn retain(&self, servers: &[Server]) {
        self.lock().retain(|server, _| servers.contains(server));
    }

    /// Opens a connection whose pushes (messages, confirmations, its own end) go to `pushes`.
    pub(crate) async fn open_with(
        &self,
        server: &Server,
        pushes: impl AsyncPushSender,
        response_deadline: Option<Duration>,
    ) -> Result<MultiplexedConnection, CommandError> {
        let client = Client::open(self.info(server)?);
        let client = client.map_err(|error| CommandError::while_opening(server, &error))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_deadline))
            .set_response_timeout(response_deadline)
            .set_pipeline_buffer_size(PIPELINE_COMMANDS)
            .set_write_backpressure_boundary(WRITE_BYTES)
            .set_push_sender(pushes);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let opened = tokio::time::timeout(self.options.connect_deadline, opening).await;
        match opened {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(CommandError::while_opening(server, &error)),
            Err(_) => Err(CommandError::not_executed(format!(
                "{server} did not accept a connection within {:?}",
                self.options.connect_deadline
            ))),
        }
    }

    async fn open(
        self: Arc<Self>,
        server: Server,
        response_deadline: Option<Duration>,
    ) -> Result<Connection, CommandError> {
        let is_lost = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_lost);
        let pushes = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                ended.store(true, Ordering::Relaxed);
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let commands = self.open_with(&server, pushes, response_deadline).await?;
        Ok(Connection {
            server,
            commands,
            is_lost,
            number: self.opened.fetch_add(1, Ordering::Relaxed),
        })
    }

    fn info(&self, server: &Server) -> Result<ConnectionInfo, CommandError> {
        let address = match &self.options.target {
            Target::Single(address) => address.clone(),
            Target::Sentinel { .. } | Target::Cluster(_) => {
                let unknown = || CommandError::not_executed(format!("{server} is no address"));
                let (host, port) =
                    super::options::host_and_port(&server.0, 0).ok_or_else(unknown)?;
                address(host.to_owned(), port, self.options.has_tls)
            }
        };
        connection_info(address, &self.options.login, self.options.database)
            .map_err(|error| CommandError::while_opening(server, &error))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, PerServer>> {
        lock(&self.servers)
    }
}

impl Connection {
    /// Whether it has ended, or left a command without a reply.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

impl Default for Whole {
    fn default() -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(WHOLE_CONNECTIONS_MAX)),
        }
    }
}

impl WholeConnection {
    /// The connection.
    pub(crate) fn get(&self) -> &Connection {
        &self.connection
    }

    /// Leaves it to the next caller: every command has its reply.
    pub(crate) fn give_back(self) {
        if !self.connection.is_lost() {
            lock(&self.home.idle).push(self.connection);
        }
    }
}

/// How a connection to an address introduces itself.
pub(crate) fn connection_info(
    address: ConnectionAddr,
    login: &Login,
    database: i64,
) -> redis::RedisResult<ConnectionInfo> {
    if matches!(address, ConnectionAddr::TcpTls { .. }) {
        install_cryptography();
    }
    let mut redis = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("fanfare", env!("CARGO_PKG_VERSION"))
        .set_db(database);
    if let Some(username) = &login.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &login.password {
        redis = redis.set_password(password);
    }
    let info = address.into_connection_info()?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

/// Chooses the cryptography of TLS, unless the application has.
fn install_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only when another thread was quicker.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 16: a caller that waits for replicas or the disk holds one for the time of a round trip.
const WHOLE_CONNECTIONS_MAX: usize = 16;

/// 1,024: so many commands wait to be written; further callers wait for their turn.
const PIPELINE_COMMANDS: usize = 1_024;

/// 64 KiB: what is written at once under load.
const WRITE_BYTES: usize = 64 << 10;
