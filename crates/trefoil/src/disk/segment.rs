//! One file of the log. It is filled with zeros before it is used, so that a write into it changes
//! neither its length nor where its bytes are on the disk, and a sync has only the bytes to wait
//! for; and it is used again when what it holds is not needed any more.

use super::DiskError;
use super::blocks::{BLOCK_BYTES, Blocks};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Zeros written at once, in bytes: a batch that is to be synced meanwhile waits for no more.
const FILL_BYTES: u64 = 512 << 10;

/// One file of the log.
pub struct Segment {
    path: PathBuf,
    plain: File,
    /// What is written here is on disk when the call returns, and passes by the page cache.
    direct: Option<File>,
    bytes: u64,
}

/// What the system calls writes that pass by the page cache: `None` where it has none. `sync`: they
/// return when they are on disk.
#[cfg(target_os = "linux")]
fn direct_flags(sync: bool) -> Option<i32> {
    use rustix::fs::OFlags;
    let flags = if sync { OFlags::DIRECT | OFlags::DSYNC } else { OFlags::DIRECT };
    i32::try_from(flags.bits()).ok()
}

#[cfg(not(target_os = "linux"))]
fn direct_flags(_sync: bool) -> Option<i32> {
    None
}

impl Segment {
    /// Opens the file, and makes it if need be. `direct`: for direct writes as well, if the file
    /// system takes them.
    pub fn open(path: PathBuf, direct: bool) -> Result<Segment, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let plain = options.open(&path).map_err(DiskError::io("open", &path))?;
        let bytes = plain.metadata().map_err(DiskError::io("look at", &path))?.len();
        let direct = if direct { open_direct(&path, true)? } else { None };
        Ok(Segment { path, plain, direct, bytes })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long it is prepared to be, in bytes; it may grow beyond, at a price.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the file system takes direct writes.
    pub fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Makes it so long, with zeros behind what it holds, and syncs it. Whatever comes of it, the
    /// file is good for use: it is only shorter than it was to be.
    pub fn prepare(mut self, bytes: u64, stop: &AtomicBool) -> (Segment, Result<(), DiskError>) {
        let prepared = self.make_long(bytes, stop).and_then(|()| self.sync());
        (self, prepared)
    }

    fn make_long(&mut self, bytes: u64, stop: &AtomicBool) -> Result<(), DiskError> {
        if self.bytes > bytes {
            self.plain.set_len(bytes).map_err(DiskError::io("shorten", &self.path))?;
            self.bytes = bytes;
        }
        if self.bytes == bytes {
            return Ok(());
        }
        // One sync for all of it is enough; but through the page cache that one would hold up the
        // disk, and all that waits for it, for as long as it takes.
        let mut filler = match &self.direct {
            Some(_) => open_direct(&self.path, false)?,
            None => None,
        };
        let zeros = Blocks::zeros(FILL_BYTES as usize);
        // A write that failed half way through may have left any length.
        self.bytes -= self.bytes % BLOCK_BYTES as u64;
        while self.bytes < bytes && !stop.load(Ordering::Relaxed) {
            let piece = FILL_BYTES.min(bytes - self.bytes) as usize;
            let piece = zeros.as_slice().get(..piece).unwrap_or(zeros.as_slice());
            match filler.as_ref().unwrap_or(&self.plain).write_all_at(piece, self.bytes) {
                Ok(()) => self.bytes += piece.len() as u64,
                Err(error) if is_refusal(&error) && filler.is_some() => {
                    (filler, self.direct) = (None, None);
                }
                Err(error) => return Err(DiskError::io("write to", &self.path)(error)),
            }
        }
        Ok(())
    }

    /// Writes what is there once more, directly where that is possible; finds out where it is not.
    pub fn try_direct(&mut self, blocks: &[u8], at: u64) -> Result<(), DiskError> {
        if let Some(direct) = &self.direct {
            match direct.write_all_at(blocks, at) {
                Ok(()) => return Ok(()),
                Err(error) if is_refusal(&error) => self.direct = None,
                Err(error) => return Err(DiskError::io("write to", &self.path)(error)),
            }
        }
        self.write(blocks, at)
    }

    /// Writes whole blocks to the page cache.
    pub fn write(&self, blocks: &[u8], at: u64) -> Result<(), DiskError> {
        let written = self.plain.write_all_at(blocks, at);
        written.map_err(DiskError::io("write to the log", &self.path))
    }

    /// Writes whole blocks to the disk.
    pub fn write_direct(&self, blocks: &[u8], at: u64) -> Result<(), DiskError> {
        let file = self.direct.as_ref().unwrap_or(&self.plain);
        file.write_all_at(blocks, at)
            .and_then(|()| if self.direct.is_some() { Ok(()) } else { file.sync_data() })
            .map_err(DiskError::io("write to the log", &self.path))
    }

    /// What was written to the page cache is on disk afterwards.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.plain.sync_data().map_err(DiskError::io("sync the log", &self.path))
    }

    /// What is on disk leaves the page cache: nobody reads it until the next start. Otherwise the
    /// log would fill the machine's memory, and each block of it would take a page that nobody
    /// has touched for long, which costs a virtual machine many times the copy.
    pub fn leave_page_cache(&self) {
        #[cfg(target_os = "linux")]
        {
            // A piece of advice: where it is not taken, the pages stay until they are needed.
            let _ = rustix::fs::fadvise(&self.plain, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
}

/// A file for direct writes; `None` where the file system takes none.
fn open_direct(path: &Path, sync: bool) -> Result<Option<File>, DiskError> {
    let Some(flags) = direct_flags(sync) else { return Ok(None) };
    match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(DiskError::io("open", path)(error)),
    }
}

/// What a file system says that takes no direct writes.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}
