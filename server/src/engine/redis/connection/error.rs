//! Why a command has no result, sorted by whether it may be repeated; and what Redis says about missing rights.
//!
//! Promise: docs/guarantees.md, *What `Ok` of a publish means*, "A publish that ends without an answer is *unknown*".

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::connections::Server;
use crate::engine::EngineError;

/// Why a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// It certainly was not executed, and another attempt may succeed: no connection, no master, a slot migrating.
    #[error("{0}")]
    NotExecuted(String),
    /// It may or may not have been executed.
    #[error("{0}")]
    Unknown(String),
    /// Redis has no memory left; nothing was executed.
    #[error("Redis has reached its maxmemory")]
    Full,
    /// Redis refused it and would again; nothing was executed.
    #[error("{0}")]
    Refused(String),
    /// The login lacks a right.
    #[error("this login lacks the right {right}: {detail}")]
    Denied {
        /// Which one, as `ACL SETUSER` takes it.
        right: String,
        /// What Redis said.
        detail: String,
        /// A script had begun: what it wrote before a command was denied stays.
        may_have_run: bool,
    },
}

impl CommandError {
    /// Certainly not executed.
    pub(crate) fn not_executed(detail: impl Into<String>) -> Self {
        Self::NotExecuted(detail.into())
    }

    /// The error of a connection that could not be opened.
    pub(crate) fn while_opening(server: &Server, error: &RedisError) -> Self {
        let detail = format!("{server}: {}", text(error));
        let code = error.code().unwrap_or_default();
        let is_refused = matches!(
            error.kind(),
            ErrorKind::AuthenticationFailed
                | ErrorKind::InvalidClientConfig
                | ErrorKind::RESP3NotSupported
        ) || matches!(code, "WRONGPASS" | "NOAUTH" | "NOPERM");
        if is_refused {
            Self::Refused(detail)
        } else {
            Self::NotExecuted(detail)
        }
    }

    /// The error of a command that got an error reply, or no reply.
    pub(crate) fn while_executing(error: &RedisError) -> Self {
        let detail = text(error);
        if let Some(IsInScript(may_have_run)) = denial(&detail) {
            return Self::Denied {
                right: right(&detail, None, NO_PREFIX),
                detail,
                may_have_run,
            };
        }
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::NoScript,
            ) => Self::NotExecuted(detail),
            ErrorKind::Io | ErrorKind::Parse => Self::Unknown(detail),
            ErrorKind::Server(ServerErrorKind::ResponseError) => Self::before_7(detail),
            _ => match error.code() {
                Some("OOM") => Self::Full,
                Some("BUSY") => Self::NotExecuted(detail),
                _ => Self::Refused(detail),
            },
        }
    }

    /// Before version 7, Redis wraps the error of a script's command into an error of the script.
    fn before_7(detail: String) -> Self {
        if detail.contains("-OOM ") {
            Self::Full
        } else if detail.contains("-READONLY ") {
            Self::NotExecuted(detail)
        } else {
            Self::Refused(detail)
        }
    }

    /// The error for the caller of the engine, when there is no further attempt.
    pub(crate) fn into_engine_error(
        self,
        attempted: &'static str,
        memory_max: usize,
    ) -> EngineError {
        let engine = super::ENGINE;
        match self {
            Self::Denied { .. } => EngineError::Refused {
                engine,
                attempted,
                detail: self.to_string(),
            },
            Self::NotExecuted(detail) => EngineError::Unavailable {
                engine,
                attempted,
                detail,
            },
            Self::Unknown(_) => EngineError::Unknown { engine, attempted },
            Self::Full => EngineError::Full {
                engine,
                what: "bytes",
                limit: memory_max,
            },
            Self::Refused(detail) => EngineError::Refused {
                engine,
                attempted,
                detail,
            },
        }
    }
}

/// An error's text: what Redis or the system said. It repeats no argument of a command.
fn text(error: &RedisError) -> String {
    let text = error.to_string();
    // Redis repeats the beginning of a command that it does not know or permit, arguments included.
    let end = text
        .find(", with args beginning with")
        .unwrap_or(text.len());
    let end = text[..end].find(" script: ").unwrap_or(end);
    text[..end].to_owned()
}

/// Whether an error of Redis is about a right that the login lacks, and then whether a script had begun.
pub(crate) fn denial(text: &str) -> Option<IsInScript> {
    let is_in_script = text.contains("The user executing the script can")
        || text.contains("ACL failure in script");
    // The library writes `NoPerm: …` where Redis begins with `NOPERM`.
    let is_denied = is_in_script || text.contains("NOPERM") || text.starts_with("NoPerm: ");
    is_denied.then_some(IsInScript(is_in_script))
}

/// Whether a script had begun when it was denied something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IsInScript(pub(crate) bool);

/// The right that is missing, as `ACL SETUSER` takes it.
pub(crate) fn right(text: &str, command: Option<&str>, prefix: &str) -> String {
    let quoted = || text.split('\'').nth(1).filter(|word| !word.contains(' '));
    if text.contains(" channel") {
        format!("&{prefix}*")
    } else if text.contains(" key") {
        format!("~{prefix}*")
    } else if let Some(command) = command.or_else(quoted) {
        format!("+{}", command.to_ascii_lowercase())
    } else {
        "(a command of the scripts)".to_owned()
    }
}

/// Stands for the prefix where that is not known.
pub(crate) const NO_PREFIX: &str = "{prefix}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_versions_of_redis_say_names_the_right() {
        // (what Redis says, whether a script had begun, the right)
        let rows = [
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                false,
                "~p:*",
            ),
            ("NOPERM No permissions to access a key", false, "~p:*"),
            (
                "NoPerm: this user has no permissions to access one of the keys used as arguments",
                false,
                "~p:*",
            ),
            (
                "NOPERM this user has no permissions to access one of the channels used as arguments",
                false,
                "&p:*",
            ),
            (
                "NOPERM this user has no permissions to run the 'subscribe' command",
                false,
                "+subscribe",
            ),
            (
                "NOPERM User fan has no permissions to run the 'evalsha' command",
                false,
                "+evalsha",
            ),
            (
                "ERR The user executing the script can't run this command or subcommand",
                true,
                "(a command of the scripts)",
            ),
            (
                "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
                true,
                "~p:*",
            ),
            (
                "ERR The user executing the script can't publish to the channel mentioned in the command",
                true,
                "&p:*",
            ),
            (
                "NOPERM ACL failure in script: User fan has no permissions to run the 'xadd' command",
                true,
                "+xadd",
            ),
            (
                "NOPERM ACL failure in script: No permissions to access a channel",
                true,
                "&p:*",
            ),
        ];
        for (text, is_in_script, expected) in rows {
            assert_eq!(denial(text), Some(IsInScript(is_in_script)), "{text}");
            assert_eq!(right(text, None, "p:"), expected, "{text}");
        }
        assert_eq!(
            denial("OOM command not allowed when used memory > 'maxmemory'."),
            None
        );
    }
}
