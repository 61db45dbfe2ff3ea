//! What is to be reached, as ratios within one run.

use std::fmt;

use crate::samples::{Measured, Metric, Samples};
use crate::servers::ServerKind;

/// A goal and how far it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    text: String,
    bound: Bound,
    measured: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// Whether it is reached; `None` when the run did not measure it.
    #[must_use]
    pub fn is_reached(&self) -> Option<bool> {
        self.measured.map(|measured| match self.bound {
            Bound::AtMost(bound) => measured <= bound,
            Bound::AtLeast(bound) => measured >= bound,
        })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.is_reached() {
            Some(true) => "**reached**",
            Some(false) => "**not reached**",
            None => "not measured",
        };
        let (word, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        write!(f, "{verdict}: {}: {word} {bound}", self.text)?;
        match self.measured {
            Some(measured) => write!(f, ", measured {measured:.2}"),
            None => Ok(()),
        }
    }
}

/// Judges our server by every goal.
#[must_use]
pub fn judge(samples: &Samples) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (subscribers, suffix) in [("1,000", "1k"), ("10,000", "10k")] {
        let [w1, w16, rate] = ["w1", "w16", "rate"].map(|load| format!("{load}-{suffix}"));
        let ratio =
            |base, scenario: &str, metric: Metric| samples.ratio(OURS, base, scenario, metric);
        let mut goal = |text: &str, bound, measured| {
            goals.push(Goal {
                text: format!("{subscribers} subscribers, {text}"),
                bound,
                measured,
            });
        };
        goal(
            "window 1, CPU per delivery as a multiple of limit 0a",
            Bound::AtMost(1.3),
            ratio(ServerKind::Limit, &w1, Measured::cpu_micros),
        );
        goal(
            "window 16, CPU per delivery as a multiple of limit 0b",
            Bound::AtMost(1.3),
            ratio(ServerKind::LimitJoined, &w16, Measured::cpu_micros),
        );
        goal(
            "window 16, deliveries per second as a multiple of axum's",
            Bound::AtLeast(10.0),
            ratio(ServerKind::Axum, &w16, Measured::per_second),
        );
        goal(
            "window 1, own user CPU per delivery in µs",
            Bound::AtMost(1.2),
            samples.median(OURS, &w1, Measured::user_micros),
        );
        goal(
            "fixed rate, p99 as a multiple of limit 0a's",
            Bound::AtMost(1.5),
            ratio(ServerKind::Limit, &rate, Measured::p99_millis),
        );
    }
    goals.push(Goal {
        text: "10,000 subscribers, resident KiB per idle connection".to_owned(),
        bound: Bound::AtMost(6.0),
        measured: samples.median(OURS, "idle-10k", Measured::idle_kib),
    });
    let (faults, operations) = samples.faults(OURS);
    goals.push(Goal {
        text: "lost, reordered, duplicated and corrupted deliveries in the whole run".to_owned(),
        bound: Bound::AtMost(0.0),
        measured: (operations > 0).then_some(faults.total() as f64),
    });
    goals
}

const OURS: ServerKind = ServerKind::Fanfare;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::samples::Sample;
    use crate::usage::CpuTime;

    fn sample(server: ServerKind, scenario: &'static str, cpu_micros: u64) -> Sample {
        let measured = Measured {
            operations: 1_000,
            elapsed: Duration::from_secs(1),
            cpu: CpuTime {
                user: Duration::from_micros(cpu_micros * 1_000),
                system: Duration::ZERO,
            },
            ..Measured::default()
        };
        Sample {
            server,
            scenario,
            turn: 0,
            measured,
        }
    }

    fn verdicts(samples: Vec<Sample>) -> Vec<Option<bool>> {
        judge(&Samples(samples))
            .iter()
            .map(Goal::is_reached)
            .collect()
    }

    #[test]
    fn nothing_is_reached_that_was_not_measured() {
        assert!(verdicts(Vec::new()).iter().all(Option::is_none));
    }

    #[test]
    fn a_ratio_is_judged_against_the_limit_of_the_run() {
        let close = vec![
            sample(ServerKind::Limit, "w1-1k", 100),
            sample(OURS, "w1-1k", 129),
        ];
        assert_eq!(verdicts(close)[0], Some(true));
        let far = vec![
            sample(ServerKind::Limit, "w1-1k", 100),
            sample(OURS, "w1-1k", 131),
        ];
        assert_eq!(verdicts(far)[0], Some(false));
    }

    #[test]
    fn a_single_lost_message_is_too_many() {
        let mut lossy = sample(OURS, "w1-1k", 1);
        assert_eq!(verdicts(vec![lossy.clone()]).last(), Some(&Some(true)));
        lossy.measured.faults.lost = 1;
        assert_eq!(verdicts(vec![lossy]).last(), Some(&Some(false)));
    }

    #[test]
    fn a_goal_says_bound_and_value() {
        let goal = Goal {
            text: "speed".to_owned(),
            bound: Bound::AtLeast(10.0),
            measured: Some(9.5),
        };
        assert_eq!(
            goal.to_string(),
            "**not reached**: speed: at least 10, measured 9.50"
        );
    }
}
