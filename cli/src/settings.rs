//! The settings of a server, merged from the command line, the environment and the file, and checked.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use fanfare_server::auth::{
    Denied, Grant, JwtAuthorizer, JwtKey, JwtKeyError, Origins, Policy, PublicOnly,
};
use fanfare_server::protocol::{ChannelKind, ChannelName};
use fanfare_server::{AcceptLimits, ChannelRules, Limits, Server, ServerBuilder};

use crate::file::File;
use crate::options::{KeyOptions, LogFormat, ServeOptions};
use crate::rule::{self, Rule};

mod error;

pub(crate) use self::error::SettingsError;

/// The settings of a server.
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
    /// Merges the options with the configuration file and checks the result.
    ///
    /// # Errors
    /// The first setting that is not valid.
    pub(crate) fn resolve(options: ServeOptions) -> Result<Self, SettingsError> {
        let file = read_file(&options.keys)?;
        Self::merge(options, file)
    }

    fn merge(options: ServeOptions, file: File) -> Result<Self, SettingsError> {
        let limits = limits(&options, &file)?;
        let send_buffer = options.send_buffer.or(file.send_buffer);
        let accept_limits = accept_limits(&limits, send_buffer);
        let redis_url = text("redis-url", options.redis_url, file.redis_url)?;
        let redis_prefix = text("redis-prefix", options.redis_prefix, file.redis_prefix)?;
        if redis_prefix.is_some() && redis_url.is_none() {
            return Err(SettingsError::NoRedis);
        }
        let tokens = Tokens {
            secret: text("jwt-secret", options.keys.jwt_secret, file.jwt_secret)?,
            key: filled("jwt-key", options.jwt_key, file.jwt_key, |path| {
                is_blank_path(path)
            })?,
            issuer: text("jwt-issuer", options.keys.jwt_issuer, file.jwt_issuer)?,
            audiences: list("jwt-audience", options.keys.jwt_audience, file.jwt_audience)?,
        };
        let jwt = tokens.authorizer()?;
        let allows_anonymous = options.allow_anonymous.or(file.allow_anonymous);
        let allows_anonymous = allows_anonymous.unwrap_or_else(|| jwt.is_none());
        if jwt.is_none() && !allows_anonymous {
            return Err(SettingsError::NoAccess);
        }
        let is_empty = |rules: &Vec<String>| rules.iter().all(|rule| is_blank(rule));
        let rules =
            rules(&filled("rule", options.rules, file.rules, is_empty)?.unwrap_or_default())?;
        let origins = list("origin", options.origins, file.origins)?;
        let origins = match origins.is_empty() {
            true => None,
            false => Some(Origins::list(&origins).map_err(SettingsError::Origin)?),
        };
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
        Ok(Self {
            listen: options.listen.or(file.listen).unwrap_or(default),
            log_format: options
                .log_format
                .or(file.log_format)
                .unwrap_or(LogFormat::Text),
            log: text("log", options.log, file.log)?.unwrap_or_else(|| "info".to_owned()),
            redis_url,
            redis_prefix,
            path: text("path", options.path, file.path)?,
            secrets: list("secret", options.keys.secrets, file.secrets)?,
            authorizer: with_open_channels(jwt, &rules),
            allows_anonymous,
            origins,
            rules,
            limits,
            accept_limits,
        })
    }

    /// Whether a secret signs channel tokens that other servers can share.
    pub(crate) fn has_secret(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Returns a builder of a server with these settings, without its engine.
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

/// The keys that sign tokens.
pub(crate) struct Secrets {
    /// The secrets of channel tokens; the first one signs.
    pub(crate) channels: Vec<String>,
    pub(crate) jwt: Option<String>,
    pub(crate) jwt_issuer: Option<String>,
    pub(crate) jwt_audiences: Vec<String>,
}

impl Secrets {
    /// Merges the options with the configuration file.
    ///
    /// # Errors
    /// When the file is not valid, or a setting is set and empty.
    pub(crate) fn resolve(options: KeyOptions) -> Result<Self, SettingsError> {
        let file = read_file(&options)?;
        Ok(Self {
            channels: list("secret", options.secrets, file.secrets)?,
            jwt: text("jwt-secret", options.jwt_secret, file.jwt_secret)?,
            jwt_issuer: text("jwt-issuer", options.jwt_issuer, file.jwt_issuer)?,
            jwt_audiences: list("jwt-audience", options.jwt_audience, file.jwt_audience)?,
        })
    }
}

/// How JSON Web Tokens are verified.
struct Tokens {
    secret: Option<String>,
    key: Option<PathBuf>,
    issuer: Option<String>,
    audiences: Vec<String>,
}

impl Tokens {
    /// Returns the authorizer, or `None` if no setting concerns tokens.
    fn authorizer(self) -> Result<Option<JwtAuthorizer>, SettingsError> {
        let mut keys = Vec::new();
        if let Some(secret) = self.secret {
            keys.push(JwtKey::hs256(secret).map_err(SettingsError::JwtSecret)?);
        }
        if let Some(path) = self.key {
            keys.push(read_key(path)?);
        }
        let mut keys = keys.into_iter();
        let Some(first) = keys.next() else {
            let option = match (&self.issuer, self.audiences.is_empty()) {
                (None, true) => return Ok(None),
                (Some(_), _) => "jwt-issuer",
                (None, false) => "jwt-audience",
            };
            return Err(SettingsError::NoJwtKey { option });
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

/// Reads a public key; the key itself names its algorithm.
fn read_key(path: PathBuf) -> Result<JwtKey, SettingsError> {
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

/// Builds the policy: public channels are open to every connection, `open` ones to every user, all others need a channel token.
fn with_open_channels(jwt: Option<JwtAuthorizer>, rules: &[Rule]) -> Policy {
    let policy = match jwt {
        Some(jwt) => Policy::over(jwt),
        None => Policy::over(PublicOnly),
    };
    let rules: Vec<(String, bool)> = rules
        .iter()
        .map(|rule| (rule.prefix.clone(), rule.is_open))
        .collect();
    let is_open = move |channel: &ChannelName| {
        let mut matching = rules
            .iter()
            .filter(|(prefix, _)| channel.as_str().starts_with(prefix));
        matching.next().is_some_and(|(_, is_open)| *is_open)
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

/// Returns the limits of a connection and of the shutdown.
fn limits(options: &ServeOptions, file: &File) -> Result<Limits, SettingsError> {
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

/// Returns the limits of the accept loop: an HTTP response has the write deadline of a WebSocket message.
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

/// Reads the configuration file, or returns an empty one if none is given.
fn read_file(options: &KeyOptions) -> Result<File, SettingsError> {
    let config = filled("config", options.config.as_ref(), None, |path| {
        is_blank_path(path)
    })?;
    config.map_or_else(|| Ok(File::default()), |path| File::read(path))
}

/// Returns the option, or else the entry of the file.
fn text(
    option: &'static str,
    given: Option<String>,
    in_file: Option<String>,
) -> Result<Option<String>, SettingsError> {
    filled(option, given, in_file, |text: &String| is_blank(text))
}

/// Returns the list without duplicates; a list on the command line or in the environment replaces the one of the file.
fn list(
    option: &'static str,
    given: Option<Vec<String>>,
    in_file: Option<Vec<String>>,
) -> Result<Vec<String>, SettingsError> {
    let has_gap = |list: &Vec<String>| list.is_empty() || list.iter().any(|text| is_blank(text));
    let list = filled(option, given, in_file, has_gap)?.unwrap_or_default();
    let list = list.into_iter().map(|text| text.trim().to_owned());
    let mut seen = HashSet::new();
    Ok(list.filter(|text| seen.insert(text.clone())).collect())
}

/// Returns the option, or else the entry of the file; each of them is an error if it is set and empty.
fn filled<T>(
    option: &'static str,
    given: Option<T>,
    in_file: Option<T>,
    is_empty: fn(&T) -> bool,
) -> Result<Option<T>, SettingsError> {
    let place = if given.as_ref().is_some_and(is_empty) {
        format!("the option --{option} (the variable {})", variable(option))
    } else if in_file.as_ref().is_some_and(is_empty) {
        format!("{:?} in the configuration file", file_name(option))
    } else {
        return Ok(given.or(in_file));
    };
    Err(SettingsError::Empty { place })
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn is_blank_path(path: &Path) -> bool {
    is_blank(&path.to_string_lossy())
}

/// Returns the environment variable of an option.
fn variable(option: &str) -> String {
    match option {
        "redis-url" => "REDIS_URL".to_owned(),
        option => format!("FANFARE_{}", option.replace('-', "_").to_ascii_uppercase()),
    }
}

/// Returns the entry of an option in the file, where an option that may be repeated is a list.
fn file_name(option: &str) -> String {
    match option {
        "secret" | "origin" | "rule" => format!("{option}s"),
        option => option.replace('-', "_"),
    }
}

#[cfg(test)]
mod tests;
