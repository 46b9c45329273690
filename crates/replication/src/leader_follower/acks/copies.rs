//! Counting copies: commits, shows and lets go what has enough of them.

use super::super::{Group, Role};
use super::held::{Answer, Read, Special, Wait, Write};
use super::need::Need;
use crate::Event;
use crate::command::Reply;
use crate::keyspace::AckLevel;
use crate::mutant::Mutant;
use crate::quorum::reached_by;
use crate::turn::Turn;
use alloc::vec;
use alloc::vec::Vec;

/// When a replica counts as having an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Have {
    Received,
    Durable,
    Applied,
    Synced,
}

impl Have {
    fn of(level: AckLevel) -> Have {
        match level {
            AckLevel::Received => Have::Received,
            AckLevel::Durable => Have::Durable,
            AckLevel::Applied => Have::Applied,
        }
    }
}

impl Group {
    /// Copies may have been added: commits, shows and acknowledges what has enough of them.
    pub(in super::super) fn count_copies(&mut self, turn: &mut Turn<'_>) {
        let mut copies = self.copies(turn);
        let committed = reached_by(&mut copies, self.quorum.commit);
        self.keep_scratch(copies);
        let Role::Leader(leader) = &self.role else { return };
        let own_epoch =
            committed >= leader.first_index || turn.local.mutants.is(Mutant::CountOlderEpochs);
        if committed > self.commit && own_epoch {
            self.commit_up_to(turn, committed);
        }
        self.release(turn);
    }

    /// For each voter, up to where it durably has this leader's log; this one first.
    pub(in super::super) fn copies(&mut self, turn: &Turn<'_>) -> Vec<u64> {
        self.copies_of(turn, Have::Durable)
    }

    /// For each voter, up to where it has this leader's log; this one first. In a list that is
    /// used again if it is given back.
    fn copies_of(&mut self, turn: &Turn<'_>, have: Have) -> Vec<u64> {
        let early = turn.local.mutants.is(Mutant::OwnCopyCountsEarly);
        let own = match have {
            Have::Received => self.log.recorded(),
            Have::Durable if early => self.log.last_index(),
            Have::Durable => self.log.durable_index(turn.local.durable(self.options.durability)),
            Have::Applied => self.commit,
            Have::Synced => self.log.synced_index(turn.local.synced),
        };
        let mut indexes = core::mem::take(&mut self.scratch);
        indexes.clear();
        let Role::Leader(leader) = &self.role else { return indexes };
        indexes.push(own);
        for (node, progress) in &leader.progress {
            if self.counts(turn, *node, progress.incarnation) {
                indexes.push(match have {
                    Have::Received => progress.received.max(progress.durable),
                    Have::Durable => progress.durable,
                    Have::Applied if turn.local.mutants.is(Mutant::ReceivedIsApplied) => {
                        progress.received
                    }
                    Have::Applied => progress.applied,
                    Have::Synced => progress.synced,
                });
            }
        }
        indexes
    }

    /// Gives back a list from [`Group::copies`].
    fn keep_scratch(&mut self, indexes: Vec<u64>) {
        self.scratch = indexes;
    }

    /// How many acks an entry has, as a need counts them.
    pub(super) fn acks_of(&mut self, turn: &Turn<'_>, index: u64, need: Need) -> usize {
        let copies = self.copies_of(turn, Have::of(need.level));
        let acks = copies.iter().filter(|copy| **copy >= index).count();
        self.keep_scratch(copies);
        acks
    }

