//! Words that do not belong into files.

use super::{SourceFile, Violation};

/// Words that only make sense on one machine or at one moment. Each is in two parts, so that this file is clean itself.
const MACHINE_WORDS: [(&str, &str, &str); 9] = [
    ("/wor", "k/", "a path of one machine"),
    ("/roo", "t/", "a path of one machine"),
    ("/hom", "e/", "a path of one machine"),
    ("://regi", "stry.", "the host of a package registry"),
    ("://stat", "ic.", "the host of a package registry"),
    ("://de", "b.", "the host of a package registry"),
    ("index.crat", "es.io", "the host of a package registry"),
    ("TO", "DO", "work that is not done"),
    ("FIX", "ME", "work that is not done"),
];

/// Lock files name the public registry by their format.
const LOCK_FILES: [&str; 2] = ["Cargo.lock", "package-lock.json"];

/// Properties that turn a string into markup: what a user typed would become a script.
const MARKUP: [(&str, &str); 4] = [
    ("inner", "HTML"),
    ("outer", "HTML"),
    ("insertAdjacent", "HTML"),
    ("document.", "write("),
];

/// Places that name one machine, one registry, or unfinished work.
pub(super) fn machine_words(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files
        .iter()
        .filter(|file| !LOCK_FILES.iter().any(|lock| file.path.ends_with(lock)))
    {
        for (first, second, what) in MACHINE_WORDS {
            let word = format!("{first}{second}");
            violations.extend(
                lines_with(file, &word).map(|line| {
                    Violation::new(&file.path, line, format!("names {what}: `{word}`"))
                }),
            );
        }
    }
    violations
}

/// Places in pages and clients that write strings as markup.
pub(super) fn unsafe_markup(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.has_extension(&["rs", "ts", "tsx", "js", "mjs", "html"]))
    {
        for (first, second) in MARKUP {
            let word = format!("{first}{second}");
            violations.extend(lines_with(file, &word).map(|line| {
                Violation::new(
                    &file.path,
                    line,
                    format!("`{word}` makes markup of a string; use textContent"),
                )
            }));
        }
    }
    violations
}

/// Examples that import a crate which those who copy them do not depend on: each crate re-exports the protocol.
pub(super) fn foreign_examples(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.has_extension(&["rs"]) && !file.path.starts_with("protocol"))
    {
        for marker in ["///", "//!"] {
            let word = format!("{marker} use fanfare_protocol");
            violations.extend(lines_with(file, &word).map(|line| {
                let text = "an example imports fanfare_protocol; use the crate's own re-export";
                Violation::new(&file.path, line, text.to_owned())
            }));
        }
    }
    violations
}

fn lines_with(file: &SourceFile, word: &str) -> impl Iterator<Item = usize> {
    file.text
        .lines()
        .enumerate()
        .filter(move |(_, line)| line.contains(word))
        .map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found() {
        for (first, second, _) in MACHINE_WORDS {
            let text = format!("fine\nsee {first}{second}x\n");
            let found = machine_words(&[SourceFile::new("docs/a.md", &text)]);
            assert_eq!(
                found
                    .iter()
                    .map(|violation| violation.line)
                    .collect::<Vec<_>>(),
                [2],
                "{first}{second}"
            );
        }
    }

    #[test]
    fn lock_files_may_name_their_registry() {
        let text = format!(
            "\"resolved\": \"https{}{}example.test/a.tgz\"\n",
            "://regi", "stry."
        );
        assert_eq!(
            machine_words(&[SourceFile::new("npm/package-lock.json", &text)]),
            []
        );
    }

    #[test]
    fn examples_import_what_their_reader_has() {
        let text = format!("/// {} fanfare_protocol::UserId;\n", "use");
        let found = |path: &str| foreign_examples(&[SourceFile::new(path, &text)]).len();
        assert_eq!(found("server/src/auth/cookie.rs"), 1);
        assert_eq!(found("protocol/src/name.rs"), 0);
    }

    #[test]
    fn markup_from_strings_is_found() {
        for (first, second) in MARKUP {
            let text = format!("element.{first}{second} = name;\n");
            assert_eq!(
                unsafe_markup(&[SourceFile::new("examples/chat/page/app.js", &text)]).len(),
                1
            );
        }
    }
}
