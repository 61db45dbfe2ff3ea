//! `cargo xtask chaos`: three server processes on a real store, load, and faults while they work.

use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::error::Result;
use crate::process;
use crate::progress::step;
use crate::tools;
use crate::workspace::Workspace;

/// What to trouble, and for how long.
#[derive(Debug, Args)]
pub(crate) struct ChaosOptions {
    /// Only these rows, separated by commas, such as C1,C12.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Decides what is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For how long every row troubles the system; 120 by default, 8 in the short form.
    #[arg(long)]
    seconds: Option<u64>,
    /// The rows that fit in between other tests, with less load.
    #[arg(long)]
    short: bool,
    /// How many rows run at once; one by default, three in the short form.
    #[arg(long)]
    jobs: Option<usize>,
    /// Write the table to docs/chaos.md.
    #[arg(long)]
    write: bool,
}

/// Builds everything and runs the rows.
pub(crate) fn run(workspace: &Workspace, options: &ChaosOptions) -> Result<()> {
    let mut command = prepare(workspace)?;
    if !options.rows.is_empty() {
        command.args(["--rows", &options.rows.join(",")]);
    }
    command.args(["--seed", &options.seed.to_string()]);
    if let Some(seconds) = options.seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    if let Some(jobs) = options.jobs {
        command.args(["--jobs", &jobs.to_string()]);
    }
    if options.short {
        command.arg("--short");
    }
    if options.write {
        command.arg("--report").arg(workspace.path("docs/chaos.md"));
    }
    process::run_within(&mut command, LONGEST)
}

/// The short form, as a suite.
pub(crate) fn short(workspace: &Workspace) -> Result<Command> {
    let mut command = prepare(workspace)?;
    command.arg("--short");
    Ok(command)
}

fn prepare(workspace: &Workspace) -> Result<Command> {
    tools::servers(workspace)?;
    step("building the server and the chaos suite", || {
        let mut build = workspace.cargo();
        build.args([
            "build",
            "--quiet",
            "-p",
            "fanfare",
            "-p",
            "fanfare-tests",
            "--bins",
        ]);
        process::run(&mut build)
    })?;
    let mut command = Command::new(workspace.target("debug/chaos"));
    command
        .arg("--server")
        .arg(workspace.target("debug/fanfare"))
        .arg("--logs")
        .arg(workspace.target("chaos"));
    Ok(command)
}

/// 4 h: every row for ten minutes.
const LONGEST: Duration = Duration::from_hours(4);
