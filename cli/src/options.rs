//! What the command line and the environment say. Nothing here has a default: what is not said may be in the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::token::TokenOptions;
use crate::{address, duration, size};

/// A realtime server: WebSocket channels with history, recovery and presence.
///
/// Every option can also be an environment variable or an entry of the configuration file. The command line counts before the
/// environment, the environment before the file, the file before the defaults.
#[derive(Parser)]
#[command(name = "fanfare", version)]
pub(crate) struct Options {
    /// What to do in place of serving.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// A TOML file with the same settings; its names are those of the options, with `_` for `-`.
    #[arg(long, value_name = "FILE", env = "FANFARE_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// The address to listen on, as `0.0.0.0:8000`, `localhost:8000`, or a port alone, which is then open to this machine only
    /// [default: 127.0.0.1:8000].
    #[arg(long, value_name = "ADDRESS", env = "FANFARE_LISTEN", value_parser = address::parse)]
    pub(crate) listen: Option<SocketAddr>,

    /// Where the WebSocket is served [default: /ws].
    #[arg(long, value_name = "PATH", env = "FANFARE_PATH")]
    pub(crate) path: Option<String>,

    /// Redis, which makes many servers one cluster; without it everything is in this process's memory.
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub(crate) redis_url: Option<String>,

    /// What the names of all keys in Redis begin with.
    #[arg(long, value_name = "TEXT", env = "FANFARE_REDIS_PREFIX")]
    pub(crate) redis_prefix: Option<String>,

    /// The secret that signs channel tokens, at least 32 bytes and the same on every server. Further ones, separated by commas,
    /// still count but do not sign. Better given by the environment: other users of this machine can read the command line.
    #[arg(
        long = "secret",
        value_name = "SECRET",
        env = "FANFARE_SECRET",
        hide_env_values = true,
        global = true,
        value_delimiter = ','
    )]
    pub(crate) secrets: Option<Vec<String>>,

    /// The shared secret of JSON Web Tokens signed with HS256, at least 32 bytes.
    #[arg(
        long,
        value_name = "SECRET",
        env = "FANFARE_JWT_SECRET",
        hide_env_values = true,
        global = true
    )]
    pub(crate) jwt_secret: Option<String>,

    /// A PEM file with the public key of JSON Web Tokens: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA.
    #[arg(long, value_name = "FILE", env = "FANFARE_JWT_KEY")]
    pub(crate) jwt_key: Option<PathBuf>,

    /// What `iss` of a JSON Web Token must be.
    #[arg(long, value_name = "TEXT", env = "FANFARE_JWT_ISSUER", global = true)]
    pub(crate) jwt_issuer: Option<String>,

    /// What `aud` of a JSON Web Token must name; one of several, separated by commas.
    #[arg(
        long,
        value_name = "TEXT",
        env = "FANFARE_JWT_AUDIENCE",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) jwt_audience: Option<Vec<String>>,

    /// Lets connections without credentials in [default: only where no key for tokens is given].
    #[arg(
        long,
        value_name = "BOOL",
        env = "FANFARE_ALLOW_ANONYMOUS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) allow_anonymous: Option<bool>,

    /// A website that may connect, such as https://example.org; several are separated by commas [default: any, as cookies never count here].
    #[arg(
        long = "origin",
        value_name = "ORIGIN",
        env = "FANFARE_ORIGIN",
        value_delimiter = ','
    )]
    pub(crate) origins: Option<Vec<String>>,

    /// What the channels of a prefix keep and allow, such as 'orders=history:100,ttl:5m,publish,rewind:50'. The first prefix
    /// that fits counts. May be given several times; white space separates rules too, also a line break.
    ///
    /// Words: history:N and ttl:DURATION (5m), rewind:N, publish (subscribed clients may), publish-rate:SIZE (what all clients of
    /// one server may publish on a channel per second; 256KiB), presence, presence:off, presence-update (members may change
    /// the info that others see of them, also info that was signed), open (every user may subscribe, without a channel token),
    /// slow:drop (who reads too slowly loses messages and is told, in place of being closed).
    #[arg(long = "rule", value_name = "RULE", env = "FANFARE_RULE")]
    pub(crate) rules: Option<Vec<String>>,

    /// The largest payload that a client may publish, such as 4KiB; at most 1MiB [default: 32KiB].
    #[arg(long, value_name = "SIZE", env = "FANFARE_CLIENT_PAYLOAD_MAX", value_parser = size::parse)]
    pub(crate) client_payload_max: Option<u32>,

    /// How much payload a connection may publish per second on average [default: 64KiB].
    #[arg(long, value_name = "SIZE", env = "FANFARE_CLIENT_PUBLISH_RATE", value_parser = size::parse)]
    pub(crate) client_publish_rate: Option<u32>,

    /// How much payload a connection may publish at once [default: 256KiB].
    #[arg(long, value_name = "SIZE", env = "FANFARE_CLIENT_PUBLISH_BURST", value_parser = size::parse)]
    pub(crate) client_publish_burst: Option<u32>,

    /// How long a connection may read nothing of what waits for it before it is closed [default: 30s].
    #[arg(long, value_name = "DURATION", env = "FANFARE_WRITE_DEADLINE", value_parser = duration::parse)]
    pub(crate) write_deadline: Option<Duration>,

    /// The kernel's send buffer of a connection (SO_SNDBUF); Linux takes twice as much [default: 256KiB].
    #[arg(long, value_name = "SIZE", env = "FANFARE_SEND_BUFFER", value_parser = size::parse)]
    pub(crate) send_buffer: Option<u32>,

    /// How much a user's connections may read per second on average: answers to history, presence and subscribe. Without a user,
    /// a public address counts [default: 4MiB].
    #[arg(long, value_name = "SIZE", env = "FANFARE_USER_READ_RATE", value_parser = size::parse)]
    pub(crate) user_read_rate: Option<u32>,

    /// How much they may read at once [default: 64MiB].
    #[arg(long, value_name = "SIZE", env = "FANFARE_USER_READ_BURST", value_parser = size::parse)]
    pub(crate) user_read_burst: Option<u32>,

    /// How long a server that was told to stop waits for the load balancer to notice that it is not ready [default: 5s, or 0s
    /// where /health/ready was never asked].
    #[arg(long, value_name = "DURATION", env = "FANFARE_DRAIN_DELAY", value_parser = duration::parse)]
    pub(crate) drain_delay: Option<Duration>,

    /// How many connections per second a server that stops sends elsewhere, one after the other [default: 5000].
    #[arg(long, value_name = "NUMBER", env = "FANFARE_DRAIN_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) drain_per_second: Option<u32>,

    /// The longest that sending them elsewhere may take, however many there are [default: 25s].
    #[arg(long, value_name = "DURATION", env = "FANFARE_DRAIN_SPREAD", value_parser = duration::parse)]
    pub(crate) drain_spread: Option<Duration>,

    /// How log lines look [default: text].
    #[arg(long, value_name = "FORMAT", env = "FANFARE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// Which log lines are written, such as warn or fanfare_server=debug [default: info].
    #[arg(long, value_name = "FILTER", env = "FANFARE_LOG")]
    pub(crate) log: Option<String>,
}

/// What the program does in place of serving.
#[derive(Subcommand)]
pub(crate) enum Command {
    Token(TokenOptions),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
