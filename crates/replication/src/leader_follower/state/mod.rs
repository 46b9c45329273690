//! The records of one group, with what is needed to take uncommitted changes back.
//!
//! A leader applies an entry when it appends it, and keeps each overwritten record (its
//! pre-image) until the entry commits; deposed, it puts them back in reverse. Followers apply
//! only what is committed, so they never undo.

mod image;
mod undo;

use super::entry::{Entry, Once, Payload};
use super::once::table::{Name as SessionName, OnceTable, Session};
use crate::conflict::last_write_wins::{self, Outcome};
use crate::keyspace::slot::slot_of;
use crate::storage::record::Record;
use crate::storage::store::{Hashes, Store, look_ahead};
use crate::version::EntryId;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use undo::{Aside, Undo};

/// Records from which on removing all keys puts the whole table aside, and a table that nobody
/// needs is freed by and by. A table has a place for each of its slots: putting small ones aside,
/// one for each FLUSHALL of a pipeline, would cost far more than their records.
const LARGE_FROM: usize = if cfg!(test) { 8 } else { 4096 };

/// The records of one group.
pub struct State {
    /// What is visible to evaluation: at a leader, the uncommitted changes included.
    pub store: Store,
    /// The commands that must not be carried out twice, the uncommitted ones included.
    pub once: OnceTable,
    /// Whether a change is merged with what is there, or overwrites it.
    merges: bool,
    seed: u64,
    undo: Undo,
    /// Slots that contain more than the group has applied: first, last, and up to which index.
    ahead: Vec<(u16, u16, u64)>,
    /// The newest entry that removed all keys and is not committed.
    uncommitted_clear: u64,
    /// Large tables that nobody needs any more: they are freed by and by, see `leaving.rs`.
    replaced: Vec<Store>,
    /// Tables with so many records are large: [`LARGE_FROM`], or fewer.
    large_from: usize,
}

impl State {
    /// No records, for the slots of one partition.
    pub fn new(first_slot: u16, last_slot: u16, seed: u64, merges: bool) -> State {
        State {
            store: Store::new(first_slot, last_slot, seed),
            once: OnceTable::new((first_slot, last_slot)),
            merges,
            seed,
            undo: Undo::default(),
            ahead: Vec::new(),
            uncommitted_clear: 0,
            replaced: Vec::new(),
            large_from: LARGE_FROM,
        }
    }

    /// The same where tables with fewer records are large.
    pub fn with_large_from(self, records: usize) -> State {
        State { large_from: records.min(LARGE_FROM), ..self }
    }

