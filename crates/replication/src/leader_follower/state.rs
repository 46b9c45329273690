//! The records of one group, with what is needed to take uncommitted changes back.
//!
//! A leader applies an entry when it appends it, and keeps each overwritten record (its
//! pre-image) until the entry commits; deposed, it puts them back in reverse. Followers apply
//! only what is committed, so they never undo.

use super::entry::{Entry, Once, Payload};
use super::image::Image;
use super::once::table::{Committed, Name as SessionName, OnceTable, Session};
use crate::conflict::last_write_wins;
use crate::data::Name;
use crate::keyspace::slot::slot_of;
use crate::storage::record::Record;
use crate::storage::store::Store;
use crate::version::{Dot, EntryId, Stamp};
use crate::wire::{Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Records from which on removing all keys puts the whole table aside. A table costs memory for
/// each of its slots: putting small ones aside, one for each FLUSHALL of a pipeline, would cost
/// far more than their records.
const CLEARED_AT_ONCE_MIN: usize = 4096;

/// The records of one group.
pub struct State {
    /// What is visible to evaluation: at a leader, the uncommitted changes included.
    pub store: Store,
    /// The commands that must not be carried out twice, the uncommitted ones included.
    pub once: OnceTable,
    /// Whether a change is merged with what is there, or overwrites it.
    merges: bool,
    seed: u64,
    undo: VecDeque<PreImage>,
    /// How many of the pre-images are whole tables: hardly ever one.
    tables_aside: usize,
    /// Slots that contain more than the group has applied: first, last, and up to which index.
    ahead: Vec<(u16, u16, u64)>,
    /// The newest entry that removed all keys and is not committed.
    uncommitted_clear: u64,
}

struct PreImage {
    index: u64,
    /// Whether the entry removed the key, and left a tombstone until it commits.
    removal: bool,
    old: Old,
}

enum Old {
    Record(Box<[u8]>, Option<Record<'static>>),
    Everything(Box<Store>),
    Session(SessionName, Option<Arc<Session>>),
    Horizon(u64),
}

impl State {
    /// No records, for the slots of one partition.
    pub fn new(first_slot: u16, last_slot: u16, seed: u64, merges: bool) -> State {
        State {
            store: Store::new(first_slot, last_slot, seed),
            once: OnceTable::new((first_slot, last_slot)),
            merges,
            seed,
            undo: VecDeque::new(),
            tables_aside: 0,
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
                        Some(record) => Some(record.clone().into_owned()),
                        None if undoable => Some(Record::tombstone(name_of(entry))),
                        None => None,
                    };
                    self.set(entry.id.index, &change.key, new, undoable);
                }
            }
            Payload::Clear => self.clear(entry.id.index, undoable),
            Payload::Opening(_)
            | Payload::OpeningAfterLoss(..)
            | Payload::Voter(..)
            | Payload::Covers(_)
            | Payload::Degrade(_) => {}
        }
        if let Some(once) = &entry.once {
            self.apply_once(entry.id, once, undoable);
        }
        conflicts
    }

    /// A command that must not be carried out twice has been, and others are forgotten for it.
    fn apply_once(&mut self, id: EntryId, once: &Once<'_>, undoable: bool) {
        let forgotten = once.forgotten.iter().filter_map(|text| SessionName::parse(text));
        let mut horizon_ms = self.once.horizon_ms();
        for name in forgotten {
            horizon_ms = horizon_ms.max(name.started_ms);
            self.set_session(id.index, name, None, undoable);
        }
        if horizon_ms > self.once.horizon_ms() {
            if undoable {
                let old = Old::Horizon(self.once.horizon_ms());
                self.undo.push_back(PreImage { index: id.index, removal: false, old });
            }
            self.once.set_horizon(horizon_ms);
        }
        if let Some(name) = SessionName::parse(&once.session) {
            let session = self.once.with_call(&name, (once.sequence, once.digest), id, &once.reply);
            self.set_session(id.index, name, Some(session), undoable);
        }
    }

    fn set_session(
        &mut self,
        index: u64,
        name: SessionName,
        session: Option<Arc<Session>>,
        undoable: bool,
    ) {
        if self.is_ahead(self.once.slot(&name), index) {
            return;
        }
        let old = self.once.put(name.clone(), session);
        if undoable {
            let old = Old::Session(name, old);
            self.undo.push_back(PreImage { index, removal: false, old });
        }
    }

    /// What an incoming record and the kept one come to; `None` if the kept one stays as it is.
    fn merge(
        &self,
        entry: &Entry<'_>,
        key: &[u8],
        incoming: &Record<'_>,
        conflicts: &mut Vec<Vec<u8>>,
    ) -> Option<Record<'static>> {
        let Some(kept) = self.store.get(key) else {
            return Some(incoming.clone().into_owned());
        };
        let seen = entry.origin.as_ref().is_none_or(|origin| {
            kept.dot.counter == 0
                || kept.dot.actor == origin.dot.actor
                || origin.dependencies.covers(kept.dot)
        });
        if !seen && incoming.dot != kept.dot {
            conflicts.push(key.to_vec());
        }
        let outcome = last_write_wins::merge(&kept, incoming).outcome;
        outcome.replacement(incoming.clone()).map(Record::into_owned)
    }

    fn set(&mut self, index: u64, key: &[u8], new: Option<Record<'static>>, undoable: bool) {
        let removal = new.as_ref().is_some_and(|record| !self.merges && !record.is_live(0));
        let old = match new {
            Some(record) => self.store.put(key, &record),
            None => self.store.remove(key),
        };
        if undoable {
            let old = Old::Record(Box::from(key), old);
            self.undo.push_back(PreImage { index, removal, old });
        }
    }

    fn clear(&mut self, index: u64, undoable: bool) {
        if undoable {
            self.uncommitted_clear = index;
        }
        let (first, last) = (self.store.first_slot(), self.store.last_slot());
        let is_small = undoable && self.store.len() < CLEARED_AT_ONCE_MIN;
        if self.ahead.is_empty() && !is_small {
            let empty = Store::new(first, last, self.seed);
            let old = core::mem::replace(&mut self.store, empty);
            if undoable {
                let old = Old::Everything(Box::new(old));
                self.tables_aside += 1;
                self.undo.push_back(PreImage { index, removal: false, old });
            }
            return;
        }
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
            match &pre_image.old {
                Old::Record(key, _) if pre_image.removal => {
                    self.drop_tombstone(key, pre_image.index);
                }
                Old::Record(..) | Old::Session(..) | Old::Horizon(_) => {}
                Old::Everything(_) => self.tables_aside -= 1,
            }
        }
        if self.uncommitted_clear <= index {
            self.uncommitted_clear = 0;
        }
        if self.ahead.iter().all(|(_, _, applied)| *applied <= index) {
            self.ahead.clear();
        }
    }

    /// A delete is committed: its tombstone has done its work. It is in the table, or in the one
    /// that an uncommitted entry after it has put aside. Looked for only if there is one: a tail
    /// that was inherited is long.
    fn drop_tombstone(&mut self, key: &[u8], index: u64) {
        let looked_at = if self.tables_aside == 0 { 0 } else { self.undo.len() };
        let aside =
            self.undo.iter_mut().take(looked_at).find_map(|pre_image| match &mut pre_image.old {
                Old::Everything(store) => Some(&mut **store),
                Old::Record(..) | Old::Session(..) | Old::Horizon(_) => None,
            });
        let store = aside.unwrap_or(&mut self.store);
        let is_it = |record: &Record<'_>| !record.is_live(0) && record.dot.counter == index;
        if store.get(key).is_some_and(|record| is_it(&record)) {
            store.remove(key);
        }
    }

    /// Takes everything uncommitted back, the newest first.
    pub fn undo(&mut self) {
        self.uncommitted_clear = 0;
        while let Some(pre_image) = self.undo.pop_back() {
            match pre_image.old {
                Old::Record(key, record) => match record.filter(|record| self.is_kept(record)) {
                    Some(record) => drop(self.store.put(&key, &record)),
                    None => drop(self.store.remove(&key)),
                },
                Old::Everything(store) => {
                    self.tables_aside -= 1;
                    self.store = *store;
                }
                Old::Session(name, session) => drop(self.once.put(name, session)),
                Old::Horizon(horizon_ms) => self.once.set_horizon(horizon_ms),
            }
        }
    }

    /// Whether a pre-image is a record of the committed state. A tombstone is none where nothing
    /// is merged: either its delete is committed, or the delete's own pre-image comes next.
    fn is_kept(&self, record: &Record<'_>) -> bool {
        self.merges || record.is_live(0)
    }

    /// The newest entry that touched the key, as far as it may be uncommitted.
    pub fn newest_index(&self, record: Option<&Record<'_>>) -> u64 {
        let of_record = record.map_or(0, |record| match self.merges {
            true => 0,
            false => record.dot.counter,
        });
        let in_flight = self.undo.back().filter(|_| self.merges).map_or(0, |p| p.index);
        of_record.max(self.uncommitted_clear).max(in_flight)
    }

    /// A key's record when all entries up to `visible`, and none after it, were applied; `None` if
    /// that cannot be told: where all keys were removed after it, or writes merge. Nothing up to
    /// `visible` may have been taken back.
    pub fn record_at(&self, key: &[u8], visible: u64) -> Option<Option<Record<'_>>> {
        if self.merges || self.uncommitted_clear > visible {
            return None;
        }
        let after = self.undo.iter().skip_while(|pre_image| pre_image.index <= visible);
        let old = after.filter_map(|pre_image| match &pre_image.old {
            Old::Record(changed, old) if **changed == *key => Some(old.as_ref()),
            _ => None,
        });
        Some(match old.into_iter().next() {
            Some(old) => old.map(Record::borrowed),
            None => self.store.get(key),
        })
    }

    /// Whether nothing is uncommitted.
    pub fn is_settled(&self) -> bool {
        self.undo.is_empty()
    }

    /// The newest entry that some slots contain although the group has not applied it.
    pub fn ahead_of(&self, applied: u64) -> Option<u64> {
        self.ahead.iter().map(|(_, _, ahead)| *ahead).filter(|ahead| *ahead > applied).max()
    }

    /// Up to where a slot contains what is committed; the group is applied up to `applied`.
    fn applied_in(&self, slot: u16, applied: u64) -> u64 {
        let of_slot = self.ahead.iter().filter(|(first, last, _)| (*first..=*last).contains(&slot));
        of_slot.map(|(_, _, ahead)| *ahead).fold(applied, u64::max)
    }

    /// The committed records of the slots from `first_slot` on, until `bytes_max` is used; the
    /// group is applied up to `applied`. Slots that contain more go into images of their own.
    pub fn image(&self, first_slot: u16, bytes_max: usize, applied: u64) -> Image<'static> {
        let up_to = self.applied_in(first_slot, applied);
        // With an uncommitted entry that removed all keys, what was put aside for it.
        let mut store = &self.store;
        let mut committed: BTreeMap<&[u8], Option<&Record<'_>>> = BTreeMap::new();
        let mut sessions = Committed::new();
        let mut horizon_ms = self.once.horizon_ms();
        for pre_image in self.undo.iter().rev() {
            match &pre_image.old {
                Old::Record(key, record) => {
                    committed.insert(key, record.as_ref().filter(|record| self.is_kept(record)));
                }
                Old::Everything(before) => {
                    committed.clear();
                    store = before;
                }
                Old::Session(name, session) => {
                    sessions.insert((self.once.slot(name), name), session.as_ref());
                }
                Old::Horizon(before_ms) => horizon_ms = *before_ms,
            }
        }
        let mut by_slot: BTreeMap<u16, Vec<(&[u8], &Record<'_>)>> = BTreeMap::new();
        for (key, record) in &committed {
            if let Some(record) = record {
                by_slot.entry(slot_of(key)).or_default().push((key, record));
            }
        }
        let (mut records, mut once) = (Vec::new(), Vec::new());
        let mut slot = first_slot;
        loop {
            let mut w = Writer(&mut records);
            for (key, record) in store.iter_slots(slot, slot) {
                if !committed.contains_key(key) {
                    w.bytes(key);
                    w.record(&record);
                }
            }
            for (key, record) in by_slot.get(&slot).into_iter().flatten() {
                w.bytes(key);
                w.record(record);
            }
            self.once.encode_slot(slot, &sessions, &mut Writer(&mut once));
            let is_full = records.len() + once.len() >= bytes_max;
            if slot >= store.last_slot() || is_full || self.applied_in(slot + 1, applied) != up_to {
                break;
            }
            slot += 1;
        }
        let (last_slot, records, once) = (slot, Cow::Owned(records), Cow::Owned(once));
        Image { first_slot, last_slot, applied: up_to, records, once, horizon_ms }
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
            self.store.put(key, &record);
        }
        self.once.install((image.first_slot, image.last_slot), &image.once)?;
        self.once.set_horizon(self.once.horizon_ms().max(image.horizon_ms));
        self.ahead.retain(|(first, last, _)| *first < image.first_slot || *last > image.last_slot);
        self.ahead.push((image.first_slot, image.last_slot, image.applied));
        Ok(newest)
    }

    /// Whether images up to this index at least have been installed for all slots.
    pub fn is_imaged_up_to(&self, index: u64) -> bool {
        let mut ranges: Vec<(u16, u16)> = self
            .ahead
            .iter()
            .filter(|(_, _, applied)| *applied >= index)
            .map(|(first, last, _)| (*first, *last))
            .collect();
        ranges.sort_unstable();
        let mut next = u32::from(self.store.first_slot());
        for (first, last) in ranges {
            if u32::from(first) > next {
                return false;
            }
            next = next.max(u32::from(last) + 1);
        }
        next > u32::from(self.store.last_slot())
    }

    /// Forgets all records.
    pub fn reset(&mut self) {
        self.store.clear();
        self.once = OnceTable::new((self.store.first_slot(), self.store.last_slot()));
        self.undo.clear();
        self.tables_aside = 0;
        self.ahead.clear();
        self.uncommitted_clear = 0;
    }
}

