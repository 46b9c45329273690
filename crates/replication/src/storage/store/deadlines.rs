//! Which deadlines there are, earliest first.

use alloc::collections::BTreeMap;

/// How many records with this deadline, slot and hash there are; without those that are tombstones
/// anyway. It holds no keys, so an entry costs the same however long the key is.
#[derive(Clone, Default)]
pub(super) struct Deadlines(BTreeMap<(u64, u16, u64), u32>);

impl Deadlines {
    /// A record with one deadline, or none, has taken the place of another.
    #[inline]
    pub(super) fn replace(&mut self, place: (u16, u64), old: Option<u64>, new: Option<u64>) {
        if old != new {
            self.change(place, old, new);
        }
    }

    fn change(&mut self, (slot, hash): (u16, u64), old: Option<u64>, new: Option<u64>) {
        if let Some(deadline_ms) = new {
            *self.0.entry((deadline_ms, slot, hash)).or_default() += 1;
        }
        let Some(place) = old.map(|deadline_ms| (deadline_ms, slot, hash)) else { return };
        if let Some(count) = self.0.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&place);
            }
        }
    }

    /// How many records are past their deadline.
    pub(super) fn past(&self, now_ms: u64) -> usize {
        let past = self.0.range(..=(now_ms, u16::MAX, u64::MAX));
        past.map(|(_, count)| *count as usize).sum()
    }

    /// The deadlines, slots and hashes of the records that are past their deadline.
    pub(super) fn until(&self, now_ms: u64) -> impl Iterator<Item = (u64, u16, u64)> + use<'_> {
        self.0.range(..=(now_ms, u16::MAX, u64::MAX)).map(|(place, _)| *place)
    }

    /// Forgets up to so many, and returns how many they were.
    pub(super) fn free(&mut self, limit: usize) -> usize {
        (0..limit).take_while(|_| self.0.pop_last().is_some()).count()
    }

    /// The earliest deadline.
    pub(super) fn first_ms(&self) -> Option<u64> {
        self.0.first_key_value().map(|((deadline_ms, _, _), _)| *deadline_ms)
    }
}
