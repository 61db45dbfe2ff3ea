//! Why a command has no result, sorted by whether it may be repeated; the attempts of one call, with full jitter within a budget; and
//! the pauses of a task between failures.
//!
//! Promise: docs/guarantees.md, *What `Ok` of a publish means*, "A publish that ends without an answer is *unknown*", and *What
//! happens when something breaks*, "repetitions of such a publish are refused".

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::connections::Server;
use crate::clock::Instant;
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

/// The attempts of one call.
pub(crate) struct Retry {
    attempted: &'static str,
    memory_max: usize,
    deadline: Instant,
    /// So much of the budget the last attempt has at least.
    reserve: Duration,
    pauses: u32,
    /// Whether an earlier attempt may have been executed: no later refusal makes that undone.
    is_unknown: bool,
}

impl Retry {
    /// Attempts within a budget.
    pub(crate) fn new(attempted: &'static str, budget: Duration, memory_max: usize) -> Self {
        Self {
            attempted,
            memory_max,
            deadline: Instant::now() + budget,
            reserve: budget / 5,
            pauses: 0,
            is_unknown: false,
        }
    }

    /// When the last attempt must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether an earlier attempt may have been executed.
    pub(crate) fn may_have_run(&self) -> bool {
        self.is_unknown
    }

    /// Pauses before the next attempt.
    ///
    /// # Errors
    /// The error for the caller, when there is no further attempt.
    pub(crate) async fn pause(
        &mut self,
        error: CommandError,
        is_repeatable: bool,
    ) -> Result<(), EngineError> {
        let may_try_again = match &error {
            CommandError::NotExecuted(_) => true,
            CommandError::Unknown(_) => {
                self.is_unknown = true;
                is_repeatable
            }
            CommandError::Denied { may_have_run, .. } => {
                self.is_unknown |= may_have_run;
                false
            }
            CommandError::Full | CommandError::Refused(_) => false,
        };
        let longest = PAUSE_MAX.min(PAUSE_FIRST * 2_u32.saturating_pow(self.pauses));
        let pause = longest.mul_f64(fastrand::f64());
        self.pauses += 1;
        let next = Instant::now() + pause;
        // An attempt that is cut off has an unknown outcome; better none than that.
        if may_try_again && next + self.reserve < self.deadline {
            tokio::time::sleep_until(next).await;
            return Ok(());
        }
        Err(self.verdict(error))
    }

    /// The error for the caller of a call whose last attempt ended with this error.
    pub(crate) fn refused(&self, error: EngineError) -> EngineError {
        // What was accepted is accepted, whichever attempt that was.
        let is_accepted = matches!(error, EngineError::LevelNotReached { .. });
        if self.is_unknown && !is_accepted {
            self.verdict(CommandError::Unknown(String::new()))
        } else {
            error
        }
    }

    /// The error for the caller of a call that ends with this error.
    pub(crate) fn verdict(&self, error: CommandError) -> EngineError {
        let error = if self.is_unknown {
            CommandError::Unknown(String::new())
        } else {
            error
        };
        error.into_engine_error(self.attempted, self.memory_max)
    }
}

/// 20 ms: a migrating slot, or a script that is sent again, is often there by then.
const PAUSE_FIRST: Duration = Duration::from_millis(20);

/// 1 s: a failover takes some seconds, and trying more often gains nothing.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often something failed in a row, and when it may be tried again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    /// It failed: the pause doubles, up to `longest`.
    pub(crate) fn fail(&mut self, now: Instant, longest: Duration) {
        self.failures = self.failures.saturating_add(1);
        let pause = BACKOFF_FIRST * 2_u32.saturating_pow(self.failures.min(6));
        self.not_before = Some(now + pause.min(longest));
    }

    /// It succeeded.
    pub(crate) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// When it may be tried again. `None` if it may now.
    pub(crate) fn pausing_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }
}

/// 50 ms, doubled with every failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

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

    fn retry() -> Retry {
        Retry::new("publishing", Duration::from_secs(5), 7)
    }

    fn not_executed() -> CommandError {
        CommandError::not_executed("down")
    }

    fn unknown() -> CommandError {
        CommandError::Unknown("late".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_executed_is_tried_until_the_budget_is_used_up() {
        let (mut retry, started) = (retry(), Instant::now());
        let mut attempts = 0;
        let told = loop {
            attempts += 1;
            if let Err(told) = retry.pause(not_executed(), false).await {
                break told;
            }
        };
        assert!(matches!(told, EngineError::Unavailable { .. }), "{told}");
        assert!((6..60).contains(&attempts), "{attempts}");
        assert!(started.elapsed() <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_executed_is_tried_again_only_when_that_is_harmless() {
        let told = retry().pause(unknown(), false).await.unwrap_err();
        assert!(matches!(told, EngineError::Unknown { .. }), "{told}");
        let mut retry = retry();
        assert!(!retry.may_have_run());
        retry.pause(unknown(), true).await.unwrap();
        assert!(retry.may_have_run());
    }

    #[tokio::test(start_paused = true)]
    async fn no_later_refusal_undoes_what_may_have_been_executed() {
        for last in [CommandError::Full, CommandError::Refused("no".to_owned())] {
            let mut retry = retry();
            retry.pause(not_executed(), true).await.unwrap();
            retry.pause(unknown(), true).await.unwrap();
            let told = retry.pause(last, true).await.unwrap_err();
            assert!(matches!(told, EngineError::Unknown { .. }), "{told}");
        }
        let told = retry().pause(CommandError::Full, true).await.unwrap_err();
        assert!(matches!(told, EngineError::Full { limit: 7, .. }), "{told}");
    }

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew() {
        let (start, longest) = (Instant::now(), Duration::from_millis(300));
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pausing_until(start), None);
        for pause in [100, 200, 300, 300] {
            backoff.fail(start, longest);
            let until = start + Duration::from_millis(pause);
            assert_eq!(backoff.pausing_until(start), Some(until));
            assert_eq!(backoff.pausing_until(until), None);
        }
        backoff.succeed();
        backoff.fail(start, longest);
        let until = start + Duration::from_millis(100);
        assert_eq!(backoff.pausing_until(start), Some(until));
    }
}
