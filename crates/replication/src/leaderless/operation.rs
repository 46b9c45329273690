//! What a coordinator has under way: one operation a command, from its start to its last answer.
//!
//! An operation outlives its reply: a write until all live replicas have it, a read until all that
//! were asked have answered and the stale ones are repaired; or until the deadline.

use super::Leaderless;
use super::partition::Gate;
use super::parts::{self, Part};
use super::places::Places;
use super::quorum_read::QuorumRead;
use super::quorum_write::QuorumWrite;
use crate::command::verb::{Condition, Expiry, With};
use crate::command::{KeyCommand, Reply, Verb};
use crate::keyspace::Durability;
use crate::random::Random;
use crate::storage::store::Hashes;
use crate::turn::{LastWrite, Requester, Turn};
use crate::version::Stamp;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// An operation's buffers that have grown beyond this are given back when it is over.
const BUFFER_BYTES_KEPT: usize = 4 << 10;

/// A command on its way.
#[derive(Default)]
pub(super) struct Operation {
    /// Answers name it. 0 before it is begun.
    pub(super) number: u64,
    pub(super) partition: u16,
    /// The key's.
    pub(super) hashes: Hashes,
    pub(super) purpose: Purpose,
    /// Who waits for it.
    pub(super) customer: Customer,
    /// Who waits with him: for plain SETs of which it is the last.
    pub(super) customers: Vec<Customer>,
    pub(super) command: Owned,
    /// What is to be kept: the key and its record, encoded. While it reads, both as the store held
    /// them; empty where it did not.
    pub(super) body: Vec<u8>,
    /// Acks that it needs.
    pub(super) w: usize,
    /// Answers that it needs.
    pub(super) r: usize,
    /// Whether its customers have their reply.
    pub(super) answered: bool,
    /// How often a newer base made it begin anew.
    pub(super) rewrites: u32,
    pub(super) deadline_us: u64,
    pub(super) phase: Phase,
    /// Whether it is the one that writes its key: then others wait behind it, so many.
    pub(super) holds: bool,
    pub(super) waiting: usize,
    /// Who waits next for the same key, and, if it holds that, who waits last.
    pub(super) next: Option<u32>,
    pub(super) last: Option<u32>,
}

/// What kind of command it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Purpose {
    /// It only reads.
    #[default]
    Read,
    /// It writes without having read.
    Overwrite,
    /// It reads, then writes.
    Modify,
}

/// Where it stands.
#[derive(Default)]
pub(super) enum Phase {
    /// Not begun.
    #[default]
    Waiting,
    /// Answers are gathered.
    Reading(QuorumRead),
    /// Acks are gathered.
    Writing(QuorumWrite),
    /// Nothing is to be written; the reply waits until what it shows is durable here.
    Holding(Gate, Reply<'static>),
}

/// Who waits.
#[derive(Clone, Copy, Default)]
pub(super) enum Customer {
    /// Nobody.
    #[default]
    Nobody,
    /// A client, a forwarding node, or a part.
    Requester(Requester),
    /// A flush of this node, which deletes nothing that is stamped later than `before`.
    Flush { flush: u64, before: Stamp },
}

/// A command that borrows nothing.
pub(super) struct Owned {
    /// Of SET its value is left out here.
    verb: Verb<'static>,
    /// The key, then the value.
    bytes: Vec<u8>,
    key_length: usize,
}

impl Default for Owned {
    fn default() -> Owned {
        Owned { verb: Verb::Get, bytes: Vec::new(), key_length: 0 }
    }
}

impl Owned {
    /// Takes a copy. Only SET, among the commands that this model takes, has bytes of its own; the
    /// others were refused before.
    pub(super) fn copy(&mut self, command: &KeyCommand<'_>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(command.key);
        self.key_length = command.key.len();
        self.verb = match command.verb {
            Verb::Set { value, expiry, condition, get } => {
                self.bytes.extend_from_slice(value);
                Verb::Set { value: &[], expiry, condition, get }
            }
            Verb::GetExpire(expiry) => Verb::GetExpire(expiry),
            Verb::Length => Verb::Length,
            Verb::GetRange(first, last) => Verb::GetRange(first, last),
            Verb::Increment(by) => Verb::Increment(by),
            Verb::IncrementFloat(by) => Verb::IncrementFloat(by),
            Verb::Delete => Verb::Delete,
            Verb::Exists => Verb::Exists,
            Verb::Type => Verb::Type,
            Verb::Expire(deadline, condition) => Verb::Expire(deadline, condition),
            Verb::TimeToLive { absolute, milliseconds } => {
                Verb::TimeToLive { absolute, milliseconds }
            }
            Verb::Persist => Verb::Persist,
            Verb::Get
            | Verb::SetIfAbsent(_)
            | Verb::GetSet(_)
            | Verb::GetDelete
            | Verb::Append(_)
            | Verb::SetRange(..) => Verb::Get,
        };
    }

    /// Its key.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_length).unwrap_or_default()
    }

