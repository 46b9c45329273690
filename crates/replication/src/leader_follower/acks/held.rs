//! Replies that wait: a write's for copies of its entry, a read's until what it saw is visible
//! and the leader is confirmed, a WAIT's for followers.

use super::super::{Group, Role};
use crate::command::Reply;
use crate::keyspace::MissingAcks;
use crate::mutant::Mutant;
use crate::turn::{Requester, Turn};
use crate::version::EntryId;
use crate::{ClientId, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Replies that wait, each kind in the order of what it waits for.
#[derive(Default)]
pub struct Held {
    pub(super) writes: VecDeque<Write>,
    pub(super) reads: VecDeque<Read>,
    pub(super) waits: Vec<Wait>,
}

/// A write's reply: waits for A copies of its entry.
pub struct Write {
    pub(super) requester: Requester,
    pub(super) id: EntryId,
    pub(super) reply: Reply<'static>,
    pub(super) deadline_us: u64,
}

/// A read's reply: waits until what it saw is visible and this node is confirmed as leader.
pub(super) struct Read {
    pub(super) requester: Requester,
    pub(super) index: u64,
    pub(super) round: u64,
    pub(super) reply: Reply<'static>,
    pub(super) deadline_us: u64,
}

/// A WAIT: waits until so many replicas have an entry.
pub(super) struct Wait {
    pub(super) requester: Requester,
    pub(super) index: u64,
    pub(super) copies: usize,
    pub(super) deadline_us: u64,
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

impl Group {
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

    /// Holds the reply to a write that was sent again until the entry of its first attempt has its
    /// acks: in the place of that entry, and at most until the deadline of the write behind it, as
    /// deadlines come in order.
    pub(in super::super) fn hold_again(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        id: EntryId,
        reply: Reply<'static>,
    ) {
        self.hold_write(turn, requester, id, reply);
        if let Role::Leader(leader) = &mut self.role {
            let writes = &mut leader.held.writes;
            if let Some(mut again) = writes.pop_back() {
                let place = writes.partition_point(|write| write.id.index <= id.index);
                let next_us = writes.get(place).map_or(u64::MAX, |next| next.deadline_us);
                again.deadline_us = again.deadline_us.min(next_us);
                writes.insert(place, again);
            }
        }
        self.release(turn);
    }

    /// Whether a read that saw nothing newer than `index` need not wait at all: no other node can
    /// lead without this one's vote, and what it saw is visible.
    pub(in super::super) fn may_read_at_once(&self, index: u64) -> bool {
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
    pub(in super::super) fn expire_held(&mut self, turn: &mut Turn<'_>) {
        let (now_us, serving) = (turn.now.monotonic_us, self.is_serving());
        let copies = self.copies(turn);
        let have = |index: u64| copies.iter().filter(|copy| **copy >= index).count();
        while let Some(write) = self.pop_held_write(|write| write.deadline_us <= now_us) {
            let acked = have(write.id.index);
            self.leave_open(turn, write, Some(acked), "its acks have not come in time");
        }
        let Role::Leader(leader) = &mut self.role else { return };
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
                let others = (have(wait.index) as i64 - 1).max(0);
                turn.answer(wait.requester, Reply::Integer(others), None);
            }
            !expired
        });
    }

    /// The oldest write that waits, if it is one that may go.
    pub(super) fn pop_held_write(&mut self, may_go: impl Fn(&Write) -> bool) -> Option<Write> {
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.held.writes.pop_front_if(|write| may_go(write))
    }
}
