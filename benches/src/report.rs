//! The run as Markdown.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::{fs, iter};

use crate::goals;
use crate::runner::Outcome;
use crate::samples::{Measured, Metric, Samples};
use crate::servers::ServerKind;

/// The whole report: tables, goals, and whatever a reader must know to judge them.
#[must_use]
pub fn render(outcome: &Outcome, machine: &str, command: &str, rounds: u32) -> String {
    let samples = &outcome.samples;
    let mut out =
        format!("Made by `{command}`: medians of {rounds} rounds.\n\nMachine: {machine}\n");
    for (title, suffix) in [("1,000", "1k"), ("10,000", "10k")] {
        if samples.has(&format!("w1-{suffix}")) || samples.has(&format!("rate-{suffix}")) {
            fan_out_table(&mut out, samples, title, suffix);
        }
    }
    for name in ["idle-1k", "idle-10k"] {
        if samples.has(name) {
            let columns: [Column<'_>; 3] = [
                ("KiB per idle connection", Measured::idle_kib, 2),
                ("KiB a second after a burst", Measured::after_burst_kib, 2),
                ("CPU µs per connect and subscribe", Measured::cpu_micros, 0),
            ];
            plain_table(
                &mut out,
                samples,
                "Resident memory and connecting",
                name,
                &columns,
            );
        }
    }
    if samples.has("churn") {
        let columns: [Column<'_>; 2] = [
            ("CPU µs per cycle", Measured::cpu_micros, 1),
            ("cycles/s", Measured::per_second, 0),
        ];
        plain_table(
            &mut out,
            samples,
            "Connect, subscribe, close",
            "churn",
            &columns,
        );
    }
    if samples.has("channels-10k") {
        let columns: [Column<'_>; 3] = [
            ("CPU µs per delivery", Measured::cpu_micros, 2),
            ("deliveries/s", Measured::per_second, 0),
            ("p99 ms", Measured::p99_millis, 2),
        ];
        let title = "10,000 channels with one subscriber each, 64 messages under way";
        plain_table(&mut out, samples, title, "channels-10k", &columns);
    }
    faults_and_noise(&mut out, outcome);
    goals_list(&mut out, samples);
    out
}

/// Puts a report between the markers of that name in a document; a document without them gets them at its end.
///
/// # Errors
/// When the document cannot be read or written; a missing one is created.
pub fn write_into(path: &Path, name: &str, report: &str) -> io::Result<()> {
    let document = match fs::read_to_string(path) {
        Ok(document) => document,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    fs::write(path, insert(&document, name, report))
}

type Column<'a> = (&'a str, Metric, usize);

fn fan_out_table(out: &mut String, samples: &Samples, title: &str, suffix: &str) {
    let [w1, w16, rate] = ["w1", "w16", "rate"].map(|load| format!("{load}-{suffix}"));
    let _ = write!(out, "\n### {title} subscribers of one channel\n\n");
    out.push_str(
        "| server | CPU µs, window 1 | × limit 0a | of it user | CPU µs, window 16 | × limit 0b | deliveries/s, window 16 \
         | CPU µs, fixed rate | p50 / p99 ms, fixed rate | p99 × limit 0a | bytes |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for server in samples.servers() {
        let median = |scenario: &str, metric: Metric, digits| {
            cell(samples.median(server, scenario, metric), digits)
        };
        let ratio = |base, scenario: &str, metric: Metric| {
            cell(samples.ratio(server, base, scenario, metric), 2)
        };
        let cells = [
            server.title().to_owned(),
            median(&w1, Measured::cpu_micros, 2),
            ratio(ServerKind::Limit, &w1, Measured::cpu_micros),
            median(&w1, Measured::user_micros, 2),
            median(&w16, Measured::cpu_micros, 2),
            ratio(ServerKind::LimitJoined, &w16, Measured::cpu_micros),
            median(&w16, Measured::per_second, 0),
            median(&rate, Measured::cpu_micros, 2),
            format!(
                "{} / {}",
                median(&rate, Measured::p50_millis, 1),
                median(&rate, Measured::p99_millis, 1)
            ),
            ratio(ServerKind::Limit, &rate, Measured::p99_millis),
            median(&w1, Measured::wire_bytes, 0),
        ];
        row(out, &cells);
    }
}

