//! The committed records of some slots as bytes, and a snapshot's pieces, which carry them.

use super::degrade_ledger::Ledger;
use super::epochs::Epochs;
use super::message::{VoterSet, decode_voters, encode_voters};
use crate::version::{EntryId, Stamp, VersionVector};
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::borrow::Cow;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A piece of a snapshot: the records of a range of slots.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotPiece<'a> {
    /// Entries after this one follow the snapshot; some slots may contain some of them already.
    /// It names the snapshot: pieces with other floors never go with these.
    pub floor: EntryId,
    /// The records.
    pub image: Image<'a>,
    /// Whether this is the last piece.
    pub done: bool,
    /// In the first piece.
    pub begin: Option<Begin>,
    /// In the last piece: who wrote what, up to the floor.
    pub epochs: Epochs,
}

/// What is true at a snapshot's floor and not in its images.
#[derive(Clone, PartialEq, Debug)]
pub struct Begin {
    /// The group's voters.
    pub voters: VoterSet,
    /// The committed entry that made them the voters; none for the first ones.
    pub voters_as_of: EntryId,
    /// What the state covers of other groups' entries.
    pub covered: VersionVector,
    /// The degrade ledger.
    pub degraded: Ledger,
    /// The leader's history: pieces of different ones never mix.
    pub history: u64,
    /// The group's time: what the newest stamp was on may be in no image any more.
    pub newest: Stamp,
}

/// The committed records of a contiguous range of slots, and up to where they are applied.
#[derive(Clone, PartialEq, Debug)]
pub struct Image<'a> {
    /// The first slot.
    pub first_slot: u16,
    /// The last slot.
    pub last_slot: u16,
    /// Entries up to this index are in it; replay gives it only later ones.
    pub applied: u64,
    /// Keys with their records as a store's bytes, each behind its length: what they are in memory
    /// is copied, not written anew.
    pub records: Cow<'a, [u8]>,
    /// The sessions of these slots whose commands must not be carried out twice.
    pub once: Cow<'a, [u8]>,
    /// The latest start of a session that was forgotten.
    pub horizon_ms: u64,
}

impl<'a> SnapshotPiece<'a> {
    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.entry_id(self.floor);
        self.image.encode(w);
        w.bool(self.done);
        w.bool(self.begin.is_some());
        if let Some(begin) = &self.begin {
            encode_voters(w, &begin.voters);
            w.entry_id(begin.voters_as_of);
            w.vector(&begin.covered);
            begin.degraded.encode(w);
            w.u64(begin.history);
            w.u64(begin.newest.0);
        }
        self.epochs.encode(w);
    }

    pub(super) fn decode(r: &mut Reader<'a>) -> Read<SnapshotPiece<'a>> {
        let (floor, image, done) = (r.entry_id()?, Image::decode(r)?, r.bool()?);
        let begin = match r.bool()? {
            true => Some(Begin {
                voters: decode_voters(r)?,
                voters_as_of: r.entry_id()?,
                covered: r.vector()?,
                degraded: Ledger::decode(r)?,
                history: r.u64()?,
                newest: Stamp(r.u64()?),
            }),
            false => None,
        };
        Ok(SnapshotPiece { floor, image, done, begin, epochs: Epochs::decode(r)? })
    }
}

impl<'a> Image<'a> {
    /// Writes the image, and a checksum in it: a snapshot goes through several hands.
    pub fn encode(&self, w: &mut Writer<'_>) {
        self.encode_head(w);
        w.0.extend_from_slice(&self.records);
    }

    /// Writes what comes before the records: the image is that, and then the records as they are.
    pub(super) fn encode_head(&self, w: &mut Writer<'_>) {
        let start = w.0.len();
        w.u16(self.first_slot);
        w.u16(self.last_slot);
        w.u64(self.applied);
        w.bytes(&self.once);
        w.u64(self.horizon_ms);
        let head = w.0.get(start..).unwrap_or_default();
        let checksum = xxh3_64_with_seed(&self.records, xxh3_64(head));
        w.u64(checksum);
        w.u32(u32::try_from(self.records.len()).unwrap_or(u32::MAX));
    }

    /// Reads an image, and refuses it if its checksum is wrong.
    pub fn decode(r: &mut Reader<'a>) -> Read<Image<'a>> {
        let bytes = r.0;
        let (first_slot, last_slot, applied) = (r.u16()?, r.u16()?, r.u64()?);
        let (once, horizon_ms) = (Cow::Borrowed(r.bytes()?), r.u64()?);
        let head = bytes.get(..bytes.len() - r.0.len()).unwrap_or_default();
        let (checksum, records) = (r.u64()?, r.bytes()?);
        if xxh3_64_with_seed(records, xxh3_64(head)) != checksum {
            return Err(Malformed);
        }
        let records = Cow::Borrowed(records);
        Ok(Image { first_slot, last_slot, applied, records, once, horizon_ms })
    }

    /// The same image, borrowing from this one.
    pub fn borrowed(&self) -> Image<'_> {
        let (records, once) = (Cow::Borrowed(&*self.records), Cow::Borrowed(&*self.once));
        Image { records, once, ..*self }
    }

    /// The same image, borrowing nothing.
    pub fn into_owned(self) -> Image<'static> {
        let records = Cow::Owned(self.records.into_owned());
        let once = Cow::Owned(self.once.into_owned());
        Image { records, once, ..self }
    }
}
