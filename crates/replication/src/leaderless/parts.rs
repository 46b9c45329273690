//! What a coordinator and the replicas say to each other about single keys: the parts of a batch.
//!
//! All that one turn has to say to one peer is one message, and each question or answer is a part
//! of it: encoded straight into the peer's buffer, and read where the frame lies. An answer names
//! its question by the coordinator's number alone. Every part may be lost, repeated or overtaken:
//! a write carries the whole record, so that hearing it twice is hearing it once.

use crate::storage::record::Record;
use crate::version::Stamp;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::vec::Vec;

/// A stamp beyond this (the year 6429) is nobody's clock: after it a hybrid clock would run over.
const STAMP_MAX: Stamp = Stamp(1 << 63);

const WRITE: u8 = 0;
const KEPT: u8 = 1;
const NEWER: u8 = 2;
const READ: u8 = 3;
const SAME: u8 = 4;
const NOT_READY: u8 = 5;
const MISSING: u8 = 6;
const HOLDS: u8 = 7;
const REPAIR: u8 = 8;

/// One question or answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Part<'a> {
    /// A coordinator asks a replica to keep a record.
    Write {
        /// The coordinator's number for it.
        operation: u64,
        /// The partition of the keyspace.
        partition: u16,
        /// The key and its record, whole.
        body: Body<'a>,
    },
    /// The replica has it durably.
    Kept {
        /// The write's.
        operation: u64,
    },
    /// The replica holds a newer base, which makes the write void there: this one.
    Newer {
        /// The write's.
        operation: u64,
        /// What it durably holds.
        record: Record<'a>,
    },
    /// A coordinator asks a replica for its record of a key.
    Read {
        /// The coordinator's number for it.
        operation: u64,
        /// The partition of the keyspace.
        partition: u16,
        /// The digest of what the coordinator holds; 0 where it does not know.
        digest: u64,
        /// The key.
        key: &'a [u8],
    },
    /// The replica durably holds what has the question's digest.
    Same {
        /// The read's.
        operation: u64,
    },
    /// The replica's disk was emptied and is not filled again: it does not know.
    NotReady {
        /// The read's.
        operation: u64,
    },
    /// Nothing was ever written, as far as this replica knows.
    Missing {
        /// The read's.
        operation: u64,
    },
    /// The replica durably holds something else than what was asked with: this, be it a
    /// tombstone or expired.
    Holds {
        /// The read's.
        operation: u64,
        /// Its record.
        record: Record<'a>,
    },
    /// Read repair: a newer record for a replica that answered with an older one. Not answered.
    Repair {
        /// The partition of the keyspace.
        partition: u16,
        /// The key and the merged record.
        body: Body<'a>,
    },
}

