//! What the members of a leader-follower group say to each other.

use super::degrade_ledger::Ledger;
use super::epochs::Epochs;
use crate::version::{EntryId, VersionVector};
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{GroupId, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// A message within one group. An epoch below the receiver's is refused and told, a higher one is
/// adopted (except a pre-vote's, which is only asked about).
#[derive(Clone, PartialEq, Debug)]
pub struct Message<'a> {
    /// The group.
    pub group: GroupId,
    /// The sender's epoch; in a pre-vote and its answer, the epoch that the sender would start.
    pub epoch: u64,
    /// What it says.
    pub body: Body<'a>,
}

/// The first voters, or those of today: each member with the disk that counts.
pub type VoterSet = Vec<(NodeId, Incarnation)>;

/// What a message says.
#[derive(Clone, PartialEq, Debug)]
pub enum Body<'a> {
    /// From a node that does not know the group's voters: who are they?
    AskVoters,
    /// I never had this group either. Counts only for the disk that asked.
    Unborn {
        /// The asker's disk.
        to: Incarnation,
    },
    /// The voters that I have durably written down.
    Voters {
        /// The asker's disk.
        to: Incarnation,
        /// Who.
        voters: VoterSet,
        /// Whether all of them are known to have written it down.
        born: bool,
    },
    /// Would you vote for me? (Ongaro, "Consensus", 2014, §9.6: pre-vote.)
    PreVote {
        /// The newest entry of the asker's log.
        last: EntryId,
    },
    /// The answer to a pre-vote.
    PreVoteAnswer {
        /// Yes or no.
        granted: bool,
        /// The answerer's own epoch.
        current: u64,
    },
    /// Vote for me.
    Vote {
        /// The newest entry of the candidate's log, the unsynced tail included.
        last: EntryId,
        /// The epoch whose leader has handed over to the candidate, if one has: the promises that
        /// were made to that leader do not bind.
        handed_over: Option<u64>,
    },
    /// The answer to a vote, durable before it is said.
    VoteAnswer {
        /// Yes or no.
        granted: bool,
    },
    /// Entries that follow `previous` in the leader's log.
    Append {
        /// Where they follow on.
        previous: EntryId,
        /// Up to where the leader knows the log to be committed.
        commit: u64,
        /// What it wants to be told at once.
        wants: Wants,
        /// Length-prefixed encoded entries; may be none.
        entries: Cow<'a, [u8]>,
    },
    /// The follower's log is the leader's of this epoch up to here: never the end of its log.
    Matched(Matched),
    /// The follower's log has another entry, or none, where the append followed on.
    Mismatch {
        /// The append's.
        previous: EntryId,
        /// The largest index where the logs may agree.
        hint: u64,
    },
    /// A piece of the leader's committed state, for a follower that its log does not reach.
    Snapshot(SnapshotPiece<'a>),
    /// What the follower wants next of a snapshot.
    SnapshotWanted {
        /// The snapshot.
        snapshot: u64,
        /// The first slot that is missing.
        next_slot: u32,
    },
    /// The receiver's epoch is over.
    EpochOver,
    /// From the leader of this epoch, which takes no more commands and has no lease: be elected.
    TakeOver,
}

/// How far a follower has the leader's log of this epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Matched {
    /// Held in memory or better.
    pub received: u64,
    /// Durably held, as the keyspace's durability means it.
    pub durable: u64,
    /// Committed, and shown to readers.
    pub applied: u64,
    /// On disk, whatever the keyspace's durability.
    pub synced: u64,
}

/// What a leader waits for besides durable copies: a follower speaks up when that has moved, too.
/// Where nobody waits for more, nothing is said more often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wants {
    /// `Matched::received`.
    pub received: bool,
    /// `Matched::applied`.
    pub applied: bool,
    /// `Matched::synced`.
    pub synced: bool,
}

impl Wants {
    /// Whether anything is wanted.
    pub fn any(self) -> bool {
        self.received || self.applied || self.synced
    }

    /// Whether something is wanted that was not `before`.
    pub fn exceeds(self, before: Wants) -> bool {
        (self.received && !before.received)
            || (self.applied && !before.applied)
            || (self.synced && !before.synced)
    }

    fn to_byte(self) -> u8 {
        u8::from(self.received) | u8::from(self.applied) << 1 | u8::from(self.synced) << 2
    }

    fn of_byte(byte: u8) -> Read<Wants> {
        if byte > 7 {
            return Err(Malformed);
        }
        let bit = |place: u8| byte >> place & 1 == 1;
        Ok(Wants { received: bit(0), applied: bit(1), synced: bit(2) })
    }
}

/// A piece of a snapshot: the records of a range of slots.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotPiece<'a> {
    /// Which snapshot; pieces of different ones never mix.
    pub snapshot: u64,
    /// Entries after this one follow the snapshot; some slots may contain some of them already.
    pub floor: EntryId,
    /// The records.
    pub image: Image<'a>,
    /// Whether this is the last piece.
    pub done: bool,
    /// The group's voters at the floor.
    pub voters: VoterSet,
    /// What the state covers of other groups' entries.
    pub covered: VersionVector,
    /// In the last piece: who wrote what, up to the floor.
    pub epochs: Epochs,
    /// In the last piece: the degrade ledger at the floor.
    pub degraded: Ledger,
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
    /// Key, record, key, record, ...
    pub records: Cow<'a, [u8]>,
}

