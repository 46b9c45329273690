//! The replication log of one group, as this node holds it: the entries in memory, and which record
//! of the node's own log has them.
//!
//! The entries' bytes lie in chunks (`chunks.rs`), one after another as runs (`run.rs`): a run is
//! copied as it is into the node's log, into the messages to the followers, and there into their
//! logs. An entry that was appended has no record yet: its leader writes a turn's entries down
//! together, and until then none of them is durable.
//!
//! The log reaches back as far as followers may need it; what is older lives in the state only. The
//! entry before the first one is known by its id, so that logs can be matched at the boundary.

mod chunks;
pub mod run;
#[cfg(test)]
mod tests;

use super::entry::Entry;
use crate::Position;
use crate::version::EntryId;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use chunks::Chunks;

/// The entries of a group from some index on.
#[derive(Debug)]
pub struct ReplicationLog {
    /// The entry before the first kept one; everything up to it is committed.
    start: EntryId,
    /// From when on the node's own log holds what the start stands for.
    start_position: Position,
    /// How many bytes of entries there are up to the start's end, as the chunks count them.
    start_end: u64,
    /// The newest entry's index.
    last_index: u64,
    chunks: Chunks,
    /// Where the node's own log has them: for each record the last index, in the order of both.
    records: VecDeque<(u64, Position)>,
    /// Up to here the entries have records.
    recorded: u64,
    durable: u64,
    synced: u64,
}

impl Default for ReplicationLog {
    fn default() -> Self {
        ReplicationLog::starting_after(EntryId::default(), Position(0))
    }
}

impl ReplicationLog {
    /// An empty log whose next entry follows `start`, which the node's log holds from a position.
    pub fn starting_after(start: EntryId, start_position: Position) -> ReplicationLog {
        ReplicationLog {
            start,
            start_position,
            start_end: 0,
            last_index: start.index,
            chunks: Chunks::default(),
            records: VecDeque::new(),
            recorded: start.index,
            durable: 0,
            synced: 0,
        }
    }

    /// The entry before the first kept one.
    pub fn start(&self) -> EntryId {
        self.start
    }

    /// The newest entry.
    pub fn last(&self) -> EntryId {
        self.id_at(self.last_index).unwrap_or(self.start)
    }

    /// The newest entry's index.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Whether no entry is kept.
    pub fn is_empty(&self) -> bool {
        self.last_index == self.start.index
    }

    /// Bytes of the kept entries, each with its length.
    pub fn bytes(&self) -> u64 {
        self.chunks.end() - self.start_end
    }

    /// Bytes of the kept entries after an index.
    pub fn bytes_after(&self, index: u64) -> u64 {
        if index <= self.start.index {
            return self.bytes();
        }
        let end = self.chunks.end();
        end - self.chunks.end_of(index).unwrap_or(end)
    }

