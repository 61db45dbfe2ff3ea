//! Trying again: the attempts of one call, with full jitter within a budget, and the pauses of a task between failures.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "repetitions of such a publish are refused".

use std::time::Duration;

use super::error::CommandError;
use crate::clock::Instant;
use crate::engine::EngineError;

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
