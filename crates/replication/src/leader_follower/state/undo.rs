//! What was there before each uncommitted change: the pre-images, oldest first.
//!
//! A write's pre-image is the store's own bytes of the key, one after the other in one buffer: a
//! leader in its stride allocates nothing for them. What is no bytes (a whole table, a session)
//! lies aside, and the buffer has a mark in its place.

use super::super::once::table::{Name as SessionName, OnceTable, Session};
use crate::storage::record::Record;
use crate::storage::store::{self, Store};
use crate::wire::Reader;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Committed pre-images are cut off the buffer's front when they are more than so many bytes, and
/// more than what is left.
const CUT_BYTES_MIN: usize = 64 << 10;

/// An empty buffer is given back where it is larger: what an inherited tail needed.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Index, kind, length.
const HEAD_BYTES: usize = 8 + 1 + 4;

/// There was no such key.
const ABSENT: u8 = 0;
/// There was this record.
const RECORD: u8 = 1;
/// It lies aside.
const ASIDE: u8 = 2;
/// The entry removed the key, and left a tombstone until it commits.
const REMOVAL: u8 = 1 << 7;

/// The pre-images of a group.
#[derive(Default)]
pub(super) struct Undo {
    /// Heads and bytes; those before `start` are committed.
    bytes: Vec<u8>,
    start: usize,
    aside: VecDeque<Aside>,
    /// How many of those that lie aside are whole tables: hardly ever one.
    tables: usize,
    /// The newest entry that has a pre-image.
    newest: u64,
    /// Made while nothing commits, and readers ask for what was there before.
    first_changes: RefCell<FirstChanges>,
}

/// Where each key was changed first after an entry: made once and added to, however many ask.
#[derive(Default)]
struct FirstChanges {
    /// After which entry.
    after: u64,
    /// The pre-images up to here are in it.
    end: usize,
    /// Hash of the key, and the place of the pre-image; nothing shows the table's order.
    places: HashTable<(u64, usize)>,
}

/// What an entry has changed that is no record.
pub(super) enum Aside {
    /// It removed all keys.
    Everything(Box<Store>),
    /// It changed a session of commands that must not be carried out twice.
    Session(SessionName, Option<Arc<Session>>),
    /// It moved the time before which sessions are forgotten.
    Horizon(u64),
}

