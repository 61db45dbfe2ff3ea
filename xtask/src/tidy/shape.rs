//! The shape of files: how long they are, what they are called, and what they must not hold.

use super::rust::Rust;
use super::{SourceFile, Violation};

/// A file of this many lines wants to be two.
const LINES_MAX: usize = 500;

/// From here on it is worth a thought.
const LINES_WARN: usize = 400;

/// Names that say nothing about what is inside.
const BANNED_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];

const LANGUAGES: [&str; 5] = ["rs", "ts", "tsx", "js", "mjs"];

/// Files that are longer than allowed, tests not counted.
pub(super) fn too_long(files: &[SourceFile]) -> Vec<Violation> {
    longer_than(files, LINES_MAX, usize::MAX)
}

/// Files that will be too long soon.
pub(super) fn nearly_too_long(files: &[SourceFile]) -> Vec<Violation> {
    longer_than(files, LINES_WARN, LINES_MAX)
}

fn longer_than(files: &[SourceFile], min: usize, max: usize) -> Vec<Violation> {
    files
        .iter()
        .filter(|file| file.has_extension(&LANGUAGES) && !file.is_test())
        .map(|file| (file, lines_without_tests(file)))
        .filter(|(_, lines)| *lines > min && *lines <= max)
        .map(|(file, lines)| {
            Violation::new(
                &file.path,
                0,
                format!("has {lines} lines without its tests, over {min}"),
            )
        })
        .collect()
}

fn lines_without_tests(file: &SourceFile) -> usize {
    let lines = file.text.lines().count();
    if !file.has_extension(&["rs"]) {
        return lines;
    }
    // What is no Rust is told by the rules of imports.
    lines - Rust::read(&file.text).map_or(0, |rust| rust.test_lines.len())
}

/// Modules and folders with a name that says nothing.
pub(super) fn banned_module_names(files: &[SourceFile]) -> Vec<Violation> {
    files
        .iter()
        .filter(|file| file.has_extension(&LANGUAGES))
        .filter_map(|file| {
            let parts = file
                .path
                .split('/')
                .map(|part| part.split('.').next().unwrap_or(part));
            let banned = parts.into_iter().find(|part| BANNED_NAMES.contains(part))?;
            Some(Violation::new(
                &file.path,
                0,
                format!("`{banned}` says nothing about what is inside"),
            ))
        })
        .collect()
}

/// Three or more comment lines in a row that read like code.
pub(super) fn commented_out_code(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&LANGUAGES)) {
        let mut run = 0;
        for (index, line) in file.text.lines().enumerate() {
            run = if is_commented_code(line) { run + 1 } else { 0 };
            if run == 3 {
                violations.push(Violation::new(
                    &file.path,
                    index - 1,
                    "holds code that is commented out",
                ));
            }
        }
    }
    violations
}

fn is_commented_code(line: &str) -> bool {
    let comment = line
        .trim()
        .strip_prefix("//")
        .filter(|rest| !rest.starts_with(['/', '!']));
    comment.is_some_and(|rest| rest.ends_with([';', '{', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> [SourceFile; 1] {
        [SourceFile::new(path, text)]
    }

    #[test]
    fn a_long_file_is_found() {
        let [at_limit, over] = [500, 501].map(|lines| "let a = 1;\n".repeat(lines));
        assert_eq!(too_long(&file("npm/src/index.ts", &at_limit)), []);
        assert_eq!(too_long(&file("npm/src/index.ts", &over)).len(), 1);
        assert_eq!(
            nearly_too_long(&file("server/src/lib.rs", &at_limit)).len(),
            1
        );
        assert_eq!(too_long(&file("tests/it/auth.rs", &over)), []);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    fn f() {}\n".repeat(600)
        );
        assert_eq!(too_long(&file("server/src/lib.rs", &tests)), []);
        let code = "fn f() {}\n".repeat(600);
        assert_eq!(
            too_long(&file("server/src/lib.rs", &(code + &tests))).len(),
            1
        );
    }

    #[test]
    fn an_empty_name_is_found() {
        assert_eq!(
            banned_module_names(&file("server/src/utils.rs", "")).len(),
            1
        );
        assert_eq!(
            banned_module_names(&file("npm/src/helpers/x.ts", "")).len(),
            1
        );
        assert_eq!(banned_module_names(&file("server/src/outbox.rs", "")), []);
    }

    #[test]
    fn code_in_comments_is_found() {
        let code = "// let a = f();\n// if a {\n// }\n";
        assert_eq!(
            commented_out_code(&file("server/src/lib.rs", code)).len(),
            1
        );
        assert_eq!(
            commented_out_code(&file("server/src/lib.rs", &code.replace("//", "///"))),
            []
        );
        assert_eq!(
            commented_out_code(&file(
                "server/src/lib.rs",
                "// One;\n// two;\n// and three.\n"
            )),
            []
        );
    }
}
