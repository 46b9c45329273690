//! The table of a partition's records, one hash table for each of its hash slots.
//!
//! SCAN, checkpoints, snapshots and partition moves all walk slots. Wherever an order shows, it is
//! that of (slot, hash, key): never that of a hash table, which depends on what was inserted when.
//! What is not here: an order of access, so nothing is ever evicted.

use super::record::{Record, Value};
use crate::keyspace::slot::slot_of;
use crate::random::Random;
use crate::wire::Writer;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;
use hashbrown::HashTable;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a record costs in memory beyond the bytes of its key and its value: its place in the
/// table at the usual load, and the heads of its two allocations. An estimate, in bytes.
pub const RECORD_OVERHEAD_BYTES: usize = 160;

/// What one actor's increment slot costs in memory, in bytes.
pub const INCREMENT_BYTES: usize = 32;

/// The bits of a key's hash that tell pages apart: the upper half. The lower half of what
/// [`Store::page`] takes and gives is zero, so that a cursor has room for a keyspace and a slot.
pub const PAGE_HASH_MASK: u64 = !0 << 32;

/// A slot's table gives memory back when it is larger than this and less than an eighth full.
const SHRINK_CAPACITY: usize = 64;

/// The records of one partition.
#[derive(Clone)]
pub struct Store {
    first_slot: u16,
    last_slot: u16,
    seed: u64,
    slots: Vec<Slot>,
    records: usize,
    live: usize,
    bytes: usize,
    /// How many records with this deadline, slot and hash there are; without those that are
    /// tombstones anyway. It holds no keys, so an entry costs the same however long the key is.
    deadlines: BTreeMap<(u64, u16, u64), u32>,
}

/// The records of one slot.
#[derive(Clone, Default)]
struct Slot {
    table: HashTable<Entry>,
    live: usize,
}

#[derive(Clone)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    record: Record<'static>,
}

/// Some keys of one slot, in (hash, key) order.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<'a> {
    /// The keys with their records, tombstones too.
    pub entries: Vec<(&'a [u8], Record<'a>)>,
    /// Where the slot's next page starts; `None` after the last one.
    pub next: Option<u64>,
}

impl Store {
    /// An empty table for the slots `first_slot..=last_slot`. The seed is the cluster's secret:
    /// the same on all of its nodes, so that a scan may go on elsewhere.
    pub fn new(first_slot: u16, last_slot: u16, seed: u64) -> Store {
        let count = (usize::from(last_slot) + 1).saturating_sub(usize::from(first_slot));
        let mut slots = Vec::new();
        slots.resize_with(count, Slot::default);
        Store {
            first_slot,
            last_slot,
            seed,
            slots,
            records: 0,
            live: 0,
            bytes: 0,
            deadlines: BTreeMap::new(),
        }
    }

