//! The settings a server runs with: checked, and complete.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use fanfare_server::auth::{
    BadOrigin, Denied, Grant, JwtAuthorizer, JwtKey, JwtKeyError, Origins, Policy, PublicOnly,
};
use fanfare_server::protocol::{ChannelKind, ChannelName};
use fanfare_server::{AcceptLimits, ChannelRules, Limits, Server, ServerBuilder};

use crate::file::File;
use crate::options::{LogFormat, Options};
use crate::rule::{self, Rule};

/// Why a server cannot be started with what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A file cannot be read.
    #[error("the file {} cannot be read", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file says something that has no meaning.
    #[error("the configuration file {} is not valid, {detail}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Where and what.
        detail: String,
    },
    /// A channel rule is not one.
    #[error("{0}")]
    Rule(String),
    /// A rule can never count.
    #[error(
        "the rule for {later:?} never counts, because the one for {earlier:?} before it fits first: change their order"
    )]
    HiddenRule {
        /// The rule behind.
        later: String,
        /// The rule in front of it.
        earlier: String,
    },
    /// A shared secret for tokens is not one.
    #[error("the JWT secret cannot be used")]
    JwtSecret(#[source] JwtKeyError),
    /// A key file is not one.
    #[error("the JWT key file {} cannot be used", path.display())]
    JwtKey {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        error: JwtKeyError,
    },
    /// Something is said about tokens, and no key can verify any.
    #[error("{what} is given, but neither a JWT secret nor a JWT key")]
    NoJwtKey {
        /// What is said.
        what: &'static str,
    },
    /// Something is set, and to nothing: who sets a secret wants it to count.
    #[error("{place} is set and empty: give it a value, or leave it out")]
    Empty {
        /// Where that is said.
        place: String,
    },
    /// Nobody could ever connect.
    #[error("nobody could connect: give a JWT secret or key, or allow anonymous connections")]
    Nobody,
    /// A website is not one.
    #[error("the list of origins is not valid")]
    Origin(#[source] BadOrigin),
    /// Clients may publish more than the server takes from anybody.
    #[error("a client's payload has at most {bytes_max} bytes, --client-payload-max says {bytes}")]
    ClientPayload {
        /// What is said.
        bytes: u32,
        /// The limit.
        bytes_max: usize,
    },
    /// A prefix for Redis without Redis.
    #[error("a prefix for Redis is given, but no Redis URL")]
    NoRedis,
}

/// What a server runs with.
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) log_format: LogFormat,
    pub(crate) log: String,
    pub(crate) redis_url: Option<String>,
    pub(crate) redis_prefix: Option<String>,
    path: Option<String>,
    secrets: Vec<String>,
    authorizer: Policy,
    allows_anonymous: bool,
    origins: Option<Origins>,
    rules: Vec<Rule>,
    limits: Limits,
    accept_limits: AcceptLimits,
}

impl Settings {
    /// Puts the command line, the environment and the file together and checks them.
    ///
    /// # Errors
    /// One sentence about the first thing that is wrong.
    pub(crate) fn of(options: Options) -> Result<Self, SettingsError> {
        let file = file_of(&options)?;
        Self::merge(options, file)
    }

    fn merge(options: Options, file: File) -> Result<Self, SettingsError> {
        let limits = limits(&options, &file)?;
        let send_buffer = options.send_buffer.or(file.send_buffer);
        let accept_limits = accept_limits(&limits, send_buffer);
        let redis_url = text("redis-url", options.redis_url, file.redis_url)?;
        let redis_prefix = text("redis-prefix", options.redis_prefix, file.redis_prefix)?;
        if redis_prefix.is_some() && redis_url.is_none() {
            return Err(SettingsError::NoRedis);
        }
        let tokens = Tokens {
            secret: text("jwt-secret", options.jwt_secret, file.jwt_secret)?,
            key: filled("jwt-key", options.jwt_key, file.jwt_key, |path| {
                is_no_path(path)
            })?,
            issuer: text("jwt-issuer", options.jwt_issuer, file.jwt_issuer)?,
            audiences: list("jwt-audience", options.jwt_audience, file.jwt_audience)?,
        };
        let jwt = tokens.authorizer()?;
        let allows_anonymous = options.allow_anonymous.or(file.allow_anonymous);
        let allows_anonymous = allows_anonymous.unwrap_or_else(|| jwt.is_none());
        if jwt.is_none() && !allows_anonymous {
            return Err(SettingsError::Nobody);
        }
        // Rules are separated by white space, of which there may be more than one.
        let has_none = |rules: &Vec<String>| rules.iter().all(|rule| is_blank(rule));
        let rules =
            rules(&filled("rule", options.rules, file.rules, has_none)?.unwrap_or_default())?;
        let origins = list("origin", options.origins, file.origins)?;
        let origins = match origins.is_empty() {
            true => None,
            false => Some(Origins::list(&origins).map_err(SettingsError::Origin)?),
        };
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
        Ok(Self {
            listen: options.listen.or(file.listen).unwrap_or(usual),
            log_format: options
                .log_format
                .or(file.log_format)
                .unwrap_or(LogFormat::Text),
            log: text("log", options.log, file.log)?.unwrap_or_else(|| "info".to_owned()),
            redis_url,
            redis_prefix,
            path: text("path", options.path, file.path)?,
            secrets: list("secret", options.secrets, file.secrets)?,
            authorizer: with_open_channels(jwt, &rules),
            allows_anonymous,
            origins,
            rules,
            limits,
            accept_limits,
        })
    }

