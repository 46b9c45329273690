//! The bytes of a node's log: batches of records, one after another, in segments. No files here:
//! the server writes the bytes to disk, the simulator keeps them in memory.
//!
//! A batch holds what was appended between two writes. All numbers are little-endian.
//!
//! | offset     | bytes | what                                                                   |
//! |------------|-------|------------------------------------------------------------------------|
//! | 0          | 4     | magic `TFLB`                                                           |
//! | 4          | 2     | version, 1                                                             |
//! | 6          | 2     | 0                                                                      |
//! | 8          | 8     | length of the whole batch in bytes, header and checksum included       |
//! | 16         | 8     | position of the first record                                           |
//! | 24         | 8     | `durable`: a position known to be on disk when the batch was written   |
//! | 32         | 4     | how many records, at least 1                                           |
//! | 36         | 8     | `chain`: below, the batch before's checksum; above, the log's name     |
//! | 44         | 4     | CRC32 (IEEE) of bytes 0..44                                            |
//! | 48         |       | the records, each as its length (4 bytes) and its bytes                |
//! | length - 4 | 4     | the batch's checksum: CRC32 of bytes 0..44 and 48..length - 4          |
//!
//! The chain of the very first batch is 0, and its checksum is the log's name from then on. As that
//! batch holds the disk's random number, no client can make up a value that looks like a header
//! of this log: such values lie about behind the log's end when segments are recycled.
//!
//! Bytes 44..48 stay out of the batch's checksum on purpose: the CRC of bytes that end with their
//! own CRC is a constant, and then neither position nor chain would matter to it.
//!
//! A batch starts where a sector does, and zeros fill its last one: a sector that holds synced
//! bytes is never written with others, so a write that tears cannot hurt what is in front of it,
//! also where whole blocks are written and the last one's first sectors with it once more.
//!
//! A batch never spans two segments. Behind a segment's last batch there may be anything: zeros of
//! a preallocated file, batches of the segment's former life, the torn end of an earlier crash.
//! What follows must follow in position and chain, so none of that is taken for the log. Batches of
//! a former life have lower positions, and nothing is proven by them. Only batches that a crash has
//! left behind a hole have positions that are given again: [`Recovered::leftovers`] names them,
//! and they are blanked before anything new is written.
//!
//! **Torn end or corruption.** A crash may lose any part of what was not synced, and only that. So
//! where the first bad batch is, the log ends, unless something behind it proves that the missing
//! position had been on disk: a batch whose header is right, whose position is higher and whose
//! `durable` is not below the missing position. Then synced bytes were lost, and cutting there
//! would lose acknowledged writes silently: recovery refuses. Only headers with this log's name
//! prove.
//!
//! The newest batch, if its synced bytes were lost, cannot be told from a torn one: a later batch
//! is needed to tell. So a log that comes to rest gets one, in which nothing is (`idle_mark.rs`).

mod recovery;

pub use recovery::{
    Batch, CHUNK_BYTES, RecoverError, Replay, ReplayError, Source, recover, recover_trusted,
};

use crate::Position;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

const MAGIC: &[u8; 4] = b"TFLB";
const VERSION: u16 = 1;
/// Where the header's checksum stands.
const HEADER_CRC_AT: usize = 44;
const HEADER_BYTES: usize = 48;
const CRC_BYTES: usize = 4;
/// What a disk keeps or loses as one, and what a batch starts with.
pub const SECTOR_BYTES: usize = 512;
/// The length before a record.
const RECORD_HEAD_BYTES: usize = 4;

/// Gathers records into batches.
#[derive(Clone, Debug)]
pub struct LogWriter {
    next: Position,
    chain: u64,
    /// The open batch, its header still blank, behind whatever the driver has put in front of it.
    buffer: Vec<u8>,
    /// Where in the buffer it begins.
    start: usize,
    count: u32,
}

/// A batch that is ready to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Its first record.
    pub first: Position,
    /// Its last record.
    pub last: Position,
    /// Where its bytes are in the buffer.
    pub bytes: Range<usize>,
}

impl LogWriter {
    /// A writer that goes on where recovery has ended; `Position(1)` and 0 for a new log.
    pub fn new(next: Position, chain: u64) -> LogWriter {
        LogWriter { next, chain, buffer: Vec::new(), start: 0, count: 0 }
    }

