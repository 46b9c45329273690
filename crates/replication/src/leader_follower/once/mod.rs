//! `TF.ONCE session number -- command`: applied once, whatever is retried through whichever node,
//! also across failovers.
//!
//! A client that hears nothing, or `-UNKNOWN`, sends the same command again under the same name.
//! The name, the reply and the change are one entry (Ongaro, "Consensus", 2014, §6.3), so that
//! whoever has the change knows that it was made, and what was answered. What is remembered is
//! part of the group's [`State`](super::state::State): applied at the leader's append and taken
//! back when it is deposed, applied by followers at commit, and in every checkpoint and snapshot
//! with the slot that the session's name hashes to.
//!
//! - A retry gets the stored reply, held until the entry of the first attempt has the acks that
//!   the first attempt waits for; which may have been appended by an earlier leader.
//! - A session keeps its newest [`table::WINDOW`] numbers. One of those that was not executed is
//!   executed, as pipelined commands may arrive in any order; a lower one is too old to tell:
//!   `-UNKNOWN`, and it is not executed.
//! - The table is bounded. A session's name begins with the moment at which the client started
//!   it; the session with the oldest start is forgotten first, and the *horizon* is the latest
//!   start among those that were. A session that is not in the table is new only if it started
//!   after the horizon; any other may have been forgotten: `-UNKNOWN`, and it is not executed.
//!   Which sessions go is decided by the leader and said in the entry: all replicas forget the
//!   same, whatever their limits are.
//! - A write that changes nothing (SETNX of a key that exists), and one that fails by what is
//!   stored (INCR of a text), makes an entry, too: its reply is what a retry must get.
//! - Another command under a number that is taken is a mistake of the client, and gets an error.
//!
//! Left out: nothing tells a group that a session has ended, it only grows old; and where a
//! failover may lose acknowledged writes (A + E <= N), a retry after the loss is executed again,
//! as nobody is left who knows of the first attempt (REPLAY of the lost one minds that).

pub mod table;

use super::Group;
use super::acks::need::Need;
use super::entry::{Change, Once, Payload};
use super::execute::{NO_ROOM, is_past};
use crate::command::{Arguments, KeyCommand, OnceId, Reply, error};
use crate::data::{self, Evaluation, Write};
use crate::mutant::Mutant;
use crate::turn::{Requester, Turn};
use crate::version::{EntryId, Stamp};
use crate::wire::Writer;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use table::{Name, Seen, WINDOW};

/// Bytes of a reply that is kept; a command that would answer more is refused.
const REPLY_BYTES_MAX: usize = 4096;

/// How far ahead of the group's time a session may have been started, in milliseconds: one far in
/// the future would never be forgotten, and in the end everybody else would be.
const AHEAD_MS_MAX: u64 = 10_000;

impl Group {
    /// A write of one key, carried out at most once. This node leads.
    pub fn execute_once(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        once: OnceId<'_>,
        command: &KeyCommand<'_>,
        need: Need,
    ) {
        let Some(name) = self.new_call(turn, requester, once, need) else { return };
        if self.is_set_too_far(command) {
            return turn.refuse(requester, error::TOO_LONG);
        }
        let now_ms = self.time_ms(turn);
        if is_past(self.state.store.get(command.key).as_ref(), now_ms) {
            self.remove(turn, command.key);
        }
        let record = self.state.store.get(command.key);
        let index = self.state.newest_index(record.as_ref());
        let Evaluation { reply, write } = data::evaluate(command, record.as_ref(), now_ms);
        let reply = reply.into_owned();
        let bytes = encoded(&reply).len();
        if bytes > REPLY_BYTES_MAX {
            let text = format!(
                "ERR TF.ONCE keeps replies of up to {REPLY_BYTES_MAX} bytes, this one has {bytes}; \
                 nothing was done"
            );
            return self.hold_read(turn, requester, index, Reply::error(text));
        }
        if self.is_too_long(&write) {
            return turn.refuse(requester, error::TOO_LONG);
        }
        let write_name = self.next_name(turn);
        let changes = match write {
            Write::Nothing => Vec::new(),
            write => {
                let record = data::overwrite(write, record.as_ref(), write_name);
                vec![Change { key: Cow::Borrowed(command.key), record }]
            }
        };
        let call = (name, once, &reply);
        let id = self.append_once(turn, call, write_name.stamp, changes);
        let saw = if command.verb.tells_nothing() { 0 } else { index };
        self.hold_write_that_saw(turn, requester, id, (reply, saw), need);
    }

