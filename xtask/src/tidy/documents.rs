//! What the documents must mention.

use fanfare_protocol::Code;

use super::{SourceFile, Violation};

const PROTOCOL: &str = "docs/protocol.md";
const MAP: &str = "ARCHITECTURE.md";

/// The crates whose modules the map names.
const CRATES: [&str; 4] = ["protocol", "server", "client", "client-wasm"];

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
