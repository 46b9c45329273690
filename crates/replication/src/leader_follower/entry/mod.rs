//! An entry of the replication log: numbered (epoch, index), encoded once, and kept, sent and
//! logged as the same bytes.

mod changes;
#[cfg(test)]
mod tests;

pub use changes::{Change, Changes};

use super::degrade_ledger::Note;
use super::message::{VoterSet, decode_voters, encode_voters};
use crate::command::Reply;
use crate::data::Name;
use crate::turn::Asker;
use crate::version::{Dot, EntryId, Stamp, VersionVector};
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What an entry has besides its name and its payload: bits of its head.
const HAS_ORIGIN: u8 = 1;
const HAS_ASKER: u8 = 2;
const HAS_ONCE: u8 = 4;

/// The payload, in the head's last byte.
const KIND_OPENING: u8 = 0;
const KIND_CHANGES: u8 = 1;
const KIND_CLEAR: u8 = 2;
const KIND_VOTER: u8 = 3;
const KIND_COVERS: u8 = 4;
const KIND_DEGRADE: u8 = 5;
const KIND_OPENING_AFTER_LOSS: u8 = 6;
const KIND_HEARD_OUT: u8 = 7;

/// Bytes of an entry's head.
const HEAD_BYTES: usize = 26;

/// Bytes of an entry besides its changes and its asker's label, about.
const ROOM_BYTES: usize = 128;

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
    pub asker: Option<Asker<&'a [u8]>>,
    /// The name under which it is remembered, if it must not be carried out twice.
    pub once: Option<Box<Once<'a>>>,
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
            once.write(w);
        }
    }

    /// Reads what [`Once::encode`] has written.
    pub(super) fn decode(r: &mut Reader<'a>) -> Read<Option<Once<'a>>> {
        Ok(if r.bool()? { Some(Once::read(r)?) } else { None })
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.bytes(&self.session);
        w.u64(self.sequence);
        w.u64(self.digest);
        self.reply.encode(w);
        w.u32(self.forgotten.len() as u32);
        self.forgotten.iter().for_each(|session| w.bytes(session));
    }

    fn read(r: &mut Reader<'a>) -> Read<Once<'a>> {
        let (session, sequence, digest) = (Cow::Borrowed(r.bytes()?), r.u64()?, r.u64()?);
        let reply = Reply::decode(r)?;
        let mut forgotten = Vec::new();
        for _ in 0..r.u32()? {
            forgotten.push(Cow::Borrowed(r.bytes()?));
        }
        Ok(Once { session, sequence, digest, reply, forgotten })
    }
}

/// The name of a write among groups that exchange their entries.
#[derive(Clone, PartialEq, Debug)]
pub struct Origin {
    /// The group that made it, and its number there.
    pub dot: Dot,
    /// Everything of others that group had seen before it; of its own it had seen everything.
    pub dependencies: VersionVector,
}

/// Who leads an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opener {
    /// The node.
    pub node: NodeId,
    /// Its disk: another one does not know what this leadership has promised.
    pub incarnation: Incarnation,
    /// How far it had heard that the log of the leader before reached; 0 for nothing.
    pub heard: u64,
    /// Whether acknowledged writes of the leader before may be missing: its acks and the votes of
    /// this election need not have had a node in common.
    pub may_lack: bool,
    /// Whether this very disk led before and may have lost the end of that with its power: then it
    /// has not heard itself out.
    pub torn: bool,
}

impl Opener {
    fn encode(&self, w: &mut Writer<'_>) {
        w.u16(self.node.0);
        w.u64(self.incarnation.0);
        w.u64(self.heard);
        w.bool(self.may_lack);
        w.bool(self.torn);
    }

    fn decode(r: &mut Reader<'_>) -> Read<Opener> {
        let (node, incarnation) = (r.node()?, r.incarnation()?);
        let (heard, may_lack, torn) = (r.u64()?, r.bool()?, r.bool()?);
        Ok(Opener { node, incarnation, heard, may_lack, torn })
    }
}

