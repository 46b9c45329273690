//! A data directory: `LOCK`, which one process holds, and `log/` with the segments, each named by
//! its first position: `00000000000000000001.log`.

use super::DiskError;
use crate::operator_log;
use replication::Position;
use replication::storage::log::{self, Corruption, Recovered};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_NAME: &str = "LOCK";
const LOG_NAME: &str = "log";
const SEGMENT_SUFFIX: &str = ".log";
/// Digits of the largest position.
const SEGMENT_DIGITS: usize = 20;

/// A data directory that this process holds.
pub struct Directory {
    path: PathBuf,
    log: PathBuf,
    /// Locked for as long as anything of this process uses the directory.
    lock: Arc<File>,
}

/// The segments of a log, read.
pub struct Segments {
    directory: PathBuf,
    /// In the order of their positions.
    files: Vec<Segment>,
}

struct Segment {
    first: Position,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The segment that is written to.
pub struct OpenSegment {
    /// Open for appending.
    pub file: File,
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
}

impl Directory {
    /// Takes a directory, and makes it if need be.
    pub fn open(path: &Path) -> Result<Directory, DiskError> {
        let log = path.join(LOG_NAME);
        fs::create_dir_all(&log).map_err(DiskError::io("create the data directory", &log))?;
        let lock_path = path.join(LOCK_NAME);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(DiskError::io("open the lock file", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::Locked(path.to_path_buf())),
            Err(TryLockError::Error(error)) => {
                return Err(DiskError::io("lock", &lock_path)(error));
            }
        }
        // The directories' own entries must survive a power cut as well.
        sync_directory(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent)?;
        }
        Ok(Directory { path: path.to_path_buf(), log, lock: Arc::new(lock) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the segments are.
    pub(super) fn log_path(&self) -> &Path {
        &self.log
    }

    /// The same directory, for the log thread.
    pub(super) fn share(&self) -> Directory {
        Directory { path: self.path.clone(), log: self.log.clone(), lock: self.lock.clone() }
    }

    /// Reads all segments.
    pub fn read(&self) -> Result<Segments, DiskError> {
        let mut files = Vec::new();
        for (first, path) in self.list()? {
            let bytes = fs::read(&path).map_err(DiskError::io("read", &path))?;
            files.push(Segment { first, path, bytes });
        }
        Ok(Segments { directory: self.path.clone(), files })
    }

    /// The segments' first positions and paths, in order. Other files are none of ours.
    fn list(&self) -> Result<Vec<(Position, PathBuf)>, DiskError> {
        let failed = || DiskError::io("list", &self.log);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.log).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let digits = name.strip_suffix(SEGMENT_SUFFIX).unwrap_or("");
            if digits.len() == SEGMENT_DIGITS
                && let Ok(first) = digits.parse()
            {
                found.push((Position(first), path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Drops what is behind the good log, syncs what is good, and opens the last segment.
    pub(super) fn cut_tail(
        &self,
        segments: &Segments,
        recovered: &Recovered<'_>,
    ) -> Result<OpenSegment, DiskError> {
        // From the last one on backwards: a crash in between must not leave a gap.
        for segment in segments.files.iter().skip(recovered.end.segment + 1).rev() {
            fs::remove_file(&segment.path).map_err(DiskError::io("remove", &segment.path))?;
        }
        let Some(last) = segments.files.get(recovered.end.segment) else {
            return self.create_segment(recovered.next);
        };
        for segment in segments.files.iter().take(recovered.end.segment) {
            let file = File::open(&segment.path);
            file.and_then(|file| file.sync_all()).map_err(DiskError::io("sync", &segment.path))?;
        }
        let file = OpenOptions::new()
            .append(true)
            .open(&last.path)
            .map_err(DiskError::io("open", &last.path))?;
        let bytes = recovered.end.offset as u64;
        if bytes < last.bytes.len() as u64 {
            operator_log::line(format_args!(
                "the end of {} is torn: {} bytes that nothing proves to have been on disk are cut",
                last.path.display(),
                last.bytes.len() as u64 - bytes
            ));
            file.set_len(bytes).map_err(DiskError::io("cut the torn end of", &last.path))?;
        }
        file.sync_all().map_err(DiskError::io("sync", &last.path))?;
        sync_directory(&self.log)?;
        Ok(OpenSegment { file, path: last.path.clone(), bytes })
    }

    /// A new segment, whose name survives a power cut.
    pub(super) fn create_segment(&self, first: Position) -> Result<OpenSegment, DiskError> {
        let name = format!("{:0width$}{SEGMENT_SUFFIX}", first.0, width = SEGMENT_DIGITS);
        let path = self.log.join(name);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(DiskError::io("create", &path))?;
        file.sync_all().map_err(DiskError::io("sync", &path))?;
        sync_directory(&self.log)?;
        Ok(OpenSegment { file, path, bytes: 0 })
    }

    /// Removes the segments that hold only records before a position, oldest first.
    pub(super) fn remove_before(&self, before: Position) -> Result<(), DiskError> {
        let segments = self.list()?;
        let mut removed = false;
        for pair in segments.windows(2) {
            if let [(_, path), (next, _)] = pair
                && *next <= before
            {
                fs::remove_file(path).map_err(DiskError::io("remove", path))?;
                removed = true;
            }
        }
        if removed { sync_directory(&self.log) } else { Ok(()) }
    }
}

impl Segments {
    /// Their bytes, as recovery takes them.
    pub fn slices(&self) -> Vec<&[u8]> {
        self.files.iter().map(|segment| segment.bytes.as_slice()).collect()
    }

    /// Finds the log's records. Refuses where synced ones are gone.
    pub fn recover<'a>(&self, slices: &[&'a [u8]]) -> Result<Recovered<'a>, DiskError> {
        let recovered =
            log::recover(slices).map_err(|corruption| self.refuse(&corruption, None))?;
        // The segments before the first may be gone; the first one itself is as its name says.
        let named = self.files.first().map(|segment| segment.first);
        let found = recovered.records.first().map(|(position, _)| *position);
        match (named, found) {
            (Some(named), Some(found)) if named != found => Err(self.corrupt(format!(
                "the first segment of the log is named {} and starts with record {}: a file was \
                 renamed or replaced",
                named.0, found.0
            ))),
            (Some(named), None) if named > Position(1) => Err(self.corrupt(format!(
                "the first segment of the log starts with record {}, which cannot be read, and the \
                 segments before it are gone",
                named.0
            ))),
            _ => Ok(recovered),
        }
    }

    /// The segments' paths and bytes, in order.
    pub(super) fn parts(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&Path, &[u8])> + ExactSizeIterator {
        self.files.iter().map(|segment| (segment.path.as_path(), segment.bytes.as_slice()))
    }

    /// Where the log is damaged.
    pub(super) fn describe(&self, corruption: &Corruption) -> String {
        let file = self.files.get(corruption.segment);
        let name = file.map_or(String::new(), |file| file.path.display().to_string());
        format!(
            "the log is damaged in {name} at byte {}: record {} is missing or unreadable, but \
             records up to {} had been on disk",
            corruption.offset, corruption.missing.0, corruption.proven_durable.0
        )
    }

    /// A damaged log that is not repaired, and why.
    pub(super) fn refuse(&self, corruption: &Corruption, why: Option<&str>) -> DiskError {
        let file = self.files.get(corruption.segment);
        let name = file.map_or(String::new(), |file| file.path.display().to_string());
        let why = why.map_or(String::new(), |why| format!(". It does not repair itself: {why}"));
        self.corrupt(format!("{corruption} (segment {}: {name}){why}", corruption.segment))
    }

    fn corrupt(&self, text: String) -> DiskError {
        DiskError::Corrupt { directory: self.directory.clone(), text }
    }
}

/// New and removed names in a directory survive a power cut only after this.
pub(super) fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(DiskError::io("sync the directory", path))
}
