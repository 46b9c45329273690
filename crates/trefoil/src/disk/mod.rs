//! The node's log on disk: segment files, a thread that writes and syncs them, one data directory
//! for one process.
//!
//! The event loop seals what its turns have appended into a batch whenever the thread is free, so
//! that batches gather while a sync is in flight: group commit without a timer. The first write or
//! sync that fails ends the process's trust in its log (`fsync` may report an error once and then
//! succeed although data is gone): nothing is tried again, the process stops. `trust.rs` is what
//! the next start makes of that, of a machine that lost its power, and of damage.
//!
//! Not here: segments are neither preallocated nor recycled, and the records that recovery finds
//! are all in memory until the node has taken them.

mod directory;
mod log_thread;
#[cfg(test)]
mod tests;
mod trust;

pub use directory::{Directory, Segments};

use log_thread::{LogThread, Order, Report};
use replication::Position;
use replication::keyspace::Durability;
use replication::storage::log::{LogWriter, Recovered};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a segment from which on the next batch starts a new one.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// How long written records may stay unsynced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// A batch buffer larger than this is not kept for the next batch.
const BATCH_BYTES_KEPT: usize = 4 << 20;

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
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
        let path = path.to_path_buf();
        move |error| DiskError::Io { what, path, error }
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
                if error.kind() == io::ErrorKind::StorageFull {
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

/// The event loop's side of the log.
pub struct Log {
    writer: LogWriter,
    /// The thread has finished what it was given.
    free: bool,
    /// A record of the open batch asks for a sync.
    sync_asked: bool,
    /// A record of the open batch counts as soon as it is written.
    counts_when_written: bool,
    written: Position,
    synced: Position,
    /// Since when something is written, or about to be, and not synced.
    unsynced_since: Option<Instant>,
    orders: Sender<Order>,
    reports: Receiver<Report>,
    buffer: Vec<u8>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Goes on behind what was recovered. Drops the torn tail first. `wake` is called from the
    /// log thread when there is a report.
    pub fn start(
        directory: &Directory,
        segments: &Segments,
        recovered: &Recovered<'_>,
        segment_bytes_max: u64,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Log, DiskError> {
        let open = directory.cut_tail(segments, recovered)?;
        let (orders, order_receiver) = mpsc::channel();
        let (report_sender, reports) = mpsc::channel();
        let writer = LogWriter::new(recovered.next, recovered.chain);
        let last = writer.last();
        let thread =
            LogThread::new(directory, open, last, segment_bytes_max, order_receiver, report_sender);
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || thread.run(wake))
            .map_err(DiskError::io("start the thread for", directory.path()))?;
        Ok(Log {
            writer,
            free: true,
            sync_asked: false,
            counts_when_written: false,
            written: last,
            synced: last,
            unsynced_since: None,
            orders,
            reports,
            buffer: Vec::new(),
            thread: Some(thread),
        })
    }

    /// Adds a record to the open batch.
    #[cfg(test)]
    pub fn append(&mut self, record: &[u8], durability: Durability) -> Position {
        self.append_parts(record, &[], durability)
    }

    /// Adds a record to the open batch: it begins with `head` and goes on with `rest`.
    pub fn append_parts(
        &mut self,
        head: &[u8],
        rest: &[u8],
        durability: Durability,
    ) -> Position {
        match durability {
            Durability::Fsync => self.sync_asked = true,
            Durability::Interval => self.counts_when_written = true,
        }
        self.writer.append_parts(head, rest)
    }

    /// Records before this position may go.
    pub fn truncate(&mut self, before: Position) {
        self.order(Order::Truncate(before));
    }

    /// The end of a turn: what has gathered goes to the thread, if it is free.
    pub fn hand_over(&mut self, now: Instant) {
        if !self.free {
            return;
        }
        let overdue = self.unsynced_since.is_some_and(|since| now >= since + SYNC_INTERVAL);
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        match self.writer.seal(self.synced, &mut bytes) {
            Some(sealed) => {
                let sync = self.sync_asked || overdue;
                let report_written = self.counts_when_written;
                self.unsynced_since.get_or_insert(now);
                (self.sync_asked, self.counts_when_written, self.free) = (false, false, false);
                let (first, last) = (sealed.first, sealed.last);
                self.order(Order::Write { bytes, first, last, sync, report_written });
            }
            None if overdue => {
                self.free = false;
                self.order(Order::Sync);
            }
            None => self.buffer = bytes,
        }
    }

    fn order(&self, order: Order) {
        // Fails only when the thread has ended, and then its last report says why.
        let _ = self.orders.send(order);
    }

    /// How far the log is kept now, if that has changed since the last call.
    pub fn progress(&mut self) -> Result<Option<(Position, Position)>, DiskError> {
        let before = (self.written, self.synced);
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Written(position) => self.written = self.written.max(position),
                Report::Done { written, synced, buffer } => {
                    self.free = true;
                    self.written = self.written.max(written);
                    if synced {
                        self.synced = self.written;
                        self.unsynced_since = None;
                    }
                    if buffer.capacity() <= BATCH_BYTES_KEPT {
                        self.buffer = buffer;
                    }
                }
                Report::Failed(error) => return Err(error),
            }
        }
        let after = (self.written, self.synced);
        Ok((after != before).then_some(after))
    }

    /// When [`Log::hand_over`] must be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.unsynced_since.filter(|_| self.free).map(|since| since + SYNC_INTERVAL)
    }

    /// The newest record.
    pub fn last(&self) -> Position {
        self.writer.last()
    }

    /// How far the log is written, and how far synced.
    pub fn kept(&self) -> (Position, Position) {
        (self.written, self.synced)
    }

    /// Writes and syncs everything, and ends the thread.
    pub fn close(&mut self) -> Result<(), DiskError> {
        let mut bytes = Vec::new();
        if let Some(sealed) = self.writer.seal(self.synced, &mut bytes) {
            let (first, last) = (sealed.first, sealed.last);
            self.order(Order::Write { bytes, first, last, sync: true, report_written: false });
        }
        self.order(Order::Sync);
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.progress().map(|_| ())
    }
}
