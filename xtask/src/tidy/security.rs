//! What docs/security.md promises of the code, as far as text shows it.

use super::{SourceFile, Violation};

const DOCUMENT: &str = "docs/security.md";

/// Hashers without a secret seed: names that clients choose could be made to collide. Each is in two parts, so that this file
/// is clean itself.
const UNSEEDED_HASHERS: [(&str, &str); 5] = [
    ("BuildHasher", "Default"),
    ("Default", "Hasher"),
    ("Fx", "Hash"),
    ("Fnv", "Hash"),
    ("no", "hash"),
];

/// Words that name a message authentication code, or a part of one.
const MACS: [&str; 4] = ["mac", "signature", "digest", "finalize"];

/// Code of the server and the client that hashes without a seed.
pub(super) fn unseeded_hashers(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in sources(files, &["server/src/", "client/src/", "protocol/src/"]) {
        for (first, second) in UNSEEDED_HASHERS {
            let word = format!("{first}{second}");
            violations.extend(lines(file, |line| line.contains(&word)).map(|line| {
                let rule = format!("`{word}` has no secret seed; use the standard library's maps");
                Violation::new(&file.path, line, rule)
            }));
        }
    }
    violations
}

/// Comparisons of a message authentication code whose time depends on how much of it is right.
pub(super) fn compared_macs(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let signing = sources(files, &["server/src/"]).filter(|file| file.text.contains("Hmac<"));
    for file in signing {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = SourceFile {
            path: file.path.clone(),
            text: code.to_owned(),
        };
        let is_compared = |line: &str| {
            let line = line.split("//").next().unwrap_or_default();
            let compares = line.contains(" == ") || line.contains(" != ");
            compares
                && line
                    .split(|character: char| !character.is_ascii_alphanumeric())
                    .any(|word| MACS.contains(&word))
        };
        violations.extend(lines(&code, is_compared).map(|line| {
            let rule = "compares a MAC in a time that tells about it; use `Mac::verify_slice`";
            Violation::new(&code.path, line, rule)
        }));
    }
    violations
}

/// Tests that the table of threats names and that do not exist: "`path: name`", or "`path`" alone.
pub(super) fn missing_tests(files: &[SourceFile]) -> Vec<Violation> {
    let Some(document) = files.iter().find(|file| file.path == DOCUMENT) else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    for (number, line) in document.text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let (path, name) = quoted.split_once(": ").unwrap_or((quoted, ""));
            if !path.contains('/') || path.contains(' ') {
                continue;
            }
            let exists = files.iter().any(|file| match name {
                "" => file.path.starts_with(path),
                name => file.path == path && file.text.contains(name),
            });
            if !exists {
                let rule = format!("names `{quoted}`, which does not exist");
                violations.push(Violation::new(DOCUMENT, number + 1, rule));
            }
        }
    }
    violations
}

fn sources<'a>(
    files: &'a [SourceFile],
    folders: &'a [&str],
) -> impl Iterator<Item = &'a SourceFile> {
    files.iter().filter(move |file| {
        file.has_extension(&["rs"])
            && !file.is_test()
            && folders.iter().any(|folder| file.path.starts_with(folder))
    })
}

fn lines(file: &SourceFile, holds: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
    file.text
        .lines()
        .enumerate()
        .filter(move |(_, line)| holds(line))
        .map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unseeded_hashers_are_found() {
        for (first, second) in UNSEEDED_HASHERS {
            let text = format!("use x::{first}{second};\n");
            let file = SourceFile::new("server/src/hub/mod.rs", &text);
            assert_eq!(unseeded_hashers(&[file]).len(), 1, "{first}{second}");
        }
    }

    #[track_caller]
    fn check_comparison(line: &str, found: usize) {
        let text = format!("type Sha = Hmac<Sha256>;\n{line}\n");
        let file = SourceFile::new("server/src/auth/token.rs", &text);
        assert_eq!(compared_macs(&[file]).len(), found, "{line}");
    }

    #[test]
    fn macs_are_compared_in_constant_time() {
        check_comparison("if mac.finalize().into_bytes() == token.mac {", 1);
        check_comparison("let is_right = expected != signature;", 1);
        check_comparison("mac.verify_slice(&token.mac).is_ok()", 0);
        check_comparison("if token.version == VERSION { // the mac comes later", 0);
        let elsewhere = SourceFile::new("server/src/hub/mod.rs", "if mac == other {\n");
        assert_eq!(compared_macs(&[elsewhere]), []);
    }

    #[track_caller]
    fn check_named(cell: &str, found: usize) {
        let test = SourceFile::new("tests/it/a.rs", "fn it_holds() {}\n");
        let document = SourceFile::new(DOCUMENT, &format!("| T1 | {cell} |\n"));
        assert_eq!(missing_tests(&[test, document]).len(), found, "{cell}");
    }

    #[test]
    fn tests_that_are_named_exist() {
        check_named("`tests/it/a.rs: it_holds`, `tests/it/a.rs`, `tests/it`", 0);
        check_named("`cargo xtask tidy` and `null`", 0);
        check_named("`tests/it/a.rs: it_held`", 1);
        check_named("`tests/it/b.rs: it_holds`", 1);
        check_named("`tests/it/b.rs`", 1);
    }
}
