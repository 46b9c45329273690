//! Disks that do not answer, for tests: a direct write to a directory's log waits for as long as a
//! [`Stall`] of the directory lasts, on whichever thread it is made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static STALLED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static CHANGED: Condvar = Condvar::new();

/// The disk of a directory does not answer until this is dropped.
pub struct Stall(PathBuf);

impl Stall {
    /// From now on.
    pub fn of(directory: &Path) -> Stall {
        stalled().insert(directory.to_path_buf());
        Stall(directory.to_path_buf())
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        stalled().remove(&self.0);
        CHANGED.notify_all();
    }
}

/// Returns when the disk of this directory answers.
pub fn wait(directory: &Path) {
    let mut all = stalled();
    while all.contains(directory) {
        all = CHANGED.wait(all).unwrap_or_else(PoisonError::into_inner);
    }
}

fn stalled() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    STALLED.lock().unwrap_or_else(PoisonError::into_inner)
}
