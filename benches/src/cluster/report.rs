//! The run as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use super::{latency, storm};
use crate::report::{cell, row};
use crate::statistics::median;

/// The whole report. `latencies` holds the rounds of each number of nodes, 0 standing for one node without Redis.
#[must_use]
pub fn render(
    latencies: &[(usize, Vec<latency::Measured>)],
    storms: &[storm::Measured],
    machine: &str,
    command: &str,
    rounds: u32,
) -> String {
    let mut out =
        format!("Made by `{command}`: medians of {rounds} rounds.\n\nMachine: {machine}\n\n");
    out.push_str(
        "| nodes | p50 / p99 ms at 200 messages/s | publishes/s, 64 under way | CPU µs of Redis each | CPU µs of all nodes each | faults |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (nodes, measured) in latencies {
        let of = |metric: &dyn Fn(&latency::Measured) -> Option<f64>| {
            median(measured.iter().filter_map(metric))
        };
        let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        let faults: u64 = measured.iter().map(|one| one.faults.total()).sum();
        let cells = [
            match nodes {
                0 => "1, memory engine".to_owned(),
                nodes => format!("{nodes}, Redis"),
            },
            format!(
                "{} / {}",
                cell(of(&|one| millis(one.p50)), 2),
                cell(of(&|one| millis(one.p99)), 2)
            ),
            cell(of(&|one| Some(one.published_per_second)), 0),
            cell(of(&|one| one.redis_micros), 1),
            cell(of(&|one| Some(one.node_micros)), 1),
            faults.to_string(),
        ];
        row(&mut out, &cells);
    }
    out.push_str("\n| storm | back with everything | reads of Redis per channel and node | all back after |\n| --- | ---: | ---: | ---: |\n");
    for storm in storms {
        let cells = [
            format!(
                "{} clients, {} channels, back to {}",
                storm.clients,
                storm.channels,
                match storm.is_warm {
                    true => "their own node".to_owned(),
                    false => format!("{} other nodes", storm.nodes),
                }
            ),
            storm.recovered.to_string(),
            format!("{:.2}", storm.reads_per_channel()),
            format!("{:.1} s", storm.elapsed.as_secs_f64()),
        ];
        row(&mut out, &cells);
    }
    let worst = storms
        .iter()
        .map(storm::Measured::reads_per_channel)
        .fold(0.0, f64::max);
    let verdict = if worst <= READS_GOAL {
        "reached"
    } else {
        "not reached"
    };
    let _ = writeln!(
        out,
        "\n- **{verdict}**: reads of Redis per channel and node in a storm: at most {READS_GOAL}, measured {worst:.2}"
    );
    out
}

/// A little more than once each: a storm must not reach Redis.
const READS_GOAL: f64 = 1.1;
