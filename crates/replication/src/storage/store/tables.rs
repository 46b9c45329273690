//! The hash tables behind a store: each for a run of slots, as many as it takes to keep them small.
//!
//! SCAN, images and moves walk slots, so a slot's keys must be found without looking at all others;
//! but a table for each of 16384 slots costs more than the keys of a small keyspace. So a table
//! begins with all slots, and is cut in two when it is full, until it has only one slot.

use super::packed::Packed;
use crate::keyspace::slot::slot_of;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashTable;

/// Keys in a table of more than one slot: what 64 buckets hold.
const SHARED_KEYS_MAX: usize = 56;

/// A table gives memory back when it has room for more than this and is less than an eighth full.
const SHRINK_CAPACITY: usize = 14;

/// The tables of a run of slots.
#[derive(Clone)]
pub(super) struct Tables {
    first_slot: u16,
    /// Of the hash.
    pub(super) seed: u64,
    /// For each slot, which of the tables it is in.
    places: Vec<u16>,
    tables: Vec<Table>,
}

/// The keys of some slots that follow each other.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) first_slot: u16,
    pub(super) last_slot: u16,
    /// How many of its keys are no tombstones.
    pub(super) live: u32,
    pub(super) keys: HashTable<Packed>,
}

impl Tables {
    /// One empty table.
    pub(super) fn new(first_slot: u16, last_slot: u16, seed: u64) -> Tables {
        let count = (usize::from(last_slot) + 1).saturating_sub(usize::from(first_slot));
        let table = Table { first_slot, last_slot, live: 0, keys: HashTable::new() };
        Tables { first_slot, seed, places: vec![0; count], tables: vec![table] }
    }

    /// The table that a slot's keys are in; `None` for a slot of another partition, which is the
    /// caller's error.
    #[inline]
    pub(super) fn of(&self, slot: u16) -> Option<&Table> {
        self.tables.get(self.place(slot)?)
    }

    /// The same, to change it.
    #[inline]
    pub(super) fn of_mut(&mut self, slot: u16) -> Option<&mut Table> {
        let place = self.place(slot)?;
        self.tables.get_mut(place)
    }

    /// The table that a new key of a slot goes to.
    pub(super) fn with_room(&mut self, slot: u16) -> Option<&mut Table> {
        loop {
            let place = self.place(slot)?;
            let table = self.tables.get(place)?;
            let is_shared = table.first_slot < table.last_slot;
            if !is_shared || table.keys.len() < SHARED_KEYS_MAX {
                return self.tables.get_mut(place);
            }
            self.cut(place);
        }
    }

    /// All tables in the order of their slots, from the one with this slot on.
    pub(super) fn from(&self, slot: u16) -> impl Iterator<Item = &Table> + use<'_> {
        let mut next = Some(slot.max(self.first_slot));
        core::iter::from_fn(move || {
            let place = usize::from(next?.checked_sub(self.first_slot)?);
            let table = self.tables.get(usize::from(*self.places.get(place)?))?;
            next = table.last_slot.checked_add(1);
            Some(table)
        })
    }

    /// The tables alone, in no order.
    pub(super) fn into_tables(self) -> Vec<Table> {
        self.tables
    }

    #[inline]
    fn place(&self, slot: u16) -> Option<usize> {
        let place =
            slot.checked_sub(self.first_slot).and_then(|place| self.places.get(usize::from(place)));
        debug_assert!(place.is_some(), "slot {slot}");
        place.copied().map(usize::from)
    }

    /// Cuts a table in two.
    fn cut(&mut self, place: usize) {
        let (seed, new_place) = (self.seed, self.tables.len());
        let Some(table) = self.tables.get_mut(place) else { return };
        let hasher = |packed: &Packed| super::hash_of(packed.key(), seed);
        let middle = table.first_slot + (table.last_slot - table.first_slot) / 2;
        let mut new = Table { first_slot: middle + 1, live: 0, keys: HashTable::new(), ..*table };
        for packed in table.keys.extract_if(|packed| slot_of(packed.key()) > middle) {
            new.insert(hasher(&packed), packed, seed);
        }
        table.live -= new.live;
        table.last_slot = middle;
        table.keys.shrink_to(0, hasher);
        let slots = usize::from(new.first_slot - self.first_slot)
            ..=usize::from(new.last_slot - self.first_slot);
        self.places.get_mut(slots).into_iter().flatten().for_each(|at| *at = new_place as u16);
        self.tables.push(new);
    }
}

impl Table {
    /// Puts in a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, packed: Packed, seed: u64) {
        self.live += u32::from(packed.is_live());
        self.keys.insert_unique(hash, packed, |packed| super::hash_of(packed.key(), seed));
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8], seed: u64) -> Option<Packed> {
        let found = self.keys.find_entry(hash, |packed| packed.key() == key).ok()?;
        let (packed, _) = found.remove();
        self.live -= u32::from(packed.is_live());
        if self.keys.capacity() > SHRINK_CAPACITY && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to(self.keys.len() * 2, |packed| super::hash_of(packed.key(), seed));
        }
        Some(packed)
    }
}
