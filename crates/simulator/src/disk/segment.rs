//! One file of a simulated log, and what a crash tears from it.

use super::SEGMENT_BYTES;
use replication::Position;
use replication::random::Random;
use replication::storage::log::SECTOR_BYTES;
use std::ops::Range;

/// Where in a batch's header its length is, its first record, and what it proves to be on disk.
const LENGTH_AT: usize = 8;
const FIRST_AT: usize = 16;
const DURABLE_AT: usize = 24;

/// A part of the log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Its file's number: they have no gap.
    pub number: u64,
    /// Its last record.
    pub last: Position,
    /// As a process reads it.
    pub bytes: Vec<u8>,
    /// As it is without power.
    pub kept: Vec<u8>,
    /// What it held when this life of it began.
    pub former: Vec<u8>,
    /// Up to where it holds the log, in bytes.
    pub used: usize,
    /// Up to where that survives any crash.
    pub synced: usize,
    /// Nothing in it is needed: it was given another name, and a power cut took that back.
    pub is_back: bool,
}

/// A batch of the log, as it lies on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    /// The number of its file.
    pub number: u64,
    /// Where it is there, without what fills its last sector.
    pub range: Range<usize>,
    /// Its first record.
    pub first: Position,
    /// A record that had been on disk when it was written.
    pub durable: Position,
}

impl Segment {
    pub fn blank(number: u64) -> Segment {
        let zeros = vec![0; SEGMENT_BYTES];
        let (bytes, kept, former) = (zeros.clone(), zeros.clone(), zeros);
        let (last, used, synced, is_back) = (Position(0), 0, 0, false);
        Segment { number, last, bytes, kept, former, used, synced, is_back }
    }

    /// It is used again, under another name: whatever it holds is behind the log's end.
    pub fn recycle(&mut self, number: u64) {
        self.kept.clone_from(&self.bytes);
        self.former.clone_from(&self.bytes);
        (self.number, self.used, self.synced, self.last) = (number, 0, 0, Position(0));
        self.is_back = false;
    }

    /// Writes a batch behind what it holds.
    pub fn write(&mut self, batch: &[u8]) {
        let end = self.used + batch.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.kept.resize(self.bytes.len(), 0);
        if let Some(place) = self.bytes.get_mut(self.used..end) {
            place.copy_from_slice(batch);
        }
        self.used = end;
    }

    pub fn sync(&mut self) {
        self.kept.clone_from(&self.bytes);
        self.synced = self.used;
    }

    /// What was written there is lost.
    pub fn lose(&mut self, range: Range<usize>) -> usize {
        if let (Some(bytes), Some(kept)) =
            (self.bytes.get_mut(range.clone()), self.kept.get(range.clone()))
        {
            bytes.copy_from_slice(kept);
        }
        range.len()
    }

    /// Its batches that were synced, up to one that the disk has lost.
    pub fn batches(&self) -> Vec<Batch> {
        let (mut found, mut at) = (Vec::new(), 0);
        let number_at = |at: usize| {
            let bytes = self.bytes.get(at..at + size_of::<u64>())?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        while at < self.synced
            && let Some(length) = number_at(at + LENGTH_AT)
            && let Some(first) = number_at(at + FIRST_AT)
            && let Some(durable) = number_at(at + DURABLE_AT)
        {
            let end = at.saturating_add(length as usize);
            // The disk may have lost the write of a batch: zeros have no length.
            if end == at || end > self.synced {
                break;
            }
            let (first, durable) = (Position(first), Position(durable));
            found.push(Batch { number: self.number, range: at..end, first, durable });
            at = end.next_multiple_of(SECTOR_BYTES);
        }
        found
    }

    /// Tears off the end of what is not safe, and any of its sectors. Returns how many bytes are
    /// lost.
    pub fn tear(&mut self, unsafe_from: usize, random: &mut Random) -> usize {
        let (mut end, mut lost) = (self.used, 0);
        if random.chance(70) {
            end = random.range(unsafe_from as u64, self.used as u64 + 1) as usize;
            lost += self.lose(end..self.used);
        }
        let mut start = unsafe_from;
        while start < end {
            let next = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            if random.chance(30) {
                lost += self.lose(start..next);
            }
            start = next;
        }
        lost
    }
}
