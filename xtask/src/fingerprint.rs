//! Telling whether inputs changed since the last time.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::error::{Result, TaskError};

/// A digest of everything a step depends on.
///
/// It only ever saves work: a different hasher in another release of Rust means that the step runs once more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    /// The digest of some values.
    pub(crate) fn of(values: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        values.hash(&mut hasher);
        Self(format!("{:016x}", hasher.finish()))
    }

    /// The digest of the names and contents of files.
    pub(crate) fn of_files(paths: &[impl AsRef<Path>]) -> Result<Self> {
        let contents: Result<Vec<_>> = paths
            .iter()
            .map(AsRef::as_ref)
            .map(|path| Ok((path, fs::read(path).map_err(TaskError::file("read", path))?)))
            .collect();
        Ok(Self::of(contents?))
    }

    /// Whether this digest is what the stamp says.
    pub(crate) fn is_at(&self, stamp: &Path) -> bool {
        fs::read_to_string(stamp).is_ok_and(|text| text == self.0)
    }

    /// Writes the stamp.
    pub(crate) fn write_to(&self, stamp: &Path) -> Result<()> {
        if let Some(folder) = stamp.parent() {
            fs::create_dir_all(folder).map_err(TaskError::file("create", folder))?;
        }
        fs::write(stamp, &self.0).map_err(TaskError::file("write", stamp))
    }
}

/// Every file below a folder, sorted, without the folders whose name `skip` accepts.
pub(crate) fn files_below(folder: &Path, skip: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(TaskError::file("read", &folder))? {
            let path = entry.map_err(TaskError::file("read", &folder))?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match path.is_dir() {
                true if !skip(&name) => folders.push(path),
                false => files.push(path),
                true => {}
            }
        }
    }
    files.sort();
    Ok(files)
}
