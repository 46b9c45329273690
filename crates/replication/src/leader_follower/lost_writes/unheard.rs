//! What a new leader says of the one before, while that one has not told for itself.
//!
//! A leadership ends without its leader being heard out wherever a failover takes place without
//! it. Where its acks and the votes of the election need not have had a node in common
//! (A + votes <= N, `quorum.rs`), acknowledged writes may have gone with it. An epoch whose
//! opening entry is not in the log has acknowledged nothing; so it is always the log's newest
//! epoch before that of the new leader. How much that one had taken in nobody knows but its disk:
//!
//! - *At least* what was heard of: its heartbeats and appends say how far its log reached. That is
//!   no upper bound, for what it wrote after its last word is not in it.
//! - *At most* as many writes of clients as a leader takes in beyond what is committed: whatever
//!   was committed is in the new leader's log. That is no bound where committed entries may be
//!   gone, too, as under a possible loss.
//!
//! The opening entry of the new epoch carries both (`Opener`), and `epochs.rs` remembers it, for
//! the newest thousands of leaderships: so it outlives restarts, snapshots and later failovers. It
//! ends with an entry: when the old leader, with the disk that it led with, durably has the entry
//! that opened the next epoch, everything else is cut from its log, and what it cut is in its own
//! report; or by an operator's FORGET. If another disk of it counts, nobody will ever know more.

use crate::leader_follower::entry::Payload;
use crate::leader_follower::epochs::Reign;
use crate::leader_follower::{Group, Role};
use crate::turn::Turn;
use crate::version::EntryId;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{NodeId, Position};
use alloc::vec::Vec;

/// A leadership that ended without its leader being heard out, and with which acknowledged writes
/// may have gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unheard {
    /// Who led.
    pub leader: NodeId,
    /// The epoch that it led.
    pub epoch: u64,
    /// The first index that is missing, if anything is.
    pub first: u64,
    /// How many entries it was heard to have that are gone; it may have had more.
    pub at_least: u64,
    /// How many writes of clients can be gone at most, where that is known.
    pub at_most: Option<u64>,
    /// Why nobody can say more.
    pub why: Why,
}

/// Why a leader was not heard out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It has not come back yet.
    Away,
    /// Another disk counts in place of the one that it led with.
    DiskGone,
    /// The next leader began under a possible loss: other disks may lack something, too.
    PossibleLoss,
}

impl Group {
    /// The leader's log is known to reach so far.
    pub fn hear_last(&mut self, leader: NodeId, last: EntryId) {
        if last.epoch == self.epoch && self.leader == Some(leader) {
            self.lost_writes.heard = self.lost_writes.heard.max(last);
        }
    }

    /// This node is about to lead: up to which index the leader of its log's newest epoch was
    /// heard to have entries of that epoch.
    pub(in crate::leader_follower) fn heard_of_newest(&self) -> u64 {
        let heard = self.lost_writes.heard;
        if heard.epoch == self.log.last().epoch { heard.index } else { 0 }
    }

    /// Whether writes that were acknowledged may be missing in the log of a candidate with so many
    /// sound votes: of those with the fewest acks that the keyspace allows.
    pub(in crate::leader_follower) fn may_lack_acknowledged(&self, votes: usize) -> bool {
        let acks = if self.options.weaker_acks { 1 } else { self.quorum.acks };
        acks + votes <= self.quorum.replicas
    }

    /// A tick: says of earlier leaders that they were heard out, if that is so now.
    pub(in crate::leader_follower) fn hear_out(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &self.role else { return };
        if !self.takes_in() {
            return;
        }
        let me = (turn.local.me, turn.local.incarnation);
        let is_back = |(reign, next): &(Reign, Reign)| {
            let has_told = leader.progress.get(&reign.leader).is_some_and(|progress| {
                progress.incarnation == reign.incarnation && progress.durable >= next.first_index
            });
            !next.after_loss && (has_told || (reign.leader, reign.incarnation) == me)
        };
        let heard: Vec<u64> =
            self.epochs.unheard().filter(is_back).map(|(reign, _)| reign.epoch).collect();
        for epoch in heard {
            self.append(turn, None, Payload::HeardOut(epoch));
        }
    }

    /// At a leader: the earlier ones that were not heard out.
    pub fn unheard(&self) -> impl Iterator<Item = Unheard> {
        self.epochs.unheard().filter(|_| self.leads()).map(|(reign, next)| Unheard {
            leader: reign.leader,
            epoch: reign.epoch,
            first: next.first_index,
            at_least: next.heard.saturating_add(1).saturating_sub(next.first_index),
            at_most: match next.after_loss {
                true => None,
                false => Some(self.limits.uncommitted_entries_max as u64),
            },
            why: match self.voters.counts(reign.leader, reign.incarnation) {
                _ if next.after_loss => Why::PossibleLoss,
                true => Why::Away,
                false => Why::DiskGone,
            },
        })
    }

    /// At a leader: nobody wants to hear any more of an epoch's leader. Returns from when on that
    /// is durable here; `None` if nothing was to be heard of it.
    pub fn forget_unheard(&mut self, turn: &mut Turn<'_>, epoch: u64) -> Option<Position> {
        let is_there = self.epochs.unheard().any(|(reign, _)| reign.epoch == epoch);
        if !is_there || !self.takes_in() {
            return None;
        }
        self.append(turn, None, Payload::HeardOut(epoch));
        self.record_turn(turn);
        Some(self.newest_record())
    }
}

impl Unheard {
    /// Writes it.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u16(self.leader.0);
        w.u64(self.epoch);
        w.u64(self.first);
        w.u64(self.at_least);
        w.bool(self.at_most.is_some());
        w.u64(self.at_most.unwrap_or(0));
        w.u8(match self.why {
            Why::Away => 0,
            Why::DiskGone => 1,
            Why::PossibleLoss => 2,
        });
    }

    /// Reads what [`Unheard::encode`] has written.
    pub fn decode(r: &mut Reader<'_>) -> Read<Unheard> {
        let (leader, epoch, first, at_least) = (r.node()?, r.u64()?, r.u64()?, r.u64()?);
        let (is_bounded, at_most) = (r.bool()?, r.u64()?);
        let why = match r.u8()? {
            0 => Why::Away,
            1 => Why::DiskGone,
            2 => Why::PossibleLoss,
            _ => return Err(Malformed),
        };
        let at_most = is_bounded.then_some(at_most);
        Ok(Unheard { leader, epoch, first, at_least, at_most, why })
    }
}

impl Why {
    /// As it is called in replies.
    pub fn word(self) -> &'static str {
        match self {
            Why::Away => "away",
            Why::DiskGone => "disk gone",
            Why::PossibleLoss => "possible loss",
        }
    }
}
