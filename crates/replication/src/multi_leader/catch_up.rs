//! Catching up by state: the source's log does not reach back to what the puller lacks.
//!
//! The source's committed records come page by page, slot range by slot range, while writes go
//! on; some pages are on their way at a time, within the window of `sync.rs`. Meanwhile the source
//! keeps its log from where it was when the first page was made, within a bound, so that the answer
//! goes on there after the last page.
//!
//! The puller appends what is new in each page as an entry without a name, and after the last page
//! one that says: everything that the source covered when the first page was made is here. Later
//! pages may hold more than that, which does no harm: merging is idempotent. For the same reason
//! the transfer outlives a failover at the source: what was committed there still is.

use super::message::Page;
use crate::conflict::last_write_wins;
use crate::storage::record::Record;
use crate::storage::store::unpack;
use crate::version::{Stamp, VersionVector};
use crate::wire::{Read, Reader};
use alloc::vec::Vec;

/// Keys that the puller puts into one entry at most.
pub const KEYS_PER_ENTRY_MAX: usize = 256;

/// A state transfer, as its receiver knows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Transfer {
    covered: VersionVector,
    cursor: u64,
    next_slot: u32,
    complete: bool,
}

impl Transfer {
    /// The transfer after this page; `None` if the page does not go on where `current` has got
    /// to, or does not start one at the partition's first slot.
    pub fn after(current: Option<&Transfer>, page: &Page<'_>, first_slot: u16) -> Option<Transfer> {
        let expected = current.map_or(u32::from(first_slot), |transfer| transfer.next_slot);
        if u32::from(page.first_slot) != expected || page.last_slot < page.first_slot {
            return None;
        }
        let (covered, cursor) = match current {
            Some(transfer) => (transfer.covered.clone(), transfer.cursor),
            None => (page.covered.clone(), page.commit),
        };
        let next_slot = u32::from(page.last_slot) + 1;
        Some(Transfer { covered, cursor, next_slot, complete: page.done })
    }

    /// The slot that the next page starts with.
    pub fn next_slot(&self) -> u16 {
        u16::try_from(self.next_slot).unwrap_or(u16::MAX)
    }

    /// Whether all pages are there.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What the source covered when the transfer began.
    pub fn covered(&self) -> &VersionVector {
        &self.covered
    }

    /// Where the source's log goes on after what the transfer brings.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }
}

/// What a page brings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct News<'p> {
    /// The records that say something new, with their keys.
    pub records: Vec<(&'p [u8], Record<'p>)>,
    /// The newest stamp in the page.
    pub newest: Stamp,
}

/// What is new in a page, given what is kept for each key.
pub fn news<'p, 's>(
    page: &'p Page<'_>,
    kept: impl Fn(&[u8]) -> Option<Record<'s>>,
) -> Read<News<'p>> {
    let mut news = News::default();
    let mut r = Reader(&page.records);
    while !r.is_empty() {
        let (key, record) = unpack(r.short_bytes()?)?;
        news.newest = news.newest.max(record.newest_stamp());
        let is_known = kept(key).is_some_and(|kept| {
            last_write_wins::merge(&kept, &record).outcome == last_write_wins::Outcome::Kept
        });
        if !is_known {
            news.records.push((key, record));
        }
    }
    Ok(news)
}
