//! Debian's package manager: installing packages, and taking one package apart without installing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, TaskError};
use crate::process;

/// Whether this is Debian itself, whose archive has the packages named here.
pub(crate) fn is_debian() -> bool {
    os_release("ID").as_deref() == Some("debian")
}

/// Whether packages may be installed.
pub(crate) fn is_root() -> bool {
    process::probe(Command::new("id").arg("-u")).as_deref() == Some("0")
}

/// Installs packages with what they need and nothing they merely recommend.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    process::run(Command::new("apt-get").args(["update", "-q"]))?;
    process::run(
        Command::new("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Unpacks a package of exactly the wanted upstream version into `folder`, from whichever suite of the archive has it.
///
/// Apt does the work, with its own proxies and signature checks, but on lists of its own: the machine's are left alone.
/// Returns `false` when no suite has that version.
pub(crate) fn unpack(package: &str, version: &str, folder: &Path) -> Result<bool> {
    let archive = archive()?;
    let codename = os_release("VERSION_CODENAME").unwrap_or_default();
    let apt = PrivateApt::new(folder)?;
    for suite in suites(&codename) {
        let sources = archive.sources(&suite);
        fs::write(&apt.sources, sources).map_err(TaskError::file("write", &apt.sources))?;
        if process::probe(apt.command("apt-get").args(["update", "-q"])).is_none() {
            continue;
        }
        let table =
            process::probe(apt.command("apt-cache").args(["madison", package])).unwrap_or_default();
        if let Some(full) = matching_version(&table, version) {
            let wanted = format!("{package}={full}");
            process::run(
                apt.command("apt-get")
                    .args(["download", "-q", &wanted])
                    .current_dir(folder),
            )?;
            let deb = downloaded(folder, package)?;
            process::run(Command::new("dpkg").arg("-x").arg(&deb).arg(folder))?;
            fs::remove_file(&deb).map_err(TaskError::file("remove", &deb))?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Newest first, so that the version of a current toolchain is found early.
fn suites(codename: &str) -> Vec<String> {
    let mut suites = vec![format!("{codename}-backports")];
    suites.extend(["trixie-backports", "testing", "sid", codename].map(str::to_owned));
    suites.retain(|suite| !suite.is_empty() && !suite.starts_with('-'));
    suites.dedup();
    suites
}

/// Apt with sources, lists and cache of its own.
struct PrivateApt {
    sources: PathBuf,
    options: Vec<String>,
}

impl PrivateApt {
    fn new(folder: &Path) -> Result<Self> {
        let [lists, cache] = ["lists", "cache"].map(|name| folder.join("apt").join(name));
        for path in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&path).map_err(TaskError::file("create", &path))?;
        }
        let sources = folder.join("apt/only.sources");
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::Cache={}", cache.display()),
            "Acquire::Languages=none".to_owned(),
            // Apt's own user may not be allowed to write here.
            "APT::Sandbox::User=root".to_owned(),
        ];
        Ok(Self {
            sources,
            options: options.into(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }
}

/// The full package version in `apt-cache madison`'s table whose upstream part is `version`.
fn matching_version<'a>(table: &'a str, version: &str) -> Option<&'a str> {
    table
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .find(|full| {
            full.strip_prefix(version)
                .is_some_and(|rest| rest.starts_with(['+', '-', '~']))
        })
}

fn downloaded(folder: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{package}_");
    fs::read_dir(folder)
        .map_err(TaskError::file("read", folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .ok_or_else(|| {
            TaskError::Unexpected(format!(
                "apt did not leave {package} in {}",
                folder.display()
            ))
        })
}

/// Where the machine gets its packages from.
#[derive(Debug, PartialEq, Eq)]
struct Archive {
    uri: String,
    signed_by: Option<String>,
}

impl Archive {
    /// A deb822 sources file for one suite.
    fn sources(&self, suite: &str) -> String {
        let Self { uri, signed_by } = self;
        let keys = signed_by
            .as_ref()
            .map_or_else(String::new, |keys| format!("Signed-By: {keys}\n"));
        format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n{keys}")
    }
}

fn archive() -> Result<Archive> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    let codename = os_release("VERSION_CODENAME").unwrap_or_default();
    let found = files.iter().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        match path.extension()?.to_str()? {
            "sources" => from_deb822(&text, &codename),
            "list" => from_one_line_style(&text, &codename),
            _ => None,
        }
    });
    found.ok_or_else(|| {
        TaskError::Unexpected(format!(
            "apt is not set up with Debian's {codename} main archive"
        ))
    })
}

/// Finds the archive in a file of `Key: value` paragraphs (sources.list(5), *deb822-style format*).
fn from_deb822(text: &str, codename: &str) -> Option<Archive> {
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::trim_end)
        .collect();
    kept.split(|line| line.is_empty()).find_map(|paragraph| {
        let field = |key: &str| field(paragraph, key);
        let says = |key: &str, word: &str| {
            field(key).is_some_and(|value| value.split_whitespace().any(|w| w == word))
        };
        let usable = says("Types", "deb")
            && says("Suites", codename)
            && says("Components", "main")
            && !says("Enabled", "no");
        usable.then_some(())?;
        Some(Archive {
            uri: field("URIs")?.split_whitespace().next()?.to_owned(),
            signed_by: field("Signed-By"),
        })
    })
}

/// A field's value with its continuation lines.
fn field(paragraph: &[&str], key: &str) -> Option<String> {
    let start = paragraph.iter().position(|line| {
        line.split_once(':')
            .is_some_and(|(name, _)| name.eq_ignore_ascii_case(key))
    })?;
    let (_, first) = paragraph[start].split_once(':')?;
    let more = paragraph[start + 1..]
        .iter()
        .take_while(|line| line.starts_with([' ', '\t']));
    Some(
        std::iter::once(first.trim())
            .chain(more.copied())
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

/// Finds the archive in a file of `deb [options] uri suite component...` lines.
fn from_one_line_style(text: &str, codename: &str) -> Option<Archive> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => ("", rest),
        };
        let words: Vec<&str> = rest
            .split_whitespace()
            .take_while(|word| !word.starts_with('#'))
            .collect();
        let [uri, suite, components @ ..] = words.as_slice() else {
            return None;
        };
        (*suite == codename && components.contains(&"main")).then_some(())?;
        let signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        Some(Archive {
            uri: (*uri).to_owned(),
            signed_by: signed_by.map(str::to_owned),
        })
    })
}

