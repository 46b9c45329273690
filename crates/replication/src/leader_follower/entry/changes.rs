//! What an entry changes: a whole record for each key.
//!
//! Mostly a record has its name, dot and stamp, from the entry that wrote it ([`Entry::name`]):
//! then it is not written a second time.

use crate::data::Name;
use crate::storage::record::{Record, Value};
use crate::storage::store::Hashes;
use crate::version::Stamp;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::vec::{self, Vec};
use core::ops::{Deref, DerefMut};
use core::{iter, option, slice};

/// The key is removed.
const REMOVED: u8 = 0;
/// A record with names of its own.
const RECORD: u8 = 1;
/// A string that has its names from the entry, and no deadline.
const STRING: u8 = 2;
/// The same with a deadline.
const STRING_WITH_DEADLINE: u8 = 3;

/// Bytes of a change besides its key, its value and its increments, and of an increment.
const CHANGE_BYTES: usize = 64;
const INCREMENT_BYTES: usize = 32;

/// One key's change: a whole record.
#[derive(Clone, PartialEq, Debug)]
pub struct Change<'a> {
    /// The key.
    pub key: Cow<'a, [u8]>,
    /// What is kept from now on; `None` removes the key.
    pub record: Option<Record<'a>>,
}

impl<'a> Change<'a> {
    /// No fewer bytes than the change has.
    pub(super) fn room(&self) -> usize {
        let record = self.record.as_ref().map_or(0, |record| {
            let value = match &record.value {
                Value::Absent => 0,
                Value::String(bytes) => bytes.len(),
            };
            value + INCREMENT_BYTES * record.increments.len()
        });
        CHANGE_BYTES + self.key.len() + record
    }

    /// Writes the change of an entry that gives this name.
    pub(super) fn encode(&self, name: Name, w: &mut Writer<'_>) {
        w.short_bytes(&self.key);
        let Some(record) = &self.record else { return w.u8(REMOVED) };
        match (&record.value, record.expires_at_ms) {
            (Value::String(value), None) if is_named_by(record, name) => {
                w.u8(STRING);
                w.short_bytes(value);
            }
            (Value::String(value), Some(at_ms)) if is_named_by(record, name) => {
                w.u8(STRING_WITH_DEADLINE);
                w.u64(at_ms);
                w.short_bytes(value);
            }
            _ => {
                w.u8(RECORD);
                w.record(record);
            }
        }
    }