impl<'a> Image<'a> {
    /// Writes the image.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u16(self.first_slot);
        w.u16(self.last_slot);
        w.u64(self.applied);
        w.bytes(&self.records);
    }

    /// Reads an image.
    pub fn decode(r: &mut Reader<'a>) -> Read<Image<'a>> {
        Ok(Image {
            first_slot: r.u16()?,
            last_slot: r.u16()?,
            applied: r.u64()?,
            records: Cow::Borrowed(r.bytes()?),
        })
    }

    /// The same image, borrowing nothing.
    pub fn into_owned(self) -> Image<'static> {
        Image { records: Cow::Owned(self.records.into_owned()), ..self }
    }
}

/// Writes a voter set.
pub fn encode_voters(w: &mut Writer<'_>, voters: &VoterSet) {
    w.u16(voters.len() as u16);
    for (node, incarnation) in voters {
        w.u16(node.0);
        w.u64(incarnation.0);
    }
}

/// Reads a voter set.
pub fn decode_voters(r: &mut Reader<'_>) -> Read<VoterSet> {
    let mut voters = Vec::new();
    for _ in 0..r.u16()? {
        voters.push((r.node()?, r.incarnation()?));
    }
    Ok(voters)
}

impl<'a> Message<'a> {
    /// Writes the message.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.group(self.group);
        w.u64(self.epoch);
        match &self.body {
            Body::AskVoters => w.u8(0),
            Body::Unborn { to } => {
                w.u8(1);
                w.u64(to.0);
            }
            Body::Voters { to, voters, born } => {
                w.u8(2);
                w.u64(to.0);
                encode_voters(w, voters);
                w.bool(*born);
            }
            Body::PreVote { last } => {
                w.u8(3);
                w.entry_id(*last);
            }
            Body::PreVoteAnswer { granted, current } => {
                w.u8(4);
                w.bool(*granted);
                w.u64(*current);
            }
            Body::Vote { last, handed_over } => {
                w.u8(5);
                w.entry_id(*last);
                // No leader has epoch 0.
                w.u64(handed_over.unwrap_or(0));
            }
            Body::VoteAnswer { granted } => {
                w.u8(6);
                w.bool(*granted);
            }
            Body::Append { previous, commit, wants, entries } => {
                w.u8(7);
                w.entry_id(*previous);
                w.u64(*commit);
                w.u8(wants.to_byte());
                w.bytes(entries);
            }
            Body::Matched(matched) => {
                w.u8(8);
                w.u64(matched.received);
                w.u64(matched.durable);
                w.u64(matched.applied);
                w.u64(matched.synced);
            }
            Body::Mismatch { previous, hint } => {
                w.u8(9);
                w.entry_id(*previous);
                w.u64(*hint);
            }
            Body::Snapshot(piece) => {
                w.u8(10);
                w.u64(piece.snapshot);
                w.entry_id(piece.floor);
                piece.image.encode(w);
                w.bool(piece.done);
                encode_voters(w, &piece.voters);
                w.vector(&piece.covered);
                piece.epochs.encode(w);
                piece.degraded.encode(w);
            }
            Body::SnapshotWanted { snapshot, next_slot } => {
                w.u8(11);
                w.u64(*snapshot);
                w.u32(*next_slot);
            }
            Body::EpochOver => w.u8(12),
            Body::TakeOver => w.u8(13),
        }
    }

    /// Reads a message.
    pub fn decode(r: &mut Reader<'a>) -> Read<Message<'a>> {
        let (group, epoch) = (r.group()?, r.u64()?);
        let body = match r.u8()? {
            0 => Body::AskVoters,
            1 => Body::Unborn { to: r.incarnation()? },
            2 => Body::Voters { to: r.incarnation()?, voters: decode_voters(r)?, born: r.bool()? },
            3 => Body::PreVote { last: r.entry_id()? },
            4 => Body::PreVoteAnswer { granted: r.bool()?, current: r.u64()? },
            5 => {
                let (last, handed_over) = (r.entry_id()?, r.u64()?);
                Body::Vote { last, handed_over: Some(handed_over).filter(|epoch| *epoch > 0) }
            }
            6 => Body::VoteAnswer { granted: r.bool()? },
            7 => Body::Append {
                previous: r.entry_id()?,
                commit: r.u64()?,
                wants: Wants::of_byte(r.u8()?)?,
                entries: Cow::Borrowed(r.bytes()?),
            },
            8 => Body::Matched(Matched {
                received: r.u64()?,
                durable: r.u64()?,
                applied: r.u64()?,
                synced: r.u64()?,
            }),
            9 => Body::Mismatch { previous: r.entry_id()?, hint: r.u64()? },
            10 => Body::Snapshot(SnapshotPiece {
                snapshot: r.u64()?,
                floor: r.entry_id()?,
                image: Image::decode(r)?,
                done: r.bool()?,
                voters: decode_voters(r)?,
                covered: r.vector()?,
                epochs: Epochs::decode(r)?,
                degraded: Ledger::decode(r)?,
            }),
            11 => Body::SnapshotWanted { snapshot: r.u64()?, next_slot: r.u32()? },
            12 => Body::EpochOver,
            13 => Body::TakeOver,
            _ => return Err(Malformed),
        };
        Ok(Message { group, epoch, body })
    }
}
