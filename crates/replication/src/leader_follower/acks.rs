//! Counting copies: when a write is acknowledged (A), committed (C) and visible (min(A, C)), and
//! letting go the replies that waited for it.

use super::{Group, Role};
use crate::command::Reply;
use crate::keyspace::MissingAcks;
use crate::mutant::Mutant;
use crate::quorum::reached_by;
use crate::turn::{LastWrite, Requester, Turn};
use crate::version::EntryId;
use crate::{ClientId, Event, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

/// Replies that wait, each kind in the order of what it waits for.
#[derive(Default)]
pub struct Held {
    writes: VecDeque<Write>,
    reads: VecDeque<Read>,
    waits: Vec<Wait>,
}

/// A write's reply: waits for A copies of its entry.
struct Write {
    requester: Requester,
    id: EntryId,
    reply: Reply<'static>,
    deadline_us: u64,
}

/// A read's reply: waits until what it saw is visible and this node is confirmed as leader.
struct Read {
    requester: Requester,
    index: u64,
    round: u64,
    reply: Reply<'static>,
    deadline_us: u64,
}

/// A WAIT: waits until so many replicas have an entry.
struct Wait {
    requester: Requester,
    index: u64,
    copies: usize,
    deadline_us: u64,
}

impl Held {
    /// The earliest deadline of a reply that waits.
    pub fn next_deadline(&self) -> u64 {
        let write = self.writes.front().map_or(u64::MAX, |write| write.deadline_us);
        let read = self.reads.front().map_or(u64::MAX, |read| read.deadline_us);
        let wait = self.waits.iter().map(|wait| wait.deadline_us).min().unwrap_or(u64::MAX);
        write.min(read).min(wait)
    }
}

impl super::leader::Leader {
    /// The leadership is over: reads may be tried again, the outcome of writes is open.
    pub(super) fn revoke(self, turn: &mut Turn<'_>, need: usize, reason: &str) {
        for write in self.held.writes {
            let text = format!(
                "UNKNOWN need={need} epoch={} index={}: this leader stepped down ({reason}); the \
                 write may or may not survive",
                write.id.epoch, write.id.index
            );
            turn.refuse(write.requester, text);
        }
        for read in self.held.reads {
            let text = format!("TRYAGAIN this leader stepped down ({reason})");
            turn.refuse(read.requester, text);
        }
        for wait in self.held.waits {
            turn.answer(wait.requester, Reply::Integer(0), None);
        }
    }
}

impl Group {
    /// Copies may have been added: commits, shows and acknowledges what has enough of them.
    pub(super) fn count_copies(&mut self, turn: &mut Turn<'_>) {
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
    fn copies(&mut self, turn: &Turn<'_>) -> Vec<u64> {
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
            if let Ok(entry) = super::entry::Entry::decode(&body) {
                self.on_entry_committed(turn, &entry);
            }
        }
        self.state.commit(self.commit);
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
    pub(super) fn release(&mut self, turn: &mut Turn<'_>) {
        if !self.is_serving() {
            return;
        }
        let (commit, quorum, group) = (self.commit, self.quorum, self.id);
        let mut copies = self.copies(turn);
        let acknowledged = reached_by(&mut copies, quorum.acks);
        let visible = commit.max(reached_by(&mut copies, quorum.visible()));
        let round = self.confirmed_round(turn);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.visible = visible;
        let held = &mut leader.held;
        while let Some(write) = held.writes.pop_front_if(|w| w.id.index <= acknowledged) {
            let last_write = LastWrite::Entry { group, id: write.id };
            turn.answer(write.requester, write.reply, Some(last_write));
        }
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

    /// Whether a read waits for a heartbeat round that has not been started; asked once a turn.
    pub fn take_wants_round(&mut self) -> bool {
        match &mut self.role {
            Role::Leader(leader) => core::mem::take(&mut leader.wants_round),
            _ => false,
        }
    }

    /// A member's answer to a heartbeat round.
    pub fn on_heartbeat_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        round: u64,
        epoch: u64,
    ) {
        if epoch > self.epoch {
            return self.adopt_epoch(turn, epoch, "a follower is in a newer epoch");
        }
        if epoch < self.epoch {
            return;
        }
        if let Some(progress) = self.progress_of(turn, from, incarnation) {
            progress.confirmed_round = progress.confirmed_round.max(round);
            self.release(turn);
        }
    }

    fn ack_deadline_us(&self, turn: &Turn<'_>) -> u64 {
        let timeout_us = self.options.ack_timeout_ms.saturating_mul(1000);
        turn.now.monotonic_us.saturating_add(timeout_us)
    }

    /// Holds a write's reply until A replicas have its entry.
    pub fn hold_write(
        &mut self,
        turn: &Turn<'_>,
        requester: Requester,
        id: EntryId,
        reply: Reply<'static>,
    ) {
        let deadline_us = match self.options.missing_acks {
            MissingAcks::Error => self.ack_deadline_us(turn),
            MissingAcks::Block => u64::MAX,
        };
        if let Role::Leader(leader) = &mut self.role {
            leader.held.writes.push_back(Write { requester, id, reply, deadline_us });
        }
    }

    /// Whether a read that saw nothing newer than `index` need not wait at all: no other node can
    /// lead without this one's vote, and what it saw is visible.
    pub(super) fn may_read_at_once(&self, index: u64) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.quorum.commit == 1 && self.is_serving() && index <= leader.visible
    }

    /// Holds a read's reply until what it saw up to `index` is visible, and until a heartbeat
    /// round that starts after now has confirmed this leader.
    pub fn hold_read(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        index: u64,
        reply: Reply<'static>,
    ) {
        let alone = self.quorum.commit == 1;
        let skip = alone || turn.local.mutants.is(Mutant::ReadWithoutRound);
        let round = if skip { 0 } else { turn.local.round + 1 };
        let deadline_us = self.ack_deadline_us(turn);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.wants_round |= round > 0;
        leader.held.reads.push_back(Read { requester, index, round, reply, deadline_us });
        if round == 0 {
            self.release(turn);
        }
    }

    /// Answers as soon as `replicas` followers have an entry, or with how many do at a deadline.
    pub fn hold_wait(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        index: u64,
        replicas: u64,
        timeout_ms: u64,
    ) {
        let deadline_us = turn.now.monotonic_us.saturating_add(timeout_ms.saturating_mul(1000));
        let copies = usize::try_from(replicas).unwrap_or(usize::MAX).saturating_add(1);
        if let Role::Leader(leader) = &mut self.role {
            leader.held.waits.push(Wait { requester, index, copies, deadline_us });
        }
        self.release(turn);
    }

    /// A client of this node has gone: nobody asks any more whether its write has arrived.
    pub fn forget_waits(&mut self, client: ClientId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.held.waits.retain(|wait| {
                !matches!(wait.requester, Requester::Client(request) if request.client == client)
            });
        }
    }

    /// Answers those whose deadline has come: missing acks are never silent.
    pub(super) fn expire_held(&mut self, turn: &mut Turn<'_>) {
        let (now_us, need, serving) = (turn.now.monotonic_us, self.quorum.acks, self.is_serving());
        let copies = self.copies(turn);
        let Role::Leader(leader) = &mut self.role else { return };
        while let Some(write) = leader.held.writes.pop_front_if(|w| w.deadline_us <= now_us) {
            let acked = copies.iter().filter(|index| **index >= write.id.index).count();
            let text = format!(
                "UNKNOWN acked={acked} need={need} epoch={} index={}: the write may or may not \
                 survive",
                write.id.epoch, write.id.index
            );
            turn.refuse(write.requester, text);
        }
        while let Some(read) = leader.held.reads.pop_front_if(|r| r.deadline_us <= now_us) {
            let text = match serving {
                true => "TRYAGAIN too few replicas have confirmed that this node still leads",
                false => "TRYAGAIN this leader has not committed its first entry yet",
            };
            turn.refuse(read.requester, Cow::Borrowed(text));
        }
        leader.held.waits.retain(|wait| {
            let expired = wait.deadline_us <= now_us;
            if expired {
                let count = copies.iter().filter(|index| **index >= wait.index).count() as i64;
                turn.answer(wait.requester, Reply::Integer((count - 1).max(0)), None);
            }
            !expired
        });
    }
}
