//! The replication log of one group, as this node holds it: the entries in memory, each with the
//! position of its record in the node's own log.
//!
//! It reaches back as far as followers may need it; what is older lives in the state only. The
//! entry before the first one is known by its id, so that logs can be matched at the boundary.

use crate::Position;
use crate::version::EntryId;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

/// One entry in memory.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its epoch.
    pub epoch: u64,
    /// Where the node's own log has it.
    pub position: Position,
    /// Its bytes, as `Entry::encode` made them.
    pub body: Arc<[u8]>,
}

/// The entries of a group from some index on.
#[derive(Debug)]
pub struct ReplicationLog {
    /// The entry before the first kept one; everything up to it is committed.
    start: EntryId,
    /// From when on the node's own log holds what the start stands for.
    start_position: Position,
    entries: VecDeque<Kept>,
    bytes: usize,
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
        let entries = VecDeque::new();
        ReplicationLog { start, start_position, entries, bytes: 0, durable: 0, synced: 0 }
    }

    /// The entry before the first kept one.
    pub fn start(&self) -> EntryId {
        self.start
    }

    /// The newest entry.
    pub fn last(&self) -> EntryId {
        match self.entries.back() {
            Some(kept) => EntryId { epoch: kept.epoch, index: self.last_index() },
            None => self.start,
        }
    }

    /// The newest entry's index.
    pub fn last_index(&self) -> u64 {
        self.start.index + self.entries.len() as u64
    }

    /// Whether no entry is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the kept entries.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A kept entry.
    pub fn get(&self, index: u64) -> Option<&Kept> {
        let place = index.checked_sub(self.start.index + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// The id of the entry at an index, the start's included.
    pub fn id_at(&self, index: u64) -> Option<EntryId> {
        if index == self.start.index {
            return Some(self.start);
        }
        Some(EntryId { epoch: self.get(index)?.epoch, index })
    }

    /// Tells the start's whole id where so far only its index was known: logs are compared by it
    /// once the entries behind it are cut.
    pub fn name_start(&mut self, id: EntryId) {
        if id.index == self.start.index {
            self.start = id;
        }
    }

    /// Appends the entry that follows the last one.
    pub fn append(&mut self, epoch: u64, position: Position, body: Arc<[u8]>) {
        self.bytes += body.len();
        self.entries.push_back(Kept { epoch, position, body });
    }

    /// Takes the newest entry off, if there is one above `index`.
    pub fn pop_above(&mut self, index: u64) -> Option<(EntryId, Kept)> {
        if self.last_index() <= index {
            return None;
        }
        let id = self.last();
        let kept = self.entries.pop_back()?;
        self.bytes -= kept.body.len();
        self.durable = self.durable.min(self.last_index());
        self.synced = self.synced.min(self.last_index());
        Some((id, kept))
    }

    /// Forgets the oldest entries up to `index` while more than `bytes_max` bytes are kept.
    pub fn prune(&mut self, index: u64, bytes_max: usize) {
        while self.bytes > bytes_max && self.start.index < index {
            let Some(kept) = self.entries.pop_front() else { return };
            self.bytes -= kept.body.len();
            self.start = EntryId { epoch: kept.epoch, index: self.start.index + 1 };
            self.start_position = kept.position;
        }
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
        let mut index = known.max(self.start.index);
        while self.get(index + 1).is_some_and(|kept| kept.position <= position) {
            index += 1;
        }
        index
    }

    /// The position of the first record of the node's log that is needed for entries above
    /// `index`; `None` if there are none.
    pub fn position_after(&self, index: u64) -> Option<Position> {
        let first = index.max(self.start.index) + 1;
        self.get(first).map(|kept| kept.position)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(epochs: &[u64]) -> ReplicationLog {
        let mut log = ReplicationLog::default();
        for (place, epoch) in epochs.iter().enumerate() {
            log.append(*epoch, Position(10 + place as u64), Arc::from([0u8; 10]));
        }
        log
    }

    #[test]
    fn durable_follows_positions_and_not_indexes() {
        let mut log = log_of(&[1, 1, 1]);
        assert_eq!(log.durable_index(Position(11)), 2);
        while log.pop_above(1).is_some() {}
        log.append(2, Position(20), Arc::from([0u8; 1]));
        assert_eq!(log.durable_index(Position(12)), 1, "the cut entry's sync does not count");
        assert_eq!(log.durable_index(Position(20)), 2);
    }

    #[test]
    fn pruning_keeps_the_boundary_matchable() {
        let mut log = log_of(&[1, 2, 2, 3]);
        log.prune(3, 15);
        assert_eq!(log.start(), EntryId { epoch: 2, index: 3 });
        assert_eq!(log.id_at(3), Some(EntryId { epoch: 2, index: 3 }));
        assert_eq!(log.id_at(2), None);
        assert_eq!(log.last(), EntryId { epoch: 3, index: 4 });
    }

    #[test]
    fn a_hint_skips_a_whole_epoch() {
        let log = log_of(&[1, 2, 2, 2]);
        assert_eq!(log.before_epoch_at(4), 1);
        assert_eq!(log.before_epoch_at(1), 0);
    }
}
