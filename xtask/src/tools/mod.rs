//! What the tasks need from this machine: found, or fetched, or one sentence that says how to get it.

mod apt;
mod browser;
mod cargo_install;
mod node;
mod python;
mod servers;
mod wasm_target;

use std::fs::{self, File};
use std::path::PathBuf;

use crate::error::{Result, TaskError};
use crate::workspace::Workspace;

pub(crate) use browser::Browser;
pub(crate) use cargo_install::{WasmBindgen, WasmPack};
pub(crate) use node::Npm;

/// Makes sure that crates can be compiled for the browser.
pub(crate) fn wasm_target(workspace: &Workspace) -> Result<()> {
    let _turn = Turn::take(workspace)?;
    wasm_target::ensure(workspace)
}

/// The wasm-bindgen programs of exactly the version in Cargo.lock.
pub(crate) fn wasm_bindgen(workspace: &Workspace) -> Result<WasmBindgen> {
    let _turn = Turn::take(workspace)?;
    cargo_install::wasm_bindgen(workspace)
}

/// wasm-pack, which runs the browser suite.
pub(crate) fn wasm_pack(workspace: &Workspace) -> Result<WasmPack> {
    let _turn = Turn::take(workspace)?;
    cargo_install::wasm_pack(workspace)
}

/// Chromium and its driver.
pub(crate) fn browser(workspace: &Workspace) -> Result<Browser> {
    let _turn = Turn::take(workspace)?;
    browser::ensure(workspace)
}

/// redis-server (also as Sentinel) and haproxy, which tests start for themselves.
pub(crate) fn servers(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let _turn = Turn::take(workspace)?;
    servers::ensure(workspace)
}

/// Autobahn's `wstest`.
pub(crate) fn wstest(workspace: &Workspace) -> Result<PathBuf> {
    let _turn = Turn::take(workspace)?;
    python::wstest(workspace)
}

/// Node and npm.
pub(crate) fn npm() -> Result<Npm> {
    node::ensure()
}

/// Everything any task needs; the programs outside of cargo and npm are returned.
pub(crate) fn all(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    npm()?;
    wasm_target(workspace)?;
    let browser = browser(workspace)?;
    let mut programs = servers(workspace)?;
    programs.extend([
        wasm_bindgen(workspace)?.generator,
        wasm_pack(workspace)?.program,
        browser.chromium,
        browser.driver,
    ]);
    Ok(programs)
}

/// The right to install tools: held by one process at a time.
struct Turn {
    _lock: File,
}

impl Turn {
    fn take(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.tools();
        fs::create_dir_all(&folder).map_err(TaskError::file("create", &folder))?;
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(TaskError::file("create", &path))?;
        lock.lock().map_err(TaskError::file("lock", &path))?;
        Ok(Self { _lock: lock })
    }
}
