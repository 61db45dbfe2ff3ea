//! The cluster benchmark: see `docs/benchmarks.md`.

use std::io;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use fanfare_benches::cluster::latency::Setting;
use fanfare_benches::cluster::{latency, node, report, storm};
use fanfare_benches::{machine, report as document};

/// Measures several nodes on one Redis: latency, throughput, and a reconnect storm.
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
    /// Is one of the nodes, until it is killed.
    #[command(hide = true)]
    Serve {
        /// On which core.
        #[arg(long)]
        cpu: usize,
        /// On which Redis; without one it has an engine of its own.
        #[arg(long)]
        redis_url: Option<String>,
    },
}

#[derive(Args)]
struct Run {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The core of the nodes and of Redis.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
    /// Put the report into this document, between its markers.
    #[arg(long)]
    write: Option<PathBuf>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    machine::raise_file_limit()?;
    match arguments.role {
        Some(Role::Serve { cpu, redis_url }) => {
            machine::end_with_parent()?;
            machine::pin_to(cpu)?;
            node::serve(redis_url.as_deref())
        }
        None => {
            machine::pin_to(arguments.run.generator_cpu)?;
            arguments.run.execute()
        }
    }
}

impl Run {
    fn execute(self) -> io::Result<()> {
        let program = std::env::current_exe()?;
        let setting = |nodes| Setting {
            program: &program,
            nodes,
            core: self.server_cpu,
            own_core: self.generator_cpu,
        };
        let mut latencies: Vec<(usize, Vec<latency::Measured>)> =
            (0..=3).map(|nodes| (nodes, Vec::new())).collect();
        let mut storms = Vec::new();
        for round in 0..self.rounds {
            for (nodes, measured) in &mut latencies {
                let one = latency::measure(&setting(*nodes))?;
                eprintln!(
                    "round {} nodes {nodes}: p50 {:?}, p99 {:?}, {:.0} publishes/s, faults {}",
                    round + 1,
                    one.p50.unwrap_or_default(),
                    one.p99.unwrap_or_default(),
                    one.published_per_second,
                    one.faults.total()
                );
                measured.push(one);
            }
        }
        for nodes in [1, 3] {
            let storm = storm::measure(&setting(nodes))?;
            eprintln!(
                "storm on {nodes} nodes: {} of {} recovered, {:.2} reads per channel and node",
                storm.recovered,
                storm.clients,
                storm.reads_per_channel()
            );
            storms.push(storm);
        }
        let command = format!(
            "cargo run --release -p fanfare-benches --bin cluster -- --rounds {}",
            self.rounds
        );
        let report = report::render(
            &latencies,
            &storms,
            &machine::describe(),
            &command,
            self.rounds,
        );
        print!("{report}");
        match &self.write {
            Some(path) => document::write_into(path, "cluster", &report),
            None => Ok(()),
        }
    }
}
