//! What the documents must mention.

use fanfare_protocol::Code;

use super::{SourceFile, Violation};

const PROTOCOL: &str = "docs/protocol.md";
const MAP: &str = "ARCHITECTURE.md";
const GUARANTEES: &str = "docs/guarantees.md";
const OPTIONS: &str = "cli/src/options.rs";
const OPERATIONS: &str = "docs/operations.md";
const DEPLOYED: &str = "deploy/";

/// The crates whose modules the map names.
const CRATES: [&str; 5] = ["protocol", "server", "cli", "client", "client-wasm"];

/// Codes without a row in the protocol's document: their number and name on one line.
pub(super) fn undocumented_codes(files: &[SourceFile]) -> Vec<Violation> {
    let Some(document) = files.iter().find(|file| file.path == PROTOCOL) else {
        return Vec::new();
    };
    let is_row = |line: &str, code: &Code| {
        words(line).any(|word| word == code.number().to_string())
            && words(line).any(|word| word == code.name())
    };
    Code::ALL
        .iter()
        .filter(|code| !document.text.lines().any(|line| is_row(line, code)))
        .map(|code| {
            Violation::new(
                PROTOCOL,
                0,
                format!("has no row for code {} `{}`", code.number(), code.name()),
            )
        })
        .collect()
}

/// Top-level modules that the map does not name.
pub(super) fn unnamed_modules(files: &[SourceFile]) -> Vec<Violation> {
    let Some(map) = files.iter().find(|file| file.path == MAP) else {
        return Vec::new();
    };
    let mut modules: Vec<(&str, &str)> = files
        .iter()
        .filter_map(|file| top_level_module(&file.path))
        .collect();
    modules.sort_unstable();
    modules.dedup();
    modules
        .into_iter()
        .filter(|(_, module)| !words(&map.text).any(|word| word == *module))
        .map(|(krate, module)| {
            Violation::new(
                MAP,
                0,
                format!("does not name the module `{module}` of {krate}"),
            )
        })
        .collect()
}

/// Options of the standalone server that the page about operating it does not name, and names that are used where servers are
/// deployed and mean nothing to it.
pub(super) fn options(files: &[SourceFile]) -> Vec<Violation> {
    let Some(options) = files.iter().find(|file| file.path == OPTIONS) else {
        return Vec::new();
    };
    let quoted_after = |mark: &str| -> Vec<&str> {
        let pieces = options.text.split(mark).skip(1);
        pieces.filter_map(|piece| piece.split('"').next()).collect()
    };
    let known: Vec<&str> = quoted_after("env = \"");
    let mut violations = Vec::new();
    if let Some(page) = files.iter().find(|file| file.path == OPERATIONS) {
        let missing = known.iter().filter(|name| !page.text.contains(**name));
        violations.extend(
            missing.map(|name| Violation::new(OPERATIONS, 0, format!("does not name `{name}`"))),
        );
    }
    let used = files
        .iter()
        .filter(|file| file.path == OPERATIONS || file.path.starts_with(DEPLOYED));
    for file in used {
        for (number, line) in file.text.lines().enumerate() {
            let unknown =
                words(line).filter(|word| word.starts_with("FANFARE_") && !known.contains(word));
            violations.extend(unknown.map(|name| {
                let rule = format!("names `{name}`, which is no variable of the server");
                Violation::new(file.path.as_str(), number + 1, rule)
            }));
        }
    }
    violations
}

/// Scripts for Redis whose first comment does not say what they take, what they return, and why they must be one step.
pub(super) fn script_headers(files: &[SourceFile]) -> Vec<Violation> {
    let scripts = files.iter().filter(|file| file.has_extension(&["lua"]));
    let missing = scripts.flat_map(|file| {
        let lines = file.text.lines();
        let header: Vec<&str> = lines.map_while(|line| line.strip_prefix("--")).collect();
        SCRIPT_HEADER
            .iter()
            .filter(move |word| !header.iter().any(|line| begins_with(line, word)))
            .map(|word| Violation::new(&file.path, 0, format!("its header has no line `{word}`")))
    });
    missing.collect()
}

