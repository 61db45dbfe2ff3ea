//! `cargo xtask dependencies`: what may be linked in, as `deny.toml` says.
//!
//! The same file configures cargo-deny, which also knows advisories. The check here needs no further tool, so that licences,
//! sources, duplicates and versions with known faults are looked at in every run of `cargo xtask ci`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::semver::{Version, VersionReq};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use serde::Deserialize;

use crate::error::{Result, TaskError};
use crate::process;
use crate::workspace::Workspace;

/// Checks the dependencies, with cargo-deny as well where it is installed.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    check(workspace)?;
    let folders = workspace.program_folders();
    if !folders.iter().any(|at| at.join("cargo-deny").is_file()) {
        println!("cargo-deny is not installed: advisories were not looked at");
        return Ok(());
    }
    let mut deny = workspace.cargo();
    process::run(deny.env("PATH", workspace.search_path()).args([
        "deny",
        "--all-features",
        "check",
    ]))
}

/// Checks licences, sources, duplicates and refused versions.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let path = workspace.path("deny.toml");
    let text = fs::read_to_string(&path).map_err(TaskError::file("read", &path))?;
    let rules = Rules::parse(&text)?;
    let mut command = MetadataCommand::new();
    command
        .current_dir(workspace.path(""))
        .other_options(["--locked".to_owned()]);
    let metadata = command
        .exec()
        .map_err(|error| TaskError::Unexpected(format!("cargo metadata failed: {error}")))?;
    let violations = violations(&metadata, &rules);
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => Err(TaskError::Unexpected(format!(
            "{count} dependencies are not as deny.toml allows"
        ))),
    }
}

/// The part of `deny.toml` that is checked here.
#[derive(Debug, Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Entry>,
    skip: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    /// `name`, `name:requirement` or `name@version`.
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text)
            .map_err(|error| TaskError::Unexpected(format!("deny.toml cannot be read: {error}")))
    }
}

impl Entry {
    /// The crate and the versions that the entry is about.
    fn matches(&self, name: &str, version: &Version) -> bool {
        if let Some((own, exact)) = self.spec.split_once('@') {
            return own == name && exact == version.to_string();
        }
        match self.spec.split_once(':') {
            Some((own, requirement)) => {
                own == name
                    && VersionReq::parse(requirement)
                        .is_ok_and(|versions| versions.matches(version))
            }
            None => self.spec == name,
        }
    }
}

fn violations(metadata: &Metadata, rules: &Rules) -> Vec<String> {
    let foreign: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .collect();
    let mut found = Vec::new();
    for package in &foreign {
        found.extend(license_violation(package, &rules.licenses.allow));
        if !package
            .source
            .as_ref()
            .is_some_and(|source| source.is_crates_io())
        {
            found.push(format!(
                "{} {}: not from crates.io",
                package.name, package.version
            ));
        }
        for entry in &rules.bans.deny {
            if entry.matches(&package.name, &package.version) {
                found.push(format!(
                    "{} {}: refused: {}",
                    package.name, package.version, entry.reason
                ));
            }
        }
    }
    found.extend(duplicates(&foreign, &rules.bans.skip));
    found.extend(program_dependencies(metadata));
    found
}

/// Returns the crates for programs that the library depends on, directly or through others; tests may use them.
fn program_dependencies(metadata: &Metadata) -> Vec<String> {
    let mut edges: BTreeMap<&PackageId, Vec<&PackageId>> = BTreeMap::new();
    for node in metadata.resolve.iter().flat_map(|graph| &graph.nodes) {
        let is_linked = |kind: &cargo_metadata::DepKindInfo| kind.kind == DependencyKind::Normal;
        let linked = node
            .deps
            .iter()
            .filter(|dep| dep.dep_kinds.iter().any(is_linked));
        edges.insert(&node.id, linked.map(|dep| &dep.pkg).collect());
    }
    let named = |name: &str| {
        metadata
            .packages
            .iter()
            .find(|package| *package.name == name)
    };
    let mut seen: BTreeSet<&PackageId> = named(LIBRARY)
        .map(|package| &package.id)
        .into_iter()
        .collect();
    let mut pending: Vec<&PackageId> = seen.iter().copied().collect();
    while let Some(id) = pending.pop() {
        let dependencies = edges.get(id).into_iter().flatten();
        pending.extend(dependencies.filter(|id| seen.insert(id)));
    }
    let for_programs = FOR_PROGRAMS.into_iter().filter_map(named);
    for_programs
        .filter(|package| seen.contains(&package.id))
        .map(|package| {
            format!(
                "{LIBRARY}: depends on {}, which belongs to programs",
                package.name
            )
        })
        .collect()
}

/// The library that applications embed.
const LIBRARY: &str = "fanfare-server";

/// Crates that read command lines and configuration files and write logs, which an application chooses for itself.
const FOR_PROGRAMS: [&str; 3] = ["clap", "toml", "tracing-subscriber"];

