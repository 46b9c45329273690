//! Commands at the leader: evaluated once, against its state, into an entry and a reply.

use super::acks::held::Answer;
use super::acks::need::Need;
use super::acks::older::Either;
use super::entry::{Change, Changes, Payload};
use super::{Group, Role};
use crate::command::{Arguments, KeyCommand, Reply, Verb, error};
use crate::data::{self, Evaluation, ExpiresAt, Name, Write};
use crate::mutant::Mutant;
use crate::storage::record::Record;
use crate::turn::{Requester, Turn};
use crate::version::{Dot, Stamp};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Too much is uncommitted.
pub const NO_ROOM: &str =
    "TRYAGAIN too many writes of this keyspace wait for their copies; nothing was written";

/// Keys that one tick removes because their deadline has passed.
const EXPIRED_KEYS_PER_TICK_MAX: usize = 64;

impl Group {
    /// Carries out a command on one key. This node leads.
    pub fn execute(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        command: &KeyCommand<'_>,
        need: Need,
    ) {
        if self.is_set_too_far(command) {
            return turn.refuse(requester, error::TOO_LONG);
        }
        let now_ms = self.time_ms(turn);
        let room = self.takes_write() || turn.local.mutants.is(Mutant::UncommittedIgnored);
        let hashes = self.state.store.hashes(command.key);
        let mut record = self.state.store.get_by(command.key, hashes);
        if is_past(record.as_ref(), now_ms) {
            // Nobody may see the key come back: its end must be in the log before anybody hears.
            if !room {
                return turn.refuse(requester, NO_ROOM);
            }
            self.remove(turn, command.key);
            record = self.state.store.get_by(command.key, hashes);
        }
        let index = self.state.newest_index(record.as_ref());
        let Evaluation { reply, write } = data::evaluate(command, record.as_ref(), now_ms);
        if write == Write::Nothing {
            if self.may_read_at_once(index) {
                return turn.answer(requester, reply, None);
            }
            if let Some((older, hidden)) = self.older_reply(turn, command, index, now_ms) {
                let either = Either { newest: reply.into_owned(), older, hidden };
                let answer = Answer::Either(Box::new(either));
                return self.hold_answer(turn, requester, index, answer);
            }
            if let Reply::Bulk(Cow::Borrowed(value)) = reply
                && self.waits_for_turn_end(turn)
            {
                let deadline_us = self.ack_deadline_us(turn);
                let Role::Leader(leader) = &mut self.role else { return };
                return leader.held.evaluated.push_value(requester, index, deadline_us, value);
            }
            let reply = reply.into_owned();
            return self.hold_read(turn, requester, index, reply);
        }
        if !room {
            return turn.refuse(requester, NO_ROOM);
        }
        if self.is_too_long(&write) {
            return turn.refuse(requester, error::TOO_LONG);
        }
        let reply = (reply.into_owned(), if command.verb.tells_nothing() { 0 } else { index });
        let name = self.next_name(turn);
        let record = data::overwrite(write, record.as_ref(), name);
        let change = Change { key: Cow::Borrowed(command.key), record };
        let payload = Payload::Changes(Changes::One(change, Some(hashes)));
        let id = self.append_for_asker(turn, name.stamp, None, payload);
        self.hold_write_that_saw(turn, requester, id, reply, need);
    }

    /// Whether a SETRANGE makes a value longer than it may be: told before room is made for it.
    pub fn is_set_too_far(&self, command: &KeyCommand<'_>) -> bool {
        let Verb::SetRange(offset, part) = command.verb else { return false };
        let most = self.limits.value_bytes_max as u64;
        !part.is_empty() && offset.saturating_add(part.len() as u64) > most
    }

    /// Whether a value becomes longer than a follower could be told: its entry would be in the log
    /// of its leader for ever, and nothing behind it could be committed.
    pub fn is_too_long(&self, write: &Write<'_>) -> bool {
        write.value_bytes() > self.limits.value_bytes_max
    }

