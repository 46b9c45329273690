//! What the leaders of the datacenters say to each other: a pull, and its two kinds of answer.

use crate::GroupId;
use crate::version::VersionVector;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::borrow::Cow;

/// A message between the groups of one keyspace and partition in two datacenters.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// From the target's leader to the source's: what have you got that I have not?
    Pull(Pull),
    /// From the source's leader: committed entries.
    Updates(Updates<'a>),
    /// From the source's leader, whose log does not reach back so far: a piece of its state.
    Page(Page<'a>),
}

/// What a leader asks of another datacenter's leader.
#[derive(Clone, PartialEq, Debug)]
pub struct Pull {
    /// The group that is asked.
    pub source: GroupId,
    /// The group that asks.
    pub target: GroupId,
    /// Drawn by the asker for each new question: an answer to an older one is none to this. A
    /// number that has come before says only how far its answer is taken.
    pub number: u64,
    /// Whether a question before was not answered any more: then it is to be answered at once.
    pub again: bool,
    /// Bytes of updates that are taken of the answer.
    pub taken_bytes: u64,
    /// What is asked for.
    pub wants: Wants,
    /// What the asker's committed state covers: this need not be sent.
    pub covered: VersionVector,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// The entries after this index of the source's log, as far as they are committed.
    After(u64),
    /// The committed records of the slots from this one on.
    Slots(u16),
}

/// Committed entries of the source.
#[derive(Clone, PartialEq, Debug)]
pub struct Updates<'a> {
    /// The group that answers.
    pub source: GroupId,
    /// The group that asked.
    pub target: GroupId,
    /// The question's number.
    pub number: u64,
    /// The part of the answer before this one ended at this index of the source's log.
    pub after: u64,
    /// Between the two, this is everything that the asker lacked.
    pub to: u64,
    /// Whether `to` is the source's commit index: there is no more for now.
    pub last: bool,
    /// What the source's committed state covers.
    pub covered: VersionVector,
    /// Updates in log order, one after another: see `sync::Update`.
    pub updates: Cow<'a, [u8]>,
}

/// A piece of the source's committed state.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<'a> {
    /// The group that answers.
    pub source: GroupId,
    /// The group that asked.
    pub target: GroupId,
    /// The question's number.
    pub number: u64,
    /// The source's commit index: what is above is not in the piece.
    pub commit: u64,
    /// What the source's committed state covers: all of it is in the piece, as far as it is about
    /// the piece's slots.
    pub covered: VersionVector,
    /// The piece's first slot.
    pub first_slot: u16,
    /// The piece's last slot.
    pub last_slot: u16,
    /// Whether that is the partition's last slot.
    pub done: bool,
    /// Key, record, key, record, ...
    pub records: Cow<'a, [u8]>,
}

impl<'a> Message<'a> {
    /// The group of the receiving node that this is for.
    pub fn to_group(&self) -> GroupId {
        match self {
            Message::Pull(pull) => pull.source,
            Message::Updates(updates) => updates.target,
            Message::Page(page) => page.target,
        }
    }

    /// The group that says it.
    pub fn from_group(&self) -> GroupId {
        match self {
            Message::Pull(pull) => pull.target,
            Message::Updates(updates) => updates.source,
            Message::Page(page) => page.source,
        }
    }

    /// Writes the message.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Message::Pull(pull) => {
                w.u8(0);
                pull.encode(w);
            }
            Message::Updates(updates) => {
                w.u8(1);
                updates.encode(w);
            }
            Message::Page(page) => {
                w.u8(2);
                page.encode(w);
            }
        }
    }

    /// Reads a message.
    pub fn decode(r: &mut Reader<'a>) -> Read<Message<'a>> {
        Ok(match r.u8()? {
            0 => Message::Pull(Pull::decode(r)?),
            1 => Message::Updates(Updates::decode(r)?),
            2 => Message::Page(Page::decode(r)?),
            _ => return Err(Malformed),
        })
    }
}

impl Pull {
    /// Up to where the asker has taken the source's log.
    pub fn cursor(&self) -> u64 {
        match self.wants {
            Wants::After(cursor) => cursor,
            Wants::Slots(_) => 0,
        }
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.group(self.source);
        w.group(self.target);
        w.u64(self.number);
        w.bool(self.again);
        w.u64(self.taken_bytes);
        match self.wants {
            Wants::After(index) => {
                w.u8(0);
                w.u64(index);
            }
            Wants::Slots(first) => {
                w.u8(1);
                w.u16(first);
            }
        }
        w.vector(&self.covered);
    }

