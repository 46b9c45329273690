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
//! ends with an entry: when the old leader, with the disk that it led with, has the entry that
//! opened the next epoch, everything else is cut from its log, and what it cut is in its own
//! report. It says so when that is synced: even a power cut cannot take it then. Or an operator's
//! FORGET ends it. If another disk of it counts, or a power cut has torn the disk (`torn.rs`),
//! nobody will ever know more.

use crate::keyspace::Durability;
use crate::leader_follower::entry::Payload;
use crate::leader_follower::epochs::Reign;
use crate::leader_follower::message::Body;
use crate::leader_follower::{Group, Role};
use crate::turn::Turn;
use crate::version::EntryId;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{Incarnation, NodeId};
use alloc::collections::{BTreeMap, BTreeSet};
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
    /// It has come back, but a power cut may have taken what its disk had last.
    Torn,
    /// The next leader began under a possible loss: other disks may lack something, too.
    PossibleLoss,
}

/// What a leader knows of those earlier ones.
#[derive(Default)]
pub struct Hearing {
    /// When a node was asked that has not answered.
    asked_us: BTreeMap<NodeId, u64>,
    /// The epochs whose leaders have said that their disks are torn.
    torn: BTreeSet<u64>,
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

    /// A tick: asks earlier leaders that are back whether they have told everything.
    pub(in crate::leader_follower) fn hear_out(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &self.role else { return };
        if !self.takes_in() {
            return;
        }
        let now_us = turn.now.monotonic_us;
        let patience_us = self.timing.election_timeout_us;
        let (mut asked, mut own) = (Vec::new(), Vec::new());
        for (reign, next) in self.epochs.unheard() {
            if !can_end(&next) || leader.hearing.torn.contains(&reign.epoch) {
                continue;
            }
            if (reign.leader, reign.incarnation) == (turn.local.me, turn.local.incarnation) {
                own.push(reign.epoch);
                continue;
            }
            let is_back = leader.progress.get(&reign.leader).is_some_and(|progress| {
                progress.incarnation == reign.incarnation && progress.durable >= next.first_index
            });
            let waits = asked.iter().any(|(node, _)| *node == reign.leader)
                || leader
                    .hearing
                    .asked_us
                    .get(&reign.leader)
                    .is_some_and(|asked_us| now_us.saturating_sub(*asked_us) < patience_us);
            if is_back && !waits {
                let question = Body::AskTold { epoch: reign.epoch, next: next.first_index };
                asked.push((reign.leader, question));
            }
        }
        for (node, question) in asked {
            if let Role::Leader(leader) = &mut self.role {
                leader.hearing.asked_us.insert(node, now_us);
            }
            self.say_epoch(turn, node, question);
        }
        for epoch in own {
            // What this node has cut was on its disk before its vote for itself was.
            let torn = self.is_torn(turn, epoch);
            self.take_told(turn, epoch, torn);
        }
    }

    /// The leader asks whether this node has told what is lost of a leadership of its own: it has
    /// when its log has the next one's first entry, and the answer is let go when that is synced.
    pub(in crate::leader_follower) fn on_ask_told(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        epoch: u64,
        next: u64,
    ) {
        if self.leader != Some(from) || self.known_of_leader() < next {
            return;
        }
        let told = self.message(Body::Told { epoch, torn: self.is_torn(turn, epoch) });
        turn.send_when_durable(self.newest_record(), Durability::Fsync, from, told);
    }

    /// An earlier leader's answer.
    pub(in crate::leader_follower) fn on_told(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        epoch: u64,
        torn: bool,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.hearing.asked_us.remove(&from);
        let disk = |reign: &Reign| (reign.leader, reign.incarnation, reign.epoch);
        let is_meant = |(reign, next): &(Reign, Reign)| {
            disk(reign) == (from, incarnation, epoch) && can_end(next)
        };
        if self.takes_in() && self.epochs.unheard().any(|pair| is_meant(&pair)) {
            self.take_told(turn, epoch, torn);
        }
    }

    /// An earlier leader has told all that its disk has.
    fn take_told(&mut self, turn: &mut Turn<'_>, epoch: u64, torn: bool) {
        if !torn {
            self.append(turn, None, Payload::HeardOut(epoch));
        } else if let Role::Leader(leader) = &mut self.role {
            leader.hearing.torn.insert(epoch);
        }
    }

    /// At a leader: the earlier ones that were not heard out.
    pub fn unheard(&self) -> impl Iterator<Item = Unheard> {
        let hearing = match &self.role {
            Role::Leader(leader) => Some(&leader.hearing),
            _ => None,
        };
        let pairs = self.epochs.unheard();
        pairs.filter_map(move |(reign, next)| Some((reign, next, hearing?))).map(
            |(reign, next, hearing)| Unheard {
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
                    _ if next.torn || hearing.torn.contains(&reign.epoch) => Why::Torn,
                    true => Why::Away,
                    false => Why::DiskGone,
                },
            },
        )
    }

    /// At a leader: nobody wants to hear any more of an epoch's leader. Returns the entry that says
    /// so: it is forgotten when that is committed. `None` if nothing was to be heard of it.
    pub fn forget_unheard(&mut self, turn: &mut Turn<'_>, epoch: u64) -> Option<EntryId> {
        if !self.takes_in() {
            return None;
        }
        if self.epochs.unheard().any(|(reign, _)| reign.epoch == epoch) {
            self.append(turn, None, Payload::HeardOut(epoch));
            self.record_turn(turn);
            return Some(self.log.last());
        }
        let said_by = self.epochs.reign_of(epoch)?.heard_out;
        if said_by > self.commit { self.log.id_at(said_by) } else { None }
    }

    /// Whether an entry of this log is known to be committed.
    pub fn has_committed(&self, id: EntryId) -> bool {
        let reign = self.epochs.reign_at(id.index);
        id.index <= self.commit && reign.is_some_and(|reign| reign.epoch == id.epoch)
    }
}

/// Whether an earlier leader's own word can end what is told of it: not where other disks may lack
/// something, too, nor where its successor, the same disk, has said that it is torn.
fn can_end(next: &Reign) -> bool {
    !next.after_loss && !next.torn
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
            Why::Torn => 3,
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
            3 => Why::Torn,
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
            Why::Torn => "torn",
        }
    }
}
