//! The upper bound that a new leader knows: how far the log of the one before was heard to reach.
//! Told until that one is back, with the disk it had: another disk can tell nothing.

use crate::leader_follower::Group;
use crate::version::EntryId;
use crate::wire::{Read, Reader, Writer};
use crate::{Incarnation, NodeId};

/// How far a leader's log is known to reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    leader: NodeId,
    last: EntryId,
}

/// Writes of an earlier leader that nobody else has: it was heard to have so many entries, and
/// was not heard since. An upper bound of what is known, for some of them may be no client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unheard {
    /// The earlier leader.
    pub leader: NodeId,
    /// The epoch that it led.
    pub epoch: u64,
    /// The first index that is missing.
    pub first: u64,
    /// The last index that was heard of.
    pub last: u64,
}

impl Group {
    /// The leader's log is known to reach so far.
    pub fn hear_last(&mut self, leader: NodeId, last: EntryId) {
        if last.epoch == self.epoch && self.leader == Some(leader) {
            let before = self.lost_writes.heard.map_or(EntryId::default(), |heard| heard.last);
            if last > before {
                self.lost_writes.heard = Some(Heard { leader, last });
            }
        }
    }

    /// This node is about to lead: what an earlier leader was heard to have, and this log has not,
    /// is told until that leader is back.
    pub(in crate::leader_follower) fn note_unheard(&mut self, me: NodeId) {
        let last = self.log.last();
        let heard = self.lost_writes.heard.filter(|heard| {
            heard.last.index > last.index && heard.last.epoch >= last.epoch && heard.leader != me
        });
        self.lost_writes.unheard = heard.map(|Heard { leader, last: heard }| {
            let mut voters = self.voters.list().into_iter();
            let disk = voters.find(|(node, _)| *node == leader).map(|(_, disk)| disk);
            let (epoch, first, last) = (heard.epoch, last.index + 1, heard.index);
            (Unheard { leader, epoch, first, last }, disk)
        });
    }

    /// A follower has matched this leader's log: with the disk that it led with, it reports for
    /// itself.
    pub(in crate::leader_follower) fn hear_again(&mut self, from: NodeId, disk: Incarnation) {
        self.lost_writes.unheard.take_if(|(unheard, before)| {
            unheard.leader == from && before.is_none_or(|before| before == disk)
        });
    }

    /// At a leader: what an earlier leader has, or had, and was not heard to say since.
    pub fn unheard(&self) -> Option<Unheard> {
        self.lost_writes.unheard.map(|(unheard, _)| unheard).filter(|_| self.leads())
    }
}

impl Unheard {
    /// How many entries, at most.
    pub fn entries(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// Writes it.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u16(self.leader.0);
        w.u64(self.epoch);
        w.u64(self.first);
        w.u64(self.last);
    }

    /// Reads what [`Unheard::encode`] has written.
    pub fn decode(r: &mut Reader<'_>) -> Read<Unheard> {
        Ok(Unheard { leader: r.node()?, epoch: r.u64()?, first: r.u64()?, last: r.u64()? })
    }
}