    /// The record of a key, be it a tombstone or expired.
    pub fn get(&self, key: &[u8]) -> Option<Record<'_>> {
        let (slot, hash) = self.place(key);
        let table = &self.slots.get(self.index(slot)?)?.table;
        table.find(hash, |entry| *entry.key == *key).map(|entry| entry.record.borrowed())
    }

    /// Sets a key's record and returns the one it had.
    pub fn put(&mut self, key: &[u8], record: &Record<'_>) -> Option<Record<'static>> {
        let (slot, hash) = self.place(key);
        let index = self.index(slot)?;
        let record = record.clone().into_owned();
        self.count(slot, hash, key, &record);
        let table = &mut self.slots.get_mut(index)?.table;
        if let Some(entry) = table.find_mut(hash, |entry| *entry.key == *key) {
            let old = mem::replace(&mut entry.record, record);
            self.discount(slot, hash, key, &old);
            return Some(old);
        }
        table.insert_unique(hash, Entry { hash, key: key.into(), record }, |entry| entry.hash);
        None
    }

    /// Takes a key's record out.
    pub fn remove(&mut self, key: &[u8]) -> Option<Record<'static>> {
        let (slot, hash) = self.place(key);
        let index = self.index(slot)?;
        let table = &mut self.slots.get_mut(index)?.table;
        let found = table.find_entry(hash, |entry| *entry.key == *key).ok()?;
        let old = found.remove().0.record;
        if table.capacity() > SHRINK_CAPACITY && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2, |entry| entry.hash);
        }
        self.discount(slot, hash, key, &old);
        Some(old)
    }

    /// Takes all records out.
    pub fn clear(&mut self) {
        *self = Store::new(self.first_slot, self.last_slot, self.seed);
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
        let past = self.deadlines.range(..=(now_ms, u16::MAX, u64::MAX));
        let past: usize = past.map(|(_, count)| *count as usize).sum();
        self.live.saturating_sub(past)
    }

    /// An estimate of the memory in use: keys, values and overhead, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Up to `limit` keys whose deadline has passed at this wall-clock moment, earliest first.
    /// Tombstones are not among them.
    pub fn due(&self, now_ms: u64, limit: usize) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for (deadline_ms, slot, hash) in self.deadlines.keys() {
            if *deadline_ms > now_ms || keys.len() >= limit {
                break;
            }
            let same = |entry: &Entry| {
                entry.hash == *hash && deadline_of(&entry.record) == Some(*deadline_ms)
            };
            let table = self.index(*slot).and_then(|index| self.slots.get(index));
            let entries = table.into_iter().flat_map(|slot| slot.table.iter_hash(*hash));
            let mut found: Vec<&[u8]> = entries.filter(|e| same(e)).map(|e| &*e.key).collect();
            found.sort_unstable();
            keys.extend(found.into_iter().map(<[u8]>::to_vec));
        }
        keys.truncate(limit);
        keys
    }

    /// The earliest deadline of all records, passed or not, in wall-clock milliseconds since 1970.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first_key_value().map(|((deadline_ms, _, _), _)| *deadline_ms)
    }

    /// The records of the slots `first..=last`: slots ascending, inside a slot by (hash, key).
    pub fn iter_slots(
        &self,
        first: u16,
        last: u16,
    ) -> impl Iterator<Item = (&[u8], Record<'_>)> + use<'_> {
        let first = first.max(self.first_slot);
        let last = last.min(self.last_slot);
        (first..=last).flat_map(|slot| {
            let mut entries: Vec<&Entry> = self.entries(slot).collect();
            entries.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
            entries.into_iter().map(|entry| (&*entry.key, entry.record.borrowed()))
        })
    }

    /// The keys of one slot from a hash on, for SCAN: at least `limit` of them if there are so
    /// many, and more only where keys would be told apart by the lower half of their hash alone:
    /// such keys are always on one page, so that a scan which goes on at `next` misses none.
    pub fn page(&self, slot: u16, from_hash: u64, limit: usize) -> Page<'_> {
        let from = from_hash & PAGE_HASH_MASK;
        let mut entries: Vec<&Entry> = self.entries(slot).filter(|e| e.hash >= from).collect();
        let limit = limit.max(1);
        let mut next = None;
        if entries.len() > limit {
            let (_, last, _) = entries.select_nth_unstable_by_key(limit - 1, |entry| entry.hash);
            let end = last.hash | !PAGE_HASH_MASK;
            let all = entries.len();
            entries.retain(|entry| entry.hash <= end);
            next = end.checked_add(1).filter(|_| entries.len() < all);
        }
        entries.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        let entries =
            entries.into_iter().map(|entry| (&*entry.key, entry.record.borrowed())).collect();
        Page { entries, next }
    }

    /// Some key that is no tombstone, each about as likely as any other.
    pub fn random(&self, random: &mut Random) -> Option<&[u8]> {
        let mut rank = random.range(0, self.live as u64) as usize;
        let from = random.next_u64();
        let slot = self.slots.iter().find(|slot| {
            let here = rank < slot.live;
            rank = rank.saturating_sub(slot.live);
            here
        })?;
        // The first key at or after a random hash, around the end: no order of the table shows.
        let live = slot.table.iter().filter(|entry| is_live(&entry.record));
        let chosen = live.min_by_key(|entry| (entry.hash.wrapping_sub(from), &entry.key))?;
        Some(&chosen.key)
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
        let entries = self.slots.iter().flat_map(|slot| slot.table.iter());
        entries.fold(0, |sum: u64, entry| {
            bytes.clear();
            let mut writer = Writer(&mut bytes);
            writer.bytes(&entry.key);
            writer.record(&entry.record);
            sum.wrapping_add(xxh3_64(&bytes))
        })
    }

    fn place(&self, key: &[u8]) -> (u16, u64) {
        (slot_of(key), xxh3_64_with_seed(key, self.seed))
    }

    /// A slot's place in `slots`. A slot of another partition is the caller's error.
    fn index(&self, slot: u16) -> Option<usize> {
        debug_assert!((self.first_slot..=self.last_slot).contains(&slot), "slot {slot}");
        slot.checked_sub(self.first_slot).map(usize::from)
    }

    fn entries(&self, slot: u16) -> impl Iterator<Item = &Entry> + use<'_> {
        let slot = self.index(slot).and_then(|index| self.slots.get(index));
        slot.into_iter().flat_map(|slot| slot.table.iter())
    }

    /// Books a record that comes in.
    fn count(&mut self, slot: u16, hash: u64, key: &[u8], record: &Record<'_>) {
        self.records += 1;
        self.bytes += bytes_of(key, record);
        if is_live(record) {
            self.live += 1;
            if let Some(slot) = self.index(slot).and_then(|index| self.slots.get_mut(index)) {
                slot.live += 1;
            }
        }
        if let Some(deadline_ms) = deadline_of(record) {
            *self.deadlines.entry((deadline_ms, slot, hash)).or_default() += 1;
        }
    }

    /// Books a record that has gone.
    fn discount(&mut self, slot: u16, hash: u64, key: &[u8], record: &Record<'_>) {
        self.records -= 1;
        self.bytes -= bytes_of(key, record);
        if is_live(record) {
            self.live -= 1;
            if let Some(slot) = self.index(slot).and_then(|index| self.slots.get_mut(index)) {
                slot.live -= 1;
            }
        }
        let Some(deadline_ms) = deadline_of(record) else { return };
        let place = (deadline_ms, slot, hash);
        if let Some(count) = self.deadlines.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.deadlines.remove(&place);
            }
        }
    }
}

fn order(entry: &Entry) -> (u64, &[u8]) {
    (entry.hash, &entry.key)
}

/// Whether a record is no tombstone.
fn is_live(record: &Record<'_>) -> bool {
    record.value != Value::Absent || !record.increments.is_empty()
}

/// The deadline by which a record is found to be due.
fn deadline_of(record: &Record<'_>) -> Option<u64> {
    record.expires_at_ms.filter(|_| is_live(record))
}

fn bytes_of(key: &[u8], record: &Record<'_>) -> usize {
    let value = match &record.value {
        Value::Absent => 0,
        Value::String(bytes) => bytes.len(),
    };
    key.len() + value + record.increments.len() * INCREMENT_BYTES + RECORD_OVERHEAD_BYTES
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
