//! The records of one group, with what is needed to take uncommitted changes back.
//!
//! A leader applies an entry when it appends it, and keeps each overwritten record (its
//! pre-image) until the entry commits; deposed, it puts them back in reverse. Followers apply
//! only what is committed, so they never undo.

use super::entry::{Entry, Payload};
use super::message::Image;
use crate::conflict::last_write_wins;
use crate::data::Name;
use crate::keyspace::slot::slot_of;
use crate::storage::record::Record;
use crate::storage::store::Store;
use crate::version::{Dot, Stamp};
use crate::wire::{Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// The records of one group.
pub struct State {
    /// What is visible to evaluation: at a leader, the uncommitted changes included.
    pub store: Store,
    /// Whether a change is merged with what is there, or overwrites it.
    merges: bool,
    seed: u64,
    undo: VecDeque<PreImage>,
    /// Slots that contain more than the group has applied: first, last, and up to which index.
    ahead: Vec<(u16, u16, u64)>,
    /// The newest entry that removed all keys and is not committed.
    uncommitted_clear: u64,
}

struct PreImage {
    index: u64,
    old: Old,
}

enum Old {
    Record(Box<[u8]>, Option<Record>),
    Everything(Box<Store>),
}

impl State {
    /// No records, for the slots of one partition.
    pub fn new(first_slot: u16, last_slot: u16, seed: u64, merges: bool) -> State {
        State {
            store: Store::new(first_slot, last_slot, seed),
            merges,
            seed,
            undo: VecDeque::new(),
            ahead: Vec::new(),
            uncommitted_clear: 0,
        }
    }

    /// Whether changes are merged with what is there.
    pub fn merges(&self) -> bool {
        self.merges
    }

    /// Applies an entry. `undoable` keeps the pre-images. Returns the keys where it met a write
    /// that its maker had not seen.
    pub fn apply(&mut self, entry: &Entry<'_>, undoable: bool) -> Vec<Vec<u8>> {
        let mut conflicts = Vec::new();
        match &entry.payload {
            Payload::Changes(changes) => {
                for change in changes {
                    if self.is_ahead(slot_of(&change.key), entry.id.index) {
                        continue;
                    }
                    let new = match &change.record {
                        Some(record) if self.merges => {
                            let merged = self.merge(entry, &change.key, record, &mut conflicts);
                            let Some(merged) = merged else { continue };
                            Some(merged)
                        }
                        Some(record) => Some(record.clone()),
                        None if undoable => Some(Record::tombstone(name_of(entry))),
                        None => None,
                    };
                    self.set(entry.id.index, &change.key, new, undoable);
                }
            }
            Payload::Clear => self.clear(entry.id.index, undoable),
            Payload::Empty | Payload::Voter(..) | Payload::Covers(_) => {}
        }
        conflicts
    }

    /// What an incoming record and the kept one come to; `None` if the kept one stays as it is.
    fn merge(
        &self,
        entry: &Entry<'_>,
        key: &[u8],
        incoming: &Record,
        conflicts: &mut Vec<Vec<u8>>,
    ) -> Option<Record> {
        let Some(kept) = self.store.get(key) else { return Some(incoming.clone()) };
        let seen = entry.origin.as_ref().is_none_or(|origin| {
            kept.dot.counter == 0
                || kept.dot.actor == origin.dot.actor
                || origin.dependencies.covers(kept.dot)
        });
        if !seen && incoming.dot != kept.dot {
            conflicts.push(key.to_vec());
        }
        last_write_wins::merge(kept, incoming).outcome.replacement(incoming.clone())
    }

    fn set(&mut self, index: u64, key: &[u8], new: Option<Record>, undoable: bool) {
        let old = match new {
            Some(record) => self.store.put(key, record),
            None => self.store.remove(key),
        };
        if undoable {
            self.undo.push_back(PreImage { index, old: Old::Record(Box::from(key), old) });
        }
    }

    fn clear(&mut self, index: u64, undoable: bool) {
        if self.ahead.is_empty() {
            let (first, last) = (self.store.first_slot(), self.store.last_slot());
            let empty = Store::new(first, last, self.seed);
            let old = core::mem::replace(&mut self.store, empty);
            if undoable {
                self.undo.push_back(PreImage { index, old: Old::Everything(Box::new(old)) });
                self.uncommitted_clear = index;
            }
            return;
        }
        let (first, last) = (self.store.first_slot(), self.store.last_slot());
        let keys: Vec<Vec<u8>> = self
            .store
            .iter_slots(first, last)
            .filter(|(key, _)| !self.is_ahead(slot_of(key), index))
            .map(|(key, _)| key.to_vec())
            .collect();
        for key in keys {
            self.set(index, &key, None, undoable);
        }
    }

    fn is_ahead(&self, slot: u16, index: u64) -> bool {
        self.ahead
            .iter()
            .any(|(first, last, applied)| (*first..=*last).contains(&slot) && *applied >= index)
    }

    /// Everything up to the index is committed: it will not be undone.
    pub fn commit(&mut self, index: u64) {
        while let Some(pre_image) = self.undo.pop_front_if(|p| p.index <= index) {
            let Old::Record(key, _) = &pre_image.old else { continue };
            let removed = |record: &Record| {
                !self.merges && !record.is_live(0) && record.dot.counter == pre_image.index
            };
            if self.store.get(key).is_some_and(removed) {
                self.store.remove(key);
            }
        }
        if self.uncommitted_clear <= index {
            self.uncommitted_clear = 0;
        }
        if self.ahead.iter().all(|(_, _, applied)| *applied <= index) {
            self.ahead.clear();
        }
    }

    /// Takes everything above the commit index back, the newest first.
    pub fn undo(&mut self, commit: u64) {
        self.uncommitted_clear = 0;
        while let Some(pre_image) = self.undo.pop_back() {
            match pre_image.old {
                Old::Record(key, Some(record)) if self.is_removal(&record, commit) => {
                    self.store.remove(&key);
                }
                Old::Record(key, Some(record)) => {
                    self.store.put(&key, record);
                }
                Old::Record(key, None) => {
                    self.store.remove(&key);
                }
                Old::Everything(store) => self.store = *store,
            }
        }
    }

    /// Whether a pre-image only stands for a key whose removal is committed by now: an overwriting
    /// state keeps no record of it.
    fn is_removal(&self, record: &Record, commit: u64) -> bool {
        !self.merges && !record.is_live(0) && record.dot.counter <= commit
    }

    /// The newest entry that touched the key, as far as it may be uncommitted.
    pub fn newest_index(&self, record: Option<&Record>) -> u64 {
        let of_record = record.map_or(0, |record| match self.merges {
            true => 0,
            false => record.dot.counter,
        });
        let in_flight = self.undo.back().filter(|_| self.merges).map_or(0, |p| p.index);
        of_record.max(self.uncommitted_clear).max(in_flight)
    }

    /// Whether nothing is uncommitted.
    pub fn is_settled(&self) -> bool {
        self.undo.is_empty()
    }

    /// The committed records of the slots from `first_slot` on, until `bytes_max` is used; the
    /// group is applied up to `applied`. `None` while an uncommitted entry has removed all keys, or
    /// while some slots contain more than the group has applied.
    pub fn image(&self, first_slot: u16, bytes_max: usize, applied: u64) -> Option<Image<'static>> {
        if !self.ahead.is_empty() {
            return None;
        }
        let mut committed: BTreeMap<&[u8], Option<&Record>> = BTreeMap::new();
        for pre_image in self.undo.iter().rev() {
            match &pre_image.old {
                Old::Record(key, record) => committed.insert(key, record.as_ref()),
                Old::Everything(_) => return None,
            };
        }
        let mut by_slot: BTreeMap<u16, Vec<(&[u8], &Record)>> = BTreeMap::new();
        for (key, record) in &committed {
            if let Some(record) = record.filter(|record| !self.is_removal(record, applied)) {
                by_slot.entry(slot_of(key)).or_default().push((key, record));
            }
        }
        let mut records = Vec::new();
        let mut slot = first_slot;
        loop {
            let mut w = Writer(&mut records);
            for (key, record) in self.store.iter_slots(slot, slot) {
                if !committed.contains_key(key) {
                    w.bytes(key);
                    w.record(record);
                }
            }
            for (key, record) in by_slot.get(&slot).into_iter().flatten() {
                w.bytes(key);
                w.record(record);
            }
            if slot >= self.store.last_slot() || records.len() >= bytes_max {
                break;
            }
            slot += 1;
        }
        Some(Image { first_slot, last_slot: slot, applied, records: Cow::Owned(records) })
    }

    /// Puts an image in place of what its slots held. Entries up to its index will be skipped.
    /// Returns the newest stamp in it.
    pub fn install(&mut self, image: &Image<'_>) -> Read<Stamp> {
        let mut newest = Stamp::ZERO;
        let old: Vec<Vec<u8>> = self
            .store
            .iter_slots(image.first_slot, image.last_slot)
            .map(|(key, _)| key.to_vec())
            .collect();
        for key in old {
            self.store.remove(&key);
        }
        let mut r = Reader(&image.records);
        while !r.is_empty() {
            let key = r.bytes()?;
            let record = r.record()?;
            newest = newest.max(record.newest_stamp());
            self.store.put(key, record);
        }
        self.ahead.retain(|(first, last, _)| *first < image.first_slot || *last > image.last_slot);
        self.ahead.push((image.first_slot, image.last_slot, image.applied));
        Ok(newest)
    }

    /// Forgets all records.
    pub fn reset(&mut self) {
        self.store.clear();
        self.undo.clear();
        self.ahead.clear();
        self.uncommitted_clear = 0;
    }
}

/// The name that an entry gives to what it writes.
pub fn name_of(entry: &Entry<'_>) -> Name {
    let dot = Dot { actor: entry.id.epoch, counter: entry.id.index };
    Name { stamp: entry.stamp, dot }
}