fn os_release(key: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_read_from_paragraphs() {
        let text = "\
Types: deb
# A remark.
URIs: http://mirror.test/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg
";
        let archive = from_deb822(text, "bookworm").unwrap();
        assert_eq!(archive.uri, "http://mirror.test/debian");
        assert_eq!(
            archive.signed_by.as_deref(),
            Some("/usr/share/keyrings/archive.gpg")
        );
        assert_eq!(
            from_deb822(
                &text.replace("Components: main contrib", "Enabled: no\nComponents: main"),
                "bookworm"
            ),
            None
        );
    }

    #[test]
    fn keys_inside_a_paragraph_keep_their_lines() {
        let text = "Types: deb\nURIs: http://a.test\nSuites: sid\nComponents: main\nSigned-By:\n -----BEGIN-----\n .\n key\n";
        assert_eq!(
            from_deb822(text, "sid").unwrap().signed_by.as_deref(),
            Some("\n -----BEGIN-----\n .\n key")
        );
    }

    #[test]
    fn the_archive_is_read_from_lines() {
        let text = "# deb http://old.test bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://a.test/debian bookworm main # why\n";
        let archive = from_one_line_style(text, "bookworm").unwrap();
        assert_eq!(
            archive,
            Archive {
                uri: "http://a.test/debian".to_owned(),
                signed_by: Some("/k.gpg".to_owned())
            }
        );
        assert_eq!(
            from_one_line_style("deb http://a.test trixie main", "bookworm"),
            None
        );
    }

    #[test]
    fn the_version_must_match_up_to_its_packaging() {
        let table = " rust-src | 1.95.10+dfsg1-1 | x\n rust-src | 1.95.1+dfsg1-2~bpo13+1 | http://a.test sid/main\n";
        assert_eq!(
            matching_version(table, "1.95.1"),
            Some("1.95.1+dfsg1-2~bpo13+1")
        );
        assert_eq!(matching_version(table, "1.95"), None);
    }

    #[test]
    fn every_suite_is_asked_once() {
        assert_eq!(
            suites("trixie"),
            ["trixie-backports", "testing", "sid", "trixie"]
        );
        assert_eq!(
            suites("bookworm"),
            [
                "bookworm-backports",
                "trixie-backports",
                "testing",
                "sid",
                "bookworm"
            ]
        );
    }
}
