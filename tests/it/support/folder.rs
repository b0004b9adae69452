use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that is gone after the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Lets it stay after the test, to be looked into.
    pub(crate) fn keep(&mut self) {
        self.0.disable_cleanup(true);
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("a file in a temporary folder");
        path
    }
}
