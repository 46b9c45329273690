//! Why a data directory cannot be used, or can no longer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used, or can no longer.
#[derive(Debug)]
pub enum DiskError {
    /// Another process has it.
    Locked(PathBuf),
    /// The operating system refuses.
    Io {
        /// What was tried, as in "cannot ... PATH".
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Bytes that were synced are not there any more.
    Corrupt {
        /// The directory.
        directory: PathBuf,
        /// What is wrong, and what to do.
        text: String,
    },
}

impl DiskError {
    pub(super) fn io(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> DiskError + use<> {
        let path = path.to_path_buf();
        move |error| DiskError::Io { what, path, error }
    }

    /// Whether there is no space left: nothing is wrong with what is on the disk.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, DiskError::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull)
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::Locked(path) => write!(
                f,
                "the data directory {} is in use by another process: stop that one, or choose \
                 another directory",
                path.display()
            ),
            DiskError::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())?;
                if self.is_full() {
                    f.write_str(": make room on this file system, then start the node again")?;
                }
                Ok(())
            }
            DiskError::Corrupt { directory, text } => {
                write!(f, "{}: {text}", directory.display())
            }
        }
    }
}

impl std::error::Error for DiskError {}
