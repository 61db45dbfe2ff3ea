//! A run: every scenario, every round, one server after the other.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::child::ServerProcess;
use crate::generator::{Generator, Pace, Target, close_all, subscribe_all};
use crate::samples::{Measured, Sample, Samples};
use crate::scenario::{Load, Scenario};
use crate::servers::ServerKind;
use crate::usage::{self, CpuTime};

/// What to run.
#[derive(Debug)]
pub struct Plan {
    /// The program that serves when it is called with `serve`.
    pub program: PathBuf,
    /// Who is measured.
    pub servers: Vec<ServerKind>,
    /// In what.
    pub scenarios: Vec<Scenario>,
    /// How often.
    pub rounds: u32,
    /// Where servers run.
    pub server_core: usize,
}

/// What came out of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was measured.
    pub samples: Samples,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Plan {
    /// Runs it. The servers take turns within a scenario, so that those which are compared see the same state of the machine.
    ///
    /// # Errors
    /// When progress cannot be shown; a server that fails is part of the outcome.
    pub fn run(&self) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut progress = io::stderr().lock();
        for round in 0..self.rounds {
            for scenario in &self.scenarios {
                for turn in 0..scenario.times {
                    let turn = round * scenario.times + turn;
                    self.take_turns(turn, scenario, &mut outcome, &mut progress)?;
                }
            }
        }
        Ok(outcome)
    }

    /// Measures each server once.
    fn take_turns(
        &self,
        turn: u32,
        scenario: &Scenario,
        outcome: &mut Outcome,
        progress: &mut impl Write,
    ) -> io::Result<()> {
        let name = scenario.name;
        for &server in &self.servers {
            let called = server.to_string();
            write!(progress, "turn {:<3} {name:<13} {called:<14} ", turn + 1)?;
            match self.measure(server, scenario) {
                Ok(measured) => {
                    writeln!(progress, "{}", summary(&measured))?;
                    outcome.samples.0.push(Sample {
                        server,
                        scenario: name,
                        turn,
                        measured,
                    });
                }
                Err(error) => {
                    writeln!(progress, "failed: {error}")?;
                    let failure = format!("{server}, {name}, turn {}: {error}", turn + 1);
                    outcome.failures.push(failure);
                }
            }
        }
        Ok(())
    }

    /// Measures a server in a fresh process.
    fn measure(&self, kind: ServerKind, scenario: &Scenario) -> io::Result<Measured> {
        let server = ServerProcess::start(&self.program, kind, self.server_core)?;
        let meter = Meter {
            pid: server.pid(),
            core: self.server_core,
        };
        match scenario.load {
            Load::Window(window) => {
                fan_out(server.target(), scenario, Pace::Window(window), &meter)
            }
            Load::PerSecond(rate) => {
                fan_out(server.target(), scenario, Pace::per_second(rate), &meter)
            }
            Load::Idle => idle(server.target(), scenario, &meter),
            Load::Churn => churn(server.target(), scenario, &meter),
        }
    }
}

/// Publishes to everybody and counts deliveries.
fn fan_out(
    target: &Target,
    scenario: &Scenario,
    mut pace: Pace,
    meter: &Meter,
) -> io::Result<Measured> {
    let mut generator = Generator::connect(target, scenario.subscribers, scenario.channels)?;
    generator.drive(&mut pace, Instant::now() + scenario.warm_up)?;
    generator.ledger().latency().clear();
    let deliveries_before = generator.ledger().deliveries();
    let bytes_before = generator.bytes_read();
    let start = meter.read()?;
    generator.drive(&mut pace, start.at + scenario.duration)?;
    let mut measured = meter.since(&start)?;
    measured.operations = generator.ledger().deliveries() - deliveries_before;
    measured.wire_bytes =
        (generator.bytes_read() - bytes_before) as f64 / measured.operations.max(1) as f64;
    generator.drain(DRAIN_LIMIT)?;
    let ledger = generator.ledger();
    measured.faults = ledger.faults();
    measured.p50 = ledger.latency().quantile(0.5);
    measured.p99 = ledger.latency().quantile(0.99);
    Ok(measured)
}

/// Connects, waits, and looks at the memory; then once more after a burst. Counts connections.
fn idle(target: &Target, scenario: &Scenario, meter: &Meter) -> io::Result<Measured> {
    // A few connections first: the code and the buffers they bring into memory belong to no connection.
    let mut first = Generator::connect(target, FIRST_CONNECTIONS, 1)?;
    first.rest(SETTLE)?;
    drop(first);
    let resident_before = usage::resident_bytes(meter.pid)?;
    let start = meter.read()?;
    let mut generator = Generator::connect(target, scenario.subscribers, scenario.channels)?;
    let mut measured = meter.since(&start)?;
    measured.operations = scenario.subscribers as u64;
    let per_connection = || -> io::Result<f64> {
        let resident = usage::resident_bytes(meter.pid)?.saturating_sub(resident_before);
        Ok(resident as f64 / scenario.subscribers as f64)
    };
    generator.rest(SETTLE)?;
    measured.idle_bytes = Some(per_connection()?);
    generator.drive(&mut Pace::Window(16), Instant::now() + scenario.duration)?;
    generator.drain(DRAIN_LIMIT)?;
    generator.rest(SETTLE)?;
    measured.after_burst_bytes = Some(per_connection()?);
    measured.faults = generator.ledger().faults();
    Ok(measured)
}

/// Connects, subscribes and closes. Counts such cycles.
fn churn(target: &Target, scenario: &Scenario, meter: &Meter) -> io::Result<Measured> {
    let channels = vec![0; scenario.subscribers];
    let warm = Instant::now() + scenario.warm_up;
    while Instant::now() < warm {
        close_all(subscribe_all(target, &channels)?)?;
    }
    let start = meter.read()?;
    let mut cycles = 0;
    while start.at.elapsed() < scenario.duration {
        close_all(subscribe_all(target, &channels)?)?;
        cycles += channels.len() as u64;
    }
    let mut measured = meter.since(&start)?;
    measured.operations = cycles;
    Ok(measured)
}

struct Meter {
    pid: u32,
    core: usize,
}

struct Reading {
    at: Instant,
    process: CpuTime,
    core: Duration,
}

impl Meter {
    fn read(&self) -> io::Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            process: usage::process_time(self.pid)?,
            core: usage::core_time(self.core)?,
        })
    }

    fn since(&self, start: &Reading) -> io::Result<Measured> {
        let end = self.read()?;
        let elapsed = end.at - start.at;
        let cpu = end.process - start.process;
        let others = (end.core - start.core).saturating_sub(cpu.total());
        Ok(Measured {
            elapsed,
            cpu,
            others: others.as_secs_f64() / elapsed.as_secs_f64(),
            ..Measured::default()
        })
    }
}

fn summary(measured: &Measured) -> String {
    let number =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    format!(
        "{} us cpu, {} user, {:.0}/s, p99 {} ms, {} KiB, others {:.2}, faults {}",
        number(measured.cpu_micros()),
        number(measured.user_micros()),
        measured.per_second().unwrap_or(0.0),
        number(measured.p99_millis()),
        number(measured.idle_kib()),
        measured.others,
        measured.faults.total(),
    )
}

/// Time enough for the slowest server to finish what is under way.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Time enough for a server to finish the work that connecting left behind.
const SETTLE: Duration = Duration::from_secs(1);
const FIRST_CONNECTIONS: usize = 16;
