//! The project's own commands: `cargo xtask <command>`.

mod autobahn;
mod chaos;
mod ci;
mod demo;
mod dependencies;
mod error;
mod fingerprint;
mod npm;
mod process;
mod progress;
mod report;
mod seam;
mod test;
mod tidy;
mod tools;
mod wasm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::autobahn::AutobahnOptions;
use crate::chaos::ChaosOptions;
use crate::demo::DemoOptions;
use crate::error::{Result, TaskError};
use crate::test::TestOptions;
use crate::workspace::Workspace;

/// Builds, shows and checks Fanfare.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start the chat example, with everything it needs.
    Demo(DemoOptions),
    /// Run every test, with everything they need.
    Test(TestOptions),
    /// Trouble a running system and say whether every promise was kept.
    Chaos(ChaosOptions),
    /// Let Autobahn's fuzzing client loose on the server's frame layer.
    Autobahn(AutobahnOptions),
    /// Check the rules of the house.
    Tidy,
    /// Write the public items of every crate to docs/api, where reviewers see what changes.
    Api,
    /// Check licences, sources and versions of what is linked in, with cargo-deny as well where it is installed.
    Dependencies,
    /// Check format, rules, lints and documentation, then run every test.
    Ci,
    /// Write the names of the browser client's numbers as TypeScript.
    Seam,
    /// Build the browser client into npm/wasm.
    Wasm,
    /// Build the npm package, the browser client included.
    Npm,
    /// Get the tools that the other commands need, and nothing else.
    Tools,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let workspace = Workspace::locate();
    match run(&workspace, options.command) {
        Ok(()) => ExitCode::SUCCESS,
        // The report's plain line stays the last one.
        Err(TaskError::Reported) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", error.sentence());
            ExitCode::FAILURE
        }
    }
}

fn run(workspace: &Workspace, task: Task) -> Result<()> {
    match task {
        Task::Demo(options) => demo::run(workspace, &options),
        Task::Test(options) => test::run(workspace, &options),
        Task::Chaos(options) => chaos::run(workspace, &options),
        Task::Autobahn(options) => autobahn::run(workspace, &options),
        Task::Tidy => tidy::run(workspace),
        Task::Api => tidy::api::write(workspace),
        Task::Dependencies => dependencies::run(workspace),
        Task::Ci => ci::run(workspace),
        Task::Seam => seam::write(workspace),
        Task::Wasm => wasm::build(workspace),
        Task::Npm => npm::build(workspace),
        Task::Tools => {
            for program in tools::all(workspace)? {
                println!("{}", program.display());
            }
            Ok(())
        }
    }
}
