//! Node and npm.

use std::path::Path;
use std::process::Command;

use crate::error::{Result, TaskError};
use crate::fingerprint::Fingerprint;
use crate::process;
use crate::progress::step;

/// The oldest Node the package supports.
const NODE_MAJOR_MIN: u32 = 20;

/// npm, known to be there with a Node that is new enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Npm(());

pub(super) fn ensure() -> Result<Npm> {
    let mend = format!("install Node {NODE_MAJOR_MIN} or newer, which brings npm along");
    let said = process::probe(Command::new("node").arg("--version"))
        .ok_or_else(|| TaskError::missing(format!("Node {NODE_MAJOR_MIN}"), &mend))?;
    if major(&said).is_none_or(|major| major < NODE_MAJOR_MIN) {
        return Err(TaskError::missing(
            format!("Node {NODE_MAJOR_MIN} (this is {said})"),
            &mend,
        ));
    }
    process::probe(Command::new("npm").arg("--version"))
        .ok_or_else(|| TaskError::missing("npm", &mend))?;
    Ok(Npm(()))
}

impl Npm {
    /// `npm` in a folder, plain and quiet about itself.
    pub(crate) fn command(self, folder: &Path) -> Command {
        let mut command = Command::new("npm");
        command
            .current_dir(folder)
            .env("npm_config_fund", "false")
            .env("npm_config_audit", "false")
            .env("npm_config_update_notifier", "false");
        command
    }

    /// Installs exactly what a folder's package-lock.json names, unless that is what is there.
    pub(crate) fn install(self, folder: &Path) -> Result<()> {
        let lock = folder.join("package-lock.json");
        if !lock.is_file() {
            let text = format!(
                "{} is missing: run `npm install` once and commit it",
                lock.display()
            );
            return Err(TaskError::Unexpected(text));
        }
        let wanted = Fingerprint::of_files(&[&lock, &folder.join("package.json")])?;
        let stamp = folder.join("node_modules/.installed");
        if wanted.is_at(&stamp) {
            return Ok(());
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        step(&format!("npm ci in {name}/"), || {
            process::run(self.command(folder).arg("ci"))
        })?;
        wanted.write_to(&stamp)
    }
}

fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major("20"), None);
    }
}
