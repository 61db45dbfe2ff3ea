//! `cargo xtask autobahn`: Autobahn's fuzzing client against the server's frame layer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::error::{Result, TaskError};
use crate::process::{self, Background};
use crate::progress::step;
use crate::tools;
use crate::workspace::Workspace;

/// Which cases to run.
#[derive(Debug, Args)]
pub(crate) struct AutobahnOptions {
    /// Only these cases, separated by commas, such as 6.4.*,9.*.
    #[arg(long, value_delimiter = ',', default_values = CASES)]
    cases: Vec<String>,
    /// Write the table to docs/autobahn.md.
    #[arg(long)]
    write: bool,
}

/// Runs the suite; a case that fails, or is passed late, ends it with an error.
pub(crate) fn run(workspace: &Workspace, options: &AutobahnOptions) -> Result<()> {
    let wstest = tools::wstest(workspace)?;
    step("building the echo", || {
        let mut build = workspace.cargo();
        build.args([
            "build",
            "--quiet",
            "-p",
            "fanfare-tests",
            "--example",
            "echo",
        ]);
        process::run(&mut build)
    })?;
    let mut echo = Command::new(workspace.target("debug/examples/echo"));
    let (_echo, address) = Background::start(&mut echo, Duration::from_secs(30))?;
    let folder = workspace.target("autobahn");
    // What an earlier run left would be counted again.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(TaskError::file("create", &folder))?;
    let specification = folder.join("fuzzingclient.json");
    fs::write(&specification, specify(&address, &folder, &options.cases))
        .map_err(TaskError::file("write", &specification))?;
    step("running the cases", || {
        let mut client = Command::new(wstest);
        client
            .args(["--mode", "fuzzingclient", "--spec"])
            .arg(&specification)
            .current_dir(&folder);
        process::run_within(&mut client, LONGEST)
    })?;
    let index = folder.join("index.json");
    let index = fs::read_to_string(&index).map_err(TaskError::file("read", &index))?;
    let verdicts = Verdicts::read(&index)?;
    let table = verdicts.table();
    print!("{table}");
    if options.write {
        write(&workspace.path("docs/autobahn.md"), &table)?;
    }
    verdicts.check()
}

fn specify(address: &str, folder: &Path, cases: &[String]) -> String {
    let cases: Vec<String> = cases.iter().map(|case| format!("\"{case}\"")).collect();
    format!(
        "{{\"outdir\": \"{}\", \"servers\": [{{\"agent\": \"{AGENT}\", \"url\": \"ws://{address}\"}}], \
         \"cases\": [{}], \"exclude-cases\": [], \"exclude-agent-cases\": {{}}}}",
        folder.display(),
        cases.join(", ")
    )
}

/// What the suite says of every case.
#[derive(Debug, PartialEq)]
struct Verdicts(BTreeMap<Number, Verdict>);

/// A case's number in parts, so that 1.10 comes after 1.9.
type Number = Vec<u32>;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    behavior: String,
    behavior_close: String,
}

impl Verdicts {
    fn read(index: &str) -> Result<Self> {
        let mut index: BTreeMap<String, BTreeMap<String, Verdict>> = serde_json::from_str(index)
            .map_err(|error| {
                TaskError::Unexpected(format!("Autobahn's index cannot be read: {error}"))
            })?;
        let verdicts = index.remove(AGENT).unwrap_or_default();
        if verdicts.is_empty() {
            return Err(TaskError::Unexpected("no case was run".to_owned()));
        }
        let number = |name: String| {
            let parts = name.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
            parts.collect::<Number>()
        };
        let verdicts = verdicts.into_iter();
        Ok(Self(
            verdicts
                .map(|(name, verdict)| (number(name), verdict))
                .collect(),
        ))
    }

    /// A row for each group of cases, and one for each case that did not pass.
    fn table(&self) -> String {
        let mut groups: BTreeMap<u32, (u32, u32, u32)> = BTreeMap::new();
        for (number, verdict) in &self.0 {
            let (passed, informational, other) = groups.entry(number[0]).or_default();
            match verdict {
                verdict if !verdict.passes() => *other += 1,
                verdict if verdict.behavior == "INFORMATIONAL" => *informational += 1,
                _ => *passed += 1,
            }
        }
        let mut table = "| cases | passed | informational | not passed |\n\
                         | --- | ---: | ---: | ---: |\n"
            .to_owned();
        for (group, (passed, informational, other)) in groups {
            let title = title(group);
            let _ = writeln!(
                table,
                "| {group}.*: {title} | {passed} | {informational} | {other} |"
            );
        }
        for (number, verdict) in self.failures() {
            let Verdict {
                behavior,
                behavior_close,
            } = verdict;
            let _ = writeln!(
                table,
                "\n- {number}: {behavior}, at the close {behavior_close}"
            );
        }
        table
    }

