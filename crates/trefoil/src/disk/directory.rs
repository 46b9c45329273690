//! A data directory: `LOCK`, which one process holds, and `log/` with the segments, numbered in the
//! order of their use: `00000000000000000001.log`. The last ones may be spare.

use super::DiskError;
use super::blocks::{BLOCK_BYTES, Blocks};
use super::segment::Segment;
use super::segments::{SegmentFile, Segments, Tail};
use crate::operator_log;
use replication::Position;
use replication::storage::log::{End, Recovered, SECTOR_BYTES};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const LOCK_NAME: &str = "LOCK";
const LOG_NAME: &str = "log";
const SEGMENT_SUFFIX: &str = ".log";
/// Digits of the largest number.
const SEGMENT_DIGITS: usize = 20;

/// A data directory that this process holds.
pub struct Directory {
    path: PathBuf,
    log: PathBuf,
    /// Locked for as long as anything of this process uses the directory.
    lock: Arc<File>,
}

/// Where a log goes on.
pub(super) struct Resumed {
    /// The segments that hold its records, and the first record of each. Into the last one is
    /// written.
    pub live: VecDeque<(Arc<Segment>, Position)>,
    /// Where in the last one, in bytes: at a sector's start.
    pub at: u64,
    /// What the block there holds already.
    pub blocks: Blocks,
    /// The numbers of the spare segments that are there.
    pub spares: Range<u64>,
}

impl Directory {
    /// Takes a directory, and makes it if need be.
    pub fn open(path: &Path) -> Result<Directory, DiskError> {
        let log = path.join(LOG_NAME);
        let is_new = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let new: Vec<&Path> = log.ancestors().take_while(is_new).collect();
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
        for folder in new.into_iter().chain([log.as_path(), path]) {
            sync_directory(parent_of(folder))?;
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

    /// Looks at which segments there are, and how long each is. None is read.
    pub fn segments(&self) -> Result<Segments, DiskError> {
        let mut files: Vec<SegmentFile> = Vec::new();
        for (number, path) in self.list()? {
            if let Some(last) = files.last().filter(|last| last.number + 1 != number) {
                let (directory, missing) = (self.path.clone(), last.number + 1);
                let text = format!(
                    "segment {missing} of the log is missing between {} and {}: a file was \
                     renamed or removed",
                    last.path.display(),
                    path.display()
                );
                return Err(DiskError::Corrupt { directory, text });
            }
            let bytes = fs::metadata(&path).map_err(DiskError::io("read", &path))?.len();
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            files.push(SegmentFile { number, path, bytes });
        }
        Ok(Segments::new(self.path.clone(), files))
    }

    /// The segments' numbers and paths, in order. Other files are none of ours.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, DiskError> {
        let failed = || DiskError::io("list", &self.log);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.log).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let digits = name.strip_suffix(SEGMENT_SUFFIX).unwrap_or("");
            if digits.len() == SEGMENT_DIGITS
                && let Ok(number) = digits.parse()
            {
                found.push((number, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Blanks what a crash has left behind the good log, syncs what is good, and opens the segment
    /// where the log goes on.
    pub(super) fn resume(
        &self,
        segments: &Segments,
        recovered: &Recovered,
        tail: &Tail,
        first_bytes: u64,
        direct: bool,
    ) -> Result<Resumed, DiskError> {
        let End { segment: last, offset } = recovered.end;
        let files = segments.files();
        if files.is_empty() {
            let stop = AtomicBool::new(false);
            let (segment, prepared) = self.open_segment(1, direct)?.prepare(first_bytes, &stop);
            prepared?;
            let live = VecDeque::from([(Arc::new(segment), recovered.next)]);
            return Ok(Resumed { live, at: 0, blocks: Blocks::new(&[]), spares: 2..2 });
        }
        self.blank(segments, &recovered.leftovers)?;
        let mut live = VecDeque::new();
        let mut blocks = Blocks::new(&[]);
        for (place, (file, first)) in files.iter().zip(&recovered.starts).enumerate() {
            let mut segment = Segment::open(file.path.clone(), direct)?;
            if place == last {
                let block = tail.block();
                // What is there is written once more: so it shows whether direct writes work here.
                let at = (offset - offset % BLOCK_BYTES) as u64;
                let mut filled = Ok(());
                let mut whole = Blocks::new(&[block, &[0]].concat());
                whole.write(|whole| filled = segment.try_direct(whole, at));
                filled?;
                blocks = Blocks::new(block);
            }
            segment.sync()?;
            live.push_back((Arc::new(segment), *first));
        }
        sync_directory(&self.log)?;
        let number = |place: usize| files.get(place).map(|file| file.number);
        let spares = number(last).unwrap_or(0) + 1..files.last().map_or(0, |f| f.number) + 1;
        Ok(Resumed { live, at: offset as u64, blocks, spares })
    }

    /// Takes away the headers of batches whose positions are given again. One sync a file: a
    /// second of small batches may be left over.
    fn blank(&self, segments: &Segments, leftovers: &[End]) -> Result<(), DiskError> {
        for of_segment in leftovers.chunk_by(|one, next| one.segment == next.segment) {
            let file = of_segment.first().and_then(|first| segments.files().get(first.segment));
            let Some(file) = file else { continue };
            let written = OpenOptions::new().write(true).open(&file.path).and_then(|open| {
                for End { offset, .. } in of_segment {
                    open.write_all_at(&[0; SECTOR_BYTES], *offset as u64)?;
                }
                open.sync_all()
            });
            written.map_err(DiskError::io("blank the torn end of", &file.path))?;
        }
        if let Some(first) = leftovers.first()
            && let Some(file) = segments.files().get(first.segment)
        {
            operator_log::line(format_args!(
                "the end of {} is torn: {} batches that nothing proves to be on disk are cut",
                file.path.display(),
                leftovers.len()
            ));
        }
        Ok(())
    }

    /// Where the segment with this number is.
    pub(super) fn segment_path(&self, number: u64) -> PathBuf {
        self.log.join(format!("{number:0width$}{SEGMENT_SUFFIX}", width = SEGMENT_DIGITS))
    }

    /// Opens a segment, or makes a new one whose name survives a power cut.
    pub(super) fn open_segment(&self, number: u64, direct: bool) -> Result<Segment, DiskError> {
        let segment = Segment::open(self.segment_path(number), direct)?;
        sync_directory(&self.log)?;
        Ok(segment)
    }
}

/// The directory that a path's name is in.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// New and removed names in a directory survive a power cut only after this.
pub(super) fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(DiskError::io("sync the directory", path))
}