/// What an entry does.
#[derive(Clone, PartialEq, Debug)]
pub enum Payload<'a> {
    /// Changes nothing: the first entry of every epoch, with who leads it.
    Opening(Opener),
    /// Sets or removes keys, all at once.
    Changes(Changes<'a>),
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
    /// Changes nothing: whoever led this epoch has come back with the disk that it had, and tells
    /// itself what of it is lost; or an operator wants to hear no more of it.
    HeardOut(u64),
}

impl Payload<'_> {
    fn kind(&self) -> u8 {
        match self {
            Payload::Opening(_) => KIND_OPENING,
            Payload::Changes(_) => KIND_CHANGES,
            Payload::Clear => KIND_CLEAR,
            Payload::Voter(..) => KIND_VOTER,
            Payload::Covers(_) => KIND_COVERS,
            Payload::Degrade(_) => KIND_DEGRADE,
            Payload::OpeningAfterLoss(..) => KIND_OPENING_AFTER_LOSS,
            Payload::HeardOut(_) => KIND_HEARD_OUT,
        }
    }
}

impl<'a> Entry<'a> {
    /// The name that the entry gives to what it writes: that of the write, wherever it was made.
    pub fn name(&self) -> Name {
        name_of(self.id, self.stamp, self.origin.as_ref().map(|origin| origin.dot))
    }

