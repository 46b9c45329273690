//! What a command has written, for a WAIT behind it: of one that was taken apart, all parts.
//!
//! Of a group only the newest entry of each epoch is kept: one leader wrote them, so whoever has
//! the newest in place has those before it. Copies without a leader come down to the fewest.

use crate::GroupId;
use crate::turn::LastWrite;
use crate::version::EntryId;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// Entries of different groups that are kept of one command: each connection keeps them until its
/// next such command.
pub const ENTRIES_MAX: usize = 1_024;

/// What one command has written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LastWrites {
    /// The newest index of each group's epoch.
    entries: BTreeMap<(GroupId, u64), u64>,
    /// Of all that has no leader: the fewest acks, and whether all is on disk.
    copies: Option<(u16, bool)>,
    too_many: bool,
}

/// What a WAIT speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// By a command that is one write.
    One(LastWrite),
    /// By a command of several parts.
    Several(Arc<LastWrites>),
}

impl LastWrites {
    /// Another part has written something.
    pub fn add(&mut self, write: LastWrite) {
        match write {
            LastWrite::Entry { group, id } => {
                let newest = self.entries.entry((group, id.epoch)).or_default();
                *newest = id.index.max(*newest);
                self.too_many |= self.entries.len() > ENTRIES_MAX;
                if self.too_many {
                    self.entries.clear();
                }
            }
            LastWrite::Copies { acks, synced } => {
                let (fewest, all_synced) = self.copies.unwrap_or((acks, synced));
                self.copies = Some((fewest.min(acks), all_synced && synced));
            }
        }
    }

    /// Whether there are so many that no WAIT can speak of them.
    pub fn are_too_many(&self) -> bool {
        self.too_many
    }

    /// How many there are to speak of.
    pub fn len(&self) -> usize {
        self.entries.len() + usize::from(self.copies.is_some())
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !self.too_many
    }

    /// All there are to speak of.
    pub fn iter(&self) -> impl Iterator<Item = LastWrite> {
        let entries = self.entries.iter().map(|(&(group, epoch), &index)| {
            let id = EntryId { epoch, index };
            LastWrite::Entry { group, id }
        });
        let copies = self.copies.map(|(acks, synced)| LastWrite::Copies { acks, synced });
        entries.chain(copies)
    }

    /// The only one, if there is only one.
    pub fn only(&self) -> Option<LastWrite> {
        if self.len() == 1 && !self.too_many { self.iter().next() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatacenterId, KeyspaceId};
    use alloc::vec::Vec;

    fn entry(partition: u16, epoch: u64, index: u64) -> LastWrite {
        let (keyspace, datacenter) = (KeyspaceId(9), DatacenterId(0));
        let group = GroupId { keyspace, generation: 0, partition, datacenter };
        LastWrite::Entry { group, id: EntryId { epoch, index } }
    }

    #[test]
    fn the_newest_entry_of_each_groups_epoch_and_the_fewest_copies_are_kept() {
        let mut writes = LastWrites::default();
        assert!(writes.is_empty());
        writes.add(entry(1, 4, 7));
        assert_eq!(writes.only(), Some(entry(1, 4, 7)));
        let copies = |acks, synced| LastWrite::Copies { acks, synced };
        let others = [entry(1, 4, 9), entry(1, 4, 8), entry(1, 5, 9), entry(2, 1, 1)];
        for write in others.into_iter().chain([copies(3, true), copies(2, true), copies(3, false)])
        {
            writes.add(write);
        }
        let kept = [entry(1, 4, 9), entry(1, 5, 9), entry(2, 1, 1), copies(2, false)];
        assert_eq!(writes.iter().collect::<Vec<_>>(), kept);
        assert_eq!((writes.len(), writes.only()), (4, None));
    }

    #[test]
    fn more_than_can_be_kept_are_known_to_be_too_many() {
        let mut writes = LastWrites::default();
        for partition in 0..ENTRIES_MAX as u16 {
            writes.add(entry(partition, 1, 1));
        }
        assert!(!writes.are_too_many() && writes.len() == ENTRIES_MAX);
        writes.add(entry(u16::MAX, 1, 1));
        writes.add(entry(1, 1, 1));
        assert!(writes.are_too_many() && !writes.is_empty() && writes.only().is_none());
    }
}
