//! `cargo xtask tidy`: the rules of the house that no compiler knows.

pub(crate) mod api;
mod documents;
mod imports;
mod rust;
mod security;
mod shape;
mod text;

use std::fmt::{self, Display};
use std::fs;
use std::process::Command;

use crate::error::{Result, TaskError};
use crate::process;
use crate::workspace::Workspace;

/// One file of the checkout.
struct SourceFile {
    /// Relative to the root, with `/` on every system.
    path: String,
    text: String,
}

impl SourceFile {
    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path
            .rsplit_once('.')
            .is_some_and(|(_, extension)| extensions.contains(&extension))
    }

    /// The name without folders and extension.
    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }

    /// Whether the file holds tests alone, by its place or its name.
    fn is_test(&self) -> bool {
        let folders: Vec<&str> = self.path.split('/').collect();
        folders[..folders.len() - 1]
            .iter()
            .any(|folder| matches!(*folder, "tests" | "test" | "packaging"))
            || self.stem() == "tests"
            || self.path.contains(".test.")
    }
}

/// A rule that does not hold, and where.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    /// Counted from 1; 0 when the whole file is meant.
    line: usize,
    rule: String,
}

impl Violation {
    fn new(path: impl Into<String>, line: usize, rule: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line,
            rule: rule.into(),
        }
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.rule),
            line => write!(f, "{}:{line}: {}", self.path, self.rule),
        }
    }
}

/// A look at all files for one kind of violation.
type Rule = fn(&[SourceFile]) -> Vec<Violation>;

/// Checks every file that git tracks or would track.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let files = files(workspace)?;
    for warning in shape::nearly_too_long(&files) {
        eprintln!("warning: {warning}");
    }
    let violations = violations(&files);
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => Err(TaskError::Unexpected(format!(
            "{count} places are not tidy"
        ))),
    }
}

fn violations(files: &[SourceFile]) -> Vec<Violation> {
    let rules: [Rule; 16] = [
        api::differences,
        imports::forbidden,
        shape::too_long,
        shape::banned_module_names,
        shape::commented_out_code,
        text::machine_words,
        text::unsafe_markup,
        text::foreign_examples,
        documents::undocumented_codes,
        documents::unnamed_modules,
        documents::options,
        documents::script_headers,
        documents::unmade_promises,
        security::unseeded_hashers,
        security::compared_macs,
        security::missing_tests,
    ];
    rules.iter().flat_map(|rule| rule(files)).collect()
}

fn files(workspace: &Workspace) -> Result<Vec<SourceFile>> {
    let root = workspace.path("");
    let mut git = Command::new("git");
    git.current_dir(&root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listing = process::probe(&mut git)
        .ok_or_else(|| TaskError::missing("git or the repository", "clone it"))?;
    let paths = listing.split('\0').filter(|path| !path.is_empty());
    // A deleted file is listed until the deletion is committed, and a binary one has no lines.
    let files = paths.filter_map(|path| {
        Some(SourceFile {
            path: path.to_owned(),
            text: fs::read_to_string(root.join(path)).ok()?,
        })
    });
    Ok(files.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_tidy() {
        let files = files(&Workspace::locate()).unwrap();
        let found: Vec<String> = violations(&files)
            .iter()
            .map(Violation::to_string)
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[track_caller]
    fn check_test(path: &str, expect: bool) {
        assert_eq!(SourceFile::new(path, "").is_test(), expect, "{path}");
    }

    #[test]
    fn tests_are_known_by_place_or_name() {
        check_test("server/src/hub/tests.rs", true);
        check_test("tests/it/auth.rs", true);
        check_test("npm/src/channel.test.ts", true);
        check_test("server/src/testing.rs", false);
        check_test("npm/src/index.ts", false);
    }
}
