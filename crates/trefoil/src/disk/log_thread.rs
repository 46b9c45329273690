//! The thread that writes and syncs the log, so that no sync blocks the event loop.

use super::DiskError;
use super::directory::{Directory, OpenSegment};
use replication::Position;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender};

/// What the event loop wants.
pub enum Order {
    /// Write a batch.
    Write {
        /// The batch.
        bytes: Vec<u8>,
        /// Its first record.
        first: Position,
        /// Its last record.
        last: Position,
        /// And sync it.
        sync: bool,
        /// Report as soon as it is written, before the sync.
        report_written: bool,
    },
    /// Sync what is written.
    Sync,
    /// Segments that hold only records before this position may go.
    Truncate(Position),
    /// End.
    Stop,
}

/// What the event loop is told.
pub enum Report {
    /// Written up to here; the sync is still to come.
    Written(Position),
    /// A write or sync order has been carried out.
    Done {
        /// Written up to here.
        written: Position,
        /// And all of it synced.
        synced: bool,
        /// The batch's memory, for the next one.
        buffer: Vec<u8>,
    },
    /// The log can no longer be trusted. The thread has ended.
    Failed(DiskError),
}

/// The thread's state.
pub struct LogThread {
    directory: Directory,
    open: OpenSegment,
    segment_bytes_max: u64,
    written: Position,
    synced: Position,
    orders: Receiver<Order>,
    reports: Sender<Report>,
}

impl LogThread {
    /// A thread that goes on in this segment, behind the last record, which is synced.
    pub fn new(
        directory: &Directory,
        open: OpenSegment,
        synced: Position,
        segment_bytes_max: u64,
        orders: Receiver<Order>,
        reports: Sender<Report>,
    ) -> LogThread {
        let directory = directory.share();
        let written = synced;
        LogThread { directory, open, segment_bytes_max, written, synced, orders, reports }
    }

    /// Carries out orders until it is told to stop, or the first of them fails.
    pub fn run(mut self, wake: impl Fn()) {
        while let Ok(order) = self.orders.recv() {
            let report = match self.carry_out(order, &wake) {
                Ok(Some(report)) => report,
                Ok(None) => continue,
                Err(None) => return,
                Err(Some(error)) => {
                    let _ = self.reports.send(Report::Failed(error));
                    return wake();
                }
            };
            if self.reports.send(report).is_err() {
                return;
            }
            wake();
        }
    }

    /// `Err(None)`: it is time to stop.
    fn carry_out(
        &mut self,
        order: Order,
        wake: &impl Fn(),
    ) -> Result<Option<Report>, Option<DiskError>> {
        match order {
            Order::Write { bytes, first, last, sync, report_written } => {
                self.write(&bytes, first).map_err(Some)?;
                self.written = last;
                if sync {
                    if report_written {
                        let _ = self.reports.send(Report::Written(last));
                        wake();
                    }
                    self.sync().map_err(Some)?;
                }
                Ok(Some(Report::Done { written: last, synced: sync, buffer: bytes }))
            }
            Order::Sync => {
                self.sync().map_err(Some)?;
                let written = self.written;
                Ok(Some(Report::Done { written, synced: true, buffer: Vec::new() }))
            }
            Order::Truncate(before) => {
                self.directory.remove_before(before).map_err(Some)?;
                Ok(None)
            }
            Order::Stop => Err(None),
        }
    }

    fn write(&mut self, bytes: &[u8], first: Position) -> Result<(), DiskError> {
        if self.open.bytes >= self.segment_bytes_max {
            // Whatever a later segment holds, the earlier ones are whole.
            self.sync()?;
            self.open = self.directory.create_segment(first)?;
        }
        self.open
            .file
            .write_all(bytes)
            .map_err(DiskError::io("write to the log", &self.open.path))?;
        self.open.bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if let Err(error) = self.open.file.sync_data() {
            self.directory.distrust_behind(self.synced);
            return Err(DiskError::io("sync the log", &self.open.path)(error));
        }
        self.synced = self.written;
        Ok(())
    }
}
