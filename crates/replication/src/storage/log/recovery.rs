//! Reading a log back, in memory that does not grow with it.
//!
//! [`recover_trusted`] goes over the segments once: it says where the good log ends, or that synced
//! bytes are gone, and keeps no record. [`Replay`] goes over the good log a second time and gives
//! its records, batch by batch. At any time a chunk of one segment is in memory, or one batch where
//! that is longer. What comes from the second reading is checked like the first, and must be the
//! same log: a disk may give other bytes each time.
//!
//! Nothing is left out: what lies behind each segment's last batch is read, and all of the spare
//! segments. At each sector there may be a batch that went astray, or that a crash has left behind
//! a hole, and a start that skipped one could take corruption for a torn end. Of each sector only
//! the header is looked at.

use super::{CRC_BYTES, Corruption, End, HEADER_BYTES, Header, Recovered, SECTOR_BYTES, VERSION};
use super::{checksum, link, name_of, padded};
use crate::Position;
use crate::wire::{Malformed, Read, Reader};
use alloc::vec::Vec;
use core::convert::Infallible;

/// Bytes that are read at once; a longer batch is read whole. In whole sectors.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Where a log's segments are read from, the oldest first.
pub trait Source {
    /// Why one cannot be read.
    type Error;

    /// How many there are.
    fn count(&self) -> usize;

    /// How long one is, in bytes; 0 where there is none.
    fn length(&self, segment: usize) -> usize;

    /// Fills `into` with the bytes from a place on, which end where the segment does or before.
    fn read(&mut self, place: End, into: &mut [u8]) -> Result<(), Self::Error>;
}

/// Segments in memory.
impl Source for &[&[u8]] {
    type Error = Infallible;

    fn count(&self) -> usize {
        self.len()
    }

    fn length(&self, segment: usize) -> usize {
        self.get(segment).map_or(0, |bytes| bytes.len())
    }

    fn read(&mut self, place: End, into: &mut [u8]) -> Result<(), Infallible> {
        let segment = self.get(place.segment).copied().unwrap_or_default();
        if let Some(bytes) = segment.get(place.offset..place.offset + into.len()) {
            into.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// Why a log cannot be recovered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverError<E> {
    /// A segment cannot be read.
    Read(E),
    /// Bytes that had been synced are no longer there.
    Corrupt(Corruption),
}

/// Why the records of a recovered log cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplayError<E> {
    /// A segment cannot be read.
    Read(E),
    /// At this place the log is not what it was when it was recovered.
    Changed(End),
}

/// Finds out where the good log ends. The oldest segments may have been dropped: the first batch
/// names the position and the chain that it starts with.
///
/// # Errors
/// A segment cannot be read; or something that had been synced is missing.
pub fn recover<S: Source>(source: &mut S) -> Result<Recovered, RecoverError<S::Error>> {
    match recover_trusted(source, None)? {
        (log, None) => Ok(log),
        (_, Some(corruption)) => Err(RecoverError::Corrupt(corruption)),
    }
}

/// The same, for a node whose peers can repair it: what is in front of the damage, and the damage,
/// if there is any. `trusted` is the last record that is known to have been synced, where what
/// comes after it cannot be trusted, whatever it looks like: it is left out.
///
/// # Errors
/// A segment cannot be read; nothing is in front of the damage; or this program does not know the
/// log's version.
pub fn recover_trusted<S: Source>(
    source: &mut S,
    trusted: Option<Position>,
) -> Result<(Recovered, Option<Corruption>), RecoverError<S::Error>> {
    let up_to = trusted.unwrap_or(Position(u64::MAX));
    let mut log = Recovered::empty();
    let mut window = Window::new(source);
    // Up to where each segment was read.
    let mut read = Vec::new();
    for segment in 0..window.source.count() {
        let mut here = End { segment, offset: 0 };
        log.starts.push(log.next);
        while log.next <= up_to
            && let Some((header, batch)) = window.continuation(here, log.next, log.chain)?
        {
            let Ok(crc) = check(&header, batch) else { break };
            if here.offset == 0
                && let Some(start) = log.starts.last_mut()
            {
                *start = header.first;
            }
            log.first.get_or_insert(header.first);
            log.next = header.next();
            log.chain = link(header.chain, crc);
            here.offset += padded(batch.len());
            log.end = here;
        }
        read.push(here.offset);
        if here.offset == 0 {
            // No segment is left out: what would go on in a later one went astray (F44), and what
            // is here may prove it.
            break;
        }
    }
    log.starts.truncate(log.end.segment + 1);
    let proven_durable = window.look_behind(&read, &mut log).map_err(RecoverError::Read)?;
    let proven_durable = trusted.unwrap_or(proven_durable);
    if proven_durable < log.next {
        return Ok((log, None));
    }
    let End { segment, offset } = window.suspect(log.end).map_err(RecoverError::Read)?;
    let missing = log.next;
    let corruption = Corruption { segment, offset, missing, proven_durable, unknown_version: None };
    match log.first {
        Some(_) => Ok((log, Some(corruption))),
        None => Err(RecoverError::Corrupt(corruption)),
    }
}

/// The records of a log, a second time from its segments.
pub struct Replay<'a, S> {
    window: Window<'a, S>,
    log: &'a Recovered,
    /// Where the next batch is, what it starts with, and what it is chained to.
    here: End,
    next: Position,
    chain: u64,
}