    /// The name that the next entry gives to what it writes.
    pub(super) fn next_name(&self, turn: &mut Turn<'_>) -> Name {
        let id = self.next_id();
        Name { stamp: self.next_stamp(turn), dot: Dot { actor: id.epoch, counter: id.index } }
    }

    /// MSET: all pairs in one entry. This node leads.
    pub fn set_many(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        pairs: Arguments<'_>,
        need: Need,
    ) {
        if !self.takes_write() {
            return turn.refuse(requester, NO_ROOM);
        }
        let (stamp, changes) = self.changes_of_pairs(turn, pairs);
        let id = self.append_for_asker(turn, stamp, None, Payload::Changes(changes.into()));
        self.hold_write(turn, requester, id, Reply::Ok, need);
    }

    /// What MSET changes, and the stamp of it.
    pub(super) fn changes_of_pairs<'a>(
        &self,
        turn: &mut Turn<'_>,
        pairs: Arguments<'a>,
    ) -> (Stamp, Vec<Change<'a>>) {
        let name = self.next_name(turn);
        let mut changes: Vec<Change<'_>> = Vec::with_capacity(pairs.len() / 2);
        for place in (0..pairs.len()).step_by(2) {
            let (Some(key), Some(value)) = (pairs.get(place), pairs.get(place + 1)) else { break };
            let expires_at_ms = ExpiresAt::Never;
            let write = Write::Set { value: Cow::Borrowed(value), expires_at_ms };
            let record = data::overwrite(write, None, name);
            changes.push(Change { key: Cow::Borrowed(key), record });
        }
        (name.stamp, changes)
    }

    /// FLUSHALL's part: one entry removes everything. This node leads.
    pub fn flush(&mut self, turn: &mut Turn<'_>, requester: Requester) {
        if !self.takes_write() {
            return turn.refuse(requester, NO_ROOM);
        }
        let stamp = self.next_stamp(turn);
        let id = self.append_for_asker(turn, stamp, None, Payload::Clear);
        self.hold_write(turn, requester, id, Reply::Ok, self.need());
    }

    /// Answers what looked at many keys: held until everything that it may have seen is visible.
    pub fn answer_range(&mut self, turn: &mut Turn<'_>, requester: Requester, reply: Reply<'_>) {
        let index = self.log.last_index();
        self.hold_read(turn, requester, index, reply.into_owned());
    }

    /// Answers a read from what this follower knows to be committed; it may be stale.
    pub fn read_here(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        command: &KeyCommand<'_>,
    ) {
        let record = self.state.store.get(command.key);
        // Only the leader expires: a follower shows a key until its removal is committed.
        let deadline =
            record.as_ref().and_then(|record| record.expires_at_ms).filter(|_| !self.merges());
        let latest_ms = deadline.map_or(u64::MAX, |deadline| deadline.saturating_sub(1));
        let now_ms = self.time_ms(turn).min(latest_ms);
        let evaluation = data::evaluate(command, record.as_ref(), now_ms);
        turn.answer(requester, evaluation.reply, None);
    }

    pub(super) fn remove(&mut self, turn: &mut Turn<'_>, key: &[u8]) {
        let change = Change { key: Cow::Borrowed(key), record: None };
        self.append(turn, None, Payload::Changes(change.into()));
    }

    /// Removes some of the keys whose deadline has passed.
    pub fn expire_due(&mut self, turn: &mut Turn<'_>) {
        if !self.takes_in() || self.merges() {
            return;
        }
        let now_ms = self.time_ms(turn);
        for key in self.state.store.due(now_ms, EXPIRED_KEYS_PER_TICK_MAX) {
            if !self.has_room() {
                return;
            }
            self.remove(turn, &key);
        }
    }
}

/// Whether a record's deadline has passed.
pub(super) fn is_past(record: Option<&Record<'_>>, now_ms: u64) -> bool {
    record.and_then(|record| record.expires_at_ms).is_some_and(|deadline| deadline <= now_ms)
}