    /// A kept entry's bytes.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&[u8]> {
        if index <= self.start.index { None } else { self.chunks.get(index) }
    }

    /// The id of the entry at an index, the start's included.
    #[inline]
    pub fn id_at(&self, index: u64) -> Option<EntryId> {
        if index == self.start.index {
            return Some(self.start);
        }
        Entry::id_of(self.get(index)?).ok()
    }

    /// The entries after an index as a run, as far as they lie together, until it has `bytes_max`
    /// bytes; and its last index.
    pub fn run_after(&self, index: u64, bytes_max: usize) -> Option<(&[u8], u64)> {
        if index < self.start.index { None } else { self.chunks.run(index + 1, bytes_max) }
    }

    /// Tells the start's whole id where so far only its index was known: logs are compared by it
    /// once the entries behind it are cut.
    pub fn name_start(&mut self, id: EntryId) {
        if id.index == self.start.index {
            self.start = id;
        }
    }

    /// Appends the entry that follows the last one, as `encode` writes it: about `room` bytes. It
    /// has no record yet.
    #[inline]
    pub fn append(&mut self, room: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        self.last_index += 1;
        self.chunks.append(self.last_index, room, encode);
    }

    /// Appends the entries of a run, which follow the last one. They have no record yet.
    pub fn append_run(&mut self, run: &[u8]) {
        self.last_index += self.chunks.append_run(self.last_index + 1, run);
    }

    /// The entries that have no record yet, as far as they lie together, and the last of them.
    pub fn unrecorded(&self) -> Option<(&[u8], u64)> {
        if self.recorded == self.last_index {
            None
        } else {
            self.run_after(self.recorded, usize::MAX)
        }
    }

    /// The entries up to an index are in the node's log, in the record at a position.
    pub fn record_up_to(&mut self, index: u64, position: Position) {
        self.recorded = index;
        self.records.push_back((index, position));
    }

    /// Up to where the entries have records.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// Takes off all entries above an index, as far as they are kept.
    pub fn cut_above(&mut self, index: u64) {
        let index = index.max(self.start.index);
        if self.last_index <= index {
            return;
        }
        self.chunks.cut_above(index);
        self.last_index = index;
        self.recorded = self.recorded.min(index);
        let mut cut_record = None;
        while let Some((_, position)) = self.records.pop_back_if(|(last, _)| *last > index) {
            cut_record = Some(position);
        }
        if let Some(position) = cut_record
            && self.records.back().map_or(self.start.index, |(last, _)| *last) < index
        {
            // The record's first entries stay.
            self.records.push_back((index, position));
        }
        self.durable = self.durable.min(index);
        self.synced = self.synced.min(index);
    }

    /// Forgets the oldest entries up to `index` while more than `bytes_max` bytes are kept.
    pub fn prune(&mut self, index: u64, bytes_max: usize) {
        let bytes_max = bytes_max as u64;
        let end = self.chunks.end();
        if self.bytes() <= bytes_max || self.start.index >= index {
            return;
        }
        // Whole chunks first: in the end, few entries are looked at one by one.
        let mut start = self.start.index;
        while let (last, chunk_end) = self.chunks.oldest()
            && last < index
            && end - chunk_end > bytes_max
        {
            if last > start {
                self.start_after(last);
                start = last;
            }
            self.chunks.forget_up_to(start);
        }
        while start < index && end - self.chunks.end_of(start).unwrap_or(self.start_end) > bytes_max
        {
            start += 1;
        }
        self.start_after(start);
        self.chunks.forget_up_to(start);
    }

    /// The log begins after an entry that is kept.
    fn start_after(&mut self, index: u64) {
        let (Some(id), Some(end)) = (self.id_at(index), self.chunks.end_of(index)) else { return };
        self.start_position = self.position_of(index).unwrap_or(self.start_position);
        (self.start, self.start_end) = (id, end);
        while self.records.pop_front_if(|(last, _)| *last <= index).is_some() {}
    }

    /// The newest index up to which the node's own log is kept, given how far that is durable.
    /// Booked on entries: the sync of an entry that was cut never counts for its successor,
    /// because the successor's record has a later position.
    pub fn durable_index(&mut self, durable: Position) -> u64 {
        self.durable = self.index_at(self.durable, durable);
        self.durable
    }

    /// The same for what is on disk, whatever counts as kept in this keyspace.
    pub fn synced_index(&mut self, synced: Position) -> u64 {
        self.synced = self.index_at(self.synced, synced);
        self.synced
    }

    /// The newest index whose record is at or before a position; `known` is one that is.
    fn index_at(&self, known: u64, position: Position) -> u64 {
        if self.start_position > position {
            return 0;
        }
        let kept = match self.records.back() {
            Some((last, newest)) if *newest <= position => *last,
            _ => {
                let after = self.records.partition_point(|(_, at)| *at <= position);
                after
                    .checked_sub(1)
                    .and_then(|at| self.records.get(at))
                    .map_or(0, |(last, _)| *last)
            }
        };
        kept.max(known).max(self.start.index)
    }

    /// Where the node's log has a kept entry.
    fn position_of(&self, index: u64) -> Option<Position> {
        let at = self.records.partition_point(|(last, _)| *last < index);
        self.records.get(at).map(|(_, position)| *position)
    }

    /// The position of the first record of the node's log that is needed for entries above
    /// `index`; `None` if there are none.
    pub fn position_after(&self, index: u64) -> Option<Position> {
        self.position_of(index.max(self.start.index) + 1)
    }

    /// The index before the first entry of the epoch that the entry at `index` has: where a log
    /// that differs there may agree.
    pub fn before_epoch_at(&self, index: u64) -> u64 {
        let Some(id) = self.id_at(index) else { return self.start.index };
        let mut before = index;
        while before > self.start.index
            && self.id_at(before).is_some_and(|other| other.epoch == id.epoch)
        {
            before -= 1;
        }
        before
    }
}
