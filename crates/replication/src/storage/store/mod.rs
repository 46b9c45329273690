//! The table of a partition's records.
//!
//! A key and its record are one allocation (`packed.rs`), which a record of the same size
//! overwrites in place. They lie in hash tables, each for a run of slots (`tables.rs`).
//!
//! SCAN, checkpoints, snapshots and partition moves all walk slots. Wherever an order shows, it is
//! that of (slot, hash, key): never that of a hash table, which depends on what was inserted when;
//! only what `random` picks does.
//! What is not here: an order of access, so nothing is ever evicted.

mod change;
mod deadlines;
mod hashes;
mod look_ahead;
mod packed;
mod remains;
mod tables;

pub use hashes::Hashes;
pub use look_ahead::{IN_STEP, look_ahead, look_ahead_by};
pub use packed::{digest, digest_of, is_live, key_of, unpack};
pub use remains::Remains;

use super::record::Record;
use crate::keyspace::slot::slot_of;
use crate::random::Random;
use crate::wire::Writer;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use deadlines::Deadlines;
use hashes::hash_of;
use packed::Packed;
use tables::{Table, Tables};
use xxhash_rust::xxh3::xxh3_64;

/// What a record costs in memory beyond the bytes of its key and its value: stamp, dot and lengths,
/// and its place in a table. An estimate, in bytes.
pub const RECORD_OVERHEAD_BYTES: usize = 20 + PLACE_BYTES;

/// What a record costs beyond its own bytes: its place in a table at the usual load, and what the
/// allocator adds.
const PLACE_BYTES: usize = 42;

/// What a deadline costs in memory, in bytes: an estimate.
pub const DEADLINE_BYTES: usize = 56;

/// The bits of a key's hash that tell pages apart: the upper half. The lower half of what
/// [`Store::page`] takes and gives is zero, so that a cursor has room for a keyspace and a slot.
pub const PAGE_HASH_MASK: u64 = !0 << 32;

/// The records of one partition.
#[derive(Clone)]
pub struct Store {
    first_slot: u16,
    last_slot: u16,
    tables: Tables,
    records: usize,
    live: usize,
    bytes: usize,
    /// No record that there has been since the store was empty takes more.
    longest: usize,
    deadlines: Deadlines,
}

/// Some keys in (slot, hash, key) order.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<'a> {
    /// The keys with their records, tombstones too.
    pub entries: Vec<(&'a [u8], Record<'a>)>,
    /// The slot and the hash that the next page starts with; `None` after the last one.
    pub next: Option<(u16, u64)>,
}

/// Where a key is in the order in which keys are shown.
type Place<'a> = (u16, u64, &'a Packed);

impl Store {
    /// An empty table for the slots `first_slot..=last_slot`. The seed is the cluster's secret:
    /// the same on all of its nodes, so that a scan may go on elsewhere.
    pub fn new(first_slot: u16, last_slot: u16, seed: u64) -> Store {
        Store {
            first_slot,
            last_slot,
            tables: Tables::new(first_slot, last_slot, seed),
            records: 0,
            live: 0,
            bytes: 0,
            longest: 0,
            deadlines: Deadlines::default(),
        }
    }

