//! The command line and its environment variables. No option has a default here: an option that is absent may be in the
//! configuration file.

#![allow(
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    reason = "the comments are the help, which clap prints as it is"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::token::TokenOptions;
use crate::{address, duration, size};

/// A realtime server: WebSocket channels with history, recovery and presence.
#[derive(Parser)]
#[command(name = "fanfare", version, after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands of `fanfare`.
#[derive(Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeOptions>),
    Token(Box<TokenOptions>),
}

/// Runs the standalone server until SIGTERM or SIGINT.
///
/// The server writes `listening on <address>` to standard output once it accepts connections, and logs to standard error.
/// The first signal drains its connections (see Shutdown), a second one ends it at once.
///
/// Every option is also an environment variable and an entry of the configuration file. The command line takes precedence
/// over the environment, the environment over the file, and the file over the default. Lists are replaced, not joined.
#[derive(Args)]
#[command(after_help = SERVE_SEE_ALSO, after_long_help = SERVE_EXAMPLES)]
pub(crate) struct ServeOptions {
    /// Address to listen on: 0.0.0.0:8000, localhost:8000, or a port of this machine only [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS", env = "FANFARE_LISTEN", value_parser = address::parse, help_heading = NETWORK)]
    pub(crate) listen: Option<SocketAddr>,

