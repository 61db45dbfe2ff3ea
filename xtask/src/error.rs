//! What can go wrong in a task, as sentences for the person at the keyboard.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a task ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// A tool is not on this machine and could not be fetched.
    #[error("{tool} is missing: {mend}")]
    Missing { tool: String, mend: String },
    /// A program ran and said no.
    #[error("`{command}` ended with {outcome}")]
    Failed { command: String, outcome: String },
    /// A program ran for too long.
    #[error("`{command}` was stopped after {} seconds", limit.as_secs())]
    TooSlow { command: String, limit: Duration },
    /// A program could not be started.
    #[error("cannot start `{command}`")]
    NotStarted {
        command: String,
        #[source]
        source: io::Error,
    },
    /// A file or folder would not do what was asked.
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Checks or tests failed, and the report has said which.
    #[error("checks or tests failed")]
    Reported,
    /// Something is not as this task needs it.
    #[error("{0}")]
    Unexpected(String),
}

impl TaskError {
    /// A tool that is missing, with the way to mend it.
    pub(crate) fn missing(tool: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::Missing {
            tool: tool.into(),
            mend: mend.into(),
        }
    }

    /// Wraps an error of a file operation: `read_to_string(path).map_err(TaskError::file("read", path))`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// The sentence and its causes on one line.
    pub(crate) fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            text = format!("{text}: {source}");
            cause = source.source();
        }
        text
    }
}

/// The result of a task.
pub(crate) type Result<T, E = TaskError> = std::result::Result<T, E>;