    /// The record of a key, be it a tombstone or expired. A view: nothing is copied but increments.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Record<'_>> {
        self.get_by(key, self.hashes(key))
    }

    /// The same for a key whose hashes are known.
    #[inline]
    pub fn get_by(&self, key: &[u8], hashes: Hashes) -> Option<Record<'_>> {
        self.find(key, hashes).map(Packed::record)
    }

    /// A key and its record as they lie in memory, for [`unpack`] and [`digest`].
    #[inline]
    pub fn bytes_by(&self, key: &[u8], hashes: Hashes) -> Option<&[u8]> {
        self.find(key, hashes).map(Packed::bytes)
    }

    #[inline]
    fn find(&self, key: &[u8], hashes: Hashes) -> Option<&Packed> {
        let keys = &self.tables.of(hashes.slot)?.keys;
        keys.find(hashes.hash, |packed| packed.key() == key)
    }

    /// Sets a key's record.
    pub fn put(&mut self, key: &[u8], record: &Record<'_>) {
        self.put_by(key, self.hashes(key), record);
    }

    /// The same for a key whose hashes are known.
    pub fn put_by(&mut self, key: &[u8], hashes: Hashes, record: &Record<'_>) {
        self.put_over(key, hashes, record, |_| {});
    }

    /// Sets a key's record. `old` is shown the bytes of what is there before, for [`unpack`], or
    /// `None`. Where old and new take as much room, no memory is allocated.
    pub fn put_over(
        &mut self,
        key: &[u8],
        hashes: Hashes,
        record: &Record<'_>,
        old: impl FnOnce(Option<&[u8]>),
    ) {
        self.change_packed(key, hashes, |_| Some(Cow::Borrowed(record)), old);
    }

    /// Takes a key's record out, if there is one.
    pub fn remove(&mut self, key: &[u8]) {
        self.remove_over(key, |_| {});
    }

    /// Takes a key's record out. `old` is shown its bytes, for [`unpack`], or `None`.
    pub fn remove_over(&mut self, key: &[u8], old: impl FnOnce(Option<&[u8]>)) {
        let Hashes { slot, hash } = self.hashes(key);
        let seed = self.tables.seed;
        let table = self.tables.of_mut(slot);
        let found = table.and_then(|table| table.remove(hash, key, seed));
        if let Some(packed) = &found {
            self.count((slot, hash), Some(&Measure::of(packed)), None);
        }
        old(found.as_ref().map(Packed::bytes));
    }

    /// Takes all records out.
    pub fn clear(&mut self) {
        *self = Store::new(self.first_slot, self.last_slot, self.tables.seed);
    }

    /// No key's record takes more bytes; a bound, kept since the store was empty.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// How many records there are, tombstones included.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is no record at all.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records are no tombstones. Expired ones count until they are removed or replaced,
    /// as in Redis.
    pub fn live(&self) -> usize {
        self.live
    }

    /// How many records are neither tombstones nor past their deadline at this wall-clock moment.
    /// Costs time in proportion to those that are past it.
    pub fn live_at(&self, now_ms: u64) -> usize {
        self.live.saturating_sub(self.deadlines.past(now_ms))
    }

    /// An estimate of the memory in use: keys, values and overhead, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Up to `limit` keys whose deadline has passed at this wall-clock moment, earliest first.
    /// Tombstones are not among them.
    pub fn due(&self, now_ms: u64, limit: usize) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for (deadline_ms, slot, hash) in self.deadlines.until(now_ms) {
            if keys.len() >= limit {
                break;
            }
            let table = self.tables.of(slot);
            let found = table.into_iter().flat_map(|table| table.keys.iter_hash(hash));
            let mut found: Vec<&[u8]> = found
                .filter(|packed| packed.deadline_ms() == Some(deadline_ms))
                .map(Packed::key)
                .filter(|key| self.hashes(key) == Hashes { slot, hash })
                .collect();
            found.sort_unstable();
            keys.extend(found.into_iter().map(<[u8]>::to_vec));
        }
        keys.truncate(limit);
        keys
    }

    /// The earliest deadline of all records, passed or not, in wall-clock milliseconds since 1970.
    #[cfg(test)]
    fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first_ms()
    }

    /// The records of the slots `first..=last`: slots ascending, inside a slot by (hash, key).
    /// One walk over many slots costs less than many over one.
    pub fn iter_slots(
        &self,
        first: u16,
        last: u16,
    ) -> impl Iterator<Item = (&[u8], Record<'_>)> + use<'_> {
        self.walk(first, last).map(|(_, key, record)| (key, record))
    }

    /// The same, with the slots.
    pub fn walk(
        &self,
        first: u16,
        last: u16,
    ) -> impl Iterator<Item = (u16, &[u8], Record<'_>)> + use<'_> {
        self.ordered(first, last).map(|(slot, _, packed)| {
            let (key, record) = packed.unpacked();
            (slot, key, record)
        })
    }

    /// The same as bytes for [`unpack`], with the slots.
    pub fn walk_bytes(
        &self,
        first: u16,
        last: u16,
    ) -> impl Iterator<Item = (u16, &[u8])> + use<'_> {
        self.ordered(first, last).map(|(slot, _, packed)| (slot, packed.bytes()))
    }

    fn ordered(&self, first: u16, last: u16) -> impl Iterator<Item = Place<'_>> + use<'_> {
        let tables = self.tables.from(first).take_while(move |table| table.first_slot <= last);
        tables.flat_map(move |table| {
            let mut places: Vec<Place<'_>> = Vec::with_capacity(table.keys.len());
            places.extend(self.places(table).filter(|(slot, ..)| (first..=last).contains(slot)));
            places.sort_unstable_by_key(order);
            places
        })
    }

    /// The keys from a slot and a hash on, for SCAN: at least `limit` of them if there are so
    /// many, and more only where keys would be told apart by the lower half of their hash alone:
    /// such keys are always on one page, so that a scan which goes on at `next` misses none.
    pub fn page(&self, slot: u16, from_hash: u64, limit: usize) -> Page<'_> {
        let from = (slot, from_hash & PAGE_HASH_MASK);
        let limit = limit.max(1);
        let (mut places, mut next): (Vec<Place<'_>>, Option<(u16, u64)>) = (Vec::new(), None);
        for table in self.tables.from(slot) {
            places.extend(self.places(table).filter(|(slot, hash, _)| (*slot, *hash) >= from));
            if places.len() >= limit {
                let is_last = table.last_slot >= self.last_slot;
                next = (!is_last).then(|| (table.last_slot + 1, 0));
                break;
            }
        }
        if places.len() > limit {
            let (_, last, _) =
                places.select_nth_unstable_by_key(limit - 1, |(slot, hash, _)| (*slot, *hash));
            let end = (last.0, last.1 | !PAGE_HASH_MASK);
            let all = places.len();
            places.retain(|(slot, hash, _)| (*slot, *hash) <= end);
            if places.len() < all {
                next = Some(end.1.checked_add(1).map_or((end.0 + 1, 0), |hash| (end.0, hash)));
            }
        }
        places.sort_unstable_by_key(order);
        Page { entries: places.into_iter().map(|(.., packed)| packed.unpacked()).collect(), next }
    }

    /// Some key that is no tombstone, each about as likely as any other.
    pub fn random(&self, random: &mut Random) -> Option<&[u8]> {
        let mut rank = random.range(0, self.live as u64) as usize;
        let table = self.tables.from(self.first_slot).find(|table| {
            let live = table.live as usize;
            let here = rank < live;
            rank = rank.saturating_sub(live);
            here
        })?;
        // The next one after some place of the table, around its end.
        let places = table.keys.num_buckets();
        let from = random.range(0, places as u64) as usize;
        let keys = (from..places).chain(0..from).filter_map(|place| table.keys.get_bucket(place));
        keys.filter(|packed| packed.is_live()).map(Packed::key).next()
    }

    /// The first of its slots.
    pub fn first_slot(&self) -> u16 {
        self.first_slot
    }

    /// The last of its slots.
    pub fn last_slot(&self) -> u16 {
        self.last_slot
    }

    /// A hash over all keys and records: equal for two stores that hold the same, whatever their
    /// histories and seeds. Costs a walk over everything.
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::new();
        let all = self.tables.from(self.first_slot).flat_map(|table| table.keys.iter());
        all.map(Packed::unpacked).fold(0, |sum: u64, (key, record)| {
            bytes.clear();
            let mut writer = Writer(&mut bytes);
            writer.bytes(key);
            writer.record(&record);
            sum.wrapping_add(xxh3_64(&bytes))
        })
    }

    /// A key's hashes: the same in all stores of one seed.
    #[inline]
    pub fn hashes(&self, key: &[u8]) -> Hashes {
        Hashes::of(key, self.tables.seed)
    }

    /// The keys of a table with where they are shown, in no order.
    fn places<'a>(&self, table: &'a Table) -> impl Iterator<Item = Place<'a>> + use<'a> {
        let seed = self.tables.seed;
        let alone = (table.first_slot == table.last_slot).then_some(table.first_slot);
        look_ahead::read(table.keys.iter());
        table.keys.iter().map(move |packed| {
            let key = packed.key();
            (alone.unwrap_or_else(|| slot_of(key)), hash_of(key, seed), packed)
        })
    }

    /// Books what has gone and what has come in its place.
    fn count(&mut self, place: (u16, u64), old: Option<&Measure>, new: Option<&Measure>) {
        let number = |measure: Option<&Measure>| usize::from(measure.is_some());
        let live = |measure: Option<&Measure>| usize::from(measure.is_some_and(|m| m.is_live));
        let bytes = |measure: Option<&Measure>| measure.map_or(0, |measure| measure.bytes);
        let deadline_ms = |measure: Option<&Measure>| measure.and_then(|m| m.deadline_ms);
        self.records = self.records + number(new) - number(old);
        self.live = self.live + live(new) - live(old);
        self.bytes = self.bytes + bytes(new) - bytes(old);
        self.longest = self.longest.max(bytes(new));
        self.deadlines.replace(place, deadline_ms(old), deadline_ms(new));
    }
}

/// What a store counts of a record.
#[derive(PartialEq)]
struct Measure {
    bytes: usize,
    is_live: bool,
    deadline_ms: Option<u64>,
}

impl Measure {
    #[inline]
    fn of(packed: &Packed) -> Measure {
        let deadline_ms = packed.deadline_ms();
        let deadline = if deadline_ms.is_some() { DEADLINE_BYTES } else { 0 };
        let bytes = packed.bytes().len() + deadline + PLACE_BYTES;
        Measure { bytes, is_live: packed.is_live(), deadline_ms }
    }
}

fn order<'a>((slot, hash, packed): &Place<'a>) -> (u16, u64, &'a [u8]) {
    (*slot, *hash, packed.key())
}

#[cfg(test)]
mod tests;
