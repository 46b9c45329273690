//! The thread that has the next segments ready: it fills new ones with zeros, and gives segments
//! that are not needed any more the name of one to come. A spare segment is behind the log's end,
//! so whatever it holds of its former life is not taken for the log. Whoever writes the log never
//! waits for a spare: while there is none, the open segment grows.
//!
//! Numbers have no gap, also after a power cut: each new name is on disk before the next is given.

use super::DiskError;
use super::blocks::BLOCK_BYTES;
use super::directory::{Directory, sync_directory};
use super::segment::Segment;
use crate::operator_log;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// The first segment's length in bytes; each one is twice as long as the one before, up to a
/// bound: a node that stores little takes up little.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// Spare segments that are kept in any case.
const SPARES_MIN: usize = 3;
/// After how long a spare is tried again on a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// What the log wants.
pub enum SpareOrder {
    /// This segment is not needed any more, nor are the others of so many that went with it. As
    /// many are kept as spares: the log will have grown by about as much when the next go, and
    /// a segment that is used again needs no zeros. More are deleted.
    Recycle(Arc<Segment>, usize),
    /// A spare has been taken.
    Taken,
}

/// The thread's state.
pub struct SpareThread {
    /// Where the segments are.
    pub directory: Directory,
    /// Whether they are opened for direct writes.
    pub direct: bool,
    /// A segment's length at most, in bytes.
    pub segment_bytes_max: u64,
    /// Numbers of spares that are there already, to be looked after first; then the next one's.
    pub numbers: std::ops::Range<u64>,
    /// Set when it is to end; it ends also when nobody can give orders any more.
    pub stop: Arc<AtomicBool>,
    /// What is to be done.
    pub orders: Receiver<SpareOrder>,
    /// Where spares go, in the order of their numbers.
    pub ready: Sender<Arc<Segment>>,
}

/// How long a segment is when it is made.
pub fn nominal_bytes(number: u64, segment_bytes_max: u64) -> u64 {
    let doublings = u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    let bytes = (FIRST_SEGMENT_BYTES << doublings).min(segment_bytes_max);
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

impl SpareThread {
    /// Keeps a spare ready until it is told to stop.
    pub fn run(self) {
        if let Err(error) = self.serve() {
            // The log goes on in the segment that it has.
            operator_log::line(format_args!(
                "no segment of the log is prepared or used again until the node is restarted: \
                 {error}; until then the last one grows"
            ));
        }
    }

    fn serve(&self) -> Result<(), DiskError> {
        let (mut next, mut spares) = (self.numbers.start, 0);
        while next < self.numbers.end {
            self.make(next, true)?;
            (next, spares) = (next + 1, spares + 1);
        }
        loop {
            let missing = spares == 0 && !self.make(next, false)?;
            if spares == 0 && !missing {
                (next, spares) = (next + 1, 1);
            }
            let order = if missing {
                self.orders.recv_timeout(RETRY)
            } else {
                self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match order {
                Ok(SpareOrder::Recycle(segment, together)) => {
                    if spares < together.max(SPARES_MIN) {
                        self.recycle(&segment, next)?;
                        (next, spares) = (next + 1, spares + 1);
                    } else {
                        self.remove(segment.path())?;
                    }
                }
                Ok(SpareOrder::Taken) => spares = spares.saturating_sub(1),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// A spare with this number. False if there is no space for a new one; what is there already is
    /// good for use as it is, and must stay: numbers have no gap.
    fn make(&self, number: u64, is_there: bool) -> Result<bool, DiskError> {
        let bytes = nominal_bytes(number, self.segment_bytes_max);
        let segment = self.directory.open_segment(number, self.direct)?;
        let (segment, prepared) = segment.prepare(bytes, &self.stop);
        match prepared {
            Err(error) if error.is_full() && !is_there => {
                self.remove(segment.path()).map(|()| false)
            }
            Err(error) if !error.is_full() => Err(error),
            _ => {
                let _ = self.ready.send(Arc::new(segment));
                Ok(true)
            }
        }
    }

    fn recycle(&self, segment: &Segment, number: u64) -> Result<(), DiskError> {
        let path = self.directory.segment_path(number);
        std::fs::rename(segment.path(), &path).map_err(DiskError::io("rename", segment.path()))?;
        sync_directory(self.directory.log_path())?;
        self.make(number, true).map(|_| ())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_file(path).map_err(DiskError::io("remove", path))?;
        sync_directory(self.directory.log_path())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;

    /// A thread whose spares are numbered from 2 on, with its two ends.
    fn thread(
        directory: &Directory,
    ) -> (SpareThread, mpsc::Sender<SpareOrder>, Receiver<Arc<Segment>>) {
        let (orders, order_receiver) = mpsc::channel();
        let (ready, spares) = mpsc::channel();
        let thread = SpareThread {
            directory: directory.share(),
            direct: false,
            segment_bytes_max: BLOCK_BYTES as u64,
            numbers: 2..2,
            stop: Arc::new(AtomicBool::new(false)),
            orders: order_receiver,
            ready,
        };
        (thread, orders, spares)
    }

    #[test]
    fn a_segment_that_cannot_grow_on_a_full_disk_is_used_again_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        // A file that can be opened and renamed, and takes no byte.
        std::os::unix::fs::symlink("/dev/full", directory.segment_path(1)).unwrap();
        let old = Arc::new(directory.open_segment(1, false).unwrap());
        let (thread, orders, spares) = thread(&directory);
        orders.send(SpareOrder::Recycle(old, 1)).unwrap();
        drop(orders);
        thread.serve().unwrap();
        let names: Vec<_> = spares.try_iter().map(|spare| spare.path().to_path_buf()).collect();
        assert_eq!(names, [2, 3].map(|number| directory.segment_path(number)));
        assert!(names.iter().all(|name| name.exists()), "no number is left out");
    }

    #[test]
    fn as_many_segments_are_kept_as_went_together() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let kept_of = |first: u64, together: u64| {
            let (mut thread, orders, spares) = thread(&directory);
            thread.numbers = first + together..first + together;
            for number in first..first + together {
                let old = Arc::new(directory.open_segment(number, false).unwrap());
                orders.send(SpareOrder::Recycle(old, together as usize)).unwrap();
            }
            drop(orders);
            thread.serve().unwrap();
            spares.try_iter().filter(|spare| spare.path().exists()).count()
        };
        assert_eq!(kept_of(1, 8), 8);
        // One was made before the first of these two was free.
        assert_eq!(kept_of(100, 2), SPARES_MIN);
    }
}