/// Module docs that name a promise (`Promise: … "its words"`) that docs/guarantees.md does not make, in these words.
pub(super) fn unmade_promises(files: &[SourceFile]) -> Vec<Violation> {
    let Some(guarantees) = files.iter().find(|file| file.path == GUARANTEES) else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["rs"])) {
        let docs = file.text.lines();
        let docs = docs.map_while(|line| line.strip_prefix("//!"));
        let docs: Vec<&str> = docs.map(str::trim).collect();
        let promises = docs.split(|line| line.is_empty());
        let promises = promises.map(|lines| lines.join(" "));
        for promise in promises.filter(|lines| lines.starts_with("Promise: ")) {
            let quotes = promise.split('"').skip(1).step_by(2);
            let unmade = quotes.filter(|quote| !guarantees.text.contains(quote));
            violations.extend(unmade.map(|quote| {
                let rule = format!("{GUARANTEES} does not promise \"{quote}\"");
                Violation::new(file.path.as_str(), 0, rule)
            }));
        }
    }
    violations
}

/// Whether a line names something before its colon: `KEYS, ARGV: ...` names both.
fn begins_with(line: &str, word: &str) -> bool {
    let (names, _) = line.split_once(':').unwrap_or_default();
    names.trim_start().split(", ").any(|name| name == word)
}

/// What the header of a script says, one line each.
const SCRIPT_HEADER: [&str; 4] = ["KEYS", "ARGV", "Returns", "Why atomic"];

/// The crate and the module of a path such as `server/src/hub/shard.rs`.
fn top_level_module(path: &str) -> Option<(&str, &str)> {
    let (krate, inside) = path.split_once("/src/")?;
    let first = inside.split('/').next()?;
    let is_module =
        path.ends_with(".rs") && !matches!(first, "lib.rs" | "main.rs" | "bin" | "tests.rs");
    (CRATES.contains(&krate) && is_module).then_some((krate, first.trim_end_matches(".rs")))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_what_it_takes_and_why_it_is_one_step() {
        let good = "-- Does it.\n--\n-- KEYS, ARGV: those.\n-- Returns: 1.\n-- Why atomic: so.\nreturn 1\n";
        let found = |text: &str| {
            let found = script_headers(&[SourceFile::new("server/src/a.lua", text)]);
            found
                .into_iter()
                .map(|violation| violation.rule)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(good), [""; 0]);
        assert_eq!(
            found(&good.replace("Returns", "Answers")),
            ["its header has no line `Returns`"]
        );
        assert_eq!(found("return 1\n-- KEYS: 1\n").len(), 4);
    }

    #[test]
    fn a_promise_that_is_not_made_is_found() {
        let found = |docs: &str| {
            let files = [
                SourceFile::new(GUARANTEES, "| slots move in a Redis Cluster | fine |"),
                SourceFile::new("server/src/a.rs", docs),
            ];
            unmade_promises(&files).len()
        };
        let docs = "//! It says \"so\".\n//!\n//! Promise: docs, \"slots move in\n//! a Redis Cluster\".\n";
        assert_eq!(found(docs), 0);
        assert_eq!(found(&docs.replace("slots move", "slots stay")), 1);
        assert_eq!(found("\"//! Promise: \\\"none\\\"\"\n"), 0);
    }

    #[test]
    fn a_code_without_a_row_is_found() {
        let rows: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("| {} | `{}` |", code.number(), code.name()))
            .collect();
        assert_eq!(
            undocumented_codes(&[SourceFile::new(PROTOCOL, &rows.join("\n"))]),
            []
        );
        assert_eq!(
            undocumented_codes(&[SourceFile::new(PROTOCOL, &rows[1..].join("\n"))]).len(),
            1
        );
    }

    #[test]
    fn an_option_that_is_not_documented_or_not_known_is_found() {
        let files = |page: &str, compose: &str| {
            [
                SourceFile::new(OPTIONS, "#[arg(long, env = \"FANFARE_PATH\")]"),
                SourceFile::new(OPERATIONS, page),
                SourceFile::new("deploy/compose.yaml", compose),
            ]
        };
        let found = |page: &str, compose: &str| options(&files(page, compose)).len();
        assert_eq!(found("`FANFARE_PATH`", "FANFARE_PATH: /ws"), 0);
        assert_eq!(found("nothing", ""), 1);
        assert_eq!(found("`FANFARE_PATH` `FANFARE_PTAH`", "FANFARE_PORT: 1"), 2);
    }

    #[test]
    fn a_module_without_a_name_is_found() {
        let files = |map: &str| {
            [
                SourceFile::new("server/src/hub/shard.rs", ""),
                SourceFile::new("server/src/lib.rs", ""),
                SourceFile::new(MAP, map),
            ]
        };
        assert_eq!(unnamed_modules(&files("- `hub/`: who is here\n")), []);
        assert_eq!(unnamed_modules(&files("- the hubs\n")).len(), 1);
    }
}
