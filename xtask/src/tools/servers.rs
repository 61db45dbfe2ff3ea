//! The servers that tests start for themselves: Redis and a load balancer.

use std::path::{Path, PathBuf};

use crate::error::{Result, TaskError};
use crate::progress::step;
use crate::tools::apt;
use crate::workspace::Workspace;

/// Programs and Debian's packages of the same names.
const SERVERS: [&str; 2] = ["redis-server", "haproxy"];

/// Where Debian keeps servers, whether or not it is on `PATH`.
const SYSTEM_FOLDER: &str = "/usr/sbin";

pub(super) fn ensure(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let missing: Vec<&str> = SERVERS
        .into_iter()
        .filter(|name| find(workspace, name).is_none())
        .collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let found = SERVERS.into_iter().map(|name| {
        find(workspace, name)
            .ok_or_else(|| TaskError::missing(name, "apt installed it, but it is not on PATH"))
    });
    found.collect()
}

fn install(names: &[&str]) -> Result<()> {
    let list = names.join(" ");
    if !apt::is_debian() {
        return Err(TaskError::missing(
            list,
            "install Redis 7 and haproxy and put them on PATH; neither has to run",
        ));
    }
    if !apt::is_root() {
        let mend = format!("run `apt-get install {list}` as root");
        return Err(TaskError::missing(list, mend));
    }
    step(&format!("installing Debian's {list}"), || {
        apt::install(names)
    })
}

fn find(workspace: &Workspace, name: &str) -> Option<PathBuf> {
    let folders = workspace.program_folders().into_iter();
    folders
        .chain([Path::new(SYSTEM_FOLDER).to_owned()])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