    fn commit_up_to(&mut self, turn: &mut Turn<'_>, target: u64) {
        let target = target.min(self.log.last_index());
        self.commit_applied(turn, target);
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
            if let Role::Leader(leader) = &self.role
                && turn.local.mutants.is(Mutant::InheritedShown)
            {
                self.release_reads(turn, leader.first_index - 1);
            }
            return;
        }
        self.close_inherited(turn);
        let need = self.need();
        let mut copies = self.copies(turn);
        // What can be lost (A < C) is acknowledged only with this node's own durable copy: when it
        // is lost, the one who knows what was acknowledged also has what it was.
        let own = copies.first().copied().unwrap_or(0).max(self.commit);
        let visible = self.visible_on(&mut copies);
        let acknowledged = match need.level {
            AckLevel::Durable => reached_by(&mut copies, need.copies).min(own),
            level => reached_by(&mut self.copies_of(turn, Have::of(level)), need.copies),
        };
        let visible = match turn.local.mutants.is(Mutant::ReadUncommitted) {
            true => self.log.last_index(),
            false => visible,
        };
        self.release_writes(turn, acknowledged, visible);
        self.release_special(turn, own, visible);
        self.release_degraded(turn, &copies);
        self.keep_scratch(copies);
        self.release_reads(turn, visible);
        self.release_waits(turn);
    }

    /// Up to where writes are visible. What was shown once stays so, also when a replica that had
    /// it comes back with an empty disk.
    fn visible_on(&self, copies: &mut [u64]) -> u64 {
        let shown = match &self.role {
            Role::Leader(leader) => leader.visible,
            _ => 0,
        };
        shown.max(self.commit).max(reached_by(copies, self.quorum.visible()))
    }

    /// Those who wait for what their keyspace declares: in the order of the log.
    fn release_writes(&mut self, turn: &mut Turn<'_>, acknowledged: u64, visible: u64) {
        let need = self.need();
        let Role::Leader(leader) = &mut self.role else { return };
        if visible > leader.visible {
            leader.sight.grew(turn.now.monotonic_us);
        }
        leader.visible = visible;
        let mut writes = core::mem::take(&mut leader.held.writes);
        let may_go = |write: &mut Write| write.id.index <= acknowledged && write.saw <= visible;
        while let Some(write) = writes.pop_front_if(may_go) {
            self.acknowledge(turn, write, need);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.held.writes = writes;
        }
    }

    /// This turn's entries are in the node's log: whoever waits for copies that are received, and
    /// not durable, may have this one now.
    pub(in super::super) fn release_received(&mut self, turn: &mut Turn<'_>) {
        if self.wants().received {
            self.release(turn);
        }
    }

    /// Those who have said themselves what they wait for; `own` is how far this node durably has
    /// its log.
    fn release_special(&mut self, turn: &mut Turn<'_>, own: u64, visible: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.held.special.is_empty() {
            return;
        }
        let held = core::mem::take(&mut leader.held.special);
        let mut waiting = Vec::with_capacity(held.len());
        for special in held {
            let Special { write, need } = special;
            let is_here = need.level != AckLevel::Durable || write.id.index <= own;
            let may_tell = is_here && write.saw <= visible;
            match may_tell && self.acks_of(turn, write.id.index, need) >= need.copies {
                true => self.acknowledge(turn, write, need),
                false => waiting.push(Special { write, need }),
            }
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.held.special = waiting;
        }
    }

    fn release_reads(&mut self, turn: &mut Turn<'_>, visible: u64) {
        match &self.role {
            Role::Leader(leader) if !leader.held.reads.is_empty() => {}
            _ => return,
        }
        let round = self.confirmed_round(turn);
        while let Role::Leader(leader) = &mut self.role
            && let Some(read) = leader.held.reads.next_confirmed(visible, round)
        {
            self.answer_read(turn, read);
        }
        let Role::Leader(leader) = &mut self.role else { return };
        for read in leader.held.reads.take_shown(visible) {
            self.answer_read(turn, read);
        }
    }

    /// Answers what nothing holds up any more.
    pub(in super::super) fn answer_read(&mut self, turn: &mut Turn<'_>, read: Read) {
        let reply = match read.answer {
            Answer::Ready(reply) => reply,
            Answer::Either(either) => either.newest,
            Answer::Outcome(id) => self.outcome_of(turn, id),
            Answer::OutcomeAsked(asked) => self.outcome_of_asked(turn, &asked.0, asked.1),
            Answer::Degraded(prefix) => self.degraded_reply(&prefix),
        };
        turn.answer(read.requester, reply, None);
    }

    fn release_waits(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.held.waits.is_empty() {
            return;
        }
        let held = core::mem::take(&mut leader.held.waits);
        let mut waiting = Vec::with_capacity(held.len());
        for wait in held {
            match self.wait_reply(turn, &wait) {
                (true, reply) => turn.answer(wait.requester, reply, None),
                (false, _) => waiting.push(wait),
            }
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.held.waits = waiting;
        }
    }

    /// The leadership is about to end: each WAIT and WAITAOF is told what there is, as at its
    /// deadline.
    pub(in super::super) fn end_waits(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        for wait in core::mem::take(&mut leader.held.waits) {
            let (_, reply) = self.wait_reply(turn, &wait);
            turn.answer(wait.requester, reply, None);
        }
    }

    /// Whether a WAIT or WAITAOF has what it waits for, and what it would be told now.
    pub(super) fn wait_reply(&mut self, turn: &Turn<'_>, wait: &Wait) -> (bool, Reply<'static>) {
        let have = if wait.local.is_some() { Have::Synced } else { Have::Durable };
        let copies = self.copies_of(turn, have);
        let has_it = |index: &&u64| **index >= wait.index;
        let own = copies.first().filter(has_it).is_some();
        let followers = copies.iter().skip(1).filter(has_it).count() as u64;
        self.keep_scratch(copies);
        let enough = followers >= wait.followers && wait.local.is_none_or(|n| u64::from(own) >= n);
        (enough, wait_counts(wait.local.is_some(), own, followers))
    }

    /// The newest heartbeat round that C replicas, this one included, have confirmed.
    pub(in super::super) fn confirmed_round(&self, turn: &Turn<'_>) -> u64 {
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

/// What WAIT answers, or WAITAOF (`on_disk`): of the leader itself, and of how many followers.
pub fn wait_counts(on_disk: bool, own: bool, followers: u64) -> Reply<'static> {
    let followers = Reply::Integer(followers as i64);
    match on_disk {
        true => Reply::Array(vec![Reply::Integer(i64::from(own)), followers]),
        false => followers,
    }
}
