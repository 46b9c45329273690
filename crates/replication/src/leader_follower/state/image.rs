//! Images of a group's slots: made of what is committed, and installed.

use super::State;
use super::undo::{Aside, Old};
use crate::keyspace::slot::slot_of;
use crate::leader_follower::image::Image;
use crate::leader_follower::once::table::Committed;
use crate::storage::store::{self, Store};
use crate::version::Stamp;
use crate::wire::{Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// An image looks at so many times the slots that would fill it if all held the same.
const IMAGE_SHARES: u64 = 4;

/// What there was before the entries that are not committed.
struct Before<'a> {
    /// With one of them that removed all keys, the table that was put aside for it: then no later
    /// change of a key matters.
    table: Option<&'a Store>,
    /// The keys that they have changed, with what was there, as the store's bytes. Of a key that
    /// was changed several times, the oldest pre-image counts.
    keys: BTreeMap<(u16, &'a [u8]), Option<&'a [u8]>>,
    sessions: Committed<'a>,
    horizon_ms: u64,
}

impl State {
    /// The newest entry that some slots contain although the group has not applied it.
    pub fn ahead_of(&self, applied: u64) -> Option<u64> {
        self.ahead.iter().map(|(_, _, ahead)| *ahead).filter(|ahead| *ahead > applied).max()
    }

    /// Up to where a slot contains what is committed; the group is applied up to `applied`.
    fn applied_in(&self, slot: u16, applied: u64) -> u64 {
        let of_slot = self.ahead.iter().filter(|(first, last, _)| (*first..=*last).contains(&slot));
        of_slot.map(|(_, _, ahead)| *ahead).fold(applied, u64::max)
    }

    /// The committed records of the slots from `first_slot` on, until about `bytes_max` is used;
    /// the group is applied up to `applied`. Slots that contain more go into images of their own.
    pub fn image(&self, first_slot: u16, bytes_max: usize, applied: u64) -> Image<'static> {
        self.image_in(Vec::new(), first_slot, bytes_max, applied)
    }

    /// The same with a buffer for the records.
    pub fn image_in(
        &self,
        mut records: Vec<u8>,
        first_slot: u16,
        bytes_max: usize,
        applied: u64,
    ) -> Image<'static> {
        records.clear();
        let up_to = self.applied_in(first_slot, applied);
        let last_looked_at = self.last_looked_at(first_slot, bytes_max);
        let before = self.before_uncommitted(first_slot, last_looked_at);
        let (mut once, mut slot) = (Vec::new(), first_slot);
        let store = before.table.unwrap_or(&self.store);
        let mut kept = store.walk_bytes(first_slot, last_looked_at).peekable();
        let mut changed = before.keys.iter().peekable();
        loop {
            let mut w = Writer(&mut records);
            let is_changed = changed.peek().is_some_and(|((of, _), _)| *of == slot);
            while let Some((_, bytes)) = kept.next_if(|(of, _)| *of == slot) {
                if !is_changed || !before.keys.contains_key(&(slot, store::key_of(bytes))) {
                    w.short_bytes(bytes);
                }
            }
            while let Some((_, bytes)) = changed.next_if(|((of, _), _)| *of == slot) {
                bytes.iter().for_each(|bytes| w.short_bytes(bytes));
            }
            self.once.encode_slot(slot, &before.sessions, &mut Writer(&mut once));
            let is_full = records.len() + once.len() >= bytes_max;
            if slot >= last_looked_at || is_full || self.applied_in(slot + 1, applied) != up_to {
                break;
            }
            slot += 1;
        }
        let (last_slot, horizon_ms) = (slot, before.horizon_ms);
        let (records, once) = (Cow::Owned(records), Cow::Owned(once));
        Image { first_slot, last_slot, applied: up_to, records, once, horizon_ms }
    }

    /// The last slot that an image of so many bytes may have: far more than its share of all slots
    /// would not fit into it. What is uncommitted in the others need not be looked at.
    fn last_looked_at(&self, first_slot: u16, bytes_max: usize) -> u16 {
        let (first, last) = (self.store.first_slot(), self.store.last_slot());
        let slots = u64::from(last.saturating_sub(first)) + 1;
        let wanted = (bytes_max as u64).saturating_mul(slots).saturating_mul(IMAGE_SHARES);
        let looked_at = (wanted / (self.store.bytes() as u64).max(1)).max(1);
        let beyond = u64::from(first_slot).saturating_add(looked_at - 1);
        u16::try_from(beyond).unwrap_or(last).min(last)
    }

    /// What the entries that are not committed have changed in some slots.
    fn before_uncommitted(&self, first_slot: u16, last_slot: u16) -> Before<'_> {
        let mut before = Before {
            table: None,
            keys: BTreeMap::new(),
            sessions: Committed::new(),
            horizon_ms: self.once.horizon_ms(),
        };
        let mut is_first = true;
        for old in self.undo.iter() {
            let (key, bytes) = match old {
                Old::Absent(key) => (key, None),
                Old::Record(bytes) => {
                    // Where nothing is merged, a tombstone is no part of the committed state:
                    // either its delete is committed, or the delete's own pre-image comes next.
                    let is_kept = self.merges || store::is_live(bytes);
                    (store::key_of(bytes), Some(bytes).filter(|_| is_kept))
                }
                Old::Aside(Aside::Everything(table)) => {
                    before.table.get_or_insert(table);
                    continue;
                }
                Old::Aside(Aside::Session(name, session)) => {
                    let place = (self.once.slot(name), name);
                    before.sessions.entry(place).or_insert(session.as_ref());
                    continue;
                }
                Old::Aside(Aside::Horizon(before_ms)) => {
                    if core::mem::take(&mut is_first) {
                        before.horizon_ms = *before_ms;
                    }
                    continue;
                }
            };
            let slot = slot_of(key);
            if before.table.is_none() && (first_slot..=last_slot).contains(&slot) {
                before.keys.entry((slot, key)).or_insert(bytes);
            }
        }
        before
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
            let (key, record) = store::unpack(r.short_bytes()?)?;
            newest = newest.max(record.newest_stamp());
            self.store.put(key, &record);
        }
        self.once.install((image.first_slot, image.last_slot), &image.once)?;
        self.once.set_horizon(self.once.horizon_ms().max(image.horizon_ms));
        self.ahead.retain(|(first, last, _)| *first < image.first_slot || *last > image.last_slot);
        self.ahead.push((image.first_slot, image.last_slot, image.applied));
        Ok(newest)
    }
}
