//! Where things are, and what the environment says.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, TaskError};

/// The checkout this program was built from.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that contains this crate; `CARGO_TARGET_DIR` is respected.
    pub(crate) fn locate() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .to_owned();
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        Self { root, target }
    }

    /// A path inside the checkout.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A path inside cargo's target folder.
    pub(crate) fn target(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.target.join(relative)
    }

    /// Where tools built from source are kept; their programs are in `bin`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target("tools")
    }

    /// `cargo` in the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// The folders programs are looked for in: our own tools first, then `PATH`.
    pub(crate) fn program_folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.tools().join("bin")];
        folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        folders
    }

    /// `PATH` with our own tools first.
    pub(crate) fn search_path(&self) -> OsString {
        env::join_paths(self.program_folders()).unwrap_or_default()
    }

    /// The version of a dependency that Cargo.lock fixes.
    pub(crate) fn locked_version(&self, dependency: &str) -> Result<String> {
        let path = self.path("Cargo.lock");
        let lock = fs::read_to_string(&path).map_err(TaskError::file("read", &path))?;
        locked_version(&lock, dependency)
            .map(str::to_owned)
            .ok_or_else(|| {
                TaskError::Unexpected(format!("Cargo.lock does not name `{dependency}`"))
            })
    }
}

fn locked_version<'a>(lock: &'a str, dependency: &str) -> Option<&'a str> {
    let name = format!("name = \"{dependency}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_that_of_the_exact_name() {
        let lock = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }
}