fn license_violation(package: &Package, allowed: &BTreeSet<String>) -> Option<String> {
    let (name, version) = (&package.name, &package.version);
    let Some(license) = &package.license else {
        return Some(format!("{name} {version}: says no licence"));
    };
    // Old manifests write `MIT/Apache-2.0`.
    let is_allowed = spdx::Expression::parse_mode(license, spdx::ParseMode::LAX)
        .is_ok_and(|license| license.evaluate(|term| allowed.contains(&term.license.to_string())));
    (!is_allowed).then(|| format!("{name} {version}: its licence {license} is not allowed"))
}

/// Crates in several versions, but for the older ones that `skip` names; and lines of `skip` that name nothing.
fn duplicates(packages: &[&Package], skip: &[Entry]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&Version>> = BTreeMap::new();
    for package in packages {
        versions
            .entry(&package.name)
            .or_default()
            .push(&package.version);
    }
    let mut found = Vec::new();
    for (name, versions) in &versions {
        let counted = versions
            .iter()
            .filter(|version| !skip.iter().any(|entry| entry.matches(name, version)));
        if counted.count() > 1 {
            let list: Vec<String> = versions.iter().map(ToString::to_string).collect();
            found.push(format!(
                "{name}: linked in the versions {}",
                list.join(", ")
            ));
        }
    }
    for entry in skip {
        let applies = versions.iter().any(|(name, versions)| {
            versions.len() > 1 && versions.iter().any(|version| entry.matches(name, version))
        });
        if !applies {
            found.push(format!(
                "{}: a line of deny.toml that no longer applies",
                entry.spec
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dependencies of the checkout, for tests to spoil.
    fn metadata() -> Metadata {
        let root = Workspace::locate().path("");
        MetadataCommand::new().current_dir(root).exec().unwrap()
    }

    fn rules() -> Rules {
        let path = Workspace::locate().path("deny.toml");
        Rules::parse(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[track_caller]
    fn finds(metadata: &Metadata, rules: &Rules, expect: &str) {
        let found = violations(metadata, rules);
        assert!(
            found.iter().any(|violation| violation.contains(expect)),
            "{found:?}"
        );
    }

    #[test]
    fn the_checkout_links_what_is_allowed() {
        assert_eq!(violations(&metadata(), &rules()), Vec::<String>::new());
    }

    #[test]
    fn a_library_that_depends_on_a_crate_for_programs_is_found() {
        for name in FOR_PROGRAMS {
            let mut metadata = metadata();
            let crate_for_programs = package(&mut metadata, name).id.clone();
            // `axum` stands for any crate between the two.
            let between = package(&mut metadata, "axum").id.clone();
            let nodes = &mut metadata.resolve.as_mut().unwrap().nodes;
            let node = nodes.iter_mut().find(|node| node.id == between).unwrap();
            let mut dependency = node.deps[0].clone();
            dependency.pkg = crate_for_programs;
            node.deps.push(dependency);
            finds(
                &metadata,
                &rules(),
                &format!("fanfare-server: depends on {name}"),
            );
        }
    }

    #[test]
    fn a_licence_that_is_not_on_the_list_is_found() {
        let mut rules = rules();
        rules.licenses.allow.remove("Unicode-3.0");
        finds(&metadata(), &rules, "its licence");
        let mut metadata = metadata();
        let tokio = package(&mut metadata, "tokio");
        tokio.license = None;
        finds(&metadata, &rules, "tokio 1.");
    }

    #[test]
    fn a_crate_from_elsewhere_is_found() {
        let mut metadata = metadata();
        let source = serde_json::json!("git+ssh://example.org/tokio#1");
        package(&mut metadata, "tokio").source = serde_json::from_value(source).unwrap();
        finds(&metadata, &rules(), "not from crates.io");
    }

    #[test]
    fn versions_with_known_faults_are_found() {
        for (name, version) in [
            ("jsonwebtoken", "10.2.0"),
            ("h2", "0.4.15"),
            ("tracing-subscriber", "0.3.19"),
        ] {
            let mut metadata = metadata();
            package(&mut metadata, name).version = version.parse().unwrap();
            finds(&metadata, &rules(), &format!("{name} {version}: refused"));
        }
    }

    #[test]
    fn a_second_version_is_found_and_so_is_a_line_that_no_longer_applies() {
        let mut metadata = metadata();
        let mut second = package(&mut metadata, "tokio").clone();
        second.version = "1.0.0".parse().unwrap();
        metadata.packages.push(second);
        finds(&metadata, &rules(), "tokio: linked in the versions");
        let mut rules = rules();
        rules.bans.skip[0].spec = "tokio@0.1.0".to_owned();
        finds(&metadata, &rules, "no longer applies");
    }

    fn package<'a>(metadata: &'a mut Metadata, name: &str) -> &'a mut Package {
        let packages = metadata.packages.iter_mut();
        packages
            .into_iter()
            .find(|package| *package.name == name)
            .unwrap()
    }
}
