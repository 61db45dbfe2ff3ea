//! How Redis is reached: one URL says everything, and what it does not say has a default.

use std::fmt;
use std::time::Duration;

use redis::ConnectionAddr;

use super::milliseconds;
use crate::budget::Rate;
use crate::delivery::Retention;

mod url;

pub use self::url::RedisUrlError;

/// Which Redis, and how it is used.
///
/// One URL chooses between a single server, Sentinel and Cluster:
///
/// | URL | reaches |
/// |---|---|
/// | `redis://[user:password@]host[:6379][/db]` | one server |
/// | `redis+sentinel://[user:password@]host[:26379][,host…]/master[/db]` | the master that the sentinels name |
/// | `redis+cluster://[user:password@]host[:6379][,host…]` | a cluster; the hosts are where its map is read first |
/// | `redis+unix:///path[?db=0]` | one server on this machine |
///
/// `rediss` instead of `redis` means TLS, checked against the system's root certificates (with Sentinel to the sentinels as
/// well). `redis-sentinel://` and `redis-cluster://` are the same with the dash that other clients write, `valkey` is another
/// word for `redis`. Characters of the credentials that a URL reserves are written as `%` and two digits.
///
/// Options behind `?`: `prefix`, and for Sentinel `sentinel_username` and `sentinel_password`; without them the sentinels are
/// asked without credentials.
///
/// ```
/// use fanfare_server::engine::redis::RedisOptions;
///
/// let options: RedisOptions = "redis+sentinel://app:secret@10.0.0.1,10.0.0.2/mymaster/0?prefix=shop:".parse()?;
/// assert!(!format!("{options:?}").contains("secret"));
/// # Ok::<(), fanfare_server::engine::redis::RedisUrlError>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    pub(crate) target: Target,
    pub(crate) login: Login,
    pub(crate) sentinel_login: Login,
    pub(crate) has_tls: bool,
    pub(crate) database: i64,
    /// The format that this node claims to speak, where a test has it claim another one.
    pub(crate) format: Option<u32>,
    /// What every key and channel in Redis begins with; `fanfare:`. Clusters of nodes that share a Redis need different ones.
    pub prefix: String,
    /// How long a connection may take to open; 2 s.
    pub connect_deadline: Duration,
    /// How long one command may take; 2 s.
    pub command_deadline: Duration,
    /// For how long a call repeats what Redis could not do; 4.5 s, so that its verdict comes before the server's own deadline.
    pub budget: Duration,
    /// How long an idempotency key is remembered; 10 minutes.
    pub key_ttl: Duration,
    /// How long the position of a channel that is not used is remembered, at least; 1 day.
    pub position_ttl_min: Duration,
    /// How many channels without a message each server makes Redis remember per second, for about two minutes after their last
    /// subscriber has left; 1,000. Who comes back to one beyond is told `recovered: false`.
    pub new_channels_per_second: u32,
    /// How many of them at once; 50,000, some 25 MB of Redis.
    pub new_channels_burst: u32,
    /// How long a lost connection still counts as present; 5 s.
    pub presence_grace: Duration,
    /// How long a connection still counts as present after its node fell silent; 15 s. Nodes say three times within it that
    /// their connections are still here. It is at least twice the grace.
    pub presence_lease: Duration,
    /// The most members that a snapshot lists; 1,000. Its count is exact all the same.
    pub members_max: usize,
    /// Intervals and bounds of what a node receives.
    pub flow: FlowOptions,
}

/// Why a text cannot be the prefix of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyPrefixError {
    /// Braces decide where a cluster keeps a key.
    #[error("a key prefix must not hold braces")]
    Brace,
    /// Longer than 100 bytes.
    #[error("a key prefix has at most {PREFIX_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// One server.
    Single(ConnectionAddr),
    /// The master of this name, as the sentinels say.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<ConnectionAddr>,
        /// What they call the master.
        master: String,
    },
    /// A cluster, whose map is read from one of these first.
    Cluster(Vec<ConnectionAddr>),
}

/// A user name and a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

impl RedisOptions {
    fn new(target: Target) -> Self {
        Self {
            target,
            login: Login::default(),
            sentinel_login: Login::default(),
            has_tls: false,
            database: 0,
            format: None,
            prefix: "fanfare:".to_owned(),
            connect_deadline: Duration::from_secs(2),
            command_deadline: Duration::from_secs(2),
            budget: Duration::from_millis(4_500),
            key_ttl: Duration::from_mins(10),
            position_ttl_min: Duration::from_hours(24),
            new_channels_per_second: 1_000,
            new_channels_burst: 50_000,
            presence_grace: Duration::from_secs(5),
            presence_lease: Duration::from_secs(15),
            members_max: 1_000,
            flow: FlowOptions::default(),
        }
    }

