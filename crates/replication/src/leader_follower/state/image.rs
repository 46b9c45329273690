//! Images of a group's slots: made of what is committed, and installed.

use super::State;
use super::undo::{Aside, Old};
use crate::keyspace::slot::slot_of;
use crate::leader_follower::image::Image;
use crate::leader_follower::once::table::Committed;
use crate::storage::record::Record;
use crate::storage::store::Store;
use crate::version::Stamp;
use crate::wire::{Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

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

    /// The committed records of the slots from `first_slot` on, until `bytes_max` is used; the
    /// group is applied up to `applied`. Slots that contain more go into images of their own.
    pub fn image(&self, first_slot: u16, bytes_max: usize, applied: u64) -> Image<'static> {
        let up_to = self.applied_in(first_slot, applied);
        // With an uncommitted entry that removed all keys, the table that was put aside for it:
        // then no later change of a key matters.
        let mut aside: Option<&Store> = None;
        // Of a key that was changed several times, the oldest pre-image counts.
        let mut committed: BTreeMap<&[u8], Option<Record<'_>>> = BTreeMap::new();
        let mut sessions = Committed::new();
        let mut horizon_ms = None;
        for old in self.undo.iter() {
            match old {
                Old::Absent(_) | Old::Record(..) if aside.is_some() => {}
                Old::Absent(key) => _ = committed.entry(key).or_insert(None),
                Old::Record(key, record) => {
                    let record = Some(record).filter(|record| self.is_kept(record));
                    committed.entry(key).or_insert(record);
                }
                Old::Aside(Aside::Everything(table)) => _ = aside.get_or_insert(table),
                Old::Aside(Aside::Session(name, session)) => {
                    let place = (self.once.slot(name), name);
                    sessions.entry(place).or_insert(session.as_ref());
                }
                Old::Aside(Aside::Horizon(before_ms)) => _ = horizon_ms.get_or_insert(*before_ms),
            }
        }
        let horizon_ms = horizon_ms.unwrap_or(self.once.horizon_ms());
        let mut by_slot: BTreeMap<u16, Vec<(&[u8], &Record<'_>)>> = BTreeMap::new();
        for (key, record) in &committed {
            if let Some(record) = record {
                by_slot.entry(slot_of(key)).or_default().push((key, record));
            }
        }
        let (mut records, mut once) = (Vec::new(), Vec::new());
        let store = aside.unwrap_or(&self.store);
        let mut kept = store.walk(first_slot, store.last_slot()).peekable();
        let mut slot = first_slot;
        loop {
            let mut w = Writer(&mut records);
            while let Some((_, key, record)) = kept.next_if(|(of, ..)| *of == slot) {
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
}
