//! The thread that waits for the disk, so that no sync blocks the event loop. What goes through the
//! page cache the loop writes itself; here are the direct writes and the syncs, one at a time.

use super::DiskError;
use super::blocks::Blocks;
use super::directory::Directory;
use super::segment::Segment;
use replication::Position;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// What the event loop wants.
pub enum Order {
    /// Write a batch to the disk.
    Write {
        /// Into which file.
        segment: Arc<Segment>,
        /// Where, in bytes.
        at: u64,
        /// The batch, and what its first block holds already.
        blocks: Blocks,
        /// What is on disk already.
        synced: Position,
    },
    /// Sync what is written.
    Sync {
        /// The files with something that is not synced.
        segments: Vec<Arc<Segment>>,
        /// What is on disk already.
        synced: Position,
    },
    /// End.
    Stop,
}

/// What the event loop is told.
pub enum Report {
    /// The batch is on disk; its memory, for the next one.
    Written(Blocks),
    /// What was written is on disk; the memory of the list, empty.
    Synced(Vec<Arc<Segment>>),
    /// The log can no longer be trusted. The thread has ended.
    Failed(DiskError),
}

/// The thread's state.
pub struct LogThread {
    /// Told when something fails.
    pub directory: Directory,
    /// What is to be done.
    pub orders: Receiver<Order>,
    /// What has been done.
    pub reports: SyncSender<Report>,
}

impl LogThread {
    /// Carries out orders until it is told to stop, or the first of them fails.
    pub fn run(self, wake: impl Fn()) {
        while let Ok(order) = self.orders.recv() {
            let done = match order {
                Order::Write { segment, at, blocks, synced } => {
                    self.write(&segment, at, blocks, synced)
                }
                Order::Sync { segments, synced } => self.sync(segments, synced),
                Order::Stop => return,
            };
            let failed = done.is_err();
            let told = self.reports.send(done.unwrap_or_else(Report::Failed));
            wake();
            if failed || told.is_err() {
                return;
            }
        }
    }

    fn write(
        &self,
        segment: &Segment,
        at: u64,
        mut blocks: Blocks,
        synced: Position,
    ) -> Result<Report, DiskError> {
        let written = blocks.write(|whole| segment.write_direct(whole, at));
        // A full disk has refused to take the batch; anything else may have taken a part of it
        // and lost it.
        if written.as_ref().is_err_and(|error| !error.is_full()) {
            self.directory.distrust_behind(synced);
        }
        written.map(|()| Report::Written(blocks))
    }

    fn sync(&self, mut segments: Vec<Arc<Segment>>, synced: Position) -> Result<Report, DiskError> {
        for segment in &segments {
            if let Err(error) = segment.sync() {
                self.directory.distrust_behind(synced);
                return Err(error);
            }
        }
        segments.clear();
        Ok(Report::Synced(segments))
    }
}