/// The records of one batch, whose checksum is right.
pub struct Batch<'a> {
    /// Where it begins.
    pub place: End,
    /// All of it, but for what fills its last sector.
    pub bytes: &'a [u8],
    records: Reader<'a>,
    next: Position,
}

impl<'a, S: Source> Replay<'a, S> {
    /// Of the segments that `log` was recovered from.
    pub fn new(source: &'a mut S, log: &'a Recovered) -> Replay<'a, S> {
        let next = log.first.unwrap_or(log.next);
        Replay { window: Window::new(source), log, here: End::default(), next, chain: 0 }
    }

    /// The next batch, and `None` behind the last one.
    ///
    /// # Errors
    /// A segment cannot be read, or the log is not what was recovered.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>, ReplayError<S::Error>> {
        let log = self.log;
        if self.here == log.end {
            let is_same = (self.next, self.chain) == (log.next, log.chain);
            return if is_same { Ok(None) } else { Err(ReplayError::Changed(self.here)) };
        }
        let segment = self.here.segment + 1;
        if segment <= log.end.segment && log.starts.get(segment) == Some(&self.next) {
            self.here = End { segment, offset: 0 };
        }
        let place = self.here;
        let changed = Err(ReplayError::Changed(place));
        let (header, batch) = match self.window.continuation(place, self.next, self.chain) {
            Ok(Some((header, batch))) if header.first == self.next => (header, batch),
            Err(RecoverError::Read(error)) => return Err(ReplayError::Read(error)),
            Ok(_) | Err(RecoverError::Corrupt(_)) => return changed,
        };
        let Ok(crc) = check(&header, batch) else { return changed };
        (self.next, self.chain) = (header.next(), link(header.chain, crc));
        self.here.offset += padded(batch.len());
        let records = batch.get(HEADER_BYTES..batch.len() - CRC_BYTES).unwrap_or_default();
        let (records, next) = (Reader(records), header.first);
        Ok(Some(Batch { place, bytes: batch, records, next }))
    }

    /// How many bytes of the log are in memory at most, up to now.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.window.bytes.capacity()
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = (Position, &'a [u8]);

    fn next(&mut self) -> Option<(Position, &'a [u8])> {
        let record = self.records.bytes().ok()?;
        let position = self.next;
        self.next = Position(position.0 + 1);
        Some((position, record))
    }
}

/// The checksum of a batch if that and the records' lengths are right.
fn check(header: &Header, batch: &[u8]) -> Read<u32> {
    let records_end = batch.len().checked_sub(CRC_BYTES).ok_or(Malformed)?;
    let (body, crc) = batch.split_at_checked(records_end).ok_or(Malformed)?;
    let (head, records) = body.split_at_checked(HEADER_BYTES).ok_or(Malformed)?;
    let crc = Reader(crc).u32()?;
    if checksum(head, records) != crc {
        return Err(Malformed);
    }
    let mut reader = Reader(records);
    for _ in 0..header.count {
        reader.bytes()?;
    }
    reader.finish()?;
    Ok(crc)
}

/// A batch that continues the log, if there is one.
type Found<'a> = Option<(Header, &'a [u8])>;

/// A part of a segment, in memory.
struct Window<'a, S> {
    source: &'a mut S,
    place: End,
    bytes: Vec<u8>,
}

