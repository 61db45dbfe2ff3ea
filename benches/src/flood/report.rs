//! The table of the floods.

use std::fmt::Write as _;
use std::time::Duration;

use super::Flood;
use super::peer::Counts;
use super::witness::Waits;

/// One flood, and how the others fared meanwhile.
#[derive(Debug)]
pub struct Row {
    /// What was sent.
    pub flood: Flood,
    /// By how many.
    pub peers: usize,
    /// What the others waited; none when one of them waited for ten seconds.
    pub waits: Option<Waits>,
    /// What the peers saw.
    pub counts: Counts,
}

/// Makes the report.
#[must_use]
pub fn render(rows: &[Row], machine: &str, command: &str) -> String {
    let mut out = format!("Made by `{command}`.\n\n{machine}\n\n");
    out.push_str(
        "| flood | peers | ping p50 / p99 / max ms | `/health/live` p99 / max ms | stale late, max ms | unfinished message late, max ms \
         | told 4106 | cut after at most ms | MiB sent |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let _ = write!(out, "| {} | {} | ", row.flood, row.peers);
        match &row.waits {
            Some(waits) => {
                let quantile = |at| millis(waits.ping.quantile(at));
                let health = |at| millis(waits.health.quantile(at));
                let _ = write!(
                    out,
                    "{} / {} / {} | {} / {} | {} | {} | ",
                    quantile(0.5),
                    quantile(0.99),
                    quantile(1.0),
                    health(0.99),
                    health(1.0),
                    millis(waits.stale_late.iter().max().copied()),
                    millis(waits.message_late.iter().max().copied()),
                );
            }
            None => out.push_str("frozen | frozen | - | - | "),
        }
        let cut_after = (row.counts.told > 0).then_some(row.counts.cut_after);
        let _ = writeln!(
            out,
            "{} | {} | {:.1} |",
            row.counts.told,
            millis(cut_after),
            row.counts.bytes as f64 / f64::from(1 << 20)
        );
    }
    out.push('\n');
    goals(rows, &mut out);
    out
}

/// What every flood must leave intact.
fn goals(rows: &[Row], out: &mut String) {
    let all = |of: &dyn Fn(&Waits) -> Option<Duration>| {
        let waits = rows.iter().map(|row| row.waits.as_ref().and_then(of));
        waits.map(|wait| wait.unwrap_or(Duration::MAX)).max()
    };
    let late = |waits: &Waits| {
        let all = waits.stale_late.iter().chain(&waits.message_late);
        all.max().copied()
    };
    let cut_after = rows.iter().map(|row| row.counts.cut_after).max();
    let goals = [
        (
            "p99 of another connection's ping",
            100,
            all(&|waits| waits.ping.quantile(0.99)),
        ),
        (
            "the slowest `/health/live`",
            250,
            all(&|waits| waits.health.quantile(1.0)),
        ),
        ("the latest of the deadlines, late by", 500, all(&late)),
        ("from being told 4106 to being cut", 1_000, cut_after),
    ];
    for (what, most_ms, measured) in goals {
        let measured = measured.unwrap_or_default();
        let word = if measured <= Duration::from_millis(most_ms) {
            "reached"
        } else {
            "missed"
        };
        let _ = writeln!(
            out,
            "- **{word}**: {what}: at most {most_ms} ms, measured {}",
            millis(Some(measured).filter(|measured| *measured != Duration::MAX))
        );
    }
}

fn millis(duration: Option<Duration>) -> String {
    duration.map_or_else(
        || "-".to_owned(),
        |duration| format!("{:.1}", duration.as_secs_f64() * 1_000.0),
    )
}