    /// Whether channel tokens are signed with a secret that other servers can share.
    pub(crate) fn has_secret(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// A server with these settings, without its engine.
    pub(crate) fn builder(self) -> ServerBuilder {
        let rules = self.rules.into_iter();
        let rules = rules.fold(ChannelRules::new(), |rules, rule| {
            rules.with(rule.prefix, rule.rule)
        });
        let mut builder = Server::builder()
            .authorizer(self.authorizer)
            .channel_rules(rules)
            .limits(self.limits)
            .accept_limits(self.accept_limits);
        if self.allows_anonymous {
            builder = builder.allow_anonymous();
        }
        if let Some(path) = self.path {
            builder = builder.path(path);
        }
        if let Some(origins) = self.origins {
            builder = builder.origins(origins);
        }
        self.secrets
            .into_iter()
            .fold(builder, |builder, secret| builder.secret(secret))
    }
}

/// What tokens are signed with.
pub(crate) struct Secrets {
    /// The secrets of channel tokens; the first one signs.
    pub(crate) channels: Vec<String>,
    pub(crate) jwt: Option<String>,
    pub(crate) jwt_issuer: Option<String>,
    pub(crate) jwt_audiences: Vec<String>,
}

impl Secrets {
    /// Puts the command line, the environment and the file together.
    ///
    /// # Errors
    /// When the file is not one, or something is set to nothing.
    pub(crate) fn of(options: Options) -> Result<Self, SettingsError> {
        let file = file_of(&options)?;
        Ok(Self {
            channels: list("secret", options.secrets, file.secrets)?,
            jwt: text("jwt-secret", options.jwt_secret, file.jwt_secret)?,
            jwt_issuer: text("jwt-issuer", options.jwt_issuer, file.jwt_issuer)?,
            jwt_audiences: list("jwt-audience", options.jwt_audience, file.jwt_audience)?,
        })
    }
}

/// What is said about JSON Web Tokens.
struct Tokens {
    secret: Option<String>,
    key: Option<PathBuf>,
    issuer: Option<String>,
    audiences: Vec<String>,
}

impl Tokens {
    fn authorizer(self) -> Result<Option<JwtAuthorizer>, SettingsError> {
        let mut keys = Vec::new();
        if let Some(secret) = self.secret {
            keys.push(JwtKey::hs256(secret).map_err(SettingsError::JwtSecret)?);
        }
        if let Some(path) = self.key {
            keys.push(key_of_file(path)?);
        }
        let mut keys = keys.into_iter();
        let Some(first) = keys.next() else {
            let what = match (&self.issuer, self.audiences.is_empty()) {
                (None, true) => return Ok(None),
                (Some(_), _) => "an issuer of tokens",
                (None, false) => "an audience of tokens",
            };
            return Err(SettingsError::NoJwtKey { what });
        };
        let mut authorizer = keys.fold(JwtAuthorizer::new(first), JwtAuthorizer::with_key);
        if let Some(issuer) = self.issuer {
            authorizer = authorizer.with_issuer(issuer);
        }
        let audiences = self.audiences.into_iter();
        Ok(Some(
            audiences.fold(authorizer, JwtAuthorizer::with_audience),
        ))
    }
}

/// A public key; which algorithm it is for is written in the key itself.
fn key_of_file(path: PathBuf) -> Result<JwtKey, SettingsError> {
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(source) => return Err(SettingsError::Read { path, source }),
    };
    let key = match JwtKey::rs256_pem(&pem) {
        Err(JwtKeyError::NotAKey { .. }) => JwtKey::es256_pem(&pem).or_else(|_| {
            JwtKey::eddsa_pem(&pem).map_err(|_| JwtKeyError::NotAKey {
                algorithm: "RS256, ES256 or EdDSA",
            })
        }),
        other => other,
    };
    key.map_err(|error| SettingsError::JwtKey { path, error })
}

/// Public channels are open to everybody, `open` ones to every user, and for the others a channel token is needed.
fn with_open_channels(jwt: Option<JwtAuthorizer>, rules: &[Rule]) -> Policy {
    let policy = match jwt {
        Some(jwt) => Policy::over(jwt),
        None => Policy::over(PublicOnly),
    };
    let decided: Vec<(String, bool)> = rules
        .iter()
        .map(|rule| (rule.prefix.clone(), rule.is_open))
        .collect();
    let is_open = move |channel: &ChannelName| {
        let mut fitting = decided
            .iter()
            .filter(|(prefix, _)| channel.as_str().starts_with(prefix));
        fitting.next().is_some_and(|(_, is_open)| *is_open)
    };
    policy.with_subscribe(move |caller, channel| {
        let answer = match channel.kind() {
            ChannelKind::Public => Ok(Grant::default()),
            _ if is_open(&channel) => caller.user().map(|_| Grant::default()),
            _ => Err(Denied::refused("this channel needs a channel token")),
        };
        async move { answer }
    })
}