    /// An empty one for the same group.
    pub fn anew(&self) -> State {
        let (first, last) = (self.store.first_slot(), self.store.last_slot());
        State::new(first, last, self.seed, self.merges).with_large_from(self.large_from)
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
                if changes.len() > 1 {
                    look_ahead(changes.iter().map(|change| (&self.store, &*change.key)));
                }
                for change in changes {
                    let index = entry.id.index;
                    let hashes = changes.hashes().unwrap_or_else(|| self.store.hashes(&change.key));
                    if self.is_ahead(hashes.slot, index) {
                        continue;
                    }
                    let key = (&*change.key, hashes);
                    match &change.record {
                        Some(record) if self.merges => {
                            self.merge(entry, key, record, undoable, &mut conflicts);
                        }
                        Some(record) => self.set(index, key, record, undoable),
                        None if undoable => {
                            let tombstone = Record::tombstone(entry.name());
                            self.set(index, key, &tombstone, undoable);
                        }
                        None => self.store.remove(&change.key),
                    }
                }
            }
            Payload::Clear => self.clear(entry.id.index, undoable),
            Payload::Opening(_)
            | Payload::OpeningAfterLoss(..)
            | Payload::Voter(..)
            | Payload::Covers(_)
            | Payload::Degrade(_)
            | Payload::HeardOut(_) => {}
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
                self.undo.push_aside(id.index, Aside::Horizon(self.once.horizon_ms()));
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
            self.undo.push_aside(index, Aside::Session(name, old));
        }
    }

    /// Sets a key to what an incoming record and the kept one come to.
    fn merge(
        &mut self,
        entry: &Entry<'_>,
        (key, hashes): (&[u8], Hashes),
        incoming: &Record<'_>,
        undoable: bool,
        conflicts: &mut Vec<Vec<u8>>,
    ) {
        let index = entry.id.index;
        let State { store, undo, .. } = self;
        let change = |kept: Option<&Record<'_>>| {
            let Some(kept) = kept else { return Some(Cow::Borrowed(incoming)) };
            let seen = entry.origin.as_ref().is_none_or(|origin| {
                kept.dot.counter == 0
                    || kept.dot.actor == origin.dot.actor
                    || origin.dependencies.covers(kept.dot)
            });
            if !seen && incoming.dot != kept.dot {
                conflicts.push(key.to_vec());
            }
            match last_write_wins::merge(kept, incoming).outcome {
                Outcome::Kept => None,
                Outcome::Incoming => Some(Cow::Borrowed(incoming)),
                Outcome::Both(merged) => Some(Cow::Owned(merged.into_owned())),
            }
        };
        store.change_over(key, hashes, change, |old| {
            if undoable {
                undo.push(index, false, key, old);
            }
        });
    }

    fn set(
        &mut self,
        index: u64,
        (key, hashes): (&[u8], Hashes),
        new: &Record<'_>,
        undoable: bool,
    ) {
        let removal = !self.merges && !new.is_live(0);
        let State { store, undo, .. } = self;
        store.put_over(key, hashes, new, |old| {
            if undoable {
                undo.push(index, removal, key, old);
            }
        });
    }

    fn clear(&mut self, index: u64, undoable: bool) {
        if undoable {
            self.uncommitted_clear = index;
        }
        let (first, last) = (self.store.first_slot(), self.store.last_slot());
        let is_small = undoable && self.store.len() < self.large_from;
        if !is_small {
            let mut left = Store::new(first, last, self.seed);
            // What images have brought from after this entry is mostly little: it was all written
            // since.
            for (first, last, _) in self.ahead.iter().filter(|(.., applied)| *applied >= index) {
                let kept = self.store.iter_slots(*first, *last);
                kept.for_each(|(key, record)| left.put(key, &record));
            }
            let old = core::mem::replace(&mut self.store, left);
            match undoable {
                true => self.undo.push_aside(index, Aside::Everything(Box::new(old))),
                false => self.put_away(old),
            }
            return;
        }
        let keys: Vec<Vec<u8>> = self
            .store
            .iter_slots(first, last)
            .filter(|(key, _)| self.ahead.is_empty() || !self.is_ahead(slot_of(key), index))
            .map(|(key, _)| key.to_vec())
            .collect();
        let State { store, undo, .. } = self;
        for key in keys {
            store.remove_over(&key, |old| undo.push(index, false, &key, old));
        }
    }

    /// Whether an image has brought what an entry does to a slot.
    fn is_ahead(&self, slot: u16, index: u64) -> bool {
        self.ahead
            .iter()
            .any(|(first, last, applied)| (*first..=*last).contains(&slot) && *applied >= index)
    }

    /// Everything up to the index is committed: it will not be undone.
    pub fn commit(&mut self, index: u64) {
        self.undo.commit(index, &mut self.store, &mut self.replaced);
        if self.uncommitted_clear <= index {
            self.uncommitted_clear = 0;
        }
        if self.ahead.iter().all(|(_, _, applied)| *applied <= index) {
            self.ahead.clear();
        }
    }

    /// Takes everything uncommitted back, the newest first.
    pub fn undo(&mut self) {
        self.uncommitted_clear = 0;
        let merges = self.merges;
        let State { store, once, replaced, .. } = self;
        self.undo.undo(store, once, replaced, |record| merges || record.is_live(0));
    }

    /// The newest entry that touched the key, as far as it may be uncommitted.
    pub fn newest_index(&self, record: Option<&Record<'_>>) -> u64 {
        let of_record = record.map_or(0, |record| match self.merges {
            true => 0,
            false => record.dot.counter,
        });
        let in_flight = if self.merges { self.undo.newest() } else { 0 };
        of_record.max(self.uncommitted_clear).max(in_flight)
    }

    /// A key's record when all entries up to `visible`, and none after it, were applied, and the
    /// first entry after it that changed the key; `None` if there is none, or if that cannot be
    /// told: where all keys were removed after it, or writes merge.
    pub fn record_at(&self, key: &[u8], visible: u64) -> Option<(Option<Record<'_>>, u64)> {
        if self.merges || self.uncommitted_clear > visible {
            return None;
        }
        self.undo.before_changes_after(visible, key)
    }

    /// Whether nothing is uncommitted.
    pub fn is_settled(&self) -> bool {
        self.undo.is_empty()
    }

    /// A table is of no use any more: a small one is freed at once.
    fn put_away(&mut self, store: Store) {
        if store.len() >= self.large_from {
            self.replaced.push(store);
        }
    }

    /// The tables that nobody needs any more, to be freed by and by.
    pub fn take_replaced(&mut self) -> impl Iterator<Item = Store> {
        self.replaced.drain(..)
    }

    /// Forgets all records.
    pub fn reset(&mut self) {
        self.store.clear();
        self.once = OnceTable::new((self.store.first_slot(), self.store.last_slot()));
        self.undo = Undo::default();
        self.ahead.clear();
        self.uncommitted_clear = 0;
    }
}

#[cfg(test)]
mod tests;