    /// The command again.
    pub(super) fn command(&self) -> KeyCommand<'_> {
        let verb = match self.verb {
            Verb::Set { expiry, condition, get, .. } => {
                let value = self.bytes.get(self.key_length..).unwrap_or_default();
                Verb::Set { value, expiry, condition, get }
            }
            verb => verb,
        };
        KeyCommand { key: self.key(), verb }
    }

    fn clear(&mut self) {
        clear(&mut self.bytes);
        self.key_length = 0;
    }
}

fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > BUFFER_BYTES_KEPT {
        *buffer = Vec::new();
    }
}

impl Operation {
    /// Its key.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        self.command.key()
    }

    /// For a flush's tombstone, the stamp after which nothing is deleted.
    pub(super) fn deletes_before(&self) -> Option<Stamp> {
        match self.customer {
            Customer::Flush { before, .. } => Some(before),
            Customer::Requester(_) | Customer::Nobody => None,
        }
    }

    /// It is over: its memory is kept.
    pub(super) fn clear(&mut self) {
        self.number = 0;
        self.customer = Customer::Nobody;
        self.customers.clear();
        self.command.clear();
        clear(&mut self.body);
        self.answered = false;
        self.rewrites = 0;
        self.phase = Phase::Waiting;
        (self.next, self.last) = (None, None);
    }

    /// Writes the question that it asks a replica.
    pub(super) fn ask(&self, bytes: &mut Vec<u8>) {
        let (operation, partition) = (self.number, self.partition);
        match &self.phase {
            Phase::Reading(read) => {
                let (digest, key) = (read.digest, self.key());
                Part::Read { operation, partition, digest, key }.encode(bytes);
            }
            Phase::Writing(_) => parts::write(bytes, operation, partition, &self.body),
            Phase::Waiting | Phase::Holding(..) => {}
        }
    }
}

/// What an operation is about, apart from its command.
pub(super) struct About {
    pub(super) customer: Customer,
    pub(super) partition: u16,
    pub(super) hashes: Hashes,
    pub(super) purpose: Purpose,
    pub(super) with: With,
}

impl Leaderless {
    /// A new operation for a command, not begun.
    pub(super) fn operation(
        &mut self,
        turn: &Turn<'_>,
        about: About,
        command: &KeyCommand<'_>,
    ) -> u32 {
        let timeout_us = self.options.timeout_ms.saturating_mul(1000);
        let w = usize::from(about.with.w.unwrap_or(self.options.w)).max(1);
        let r = usize::from(about.with.r.unwrap_or(self.options.r)).max(1);
        let place = self.operations.open();
        if let Some(operation) = self.operations.at_mut(place) {
            operation.partition = about.partition;
            operation.hashes = about.hashes;
            operation.purpose = about.purpose;
            operation.customer = about.customer;
            operation.command.copy(command);
            (operation.w, operation.r) = (w, r);
            operation.deadline_us = turn.now.monotonic_us.saturating_add(timeout_us);
        }
        place
    }

    /// A new number, larger than the one before.
    pub(super) fn count(&mut self, turn: &mut Turn<'_>) -> u64 {
        let count = match self.newest_operation {
            // Also another one where a driver starts a process with the seed of the one before.
            None => {
                let moment = turn.now.wall_ms.rotate_left(24) ^ self.ceiling.newest().0;
                Random::new(turn.local.random.next_u64() ^ moment).next_u64()
            }
            Some(newest) => newest.wrapping_add(1),
        };
        self.newest_operation = Some(count);
        count
    }

    /// A phase of an operation begins: under a new number, and with a timer.
    pub(super) fn begin_phase(&mut self, turn: &mut Turn<'_>, place: u32, phase: Phase) -> u64 {
        let count = self.count(turn);
        let number = self.operations.number(place, count);
        if let Some(operation) = self.operations.at_mut(place) {
            operation.phase = phase;
            self.timers.start(turn.now.monotonic_us, operation.deadline_us, number);
        }
        number
    }