    /// Adds a record to the open batch and returns its position.
    pub fn append(&mut self, record: &[u8]) -> Position {
        self.append_parts(record, &[])
    }

    /// The same for a record that begins with `head` and goes on with `rest`.
    pub fn append_parts(&mut self, head: &[u8], rest: &[u8]) -> Position {
        if self.count == 0 {
            self.start = self.buffer.len();
            self.buffer.resize(self.start + HEADER_BYTES, 0);
        }
        self.buffer.reserve(RECORD_HEAD_BYTES + head.len() + rest.len());
        let length = u32::try_from(head.len() + rest.len()).unwrap_or(u32::MAX);
        Writer(&mut self.buffer).u32(length);
        self.buffer.extend_from_slice(head);
        self.buffer.extend_from_slice(rest);
        self.count += 1;
        let position = self.next;
        self.next = Position(position.0 + 1);
        position
    }

    /// Whether there are records that no sealed batch holds.
    pub fn pending(&self) -> bool {
        self.count > 0
    }

    /// How much the open batch would add, in bytes of whole sectors; 0 without records.
    pub fn pending_bytes(&self) -> usize {
        padded(self.length())
    }

    fn length(&self) -> usize {
        if self.pending() { self.buffer.len() - self.start + CRC_BYTES } else { 0 }
    }

    /// The newest record, be it sealed or not; `Position(0)` in an empty log.
    pub fn last(&self) -> Position {
        Position(self.next.0.saturating_sub(1))
    }

    /// What the next batch will be chained to: the log's name and the last batch's checksum.
    pub fn chain(&self) -> u64 {
        self.chain
    }

    /// The buffer that batches are gathered in, for a driver that wants them in memory of its own
    /// and with something in front of them. Not to be changed up to the end of an open batch, but
    /// for what is in front of it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Forgets so many bytes of the buffer's, from an index on, which are all in front of the open
    /// batch.
    pub fn drop_in_front(&mut self, from: usize, bytes: usize) {
        self.buffer.drain(from..from + bytes);
        self.start = self.start.saturating_sub(bytes);
    }

    /// Closes the open batch where it lies in the buffer, in whole sectors. `durable` is the
    /// highest position that is known to be on disk now. Nothing happens where there is no record.
    pub fn seal_here(&mut self, durable: Position) -> Option<Sealed> {
        if !self.pending() {
            return None;
        }
        let first = Position(self.next.0 - u64::from(self.count));
        let header = Header {
            length: self.length() as u64,
            first,
            durable: durable.min(Position(first.0 - 1)),
            count: self.count,
            chain: self.chain,
        };
        let start = self.start;
        let batch = self.buffer.get_mut(start..).unwrap_or_default();
        let (head, records) = batch.split_at_mut_checked(HEADER_BYTES).unwrap_or_default();
        head.copy_from_slice(&header.encode());
        let crc = checksum(head, records);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        let bytes = padded(self.buffer.len() - start);
        self.buffer.resize(start + bytes, 0);
        self.chain = link(self.chain, crc);
        self.count = 0;
        Some(Sealed { first, last: self.last(), bytes: start..start + bytes })
    }

    /// The same for a driver that puts nothing in front of batches: adds the closed batch to `out`.
    /// If that is empty, its memory is used for the next batch, and nothing is copied.
    pub fn seal(&mut self, durable: Position, out: &mut Vec<u8>) -> Option<Sealed> {
        let sealed = self.seal_here(durable)?;
        if out.is_empty() && sealed.bytes.start == 0 {
            core::mem::swap(&mut self.buffer, out);
            return Some(sealed);
        }
        let start = out.len();
        out.extend_from_slice(self.buffer.get(sealed.bytes.clone()).unwrap_or_default());
        self.buffer.truncate(sealed.bytes.start);
        Some(Sealed { bytes: start..out.len(), ..sealed })
    }
}

