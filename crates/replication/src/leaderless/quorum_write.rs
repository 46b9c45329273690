//! Quorum writes: a record to all replicas, W acks, and the rewrite over a newer base.

use super::message::Message;
use super::operation::{Operation, Phase, Purpose, partial};
use super::partition::{Gate, base};
use super::{Leaderless, recovery};
use crate::command::Reply;
use crate::data::{self, Write};
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::storage::record::Record;
use crate::turn::{LastWrite, Turn};
use crate::version::Stamp;
use crate::{GroupId, NodeId, Position};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// How often one command is stamped again because a replica holds a newer base. Each time the
/// coordinator has learned of a write that came from another one in the meantime.
const REWRITES_MAX: u32 = 32;

/// The acks of one version of one record.
pub(super) struct QuorumWrite {
    record: Record<'static>,
    reply: Reply<'static>,
    /// The own copy counts when it opens.
    own: Gate,
    /// Nobody hears of the record before the log is synced up to here.
    send_at: Position,
    sent: bool,
    acked: Vec<NodeId>,
}

impl QuorumWrite {
    /// How many replicas have the record durably.
    pub(super) fn acks(&self) -> usize {
        self.acked.len()
    }

    pub(super) fn has_acked(&self, node: NodeId) -> bool {
        self.acked.contains(&node)
    }

    /// Whether the replicas were asked.
    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Counts a replica, once.
    fn ack(&mut self, node: NodeId) {
        if !self.has_acked(node) {
            self.acked.push(node);
        }
    }

    /// Asks a replica to keep the record.
    pub(super) fn ask(
        &self,
        turn: &mut Turn<'_>,
        operation: u64,
        group: GroupId,
        key: &[u8],
        node: NodeId,
    ) {
        let (key, record) = (Cow::Borrowed(key), self.record.borrowed());
        let message = Message::Write { operation, group, key, record };
        turn.send(node, crate::Message::Leaderless(message));
    }
}

impl Leaderless {
    /// Begins a write that has read nothing, or begins it anew with a larger stamp.
    pub(super) fn begin_overwrite(&mut self, turn: &mut Turn<'_>, mut operation: Operation) {
        let key = &operation.command.key;
        if let Some(before) = operation.deletes_before()
            && self.stored(operation.group, key).is_some_and(|r| r.newest_stamp() > before)
        {
            // Written since the flush began: it stays.
            return self.answer(turn, &mut operation, Reply::Ok, None);
        }
        let seen = self.stored(operation.group, key).map_or(Stamp::ZERO, |r| r.newest_stamp());
        let (name, send_at) = self.name_write(turn, seen);
        let command = operation.command.command();
        let stored = self.stored(operation.group, key);
        let evaluation = data::evaluate(&command, stored.as_ref(), turn.now.wall_ms);
        let write = match evaluation.write {
            // A flush deletes without counting, and a tombstone must be newer than whatever is
            // elsewhere, too.
            Write::Nothing => Write::Delete,
            write => write,
        };
        let reply = evaluation.reply.into_owned();
        let record = data::mint(write, stored.as_ref(), name, self.actor).into_owned();
        // What waits for its ceiling's sync is written in the same breath.
        let alone = turn.local.synced >= send_at;
        let durability = if alone { self.options.durability } else { Durability::Fsync };
        self.send_to_all(turn, operation, record, reply, durability, Some(send_at));
    }

    /// Keeps a minted record and sends it to all other replicas: at once where `send_at` is
    /// synced, or when it is; without one, when the record itself is on disk.
    pub(super) fn send_to_all(
        &mut self,
        turn: &mut Turn<'_>,
        mut operation: Operation,
        record: Record<'static>,
        reply: Reply<'static>,
        durability: Durability,
        send_at: Option<Position>,
    ) {
        let key = &operation.command.key;
        let own = self.keep_record(turn, operation.group, key, &record, durability);
        let send_at = send_at.unwrap_or(own.newest());
        let (sent, acked) = (false, Vec::new());
        operation.phase = Phase::Writing(QuorumWrite { record, reply, own, send_at, sent, acked });
        let id = self.keep(turn, operation);
        if turn.local.synced < send_at {
            self.awaiting_synced.push_back((send_at, id));
        }
        if !own.is_open(turn.local) {
            self.await_gate(turn, id, own);
        }
        self.advance_write(turn, id);
    }

