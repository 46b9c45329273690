//! What is done at the disk, and the thread that waits for it where the event loop does not. What
//! goes through the page cache the loop writes itself; here are the direct writes and the syncs,
//! one at a time.

use super::DiskError;
use super::blocks::Blocks;
use super::directory::Directory;
use super::segment::Segment;
use replication::Position;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

/// A batch to be written to the disk.
pub struct Write {
    /// Into which file.
    pub segment: Arc<Segment>,
    /// Where, in bytes.
    pub at: u64,
    /// The batch, and what its first block holds already.
    pub blocks: Blocks,
    /// What is on disk already.
    pub synced: Position,
}

/// What the event loop wants.
pub enum Order {
    /// Write a batch to the disk.
    Write(Write),
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
    /// The batch is on disk; its memory, for the next one, and how long the disk took.
    Written(Blocks, Duration),
    /// What was written is on disk; the memory of the list, empty.
    Synced(Vec<Arc<Segment>>),
    /// The log can no longer be trusted.
    Failed(DiskError),
}

/// Carries out what the log wants of the disk, on whichever thread waits for it.
pub struct DiskHand {
    /// Told when something fails.
    pub directory: Directory,
    /// What has been done.
    pub reports: SyncSender<Report>,
    /// Called when there is a report.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

/// The thread's state.
pub struct LogThread {
    /// What does it.
    pub hand: Arc<DiskHand>,
    /// What is to be done.
    pub orders: Receiver<Order>,
}

impl LogThread {
    /// Carries out orders until it is told to stop, or the first of them fails.
    pub fn run(self) {
        while let Ok(order) = self.orders.recv() {
            let done = match order {
                Order::Write(write) => self.hand.write(write),
                Order::Sync { segments, synced } => self.hand.sync(segments, synced),
                Order::Stop => return,
            };
            let failed = matches!(done, Report::Failed(_));
            if !self.hand.tell(done) || failed {
                return;
            }
        }
    }
}

impl DiskHand {
    /// Writes a batch, and returns when it is on disk.
    pub fn write(&self, write: Write) -> Report {
        let Write { segment, at, mut blocks, synced } = write;
        let begun = Instant::now();
        #[cfg(test)]
        super::stalled::wait(self.directory.path());
        match blocks.write(|whole| segment.write_direct(whole, at)) {
            Ok(()) => Report::Written(blocks, begun.elapsed()),
            Err(error) => {
                // A full disk has refused to take the batch; anything else may have taken a part of
                // it and lost it.
                if !error.is_full() {
                    self.directory.distrust_behind(synced);
                }
                Report::Failed(error)
            }
        }
    }

    fn sync(&self, mut segments: Vec<Arc<Segment>>, synced: Position) -> Report {
        #[cfg(test)]
        super::stalled::wait(self.directory.path());
        for segment in &segments {
            if let Err(error) = segment.sync() {
                self.directory.distrust_behind(synced);
                return Report::Failed(error);
            }
            segment.leave_page_cache();
        }
        segments.clear();
        Report::Synced(segments)
    }

    /// Tells the log what was done. False if nobody hears it.
    pub fn tell(&self, report: Report) -> bool {
        let told = self.reports.send(report).is_ok();
        (self.wake)();
        told
    }
}
