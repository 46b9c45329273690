//! TF.OUTCOME of a write that a node has forwarded, and whose entry it cannot name: the leader
//! looks for an entry by who asked.
//!
//! The write was bound to the leader of one epoch: no other leader carries it out, also not the
//! same node in a later epoch, however late it arrives (`node/forward/receive.rs`). So its entry,
//! if there is one, lies where that epoch's leader wrote, and after everything that was in its log
//! when the write was sent. That part of the log is looked through:
//!
//! - The entry is there: it is committed, or on its way to that.
//! - It is not, and the log does not reach back to all of that part: nobody knows any more.
//! - It is not, and this leader's epoch is a later one. The entry that opened it is committed, so
//!   what an older leader may still append is in no log that can win: lost.
//! - It is not, and this is the very leader that the write was bound to: it may still arrive, until
//!   the leader has heard from the forwarder about what came after it, or that it was given up.
//!   Of a forwarder that never comes back nothing is heard: then the next change of leader tells.
//!
//! A command that had nothing to change (SETNX of a key that is there, a DEL of one that is not)
//! has no entry: it is called lost. So is one that was refused.

use super::super::Group;
use super::super::entry::Entry;
use super::held::Answer;
use super::outcome::word;
use crate::Reply;
use crate::asked_token::AskedToken;
use crate::mutant::Mutant;
use crate::turn::{Requester, Turn};
use alloc::boxed::Box;
use alloc::format;

/// What a client is told whose token names an epoch that there has never been.
const NO_SUCH_EPOCH: &str =
    "ERR this token is of no command: its group has never had such a leader";

impl Group {
    /// TF.OUTCOME of a forwarded write: answered when [`Group::hold_outcome`] is. `is_over`: it can
    /// no longer be carried out here, if it has not been.
    pub fn hold_outcome_asked(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        asked: AskedToken,
        is_over: bool,
    ) {
        let answer = Answer::OutcomeAsked(Box::new((asked, is_over)));
        self.hold_answer(turn, requester, 0, answer);
    }

    /// What has become of a forwarded write. This leader serves, and was confirmed after the
    /// question came.
    pub(super) fn outcome_of_asked(
        &self,
        turn: &Turn<'_>,
        asked: &AskedToken,
        is_over: bool,
    ) -> Reply<'static> {
        if asked.epoch == 0 || asked.epoch > self.epoch {
            return Reply::error(NO_SUCH_EPOCH);
        }
        let Some(reign) = self.epochs.reign_of(asked.epoch) else {
            return match self.epochs.may_have_forgotten(asked.epoch) {
                true => self.no_longer_known(),
                // That leader's first entry is in no log that survives, and so is what followed it.
                false => word("LOST"),
            };
        };
        let last = match self.epochs.first_index_after(asked.epoch) {
            Some(next) => next - 1,
            None => self.log.last_index(),
        };
        let first = reign.first_index.max(asked.after_index.saturating_add(1));
        let start = self.log.start().index;
        let found = (first.max(start + 1)..=last).find(|index| self.is_entry_of(*index, asked));
        match found {
            Some(index) if index <= self.commit => word("COMMITTED"),
            Some(_) => word("PENDING"),
            None if first <= last.min(start) && !turn.local.mutants.is(Mutant::ForgottenIsLost) => {
                self.no_longer_known()
            }
            None if asked.epoch < self.epoch || is_over => word("LOST"),
            None => word("PENDING"),
        }
    }

    fn no_longer_known(&self) -> Reply<'static> {
        Reply::error(format!(
            "UNKNOWN no longer known: of the entries up to {} the leader does not have any more \
             who asked for them",
            self.log.start().index
        ))
    }

    /// Whether an entry of the log was asked for by the command of a token.
    fn is_entry_of(&self, index: u64, asked: &AskedToken) -> bool {
        let Some(body) = self.log.get(index) else { return false };
        let Ok(Some(asker)) = Entry::asker_of(body) else { return false };
        let is_it = (asker.client, asker.sequence) == (asked.client, asked.sequence)
            && (asker.node, asker.process) == (asked.node, asked.session.number());
        is_it && (asked.key_mark == 0 || changes_key(body, asked.key_mark))
    }
}

/// Whether an entry changes a key of a mark.
fn changes_key(body: &[u8], mark: u32) -> bool {
    let entry = Entry::decode(body);
    let changes = entry.as_ref().ok().and_then(Entry::changes);
    changes.is_some_and(|changes| {
        changes.iter().any(|change| AskedToken::mark_of(&change.key) == mark)
    })
}