/// What was there.
pub(super) enum Old<'a> {
    /// No such key.
    Absent(&'a [u8]),
    /// A key with its record, as the store's bytes.
    Record(&'a [u8]),
    /// Something else.
    Aside(&'a Aside),
}

/// A pre-image in the buffer.
struct PreImage<'a> {
    index: u64,
    kind: u8,
    body: &'a [u8],
}

impl Undo {
    /// Keeps what a key's change overwrites: the store's bytes of it, or that there was none.
    pub(super) fn push(&mut self, index: u64, removal: bool, key: &[u8], old: Option<&[u8]>) {
        let (kind, body) = old.map_or((ABSENT, key), |old| (RECORD, old));
        self.push_bytes(index, if removal { kind | REMOVAL } else { kind }, body);
    }

    /// Keeps what an entry changes that is no record.
    pub(super) fn push_aside(&mut self, index: u64, aside: Aside) {
        self.tables += usize::from(matches!(aside, Aside::Everything(_)));
        self.aside.push_back(aside);
        self.push_bytes(index, ASIDE, &[]);
    }

    fn push_bytes(&mut self, index: u64, kind: u8, body: &[u8]) {
        self.newest = index;
        self.bytes.reserve(HEAD_BYTES + body.len());
        self.bytes.extend_from_slice(&index.to_le_bytes());
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(body);
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The newest entry that has a pre-image; 0 if there is none.
    pub(super) fn newest(&self) -> u64 {
        if self.is_empty() { 0 } else { self.newest }
    }

    /// Forgets the pre-images up to an index: their entries are committed. Deletes among them have
    /// left tombstones, in the store or in a table that lies aside; these go.
    pub(super) fn commit(&mut self, index: u64, store: &mut Store, replaced: &mut Vec<Store>) {
        while let Some(pre_image) = first(&self.bytes, self.start).filter(|p| p.index <= index) {
            self.start += HEAD_BYTES + pre_image.body.len();
            if pre_image.kind == ASIDE {
                if let Some(Aside::Everything(table)) = self.aside.pop_front() {
                    self.tables -= 1;
                    replaced.push(*table);
                }
            } else if pre_image.kind & REMOVAL != 0 {
                // It is in the first table that an entry after it has put aside. Looked for only
                // if there is one: a tail that was inherited is long.
                let looked_at = if self.tables == 0 { 0 } else { self.aside.len() };
                let aside = self.aside.iter_mut().take(looked_at).find_map(|aside| match aside {
                    Aside::Everything(store) => Some(&mut **store),
                    Aside::Session(..) | Aside::Horizon(_) => None,
                });
                drop_tombstone(aside.unwrap_or(store), pre_image.key(), pre_image.index);
            }
        }
        self.cut();
    }

    /// The pre-images, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Old<'_>> {
        let mut place = self.start;
        let mut aside = self.aside.iter();
        core::iter::from_fn(move || {
            let pre_image = first(&self.bytes, place)?;
            place += HEAD_BYTES + pre_image.body.len();
            match pre_image.kind & !REMOVAL {
                ASIDE => aside.next().map(Old::Aside),
                ABSENT => Some(Old::Absent(pre_image.body)),
                _ => Some(Old::Record(pre_image.body)),
            }
        })
    }

    /// What a key was before the first change of it after an index, and which entry made that
    /// change; `None` if there was no change.
    pub(super) fn before_changes_after(
        &self,
        index: u64,
        key: &[u8],
    ) -> Option<(Option<Record<'_>>, u64)> {
        let mut changes = self.first_changes.borrow_mut();
        changes.go_on(self, index);
        let is_it = |(_, place): &(u64, usize)| {
            first(&self.bytes, *place).is_some_and(|pre_image| pre_image.key() == key)
        };
        let (_, place) = changes.places.find(xxh3_64(key), is_it)?;
        let pre_image = first(&self.bytes, *place)?;
        Some((pre_image.record(), pre_image.index))
    }

    /// Takes everything back, the newest first. `is_kept` tells records that are put back from
    /// those that are no part of the committed state.
    pub(super) fn undo(
        &mut self,
        store: &mut Store,
        once: &mut OnceTable,
        replaced: &mut Vec<Store>,
        is_kept: impl Fn(&Record<'_>) -> bool,
    ) {
        let Undo { bytes, start, mut aside, .. } = core::mem::take(self);
        let mut places = Vec::new();
        let mut place = start;
        while let Some(pre_image) = first(&bytes, place) {
            places.push(place);
            place += HEAD_BYTES + pre_image.body.len();
        }
        for pre_image in places.iter().rev().filter_map(|place| first(&bytes, *place)) {
            if pre_image.kind == ASIDE {
                match aside.pop_back() {
                    Some(Aside::Everything(old)) => {
                        replaced.push(core::mem::replace(store, *old));
                    }
                    Some(Aside::Session(name, session)) => drop(once.put(name, session)),
                    Some(Aside::Horizon(horizon_ms)) => once.set_horizon(horizon_ms),
                    None => debug_assert!(false, "a mark for nothing"),
                }
                continue;
            }
            match pre_image.record() {
                Some(record) if is_kept(&record) => store.put(pre_image.key(), &record),
                _ => store.remove(pre_image.key()),
            }
        }
    }

    /// Gives room back that committed pre-images have taken.
    fn cut(&mut self) {
        // Its places are of what is about to move.
        *self.first_changes.get_mut() = FirstChanges::default();
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > KEPT_BYTES_MAX {
                self.bytes = Vec::new();
            }
        } else if self.start > CUT_BYTES_MIN && self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

impl FirstChanges {
    /// Takes up what has come since it was asked last.
    fn go_on(&mut self, undo: &Undo, after: u64) {
        if self.after != after || self.end < undo.start {
            *self = FirstChanges { after, end: undo.start, ..FirstChanges::default() };
        }
        while let Some(pre_image) = first(&undo.bytes, self.end) {
            let place = self.end;
            self.end += HEAD_BYTES + pre_image.body.len();
            if pre_image.index <= after || pre_image.kind == ASIDE {
                continue;
            }
            let (key, hash) = (pre_image.key(), xxh3_64(pre_image.key()));
            let is_it = |(_, place): &(u64, usize)| {
                first(&undo.bytes, *place).is_some_and(|earlier| earlier.key() == key)
            };
            if self.places.find(hash, is_it).is_none() {
                self.places.insert_unique(hash, (hash, place), |(hash, _)| *hash);
            }
        }
    }
}

impl<'a> PreImage<'a> {
    /// The key that there was, or was not.
    fn key(&self) -> &'a [u8] {
        match self.kind & !REMOVAL {
            ABSENT => self.body,
            _ => store::key_of(self.body),
        }
    }

    /// The record that there was.
    fn record(&self) -> Option<Record<'a>> {
        match self.kind & !REMOVAL {
            ABSENT => None,
            _ => store::unpack(self.body).ok().map(|(_, record)| record),
        }
    }
}

/// The pre-image at a place of the buffer; `None` at its end.
fn first(bytes: &[u8], place: usize) -> Option<PreImage<'_>> {
    let mut r = Reader(bytes.get(place..)?);
    let (index, kind, body) = (r.u64().ok()?, r.u8().ok()?, r.bytes().ok()?);
    Some(PreImage { index, kind, body })
}

/// A delete is committed: its tombstone has done its work.
fn drop_tombstone(store: &mut Store, key: &[u8], index: u64) {
    let is_it = |record: &Record<'_>| !record.is_live(0) && record.dot.counter == index;
    if store.get(key).is_some_and(|record| is_it(&record)) {
        store.remove(key);
    }
}
