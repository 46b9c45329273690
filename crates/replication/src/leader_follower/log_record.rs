//! What a leader-follower group writes into its node's log.

use super::degrade_ledger::Ledger;
use super::epochs::Epochs;
use super::image::Image;
use super::lost_writes::Fate;
use super::lost_writes::acknowledged::Range;
use super::message::{VoterSet, decode_voters, encode_voters};
use crate::version::{EntryId, Stamp, VersionVector};
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{GroupId, NodeId};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The first byte of all these records.
pub const RECORD_KIND: u8 = 1;

/// The byte behind the group in a record of entries.
const KIND_ENTRIES: u8 = 0;
/// The same of an image.
const KIND_IMAGE: u8 = 5;
/// The same of a piece of a snapshot.
const KIND_STAGED: u8 = 13;

/// A record of one group.
#[derive(Clone, PartialEq, Debug)]
pub struct LogRecord<'a> {
    /// The group.
    pub group: GroupId,
    /// What happened.
    pub body: Body<'a>,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Body<'a> {
    /// Entries were appended: a run of them.
    Entries(Cow<'a, [u8]>),
    /// The group's log ends here: what came after was cut.
    Cut {
        /// The last index that stays.
        last_kept: u64,
    },
    /// This node is in a new epoch, and may have voted in it.
    Vote {
        /// The epoch.
        epoch: u64,
        /// For whom.
        voted_for: Option<NodeId>,
    },
    /// The voters, as far as this node knows; the first ones count when they are `born`.
    Voters {
        /// Who.
        voters: VoterSet,
        /// Whether all of the first ones are known to have written them down.
        born: bool,
        /// The committed entry that made them the voters; none for the first ones.
        as_of: EntryId,
    },
    /// The start of a checkpoint: what is known of the group besides its records and entries.
    Checkpoint {
        /// The epoch.
        epoch: u64,
        /// The vote in it.
        voted_for: Option<NodeId>,
        /// The voters, and whether all have them.
        voters: VoterSet,
        /// See [`Body::Voters`].
        born: bool,
        /// See [`Body::Voters`].
        as_of: EntryId,
        /// Entries above this one are still in the log; the images that follow contain the rest.
        floor: EntryId,
        /// What the state covers of other groups' entries.
        covered: VersionVector,
        /// Who wrote what, up to the floor.
        epochs: Epochs,
        /// The degrade ledger at the floor.
        degraded: Ledger,
        /// See [`Body::Suspect`].
        suspect: bool,
        /// The group's time: no later entry has an earlier stamp.
        newest: Stamp,
    },
    /// The records of some slots, as of some index.
    Image(Image<'a>),
    /// An entry that is about to be cut, with what is known of it: a `LostWrite`.
    CutEntry(Cow<'a, [u8]>),
    /// A snapshot begins to arrive: what was staged of another before never counts.
    SnapshotBegin,
    /// The next piece of a snapshot: nothing of the group's, until all are and the snapshot is
    /// closed.
    Staged(Image<'a>),
    /// All pieces of the snapshot are staged: they replace the group's state, and its log.
    SnapshotEnd {
        /// The group's log goes on after this entry.
        floor: EntryId,
        /// The voters.
        voters: VoterSet,
        /// See [`Body::Voters`].
        as_of: EntryId,
        /// What the state covers of other groups' entries.
        covered: VersionVector,
        /// Who wrote what, up to the floor.
        epochs: Epochs,
        /// The degrade ledger at the floor.
        degraded: Ledger,
        /// The group's time.
        newest: Stamp,
    },
    /// From here on, this node may or may not have lost entries that it acknowledged.
    Suspect(bool),
    /// Nothing of the group that was written before can be used: it begins anew, with nothing.
    Forget,
    /// What has become of an entry that was cut.
    CutFate {
        /// The entry.
        id: EntryId,
        /// What.
        fate: Fate,
    },
    /// Writers were told OK although their entries were not committed.
    Acknowledged(Range),
    /// The process stops, and all that it has acknowledged is written down.
    AcknowledgedAll {
        /// What was acknowledged in epochs up to this one is known as far as it is written down.
        after: u64,
        /// The newest epoch that the process knows: what it led after `after` is known in full.
        epoch: u64,
    },
    /// Up to here the group's log is committed: written now and then, so that a start knows of most
    /// of the log what need not be cut any more.
    Committed(u64),
    /// So many reports of lost writes were given up, as there were too many bytes of them.
    GivenUp(u64),
    /// The end of what this disk had of an epoch may be gone with the power: see `torn.rs`.
    Torn(u64),
}

impl<'a> LogRecord<'a> {
    /// Writes the record, its kind first, in place of what the buffer held.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        let mut w = Writer(bytes);
        w.u8(RECORD_KIND);
        w.group(self.group);
        match &self.body {
            Body::Entries(run) => encode_bytes(KIND_ENTRIES, run, &mut w),
            Body::Cut { last_kept } => encode_numbers(1, &[*last_kept], &mut w),
            Body::Vote { epoch, voted_for } => {
                w.u8(2);
                w.u64(*epoch);
                w.option_node(*voted_for);
            }
            Body::Voters { voters, born, as_of } => {
                w.u8(3);
                encode_set(&mut w, voters, *born, *as_of);
            }
            Body::Checkpoint {
                epoch,
                voted_for,
                voters,
                born,
                as_of,
                floor,
                covered,
                epochs,
                degraded,
                suspect,
                newest,
            } => {
                w.u8(4);
                w.u64(*epoch);
                w.option_node(*voted_for);
                encode_set(&mut w, voters, *born, *as_of);
                w.entry_id(*floor);
                w.vector(covered);
                epochs.encode(&mut w);
                degraded.encode(&mut w);
                w.bool(*suspect);
                w.u64(newest.0);
            }
            Body::Image(image) => encode_image(KIND_IMAGE, image, &mut w),
            Body::CutEntry(body) => encode_bytes(6, body, &mut w),
            Body::SnapshotBegin => w.u8(7),
            Body::Staged(image) => encode_image(KIND_STAGED, image, &mut w),
            Body::SnapshotEnd { floor, voters, as_of, covered, epochs, degraded, newest } => {
                w.u8(8);
                w.entry_id(*floor);
                encode_voters(&mut w, voters);
                w.entry_id(*as_of);
                w.vector(covered);
                epochs.encode(&mut w);
                degraded.encode(&mut w);
                w.u64(newest.0);
            }
            Body::Suspect(suspect) => encode_flag(9, *suspect, &mut w),
            Body::Forget => w.u8(10),
            Body::CutFate { id, fate } => {
                w.u8(11);
                fate.encode(*id, &mut w);
            }
            Body::Acknowledged(range) => range.encode(12, &mut w),
            Body::AcknowledgedAll { after, epoch } => {
                encode_numbers(14, &[*after, *epoch], &mut w);
            }
            Body::Committed(index) => encode_numbers(15, &[*index], &mut w),
            Body::GivenUp(count) => encode_numbers(16, &[*count], &mut w),
            Body::Torn(epoch) => encode_numbers(17, &[*epoch], &mut w),
        }
    }

    /// Writes what comes before the entries in a record of `run_bytes` of them, in place of what
    /// the buffer held: the record of [`Body::Entries`] is that and the run.
    pub(super) fn encode_head(group: GroupId, run_bytes: usize, bytes: &mut Vec<u8>) {
        bytes.clear();
        let mut w = Writer(bytes);
        w.u8(RECORD_KIND);
        w.group(group);
        w.u8(KIND_ENTRIES);
        w.u32(u32::try_from(run_bytes).unwrap_or(u32::MAX));
    }

    /// Writes what comes before the records of an image, in place of what the buffer held: the
    /// record of [`Body::Image`] is that and the image's records.
    pub(super) fn encode_image_head(group: GroupId, image: &Image<'_>, bytes: &mut Vec<u8>) {
        encode_head_of(KIND_IMAGE, group, image, bytes);
    }

    /// The same of a record of [`Body::Staged`].
    pub(super) fn encode_staged_head(group: GroupId, image: &Image<'_>, bytes: &mut Vec<u8>) {
        encode_head_of(KIND_STAGED, group, image, bytes);
    }

    /// Reads a record after its kind.
    pub fn decode(r: &mut Reader<'a>) -> Read<LogRecord<'a>> {
        let group = r.group()?;
        let body = match r.u8()? {
            KIND_ENTRIES => Body::Entries(Cow::Borrowed(r.bytes()?)),
            1 => Body::Cut { last_kept: r.u64()? },
            2 => Body::Vote { epoch: r.u64()?, voted_for: r.option_node()? },
            3 => {
                let (voters, born, as_of) = (decode_voters(r)?, r.bool()?, r.entry_id()?);
                Body::Voters { voters, born, as_of }
            }
            4 => Body::Checkpoint {
                epoch: r.u64()?,
                voted_for: r.option_node()?,
                voters: decode_voters(r)?,
                born: r.bool()?,
                as_of: r.entry_id()?,
                floor: r.entry_id()?,
                covered: r.vector()?,
                epochs: Epochs::decode(r)?,
                degraded: Ledger::decode(r)?,
                suspect: r.bool()?,
                newest: Stamp(r.u64()?),
            },
            KIND_IMAGE => Body::Image(Image::decode(r)?),
            6 => Body::CutEntry(Cow::Borrowed(r.bytes()?)),
            7 => Body::SnapshotBegin,
            8 => Body::SnapshotEnd {
                floor: r.entry_id()?,
                voters: decode_voters(r)?,
                as_of: r.entry_id()?,
                covered: r.vector()?,
                epochs: Epochs::decode(r)?,
                degraded: Ledger::decode(r)?,
                newest: Stamp(r.u64()?),
            },
            9 => Body::Suspect(r.bool()?),
            10 => Body::Forget,
            11 => Body::CutFate { id: r.entry_id()?, fate: Fate::decode(r)? },
            12 => Body::Acknowledged(Range::decode(r)?),
            KIND_STAGED => Body::Staged(Image::decode(r)?),
            14 => Body::AcknowledgedAll { after: r.u64()?, epoch: r.u64()? },
            15 => Body::Committed(r.u64()?),
            16 => Body::GivenUp(r.u64()?),
            17 => Body::Torn(r.u64()?),
            _ => return Err(Malformed),
        };
        r.finish()?;
        Ok(LogRecord { group, body })
    }
}

fn encode_head_of(kind: u8, group: GroupId, image: &Image<'_>, bytes: &mut Vec<u8>) {
    bytes.clear();
    let mut w = Writer(bytes);
    w.u8(RECORD_KIND);
    w.group(group);
    w.u8(kind);
    image.encode_head(&mut w);
}

fn encode_image(kind: u8, image: &Image<'_>, w: &mut Writer<'_>) {
    w.u8(kind);
    image.encode(w);
}

fn encode_set(w: &mut Writer<'_>, voters: &VoterSet, born: bool, as_of: EntryId) {
    encode_voters(w, voters);
    w.bool(born);
    w.entry_id(as_of);
}

fn encode_flag(kind: u8, flag: bool, w: &mut Writer<'_>) {
    w.u8(kind);
    w.bool(flag);
}

fn encode_numbers(kind: u8, numbers: &[u64], w: &mut Writer<'_>) {
    w.u8(kind);
    numbers.iter().for_each(|number| w.u64(*number));
}

fn encode_bytes(kind: u8, bytes: &[u8], w: &mut Writer<'_>) {
    w.u8(kind);
    w.bytes(bytes);
}
