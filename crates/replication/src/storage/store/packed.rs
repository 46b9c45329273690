//! A key and its record in one run of bytes: one allocation for each key.
//!
//! What is as usual is not written: a record of a leader-follower keyspace without a deadline has
//! 20 bytes besides its key and its value. Numbers are little-endian and not aligned.
//!
//! ```text
//! flags 1 | key's length 1 or 4 | key | stamp 8 | counter 8 | actor 2 or 8
//!   [| expiry stamp 8] [| deadline 8] [| number of slots 4 | slots of 32] [| value]
//! ```

use crate::storage::record::{Increment, Record, Value};
use crate::version::{Dot, Stamp};
use crate::wire::{Malformed, Read, Reader};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The key's length takes four bytes.
const LONG_KEY: u8 = 1 << 0;
/// The actor takes eight bytes.
const LONG_ACTOR: u8 = 1 << 1;
/// The deadline was not set when the base was written.
const EXPIRY_STAMP: u8 = 1 << 2;
/// There is a deadline.
const DEADLINE: u8 = 1 << 3;
/// There are increments.
const INCREMENTS: u8 = 1 << 4;
/// There is a value: what is left of the bytes.
const STRING: u8 = 1 << 5;

const INCREMENT_BYTES: usize = 32;

/// What bytes that nobody has packed would be.
const NOTHING: Record<'static> = Record {
    stamp: Stamp::ZERO,
    dot: Dot { actor: 0, counter: 0 },
    value: Value::Absent,
    expiry_stamp: Stamp::ZERO,
    expires_at_ms: None,
    increments: Cow::Borrowed(&[]),
};

/// A key and its record.
#[derive(Clone)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// Puts a key and its record together.
    pub(super) fn new(key: &[u8], record: &Record<'_>) -> Packed {
        Packed::of_shape(&Shape::of(key, record), key, record)
    }

    fn of_shape(shape: &Shape, key: &[u8], record: &Record<'_>) -> Packed {
        let mut packed = Packed(vec![0; shape.length].into_boxed_slice());
        packed.write(shape.flags, key, record);
        packed
    }

    /// Puts another record in the place of this one: where both take as much room, no memory is
    /// allocated.
    #[inline]
    pub(super) fn replace(&mut self, key: &[u8], record: &Record<'_>) {
        let shape = Shape::of(key, record);
        if self.0.len() == shape.length {
            self.write(shape.flags, key, record);
        } else {
            *self = Packed::of_shape(&shape, key, record);
        }
    }

    /// The bytes, to be read by [`unpack`].
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        key_of(&self.0)
    }

    /// The record.
    #[inline]
    pub(super) fn record(&self) -> Record<'_> {
        self.unpacked().1
    }

    /// The key and the record.
    #[inline]
    pub(super) fn unpacked(&self) -> (&[u8], Record<'_>) {
        let unpacked = unpack(&self.0);
        debug_assert!(unpacked.is_ok(), "{:?}", self.0);
        unpacked.unwrap_or((&[], NOTHING))
    }

    /// Whether the record is no tombstone.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        is_live(&self.0)
    }

    /// The deadline by which the record is found to be due.
    #[inline]
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self.flags() & DEADLINE != 0 && self.is_live() {
            true => self.record().expires_at_ms,
            false => None,
        }
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    /// Fills the bytes, which are as many as it takes.
    fn write(&mut self, flags: u8, key: &[u8], record: &Record<'_>) {
        let mut w = Filler(&mut self.0);
        w.put(&[flags]);
        match flags & LONG_KEY {
            0 => w.put(&[key.len() as u8]),
            _ => w.put(&(key.len() as u32).to_le_bytes()),
        }
        w.put(key);
        w.put(&record.stamp.0.to_le_bytes());
        w.put(&record.dot.counter.to_le_bytes());
        match flags & LONG_ACTOR {
            0 => w.put(&(record.dot.actor as u16).to_le_bytes()),
            _ => w.put(&record.dot.actor.to_le_bytes()),
        }
        if flags & EXPIRY_STAMP != 0 {
            w.put(&record.expiry_stamp.0.to_le_bytes());
        }
        if let Some(deadline_ms) = record.expires_at_ms {
            w.put(&deadline_ms.to_le_bytes());
        }
        if flags & INCREMENTS != 0 {
            w.put(&(record.increments.len() as u32).to_le_bytes());
        }
        for increment in &*record.increments {
            w.put(&increment.actor.to_le_bytes());
            w.put(&increment.count.to_le_bytes());
            w.put(&increment.integer.to_le_bytes());
            w.put(&increment.float.to_bits().to_le_bytes());
        }
        if let Value::String(value) = &record.value {
            w.put(value);
        }
        debug_assert!(w.0.is_empty());
    }
}

