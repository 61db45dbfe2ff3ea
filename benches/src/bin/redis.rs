//! The benchmarks with Redis: see `docs/benchmarks.md`.

use std::io;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use fanfare_benches::redis_server::RedisServer;
use fanfare_benches::{machine, redis_publish};

/// Measures what Redis costs, with a Redis server of its own on one core.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    room: Room,
    /// The core of Redis.
    #[arg(long, default_value_t = 0, global = true)]
    server_cpu: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1, global = true)]
    generator_cpu: usize,
}

#[derive(Subcommand)]
enum Room {
    /// The cost of a publish against a plain PUBLISH.
    Publish(Publish),
}

#[derive(Args)]
struct Publish {
    /// How often each way of publishing takes its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each turn takes, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    turn_ms: u64,
    /// How many publishes are under way at any time.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Over how many channels they are spread.
    #[arg(long, default_value_t = 64)]
    channels: usize,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    machine::raise_file_limit()?;
    let server = RedisServer::start(arguments.server_cpu, arguments.generator_cpu)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.room {
        Room::Publish(publish) => {
            let plan = redis_publish::Plan {
                rounds: publish.rounds,
                turn: Duration::from_millis(publish.turn_ms),
                concurrency: publish.concurrency,
                channels: publish.channels,
            };
            let rounds = runtime.block_on(redis_publish::measure(&server, plan))?;
            println!("{}\n", machine::describe());
            print!("{}", redis_publish::render(&rounds));
        }
    }
    Ok(())
}
