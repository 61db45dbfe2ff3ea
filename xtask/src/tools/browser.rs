//! Chromium and its driver.

use std::path::PathBuf;

use crate::error::{Result, TaskError};
use crate::progress::step;
use crate::tools::apt;
use crate::workspace::Workspace;

/// A browser and the driver that steers it.
pub(crate) struct Browser {
    pub(crate) chromium: PathBuf,
    pub(crate) driver: PathBuf,
}

const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

pub(super) fn ensure(workspace: &Workspace) -> Result<Browser> {
    if let Some(found) = find(workspace) {
        return Ok(found);
    }
    let what = "Chromium with its chromedriver";
    if !apt::is_debian() {
        return Err(TaskError::missing(
            what,
            "install both in the same version and put them on PATH",
        ));
    }
    if !apt::is_root() {
        return Err(TaskError::missing(
            what,
            "run `apt-get install chromium chromium-driver` as root",
        ));
    }
    step("installing Debian's chromium and chromium-driver", || {
        apt::install(&["chromium", "chromium-driver"])
    })?;
    find(workspace)
        .ok_or_else(|| TaskError::missing(what, "apt installed it, but it is not on PATH"))
}

fn find(workspace: &Workspace) -> Option<Browser> {
    let folders = workspace.program_folders();
    let find = |name: &str| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    };
    Some(Browser {
        chromium: NAMES.iter().find_map(|name| find(name))?,
        driver: find("chromedriver")?,
    })
}
