//! Changing a key's record into what the record that is there decides: the key is looked up once.

use super::packed::Packed;
use super::{Hashes, Measure, Store};
use crate::storage::record::Record;
use alloc::borrow::Cow;

impl Store {
    /// Sets a key's record to what `change` makes of the one that is there, or lets it be. `old` is
    /// shown what is overwritten, as by [`Store::put_over`].
    pub fn change_over<'r>(
        &mut self,
        key: &[u8],
        hashes: Hashes,
        change: impl FnOnce(Option<&Record<'_>>) -> Option<Cow<'r, Record<'r>>>,
        old: impl FnOnce(Option<&[u8]>),
    ) {
        self.change_packed(
            key,
            hashes,
            |packed| match packed {
                Some(packed) => change(Some(&packed.record())),
                None => change(None),
            },
            old,
        );
    }

    /// The same, where the record that is there need not be unpacked.
    #[inline]
    pub(super) fn change_packed<'r>(
        &mut self,
        key: &[u8],
        Hashes { slot, hash }: Hashes,
        change: impl FnOnce(Option<&Packed>) -> Option<Cow<'r, Record<'r>>>,
        old: impl FnOnce(Option<&[u8]>),
    ) {
        let seed = self.tables.seed;
        let Some(table) = self.tables.of_mut(slot) else { return };
        if let Some(packed) = table.keys.find_mut(hash, |packed| packed.key() == key) {
            let Some(record) = change(Some(packed)) else { return };
            let before = Measure::of(packed);
            old(Some(packed.bytes()));
            packed.replace(key, &record);
            let after = Measure::of(packed);
            if before != after {
                table.live = table.live + u32::from(after.is_live) - u32::from(before.is_live);
                self.count((slot, hash), Some(&before), Some(&after));
            }
            return;
        }
        let Some(record) = change(None) else { return };
        old(None);
        let Some(table) = self.tables.with_room(slot) else { return };
        let packed = Packed::new(key, &record);
        let after = Measure::of(&packed);
        table.insert(hash, packed, seed);
        self.count((slot, hash), None, Some(&after));
    }
}