    fn check(&self) -> Result<()> {
        let failures: Vec<String> = self.failures().map(|(number, _)| number).collect();
        if failures.is_empty() {
            return Ok(());
        }
        Err(TaskError::Unexpected(format!(
            "these cases are not passed: {}",
            failures.join(", ")
        )))
    }

    fn failures(&self) -> impl Iterator<Item = (String, &Verdict)> {
        let failed = self.0.iter().filter(|(_, verdict)| !verdict.passes());
        failed.map(|(number, verdict)| {
            let parts: Vec<String> = number.iter().map(u32::to_string).collect();
            (parts.join("."), verdict)
        })
    }
}

impl Verdict {
    /// Non-strict counts as not passed: the cases of 6.4 are so when text that is no UTF-8 is refused late.
    fn passes(&self) -> bool {
        let is_good = |word: &str| matches!(word, "OK" | "INFORMATIONAL");
        is_good(&self.behavior) && is_good(&self.behavior_close)
    }
}

fn title(group: u32) -> &'static str {
    match group {
        1 => "framing",
        2 => "pings and pongs",
        3 => "reserved bits",
        4 => "opcodes",
        5 => "fragmentation",
        6 => "UTF-8",
        7 => "close handshake",
        9 => "large messages",
        10 => "fragments as they are sent",
        _ => "other",
    }
}

/// Puts the table between the markers of a document.
fn write(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).map_err(TaskError::file("read", path))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        let problem = format!("{} has no markers for the table", path.display());
        return Err(TaskError::Unexpected(problem));
    };
    let text = format!("{before}{BEGIN}\n{table}{END}{after}");
    fs::write(path, text).map_err(TaskError::file("write", path))
}

/// Everything but compression (12 and 13), which the server never negotiates, and the empty group 8; 11 is none.
const CASES: [&str; 9] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*",
];

const AGENT: &str = "fanfare";

const BEGIN: &str = "<!-- autobahn: begin -->";
const END: &str = "<!-- autobahn: end -->";

/// 10 min: it takes half a minute.
const LONGEST: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(rows: &[(&str, &str, &str)]) -> Verdicts {
        let rows: Vec<String> = rows
            .iter()
            .map(|(number, behavior, close)| {
                format!(
                    "\"{number}\": {{\"behavior\": \"{behavior}\", \"behaviorClose\": \"{close}\", \"duration\": 2}}"
                )
            })
            .collect();
        Verdicts::read(&format!("{{\"fanfare\": {{{}}}}}", rows.join(", "))).unwrap()
    }

    #[test]
    fn every_case_counts_once_in_its_group() {
        let verdicts = verdicts(&[
            ("10.1.1", "OK", "OK"),
            ("6.1.1", "OK", "OK"),
            ("6.2.1", "OK", "OK"),
            ("7.1.6", "INFORMATIONAL", "INFORMATIONAL"),
        ]);
        assert!(verdicts.check().is_ok());
        let table = verdicts.table();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        let expected = [
            "| 6.*: UTF-8 | 2 | 0 | 0 |",
            "| 7.*: close handshake | 0 | 1 | 0 |",
            "| 10.*: fragments as they are sent | 1 | 0 | 0 |",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_case_that_is_late_or_fails_or_closes_wrongly_is_an_error() {
        let rows = [
            ("1.10", "OK", "OK"),
            ("1.9", "OK", "UNCLEAN"),
            ("6.4.1", "NON-STRICT", "OK"),
            ("2.1", "FAILED", "OK"),
        ];
        let error = verdicts(&rows).check().unwrap_err().to_string();
        assert_eq!(error, "these cases are not passed: 1.9, 2.1, 6.4.1");
        assert!(Verdicts::read("{\"fanfare\": {}}").is_err());
    }
}