impl<'a, S: Source> Window<'a, S> {
    fn new(source: &'a mut S) -> Window<'a, S> {
        Window { source, place: End::default(), bytes: Vec::new() }
    }

    /// So many bytes from a place on; `None` where the segment ends before.
    fn get(&mut self, place: End, length: usize) -> Result<Option<&[u8]>, S::Error> {
        let left = self.source.length(place.segment).saturating_sub(place.offset);
        if length > left {
            return Ok(None);
        }
        let is_here = place.segment == self.place.segment;
        let passed = place.offset.checked_sub(self.place.offset).filter(|_| is_here);
        match passed.filter(|passed| *passed <= self.bytes.len()) {
            Some(passed) if self.bytes.len() - passed >= length => {
                return Ok(self.bytes.get(passed..passed + length));
            }
            Some(passed) => drop(self.bytes.drain(..passed)),
            None => self.bytes.clear(),
        }
        self.place = place;
        let held = self.bytes.len();
        let wanted = length.max(CHUNK_BYTES).min(left);
        // A long batch's memory is not kept for the short ones behind it.
        self.bytes.shrink_to(wanted.max(CHUNK_BYTES));
        self.bytes.reserve_exact(wanted - held);
        self.bytes.resize(wanted, 0);
        let from = End { segment: place.segment, offset: place.offset + held };
        if let Err(error) = self.source.read(from, self.bytes.get_mut(held..).unwrap_or_default()) {
            self.bytes.truncate(held);
            return Err(error);
        }
        Ok(self.bytes.get(..length))
    }

    /// The header and the bytes of the batch at a place, if it is the next one of the log. Only at
    /// the start of all may a batch start wherever it says.
    fn continuation(
        &mut self,
        place: End,
        next: Position,
        chain: u64,
    ) -> Result<Found<'_>, RecoverError<S::Error>> {
        let Some(head) = self.get(place, HEADER_BYTES).map_err(RecoverError::Read)? else {
            return Ok(None);
        };
        let Ok((version, header)) = Header::decode(head) else { return Ok(None) };
        let follows = header.first == next && header.chain == chain;
        if !follows && place != End::default() {
            return Ok(None);
        }
        if version != VERSION {
            let End { segment, offset } = place;
            let (missing, proven_durable) = (header.first, header.durable);
            let unknown_version = Some(version);
            return Err(RecoverError::Corrupt(Corruption {
                segment,
                offset,
                missing,
                proven_durable,
                unknown_version,
            }));
        }
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let batch = self.get(place, length).map_err(RecoverError::Read)?;
        Ok(batch.map(|batch| (header, batch)))
    }

    /// Looks at every sector behind the log's end, and behind what was read of earlier segments, as
    /// a batch may have gone astray to the very start of a later one: notes the leftovers, and
    /// returns the highest `durable` of all batches of this log there whose position is above the
    /// missing one. Where the log's name is unknown because its start is bad, any will do.
    fn look_behind(&mut self, read: &[usize], log: &mut Recovered) -> Result<Position, S::Error> {
        let (missing, name) = (log.next, name_of(log.chain));
        let mut highest = Position(0);
        for segment in 0..self.source.count() {
            let from = read.get(segment).copied().unwrap_or(0);
            for offset in (from..self.source.length(segment)).step_by(SECTOR_BYTES) {
                let place = End { segment, offset };
                let Some(head) = self.get(place, HEADER_BYTES)? else { continue };
                let Ok((version, header)) = Header::decode(head) else { continue };
                if header.first < missing || (name != 0 && name_of(header.chain) != name) {
                    continue;
                }
                log.leftovers.push(place);
                if header.first > missing && version == VERSION {
                    highest = highest.max(header.durable);
                }
            }
        }
        Ok(highest)
    }

    /// Where the damage is: at the log's end, or, where only zeros follow it there, at the start of
    /// the next segment.
    fn suspect(&mut self, end: End) -> Result<End, S::Error> {
        let next = End { segment: end.segment + 1, offset: 0 };
        if next.segment >= self.source.count() {
            return Ok(end);
        }
        let length = self.source.length(end.segment);
        for offset in (end.offset..length).step_by(SECTOR_BYTES) {
            let place = End { segment: end.segment, offset };
            let sector = self.get(place, SECTOR_BYTES.min(length - offset))?.unwrap_or_default();
            if sector.iter().any(|byte| *byte != 0) {
                return Ok(end);
            }
        }
        Ok(next)
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
