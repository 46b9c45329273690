//! An entry of the replication log: numbered (epoch, index), encoded once, and kept, sent and
//! logged as the same bytes.

use super::degrade_ledger::Note;
use super::message::{VoterSet, decode_voters, encode_voters};
use crate::command::Reply;
use crate::storage::record::Record;
use crate::turn::Asker;
use crate::version::{Dot, EntryId, Stamp, VersionVector};
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// An entry, as its leader wrote it.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry<'a> {
    /// The epoch of the leader that appended it, and its place in the log.
    pub id: EntryId,
    /// When it was appended, by the hybrid clock; the newest one is the group's time.
    pub stamp: Stamp,
    /// Where it comes from, if this group's log is one of several that exchange entries.
    pub origin: Option<Origin>,
    /// The client's command that it carries out, if it does.
    pub asker: Option<Asker>,
    /// The name under which it is remembered, if it must not be carried out twice.
    pub once: Option<Once<'a>>,
    /// What it does.
    pub payload: Payload<'a>,
}

/// The name of a command that is carried out once, and what a retry of it is answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Once<'a> {
    /// The session.
    pub session: Cow<'a, [u8]>,
    /// The command's number in it.
    pub sequence: u64,
    /// A hash of its words.
    pub digest: u64,
    /// What was answered.
    pub reply: Reply<'a>,
    /// The sessions that are forgotten for it.
    pub forgotten: Vec<Cow<'a, [u8]>>,
}

impl<'a> Once<'a> {
    /// The same for a report of a lost write: whom to forget for it is said anew where it is done
    /// again.
    pub(super) fn without_forgotten(&self) -> Once<'static> {
        Once {
            session: Cow::Owned(self.session.to_vec()),
            sequence: self.sequence,
            digest: self.digest,
            reply: self.reply.clone().into_owned(),
            forgotten: Vec::new(),
        }
    }

    /// Writes the name, or that there is none.
    pub(super) fn encode(once: Option<&Once<'_>>, w: &mut Writer<'_>) {
        w.bool(once.is_some());
        if let Some(once) = once {
            w.bytes(&once.session);
            w.u64(once.sequence);
            w.u64(once.digest);
            once.reply.encode(w);
            w.u32(once.forgotten.len() as u32);
            once.forgotten.iter().for_each(|session| w.bytes(session));
        }
    }

    /// Reads what [`Once::encode`] has written.
    pub(super) fn decode(r: &mut Reader<'a>) -> Read<Option<Once<'a>>> {
        if !r.bool()? {
            return Ok(None);
        }
        let (session, sequence, digest) = (Cow::Borrowed(r.bytes()?), r.u64()?, r.u64()?);
        let reply = Reply::decode(r)?;
        let mut forgotten = Vec::new();
        for _ in 0..r.u32()? {
            forgotten.push(Cow::Borrowed(r.bytes()?));
        }
        Ok(Some(Once { session, sequence, digest, reply, forgotten }))
    }
}

/// The name of a write among groups that exchange their entries.
#[derive(Clone, PartialEq, Debug)]
pub struct Origin {
    /// The group that made it, and its number there.
    pub dot: Dot,
    /// Everything that group had seen before it.
    pub dependencies: VersionVector,
}

/// Who leads an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opener {
    /// The node.
    pub node: NodeId,
    /// Its disk: another one does not know what this leadership has promised.
    pub incarnation: Incarnation,
}

/// What an entry does.
#[derive(Clone, PartialEq, Debug)]
pub enum Payload<'a> {
    /// Changes nothing: the first entry of every epoch, with who leads it.
    Opening(Opener),
    /// Sets or removes keys, all at once.
    Changes(Vec<Change<'a>>),
    /// Removes all keys.
    Clear,
    /// From its commit on, this incarnation of a member counts.
    Voter(NodeId, Incarnation),
    /// Everything that the vector covers has been taken in by other entries.
    Covers(VersionVector),
    /// Changes nothing: the first entry of an epoch whose leader may lack committed entries, with
    /// the node that leads it, and whom it takes for the voters.
    OpeningAfterLoss(Opener, VoterSet),
    /// A line of the degrade ledger.
    Degrade(Note),
}

