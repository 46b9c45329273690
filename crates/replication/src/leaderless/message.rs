//! What the nodes of this model say to each other.
//!
//! A coordinator's questions carry the number of its operation; answers echo it. Questions and
//! answers about single keys travel as parts of a batch (`parts.rs`): all that one turn has to say
//! to one peer. The rest is rare.

use super::parts::{Part, record};
use crate::storage::record::Record;
use crate::version::Stamp;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{GroupId, KeyspaceId};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

/// A message of this model.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// Questions and answers of a coordinator and a replica, about single keys.
    Batch {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Its groups' generation.
        generation: u8,
        /// One after another.
        parts: Parts<'a>,
    },
    /// A coordinator asks a replica to delete all keys that it holds.
    Flush {
        /// The coordinator's number for it.
        operation: u64,
        /// The group.
        group: GroupId,
        /// Only what is not newer: a repeated message deletes nothing that came after the first.
        before: Stamp,
    },
    /// The replica has deleted them, by quorum writes.
    FlushAnswer {
        /// The flush's.
        operation: u64,
        /// The group.
        group: GroupId,
        /// How many of the deletes missed their quorum.
        missed: u64,
    },
    /// A replica whose disk was emptied asks for a page of what another holds.
    Fetch {
        /// The asker's number for it.
        operation: u64,
        /// The group.
        group: GroupId,
        /// Where the page starts.
        from: Place,
    },
    /// A page of records.
    Fetched {
        /// The fetch's.
        operation: u64,
        /// The group.
        group: GroupId,
        /// Keys and their records, tombstones too.
        records: Vec<(Cow<'a, [u8]>, Record<'a>)>,
        /// Where the next page starts; `None` after the last one.
        next: Option<Place>,
    },
}

/// The parts of a batch, encoded. What is malformed in them shows when it is read.
#[derive(Clone, PartialEq)]
pub struct Parts<'a>(pub Cow<'a, [u8]>);

impl Parts<'_> {
    /// The parts in order, up to the first that is malformed.
    pub fn iter(&self) -> impl Iterator<Item = Read<Part<'_>>> {
        let mut r = Reader(&self.0);
        core::iter::from_fn(move || {
            if r.is_empty() {
                return None;
            }
            let part = Part::decode(&mut r);
            if part.is_err() {
                r = Reader(&[]);
            }
            Some(part)
        })
    }
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A place in a partition: a slot, and a hash inside of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The slot.
    pub slot: u16,
    /// The hash from which on.
    pub hash: u64,
}

impl<'a> Message<'a> {
    /// The keyspace that it is about.
    pub fn keyspace(&self) -> KeyspaceId {
        match self {
            Message::Batch { keyspace, .. } => *keyspace,
            Message::Flush { group, .. }
            | Message::FlushAnswer { group, .. }
            | Message::Fetch { group, .. }
            | Message::Fetched { group, .. } => group.keyspace,
        }
    }

    /// Writes the message.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Message::Batch { keyspace, generation, parts } => {
                w.u8(0);
                w.u32(keyspace.0);
                w.u8(*generation);
                w.0.extend_from_slice(&parts.0);
            }
            Message::Flush { operation, group, before } => {
                head(w, 1, *operation, *group);
                w.u64(before.0);
            }
            Message::FlushAnswer { operation, group, missed } => {
                head(w, 2, *operation, *group);
                w.u64(*missed);
            }
            Message::Fetch { operation, group, from } => {
                head(w, 3, *operation, *group);
                place(w, *from);
            }
            Message::Fetched { operation, group, records, next } => {
                head(w, 4, *operation, *group);
                w.u32(records.len() as u32);
                for (key, record) in records {
                    w.bytes(key);
                    w.record(record);
                }
                w.bool(next.is_some());
                if let Some(next) = next {
                    place(w, *next);
                }
            }
        }
    }

    /// Reads a message: a batch is all that is left of the bytes.
    pub fn decode(r: &mut Reader<'a>) -> Read<Message<'a>> {
        let kind = r.u8()?;
        if kind == 0 {
            let (keyspace, generation) = (KeyspaceId(r.u32()?), r.u8()?);
            let parts = Parts(Cow::Borrowed(core::mem::take(&mut r.0)));
            return Ok(Message::Batch { keyspace, generation, parts });
        }
        let (operation, group) = (r.u64()?, r.group()?);
        Ok(match kind {
            1 => Message::Flush { operation, group, before: Stamp(r.u64()?) },
            2 => Message::FlushAnswer { operation, group, missed: r.u64()? },
            3 => Message::Fetch { operation, group, from: read_place(r)? },
            4 => {
                let mut records = Vec::new();
                for _ in 0..r.u32()? {
                    records.push((Cow::Borrowed(r.bytes()?), record(r)?));
                }
                let next = if r.bool()? { Some(read_place(r)?) } else { None };
                Message::Fetched { operation, group, records, next }
            }
            _ => return Err(Malformed),
        })
    }
}

fn head(w: &mut Writer<'_>, kind: u8, operation: u64, group: GroupId) {
    w.u8(kind);
    w.u64(operation);
    w.group(group);
}

fn place(w: &mut Writer<'_>, place: Place) {
    w.u16(place.slot);
    w.u64(place.hash);
}

fn read_place(r: &mut Reader<'_>) -> Read<Place> {
    Ok(Place { slot: r.u16()?, hash: r.u64()? })
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
