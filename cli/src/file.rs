//! The configuration file: TOML with the names of the options, `_` for `-`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::options::LogFormat;
use crate::settings::SettingsError;
use crate::{address, duration, size};

/// The entries of a configuration file; an unknown name is an error.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default, deserialize_with = "listen_address")]
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) path: Option<String>,
    pub(crate) redis_url: Option<String>,
    pub(crate) redis_prefix: Option<String>,
    /// The first one signs.
    pub(crate) secrets: Option<Vec<String>>,
    pub(crate) jwt_secret: Option<String>,
    pub(crate) jwt_key: Option<PathBuf>,
    pub(crate) jwt_issuer: Option<String>,
    pub(crate) jwt_audience: Option<Vec<String>>,
    pub(crate) allow_anonymous: Option<bool>,
    pub(crate) origins: Option<Vec<String>>,
    /// In the form of the command line.
    pub(crate) rules: Option<Vec<String>>,
    #[serde(default, deserialize_with = "size_text")]
    pub(crate) client_payload_max: Option<u32>,
    #[serde(default, deserialize_with = "size_text")]
    pub(crate) client_publish_rate: Option<u32>,
    #[serde(default, deserialize_with = "size_text")]
    pub(crate) client_publish_burst: Option<u32>,
    #[serde(default, deserialize_with = "size_text")]
    pub(crate) user_read_rate: Option<u32>,
    #[serde(default, deserialize_with = "size_text")]
    pub(crate) user_read_burst: Option<u32>,
    #[serde(default, deserialize_with = "duration_text")]
    pub(crate) write_deadline: Option<Duration>,
    #[serde(default, deserialize_with = "size_text")]
    pub(crate) send_buffer: Option<u32>,
    #[serde(default, deserialize_with = "duration_text")]
    pub(crate) drain_delay: Option<Duration>,
    pub(crate) drain_per_second: Option<u32>,
    #[serde(default, deserialize_with = "duration_text")]
    pub(crate) drain_spread: Option<Duration>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) log: Option<String>,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read, or an entry is not valid.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|detail| SettingsError::File {
            path: path.to_owned(),
            detail,
        })
    }

    /// The error names the line and the cause, and never repeats the line: it may hold a secret.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let message = error.message().trim().replace('\n', " ");
            match error.span() {
                Some(span) => {
                    let before = text.get(..span.start).unwrap_or_default();
                    format!("line {}: {message}", before.matches('\n').count() + 1)
                }
                None => message,
            }
        })
    }
}

/// Reads an address in the form of the command line, or a port as a number.
fn listen_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Listen {
        Port(u16),
        Address(String),
    }
    let text = match Listen::deserialize(deserializer)? {
        Listen::Port(port) => port.to_string(),
        Listen::Address(text) => text,
    };
    address::parse(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn duration_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration::parse(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn size_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    size::parse(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
impl File {
    /// Parses a text that is valid.
    pub(crate) fn of(text: &str) -> Self {
        Self::parse(text).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_an_address() {
        for text in [
            "listen = 8001",
            "listen = \"8001\"",
            "listen = \"localhost:8001\"",
        ] {
            let listen = File::of(text).listen.unwrap();
            assert_eq!(listen.to_string(), "127.0.0.1:8001", "{text}");
        }
    }

    #[test]
    fn entries_have_the_form_of_the_command_line() {
        let file = File::of(
            r#"
            listen = "0.0.0.0:8000"
            rules = ["orders=history:100", "chat=publish"]
            allow_anonymous = true
            drain_delay = "1s"
            log_format = "json"
            "#,
        );
        assert_eq!(file.listen.unwrap().port(), 8000);
        assert_eq!(file.rules.unwrap().len(), 2);
        assert_eq!(file.drain_delay, Some(Duration::from_secs(1)));
        assert_eq!(file.log_format, Some(LogFormat::Json));
    }

    #[test]
    fn an_error_names_its_line_and_repeats_no_secret() {
        #[track_caller]
        fn check(text: &str, begins: &str) {
            let Err(error) = File::parse(text) else {
                panic!("{text:?} was accepted")
            };
            assert!(error.starts_with(begins), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        check(
            "path = \"/ws\"\nlisten_on = \"x\"",
            "line 2: unknown field `listen_on`",
        );
        check(
            "secrets = [\"hunter2\"]\ndrain_delay = \"5\"",
            "line 2: \"5\" is not a duration",
        );
        check("secrets = \"hunter2", "line 1: ");
        check("allow_anonymous = \"yes\"", "line 1: invalid type");
    }
}