/// What a peer may ask, and how the server stops.
fn limits(options: &Options, file: &File) -> Result<Limits, SettingsError> {
    let mut limits = Limits::default();
    if let Some(bytes) = options.client_payload_max.or(file.client_payload_max) {
        let bytes_max = limits.payload_bytes_max;
        limits.client_payload_bytes_max = usize::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes <= bytes_max)
            .ok_or(SettingsError::ClientPayload { bytes, bytes_max })?;
    }
    if let Some(bytes) = options.client_publish_rate.or(file.client_publish_rate) {
        limits.client_bytes_per_second = bytes;
    }
    if let Some(bytes) = options.client_publish_burst.or(file.client_publish_burst) {
        limits.client_bytes_burst = bytes;
    }
    if let Some(deadline) = options.write_deadline.or(file.write_deadline) {
        limits.write_deadline = deadline;
    }
    if let Some(bytes) = options.user_read_rate.or(file.user_read_rate) {
        limits.peer_answer_bytes_per_second = bytes;
    }
    if let Some(bytes) = options.user_read_burst.or(file.user_read_burst) {
        limits.peer_answer_bytes_burst = bytes;
    }
    limits.drain_delay = options.drain_delay.or(file.drain_delay);
    if let Some(connections) = options.drain_per_second.or(file.drain_per_second) {
        limits.drain_per_second = connections;
    }
    if let Some(spread) = options.drain_spread.or(file.drain_spread) {
        limits.drain_spread = spread;
    }
    Ok(limits)
}

/// What is taken from the network: an HTTP answer has to be read as soon as a WebSocket message.
fn accept_limits(limits: &Limits, send_buffer: Option<u32>) -> AcceptLimits {
    let mut accept_limits = AcceptLimits::default();
    accept_limits.write_deadline = limits.write_deadline;
    if let Some(bytes) = send_buffer {
        accept_limits.send_buffer_bytes = Some(bytes as usize);
    }
    accept_limits
}

fn rules(texts: &[String]) -> Result<Vec<Rule>, SettingsError> {
    let rules: Result<Vec<Rule>, String> = texts
        .iter()
        .flat_map(|text| text.split_whitespace())
        .map(str::parse)
        .collect();
    let rules = rules.map_err(SettingsError::Rule)?;
    if let Some((later, earlier)) = rule::hidden(&rules) {
        return Err(SettingsError::HiddenRule {
            later: later.prefix.clone(),
            earlier: earlier.prefix.clone(),
        });
    }
    Ok(rules)
}

/// The configuration file, where one is named.
fn file_of(options: &Options) -> Result<File, SettingsError> {
    let config = filled("config", options.config.as_ref(), None, |path| {
        is_no_path(path)
    })?;
    config.map_or_else(|| Ok(File::default()), |path| File::read(path))
}

/// What is said, or else what the file has.
fn text(
    option: &'static str,
    said: Option<String>,
    in_file: Option<String>,
) -> Result<Option<String>, SettingsError> {
    filled(option, said, in_file, |text: &String| is_blank(text))
}

/// A list on the command line or in the environment replaces the one of the file.
fn list(
    option: &'static str,
    said: Option<Vec<String>>,
    in_file: Option<Vec<String>>,
) -> Result<Vec<String>, SettingsError> {
    let has_gap = |list: &Vec<String>| list.is_empty() || list.iter().any(|text| is_blank(text));
    let list = filled(option, said, in_file, has_gap)?.unwrap_or_default();
    let list = list.into_iter().map(|text| text.trim().to_owned());
    let mut seen = HashSet::new();
    Ok(list.filter(|text| seen.insert(text.clone())).collect())
}

/// What is said, or else what the file has. Either is an error where it is set to nothing.
fn filled<T>(
    option: &'static str,
    said: Option<T>,
    in_file: Option<T>,
    is_empty: fn(&T) -> bool,
) -> Result<Option<T>, SettingsError> {
    let place = if said.as_ref().is_some_and(is_empty) {
        format!("the option --{option} (the variable {})", variable(option))
    } else if in_file.as_ref().is_some_and(is_empty) {
        format!("{:?} in the configuration file", file_name(option))
    } else {
        return Ok(said.or(in_file));
    };
    Err(SettingsError::Empty { place })
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn is_no_path(path: &Path) -> bool {
    is_blank(&path.to_string_lossy())
}

/// The environment variable of an option.
fn variable(option: &str) -> String {
    match option {
        "redis-url" => "REDIS_URL".to_owned(),
        option => format!("FANFARE_{}", option.replace('-', "_").to_ascii_uppercase()),
    }
}

/// An option's name in the file; what may be given several times is a list there.
fn file_name(option: &str) -> String {
    match option {
        "secret" | "origin" | "rule" => format!("{option}s"),
        option => option.replace('-', "_"),
    }
}

#[cfg(test)]
mod tests;
