//! Why settings are refused.

use std::path::PathBuf;

use fanfare_server::auth::{BadOrigin, JwtKeyError};

/// Why the settings are not valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A file cannot be read.
    #[error("the file {} cannot be read", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not valid.
    #[error("the configuration file {} is not valid, {detail}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The line and the cause.
        detail: String,
    },
    /// A channel rule is not valid.
    #[error("{0}")]
    Rule(String),
    /// A rule never applies.
    #[error(
        "the rule for {later:?} never applies, because the rule for {earlier:?} before it matches first: change their order"
    )]
    HiddenRule {
        /// The prefix of the rule that never applies.
        later: String,
        /// The prefix of the rule before it.
        earlier: String,
    },
    /// The shared secret of JSON Web Tokens is not valid.
    #[error("the JWT secret cannot be used")]
    JwtSecret(#[source] JwtKeyError),
    /// The key file is not valid.
    #[error("the JWT key file {} cannot be used", path.display())]
    JwtKey {
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        error: JwtKeyError,
    },
    /// A claim of JSON Web Tokens is required, and no key verifies tokens.
    #[error("--{option} is given without a key for tokens: give --jwt-secret or --jwt-key as well")]
    NoJwtKey {
        /// The option that requires the claim.
        option: &'static str,
    },
    /// A setting is set and empty, as a variable is that was not filled in.
    #[error("{place} is set and empty: give it a value, or leave it out")]
    Empty {
        /// The option, variable or entry.
        place: String,
    },
    /// No client could connect.
    #[error(
        "no client could connect: give --jwt-secret or --jwt-key, or allow anonymous connections"
    )]
    NoAccess,
    /// An origin is not valid.
    #[error("the list of origins is not valid")]
    Origin(#[source] BadOrigin),
    /// The payload of clients is larger than any payload may be.
    #[error("--client-payload-max is {bytes} bytes, the limit is {bytes_max}: give a smaller one")]
    ClientPayload {
        /// The given value.
        bytes: u32,
        /// The limit.
        bytes_max: usize,
    },
    /// A prefix for Redis is given without a Redis.
    #[error(
        "--redis-prefix is given without a Redis: give --redis-url or REDIS_URL as well, or leave it out"
    )]
    NoRedis,
}
