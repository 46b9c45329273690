//! Replies that wait: a write's for copies of its entry, a read's until what it saw is visible
//! and the leader is confirmed, a WAIT's for followers.

use super::super::{Group, Role};
use super::evaluated::Evaluated;
use super::need::{Need, SPECIAL_WRITES_MAX};
use super::older::Either;
use super::waiting::WaitingReads;
use crate::asked_token::AskedToken;
use crate::command::Reply;
use crate::keyspace::MissingAcks;
use crate::mutant::Mutant;
use crate::node::LeaseTerm;
use crate::turn::{Requester, Turn};
use crate::version::EntryId;
use crate::{Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A retry does not wait in line with the others.
const TOO_MANY_WAIT: &str = "TRYAGAIN this was carried out before and waits for its acks, and too \
                             many others like it do, too; nothing was done now";

/// Replies that wait, each kind in the order of what it waits for.
#[derive(Default)]
pub struct Held {
    /// Writes that wait for what their keyspace declares: acknowledged in the order of the log.
    pub(super) writes: VecDeque<Write>,
    /// Writes that wait for something else: they may overtake each other.
    pub(super) special: Vec<Special>,
    pub(in super::super) reads: WaitingReads,
    /// Reads of this turn: its end decides what they wait for.
    pub(in super::super) evaluated: Evaluated,
    pub(super) waits: Vec<Wait>,
}

/// A write's reply: waits for copies of its entry.
pub struct Write {
    pub(super) requester: Requester,
    pub(super) id: EntryId,
    pub(super) reply: Reply<'static>,
    /// The newest write that the reply tells of besides its own: it waits until that is visible.
    pub(super) saw: u64,
    pub(super) deadline_us: u64,
}

/// A write that has its own need.
pub(super) struct Special {
    pub(super) write: Write,
    pub(super) need: Need,
}

/// A read's reply: waits until what it saw is visible and this node is confirmed as leader.
pub(in super::super) struct Read {
    pub(in super::super) requester: Requester,
    pub(in super::super) index: u64,
    pub(in super::super) round: u64,
    pub(in super::super) answer: Answer,
    pub(super) deadline_us: u64,
}

/// What a read answers.
pub(in super::super) enum Answer {
    /// What it saw when it was evaluated.
    Ready(Reply<'static>),
    /// The same, and behind it what was visible then, if what it saw does not become so in time.
    Either(Box<Either>),
    /// What has become of an entry: only a confirmed leader knows.
    Outcome(EntryId),
    /// The same for a command that was forwarded, and whether it can no longer arrive.
    OutcomeAsked(Box<(AskedToken, bool)>),
    /// The degrade ledger; the bytes are the keyspace's prefix.
    Degraded(Vec<u8>),
}

/// A WAIT or WAITAOF: waits until so many followers have an entry.
pub(super) struct Wait {
    pub(super) requester: Requester,
    pub(super) index: u64,
    pub(super) followers: u64,
    /// WAITAOF: copies count when they are on disk, and so many of this leader's own are wanted.
    pub(super) local: Option<u64>,
    pub(super) deadline_us: u64,
}

impl Held {
    /// Whether no write or read waits; a WAIT is told what there is when the leader goes.
    pub fn is_idle(&self) -> bool {
        let no_writes = self.writes.is_empty() && self.special.is_empty();
        no_writes && self.reads.is_empty() && self.evaluated.is_empty()
    }

    /// How many writes wait for their keyspace's acks, how many for others, and how many WAITs
    /// there are.
    pub(in super::super) fn counts(&self) -> (usize, usize, usize) {
        (self.writes.len(), self.special.len(), self.waits.len())
    }

    /// Bytes of what reads of earlier turns will answer: counted anew, and as they are counted.
    pub(in super::super) fn recount_reads(&self) -> (u64, u64) {
        (self.reads.recount(), self.reads.bytes())
    }

    /// The earliest deadline of a reply that waits.
    pub fn next_deadline(&self) -> u64 {
        let write = self.writes.front().map_or(u64::MAX, |write| write.deadline_us);
        let wait = self.waits.iter().map(|wait| wait.deadline_us).min().unwrap_or(u64::MAX);
        let special = self.special.iter().map(|special| special.write.deadline_us).min();
        write.min(self.reads.next_deadline()).min(wait).min(special.unwrap_or(u64::MAX))
    }
}

impl Group {
    /// Bytes of what reads will answer that wait here.
    pub fn held_read_bytes(&self) -> u64 {
        match &self.role {
            Role::Leader(leader) => leader.held.reads.bytes() + leader.held.evaluated.bytes(),
            _ => 0,
        }
    }

    /// A member's answer to a heartbeat round.
    pub fn on_heartbeat_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        (round, epoch, term): (u64, u64, LeaseTerm),
    ) {
        if self.refuses_leap(turn, from, epoch) {
            return;
        }
        if epoch > self.epoch {
            return self.adopt_epoch(turn, epoch, "a follower is in a newer epoch");
        }
        if epoch < self.epoch {
            return;
        }
        let bound_until_us = self.bound_until_us(turn, round, term);
        if let Some(progress) = self.progress_of(turn, from, incarnation) {
            progress.confirmed_round = progress.confirmed_round.max(round);
            progress.bound_until_us = progress.bound_until_us.max(bound_until_us);
            self.renew_lease(turn);
            self.release(turn);
        }
    }

    pub(in super::super) fn ack_deadline_us(&self, turn: &Turn<'_>) -> u64 {
        let timeout_us = self.options.ack_timeout_ms.saturating_mul(1000);
        turn.now.monotonic_us.saturating_add(timeout_us)
    }

    fn write_deadline_us(&self, turn: &Turn<'_>) -> u64 {
        match self.options.missing_acks {
            MissingAcks::Error | MissingAcks::Degrade => self.ack_deadline_us(turn),
            MissingAcks::Block => u64::MAX,
        }
    }

    /// Holds a write's reply until its entry has what it needs.
    pub fn hold_write(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        id: EntryId,
        reply: Reply<'static>,
        need: Need,
    ) {
        self.hold_write_that_saw(turn, requester, id, (reply, 0), need);
    }

    /// The same for a reply that tells what it has found: an earlier write, up to `saw`, that must
    /// be visible first. Fewer acks or a lower level are about the writer's own write only.
    pub fn hold_write_that_saw(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        id: EntryId,
        (reply, saw): (Reply<'static>, u64),
        need: Need,
    ) {
        let deadline_us = self.write_deadline_us(turn);
        let write = Write { requester, id, reply, saw, deadline_us };
        let is_usual = need == self.need();
        if !is_usual {
            self.note_apart(id);
        }
        if let Role::Leader(leader) = &mut self.role {
            match is_usual {
                true => leader.held.writes.push_back(write),
                false => leader.held.special.push(Special { write, need }),
            }
        }
    }

    /// Holds the reply to a write that was sent again until the entry of its first attempt has what
    /// the write needs. It is not in the order of the log.
    pub(in super::super) fn hold_again(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        id: EntryId,
        reply: Reply<'static>,
        need: Need,
    ) {
        let deadline_us = self.write_deadline_us(turn);
        let write = Write { requester, id, reply, saw: id.index, deadline_us };
        if let Role::Leader(leader) = &mut self.role {
            if leader.held.special.len() >= SPECIAL_WRITES_MAX {
                return turn.refuse(requester, TOO_MANY_WAIT);
            }
            leader.held.special.push(Special { write, need });
        }
        self.release(turn);
    }

    /// Whether a read that saw nothing newer than `index` need not wait at all: no other node can
    /// lead without this one's vote, and what it saw is visible.
    pub(in super::super) fn may_read_at_once(&self, index: u64) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.quorum.commit == 1 && self.is_serving() && index <= leader.visible
    }

    /// Holds a read's reply until what it saw up to `index` is visible, and until the turn's end
    /// finds a lease, or a heartbeat round that starts after now has confirmed this leader.
    pub fn hold_read(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        index: u64,
        reply: Reply<'static>,
    ) {
        self.hold_answer(turn, requester, index, Answer::Ready(reply));
    }

    /// Holds a question about this group until it is sure that this node still leads.
    pub(in super::super) fn hold_answer(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        index: u64,
        answer: Answer,
    ) {
        let mutants = turn.local.mutants;
        let early = mutants.is(Mutant::LeaseCheckedEarly) && self.holds_lease(turn);
        let skip = self.quorum.commit == 1 || mutants.is(Mutant::ReadWithoutRound) || early;
        let deadline_us = self.ack_deadline_us(turn);
        let Role::Leader(leader) = &mut self.role else { return };
        if skip {
            let read = Read { requester, index, round: 0, answer, deadline_us };
            leader.held.reads.push(read);
            self.release(turn);
        } else {
            leader.held.evaluated.push(requester, index, deadline_us, answer);
        }
    }

    /// Whether a read has to wait for nothing before the end of its turn: the other ways are for
    /// groups where one node commits alone, and for planted bugs.
    pub(in super::super) fn waits_for_turn_end(&self, turn: &Turn<'_>) -> bool {
        let mutants = turn.local.mutants;
        self.quorum.commit > 1
            && !mutants.is(Mutant::LeaseCheckedEarly)
            && !mutants.is(Mutant::ReadWithoutRound)
    }

    /// Answers a WAIT as soon as `followers` have an entry durably, or with how many do at a
    /// deadline. With `local`, a WAITAOF: on disk, here and there.
    pub fn hold_wait(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        index: u64,
        (followers, local): (u64, Option<u64>),
        timeout_ms: u64,
    ) {
        let deadline_us = turn.now.monotonic_us.saturating_add(timeout_ms.saturating_mul(1000));
        if let Role::Leader(leader) = &mut self.role {
            leader.held.waits.push(Wait { requester, index, followers, local, deadline_us });
        }
        self.release(turn);
    }

    /// A client of this node has gone, and these were its: nobody asks any more whether its write
    /// has arrived.
    pub fn forget_waits(&mut self, is_its: impl Fn(Requester) -> bool) {
        if let Role::Leader(leader) = &mut self.role {
            leader.held.waits.retain(|wait| !is_its(wait.requester));
        }
    }

    /// Answers those whose deadline has come: missing acks are never silent.
    pub(in super::super) fn expire_held(&mut self, turn: &mut Turn<'_>) {
        let (now_us, serving) = (turn.now.monotonic_us, self.is_serving());
        match &self.role {
            Role::Leader(leader) if leader.next_deadline() <= now_us => {}
            _ => return,
        }
        self.expire_writes(turn);
        let round = self.confirmed_round(turn);
        let Role::Leader(leader) = &mut self.role else { return };
        for read in leader.held.reads.take_expired(now_us) {
            if let Answer::Either(either) = read.answer
                && read.round <= round
                && leader.hides(either.hidden)
            {
                turn.answer(read.requester, either.older, None);
                continue;
            }
            let text = match serving {
                true => "TRYAGAIN too few replicas have confirmed that this node still leads",
                false => "TRYAGAIN this leader has not committed its first entry yet",
            };
            turn.refuse(read.requester, Cow::Borrowed(text));
        }
        let (expired, waits): (Vec<Wait>, Vec<Wait>) =
            leader.held.waits.drain(..).partition(|wait| wait.deadline_us <= now_us);
        leader.held.waits = waits;
        for wait in expired {
            let (_, reply) = self.wait_reply(turn, &wait);
            turn.answer(wait.requester, reply, None);
        }
    }

    fn expire_writes(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        let usual = self.need();
        let why = "its acks have not come in time";
        while let Some(write) = self.pop_held_write(|write| write.deadline_us <= now_us) {
            if let Some(deadline_us) = self.degrade_at_deadline(turn, write.id) {
                self.push_back_held(Write { deadline_us, ..write });
                break;
            }
            let acked = self.acks_of(turn, write.id.index, usual);
            self.note_apart(write.id);
            self.leave_open(turn, write, usual, acked, why);
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let (expired, special): (Vec<Special>, Vec<Special>) =
            leader.held.special.drain(..).partition(|s| s.write.deadline_us <= now_us);
        leader.held.special = special;
        for Special { write, need } in expired {
            let may_be = need == usual;
            let degraded = may_be.then(|| self.degrade_at_deadline(turn, write.id));
            if let (Some(deadline_us), Role::Leader(leader)) = (degraded.flatten(), &mut self.role)
            {
                let write = Write { deadline_us, ..write };
                leader.held.special.push(Special { write, need });
                continue;
            }
            let acked = self.acks_of(turn, write.id.index, need);
            self.leave_open(turn, write, need, acked, why);
        }
    }

    /// Puts the oldest write back where it was.
    fn push_back_held(&mut self, write: Write) {
        if let Role::Leader(leader) = &mut self.role {
            leader.held.writes.push_front(write);
        }
    }

    /// The oldest write that waits, if it is one that may go.
    pub(super) fn pop_held_write(&mut self, may_go: impl Fn(&Write) -> bool) -> Option<Write> {
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.held.writes.pop_front_if(|write| may_go(write))
    }
}
