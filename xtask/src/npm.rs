//! `cargo xtask npm`: the npm package, ready to be packed.

use crate::error::{Result, TaskError};
use crate::fingerprint::{Fingerprint, files_below};
use crate::process;
use crate::progress::step;
use crate::tools;
use crate::wasm;
use crate::workspace::Workspace;

/// Builds the wasm client and then the package around it; nothing is done again whose inputs are the same.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let folder = workspace.path("npm");
    if !folder.join("package.json").is_file() {
        return Err(TaskError::Unexpected(
            "npm/package.json is missing from this checkout".to_owned(),
        ));
    }
    wasm::build(workspace)?;
    let npm = tools::npm()?;
    // What the build writes and what only tests read.
    let skip = |name: &str| matches!(name, "node_modules" | "dist" | "test" | "packaging");
    let inputs = Fingerprint::of_files(&files_below(&folder, &skip)?)?;
    let stamp = workspace.target("xtask/npm.stamp");
    if inputs.is_at(&stamp) && folder.join("dist").is_dir() {
        return Ok(());
    }
    step("building the npm package", || {
        process::run(npm.command(&folder).args(["run", "build"]))
    })?;
    inputs.write_to(&stamp)
}
