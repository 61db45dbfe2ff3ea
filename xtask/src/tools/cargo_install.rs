//! Programs that come as crates: built once into cargo's target folder, unless `PATH` has the very same version.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Result, TaskError};
use crate::process;
use crate::progress::step;
use crate::workspace::Workspace;

/// The release of wasm-pack whose behaviour the test command relies on.
const WASM_PACK_VERSION: &str = "0.15.1";

/// The programs of wasm-bindgen-cli.
pub(crate) struct WasmBindgen {
    pub(crate) generator: PathBuf,
    pub(crate) version: String,
}

/// The program wasm-pack.
pub(crate) struct WasmPack {
    pub(crate) program: PathBuf,
}

pub(super) fn wasm_bindgen(workspace: &Workspace) -> Result<WasmBindgen> {
    let version = workspace.locked_version("wasm-bindgen")?;
    let programs = ["wasm-bindgen", "wasm-bindgen-test-runner"];
    let [generator, _] = ensure(workspace, "wasm-bindgen-cli", &version, programs)?;
    Ok(WasmBindgen { generator, version })
}

pub(super) fn wasm_pack(workspace: &Workspace) -> Result<WasmPack> {
    let [program] = ensure(workspace, "wasm-pack", WASM_PACK_VERSION, ["wasm-pack"])?;
    Ok(WasmPack { program })
}

fn ensure<const N: usize>(
    workspace: &Workspace,
    package: &str,
    version: &str,
    programs: [&str; N],
) -> Result<[PathBuf; N]> {
    if let Some(found) = find(workspace, programs, version) {
        return Ok(found);
    }
    step(&format!("installing {package} {version}"), || {
        install(workspace, package, version)
    })?;
    find(workspace, programs, version).ok_or_else(|| {
        TaskError::missing(
            format!("{package} {version}"),
            format!("run `cargo install {package}@{version} --locked`"),
        )
    })
}

fn find<const N: usize>(
    workspace: &Workspace,
    programs: [&str; N],
    version: &str,
) -> Option<[PathBuf; N]> {
    let folders = workspace.program_folders();
    let found = programs.map(|program| {
        folders
            .iter()
            .map(|folder| folder.join(program))
            .find(|path| has_version(path, version))
            .unwrap_or_default()
    });
    found.iter().all(|path| path.is_file()).then_some(found)
}

fn has_version(program: &PathBuf, version: &str) -> bool {
    let said = program
        .is_file()
        .then(|| process::probe(Command::new(program).arg("--version")))
        .flatten();
    said.is_some_and(|line| line.split_whitespace().nth(1) == Some(version))
}

/// Builds a package into our own folder.
///
/// The versions its authors locked are tried first; a registry that lags behind or has lost one of them still leaves the
/// newest compatible ones.
fn install(workspace: &Workspace, package: &str, version: &str) -> Result<()> {
    let build = workspace.target("xtask/tools-build");
    let command = |locked: &[&str]| {
        let mut command = workspace.cargo();
        command
            .args(["install", "--force", "--root"])
            .arg(workspace.tools())
            .args(locked)
            .arg(format!("{package}@{version}"))
            .env("CARGO_TARGET_DIR", &build)
            .env_remove("RUSTFLAGS");
        // Measured for wasm-bindgen-cli on two cores: 59 s without optimisation, 121 s with the least of it, while a
        // run of the browser suite takes 2 s longer. A fresh machine is the one that waits.
        for (key, value) in [
            ("OPT_LEVEL", "0"),
            ("DEBUG", "0"),
            ("LTO", "off"),
            ("CODEGEN_UNITS", "64"),
        ] {
            command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        command
    };
    let outcome =
        process::run(&mut command(&["--locked"])).or_else(|_| process::run(&mut command(&[])));
    let _ = fs::remove_dir_all(&build);
    outcome.map_err(|error| {
        let mend = format!(
            "run `cargo install {package}@{version}` yourself ({})",
            error.sentence()
        );
        TaskError::missing(format!("{package} {version}"), mend)
    })
}
