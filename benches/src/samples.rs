//! What was measured, and questions to it.

use std::time::Duration;

use crate::sequence::Faults;
use crate::servers::ServerKind;
use crate::statistics::{median, median_ratio};
use crate::usage::CpuTime;

/// One server in one scenario in one turn.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Who.
    pub server: ServerKind,
    /// In what.
    pub scenario: &'static str,
    /// When: samples of one turn were taken next to each other.
    pub turn: u32,
    /// What came out.
    pub measured: Measured,
}

/// The figures of a sample.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Deliveries; connections where those are counted.
    pub operations: u64,
    /// How long it was measured.
    pub elapsed: Duration,
    /// What the server used in that time.
    pub cpu: CpuTime,
    /// The share of the server's core that others used meanwhile.
    pub others: f64,
    /// Bytes on a subscriber's connection per delivery.
    pub wire_bytes: f64,
    /// What went wrong.
    pub faults: Faults,
    /// Median of the time from when a message was due to its delivery.
    pub p50: Option<Duration>,
    /// 99th percentile of the same.
    pub p99: Option<Duration>,
    /// Resident bytes per idle subscribed connection.
    pub idle_bytes: Option<f64>,
    /// The same a second after a burst.
    pub after_burst_bytes: Option<f64>,
}

impl Measured {
    /// Server microseconds per operation.
    #[must_use]
    pub fn cpu_micros(&self) -> Option<f64> {
        self.micros_each(self.cpu.total())
    }

    /// Of these, the ones outside of the kernel.
    #[must_use]
    pub fn user_micros(&self) -> Option<f64> {
        self.micros_each(self.cpu.user)
    }

    /// Operations per second.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let seconds = self.elapsed.as_secs_f64();
        (seconds > 0.0).then(|| self.operations as f64 / seconds)
    }

    /// Median latency in milliseconds.
    #[must_use]
    pub fn p50_millis(&self) -> Option<f64> {
        self.p50.map(|latency| latency.as_secs_f64() * 1e3)
    }

    /// 99th percentile of the latency in milliseconds.
    #[must_use]
    pub fn p99_millis(&self) -> Option<f64> {
        self.p99.map(|latency| latency.as_secs_f64() * 1e3)
    }

    /// Resident KiB per idle connection.
    #[must_use]
    pub fn idle_kib(&self) -> Option<f64> {
        self.idle_bytes.map(|bytes| bytes / 1024.0)
    }

    /// Resident KiB per connection after a burst.
    #[must_use]
    pub fn after_burst_kib(&self) -> Option<f64> {
        self.after_burst_bytes.map(|bytes| bytes / 1024.0)
    }

    /// Bytes on the wire per delivery.
    #[must_use]
    pub fn wire_bytes(&self) -> Option<f64> {
        (self.wire_bytes > 0.0).then_some(self.wire_bytes)
    }

    fn micros_each(&self, time: Duration) -> Option<f64> {
        (self.operations > 0).then(|| time.as_secs_f64() * 1e6 / self.operations as f64)
    }
}

/// A figure of a sample, where it has one.
pub type Metric = fn(&Measured) -> Option<f64>;

/// All samples of a run.
#[derive(Debug, Clone, Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// The median over the turns.
    #[must_use]
    pub fn median(&self, server: ServerKind, scenario: &str, metric: Metric) -> Option<f64> {
        median(
            self.of(server, scenario)
                .filter_map(|sample| metric(&sample.measured)),
        )
    }

    /// The median of the ratios to another server in the same turn.
    #[must_use]
    pub fn ratio(
        &self,
        server: ServerKind,
        base: ServerKind,
        scenario: &str,
        metric: Metric,
    ) -> Option<f64> {
        let pairs = self.of(server, scenario).filter_map(|sample| {
            let beside = self
                .of(base, scenario)
                .find(|other| other.turn == sample.turn)?;
            Some((metric(&sample.measured)?, metric(&beside.measured)?))
        });
        median_ratio(pairs)
    }

    /// Everything that went wrong with a server's deliveries, and how many there were.
    #[must_use]
    pub fn faults(&self, server: ServerKind) -> (Faults, u64) {
        let mut total = (Faults::default(), 0);
        for sample in self.0.iter().filter(|sample| sample.server == server) {
            total.0 += sample.measured.faults;
            total.1 += sample.measured.operations;
        }
        total
    }

    /// Whether a scenario was measured at all.
    #[must_use]
    pub fn has(&self, scenario: &str) -> bool {
        self.0.iter().any(|sample| sample.scenario == scenario)
    }

    /// The servers that were measured, in the order of the table.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerKind> {
        let measured = |kind: &ServerKind| self.0.iter().any(|sample| sample.server == *kind);
        ServerKind::ALL.into_iter().filter(measured).collect()
    }

    fn of(&self, server: ServerKind, scenario: &str) -> impl Iterator<Item = &Sample> {
        self.0
            .iter()
            .filter(move |sample| sample.server == server && sample.scenario == scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(server: ServerKind, turn: u32, user: u64, operations: u64) -> Sample {
        let cpu = CpuTime {
            user: Duration::from_micros(user),
            system: Duration::from_micros(3 * user),
        };
        let measured = Measured {
            operations,
            elapsed: Duration::from_secs(2),
            cpu,
            ..Measured::default()
        };
        Sample {
            server,
            scenario: "w1-1k",
            turn,
            measured,
        }
    }

    #[test]
    fn figures_are_per_operation() {
        let measured = sample(ServerKind::Limit, 0, 100, 50).measured;
        assert_eq!(measured.user_micros(), Some(2.0));
        assert_eq!(measured.cpu_micros(), Some(8.0));
        assert_eq!(measured.per_second(), Some(25.0));
        assert_eq!(Measured::default().cpu_micros(), None);
    }

    #[test]
    fn ratios_pair_samples_of_one_turn() {
        let samples = Samples(vec![
            sample(ServerKind::Limit, 0, 100, 100),
            sample(ServerKind::Axum, 0, 300, 100),
            sample(ServerKind::Limit, 1, 1_000, 100),
            sample(ServerKind::Axum, 1, 2_000, 100),
            sample(ServerKind::Axum, 2, 9_000, 100),
        ]);
        let metric: Metric = Measured::cpu_micros;
        assert_eq!(
            samples.ratio(ServerKind::Axum, ServerKind::Limit, "w1-1k", metric),
            Some(2.5)
        );
        assert_eq!(
            samples.ratio(ServerKind::Axum, ServerKind::Limit, "w16-1k", metric),
            None
        );
        assert_eq!(
            samples.median(ServerKind::Axum, "w1-1k", metric),
            Some(80.0)
        );
    }

    #[test]
    fn faults_add_up_over_scenarios_and_turns() {
        let mut lossy = sample(ServerKind::Axum, 0, 1, 10);
        lossy.measured.faults.lost = 2;
        let samples = Samples(vec![
            lossy.clone(),
            lossy,
            sample(ServerKind::Limit, 0, 1, 10),
        ]);
        let (faults, operations) = samples.faults(ServerKind::Axum);
        assert_eq!((faults.total(), operations), (4, 20));
        assert_eq!(samples.servers(), [ServerKind::Limit, ServerKind::Axum]);
    }
}
