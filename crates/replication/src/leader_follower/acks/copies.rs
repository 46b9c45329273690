//! Counting copies: commits, shows and lets go what has enough of them.

use super::super::entry::Entry;
use super::super::{Group, Role};
use super::held::Read;
use crate::Event;
use crate::command::Reply;
use crate::mutant::Mutant;
use crate::quorum::reached_by;
use crate::turn::Turn;
use alloc::vec::Vec;

impl Group {
    /// Copies may have been added: commits, shows and acknowledges what has enough of them.
    pub(in super::super) fn count_copies(&mut self, turn: &mut Turn<'_>) {
        let committed = self.committed_by_copies(turn);
        let Role::Leader(leader) = &self.role else { return };
        let own_epoch =
            committed >= leader.first_index || turn.local.mutants.is(Mutant::CountOlderEpochs);
        if committed > self.commit && own_epoch {
            self.commit_up_to(turn, committed);
        }
        self.release(turn);
    }

    fn committed_by_copies(&mut self, turn: &Turn<'_>) -> u64 {
        let mut indexes = self.copies(turn);
        reached_by(&mut indexes, self.quorum.commit)
    }

    /// For each voter, up to where it durably has this leader's log.
    pub(super) fn copies(&mut self, turn: &Turn<'_>) -> Vec<u64> {
        let own = match turn.local.mutants.is(Mutant::OwnCopyCountsEarly) {
            true => self.log.last_index(),
            false => self.log.durable_index(turn.local.durable(self.options.durability)),
        };
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let mut indexes = Vec::with_capacity(self.members.len());
        indexes.push(own);
        for (node, progress) in &leader.progress {
            if self.counts(turn, *node, progress.incarnation) {
                indexes.push(progress.durable);
            }
        }
        indexes
    }

    fn commit_up_to(&mut self, turn: &mut Turn<'_>, target: u64) {
        let target = target.min(self.log.last_index());
        while self.commit < target {
            let index = self.commit + 1;
            self.commit = index;
            let Some(body) = self.log.get(index).map(|kept| kept.body.clone()) else { continue };
            if let Ok(entry) = Entry::decode(&body) {
                self.on_entry_committed(turn, &entry);
            }
        }
        self.state.commit(self.commit);
        self.decide_lost(turn);
        let entry = self.log.id_at(self.commit).unwrap_or_default();
        turn.event(Event::Committed { group: self.id, entry });
        self.prune_as_leader();
    }

    /// Whether the empty entry of this leader's epoch is committed: only then anybody is answered.
    pub fn is_serving(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.commit >= leader.first_index)
    }

    /// The commit index that followers may be told: none before this epoch's first entry has it.
    pub fn commit_to_tell(&self) -> u64 {
        if self.is_serving() { self.commit } else { 0 }
    }

    /// Lets go the replies whose entries have enough copies, and the reads that are confirmed.
    pub(in super::super) fn release(&mut self, turn: &mut Turn<'_>) {
        if !self.is_serving() {
            return;
        }
        let mut copies = self.copies(turn);
        // What can be lost (A < C) is acknowledged only with this node's own durable copy: when it
        // is lost, the one who knows what was acknowledged also has what it was.
        let own = match turn.local.mutants.is(Mutant::AckWithoutOwnCopy) {
            true => u64::MAX,
            false => copies.first().copied().unwrap_or(0).max(self.commit),
        };
        let acknowledged = reached_by(&mut copies, self.quorum.acks).min(own);
        let visible = self.commit.max(reached_by(&mut copies, self.quorum.visible()));
        let round = self.confirmed_round(turn);
        if let Role::Leader(leader) = &mut self.role {
            leader.visible = visible;
        }
        while let Some(write) = self.pop_held_write(|write| write.id.index <= acknowledged) {
            self.acknowledge(turn, write);
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let held = &mut leader.held;
        let ready = |read: &mut Read| read.index <= visible && read.round <= round;
        while let Some(read) = held.reads.pop_front_if(ready) {
            turn.answer(read.requester, read.reply, None);
        }
        held.waits.retain(|wait| {
            let count = copies.iter().filter(|index| **index >= wait.index).count();
            let enough = count >= wait.copies;
            if enough {
                turn.answer(wait.requester, Reply::Integer(count as i64 - 1), None);
            }
            !enough
        });
    }

    /// The newest heartbeat round that C replicas, this one included, have confirmed.
    fn confirmed_round(&self, turn: &Turn<'_>) -> u64 {
        let Role::Leader(leader) = &self.role else { return 0 };
        let mut rounds: Vec<u64> = leader
            .progress
            .iter()
            .filter(|(node, progress)| self.counts(turn, **node, progress.incarnation))
            .map(|(_, progress)| progress.confirmed_round)
            .collect();
        rounds.push(u64::MAX);
        reached_by(&mut rounds, self.quorum.commit)
    }
}
