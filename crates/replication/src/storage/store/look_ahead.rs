//! Looking up keys side by side, before they are needed one after another.
//!
//! To find a key is a chain of reads from memory: its table, the place in it, the record. Where
//! the table is larger than the processor's caches, each of them waits for the one before, and
//! that is a third of what a pipelined command costs. The chains of several keys do not depend on
//! each other: gone through in step, link by link, they wait together.

use super::packed::Packed;
use super::{Hashes, Store};
use crate::keyspace::SLOTS;
use core::hint::black_box;
use hashbrown::HashTable;

/// So many keys are looked up in step: more than memory answers at once, few enough that what is
/// brought is still there when it is used.
pub const IN_STEP: usize = 16;

/// A keyspace that holds less, in bytes, is in the caches anyway. A store that is one of several
/// partitions is taken for its share of one.
const WORTH_IT_BYTES: usize = 1 << 20;

/// Brings what lookups of these keys will read into the processor's caches. Changes nothing.
pub fn look_ahead<'s, 'k>(keys: impl Iterator<Item = (&'s Store, &'k [u8])>) {
    let worth_it = keys.filter(|(store, _)| store.is_worth_looking_ahead());
    in_step(worth_it.map(|(store, key)| (store, store.hashes(key))));
}

/// The same for keys whose hashes are known.
pub fn look_ahead_by<'s>(keys: impl Iterator<Item = (&'s Store, Hashes)>) {
    in_step(keys.filter(|(store, _)| store.is_worth_looking_ahead()));
}

fn in_step<'s>(keys: impl Iterator<Item = (&'s Store, Hashes)>) {
    let mut keys = keys.peekable();
    while keys.peek().is_some() {
        let mut places: [Option<(&HashTable<Packed>, u64)>; IN_STEP] = [None; IN_STEP];
        for (place, (store, Hashes { slot, hash })) in places.iter_mut().zip(keys.by_ref()) {
            *place = store.tables.of(slot).map(|table| (&table.keys, hash));
        }
        // The first that may be the one: which it is, only its key would tell.
        let found = places.map(|place| place.and_then(|(keys, hash)| keys.find(hash, |_| true)));
        read(found.into_iter().flatten());
    }
}

impl Store {
    /// Whether its keys are likely to lie outside of the caches: what the other partitions hold
    /// is used between its own keys.
    #[inline]
    fn is_worth_looking_ahead(&self) -> bool {
        let slots = usize::from(self.last_slot.saturating_sub(self.first_slot)) + 1;
        self.bytes().saturating_mul(usize::from(SLOTS)) >= WORTH_IT_BYTES * slots
    }
}

/// Brings keys and their records into the caches.
#[inline]
pub(super) fn read<'a>(all: impl Iterator<Item = &'a Packed>) {
    let ends = all.fold(0, |ends, packed| {
        let bytes = packed.bytes();
        ends ^ bytes.first().unwrap_or(&0) ^ bytes.last().unwrap_or(&0)
    });
    black_box(ends);
}
