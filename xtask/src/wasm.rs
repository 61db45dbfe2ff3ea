//! `cargo xtask wasm`: the browser client as the npm package carries it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, TaskError};
use crate::fingerprint::Fingerprint;
use crate::process;
use crate::progress::step;
use crate::tools::{self, WasmBindgen};
use crate::workspace::Workspace;

/// 64 KiB of stack: two pages of memory per client where the default of 1 MiB takes seventeen.
const TARGET_CONFIG: &str =
    "target.wasm32-unknown-unknown.rustflags=['-C','link-arg=-zstack-size=65536']";

/// What `wasm-bindgen` calls the module.
const MODULE: &str = "fanfare_client_wasm_bg.wasm";

/// What the packaged glue is generated with; without the fallback path bundlers would copy the file a second time.
/// Names stay for [`PANICS`]; the optimiser drops them.
const GLUE_OPTIONS: [&str; 4] = [
    "--target",
    "web",
    "--omit-default-module-path",
    "--remove-producers-section",
];

/// The script that takes out what panics would say, below `npm`.
const PANICS: &str = "scripts/panics.mjs";

/// Builds `client-wasm` into `npm/wasm`; nothing is done again whose inputs are the same.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    tools::wasm_target(workspace)?;
    let bindgen = tools::wasm_bindgen(workspace)?;
    let npm = workspace.path("npm");
    tools::npm()?.install(&npm)?;
    let module = compile(workspace)?;

    let optimizer = npm.join("node_modules/.bin/wasm-opt");
    if !optimizer.exists() {
        return Err(TaskError::missing(
            "wasm-opt",
            "add `binaryen` to the devDependencies of npm/package.json",
        ));
    }
    let lock = npm.join("package-lock.json");
    let inputs = Fingerprint::of((
        Fingerprint::of_files(&[&module, &lock, &npm.join(PANICS)])?,
        &bindgen.version,
        GLUE_OPTIONS,
    ));
    let output = npm.join("wasm");
    let stamp = workspace.target("xtask/wasm.stamp");
    if inputs.is_at(&stamp) && output.is_dir() {
        return Ok(());
    }
    step(
        "generating the JavaScript glue and optimising the module",
        || {
            let staging = workspace.target("xtask/wasm");
            generate(&bindgen, &module, &staging)?;
            silence(&npm, &staging)?;
            optimize(&optimizer, &staging)?;
            publish(&staging, &output)
        },
    )?;
    inputs.write_to(&stamp)
}

fn compile(workspace: &Workspace) -> Result<PathBuf> {
    step("compiling client-wasm", || {
        process::run(
            workspace
                .cargo()
                .args([
                    "build",
                    "--quiet",
                    "--profile",
                    "wasm",
                    "--target",
                    "wasm32-unknown-unknown",
                ])
                .args([
                    "-p",
                    "fanfare-client-wasm",
                    "--lib",
                    "--no-default-features",
                    "--features",
                    "standalone",
                    "--config",
                    TARGET_CONFIG,
                ])
                // It would win over the flags above.
                .env_remove("RUSTFLAGS"),
        )
    })?;
    Ok(workspace.target("wasm32-unknown-unknown/wasm/fanfare_client_wasm.wasm"))
}

fn generate(bindgen: &WasmBindgen, module: &Path, staging: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(staging);
    process::run(
        Command::new(&bindgen.generator)
            .arg(module)
            .arg("--out-dir")
            .arg(staging)
            .args(GLUE_OPTIONS),
    )?;
    let glue = staging.join("fanfare_client_wasm.js");
    let text = fs::read_to_string(&glue).map_err(TaskError::file("read", &glue))?;
    if imports_env(&text) {
        let text =
            "the module imports \"env\": a dependency expects a C library that no browser has";
        return Err(TaskError::Unexpected(text.to_owned()));
    }
    Ok(())
}

/// Whether the glue asks the page for the symbols a linker left undefined.
fn imports_env(glue: &str) -> bool {
    glue.lines().any(|line| {
        line.starts_with("import ")
            && (line.contains("from 'env'") || line.contains("from \"env\""))
    })
}

/// Takes out of the module what panics would say.
fn silence(npm: &Path, staging: &Path) -> Result<()> {
    process::run(
        Command::new("node")
            .arg(npm.join(PANICS))
            .arg(staging.join(MODULE)),
    )
}

/// No feature flags: the module's own list is the truth, and what else wasm-opt could write Node 20 refuses to read.
fn optimize(optimizer: &Path, staging: &Path) -> Result<()> {
    let module = staging.join(MODULE);
    process::run(
        Command::new(optimizer)
            .args(["-Oz", "--converge"])
            .arg(&module)
            .arg("-o")
            .arg(&module),
    )
}

/// Copies what the package needs; wasm-bindgen's package.json and the like are not part of it.
fn publish(staging: &Path, output: &Path) -> Result<()> {
    fs::create_dir_all(output).map_err(TaskError::file("create", output))?;
    for entry in fs::read_dir(staging).map_err(TaskError::file("read", staging))? {
        let path = entry.map_err(TaskError::file("read", staging))?.path();
        let wanted = ["js", "ts", "wasm"].map(OsStr::new);
        if path
            .extension()
            .is_some_and(|extension| wanted.contains(&extension))
        {
            let place = output.join(path.file_name().unwrap_or_default());
            let bytes = fs::copy(&path, &place).map_err(TaskError::file("write", &place))?;
            eprintln!(
                "    {bytes:>7} bytes  {}",
                place.file_name().unwrap_or_default().to_string_lossy()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_of_env_is_noticed() {
        assert!(imports_env(
            "/* glue */\nimport * as __wbg_star0 from 'env';\n"
        ));
        assert!(!imports_env(
            "const env = 'env';\nimport { x } from './snippets/env.js';\n"
        ));
    }
}