/// Takes a key and its record apart.
#[inline]
pub fn unpack(bytes: &[u8]) -> Read<(&[u8], Record<'_>)> {
    let mut r = Reader(bytes);
    let (flags, key) = read_key(&mut r)?;
    let (stamp, counter) = (Stamp(r.u64()?), r.u64()?);
    let actor = if flags & LONG_ACTOR == 0 { r.u16()?.into() } else { r.u64()? };
    let expiry_stamp = if flags & EXPIRY_STAMP == 0 { stamp } else { Stamp(r.u64()?) };
    let expires_at_ms = if flags & DEADLINE == 0 { None } else { Some(r.u64()?) };
    let increments = match flags & INCREMENTS {
        0 => Cow::Borrowed(&[][..]),
        _ => Cow::Owned(read_increments(&mut r)?),
    };
    let value = match flags & STRING {
        0 => Value::Absent,
        _ => Value::String(Cow::Borrowed(r.0)),
    };
    let dot = Dot { actor, counter };
    Ok((key, Record { stamp, dot, value, expiry_stamp, expires_at_ms, increments }))
}

/// The key in bytes that [`unpack`] takes apart.
#[inline]
pub fn key_of(bytes: &[u8]) -> &[u8] {
    read_key(&mut Reader(bytes)).map_or(&[], |(_, key)| key)
}

/// Whether the record in such bytes is no tombstone.
#[inline]
pub fn is_live(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & (STRING | INCREMENTS) != 0)
}

/// A number for what a record is, given its bytes as they lie in memory: the same for the same
/// record of the same key on every node, and most likely no other record's. Of the value only the
/// length is looked at: stamp and dot name it.
#[inline]
pub fn digest(bytes: &[u8]) -> u64 {
    let mut r = Reader(bytes);
    let flags = read_key(&mut r).map_or(0, |(flags, _)| flags & !LONG_KEY);
    let mut length = 8 + 8 + if flags & LONG_ACTOR == 0 { 2 } else { 8 };
    if flags & (EXPIRY_STAMP | DEADLINE | INCREMENTS) != 0 {
        length += if flags & EXPIRY_STAMP == 0 { 0 } else { 8 };
        length += if flags & DEADLINE == 0 { 0 } else { 8 };
        if flags & INCREMENTS != 0 {
            let count = Reader(r.0.get(length..).unwrap_or_default()).u32().unwrap_or(0);
            length += 4 + (count as usize).saturating_mul(INCREMENT_BYTES);
        }
    }
    let value_bytes = r.0.len().saturating_sub(length) as u64;
    let named = r.0.get(..length).unwrap_or(r.0);
    xxh3_64_with_seed(named, value_bytes << u8::BITS | u64::from(flags))
}

/// [`digest`] of a record that lies elsewhere. Copies it.
pub fn digest_of(record: &Record<'_>) -> u64 {
    digest(Packed::new(&[], record).bytes())
}

/// The flags and the key.
#[inline]
fn read_key<'a>(r: &mut Reader<'a>) -> Read<(u8, &'a [u8])> {
    let flags = r.u8()?;
    let length = if flags & LONG_KEY == 0 { r.u8()?.into() } else { r.u32()? };
    Ok((flags, r.take(length as usize)?))
}

fn read_increments(r: &mut Reader<'_>) -> Read<Vec<Increment>> {
    let count = r.u32()? as usize;
    let bytes = r.take(count.checked_mul(INCREMENT_BYTES).ok_or(Malformed)?)?;
    let mut r = Reader(bytes);
    let mut increments = Vec::with_capacity(count);
    for _ in 0..count {
        increments.push(Increment {
            actor: r.u64()?,
            count: r.u64()?,
            integer: r.u64()? as i64,
            float: f64::from_bits(r.u64()?),
        });
    }
    Ok(increments)
}

/// What of a record is written, and how many bytes that takes.
struct Shape {
    flags: u8,
    length: usize,
}

impl Shape {
    #[inline]
    fn of(key: &[u8], record: &Record<'_>) -> Shape {
        let (mut flags, mut length) = (0, 1 + 1 + key.len() + 8 + 8 + 2);
        let mut add = |is_written: bool, flag: u8, bytes: usize| {
            if is_written {
                flags |= flag;
                length += bytes;
            }
        };
        add(key.len() > usize::from(u8::MAX), LONG_KEY, 3);
        add(record.dot.actor > u64::from(u16::MAX), LONG_ACTOR, 6);
        add(record.expiry_stamp != record.stamp, EXPIRY_STAMP, 8);
        add(record.expires_at_ms.is_some(), DEADLINE, 8);
        let slots = record.increments.len();
        add(slots > 0, INCREMENTS, 4 + slots * INCREMENT_BYTES);
        if let Value::String(value) = &record.value {
            add(true, STRING, value.len());
        }
        Shape { flags, length }
    }
}

/// Fills a buffer from the front.
struct Filler<'a>(&'a mut [u8]);

impl Filler<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if let Some((head, tail)) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            head.copy_from_slice(bytes);
            self.0 = tail;
        }
    }
}
