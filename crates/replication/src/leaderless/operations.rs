//! Where operations are kept: places that are used again with the memory that they have, and the
//! keys that are being written. Nothing here has an order that shows.

use super::operation::Operation;
use crate::storage::store::Hashes;
use hashbrown::HashTable;

use alloc::vec::Vec;

/// The lower bits of an operation's number say where it is kept, the others count.
const PLACE_BITS: u32 = 24;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// All operations of one keyspace on one node.
pub(super) struct Operations {
    seed: u64,
    all: Vec<Operation>,
    free: Vec<u32>,
    /// For each key that is being written, the operation that does it.
    holders: HashTable<u32>,
}

impl Operations {
    /// None. The seed is that of the stores.
    pub(super) fn new(seed: u64) -> Operations {
        Operations { seed, all: Vec::new(), free: Vec::new(), holders: HashTable::new() }
    }

    /// How many there are, those that wait for others included.
    pub(super) fn len(&self) -> usize {
        self.all.len().saturating_sub(self.free.len())
    }

    /// A key's hashes: those by which the stores find it, too.
    #[inline]
    pub(super) fn hashes(&self, key: &[u8]) -> Hashes {
        Hashes::of(key, self.seed)
    }

    /// The same, where the slot is known.
    #[inline]
    pub(super) fn hashes_in_slot(&self, slot: u16, key: &[u8]) -> Hashes {
        Hashes::in_slot(slot, key, self.seed)
    }

    /// A place for a new operation.
    pub(super) fn open(&mut self) -> u32 {
        if let Some(place) = self.free.pop() {
            return place;
        }
        self.all.push(Operation::default());
        (self.all.len() as u32).saturating_sub(1)
    }

    /// The operation is over.
    pub(super) fn close(&mut self, place: u32) {
        if let Some(operation) = self.at_mut(place) {
            operation.clear();
            self.free.push(place);
        }
    }

    /// The operation at a place.
    #[inline]
    pub(super) fn at(&self, place: u32) -> Option<&Operation> {
        self.all.get(place as usize)
    }

    /// The operation at a place, to change.
    #[inline]
    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Operation> {
        self.all.get_mut(place as usize)
    }

    /// Gives the operation at a place a number, so that it can be asked about. What is said
    /// about an earlier number of it is nobody's from now on.
    pub(super) fn number(&mut self, place: u32, count: u64) -> u64 {
        let number = (count << PLACE_BITS) | (u64::from(place) & PLACE_MASK);
        if let Some(operation) = self.at_mut(place) {
            operation.number = number;
        }
        number
    }

    /// Where the operation with a number is; nowhere if it is over.
    #[inline]
    pub(super) fn place_of(&self, number: u64) -> Option<u32> {
        let place = (number & PLACE_MASK) as u32;
        self.at(place).is_some_and(|operation| operation.number == number).then_some(place)
    }

    /// All places at which there may be one.
    pub(super) fn places(&self) -> core::ops::Range<u32> {
        0..self.all.len() as u32
    }

    /// The operation that writes a key.
    #[inline]
    pub(super) fn holder(&self, hash: u64, key: &[u8]) -> Option<u32> {
        if self.holders.is_empty() {
            return None;
        }
        let same = |place: &u32| self.at(*place).is_some_and(|operation| operation.key() == key);
        self.holders.find(hash, same).copied()
    }

    /// An operation begins to write its key, which nobody else does.
    pub(super) fn hold(&mut self, place: u32) {
        let Some(operation) = self.at_mut(place) else { return };
        operation.holds = true;
        let hash = operation.hashes.hash;
        let all = &self.all;
        let rehash = |place: &u32| all.get(*place as usize).map_or(0, |one| one.hashes.hash);
        self.holders.insert_unique(hash, place, rehash);
    }

    /// An operation waits behind the one that writes its key.
    pub(super) fn wait_behind(&mut self, holder: u32, place: u32) {
        let Some(operation) = self.at_mut(holder) else { return };
        let last = operation.last.replace(place).unwrap_or(holder);
        operation.waiting += 1;
        if let Some(last) = self.at_mut(last) {
            last.next = Some(place);
        }
    }

    /// An operation has done with its key: the one that waits next holds it from now on.
    pub(super) fn hand_on(&mut self, place: u32) -> Option<u32> {
        let operation = self.at_mut(place).filter(|operation| operation.holds)?;
        operation.holds = false;
        let (hash, waiting) = (operation.hashes.hash, core::mem::take(&mut operation.waiting));
        let (next, last) = (operation.next.take(), operation.last.take());
        let entry = self.holders.find_entry(hash, |holder| *holder == place).ok()?;
        let Some(next) = next else {
            entry.remove();
            return None;
        };
        *entry.into_mut() = next;
        if let Some(operation) = self.at_mut(next) {
            operation.holds = true;
            operation.last = last.filter(|last| *last != next);
            operation.waiting = waiting.saturating_sub(1);
        }
        Some(next)
    }
}