    /// Looks whether the operation with a number can go on.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>, number: u64) {
        if let Some(place) = self.operations.place_of(number) {
            self.advance_at(turn, place);
        }
    }

    /// The same for the one at a place.
    pub(super) fn advance_at(&mut self, turn: &mut Turn<'_>, place: u32) {
        match self.operations.at(place).map(|operation| &operation.phase) {
            None | Some(Phase::Waiting) => {}
            Some(Phase::Reading(_)) => self.advance_read(turn, place),
            Some(Phase::Writing(_)) => self.advance_write(turn, place),
            Some(Phase::Holding(gate, _)) => {
                if gate.is_open(turn.local)
                    && let Some(operation) = self.operations.at_mut(place)
                    && let Phase::Holding(_, reply) = core::mem::take(&mut operation.phase)
                {
                    // An error after a rewrite: what was made before is on who knows how many.
                    let is_open = operation.rewrites > 0 && reply.is_error();
                    let last_write = is_open.then(|| self.last_write(0));
                    self.answer(turn, place, reply, last_write);
                    self.operations.close(place);
                }
            }
        }
    }

    /// Goes on with an operation when a gate opens.
    pub(super) fn await_gate(&mut self, turn: &Turn<'_>, number: u64, gate: Gate) {
        let (position, durability) = gate.waits_for(turn.local);
        match durability {
            crate::keyspace::Durability::Fsync => {
                self.awaiting_synced.push_back((position, number));
            }
            crate::keyspace::Durability::Interval => {
                self.awaiting_written.push_back((position, number));
            }
        }
    }

    /// Answers all who wait for an operation, and lets the next write of its key begin.
    pub(super) fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        place: u32,
        reply: Reply<'_>,
        last_write: Option<LastWrite>,
    ) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        if operation.answered {
            return;
        }
        let missed = reply.is_error();
        tell(turn, operation.customer, &mut operation.customers, reply, last_write);
        self.on_answered(place, missed);
    }

    /// What a write with so many acks says of itself, for a WAIT behind it: also where they are
    /// fewer than it asked for.
    pub(super) fn last_write(&self, acks: usize) -> LastWrite {
        let acks = u16::try_from(acks).unwrap_or(u16::MAX);
        LastWrite::Copies { acks, synced: self.options.durability == Durability::Fsync }
    }

    /// Its customers have their reply: takes note of that.
    pub(super) fn on_answered(&mut self, place: u32, missed: bool) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        operation.answered = true;
        if let Customer::Flush { flush, .. } = operation.customer {
            self.on_tombstone_answered(flush, missed);
        }
        if let Some(next) = self.operations.hand_on(place) {
            self.released.push_back(next);
        }
    }

    /// An operation's timer: time to ask again, or the deadline.
    pub(super) fn on_due(&mut self, turn: &mut Turn<'_>, number: u64) {
        let now_us = turn.now.monotonic_us;
        let Some(place) = self.operations.place_of(number) else { return };
        let Some(operation) = self.operations.at(place) else { return };
        if operation.deadline_us <= now_us {
            return self.give_up(turn, place);
        }
        self.timers.start(now_us, operation.deadline_us, number);
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let others = held.other_places();
        let asked = match &operation.phase {
            Phase::Reading(read) => others.without(read.spoken()),
            Phase::Writing(write) if write.is_sent() => others.without(write.acked()),
            Phase::Waiting | Phase::Writing(_) | Phase::Holding(..) => Places::default(),
        };
        self.ask(turn, place, asked);
    }

    /// Asks replicas what an operation is about.
    pub(super) fn ask(&mut self, turn: &mut Turn<'_>, place: u32, asked: Places) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        if let Phase::Reading(read) = &mut operation.phase {
            read.asked.add(asked);
        }
        for node in held.nodes(asked) {
            self.outbox.say(turn, node, |bytes| operation.ask(bytes));
        }
    }

    /// The deadline has come: those who wait are told what is there, and what is missing.
    fn give_up(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at(place) else { return };
        let n = self.partitions.at(operation.partition).map_or(0, |held| held.replicas.len());
        if !operation.answered {
            let error = error_at_deadline(operation, n, self.options.timeout_ms);
            let acked = match &operation.phase {
                Phase::Writing(write) => Some(write.acked()),
                _ => None,
            };
            let last_write = acked.map(|acked| self.last_write(acked.len()));
            self.answer(turn, place, Reply::error(error), last_write);
        }
        self.repair(turn, place);
        self.operations.close(place);
    }
}

/// Gives a reply to all who wait for it. A flush is told otherwise.
fn tell(
    turn: &mut Turn<'_>,
    customer: Customer,
    customers: &mut Vec<Customer>,
    reply: Reply<'_>,
    last_write: Option<LastWrite>,
) {
    for other in customers.drain(..) {
        if let Customer::Requester(requester) = other {
            turn.answer(requester, reply.clone(), last_write);
        }
    }
    if let Customer::Requester(requester) = customer {
        turn.answer(requester, reply, last_write);
    }
}

/// What is told to those who have waited for too long.
fn error_at_deadline(operation: &Operation, n: usize, timeout_ms: u64) -> String {
    let written = if operation.purpose == Purpose::Read { "" } else { "; nothing was written" };
    match &operation.phase {
        Phase::Writing(write) => partial(write.acked().len(), operation.w, n),
        Phase::Reading(read) => format!(
            "NOREPLICAS answered={} need={} n={n} after {timeout_ms} ms{written}",
            read.answers(),
            operation.r
        ),
        Phase::Waiting | Phase::Holding(..) => format!(
            "TRYAGAIN this node's disk has not kept in {timeout_ms} ms what the reply shows\
             {written}"
        ),
    }
}

/// The answer of a write that missed W.
pub(super) fn partial(acked: usize, need: usize, n: usize) -> String {
    format!(
        "PARTIAL acked={acked} need={need} n={n} the write is on fewer replicas than asked for; \
         it stays there, reads may see it, and it may spread"
    )
}

/// What kind of command a verb makes.
pub(super) fn purpose(verb: &Verb<'_>) -> Purpose {
    match verb {
        Verb::Set { expiry, condition: Condition::Always, get: false, .. }
            if *expiry != Expiry::Keep =>
        {
            Purpose::Overwrite
        }
        verb if verb.is_write() => Purpose::Modify,
        _ => Purpose::Read,
    }
}
