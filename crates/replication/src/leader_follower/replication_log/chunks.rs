//! The bytes of entries, in chunks: an entry is written at the end of the newest chunk, and the
//! oldest chunk goes when none of its entries is needed. A chunk that has gone is used again, so a
//! log whose length does not change asks for no memory.
//!
//! The entries of a chunk lie one after another as a *run* (`run.rs`): what is to be sent or logged
//! is a slice of a chunk.

use super::run::{Bodies, LENGTH_BYTES};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes of a chunk; an entry that is larger has one of its own. Long enough that its own cost does
/// not show in that of its entries.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Empty chunks that are kept for the next entries.
const SPARE_CHUNKS_MAX: usize = 2;

/// Entries that follow each other.
#[derive(Debug, Default)]
struct Chunk {
    /// The index of its first entry.
    first: u64,
    /// How many bytes there are before it, from some beginning on.
    base: u64,
    bytes: Vec<u8>,
    /// Where each entry ends in the bytes.
    ends: Vec<usize>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn last(&self) -> u64 {
        (self.first + self.ends.len() as u64).saturating_sub(1)
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }

    fn start_of(&self, place: usize) -> usize {
        place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    /// Nothing is in it any more, and what comes has this index at least.
    fn begin(&mut self, first: u64, base: u64) {
        (self.first, self.base) = (first, base);
        self.bytes.clear();
        self.ends.clear();
        if self.bytes.capacity() > 2 * CHUNK_BYTES {
            self.bytes = Vec::new();
        }
    }
}

/// The chunks of one log, in order, without a gap.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// Full ones; none is empty.
    older: VecDeque<Chunk>,
    /// The one that entries are added to.
    newest: Chunk,
    spare: Vec<Chunk>,
}

impl Chunks {
    /// How many bytes there are up to the newest entry's end, from some beginning on.
    pub fn end(&self) -> u64 {
        self.newest.end()
    }

    /// The same up to an entry's end.
    pub fn end_of(&self, index: u64) -> Option<u64> {
        let chunk = self.chunk_of(index)?;
        Some(chunk.base + *chunk.ends.get(chunk.place(index)?)? as u64)
    }

    /// The last entry of the oldest chunk, and how many bytes there are up to its end.
    pub fn oldest(&self) -> (u64, u64) {
        let oldest = self.older.front().unwrap_or(&self.newest);
        (oldest.last(), oldest.end())
    }

    /// An entry's bytes.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&[u8]> {
        let chunk = self.chunk_of(index)?;
        let place = chunk.place(index)?;
        let (start, end) = (chunk.start_of(place), *chunk.ends.get(place)?);
        chunk.bytes.get(start + LENGTH_BYTES..end)
    }

    /// The run of entries from an index on, as far as it lies in one chunk, until it has
    /// `bytes_max` bytes; and its last index.
    pub fn run(&self, from: u64, bytes_max: usize) -> Option<(&[u8], u64)> {
        let chunk = self.chunk_of(from)?;
        let place = chunk.place(from)?;
        let start = chunk.start_of(place);
        let ends = chunk.ends.get(place..).filter(|ends| !ends.is_empty())?;
        let last = match chunk.bytes.len() - start > bytes_max {
            true => ends.partition_point(|end| end - start < bytes_max).min(ends.len() - 1),
            false => ends.len() - 1,
        };
        let run = chunk.bytes.get(start..*ends.get(last)?)?;
        Some((run, from + last as u64))
    }

    #[inline]
    fn chunk_of(&self, index: u64) -> Option<&Chunk> {
        if index >= self.newest.first {
            return Some(&self.newest);
        }
        let after = self.older.partition_point(|chunk| chunk.first <= index);
        self.older.get(after.checked_sub(1)?)
    }

    /// Adds the entry with this index, the next one, which will need about `room` bytes.
    pub fn append(&mut self, index: u64, room: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let chunk = self.chunk_with_room(index, room.saturating_add(LENGTH_BYTES));
        let start = chunk.bytes.len();
        chunk.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        encode(&mut chunk.bytes);
        let end = chunk.bytes.len();
        let length = u32::try_from(end - start - LENGTH_BYTES).unwrap_or(u32::MAX);
        if let Some(head) = chunk.bytes.get_mut(start..start + LENGTH_BYTES) {
            head.copy_from_slice(&length.to_le_bytes());
        }
        chunk.ends.push(end);
    }

    /// Adds a whole run whose first entry has this index; returns how many entries it has.
    pub fn append_run(&mut self, index: u64, run: &[u8]) -> u64 {
        let (mut rest, mut count) = (run, 0);
        loop {
            let mut bodies = Bodies::of(rest);
            let Some(Ok(first)) = bodies.next() else { return count };
            let chunk = self.chunk_with_room(index + count, first.len() + LENGTH_BYTES);
            let start = chunk.bytes.len();
            let mut taken = rest.len() - bodies.rest().len();
            chunk.ends.push(start + taken);
            count += 1;
            while let Some(Ok(_)) = bodies.next() {
                let next = rest.len() - bodies.rest().len();
                if start + next > CHUNK_BYTES {
                    break;
                }
                taken = next;
                chunk.ends.push(start + taken);
                count += 1;
            }
            let (here, after) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            chunk.bytes.extend_from_slice(here);
            rest = after;
        }
    }

    /// The newest chunk if so many bytes fit into it, or a new one that begins with this index.
    #[inline]
    fn chunk_with_room(&mut self, index: u64, room: usize) -> &mut Chunk {
        let newest = &self.newest;
        if newest.ends.is_empty() || newest.bytes.len().saturating_add(room) > CHUNK_BYTES {
            self.begin_chunk(index, room);
        }
        &mut self.newest
    }

    fn begin_chunk(&mut self, index: u64, room: usize) {
        let base = self.newest.end();
        if !self.newest.ends.is_empty() {
            let next = self.spare.pop().unwrap_or_default();
            self.older.push_back(core::mem::replace(&mut self.newest, next));
        }
        self.newest.begin(index, base);
        match self.older.is_empty() {
            // The group may never have more than a few entries.
            true => self.newest.bytes.reserve(room),
            false => self.newest.bytes.reserve_exact(room.max(CHUNK_BYTES)),
        }
        // It will have about as many entries as the one before.
        let entries = self.older.back().map_or(0, |chunk| chunk.ends.len());
        self.newest.ends.reserve(entries);
    }

    /// Takes off all entries above an index.
    pub fn cut_above(&mut self, index: u64) {
        while self.newest.first > index {
            self.newest.begin(self.newest.first, self.newest.base);
            let Some(before) = self.older.pop_back() else { return };
            let newest = core::mem::replace(&mut self.newest, before);
            self.recycle(newest);
        }
        let newest = &mut self.newest;
        let kept = newest.place(index).map_or(0, |place| place.saturating_add(1));
        newest.ends.truncate(kept);
        newest.bytes.truncate(newest.ends.last().copied().unwrap_or(0));
    }

    /// Forgets the chunks whose entries all have indexes up to this one.
    pub fn forget_up_to(&mut self, index: u64) {
        while let Some(chunk) = self.older.pop_front_if(|chunk| chunk.last() <= index) {
            self.recycle(chunk);
        }
        if self.older.is_empty() && !self.newest.ends.is_empty() && self.newest.last() <= index {
            self.newest.begin(index + 1, self.newest.end());
        }
    }

    fn recycle(&mut self, mut chunk: Chunk) {
        if self.spare.len() < SPARE_CHUNKS_MAX {
            chunk.begin(0, 0);
            self.spare.push(chunk);
        }
    }
}