    /// Goes over what [`Change::encode`] has written.
    #[inline]
    pub(super) fn skip(r: &mut Reader<'_>) -> Read<()> {
        r.short_bytes()?;
        match r.u8()? {
            REMOVED => {}
            RECORD => drop(r.record()?),
            STRING => drop(r.short_bytes()?),
            STRING_WITH_DEADLINE => {
                r.u64()?;
                r.short_bytes()?;
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// The newest stamp in it.
    pub fn newest_stamp(&self) -> Stamp {
        self.record.as_ref().map_or(Stamp::ZERO, Record::newest_stamp)
    }

    /// Reads what [`Change::encode`] has written, in an entry that gives this name.
    #[inline]
    pub(super) fn decode(name: Name, r: &mut Reader<'a>) -> Read<Change<'a>> {
        let key = Cow::Borrowed(r.short_bytes()?);
        let record = match r.u8()? {
            REMOVED => None,
            RECORD => Some(r.record()?),
            STRING => Some(string(name, None, r.short_bytes()?)),
            STRING_WITH_DEADLINE => Some(string(name, Some(r.u64()?), r.short_bytes()?)),
            _ => return Err(Malformed),
        };
        Ok(Change { key, record })
    }
}

fn is_named_by(record: &Record<'_>, name: Name) -> bool {
    record.dot == name.dot
        && record.stamp == name.stamp
        && record.expiry_stamp == name.stamp
        && record.increments.is_empty()
}

fn string(Name { stamp, dot }: Name, expires_at_ms: Option<u64>, value: &[u8]) -> Record<'_> {
    let (value, increments) = (Value::String(Cow::Borrowed(value)), Cow::Borrowed(&[][..]));
    Record { stamp, dot, value, expiry_stamp: stamp, expires_at_ms, increments }
}

/// The changes of an entry: mostly one, which needs no list.
#[derive(Clone, Debug)]
pub enum Changes<'a> {
    /// One, with the key's hashes in the group's store where they are known already.
    One(Change<'a>, Option<Hashes>),
    /// Any number.
    Many(Vec<Change<'a>>),
}

impl PartialEq for Changes<'_> {
    fn eq(&self, other: &Changes<'_>) -> bool {
        self[..] == other[..]
    }
}

impl<'a> From<Change<'a>> for Changes<'a> {
    fn from(change: Change<'a>) -> Changes<'a> {
        Changes::One(change, None)
    }
}

impl<'a> From<Vec<Change<'a>>> for Changes<'a> {
    fn from(changes: Vec<Change<'a>>) -> Changes<'a> {
        Changes::Many(changes)
    }
}

impl<'a> FromIterator<Change<'a>> for Changes<'a> {
    fn from_iter<I: IntoIterator<Item = Change<'a>>>(changes: I) -> Changes<'a> {
        Changes::Many(changes.into_iter().collect())
    }
}

impl<'a> Changes<'a> {
    /// The hashes of the only key, where they are known.
    #[inline]
    pub fn hashes(&self) -> Option<Hashes> {
        match self {
            Changes::One(_, hashes) => *hashes,
            Changes::Many(_) => None,
        }
    }

    /// The hashes of the only key, if it is one, are these.
    #[inline]
    pub fn know(&mut self, only: Option<Hashes>) {
        if let Changes::One(_, hashes) = self {
            *hashes = only;
        }
    }

    /// The key that changes are about, as [`Changes::of_write`] reads them, if it is only one.
    pub fn only_key(bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut r = Reader(bytes);
        if r.short() == Ok(1) { r.short_bytes().ok() } else { None }
    }

    /// Reads the changes of a write of this name, as its entry has them: see [`super::Shared`].
    pub fn of_write(name: Name, bytes: &'a [u8]) -> Read<Changes<'a>> {
        let mut r = Reader(bytes);
        let changes = Changes::decode(name, &mut r)?;
        r.finish()?;
        Ok(changes)
    }

    /// Reads the changes of an entry that gives this name.
    #[inline]
    pub(super) fn decode(name: Name, r: &mut Reader<'a>) -> Read<Changes<'a>> {
        Ok(match r.short()? {
            1 => Changes::One(Change::decode(name, r)?, None),
            count => {
                let mut changes = Vec::new();
                for _ in 0..count {
                    changes.push(Change::decode(name, r)?);
                }
                Changes::Many(changes)
            }
        })
    }
}

impl<'a> Deref for Changes<'a> {
    type Target = [Change<'a>];

    fn deref(&self) -> &[Change<'a>] {
        match self {
            Changes::One(change, _) => slice::from_ref(change),
            Changes::Many(changes) => changes,
        }
    }
}

impl<'a> DerefMut for Changes<'a> {
    fn deref_mut(&mut self) -> &mut [Change<'a>] {
        match self {
            Changes::One(change, _) => slice::from_mut(change),
            Changes::Many(changes) => changes,
        }
    }
}

impl<'a> IntoIterator for Changes<'a> {
    type Item = Change<'a>;
    type IntoIter = iter::Chain<option::IntoIter<Change<'a>>, vec::IntoIter<Change<'a>>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Changes::One(change, _) => (Some(change), Vec::new()),
            Changes::Many(changes) => (None, changes),
        };
        one.into_iter().chain(many)
    }
}

impl<'c, 'a> IntoIterator for &'c Changes<'a> {
    type Item = &'c Change<'a>;
    type IntoIter = slice::Iter<'c, Change<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
