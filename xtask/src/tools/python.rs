//! Autobahn's test suite, which runs on Python 2.7 alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, TaskError};
use crate::process;
use crate::progress::step;
use crate::workspace::Workspace;

/// The release whose verdicts docs/autobahn.md holds.
const SUITE: &str = "autobahntestsuite==25.10.1";

/// The last one that makes environments for Python 2.7.
const VIRTUALENV: &str = "virtualenv==20.21.1";

/// Autobahn's `wstest`, installed into an environment of its own on first use.
pub(super) fn wstest(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.tools().join("autobahn");
    let program = folder.join("environment/bin/wstest");
    if program.is_file() {
        return Ok(program);
    }
    let python2 = python2(workspace)?;
    let python3 = python3(workspace)?;
    step("installing Autobahn's test suite", || {
        fs::create_dir_all(&folder).map_err(TaskError::file("create", &folder))?;
        let maker = folder.join("virtualenv");
        let mut pip = Command::new(&python3);
        pip.args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(&maker)
            .arg(VIRTUALENV);
        process::run(&mut pip)?;
        let environment = folder.join("environment");
        let mut make = Command::new(&python3);
        make.env("PYTHONPATH", &maker)
            .args(["-m", "virtualenv", "--quiet", "-p"])
            .arg(&python2)
            .arg(&environment);
        process::run(&mut make)?;
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["install", "--quiet", SUITE]);
        process::run(&mut pip)
    })?;
    if program.is_file() {
        return Ok(program);
    }
    let mend = format!("`pip install {SUITE}` under Python 2.7 brought no such program");
    Err(TaskError::missing("wstest", mend))
}

fn python2(workspace: &Workspace) -> Result<PathBuf> {
    let folders = workspace.program_folders().into_iter();
    let on_path = folders.map(|folder| folder.join("python2.7"));
    on_path
        .chain(pyenv("2.7"))
        .find(|program| works(program, "import sys; assert sys.version_info[:2] == (2, 7)"))
        .ok_or_else(|| TaskError::missing("Python 2.7", "run `pyenv install 2.7.18`"))
}

/// A Python 3 that the old virtualenv still runs on: 3.12 has no `distutils`.
fn python3(workspace: &Workspace) -> Result<PathBuf> {
    let names = [
        "python3.11",
        "python3.10",
        "python3.9",
        "python3.8",
        "python3",
    ];
    let on_path = names.into_iter().flat_map(|name| {
        let folders = workspace.program_folders().into_iter();
        folders.map(move |folder| folder.join(name))
    });
    let fits = "import sys, pip; assert (3, 7) <= sys.version_info[:2] <= (3, 11)";
    pyenv("3.11")
        .into_iter()
        .chain(pyenv("3.10"))
        .chain(on_path)
        .find(|program| works(program, fits))
        .ok_or_else(|| TaskError::missing("Python 3.11 with pip", "run `pyenv install 3.11`"))
}

/// The interpreters of a version that pyenv has.
fn pyenv(version: &str) -> Vec<PathBuf> {
    let Some(root) = process::probe(Command::new("pyenv").arg("root")) else {
        return Vec::new();
    };
    let versions = Path::new(&root).join("versions");
    let entries = fs::read_dir(versions).into_iter().flatten().flatten();
    let of_version = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(version)
    });
    of_version
        .map(|entry| entry.path().join("bin/python"))
        .collect()
}

fn works(program: &Path, script: &str) -> bool {
    program.is_file() && process::probe(Command::new(program).args(["-c", script])).is_some()
}
