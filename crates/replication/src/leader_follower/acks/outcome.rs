//! What the writer is told: every held write is answered here, and nowhere else. Where the answer
//! is that the outcome is open, it carries a token, and what has become of the write is told
//! later by whoever leads then.
//!
//! How a leader knows. Its log up to the commit index is the surviving history: an entry (epoch,
//! index) is in it if that index was written in that epoch, which [`super::super::epochs`] tells
//! long after the entry itself has left the log. Above the commit index a leader that serves
//! holds entries of its own epoch only, because the entry that opened its epoch is committed and
//! epochs never go down along a log. So an entry of an older epoch that is up there is in no log
//! that can still win: every later leader has the committed opening entry, and what it appends
//! behind that is of its own epoch. Such a write is lost for good.

use super::super::Group;
use super::super::leader::Leader;
use super::held::{Answer, Held, Write};
use super::need::Need;
use crate::command::Reply;
use crate::mutant::Mutant;
use crate::token::Token;
use crate::turn::{LastWrite, Requester, Turn};
use crate::version::EntryId;
use alloc::borrow::Cow;
use alloc::format;

/// What a client is told whose token no entry has ever had.
const NEVER_GIVEN: &str = "ERR this token is of no write: its group has never had such an entry";

impl Group {
    /// A write has what its writer waits for: `got`.
    pub(super) fn acknowledge(&mut self, turn: &mut Turn<'_>, write: Write, got: Need) {
        self.note_acknowledged(turn, write.id, got.level);
        let last_write = LastWrite::Entry { group: self.id, id: write.id };
        turn.answer(write.requester, write.reply, Some(last_write));
    }

    /// A write does not have what its writer waits for, and nobody waits any longer: `acked`
    /// replicas count so far.
    pub(super) fn leave_open(
        &mut self,
        turn: &mut Turn<'_>,
        write: Write,
        need: Need,
        acked: usize,
        why: &str,
    ) {
        let token = Token { group: self.id, id: write.id }.to_word(turn.local.cluster);
        let text = format!(
            "UNKNOWN acked={acked} need={} token={token} : {why}; the write may or may not \
             survive, TF.OUTCOME with the token tells later",
            need.copies
        );
        if turn.local.mutants.is(Mutant::OpenIsRefused) {
            return turn.refuse(write.requester, format!("TRYAGAIN {why}; nothing was written"));
        }
        // It is its connection's last write all the same: WAIT speaks of it.
        let last_write = LastWrite::Entry { group: self.id, id: write.id };
        turn.answer(write.requester, Reply::error(text), Some(last_write));
    }

    /// The leadership is over: reads may be tried again, the outcome of writes is open. `copies`
    /// says up to where each replica durably had the log. Those who wait for copies are answered
    /// before, as long as this node knows what there are ([`Group::end_waits`]).
    pub(in super::super) fn revoke(
        &mut self,
        turn: &mut Turn<'_>,
        leader: Leader,
        copies: &[u64],
        reason: &str,
    ) {
        let why = format!("this leader stepped down ({reason})");
        let need = self.need();
        let Held { writes, special, reads, mut evaluated, waits: _ } = leader.held;
        let usual = writes.into_iter().map(|write| (write, need));
        let special = special.into_iter().map(|special| (special.write, special.need));
        for (write, need) in usual.chain(special) {
            let acked = copies.iter().filter(|copy| **copy >= write.id.index).count();
            self.leave_open(turn, write, need, acked, &why);
        }
        let (evaluated, values) = evaluated.drain();
        for read in reads.into_all().chain(evaluated.map(|read| read.into_read(values, 0))) {
            turn.refuse(read.requester, format!("TRYAGAIN {why}"));
        }
    }

    /// TF.OUTCOME: answered once this leader's first entry is committed, and a round that started
    /// after now has confirmed it.
    pub fn hold_outcome(&mut self, turn: &mut Turn<'_>, requester: Requester, id: EntryId) {
        self.hold_answer(turn, requester, 0, Answer::Outcome(id));
    }

    /// What has become of an entry. This leader serves, and was confirmed after the question came:
    /// there is no newer epoch in which the entry could have been given.
    pub(super) fn outcome_of(&self, turn: &Turn<'_>, id: EntryId) -> Reply<'static> {
        if id.index == 0 || id.epoch == 0 || id.epoch > self.epoch {
            return Reply::error(NEVER_GIVEN);
        }
        if id.index <= self.commit {
            if turn.local.mutants.is(Mutant::OutcomeByIndex) {
                return word("COMMITTED");
            }
            return match self.epochs.reign_at(id.index) {
                Some(reign) if reign.epoch == id.epoch => word("COMMITTED"),
                Some(_) => word("LOST"),
                None => Reply::error(format!(
                    "UNKNOWN no longer known: who wrote the entries up to {} is forgotten",
                    self.epochs.forgotten_up_to()
                )),
            };
        }
        if id.epoch < self.epoch {
            return word("LOST");
        }
        if id.index <= self.log.last_index() { word("PENDING") } else { Reply::error(NEVER_GIVEN) }
    }

    /// Whether the log has this entry, and not another one in its place after a failover.
    pub fn has(&self, id: EntryId) -> bool {
        let reign = self.epochs.reign_at(id.index).filter(|_| id.index <= self.log.last_index());
        reign.is_some_and(|reign| reign.epoch == id.epoch)
    }
}

pub(super) fn word(text: &'static str) -> Reply<'static> {
    Reply::Simple(Cow::Borrowed(text))
}