/// The name that an entry gives to what it writes.
pub fn name_of(entry: &Entry<'_>) -> Name {
    let dot = Dot { actor: entry.id.epoch, counter: entry.id.index };
    Name { stamp: entry.stamp, dot }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::entry::Change;
    use super::*;
    use crate::storage::record::Value;
    use crate::version::EntryId;
    use alloc::format;
    use alloc::vec;

    fn changes(index: u64, key: &str, value: Option<&str>) -> Entry<'static> {
        let id = EntryId { epoch: 1, index };
        let dot = Dot { actor: 1, counter: index };
        let record = value.map(|value| Record {
            value: Value::String(value.as_bytes().to_vec().into()),
            ..Record::tombstone(Name { stamp: Stamp(index), dot })
        });
        let change = Change { key: Cow::Owned(key.as_bytes().to_vec()), record };
        let (origin, asker, once) = (None, None, None);
        let payload = Payload::Changes(vec![change].into());
        Entry { id, stamp: Stamp(index), origin, asker, once, payload }
    }

    fn clear(index: u64) -> Entry<'static> {
        let id = EntryId { epoch: 1, index };
        let (origin, asker, once) = (None, None, None);
        Entry { id, stamp: Stamp(index), origin, asker, once, payload: Payload::Clear }
    }

    /// A state with `count` committed keys, k1 to kCOUNT.
    fn filled(count: u64) -> State {
        let mut state = State::new(0, 16_383, 7, false);
        for index in 1..=count {
            state.apply(&changes(index, &format!("k{index}"), Some("v")), false);
        }
        state.commit(count);
        state
    }

    #[test]
    fn a_committed_delete_leaves_no_tombstone_when_what_followed_is_taken_back() {
        for followed_by in [changes(3, "k1", Some("w")), changes(3, "k1", None), clear(3)] {
            let mut state = filled(1);
            state.apply(&changes(2, "k1", None), true);
            state.apply(&followed_by, true);
            state.commit(2);
            let image = state.image(0, usize::MAX, 2);
            assert!(image.records.is_empty(), "{followed_by:?}");
            state.undo();
            assert!(state.store.is_empty(), "{followed_by:?}");
        }
    }

    #[test]
    fn an_image_shows_what_is_committed_whatever_is_about_to_be_removed() {
        for count in [3, CLEARED_AT_ONCE_MIN as u64 + 1] {
            let mut state = filled(count);
            let before = state.image(0, usize::MAX, count);
            for entry in [
                changes(count + 1, "k2", Some("w")),
                clear(count + 2),
                changes(count + 3, "k2", Some("x")),
                clear(count + 4),
                changes(count + 5, "new", Some("y")),
            ] {
                state.apply(&entry, true);
                let mut other = State::new(0, 16_383, 7, false);
                other.install(&state.image(0, usize::MAX, count)).unwrap();
                let mut same = State::new(0, 16_383, 7, false);
                same.install(&before).unwrap();
                assert_eq!(other.store.digest(), same.store.digest(), "{count}: {entry:?}");
            }
        }
    }

    #[test]
    fn slots_that_contain_more_are_images_of_their_own() {
        let mut state = filled(3);
        let later = filled(9);
        let image = later.image(100, 0, 9);
        assert_eq!((image.first_slot, image.last_slot), (100, 100));
        state.install(&image).unwrap();
        let ranges: Vec<(u16, u16, u64)> = [0, 100, 101]
            .map(|first| state.image(first, usize::MAX, 3))
            .map(|image| (image.first_slot, image.last_slot, image.applied))
            .to_vec();
        assert_eq!(ranges, [(0, 99, 3), (100, 100, 9), (101, 16_383, 3)]);
        assert_eq!([3, 9].map(|index| state.ahead_of(index)), [Some(9), None]);
    }

    #[test]
    fn a_long_tail_of_deletes_is_committed_at_once() {
        // An inherited tail. With a look at all of it for each delete this takes minutes.
        let count = 400_000;
        let mut state = State::new(0, 16_383, 7, false);
        for index in 1..=count {
            let value = (index % 2 == 0).then_some("v");
            state.apply(&changes(index, &format!("k{}", index / 4), value), true);
        }
        state.commit(count);
        assert!(state.is_settled());
        assert!(state.store.iter_slots(0, 16_383).all(|(_, record)| record.is_live(0)));
    }

    #[test]
    fn removing_all_keys_is_taken_back_whether_there_are_few_or_many() {
        for count in [3, CLEARED_AT_ONCE_MIN as u64 + 1] {
            let mut state = filled(count);
            state.apply(&changes(count + 1, "k2", None), true);
            state.apply(&clear(count + 2), true);
            state.apply(&clear(count + 3), true);
            state.apply(&changes(count + 4, "k1", Some("w")), true);
            assert_eq!(state.newest_index(None), count + 3, "an absent key waits for the clear");
            state.commit(count + 1);
            state.undo();
            let mut expected = filled(count);
            expected.store.remove(b"k2");
            assert_eq!(state.store.digest(), expected.store.digest(), "{count} keys");
        }
    }
}
