//! What the nodes of this model say to each other.
//!
//! A coordinator's questions carry the number of its operation; answers echo it. Every message may
//! be lost, repeated or overtaken: a write carries the whole record, so that hearing it twice is
//! hearing it once.

use crate::GroupId;
use crate::storage::record::Record;
use crate::version::Stamp;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// A stamp beyond this (the year 6429) is nobody's clock: after it a hybrid clock would run over.
const STAMP_MAX: Stamp = Stamp(1 << 63);

/// A message of this model.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// A coordinator asks a replica to keep a record.
    Write {
        /// The coordinator's number for it.
        operation: u64,
        /// The group.
        group: GroupId,
        /// The key.
        key: Cow<'a, [u8]>,
        /// Its record, whole.
        record: Record<'a>,
    },
    /// The replica has it durably; or it holds a newer base, which makes the write void there.
    WriteAnswer {
        /// The write's.
        operation: u64,
        /// The group.
        group: GroupId,
        /// What it holds where that is newer.
        newer: Option<Record<'a>>,
    },
    /// A coordinator asks a replica for its record.
    Read {
        /// The coordinator's number for it.
        operation: u64,
        /// The group.
        group: GroupId,
        /// The key.
        key: Cow<'a, [u8]>,
    },
    /// What the replica durably holds.
    ReadAnswer {
        /// The read's.
        operation: u64,
        /// The group.
        group: GroupId,
        /// The answer.
        answer: Answer<'a>,
    },
    /// Read repair: a newer record for a replica that answered with an older one. Not answered.
    Repair {
        /// The group.
        group: GroupId,
        /// The key.
        key: Cow<'a, [u8]>,
        /// The merged record.
        record: Record<'a>,
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

/// What a replica says about a key.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer<'a> {
    /// Its disk was emptied and is not filled again: it does not know.
    NotReady,
    /// Nothing was ever written.
    Missing,
    /// This, be it a tombstone or expired.
    Holds(Record<'a>),
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
    /// The group that it is about.
    pub fn group(&self) -> GroupId {
        match self {
            Message::Write { group, .. }
            | Message::WriteAnswer { group, .. }
            | Message::Read { group, .. }
            | Message::ReadAnswer { group, .. }
            | Message::Repair { group, .. }
            | Message::Flush { group, .. }
            | Message::FlushAnswer { group, .. }
            | Message::Fetch { group, .. }
            | Message::Fetched { group, .. } => *group,
        }
    }

    /// Writes the message.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Message::Write { operation, group, key, record } => {
                head(w, 0, *operation, *group);
                w.bytes(key);
                w.record(record);
            }
            Message::WriteAnswer { operation, group, newer } => {
                head(w, 1, *operation, *group);
                w.bool(newer.is_some());
                if let Some(record) = newer {
                    w.record(record);
                }
            }
            Message::Read { operation, group, key } => {
                head(w, 2, *operation, *group);
                w.bytes(key);
            }
            Message::ReadAnswer { operation, group, answer } => {
                head(w, 3, *operation, *group);
                match answer {
                    Answer::NotReady => w.u8(0),
                    Answer::Missing => w.u8(1),
                    Answer::Holds(record) => {
                        w.u8(2);
                        w.record(record);
                    }
                }
            }
            Message::Repair { group, key, record } => {
                head(w, 4, 0, *group);
                w.bytes(key);
                w.record(record);
            }
            Message::Flush { operation, group, before } => {
                head(w, 5, *operation, *group);
                w.u64(before.0);
            }
            Message::FlushAnswer { operation, group, missed } => {
                head(w, 6, *operation, *group);
                w.u64(*missed);
            }
            Message::Fetch { operation, group, from } => {
                head(w, 7, *operation, *group);
                place(w, *from);
            }
            Message::Fetched { operation, group, records, next } => {
                head(w, 8, *operation, *group);
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

    /// Reads a message.
    pub fn decode(r: &mut Reader<'a>) -> Read<Message<'a>> {
        let (kind, operation, group) = (r.u8()?, r.u64()?, r.group()?);
        Ok(match kind {
            0 => Message::Write { operation, group, key: key(r)?, record: record(r)? },
            1 => {
                let newer = if r.bool()? { Some(record(r)?) } else { None };
                Message::WriteAnswer { operation, group, newer }
            }
            2 => Message::Read { operation, group, key: key(r)? },
            3 => {
                let answer = match r.u8()? {
                    0 => Answer::NotReady,
                    1 => Answer::Missing,
                    2 => Answer::Holds(record(r)?),
                    _ => return Err(Malformed),
                };
                Message::ReadAnswer { operation, group, answer }
            }
            4 => Message::Repair { group, key: key(r)?, record: record(r)? },
            5 => Message::Flush { operation, group, before: Stamp(r.u64()?) },
            6 => Message::FlushAnswer { operation, group, missed: r.u64()? },
            7 => Message::Fetch { operation, group, from: read_place(r)? },
            8 => {
                let mut records = Vec::new();
                for _ in 0..r.u32()? {
                    records.push((key(r)?, record(r)?));
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

fn key<'a>(r: &mut Reader<'a>) -> Read<Cow<'a, [u8]>> {
    Ok(Cow::Borrowed(r.bytes()?))
}

/// A record from a peer: its stamps must leave the clock room, its slots must be in order.
fn record<'a>(r: &mut Reader<'a>) -> Read<Record<'a>> {
    let record = r.record()?;
    let in_order = record.increments.is_sorted_by(|a, b| a.actor < b.actor);
    let sane = record.stamp < STAMP_MAX && record.expiry_stamp < STAMP_MAX && in_order;
    if sane { Ok(record) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::record::{Increment, Value};
    use crate::version::Dot;
    use crate::{DatacenterId, KeyspaceId};
    use proptest::prelude::*;

    fn groups() -> impl Strategy<Value = GroupId> {
        (any::<u32>(), any::<u8>(), any::<u16>(), any::<u8>()).prop_map(
            |(keyspace, generation, partition, datacenter)| GroupId {
                keyspace: KeyspaceId(keyspace),
                generation,
                partition,
                datacenter: DatacenterId(datacenter),
            },
        )
    }

    fn records() -> impl Strategy<Value = Record<'static>> {
        let value = prop_oneof![
            Just(Value::Absent),
            any::<Vec<u8>>().prop_map(|bytes| Value::String(bytes.into()))
        ];
        let slots = prop::collection::btree_map(any::<u64>(), (any::<u64>(), any::<i64>()), 0..4);
        let numbers = (0..STAMP_MAX.0, any::<u64>(), any::<u64>(), 0..STAMP_MAX.0);
        (numbers, value, any::<Option<u64>>(), slots).prop_map(
            |((stamp, actor, counter, expiry), value, expires_at_ms, slots)| {
                let slot = |(actor, (count, integer))| Increment {
                    actor,
                    count,
                    integer,
                    float: integer as f64 / 4.0,
                };
                Record {
                    stamp: Stamp(stamp),
                    dot: Dot { actor, counter },
                    value,
                    expiry_stamp: Stamp(expiry),
                    expires_at_ms,
                    increments: slots.into_iter().map(slot).collect(),
                }
            },
        )
    }

    fn messages() -> impl Strategy<Value = Message<'static>> {
        let keys = || any::<Vec<u8>>().prop_map(Cow::Owned);
        let places = || any::<(u16, u64)>().prop_map(|(slot, hash)| Place { slot, hash });
        let answers = prop_oneof![
            Just(Answer::NotReady),
            Just(Answer::Missing),
            records().prop_map(Answer::Holds)
        ];
        prop_oneof![
            (any::<u64>(), groups(), keys(), records()).prop_map(
                |(operation, group, key, record)| {
                    Message::Write { operation, group, key, record }
                }
            ),
            (any::<u64>(), groups(), prop::option::of(records())).prop_map(
                |(operation, group, newer)| Message::WriteAnswer { operation, group, newer }
            ),
            (any::<u64>(), groups(), keys()).prop_map(|(operation, group, key)| Message::Read {
                operation,
                group,
                key
            }),
            (any::<u64>(), groups(), answers).prop_map(|(operation, group, answer)| {
                Message::ReadAnswer { operation, group, answer }
            }),
            (groups(), keys(), records()).prop_map(|(group, key, record)| Message::Repair {
                group,
                key,
                record
            }),
            (any::<u64>(), groups(), any::<u64>()).prop_map(|(operation, group, before)| {
                Message::Flush { operation, group, before: Stamp(before) }
            }),
            (any::<u64>(), groups(), any::<u64>()).prop_map(|(operation, group, missed)| {
                Message::FlushAnswer { operation, group, missed }
            }),
            (any::<u64>(), groups(), places())
                .prop_map(|(operation, group, from)| Message::Fetch { operation, group, from }),
            (
                any::<u64>(),
                groups(),
                prop::collection::vec((keys(), records()), 0..3),
                prop::option::of(places())
            )
                .prop_map(|(operation, group, records, next)| Message::Fetched {
                    operation,
                    group,
                    records,
                    next
                }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in messages()) {
            let mut bytes = Vec::new();
            message.encode(&mut Writer(&mut bytes));
            let mut r = Reader(&bytes);
            prop_assert_eq!(Message::decode(&mut r).unwrap(), message);
            prop_assert!(r.is_empty());
        }

        #[test]
        fn a_message_cut_short_is_malformed(message in messages(), keep in 0.0..1.0f64) {
            let mut bytes = Vec::new();
            message.encode(&mut Writer(&mut bytes));
            bytes.truncate((bytes.len() as f64 * keep) as usize);
            prop_assert_eq!(Message::decode(&mut Reader(&bytes)), Err(Malformed));
        }

        #[test]
        fn junk_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = Message::decode(&mut Reader(&bytes));
        }
    }

    #[test]
    fn a_stamp_that_would_overrun_the_clock_is_malformed() {
        let group = GroupId {
            keyspace: KeyspaceId(1),
            generation: 0,
            partition: 0,
            datacenter: GroupId::EVERYWHERE,
        };
        let record = Record {
            stamp: Stamp(u64::MAX),
            dot: Dot::default(),
            value: Value::Absent,
            expiry_stamp: Stamp::ZERO,
            expires_at_ms: None,
            increments: Cow::Borrowed(&[]),
        };
        let message = Message::Repair { group, key: Cow::Borrowed(b"k"), record };
        let mut bytes = Vec::new();
        message.encode(&mut Writer(&mut bytes));
        assert_eq!(Message::decode(&mut Reader(&bytes)), Err(Malformed));
    }
}