/// What a log holds, but for its records: see [`Replay`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The first record, if there is any.
    pub first: Option<Position>,
    /// Where the good log ends and the next batch belongs: at a sector's start, and behind the
    /// last byte that was given if that sector is cut off. What is before it is to be synced before
    /// anything new is written or said.
    pub end: End,
    /// The first record of each segment up to the end's.
    pub starts: Vec<Position>,
    /// Where, behind the end, a sector starts with a header of this log whose position is given
    /// again: it is to be blanked before anything new is written.
    pub leftovers: Vec<End>,
    /// The position of the next record, for [`LogWriter::new`].
    pub next: Position,
    /// The log's name and the last batch's checksum, for [`LogWriter::new`].
    pub chain: u64,
}

impl Recovered {
    fn empty() -> Recovered {
        let (starts, leftovers) = (Vec::new(), Vec::new());
        let (end, next) = (End::default(), Position(1));
        Recovered { first: None, end, starts, leftovers, next, chain: 0 }
    }
}

/// A place in a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct End {
    /// The segment's number among those that were given, from 0.
    pub segment: usize,
    /// Bytes from the segment's start.
    pub offset: usize,
}

/// Why a log cannot be used: bytes that had been synced are no longer there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// The damaged segment's number among those that were given, from 0.
    pub segment: usize,
    /// Where the first bad batch starts in it, in bytes.
    pub offset: usize,
    /// The first record that is missing; `Position(1)` where the log's start is.
    pub missing: Position,
    /// The highest position that is proven to have been on disk.
    pub proven_durable: Position,
    /// The batch there is whole, but of this version, which this program does not know.
    pub unknown_version: Option<u16>,
}

/// So many bytes in whole sectors.
fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(SECTOR_BYTES)
}

/// The log's name in a chain; 0 in that of the very first batch.
fn name_of(chain: u64) -> u64 {
    chain >> u32::BITS
}

/// The chain behind a batch with this chain and this checksum.
fn link(chain: u64, crc: u32) -> u64 {
    let name = if name_of(chain) == 0 { u64::from(crc) } else { name_of(chain) };
    name << u32::BITS | u64::from(crc)
}

/// The batch's checksum: over the header without its own checksum, and the records.
fn checksum(head: &[u8], records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head.get(..HEADER_CRC_AT).unwrap_or(head));
    hasher.update(records);
    hasher.finalize()
}

struct Header {
    length: u64,
    first: Position,
    durable: Position,
    count: u32,
    chain: u64,
}

impl Header {
    /// The first record of the batch behind.
    fn next(&self) -> Position {
        Position(self.first.0 + u64::from(self.count))
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        // Two bytes of it are 0.
        bytes[4..8].copy_from_slice(&u32::from(VERSION).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.count.to_le_bytes());
        bytes[36..HEADER_CRC_AT].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header and its version; an error where it is not one that a writer has written.
    fn decode(bytes: &[u8]) -> Read<(u16, Header)> {
        let mut r = Reader(bytes.get(..HEADER_BYTES).ok_or(Malformed)?);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(Malformed);
        }
        let (version, _) = (r.u16()?, r.u16()?);
        let header = Header {
            length: r.u64()?,
            first: Position(r.u64()?),
            durable: Position(r.u64()?),
            count: r.u32()?,
            chain: r.u64()?,
        };
        let head = bytes.get(..HEADER_CRC_AT).ok_or(Malformed)?;
        let shortest = HEADER_BYTES + CRC_BYTES + RECORD_HEAD_BYTES;
        let can_be = crc32fast::hash(head) == r.u32()?
            && header.count > 0
            && header.length >= shortest as u64
            && header.durable < header.first
            && header.first.0.checked_add(u64::from(header.count)).is_some();
        if can_be { Ok((version, header)) } else { Err(Malformed) }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corruption { segment, offset, missing, proven_durable, unknown_version } = self;
        if let Some(version) = unknown_version {
            return write!(
                f,
                "the log's segment {segment} has at byte {offset} a batch of version {version}, \
                 this program knows version {VERSION}: start the program that wrote it"
            );
        }
        write!(
            f,
            "the log is damaged in segment {segment} at byte {offset}: record {} is missing or \
             unreadable, but records up to {} had been on disk. Nothing was changed. Restore the \
             segment from a copy; or move the data directory away and start the node with an empty \
             one, then it is filled from its peers",
            missing.0, proven_durable.0
        )
    }
}

impl core::error::Error for Corruption {}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "log_recycled_tests.rs"]
mod recycled_tests;
