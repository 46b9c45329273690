//! What finds a key: its slot, and its place among the slot's keys.

use crate::keyspace::slot::slot_of;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A key's two hashes: computed once where a key is looked up more than once, and carried along.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hashes {
    /// The slot that it belongs to.
    pub slot: u16,
    /// Where it is among the keys of a table.
    pub hash: u64,
}

impl Hashes {
    /// A key's, in stores of this seed.
    #[inline]
    pub fn of(key: &[u8], seed: u64) -> Hashes {
        Hashes { slot: slot_of(key), hash: hash_of(key, seed) }
    }

    /// The same, where the slot is known already.
    #[inline]
    pub fn in_slot(slot: u16, key: &[u8], seed: u64) -> Hashes {
        Hashes { slot, hash: hash_of(key, seed) }
    }
}

#[inline]
pub(super) fn hash_of(key: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(key, seed)
}