/// A key and its record, read from bytes that stand in messages and in the log alike.
#[derive(Clone, PartialEq, Debug)]
pub struct Body<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its record.
    pub record: Record<'a>,
    /// Both, as they were read.
    pub bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// Writes a key and its record.
    pub fn encode(bytes: &mut Vec<u8>, key: &[u8], record: &Record<'_>) {
        let mut w = Writer(bytes);
        w.bytes(key);
        w.record(record);
    }

    /// Reads a key and its record, of a peer: see [`Part::decode`].
    pub fn decode(r: &mut Reader<'a>) -> Read<Body<'a>> {
        let before = r.0;
        let (key, record) = (r.bytes()?, record(r)?);
        let length = before.len().saturating_sub(r.0.len());
        let bytes = before.get(..length).ok_or(Malformed)?;
        Ok(Body { key, record, bytes })
    }

    /// The same behind its length.
    fn sized(r: &mut Reader<'a>) -> Read<Body<'a>> {
        let mut r = Reader(r.bytes()?);
        let body = Body::decode(&mut r)?;
        r.finish()?;
        Ok(body)
    }
}

impl<'a> Part<'a> {
    /// Writes the part.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Part::Write { operation, partition, body } => {
                write(bytes, *operation, *partition, body.bytes);
            }
            Part::Kept { operation } => head(bytes, KEPT, *operation),
            Part::Newer { operation, record } => {
                head(bytes, NEWER, *operation);
                sized_record(bytes, record);
            }
            Part::Read { operation, partition, digest, key } => {
                head(bytes, READ, *operation);
                let mut w = Writer(bytes);
                w.u16(*partition);
                w.u64(*digest);
                w.bytes(key);
            }
            Part::Same { operation } => head(bytes, SAME, *operation),
            Part::NotReady { operation } => head(bytes, NOT_READY, *operation),
            Part::Missing { operation } => head(bytes, MISSING, *operation),
            Part::Holds { operation, record } => {
                head(bytes, HOLDS, *operation);
                sized_record(bytes, record);
            }
            Part::Repair { partition, body } => repair(bytes, *partition, body.bytes),
        }
    }

    /// Reads a part. A record from a peer must leave the clock room, and have its slots in order.
    pub fn decode(r: &mut Reader<'a>) -> Read<Part<'a>> {
        let kind = r.u8()?;
        if kind == REPAIR {
            return Ok(Part::Repair { partition: r.u16()?, body: Body::sized(r)? });
        }
        let operation = r.u64()?;
        Ok(match kind {
            WRITE => Part::Write { operation, partition: r.u16()?, body: Body::sized(r)? },
            KEPT => Part::Kept { operation },
            NEWER => Part::Newer { operation, record: read_sized_record(r)? },
            READ => {
                let (partition, digest) = (r.u16()?, r.u64()?);
                Part::Read { operation, partition, digest, key: r.bytes()? }
            }
            SAME => Part::Same { operation },
            NOT_READY => Part::NotReady { operation },
            MISSING => Part::Missing { operation },
            HOLDS => Part::Holds { operation, record: read_sized_record(r)? },
            _ => return Err(Malformed),
        })
    }

    /// Passes over a part. The partition and the key that it has the replica look up, if any.
    #[inline]
    pub fn skim(r: &mut Reader<'a>) -> Read<Option<(u16, &'a [u8])>> {
        let kind = r.u8()?;
        if kind != REPAIR {
            r.u64()?;
        }
        match kind {
            READ => {
                let (partition, _) = (r.u16()?, r.u64()?);
                Ok(Some((partition, r.bytes()?)))
            }
            WRITE | REPAIR => {
                let (partition, body) = (r.u16()?, r.bytes()?);
                Ok(Some((partition, Reader(body).bytes()?)))
            }
            NEWER | HOLDS => r.bytes().map(|_| None),
            KEPT | SAME | NOT_READY | MISSING => Ok(None),
            _ => Err(Malformed),
        }
    }
}

/// Writes [`Part::Write`], given the encoded key and record.
pub fn write(bytes: &mut Vec<u8>, operation: u64, partition: u16, body: &[u8]) {
    head(bytes, WRITE, operation);
    bytes.extend_from_slice(&partition.to_le_bytes());
    Writer(bytes).bytes(body);
}

/// Writes [`Part::Repair`], given the encoded key and record.
pub fn repair(bytes: &mut Vec<u8>, partition: u16, body: &[u8]) {
    bytes.push(REPAIR);
    bytes.extend_from_slice(&partition.to_le_bytes());
    Writer(bytes).bytes(body);
}

fn head(bytes: &mut Vec<u8>, kind: u8, operation: u64) {
    let [a, b, c, d, e, f, g, h] = operation.to_le_bytes();
    bytes.extend_from_slice(&[kind, a, b, c, d, e, f, g, h]);
}

/// Writes a record behind its length, so that it can be passed over.
fn sized_record(bytes: &mut Vec<u8>, record: &Record<'_>) {
    let mut encoded = Vec::new();
    Writer(&mut encoded).record(record);
    Writer(bytes).bytes(&encoded);
}

fn read_sized_record<'a>(r: &mut Reader<'a>) -> Read<Record<'a>> {
    let mut r = Reader(r.bytes()?);
    let record = record(&mut r)?;
    r.finish()?;
    Ok(record)
}

/// A record from a peer: its stamps must leave the clock room, its slots must be in order.
pub(super) fn record<'a>(r: &mut Reader<'a>) -> Read<Record<'a>> {
    let record = r.record()?;
    let in_order = record.increments.is_sorted_by(|a, b| a.actor < b.actor);
    let sane = record.stamp < STAMP_MAX && record.expiry_stamp < STAMP_MAX && in_order;
    if sane { Ok(record) } else { Err(Malformed) }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
pub(super) mod tests;