/// One key's change: a whole record.
#[derive(Clone, PartialEq, Debug)]
pub struct Change<'a> {
    /// The key.
    pub key: Cow<'a, [u8]>,
    /// What is kept from now on; `None` removes the key.
    pub record: Option<Record<'a>>,
}

impl<'a> Entry<'a> {
    /// For a planted bug: deadlines are as far off as a node's clock is from when they were set.
    pub(super) fn move_deadlines(&mut self, now_ms: u64) {
        let off_ms = now_ms as i64 - self.stamp.wall_ms() as i64;
        let Payload::Changes(changes) = &mut self.payload else { return };
        for record in changes.iter_mut().filter_map(|change| change.record.as_mut()) {
            record.expires_at_ms = record.expires_at_ms.map(|ms| ms.saturating_add_signed(off_ms));
        }
    }

    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let mut w = Writer(&mut bytes);
        w.entry_id(self.id);
        w.u64(self.stamp.0);
        w.bool(self.origin.is_some());
        if let Some(origin) = &self.origin {
            w.dot(origin.dot);
            w.vector(&origin.dependencies);
        }
        Asker::encode(self.asker.as_ref(), &mut w);
        Once::encode(self.once.as_ref(), &mut w);
        match &self.payload {
            Payload::Opening(opener) => {
                w.u8(0);
                w.u16(opener.node.0);
                w.u64(opener.incarnation.0);
            }
            Payload::Changes(changes) => {
                w.u8(1);
                w.u32(changes.len() as u32);
                for change in changes {
                    w.bytes(&change.key);
                    w.bool(change.record.is_some());
                    if let Some(record) = &change.record {
                        w.record(record);
                    }
                }
            }
            Payload::Clear => w.u8(2),
            Payload::Voter(node, incarnation) => {
                w.u8(3);
                w.u16(node.0);
                w.u64(incarnation.0);
            }
            Payload::Covers(vector) => {
                w.u8(4);
                w.vector(vector);
            }
            Payload::Degrade(note) => {
                w.u8(5);
                note.encode(&mut w);
            }
            Payload::OpeningAfterLoss(opener, voters) => {
                w.u8(6);
                w.u16(opener.node.0);
                w.u64(opener.incarnation.0);
                encode_voters(&mut w, voters);
            }
        }
        bytes
    }

    /// Only the id, which opens the bytes.
    pub fn id_of(bytes: &[u8]) -> Read<EntryId> {
        Reader(bytes).entry_id()
    }

    /// Reads an entry; the bytes must hold nothing else.
    pub fn decode(bytes: &'a [u8]) -> Read<Entry<'a>> {
        let mut r = Reader(bytes);
        let (id, stamp) = (r.entry_id()?, Stamp(r.u64()?));
        let origin = match r.bool()? {
            true => Some(Origin { dot: r.dot()?, dependencies: r.vector()? }),
            false => None,
        };
        let asker = Asker::decode(&mut r)?;
        let once = Once::decode(&mut r)?;
        let payload = match r.u8()? {
            0 => Payload::Opening(Opener { node: r.node()?, incarnation: r.incarnation()? }),
            1 => {
                let mut changes = Vec::new();
                for _ in 0..r.u32()? {
                    let key = Cow::Borrowed(r.bytes()?);
                    let record = if r.bool()? { Some(r.record()?) } else { None };
                    changes.push(Change { key, record });
                }
                Payload::Changes(changes)
            }
            2 => Payload::Clear,
            3 => Payload::Voter(r.node()?, r.incarnation()?),
            4 => Payload::Covers(r.vector()?),
            5 => Payload::Degrade(Note::decode(&mut r)?),
            6 => {
                let opener = Opener { node: r.node()?, incarnation: r.incarnation()? };
                Payload::OpeningAfterLoss(opener, decode_voters(&mut r)?)
            }
            _ => return Err(Malformed),
        };
        r.finish()?;
        Ok(Entry { id, stamp, origin, asker, once, payload })
    }
}