    /// The keys that it changes, if that is what it does.
    pub(super) fn changes(&self) -> Option<&Changes<'a>> {
        match &self.payload {
            Payload::Changes(changes) => Some(changes),
            _ => None,
        }
    }

    /// For a planted bug: deadlines are as far off as a node's clock is from when they were set.
    pub(super) fn move_deadlines(&mut self, now_ms: u64) {
        let off_ms = now_ms as i64 - self.stamp.wall_ms() as i64;
        let Payload::Changes(changes) = &mut self.payload else { return };
        for record in changes.iter_mut().filter_map(|change| change.record.as_mut()) {
            record.expires_at_ms = record.expires_at_ms.map(|ms| ms.saturating_add_signed(off_ms));
        }
    }

    /// About how many bytes the entry has; not less for a client's write.
    pub(super) fn room(&self) -> usize {
        let asker = self.asker.as_ref().map_or(0, |asker| asker.label.len());
        let changes = match &self.payload {
            Payload::Changes(changes) => changes.iter().map(Change::room).sum(),
            _ => 0,
        };
        ROOM_BYTES + asker + changes
    }

    /// Writes the entry.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let part = |bit, is_there| if is_there { bit } else { 0 };
        let has = part(HAS_ORIGIN, self.origin.is_some())
            | part(HAS_ASKER, self.asker.is_some())
            | part(HAS_ONCE, self.once.is_some());
        Head { id: self.id, stamp: self.stamp, has, kind: self.payload.kind() }.write(bytes);
        let mut w = Writer(bytes);
        if let Some(origin) = &self.origin {
            w.dot(origin.dot);
            w.vector(&origin.dependencies);
        }
        if let Some(asker) = &self.asker {
            // With its length: it matters only to those who look for it.
            asker.write_with_length(&mut w);
        }
        if let Some(once) = &self.once {
            once.write(&mut w);
        }
        match &self.payload {
            Payload::Opening(opener) => opener.encode(&mut w),
            Payload::Changes(changes) => {
                w.short(changes.len() as u64);
                let name = self.name();
                changes.iter().for_each(|change| change.encode(name, &mut w));
            }
            Payload::Clear => {}
            Payload::Voter(node, incarnation) => {
                w.u16(node.0);
                w.u64(incarnation.0);
            }
            Payload::Covers(vector) => w.vector(vector),
            Payload::Degrade(note) => note.encode(&mut w),
            Payload::OpeningAfterLoss(opener, voters) => {
                opener.encode(&mut w);
                encode_voters(&mut w, voters);
            }
            Payload::HeardOut(epoch) => w.u64(*epoch),
        }
    }

    /// Only the id, which opens the bytes.
    #[inline]
    pub fn id_of(bytes: &[u8]) -> Read<EntryId> {
        Reader(bytes).entry_id()
    }

    /// Only the name of the write among groups that exchange their entries, if it has one.
    #[inline]
    pub fn dot_of(bytes: &[u8]) -> Read<Option<Dot>> {
        let mut r = Reader(bytes);
        let head = Head::read(&mut r)?;
        Ok(if head.has & HAS_ORIGIN != 0 { Some(r.dot()?) } else { None })
    }

    /// What groups that exchange their entries are told of this one; `None` if that is nothing.
    pub fn shared(bytes: &'a [u8]) -> Read<Option<Shared<'a>>> {
        let mut r = Reader(bytes);
        let head = Head::read(&mut r)?;
        if head.kind != KIND_CHANGES || head.has & (HAS_ORIGIN | HAS_ONCE) != HAS_ORIGIN {
            return Ok(None);
        }
        let origin = Origin { dot: r.dot()?, dependencies: r.vector()? };
        if head.has & HAS_ASKER != 0 {
            r.bytes()?;
        }
        Ok(Some(Shared { stamp: head.stamp, origin, changes: r.0 }))
    }

    /// Only who asked for it, if a client did.
    pub fn asker_of(bytes: &'a [u8]) -> Read<Option<Asker<&'a [u8]>>> {
        let mut r = Reader(bytes);
        let head = Head::read(&mut r)?;
        if head.has & HAS_ASKER == 0 {
            return Ok(None);
        }
        if head.has & HAS_ORIGIN != 0 {
            let _ = (r.dot()?, r.vector()?);
        }
        Asker::read_with_length(&mut r).map(Some)
    }

    /// Reads an entry; the bytes must hold nothing else.
    pub fn decode(bytes: &'a [u8]) -> Read<Entry<'a>> {
        let entry = Entry::decode_to_apply(bytes)?;
        // An asker that cannot be read is nobody: the entry does the same everywhere.
        let asker = Entry::asker_of(bytes).unwrap_or_default();
        Ok(Entry { asker, ..entry })
    }

    /// The same without who asked for it: to those who apply it, that is no matter.
    pub fn decode_to_apply(bytes: &'a [u8]) -> Read<Entry<'a>> {
        let mut r = Reader(bytes);
        let Head { id, stamp, has, kind } = Head::read(&mut r)?;
        let origin = match has & HAS_ORIGIN != 0 {
            true => Some(Origin { dot: r.dot()?, dependencies: r.vector()? }),
            false => None,
        };
        if has & HAS_ASKER != 0 {
            r.bytes()?;
        }
        let once = match has & HAS_ONCE != 0 {
            true => Some(Box::new(Once::read(&mut r)?)),
            false => None,
        };
        let payload = match kind {
            KIND_OPENING => Payload::Opening(Opener::decode(&mut r)?),
            KIND_CHANGES => {
                let dot = origin.as_ref().map(|origin| origin.dot);
                Payload::Changes(Changes::decode(name_of(id, stamp, dot), &mut r)?)
            }
            KIND_CLEAR => Payload::Clear,
            KIND_VOTER => Payload::Voter(r.node()?, r.incarnation()?),
            KIND_COVERS => Payload::Covers(r.vector()?),
            KIND_DEGRADE => Payload::Degrade(Note::decode(&mut r)?),
            KIND_OPENING_AFTER_LOSS => {
                Payload::OpeningAfterLoss(Opener::decode(&mut r)?, decode_voters(&mut r)?)
            }
            KIND_HEARD_OUT => Payload::HeardOut(r.u64()?),
            _ => return Err(Malformed),
        };
        r.finish()?;
        Ok(Entry { id, stamp, origin, asker: None, once, payload })
    }
}

/// A write, as groups that exchange their entries tell it to each other.
#[derive(Clone, PartialEq, Debug)]
pub struct Shared<'a> {
    /// When it was made; no stamp of its records is newer.
    pub stamp: Stamp,
    /// Its name.
    pub origin: Origin,
    /// What it changes: see [`Changes::of_write`].
    pub changes: &'a [u8],
}

/// The name that an entry gives to what it writes.
fn name_of(id: EntryId, stamp: Stamp, dot: Option<Dot>) -> Name {
    let own = Dot { actor: id.epoch, counter: id.index };
    Name { stamp, dot: dot.unwrap_or(own) }
}

/// What every entry begins with: enough to know whether more of it has to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The entry's name.
    pub id: EntryId,
    /// When it was appended.
    pub stamp: Stamp,
    has: u8,
    kind: u8,
}

impl Head {
    /// The head of an entry's bytes.
    #[inline]
    pub fn of(bytes: &[u8]) -> Read<Head> {
        Head::read(&mut Reader(bytes))
    }

    #[inline]
    fn write(&self, bytes: &mut Vec<u8>) {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&self.id.epoch.to_le_bytes());
        head[8..16].copy_from_slice(&self.id.index.to_le_bytes());
        head[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        (head[24], head[25]) = (self.has, self.kind);
        bytes.extend_from_slice(&head);
    }

    #[inline]
    fn read(r: &mut Reader<'_>) -> Read<Head> {
        let mut r = Reader(r.take(HEAD_BYTES)?);
        let (id, stamp) = (r.entry_id()?, Stamp(r.u64()?));
        let (has, kind) = (r.u8()?, r.u8()?);
        match has & !(HAS_ORIGIN | HAS_ASKER | HAS_ONCE) {
            0 => Ok(Head { id, stamp, has, kind }),
            _ => Err(Malformed),
        }
    }

    /// The head of an entry whose bytes can be read as a whole: what a peer has sent is looked at
    /// once, when it comes.
    pub fn checked(bytes: &[u8]) -> Read<Head> {
        let (head, mut r) = Head::before_changes(bytes)?;
        if head.kind != KIND_CHANGES || head.has & HAS_ONCE != 0 {
            return Entry::decode(bytes).map(|_| head);
        }
        for _ in 0..r.short()? {
            Change::skip(&mut r)?;
        }
        r.finish()?;
        Ok(head)
    }

    /// The head, and what comes behind the origin and who asked: the changes, if that is what the
    /// entry has and it has no name to be remembered under.
    #[inline]
    fn before_changes(bytes: &[u8]) -> Read<(Head, Reader<'_>)> {
        let mut r = Reader(bytes);
        let head = Head::read(&mut r)?;
        if head.has & HAS_ORIGIN != 0 {
            r.dot()?;
            r.vector()?;
        }
        if head.has & HAS_ASKER != 0 {
            r.bytes()?;
        }
        Ok((head, r))
    }

    /// The key that an entry changes, if it is only one.
    #[inline]
    pub fn only_key(bytes: &[u8]) -> Option<&[u8]> {
        let (head, mut r) = Head::before_changes(bytes).ok()?;
        let is_one = head.kind == KIND_CHANGES && head.has & HAS_ONCE == 0 && r.short() == Ok(1);
        if is_one { r.short_bytes().ok() } else { None }
    }

    /// Whether the entry opens an epoch, or tells of an earlier one.
    pub fn is_of_epochs(&self) -> bool {
        matches!(self.kind, KIND_OPENING | KIND_OPENING_AFTER_LOSS | KIND_HEARD_OUT)
    }

    /// Whether its commit means nothing beyond the records that it changes, and that the write of
    /// its name is covered, if it has one.
    #[inline]
    pub fn is_plain(&self) -> bool {
        matches!(self.kind, KIND_CHANGES | KIND_CLEAR | KIND_OPENING | KIND_HEARD_OUT)
    }

    /// The same for an entry's bytes; takes note that the write is covered.
    #[inline]
    pub fn covers_if_plain(bytes: &[u8], covered: &mut VersionVector) -> bool {
        let mut r = Reader(bytes);
        let Ok(head) = Head::read(&mut r) else { return false };
        if head.has & HAS_ORIGIN != 0
            && head.is_plain()
            && let Ok(dot) = r.dot()
        {
            covered.advance(dot);
        }
        head.is_plain()
    }
}
