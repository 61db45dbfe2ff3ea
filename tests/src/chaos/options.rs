//! What the command line says.

use std::path::PathBuf;

use clap::Parser;

/// Troubles a running system and says whether every promise was kept.
#[derive(Debug, Clone, Parser)]
pub struct ChaosOptions {
    /// Only these rows, separated by commas, such as C1,C12; all of them by default.
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Decides what is random. The same seed makes the same choices, not the same timing.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// For how long every row troubles the system; 120 by default, 8 in the short form.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// The rows that fit in between other tests, with less load: less than five minutes.
    #[arg(long)]
    pub short: bool,
    /// How many rows run at once: one by default, three in the short form, for most of a row is waiting.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Where the table is written as Markdown.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// The server program; the one beside this program by default.
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Where the logs of the nodes are kept when a row fails.
    #[arg(long)]
    pub logs: Option<PathBuf>,
}

impl ChaosOptions {
    /// For how long every row troubles the system.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.short { 8 } else { 120 })
    }

    /// How many rows run at once.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.unwrap_or(if self.short { 3 } else { 1 }).max(1)
    }

    /// The server program.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        let beside = || {
            let own = std::env::current_exe().unwrap_or_default();
            own.with_file_name("fanfare")
        };
        self.server.clone().unwrap_or_else(beside)
    }

    /// The command that repeats this run.
    #[must_use]
    pub fn command(&self) -> String {
        let mut text = "cargo xtask chaos".to_owned();
        if self.short {
            text.push_str(" --short");
        }
        if !self.rows.is_empty() {
            text.push_str(&format!(" --rows {}", self.rows.join(",")));
        }
        text.push_str(&format!(" --seed {}", self.seed));
        if let Some(jobs) = self.jobs {
            text.push_str(&format!(" --jobs {jobs}"));
        }
        if let Some(seconds) = self.seconds {
            text.push_str(&format!(" --seconds {seconds}"));
        }
        text
    }
}
