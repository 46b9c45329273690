//! Quorum writes: a record to all replicas, W acks, and the rewrite over a newer base.

use super::Leaderless;
use super::operation::{Operation, Phase, Purpose, partial};
use super::outbox::OwedPart;
use super::partition::Gate;
use super::parts::{Body, Part};
use super::places::Places;
use crate::command::Reply;
use crate::data::{self, Write};
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::storage::record::Record;
use crate::storage::store::Hashes;
use crate::turn::Turn;
use crate::version::Stamp;
use crate::{NodeId, Position};

/// How often one command is stamped again because a replica holds a newer base. Each time the
/// coordinator has learned of a write that came from another one in the meantime.
const REWRITES_MAX: u32 = 32;

/// The acks of one version of one record.
pub(super) struct QuorumWrite {
    reply: Reply<'static>,
    /// The own copy counts when it opens.
    own: Gate,
    /// Nobody hears of the record before the log is synced up to here.
    send_at: Position,
    sent: bool,
    acked: Places,
}

impl QuorumWrite {
    /// Who has the record durably.
    pub(super) fn acked(&self) -> Places {
        self.acked
    }

    /// Whether the replicas were asked.
    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }
}

impl Leaderless {
    /// Begins a write that has read nothing, or begins it anew with a larger stamp.
    pub(super) fn begin_overwrite(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let stored = held.store.get_by(operation.key(), operation.hashes);
        let seen = stored.map_or(Stamp::ZERO, |stored| stored.newest_stamp());
        if operation.deletes_before().is_some_and(|before| seen > before) {
            // Written since the flush began: it stays.
            self.answer(turn, place, Reply::Ok, None);
            return self.operations.close(place);
        }
        let (name, send_at) = self.name_write(turn, seen);
        // What waits for its ceiling's sync is written in the same breath.
        let alone = turn.local.synced >= send_at;
        let durability = if alone { self.options.durability } else { Durability::Fsync };
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Some(held) = self.partitions.at_mut(operation.partition) else { return };
        let Operation { command, body, hashes, .. } = operation;
        let command = command.command();
        // It overwrites: what was there says nothing.
        let evaluation = data::evaluate(&command, None, turn.now.wall_ms);
        let write = match evaluation.write {
            // A flush deletes without counting, and a tombstone must be newer than whatever is
            // elsewhere, too.
            Write::Nothing => Write::Delete,
            write => write,
        };
        let reply = evaluation.reply.into_owned();
        let record = data::mint(write, None, name, self.actor);
        body.clear();
        Body::encode(body, command.key, &record);
        let body = Body { key: command.key, record, bytes: body };
        let own = held.keep(turn, *hashes, &body, durability).gate;
        self.send_to_all(turn, place, reply, own, send_at);
    }

    /// Sends an operation's record, which is encoded and kept here, to all other replicas: at once
    /// where `send_at` is synced, or when it is. The own copy counts when `own` opens.
    pub(super) fn send_to_all(
        &mut self,
        turn: &mut Turn<'_>,
        place: u32,
        reply: Reply<'static>,
        own: Gate,
        send_at: Position,
    ) {
        let (sent, acked) = (false, Places::default());
        let write = QuorumWrite { reply, own, send_at, sent, acked };
        let number = self.begin_phase(turn, place, Phase::Writing(write));
        if turn.local.synced < send_at {
            self.awaiting_synced.push_back((send_at, number));
        }
        if !own.is_open(turn.local) {
            self.await_gate(turn, number, own);
        }
        self.advance_write(turn, place);
    }

    /// Counts the own copy, sends what may be sent, answers at W acks, and ends at N.
    pub(super) fn advance_write(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let Phase::Writing(write) = &mut operation.phase else { return };
        let (own, others) = (held.own(), held.other_places());
        if write.own.is_open(turn.local) {
            write.acked.add(own);
        }
        let sends = !write.sent && turn.local.synced >= write.send_at;
        write.sent |= sends;
        let (acked, sent) = (write.acked, write.sent);
        let answers = acked.len() >= operation.w && !operation.answered;
        let reply = answers.then(|| core::mem::replace(&mut write.reply, Reply::Ok));
        let is_answered = answers || operation.answered;
        let mut silent = others.without(acked);
        if !silent.is_empty() && is_answered {
            silent = silent.without(held.places_of(&self.lost));
        }
        let all = sent && acked.has(own) && silent.is_empty();
        if sends {
            self.ask(turn, place, others);
        }
        if let Some(reply) = reply {
            let last_write = Some(self.last_write(acked.len()));
            self.answer(turn, place, reply, last_write);
        }
        if all && is_answered {
            self.operations.close(place);
        }
    }

    /// A replica has answered a write.
    pub(super) fn on_write_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        number: u64,
        newer: Option<&Record<'_>>,
    ) {
        let Some(place) = self.operations.place_of(number) else { return };
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let Some(who) = held.place_of(from) else { return };
        let Phase::Writing(write) = &mut operation.phase else { return };
        match newer {
            Some(newer) if !operation.answered && !turn.local.mutants.is(Mutant::WallClockWins) => {
                self.begin_anew(turn, place, newer);
            }
            // It has it, or, after the reply, something newer: nothing more is to be done there.
            None | Some(_) => {
                write.acked.add(Places::one(who));
                self.advance_write(turn, place);
            }
        }
    }

    /// A replica holds a newer base, which may have been acknowledged before this command came:
    /// the command takes effect after it.
    fn begin_anew(&mut self, turn: &mut Turn<'_>, place: u32, newer: &Record<'_>) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        self.clock.observe(newer.newest_stamp());
        operation.rewrites += 1;
        if operation.rewrites > REWRITES_MAX {
            let n = self.partitions.at(operation.partition).map_or(0, |held| held.replicas.len());
            let Phase::Writing(write) = &operation.phase else { return };
            let acked = write.acked.len();
            let error = partial(acked, operation.w, n);
            let last_write = Some(self.last_write(acked));
            self.answer(turn, place, Reply::error(error), last_write);
            return self.operations.close(place);
        }
        match operation.purpose {
            Purpose::Overwrite => self.begin_overwrite(turn, place),
            // What it had made from the older base lost together with that base, wherever it is.
            Purpose::Modify | Purpose::Read => self.modify(turn, place, Some(newer)),
        }
    }

    /// A coordinator asks this replica to keep a record. The hashes are the key's.
    pub(super) fn on_write(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (operation, partition): (u64, u16),
        body: &Body<'_>,
        hashes: Hashes,
    ) {
        let Some(held) = self.partitions.at_mut(partition) else { return };
        if held.place_of(from).is_none() || !held.has_slot(hashes.slot) {
            return;
        }
        self.clock.observe(body.record.newest_stamp());
        let kept = held.keep(turn, hashes, body, self.options.durability);
        let newer = if kept.newer { held.store.get_by(body.key, hashes) } else { None };
        let part = match newer {
            Some(record) => OwedPart::encoded(&Part::Newer { operation, record }),
            None => OwedPart::Kept(operation),
        };
        let gate = match turn.local.mutants.is(Mutant::AckBeforeDurable) {
            true => (Position(0), self.options.durability),
            false => kept.gate.waits_for(turn.local),
        };
        self.outbox.say_when_durable(turn, gate, from, part);
    }
}
