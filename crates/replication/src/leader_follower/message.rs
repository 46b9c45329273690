//! What the members of a leader-follower group say to each other.

use super::image::SnapshotPiece;
use crate::version::EntryId;
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
// A message lives for one step and is stored nowhere: a box would cost an allocation.
#[allow(clippy::large_enum_variant)]
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
        /// Whether the answerer may have lost entries that it acknowledged.
        suspect: bool,
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
        /// The candidate's disk: another one of the same node has another log.
        to: Incarnation,
        /// Yes or no.
        granted: bool,
        /// Whether the answerer may have lost entries that it acknowledged.
        suspect: bool,
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
        /// The newest epoch in the leader's log that opened under a possible loss; 0 for none.
        history: u64,
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
    /// The leader's log does not reach the follower's: it can have a snapshot.
    SnapshotOffer {
        /// Where its log would go on.
        floor: EntryId,
    },
    /// A piece of the leader's committed state, for a follower that its log does not reach.
    Snapshot(SnapshotPiece<'a>),
    /// What the follower wants next of a snapshot.
    SnapshotWanted {
        /// The snapshot: the one that was offered, or one that an earlier offer has begun.
        floor: EntryId,
        /// The history that the pieces are of: see [`Group::history`](super::Group::history).
        history: u64,
        /// The first slot that is missing.
        next_slot: u32,
    },
    /// The receiver's epoch is over.
    EpochOver,
    /// From a member that may have lost entries which it acknowledged: where does your log end?
    AskLast {
        /// How often the asker's process has started: no answer to an earlier one counts.
        boot: u64,
    },
    /// Where the leader's log ended when it was asked.
    Last {
        /// The question's.
        boot: u64,
        /// The newest index.
        last: u64,
    },
    /// From a follower whose log knows of other losses than the leader's: is this entry, up to
    /// which I know the log to be committed, in yours?
    AskAgrees {
        /// The entry.
        committed: EntryId,
    },
    /// Whether it is. If not, a snapshot follows, in place of all that the follower has.
    Agrees {
        /// The question's.
        committed: EntryId,
        /// Yes or no.
        agrees: bool,
    },
    /// An operator has said that the sender is to go on: what do you have?
    AskNewest {
        /// Tells answers to different questions apart.
        question: u64,
    },
    /// The newest entry of the answerer's log.
    Newest {
        /// The question's.
        question: u64,
        /// The entry.
        last: EntryId,
        /// The answerer's epoch.
        current: u64,
        /// Who leads, if the answerer hears a leader.
        leader: Option<NodeId>,
        /// Whether the answerer may have lost entries that it acknowledged.
        suspect: bool,
        /// Whether its slots contain more than its log, so that it stands for no election.
        ahead: bool,
        /// The voters as it knows them; empty while they are not written down.
        voters: VoterSet,
    },
    /// By an operator's word: vote for me, and these are the voters.
    Recover {
        /// The newest entry of the sender's log.
        last: EntryId,
        /// The disks that are there.
        voters: VoterSet,
    },
    /// You have led an epoch: is everything that it wrote beyond here in your report, on disk?
    AskTold {
        /// That epoch.
        epoch: u64,
        /// The first entry of the next one.
        next: u64,
    },
    /// All that the disk had of it is.
    Told {
        /// The question's.
        epoch: u64,
        /// Whether a power cut may have taken what the disk had last: nobody ever knows that.
        torn: bool,
    },
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

impl Matched {
    fn encode(&self, w: &mut Writer<'_>) {
        for index in [self.received, self.durable, self.applied, self.synced] {
            w.u64(index);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Read<Matched> {
        let (received, durable) = (r.u64()?, r.u64()?);
        Ok(Matched { received, durable, applied: r.u64()?, synced: r.u64()? })
    }
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

impl Body<'_> {
    /// The sender's own epoch, where it says one besides the message's; else 0.
    pub(super) fn other_epoch(&self) -> u64 {
        match self {
            Body::PreVoteAnswer { current, .. } | Body::Newest { current, .. } => *current,
            _ => 0,
        }
    }

    /// Writes what members say to each other after a possible loss.
    fn encode_loss(&self, w: &mut Writer<'_>) {
        match self {
            Body::AskLast { boot } => {
                w.u8(14);
                w.u64(*boot);
            }
            Body::Last { boot, last } => {
                w.u8(15);
                w.u64(*boot);
                w.u64(*last);
            }
            Body::AskAgrees { committed } => {
                w.u8(16);
                w.entry_id(*committed);
            }
            Body::Agrees { committed, agrees } => {
                w.u8(17);
                w.entry_id(*committed);
                w.bool(*agrees);
            }
            Body::AskNewest { question } => {
                w.u8(18);
                w.u64(*question);
            }
            Body::Newest { question, last, current, leader, suspect, ahead, voters } => {
                w.u8(19);
                w.u64(*question);
                w.entry_id(*last);
                w.u64(*current);
                w.option_node(*leader);
                w.bool(*suspect);
                w.bool(*ahead);
                encode_voters(w, voters);
            }
            Body::Recover { last, voters } => {
                w.u8(20);
                w.entry_id(*last);
                encode_voters(w, voters);
            }
            Body::AskTold { epoch, next } => {
                w.u8(22);
                w.u64(*epoch);
                w.u64(*next);
            }
            Body::Told { epoch, torn } => {
                w.u8(23);
                w.u64(*epoch);
                w.bool(*torn);
            }
            _ => {}
        }
    }

    /// Reads what [`Body::encode_loss`] has written.
    fn decode_loss(kind: u8, r: &mut Reader<'_>) -> Read<Body<'static>> {
        Ok(match kind {
            14 => Body::AskLast { boot: r.u64()? },
            15 => Body::Last { boot: r.u64()?, last: r.u64()? },
            16 => Body::AskAgrees { committed: r.entry_id()? },
            17 => Body::Agrees { committed: r.entry_id()?, agrees: r.bool()? },
            18 => Body::AskNewest { question: r.u64()? },
            19 => Body::Newest {
                question: r.u64()?,
                last: r.entry_id()?,
                current: r.u64()?,
                leader: r.option_node()?,
                suspect: r.bool()?,
                ahead: r.bool()?,
                voters: decode_voters(r)?,
            },
            20 => Body::Recover { last: r.entry_id()?, voters: decode_voters(r)? },
            22 => Body::AskTold { epoch: r.u64()?, next: r.u64()? },
            23 => Body::Told { epoch: r.u64()?, torn: r.bool()? },
            _ => return Err(Malformed),
        })
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

fn named(w: &mut Writer<'_>, kind: u8, id: EntryId) {
    w.u8(kind);
    w.entry_id(id);
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
            Body::PreVote { last } => named(w, 3, *last),
            Body::PreVoteAnswer { granted, current, suspect } => {
                w.u8(4);
                w.bool(*granted);
                w.u64(*current);
                w.bool(*suspect);
            }
            Body::Vote { last, handed_over } => {
                w.u8(5);
                w.entry_id(*last);
                // No leader has epoch 0.
                w.u64(handed_over.unwrap_or(0));
            }
            Body::VoteAnswer { to, granted, suspect } => {
                w.u8(6);
                w.u64(to.0);
                w.bool(*granted);
                w.bool(*suspect);
            }
            Body::Append { previous, commit, wants, entries, history } => {
                w.u8(7);
                w.entry_id(*previous);
                w.u64(*commit);
                w.u8(wants.to_byte());
                w.bytes(entries);
                w.u64(*history);
            }
            Body::Matched(matched) => {
                w.u8(8);
                matched.encode(w);
            }
            Body::Mismatch { previous, hint } => {
                w.u8(9);
                w.entry_id(*previous);
                w.u64(*hint);
            }
            Body::Snapshot(piece) => {
                w.u8(10);
                piece.encode(w);
            }
            Body::SnapshotWanted { floor, history, next_slot } => {
                named(w, 11, *floor);
                w.u64(*history);
                w.u32(*next_slot);
            }
            Body::EpochOver => w.u8(12),
            Body::TakeOver => w.u8(13),
            Body::SnapshotOffer { floor } => named(w, 21, *floor),
            body => body.encode_loss(w),
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
            4 => Body::PreVoteAnswer { granted: r.bool()?, current: r.u64()?, suspect: r.bool()? },
            5 => {
                let (last, handed_over) = (r.entry_id()?, r.u64()?);
                Body::Vote { last, handed_over: Some(handed_over).filter(|epoch| *epoch > 0) }
            }
            6 => {
                let (to, granted, suspect) = (r.incarnation()?, r.bool()?, r.bool()?);
                Body::VoteAnswer { to, granted, suspect }
            }
            7 => Body::Append {
                previous: r.entry_id()?,
                commit: r.u64()?,
                wants: Wants::of_byte(r.u8()?)?,
                entries: Cow::Borrowed(r.bytes()?),
                history: r.u64()?,
            },
            8 => Body::Matched(Matched::decode(r)?),
            9 => Body::Mismatch { previous: r.entry_id()?, hint: r.u64()? },
            10 => Body::Snapshot(SnapshotPiece::decode(r)?),
            11 => {
                let (floor, history, next_slot) = (r.entry_id()?, r.u64()?, r.u32()?);
                Body::SnapshotWanted { floor, history, next_slot }
            }
            12 => Body::EpochOver,
            13 => Body::TakeOver,
            21 => Body::SnapshotOffer { floor: r.entry_id()? },
            kind => Body::decode_loss(kind, r)?,
        };
        Ok(Message { group, epoch, body })
    }
}