    /// MSET, carried out at most once. This node leads.
    pub fn set_many_once(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        once: OnceId<'_>,
        pairs: Arguments<'_>,
        need: Need,
    ) {
        let Some(name) = self.new_call(turn, requester, once, need) else { return };
        let (stamp, changes) = self.changes_of_pairs(turn, pairs);
        let id = self.append_once(turn, (name, once, &Reply::Ok), stamp, changes);
        self.hold_write(turn, requester, id, Reply::Ok, need);
    }

    /// Answers a command that need not or must not be executed; `None` if it was one.
    fn new_call(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        once: OnceId<'_>,
        need: Need,
    ) -> Option<Name> {
        let Some(name) = Name::parse(once.session) else {
            turn.refuse(requester, "ERR TF.ONCE: not a session's name");
            return None;
        };
        let text = match self.state.once.seen(&name, once.sequence) {
            Seen::Done(_, digest, _) if digest != once.digest => format!(
                "ERR number {} of this session was another command; nothing was done. Give each \
                 command a number of its own",
                once.sequence
            ),
            Seen::Done(..) if turn.local.mutants.is(Mutant::RetryRepeated) => return Some(name),
            Seen::Done(id, _, reply) => {
                turn.event(crate::Event::Deduplicated { group: self.id, entry: id });
                if turn.local.mutants.is(Mutant::OnceAnsweredEarly) {
                    turn.answer(requester, reply, None);
                } else {
                    self.hold_again(turn, requester, id, reply, need);
                }
                return None;
            }
            Seen::TooOld(newest) => format!(
                "UNKNOWN number {} of this session is too old to tell: the newest is {newest}, and \
                 {WINDOW} are remembered; not executed now, it may have been before",
                once.sequence
            ),
            Seen::Forgotten(horizon_ms) => format!(
                "UNKNOWN this session may have been forgotten, as all that started up to \
                 {horizon_ms} (milliseconds since 1970) may have been; not executed now, it may \
                 have been before. Start a new session"
            ),
            Seen::New if self.is_ahead_of_time(turn, &name) => format!(
                "CLOCK this session starts {} ms after the leader's time, more than \
                 {AHEAD_MS_MAX}; nothing was done",
                name.started_ms.saturating_sub(self.time_ms(turn))
            ),
            Seen::New | Seen::Open if !self.takes_write() => NO_ROOM.into(),
            Seen::New | Seen::Open => return Some(name),
        };
        turn.refuse(requester, text);
        None
    }

    fn is_ahead_of_time(&self, turn: &Turn<'_>, name: &Name) -> bool {
        name.started_ms > self.time_ms(turn).saturating_add(AHEAD_MS_MAX)
    }

    /// The entry that carries a lost command out again after its client has sent it again.
    pub(super) fn carried_out_again(&self, once: &Once<'_>) -> Option<EntryId> {
        match self.state.once.seen(&Name::parse(&once.session)?, once.sequence) {
            Seen::Done(id, ..) => Some(id),
            _ => None,
        }
    }

    /// The name of a lost command, if a retry of it would be carried out.
    pub(super) fn may_come_again<'a>(
        &self,
        once: &'a Once<'static>,
    ) -> Option<(Name, OnceId<'a>, &'a Reply<'static>)> {
        let name = Name::parse(&once.session)?;
        let seen = self.state.once.seen(&name, once.sequence);
        let Once { session, sequence, digest, .. } = once;
        let id = OnceId { session, sequence: *sequence, digest: *digest };
        matches!(seen, Seen::New | Seen::Open).then_some((name, id, &once.reply))
    }

    pub(super) fn append_once(
        &mut self,
        turn: &mut Turn<'_>,
        (name, once, reply): (Name, OnceId<'_>, &Reply<'static>),
        stamp: Stamp,
        changes: Vec<Change<'_>>,
    ) -> EntryId {
        let bounds = (self.limits.once_sessions_max, self.limits.once_bytes_max);
        let forgotten = self.state.once.to_forget(&name, encoded(reply).len(), bounds);
        let once = Once {
            session: Cow::Borrowed(once.session),
            sequence: once.sequence,
            digest: once.digest,
            reply: reply.clone(),
            forgotten: forgotten.iter().map(|name| Cow::Borrowed(&*name.text)).collect(),
        };
        let payload = Payload::Changes(changes.into());
        self.append_entry(turn, stamp, None, true, Some(Box::new(once)), payload)
    }
}

fn encoded(reply: &Reply<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply.encode(&mut Writer(&mut bytes));
    bytes
}
