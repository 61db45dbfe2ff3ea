//! The flood benchmark: see `docs/benchmarks.md`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum as _};
use fanfare_benches::flood::report::Row;
use fanfare_benches::flood::{Flood, peer::Flooding, report, server, witness};
use fanfare_benches::{machine, report as document};

/// Measures what connections that send without end do to the others.
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
    /// Is the server, until it is killed.
    #[command(hide = true)]
    Serve {
        /// On which core.
        #[arg(long)]
        cpu: usize,
    },
}

#[derive(Args)]
struct Run {
    /// Only these floods.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Flood>,
    /// By how many connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 20])]
    peers: Vec<usize>,
    /// For how many seconds each.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The core of the peers and of the others.
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
    /// Put the report into this document, between its markers.
    #[arg(long)]
    write: Option<PathBuf>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Serve { cpu }) => {
            machine::end_with_parent()?;
            machine::pin_to(cpu)?;
            server::serve()
        }
        None => {
            machine::pin_to(arguments.run.generator_cpu)?;
            arguments.run.execute()
        }
    }
}

impl Run {
    fn execute(self) -> io::Result<()> {
        let mut rows = Vec::new();
        for &flood in Flood::value_variants() {
            if !self.only.is_empty() && !self.only.contains(&flood) {
                continue;
            }
            let peers: &[usize] = if flood == Flood::None {
                &[0]
            } else {
                &self.peers
            };
            for &peers in peers {
                rows.push(self.measure(flood, peers)?);
            }
        }
        let command = format!(
            "cargo run --release -p fanfare-benches --bin flood -- --seconds {}",
            self.seconds
        );
        let report = report::render(&rows, &machine::describe(), &command);
        print!("{report}");
        match &self.write {
            Some(path) => document::write_into(path, "flood", &report),
            None => Ok(()),
        }
    }

    fn measure(&self, flood: Flood, peers: usize) -> io::Result<Row> {
        let server = server::start(&std::env::current_exe()?, self.server_cpu)?;
        let address = server.target().subscribers;
        let flooding = Flooding::start(address, flood, peers)?;
        let waits = witness::watch(address, Duration::from_secs(self.seconds));
        let waits = waits
            .inspect_err(|error| eprintln!("{flood}, {peers} peers: {error}"))
            .ok();
        let counts = flooding.counts();
        eprintln!("{flood}, {peers} peers: {} told", counts.told);
        Ok(Row {
            flood,
            peers,
            waits,
            counts,
        })
    }
}
