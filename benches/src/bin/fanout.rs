//! The fan-out benchmark: see `docs/benchmarks.md`.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};
use fanfare_benches::runner::Plan;
use fanfare_benches::scenario::Scenario;
use fanfare_benches::servers::ServerKind;
use fanfare_benches::{machine, report};

/// Compares fan-out servers with the physical limit, each on one core.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Role {
    /// Is one of the servers, until it is killed.
    #[command(hide = true)]
    Serve {
        /// Which one.
        server: ServerKind,
        /// On which core.
        #[arg(long)]
        cpu: usize,
    },
}

#[derive(Args)]
struct Run {
    /// A first impression with 1,000 connections within a minute; one round unless told otherwise.
    #[arg(long)]
    quick: bool,
    /// Measure only these servers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<ServerKind>,
    /// Run only these scenarios: w1-1k, w16-1k, rate-1k, the same with 10k, idle-10k, churn, channels-10k.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// How often everything is measured; 5 by default.
    #[arg(long)]
    rounds: Option<u32>,
    /// The core of the servers.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
    /// Is the process that runs the load: set by the one that was called.
    #[arg(long, hide = true)]
    in_own_session: bool,
    /// Put the report into this document, between its markers.
    #[arg(long)]
    write: Option<PathBuf>,
}

fn main() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let cpu = match arguments.role {
        Some(Role::Serve { cpu, .. }) => cpu,
        None if arguments.run.in_own_session => arguments.run.generator_cpu,
        None => return run_in_own_session(),
    };
    machine::raise_file_limit()?;
    machine::end_with_parent()?;
    machine::take_precedence()?;
    machine::pin_to(cpu)?;
    match arguments.role {
        Some(Role::Serve { server, .. }) => server.serve()?,
        None => arguments.run.execute()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts this program again with the same arguments, so that nothing it changes outlives it in the caller's session.
fn run_in_own_session() -> io::Result<ExitCode> {
    let arguments = std::env::args_os().skip(1);
    let status = Command::new(std::env::current_exe()?)
        .args(arguments)
        .arg("--in-own-session")
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Run {
    fn execute(self) -> io::Result<()> {
        let rounds = self.rounds.unwrap_or(if self.quick { 1 } else { 5 });
        let plan = Plan {
            program: std::env::current_exe()?,
            servers: self.servers(),
            scenarios: self.scenarios()?,
            rounds,
            server_core: self.server_cpu,
        };
        let outcome = plan.run()?;
        let report = report::render(&outcome, &machine::describe(), &self.command_line(), rounds);
        print!("{report}");
        match &self.write {
            Some(path) => report::write_into(path, "fan-out", &report),
            None => Ok(()),
        }
    }

    fn servers(&self) -> Vec<ServerKind> {
        let is_wanted = |kind: &ServerKind| match self.only.is_empty() {
            true => kind.is_usual(),
            false => self.only.contains(kind),
        };
        ServerKind::ALL.into_iter().filter(is_wanted).collect()
    }

    fn scenarios(&self) -> io::Result<Vec<Scenario>> {
        let mut known = if self.quick {
            Scenario::quick()
        } else {
            Scenario::all()
        };
        if let Some(unknown) = self
            .scenarios
            .iter()
            .find(|name| !known.iter().any(|scenario| scenario.name == **name))
        {
            let names: Vec<&str> = known.iter().map(|scenario| scenario.name).collect();
            return Err(io::Error::other(format!(
                "no scenario {unknown}; there are {}",
                names.join(", ")
            )));
        }
        known.retain(|scenario| {
            self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario.name)
        });
        Ok(known)
    }

    /// What brings the same figures again.
    fn command_line(&self) -> String {
        let mut command = "cargo run --release -p fanfare-benches --bin fanout --".to_owned();
        if self.quick {
            command.push_str(" --quick");
        }
        if !self.only.is_empty() {
            let names: Vec<String> = self.only.iter().map(ServerKind::to_string).collect();
            command.push_str(&format!(" --only {}", names.join(",")));
        }
        if !self.scenarios.is_empty() {
            command.push_str(&format!(" --scenarios {}", self.scenarios.join(",")));
        }
        if let Some(rounds) = self.rounds {
            command.push_str(&format!(" --rounds {rounds}"));
        }
        command.trim_end_matches(" --").to_owned()
    }
}
