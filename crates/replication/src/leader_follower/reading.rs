//! What a group knows of its node's log while that is read, besides what it holds then itself.
//!
//! Entries are applied as soon as a record says that they are committed, maybe before the images
//! that they follow: those replace their slots, with all that the same records had told so far.
//! So the beginning of a log that must be in images is remembered apart from what is left of the
//! entries.

use super::staging::Staged;
use alloc::vec::Vec;

/// How far the reading has got.
#[derive(Default)]
pub(super) struct Reading {
    /// The staged pieces of the snapshot that is being read.
    pub staged: Option<Staged>,
    /// The log has lost pieces of the snapshot that it says was installed: a checkpoint must
    /// follow.
    pub lacks_pieces: bool,
    /// Whether it is known where the group's log begins.
    pub anchored: bool,
    /// Up to here everything has to be in images: the log began there.
    base: u64,
    /// Entries from the base up to here are applied.
    applied: u64,
    /// The images that were read: first and last slot, and up to which entry.
    imaged: Vec<(u16, u16, u64)>,
}

impl Reading {
    /// The log begins after an entry.
    pub fn begin_after(&mut self, index: u64) {
        (self.anchored, self.base, self.applied) = (true, index, index);
    }

    /// Where the log begins is not known any more.
    pub fn begin_anew(&mut self) {
        (self.anchored, self.base, self.applied) = (false, 0, 0);
    }

    /// Up to where entries are applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Entries up to an index are applied.
    pub fn apply_up_to(&mut self, index: u64) {
        self.applied = self.applied.max(index);
    }

    /// Whether entries above an index are applied: these cannot be cut.
    pub fn has_applied_above(&self, index: u64) -> bool {
        self.applied > self.base && self.applied > index
    }

    /// An image was read.
    pub fn image(&mut self, (first, last): (u16, u16), applied: u64) {
        self.imaged.retain(|(from, to, _)| *from < first || *to > last);
        self.imaged.push((first, last, applied));
    }

    /// All slots have been replaced, by a state up to an entry, or by nothing.
    pub fn replace(&mut self, slots: (u16, u16), applied: Option<u64>) {
        self.imaged.clear();
        self.imaged.extend(applied.map(|applied| (slots.0, slots.1, applied)));
    }

    /// Whether images of all slots were read up to where the log begins at least.
    pub fn is_complete(&self, (first, last): (u16, u16)) -> bool {
        if self.base == 0 {
            return true;
        }
        let reaching = self.imaged.iter().filter(|(.., applied)| *applied >= self.base);
        let mut ranges: Vec<(u16, u16)> = reaching.map(|(from, to, _)| (*from, *to)).collect();
        ranges.sort_unstable();
        let mut next = u32::from(first);
        for (from, to) in ranges {
            if u32::from(from) > next {
                return false;
            }
            next = next.max(u32::from(to) + 1);
        }
        next > u32::from(last)
    }
}
