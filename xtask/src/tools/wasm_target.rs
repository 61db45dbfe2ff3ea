//! The `wasm32-unknown-unknown` target of the active toolchain.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self as this_process, Command};
use std::time::Duration;

use crate::error::{Result, TaskError};
use crate::process;
use crate::progress::step;
use crate::tools::apt;
use crate::workspace::Workspace;

const TARGET: &str = "wasm32-unknown-unknown";

/// Long enough for 20 MB on a slow line, short enough to give up on a host that never answers.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

const MEND: &str = "run `rustup target add wasm32-unknown-unknown`, or install your distribution's package of Rust's \
                    standard library for it, so that it lies in `rustc --print sysroot`";

/// Finds the target, or adds it with rustup, or builds it from the source of the standard library.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let sysroot = Sysroot::active()?;
    if sysroot.has_target() {
        return Ok(());
    }
    if process::probe(Command::new("rustup").arg("--version")).is_some() {
        // A failure here is not the end: what counts is whether the target is there afterwards.
        let _ = step(&format!("rustup target add {TARGET}"), || {
            let mut command = Command::new("rustup");
            command
                .args(["target", "add", TARGET])
                .env("RUSTUP_MAX_RETRIES", "1");
            process::run_within(&mut command, RUSTUP_LIMIT)
        });
        if sysroot.has_target() {
            return Ok(());
        }
    }
    let build = workspace.target("xtask/wasm-std");
    let outcome = build_from_source(&sysroot, &build);
    let _ = fs::remove_dir_all(&build);
    outcome
}

fn build_from_source(sysroot: &Sysroot, build: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(build);
    fs::create_dir_all(build).map_err(TaskError::file("create", build))?;
    let _source = match sysroot.has_source() {
        true => None,
        false => Some(Source::from_debian(sysroot, build)?),
    };
    let rlibs = step(
        &format!("building Rust's standard library for {TARGET}"),
        || compile(build),
    )?;
    sysroot.install(&rlibs)
}

/// A toolchain's own folder.
struct Sysroot {
    path: PathBuf,
    rustc_version: String,
}

impl Sysroot {
    fn active() -> Result<Self> {
        let ask = |argument: &[&str]| {
            process::probe(Command::new("rustc").args(argument))
                .ok_or_else(|| TaskError::missing("Rust", "install a stable toolchain with rustup"))
        };
        let path = PathBuf::from(ask(&["--print", "sysroot"])?);
        let version = ask(&["--version"])?;
        let rustc_version = version
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            path,
            rustc_version,
        })
    }

    fn rustlib(&self) -> PathBuf {
        self.path.join("lib/rustlib")
    }

    fn has_target(&self) -> bool {
        let folder = self.rustlib().join(TARGET).join("lib");
        fs::read_dir(folder).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libstd-") && name.ends_with(".rlib")
            })
        })
    }

    fn has_source(&self) -> bool {
        self.rustlib().join("src/rust/library/std").is_dir()
    }

    /// Puts the libraries in place in one step: another compiler may be looking at this very moment.
    fn install(&self, rlibs: &[PathBuf]) -> Result<()> {
        let place = self.rustlib().join(TARGET);
        let staging = self
            .rustlib()
            .join(format!(".{TARGET}.{}", this_process::id()));
        let libraries = staging.join("lib");
        fs::create_dir_all(&libraries).map_err(TaskError::file("create", &libraries))?;
        for rlib in rlibs {
            let name = rlib.file_name().unwrap_or_default();
            fs::copy(rlib, libraries.join(name)).map_err(TaskError::file("copy", rlib))?;
        }
        if place.exists() {
            fs::remove_dir_all(&place).map_err(TaskError::file("replace", &place))?;
        }
        fs::rename(&staging, &place).map_err(TaskError::file("create", &place))
    }
}

/// The source of the standard library, linked into the sysroot for as long as this lives.
struct Source {
    link: PathBuf,
}

impl Source {
    /// Takes Debian's package of the source, which exists for most stable releases.
    fn from_debian(sysroot: &Sysroot, build: &Path) -> Result<Self> {
        let version = &sysroot.rustc_version;
        if !apt::is_debian() {
            return Err(TaskError::missing(format!("the {TARGET} target"), MEND));
        }
        let found = step(
            &format!("fetching the source of Rust {version} from Debian"),
            || apt::unpack("rust-src", version, build),
        )?;
        let folder = build.join(format!("usr/src/rustc-{version}"));
        if !found || !folder.is_dir() {
            let what = format!("the {TARGET} target (Debian has no rust-src {version})");
            return Err(TaskError::missing(what, MEND));
        }
        Self::link(&folder, &sysroot.rustlib().join("src/rust"))
    }

    fn link(folder: &Path, link: &Path) -> Result<Self> {
        let parent = link.parent().unwrap_or(link);
        fs::create_dir_all(parent).map_err(TaskError::file("create", parent))?;
        // A link whose source is gone would be in the way.
        let _ = fs::remove_file(link);
        symlink(folder, link).map_err(TaskError::file("create", link))?;
        Ok(Self {
            link: link.to_owned(),
        })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
        // Only goes when nothing else is in it.
        let _ = self.link.parent().map(fs::remove_dir);
    }
}

/// Compiles the standard library the way Rust's own builds do, and returns its libraries.
fn compile(build: &Path) -> Result<Vec<PathBuf>> {
    let manifest =
        "[package]\nname = \"wasm-std\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    let package = build.join("package");
    for (name, text) in [("Cargo.toml", manifest), ("src/lib.rs", "")] {
        let path = package.join(name);
        let folder = path.parent().unwrap_or(&package);
        fs::create_dir_all(folder).map_err(TaskError::file("create", folder))?;
        fs::write(&path, text).map_err(TaskError::file("write", &path))?;
    }
    process::run(
        Command::new("cargo")
            .args(["build", "--release", "--target", TARGET])
            .arg("-Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test")
            .current_dir(&package)
            .env("CARGO_TARGET_DIR", build.join("target"))
            // `-Zbuild-std` is not stable; the compiler that uses the result is the one that makes it.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "RUSTFLAGS",
                "-Zforce-unstable-if-unmarked -Cembed-bitcode=yes",
            )
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;
    let folder = build.join("target").join(TARGET).join("release/deps");
    let rlibs: Vec<PathBuf> = fs::read_dir(&folder)
        .map_err(TaskError::file("read", &folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".rlib") && !name.starts_with("libwasm_std-")
        })
        .collect();
    Ok(rlibs)
}