fn plain_table(
    out: &mut String,
    samples: &Samples,
    title: &str,
    scenario: &str,
    columns: &[Column<'_>],
) {
    let _ = write!(out, "\n### {title}\n\n");
    let titles: Vec<String> = iter::once("server")
        .chain(columns.iter().map(|column| column.0))
        .map(str::to_owned)
        .collect();
    row(out, &titles);
    let _ = writeln!(out, "| --- |{}", " ---: |".repeat(columns.len()));
    for server in samples.servers() {
        let figures = columns
            .iter()
            .map(|&(_, metric, digits)| cell(samples.median(server, scenario, metric), digits));
        let cells: Vec<String> = iter::once(server.title().to_owned())
            .chain(figures)
            .collect();
        row(out, &cells);
    }
}

fn faults_and_noise(out: &mut String, outcome: &Outcome) {
    out.push_str("\n### Faults and noise\n\n");
    for server in outcome.samples.servers() {
        let (faults, operations) = outcome.samples.faults(server);
        let _ = writeln!(
            out,
            "- {server}: {} lost, {} reordered, {} duplicated, {} corrupted of {operations} counted operations.",
            faults.lost, faults.reordered, faults.duplicated, faults.corrupted
        );
    }
    let others = outcome
        .samples
        .0
        .iter()
        .map(|sample| sample.measured.others);
    let _ = writeln!(
        out,
        "- Other processes took up to {:.0} % of the servers' core during a measurement.",
        100.0 * others.fold(0.0, f64::max)
    );
    for failure in &outcome.failures {
        let _ = writeln!(out, "- Failed: {failure}");
    }
}

fn goals_list(out: &mut String, samples: &Samples) {
    out.push_str("\n### Goals\n\n");
    for goal in goals::judge(samples) {
        let _ = writeln!(out, "- {goal}");
    }
}

pub(crate) fn row(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

pub(crate) fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(
        || "-".to_owned(),
        |value| grouped(&format!("{value:.digits$}")),
    )
}

/// Commas between the thousands.
fn grouped(number: &str) -> String {
    let whole = number.split('.').next().unwrap_or(number).len();
    let mut out = String::new();
    for (index, digit) in number.chars().enumerate() {
        if index > 0 && index < whole && (whole - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn insert(document: &str, name: &str, report: &str) -> String {
    let begin = format!("<!-- {name} report: begin -->");
    let end = format!("<!-- {name} report: end -->");
    let section = format!("{begin}\n{}\n{end}", report.trim_end());
    let before_and_after = document.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    match before_and_after {
        Some((before, after)) => format!("{before}{section}{after}"),
        None => format!(
            "{document}{}{section}\n",
            if document.is_empty() { "" } else { "\n" }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_replaces_the_one_before_and_nothing_else() {
        let first = insert("# Title\n", "a", "one\n");
        let (begin, end) = ("<!-- a report: begin -->", "<!-- a report: end -->");
        assert_eq!(first, format!("# Title\n\n{begin}\none\n{end}\n"));
        let surrounded = format!("{first}\nTail.\n");
        assert_eq!(
            insert(&surrounded, "a", "two"),
            surrounded.replace("one", "two")
        );
        let beside = insert(&surrounded, "b", "three");
        assert!(beside.starts_with(&surrounded) && beside.contains("<!-- b report: begin -->"));
        assert_eq!(insert("", "a", "x"), format!("{begin}\nx\n{end}\n"));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, expect) in [
            ("1", "1"),
            ("999.5", "999.5"),
            ("1234.25", "1,234.25"),
            ("2370000", "2,370,000"),
        ] {
            assert_eq!(grouped(number), expect);
        }
        assert_eq!(cell(None, 2), "-");
    }
}