    /// Path of the WebSocket [default: /ws]
    #[arg(
        long,
        value_name = "PATH",
        env = "FANFARE_PATH",
        help_heading = NETWORK
    )]
    pub(crate) path: Option<String>,

    /// Origins of web pages that may connect, such as https://example.org, separated by commas [default: any]
    ///
    /// The standalone server reads no cookies, so a page of another origin has no credentials to borrow.
    #[arg(
        long = "origin",
        value_name = "ORIGIN",
        env = "FANFARE_ORIGIN",
        value_delimiter = ',',
        help_heading = NETWORK
    )]
    pub(crate) origins: Option<Vec<String>>,

    /// Redis that makes several servers one cluster [default: none, all state is in memory]
    ///
    ///   redis://[user:password@]host[:6379][/db]              one server
    ///   redis+sentinel://host[:26379][,host...]/master[/db]   the master that the sentinels name
    ///   redis+cluster://host[:6379][,host...]                 a cluster
    ///   redis+unix:///path[?db=0]                             a server on this machine
    ///
    /// With rediss in place of redis the connections use TLS.
    #[arg(
        long,
        value_name = "URL",
        env = "REDIS_URL",
        hide_env_values = true,
        verbatim_doc_comment,
        help_heading = REDIS
    )]
    pub(crate) redis_url: Option<String>,

    /// Prefix of all keys in Redis; clusters that share a Redis need different ones [default: fanfare:]
    #[arg(
        long,
        value_name = "TEXT",
        env = "FANFARE_REDIS_PREFIX",
        help_heading = REDIS
    )]
    pub(crate) redis_prefix: Option<String>,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,

    /// PEM file with a public key for JSON Web Tokens
    ///
    /// An RSA key verifies RS256, a P-256 key ES256, an Ed25519 key EdDSA.
    #[arg(
        long,
        value_name = "FILE",
        env = "FANFARE_JWT_KEY",
        help_heading = TOKENS
    )]
    pub(crate) jwt_key: Option<PathBuf>,

    /// Accepts connections without credentials [default: only without a JWT secret or key]
    #[arg(
        long,
        value_name = "BOOL",
        env = "FANFARE_ALLOW_ANONYMOUS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = TOKENS
    )]
    pub(crate) allow_anonymous: Option<bool>,

    /// Rule for the channels of a prefix, such as orders=history:100,ttl:5m [default: no history]
    ///
    /// A rule is PREFIX=WORD,WORD,... The first rule whose prefix matches a channel applies.
    /// White space separates rules, also line breaks; the option may be repeated as well.
    ///
    ///   history:N          keeps the last N messages, at most 1000
    ///   ttl:DURATION       for how long they are kept, 5m by default
    ///   rewind:N           a subscription may start with up to N of them
    ///   publish            subscribed clients may publish
    ///   publish-rate:SIZE  the most that clients of a server publish per second, 256KiB by default
    ///   open               every user may subscribe without a channel token
    ///   presence           members are known to each other; presence:off turns it off
    ///   presence-update    members may change their info, also info that was signed
    ///   slow:drop          a slow subscriber loses messages and is told so, but is not closed
    #[arg(
        long = "rule",
        value_name = "RULE",
        env = "FANFARE_RULE",
        verbatim_doc_comment,
        help_heading = CHANNELS
    )]
    pub(crate) rules: Option<Vec<String>>,

    /// Largest payload that a client may publish, at most 1MiB [default: 32KiB]
    #[arg(long, value_name = "SIZE", env = "FANFARE_CLIENT_PAYLOAD_MAX", value_parser = size::parse, help_heading = LIMITS)]
    pub(crate) client_payload_max: Option<u32>,

    /// Payload that a connection may publish per second on average [default: 64KiB]
    ///
    /// All connections of a user may publish four times as much.
    #[arg(long, value_name = "SIZE", env = "FANFARE_CLIENT_PUBLISH_RATE", value_parser = size::parse, help_heading = LIMITS)]
    pub(crate) client_publish_rate: Option<u32>,

    /// Payload that a connection may publish at once [default: 256KiB]
    #[arg(long, value_name = "SIZE", env = "FANFARE_CLIENT_PUBLISH_BURST", value_parser = size::parse, help_heading = LIMITS)]
    pub(crate) client_publish_burst: Option<u32>,

    /// Answers that the connections of a user may read per second on average [default: 4MiB]
    ///
    /// The answers are those to history, presence and subscribe. Connections without a user are counted by their public address.
    #[arg(long, value_name = "SIZE", env = "FANFARE_USER_READ_RATE", value_parser = size::parse, help_heading = LIMITS)]
    pub(crate) user_read_rate: Option<u32>,

    /// Answers that the connections of a user may read at once [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "FANFARE_USER_READ_BURST", value_parser = size::parse, help_heading = LIMITS)]
    pub(crate) user_read_burst: Option<u32>,

    /// How long a connection may read nothing while messages wait for it [default: 30s]
    ///
    /// The server then closes the connection; the client reconnects and recovers.
    #[arg(long, value_name = "DURATION", env = "FANFARE_WRITE_DEADLINE", value_parser = duration::parse, help_heading = LIMITS)]
    pub(crate) write_deadline: Option<Duration>,

    /// Send buffer of the kernel per connection (SO_SNDBUF); Linux doubles it [default: 256KiB]
    #[arg(long, value_name = "SIZE", env = "FANFARE_SEND_BUFFER", value_parser = size::parse, help_heading = LIMITS)]
    pub(crate) send_buffer: Option<u32>,

    /// How long the server goes on as not ready [default: 5s, or 0s without a load balancer]
    ///
    /// The load balancer notices meanwhile. A server has none if /health/ready was never requested.
    #[arg(long, value_name = "DURATION", env = "FANFARE_DRAIN_DELAY", value_parser = duration::parse, help_heading = SHUTDOWN)]
    pub(crate) drain_delay: Option<Duration>,

    /// Connections per second that the server then sends to other servers [default: 5000]
    #[arg(long, value_name = "NUMBER", env = "FANFARE_DRAIN_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..), help_heading = SHUTDOWN)]
    pub(crate) drain_per_second: Option<u32>,

    /// The longest that sending all connections away may take [default: 25s]
    #[arg(long, value_name = "DURATION", env = "FANFARE_DRAIN_SPREAD", value_parser = duration::parse, help_heading = SHUTDOWN)]
    pub(crate) drain_spread: Option<Duration>,

    /// Format of log lines [default: text]
    #[arg(
        long,
        value_name = "FORMAT",
        env = "FANFARE_LOG_FORMAT",
        help_heading = LOG
    )]
    pub(crate) log_format: Option<LogFormat>,

    /// Filter of log lines, such as warn or fanfare_server=debug [default: info]
    #[arg(long, value_name = "FILTER", env = "FANFARE_LOG", help_heading = LOG)]
    pub(crate) log: Option<String>,
}