    /// Sets what every key and channel in Redis begins with.
    ///
    /// # Errors
    /// When it holds a brace, which would change where a cluster keeps a key, or is longer than 100 bytes.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Result<Self, KeyPrefixError> {
        self.prefix = prefix.into();
        check_prefix(&self.prefix)?;
        Ok(self)
    }

    /// Sets the user name and the password, instead of those in the URL.
    #[must_use]
    pub fn with_credentials(
        mut self,
        username: Option<impl Into<String>>,
        password: impl Into<String>,
    ) -> Self {
        self.login = Login {
            username: username.map(Into::into),
            password: Some(password.into()),
        };
        self
    }

    /// Decides how long a connection may take to open, and one command.
    #[must_use]
    pub fn with_deadlines(mut self, connect: Duration, command: Duration) -> Self {
        self.connect_deadline = connect;
        self.command_deadline = command;
        self
    }

    /// Decides for how long a call repeats what Redis could not do.
    #[must_use]
    pub fn with_budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the intervals and bounds of what a node receives.
    #[must_use]
    pub fn with_flow(mut self, flow: FlowOptions) -> Self {
        self.flow = flow;
        self
    }

    /// Decides how long an idempotency key is remembered.
    #[must_use]
    pub fn with_key_ttl(mut self, ttl: Duration) -> Self {
        self.key_ttl = ttl;
        self
    }

    /// Bounds how many channels without a message each server makes Redis remember, per second and at once.
    #[must_use]
    pub fn with_new_channels(mut self, per_second: u32, burst: u32) -> Self {
        self.new_channels_per_second = per_second;
        self.new_channels_burst = burst;
        self
    }

    /// Decides how long a lost connection still counts as present.
    #[must_use]
    pub fn with_presence_grace(mut self, grace: Duration) -> Self {
        self.presence_grace = grace;
        self
    }

    /// Decides how long a connection still counts as present after its node fell silent.
    #[must_use]
    pub fn with_presence_lease(mut self, lease: Duration) -> Self {
        self.presence_lease = lease;
        self
    }
}

#[cfg(feature = "__contract")]
impl RedisOptions {
    /// Has the node say that it speaks another format: a node of another release, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_format(mut self, format: u32) -> Self {
        self.format = Some(format);
        self
    }
}

impl RedisOptions {
    /// How long a channel's position is remembered, in milliseconds.
    pub(crate) fn position_ttl(&self, retention: Retention) -> String {
        milliseconds(retention.position_life(self.position_ttl_min))
    }

    /// How fast Redis may be made to remember channels without a message.
    pub(crate) fn new_channels(&self) -> Rate {
        Rate {
            per_second: self.new_channels_per_second,
            burst: self.new_channels_burst,
        }
    }

    /// How long the position of a channel without a message is remembered, in milliseconds: until the nodes that have
    /// subscribers must have compared it with theirs several times.
    pub(crate) fn empty_position_ttl(&self) -> String {
        milliseconds(self.flow.sync_interval.saturating_mul(EMPTY_POSITION_SYNCS))
    }
}

/// 5: at the default interval about two minutes, in which four comparisons may fail.
const EMPTY_POSITION_SYNCS: u32 = 5;

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("target", &self.target)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// Checks a prefix.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), KeyPrefixError> {
    if prefix.contains(['{', '}']) {
        return Err(KeyPrefixError::Brace);
    }
    let bytes = prefix.len();
    if bytes > PREFIX_BYTES_MAX {
        return Err(KeyPrefixError::TooLong { bytes });
    }
    Ok(())
}

/// The address of a server, with or without TLS.
pub(crate) fn address(host: String, port: u16, has_tls: bool) -> ConnectionAddr {
    if has_tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// Splits `name:6379`, `10.0.0.1` or `[::1]:6379`.
pub(crate) fn host_and_port(text: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':')?)
            };
            (host, port)
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) {
        return None;
    }
    let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
    Some((host, port))
}

/// 100: half as long as a channel's name.
const PREFIX_BYTES_MAX: usize = 100;

/// Intervals and bounds of what a node receives from Redis.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FlowOptions {
    /// How long a channel stays subscribed after its last subscriber has left; 10 s.
    pub unsubscribe_delay: Duration,
    /// How often a channel's position is compared with Redis, give or take a fifth; 25 s.
    pub sync_interval: Duration,
    /// How long a message may take to arrive after Redis said that it exists; 1 s.
    pub sync_grace: Duration,
    /// How long a pub/sub connection may be silent before a probe is sent through it; 5 s. Two probes that do not come
    /// back within half of it each end the connection.
    pub probe_after: Duration,
    /// How long no message may come from a master before messages count as not flowing; 10 s.
    pub stalled_after: Duration,
    /// How often all sentinels are asked whether the master is still the same, give or take a fifth; 5 s.
    pub sentinel_interval: Duration,
    /// How many channels a second catch up with their histories at most; 200.
    pub catch_ups_per_second: u32,
    /// The most bytes of messages that wait between connections and the hub; 16 MiB. Beyond, messages are dropped and made good
    /// from the history.
    pub waiting_bytes_max: usize,
    /// The most bytes of recent messages that are remembered; 64 MiB.
    pub recent_bytes_max: usize,
    /// The same of one channel; 1 MiB.
    pub recent_channel_bytes_max: usize,
    /// How long another node may take to answer a question; 2 s.
    pub ask_deadline: Duration,
    /// How often a node says that it lives; 5 s. After three times as long without a word it counts as gone.
    pub lease_interval: Duration,
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self {
            unsubscribe_delay: Duration::from_secs(10),
            sync_interval: Duration::from_secs(25),
            sync_grace: Duration::from_secs(1),
            probe_after: Duration::from_secs(5),
            stalled_after: Duration::from_secs(10),
            sentinel_interval: Duration::from_secs(5),
            catch_ups_per_second: 200,
            waiting_bytes_max: 16 << 20,
            recent_bytes_max: 64 << 20,
            recent_channel_bytes_max: 1 << 20,
            ask_deadline: Duration::from_secs(2),
            lease_interval: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_no_braces_and_an_end() {
        assert_eq!(check_prefix("shop:"), Ok(()));
        assert_eq!(check_prefix(""), Ok(()));
        assert_eq!(check_prefix("a{b"), Err(KeyPrefixError::Brace));
        let bytes = 101;
        let long = "x".repeat(bytes);
        assert_eq!(check_prefix(&long), Err(KeyPrefixError::TooLong { bytes }));
    }
}
