//! The public items of every library crate as text: `docs/api/CRATE.txt`.
//!
//! A change of the public API is a change of these files, which a reviewer reads. They are made from source, because the JSON
//! of rustdoc depends on the toolchain. The lint `unreachable_pub` ensures that every `pub` item can be reached from the root
//! of its crate; the text shows it in its nearest public module, which re-exports it.

mod strip;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use syn::{File, Item};

use self::strip::{Names, is_hidden, is_public};
use super::rust::{attributes, is_for_tests};
use super::{SourceFile, Violation};
use crate::error::{Result, TaskError};
use crate::workspace::Workspace;

/// The folders of the crates.
const CRATES: [&str; 4] = ["client", "client-wasm", "protocol", "server"];

/// Writes the text of every crate.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let files = super::files(workspace)?;
    for folder in CRATES {
        let text = snapshot(&files, folder).map_err(|error| {
            TaskError::Unexpected(format!("{folder} cannot be read as Rust: {error}"))
        })?;
        let path = workspace.path(place(folder));
        fs::write(&path, text).map_err(TaskError::file("write", &path))?;
    }
    Ok(())
}

/// Finds the crates whose text differs from their source.
pub(super) fn differences(files: &[SourceFile]) -> Vec<Violation> {
    let exists = |folder: &&str| files.iter().any(|file| file.path == root(folder));
    let crates = CRATES.into_iter().filter(exists);
    crates
        .filter_map(|folder| difference(files, folder))
        .collect()
}

fn difference(files: &[SourceFile], folder: &str) -> Option<Violation> {
    let path = place(folder);
    // The rule on imports reports a file that is not Rust.
    let actual = snapshot(files, folder).ok()?;
    let written = files.iter().find(|file| file.path == path);
    let written = written.map_or("", |file| &file.text);
    if actual == written {
        return None;
    }
    let mut lines = actual
        .lines()
        .zip(written.lines().chain(std::iter::repeat("")));
    let first = lines.find(|(actual, written)| actual != written);
    let first = first.map_or("its end", |(actual, _)| actual.trim());
    let rule = format!("is not the public API, first at `{first}`: run `cargo xtask api`");
    Some(Violation::new(path, 0, rule))
}

/// Renders the public items of a crate.
fn snapshot(files: &[SourceFile], folder: &str) -> syn::Result<String> {
    let name = format!("fanfare_{}", folder.replace('-', "_"));
    let mut items = Vec::new();
    let source = format!("{folder}/src");
    read(files, &root(folder), &source, &name, &mut items)?;
    let names = Names::of(items.iter().map(|(_, item)| item));
    let mut modules: BTreeMap<&str, BTreeSet<(String, String)>> = BTreeMap::new();
    for (module, item) in &items {
        if let Some((name, item)) = names.public(item) {
            let text = prettyplease::unparse(&File {
                shebang: None,
                frontmatter: None,
                attrs: Vec::new(),
                items: vec![item],
            });
            modules.entry(module).or_default().insert((name, text));
        }
    }
    let mut text = String::new();
    for (module, items) in modules {
        text.push_str(&format!("// {module}\n\n"));
        items
            .iter()
            .for_each(|(_, item)| text.push_str(&format!("{item}\n")));
    }
    Ok(text)
}

/// Reads the items of a file and of the modules that it declares, each with the nearest public module; without those for tests.
fn read(
    files: &[SourceFile],
    path: &str,
    folder: &str,
    module: &str,
    found: &mut Vec<(String, Item)>,
) -> syn::Result<()> {
    let Some(file) = files.iter().find(|file| file.path == path) else {
        return Ok(());
    };
    let is_shown = |item: &Item| {
        let attributes = attributes(item);
        !attributes.iter().any(is_for_tests) && !is_hidden(attributes)
    };
    for item in syn::parse_file(&file.text)?
        .items
        .into_iter()
        .filter(is_shown)
    {
        if let Item::Mod(child) = &item {
            let inside = format!("{folder}/{}", child.ident);
            let module = match is_public(&child.vis) {
                true => format!("{module}::{}", child.ident),
                false => module.to_owned(),
            };
            for file in [format!("{inside}.rs"), format!("{inside}/mod.rs")] {
                read(files, &file, &inside, &module, found)?;
            }
        }
        found.push((module.to_owned(), item));
    }
    Ok(())
}

fn root(folder: &str) -> String {
    format!("{folder}/src/lib.rs")
}

fn place(folder: &str) -> String {
    format!("docs/api/{folder}.txt")
}

#[cfg(test)]
mod tests;