/// The configuration file and the keys of tokens, which several subcommands read.
#[derive(Args)]
pub(crate) struct KeyOptions {
    /// TOML file with the same settings, named as the options with _ for -
    #[arg(long, value_name = "FILE", env = "FANFARE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Secret of at least 32 bytes that signs channel tokens, the same on every server
    ///
    /// Without one, `fanfare serve` signs with a random secret per process.
    /// Further secrets, separated by commas, verify but do not sign: put a new one in front to replace the old one.
    /// Set the variable or the file rather than the option: other users of the machine can read command lines.
    #[arg(
        long = "secret",
        value_name = "SECRET",
        env = "FANFARE_SECRET",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = TOKENS
    )]
    pub(crate) secrets: Option<Vec<String>>,

    /// Shared secret of JSON Web Tokens (HS256), at least 32 bytes
    #[arg(
        long,
        value_name = "SECRET",
        env = "FANFARE_JWT_SECRET",
        hide_env_values = true,
        help_heading = TOKENS
    )]
    pub(crate) jwt_secret: Option<String>,

    /// Required `iss` of JSON Web Tokens [default: any]
    #[arg(
        long,
        value_name = "TEXT",
        env = "FANFARE_JWT_ISSUER",
        help_heading = TOKENS
    )]
    pub(crate) jwt_issuer: Option<String>,

    /// Audiences, separated by commas, of which `aud` of a JSON Web Token names one [default: no `aud`]
    #[arg(
        long,
        value_name = "TEXT",
        env = "FANFARE_JWT_AUDIENCE",
        value_delimiter = ',',
        help_heading = TOKENS
    )]
    pub(crate) jwt_audience: Option<Vec<String>>,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// The headings of `fanfare serve --help`, in their order there.
const TOKENS: &str = "Tokens";
const NETWORK: &str = "Network";
const REDIS: &str = "Redis";
const CHANNELS: &str = "Channels";
const LIMITS: &str = "Limits";
const SHUTDOWN: &str = "Shutdown";
const LOG: &str = "Log";

const EXAMPLES: &str = "\
Examples:
  fanfare serve
      Serves ws://127.0.0.1:8000/ws, everything in memory
  fanfare serve --listen 0.0.0.0:8000 --rule orders=history:100,ttl:5m --jwt-key jwt.pem
      Serves users with a JSON Web Token, and keeps the messages of channels such as orders.42
  fanfare token --user 7 --lasts 1h
      Writes a token with which a connection authenticates as user 7

`fanfare serve --help` lists every setting.";

const SERVE_SEE_ALSO: &str = "`fanfare serve --help` explains more, with examples.";

const SERVE_EXAMPLES: &str = "\
Examples:
  fanfare serve
      Serves ws://127.0.0.1:8000/ws, everything in memory, connections without credentials
  REDIS_URL=redis://redis.internal/ fanfare serve --listen 0.0.0.0:8000
      One of several servers that share a Redis; give all of them the same FANFARE_SECRET
  fanfare serve --rule orders=history:100,ttl:5m --rule presence-=open,publish --jwt-key jwt.pem
      Keeps messages of orders, opens presence channels to users, and verifies their tokens
  fanfare serve --config /etc/fanfare.toml --log fanfare_server=debug
      Reads a file, and logs more than usual

A configuration file:
  listen = \"0.0.0.0:8000\"
  redis_url = \"redis://127.0.0.1:6379/\"
  secrets = [\"at least 32 bytes, the same on every server\"]
  rules = [\"orders=history:100,ttl:5m\", \"presence-=open,publish\"]
  drain_delay = \"5s\"

/health/live and /health/ready answer load balancers. docs/operations.md has the rest.";