    fn decode(r: &mut Reader<'_>) -> Read<Pull> {
        let (source, target, number) = (r.group()?, r.group()?, r.u64()?);
        let (again, taken_bytes) = (r.bool()?, r.u64()?);
        let wants = match r.u8()? {
            0 => Wants::After(r.u64()?),
            1 => Wants::Slots(r.u16()?),
            _ => return Err(Malformed),
        };
        Ok(Pull { source, target, number, again, taken_bytes, wants, covered: r.vector()? })
    }
}

impl<'a> Updates<'a> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.group(self.source);
        w.group(self.target);
        w.u64(self.number);
        w.u64(self.after);
        w.u64(self.to);
        w.bool(self.last);
        w.vector(&self.covered);
        w.bytes(&self.updates);
    }

    fn decode(r: &mut Reader<'a>) -> Read<Updates<'a>> {
        Ok(Updates {
            source: r.group()?,
            target: r.group()?,
            number: r.u64()?,
            after: r.u64()?,
            to: r.u64()?,
            last: r.bool()?,
            covered: r.vector()?,
            updates: Cow::Borrowed(r.bytes()?),
        })
    }
}

impl<'a> Page<'a> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.group(self.source);
        w.group(self.target);
        w.u64(self.number);
        w.u64(self.commit);
        w.vector(&self.covered);
        w.u16(self.first_slot);
        w.u16(self.last_slot);
        w.bool(self.done);
        w.bytes(&self.records);
    }

    fn decode(r: &mut Reader<'a>) -> Read<Page<'a>> {
        Ok(Page {
            source: r.group()?,
            target: r.group()?,
            number: r.u64()?,
            commit: r.u64()?,
            covered: r.vector()?,
            first_slot: r.u16()?,
            last_slot: r.u16()?,
            done: r.bool()?,
            records: Cow::Borrowed(r.bytes()?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{DatacenterId, KeyspaceId};
    use alloc::vec::Vec;

    fn group(datacenter: u8) -> GroupId {
        let datacenter = DatacenterId(datacenter);
        GroupId { keyspace: KeyspaceId(7), generation: 1, partition: 2, datacenter }
    }

    fn messages() -> Vec<Message<'static>> {
        let (source, target, number) = (group(0), group(1), 99);
        let covered = VersionVector::from_iter([(1, 2), (3, 4)]);
        let (again, taken_bytes) = (true, 77);
        let pull = |wants| {
            let covered = covered.clone();
            Message::Pull(Pull { source, target, number, again, taken_bytes, wants, covered })
        };
        let (after, to, last, updates) = (9, 12, true, Cow::Borrowed(&b"updates"[..]));
        let (commit, first_slot, last_slot, done) = (5, 1, 16_383, true);
        let records = Cow::Borrowed(&b"records"[..]);
        alloc::vec![
            pull(Wants::After(8)),
            pull(Wants::Slots(9)),
            Message::Updates(Updates {
                source,
                target,
                number,
                after,
                to,
                last,
                covered: covered.clone(),
                updates
            }),
            Message::Page(Page {
                source,
                target,
                number,
                commit,
                covered,
                first_slot,
                last_slot,
                done,
                records
            }),
        ]
    }

    #[test]
    fn messages_survive_the_wire_and_cut_ones_are_refused() {
        for message in messages() {
            let mut bytes = Vec::new();
            message.encode(&mut Writer(&mut bytes));
            let mut r = Reader(&bytes);
            assert_eq!(Message::decode(&mut r).unwrap(), message);
            r.finish().unwrap();
            for length in 0..bytes.len() {
                assert!(Message::decode(&mut Reader(&bytes[..length])).is_err());
            }
        }
    }

    #[test]
    fn a_pull_is_for_the_source_and_an_answer_for_the_target() {
        let to: Vec<u8> = messages().iter().map(|m| m.to_group().datacenter.0).collect();
        assert_eq!(to, [0, 0, 1, 1]);
        assert!(messages().iter().all(|m| m.from_group() != m.to_group()));
    }
}