    /// Counts the own copy, sends what may be sent, answers at W acks, and ends at N.
    pub(super) fn advance_write(&mut self, turn: &mut Turn<'_>, id: u64) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let Some(held) = self.held.get(&operation.group) else { return };
        let others = &held.others;
        let Phase::Writing(write) = &mut operation.phase else {
            self.operations.insert(id, operation);
            return;
        };
        if write.own.is_open(turn.local) {
            write.ack(self.me);
        }
        let send_now = !write.sent && turn.local.synced >= write.send_at;
        write.sent |= send_now;
        let acks = write.acks();
        let waits_for = |node: &NodeId| !write.has_acked(*node) && !self.lost.contains(node);
        let all = write.has_acked(self.me) && write.sent && !others.iter().any(waits_for);
        if send_now {
            for node in others {
                operation.ask(turn, id, *node);
            }
        }
        if acks >= operation.w
            && !operation.answered
            && let Phase::Writing(write) = &mut operation.phase
        {
            let reply = core::mem::replace(&mut write.reply, Reply::Ok);
            let acks = u16::try_from(acks).unwrap_or(u16::MAX);
            let synced = self.options.durability == Durability::Fsync;
            let copies = LastWrite::Copies { acks, synced };
            self.answer(turn, &mut operation, reply, Some(copies));
        }
        if !(operation.answered && all) {
            self.operations.insert(id, operation);
        }
    }

    /// A replica has answered a write.
    pub(super) fn on_write_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        id: u64,
        group: GroupId,
        newer: Option<&Record<'_>>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Phase::Writing(write) = &mut operation.phase else { return };
        if operation.group != group {
            return;
        }
        match newer {
            Some(newer) if !operation.answered && !turn.local.mutants.is(Mutant::WallClockWins) => {
                self.begin_anew(turn, id, newer);
            }
            // It has it, or, after the reply, something newer: nothing more is to be done there.
            None | Some(_) => {
                write.ack(from);
                self.advance_write(turn, id);
            }
        }
    }

    /// A replica holds a newer base, which may have been acknowledged before this command came:
    /// the command takes effect after it.
    fn begin_anew(&mut self, turn: &mut Turn<'_>, id: u64, newer: &Record<'_>) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        self.clock.observe(newer.newest_stamp());
        operation.rewrites += 1;
        if operation.rewrites > REWRITES_MAX {
            let n = self.held.get(&operation.group).map_or(0, |held| held.replicas.len());
            let Phase::Writing(write) = &operation.phase else { return };
            let error = partial(write.acks(), operation.w, n);
            return self.answer(turn, &mut operation, Reply::error(error), None);
        }
        match operation.purpose {
            Purpose::Overwrite => self.begin_overwrite(turn, operation),
            // What it had made from the older base lost together with that base, wherever it is.
            Purpose::Modify | Purpose::Read => self.modify(turn, operation, Some(newer)),
        }
    }

    /// A coordinator asks this replica to keep a record.
    pub(super) fn on_write(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        operation: u64,
        group: GroupId,
        key: &[u8],
        record: &Record<'_>,
    ) {
        let Some(held) = self.held.get(&group).filter(|held| held.covers(key)) else { return };
        self.clock.observe(record.newest_stamp());
        let stored = held.store.get(key);
        let newer = stored.filter(|stored| base(stored) > base(record)).map(Record::into_owned);
        let gate = match newer {
            Some(_) => held.gate(key),
            None => self.keep_record(turn, group, key, record, self.options.durability),
        };
        let message = crate::Message::Leaderless(Message::WriteAnswer { operation, group, newer });
        if turn.local.mutants.is(Mutant::AckBeforeDurable) {
            return turn.send(from, message);
        }
        let (position, durability) = gate.waits_for(turn.local);
        turn.send_when_durable(position, durability, from, message);
    }

    /// Merges a record into the own store and its log; the gate opens when it is durable.
    pub(super) fn keep_record(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupId,
        key: &[u8],
        record: &Record<'_>,
        durability: Durability,
    ) -> Gate {
        let Some(held) = self.held.get_mut(&group) else { return Gate::default() };
        if let Some(merged) = held.merged(key, record) {
            let mut bytes = core::mem::take(&mut turn.local.scratch);
            recovery::encode_put(&mut bytes, group, key, &merged);
            let position = turn.append(&bytes, durability);
            turn.local.scratch = bytes;
            held.close_gate(key, position, durability);
            held.store.put(key, &merged);
        }
        held.gate(key)
    }

    /// What this replica keeps for a key.
    pub(super) fn stored(&self, group: GroupId, key: &[u8]) -> Option<Record<'_>> {
        self.held.get(&group)?.store.get(key)
    }
}
