//! What a coordinator has under way: one operation a command, from its start to its last answer.
//!
//! An operation outlives its reply: a write until all live replicas have it, a read until all have
//! answered and the stale ones are repaired; or until the deadline.

use super::Leaderless;
use super::partition::Gate;
use super::quorum_read::QuorumRead;
use super::quorum_write::QuorumWrite;
use crate::command::verb::{Condition, Expiry, With};
use crate::command::{KeyCommand, Reply, Verb};
use crate::random::Random;
use crate::turn::{LastWrite, Requester, Turn};
use crate::version::Stamp;
use crate::{GroupId, NodeId};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// After so long an unanswered replica is asked again, in microseconds.
const RETRANSMIT_US: u64 = 100_000;

/// A command on its way.
pub(super) struct Operation {
    pub(super) group: GroupId,
    pub(super) purpose: Purpose,
    /// Who waits for it: one, or several plain SETs of which it is the last.
    pub(super) customers: Vec<Customer>,
    pub(super) command: Owned,
    /// Acks that it needs.
    pub(super) w: usize,
    /// Answers that it needs.
    pub(super) r: usize,
    /// Whether its customers have their reply.
    pub(super) answered: bool,
    /// How often a newer base made it begin anew.
    pub(super) rewrites: u32,
    pub(super) deadline_us: u64,
    pub(super) retransmit_us: u64,
    pub(super) phase: Phase,
}

/// What kind of command it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// It only reads.
    Read,
    /// It writes without having read.
    Overwrite,
    /// It reads, then writes.
    Modify,
}

/// Where it stands.
pub(super) enum Phase {
    /// Not begun.
    Waiting,
    /// Answers are gathered.
    Reading(QuorumRead),
    /// Acks are gathered.
    Writing(QuorumWrite),
    /// Nothing is to be written; the reply waits until what it shows is durable here.
    Holding(Gate, Reply<'static>),
}

/// Who waits.
pub(super) enum Customer {
    /// A client, a forwarding node, or a part.
    Requester(Requester),
    /// A flush of this node, which deletes nothing that is stamped later than `before`.
    Flush { flush: u64, before: Stamp },
}

/// A command that borrows nothing.
#[derive(Clone)]
pub(super) struct Owned {
    pub(super) key: Vec<u8>,
    /// Of SET its value is left out here.
    verb: Verb<'static>,
    value: Vec<u8>,
}

impl Owned {
    /// A copy. Only SET, among the commands that this model takes, has bytes of its own; the
    /// others were refused before.
    fn of(command: &KeyCommand<'_>) -> Owned {
        let (verb, value): (Verb<'static>, &[u8]) = match command.verb {
            Verb::Set { value, expiry, condition, get } => {
                (Verb::Set { value: &[], expiry, condition, get }, value)
            }
            Verb::GetExpire(expiry) => (Verb::GetExpire(expiry), &[]),
            Verb::Length => (Verb::Length, &[]),
            Verb::GetRange(first, last) => (Verb::GetRange(first, last), &[]),
            Verb::Increment(by) => (Verb::Increment(by), &[]),
            Verb::IncrementFloat(by) => (Verb::IncrementFloat(by), &[]),
            Verb::Delete => (Verb::Delete, &[]),
            Verb::Exists => (Verb::Exists, &[]),
            Verb::Type => (Verb::Type, &[]),
            Verb::Expire(deadline, condition) => (Verb::Expire(deadline, condition), &[]),
            Verb::TimeToLive { absolute, milliseconds } => {
                (Verb::TimeToLive { absolute, milliseconds }, &[])
            }
            Verb::Persist => (Verb::Persist, &[]),
            Verb::Get
            | Verb::SetIfAbsent(_)
            | Verb::GetSet(_)
            | Verb::GetDelete
            | Verb::Append(_)
            | Verb::SetRange(..) => (Verb::Get, &[]),
        };
        Owned { key: command.key.to_vec(), verb, value: value.to_vec() }
    }

    /// The command again.
    pub(super) fn command(&self) -> KeyCommand<'_> {
        let verb = match self.verb {
            Verb::Set { expiry, condition, get, .. } => {
                Verb::Set { value: &self.value, expiry, condition, get }
            }
            verb => verb,
        };
        KeyCommand { key: &self.key, verb }
    }
}

impl Operation {
    /// When something is to be done for it if nothing happens.
    pub(super) fn next_at_us(&self) -> u64 {
        self.deadline_us.min(self.retransmit_us)
    }

    /// For a flush's tombstone, the stamp after which nothing is deleted.
    pub(super) fn deletes_before(&self) -> Option<Stamp> {
        match self.customers.first() {
            Some(Customer::Flush { before, .. }) => Some(*before),
            Some(Customer::Requester(_)) | None => None,
        }
    }

    /// The replicas that have not said what they are asked for.
    fn unanswered(&self, others: &[NodeId]) -> Vec<NodeId> {
        let open = |node: &&NodeId| match &self.phase {
            Phase::Reading(read) => !read.has_answered(**node),
            Phase::Writing(write) => write.is_sent() && !write.has_acked(**node),
            Phase::Waiting | Phase::Holding(..) => false,
        };
        others.iter().filter(open).copied().collect()
    }
}

impl Leaderless {
    /// A new operation for a command, not begun.
    pub(super) fn operation(
        &self,
        turn: &Turn<'_>,
        requester: Requester,
        group: GroupId,
        command: &KeyCommand<'_>,
        with: With,
    ) -> Operation {
        let purpose = purpose(&command.verb);
        let now = turn.now.monotonic_us;
        Operation {
            group,
            purpose,
            customers: alloc::vec![Customer::Requester(requester)],
            command: Owned::of(command),
            w: usize::from(with.w.unwrap_or(self.options.w)).max(1),
            r: usize::from(with.r.unwrap_or(self.options.r)).max(1),
            answered: false,
            rewrites: 0,
            deadline_us: now.saturating_add(self.options.timeout_ms.saturating_mul(1000)),
            retransmit_us: now.saturating_add(RETRANSMIT_US),
            phase: Phase::Waiting,
        }
    }

    /// The number of a new operation, or of an old one's new attempt.
    pub(super) fn number(&mut self, turn: &mut Turn<'_>) -> u64 {
        let number = match self.newest_operation {
            // Also another one where a driver starts a process with the seed of the one before.
            None => {
                let moment = turn.now.wall_ms.rotate_left(24) ^ self.ceiling.newest().0;
                Random::new(turn.local.random.next_u64() ^ moment).next_u64()
            }
            Some(newest) => newest.wrapping_add(1),
        };
        self.newest_operation = Some(number);
        number
    }

    /// Puts an operation under a new number, with its timers.
    pub(super) fn keep(&mut self, turn: &mut Turn<'_>, mut operation: Operation) -> u64 {
        operation.retransmit_us = turn.now.monotonic_us.saturating_add(RETRANSMIT_US);
        self.wake_at(operation.next_at_us());
        let id = self.number(turn);
        self.operations.insert(id, operation);
        id
    }

    /// Looks whether an operation can go on.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>, id: u64) {
        match self.operations.get(&id).map(|operation| &operation.phase) {
            None | Some(Phase::Waiting) => {}
            Some(Phase::Reading(_)) => self.advance_read(turn, id),
            Some(Phase::Writing(_)) => self.advance_write(turn, id),
            Some(Phase::Holding(gate, _)) => {
                if gate.is_open(turn.local)
                    && let Some(mut operation) = self.operations.remove(&id)
                    && let Phase::Holding(_, reply) =
                        core::mem::replace(&mut operation.phase, Phase::Waiting)
                {
                    self.answer(turn, &mut operation, reply, None);
                }
            }
        }
    }

    /// Goes on with an operation when a gate opens.
    pub(super) fn await_gate(&mut self, turn: &Turn<'_>, id: u64, gate: Gate) {
        let (position, durability) = gate.waits_for(turn.local);
        match durability {
            crate::keyspace::Durability::Fsync => self.awaiting_synced.push_back((position, id)),
            crate::keyspace::Durability::Interval => {
                self.awaiting_written.push_back((position, id))
            }
        }
    }

    /// Answers all who wait for an operation, and lets the next write of its key begin.
    pub(super) fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        operation: &mut Operation,
        reply: Reply<'_>,
        last_write: Option<LastWrite>,
    ) {
        if operation.answered {
            return;
        }
        operation.answered = true;
        for customer in operation.customers.drain(..) {
            match customer {
                Customer::Requester(requester) => {
                    turn.answer(requester, reply.clone(), last_write);
                }
                Customer::Flush { flush, .. } => {
                    self.on_tombstone_answered(flush, reply.is_error())
                }
            }
        }
        if operation.purpose != Purpose::Read {
            self.released.push_back(operation.command.key.clone());
        }
    }

    /// An operation's timer: the deadline, or time to ask again.
    pub(super) fn on_due(&mut self, turn: &mut Turn<'_>, id: u64) {
        let now = turn.now.monotonic_us;
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if operation.deadline_us <= now {
            return self.give_up(turn, id);
        }
        operation.retransmit_us = now.saturating_add(RETRANSMIT_US);
        let Some(held) = self.held.get(&operation.group) else { return };
        for node in operation.unanswered(&held.others) {
            operation.ask(turn, id, node);
        }
    }

    /// The deadline has come: those who wait are told what is there, and what is missing.
    fn give_up(&mut self, turn: &mut Turn<'_>, id: u64) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let n = self.held.get(&operation.group).map_or(0, |held| held.replicas.len());
        let error = error_at_deadline(&operation, n, self.options.timeout_ms);
        self.answer(turn, &mut operation, Reply::error(error), None);
        if let Phase::Reading(read) = &operation.phase {
            self.repair(turn, operation.group, &operation.command.key, read);
        }
    }
}

impl Operation {
    /// Asks a replica.
    pub(super) fn ask(&self, turn: &mut Turn<'_>, id: u64, node: NodeId) {
        match &self.phase {
            Phase::Reading(_) => QuorumRead::ask(turn, id, self.group, &self.command.key, node),
            Phase::Writing(write) => write.ask(turn, id, self.group, &self.command.key, node),
            Phase::Waiting | Phase::Holding(..) => {}
        }
    }
}

/// What is told to those who have waited for too long.
fn error_at_deadline(operation: &Operation, n: usize, timeout_ms: u64) -> String {
    let written = if operation.purpose == Purpose::Read { "" } else { "; nothing was written" };
    match &operation.phase {
        Phase::Writing(write) => partial(write.acks(), operation.w, n),
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
fn purpose(verb: &Verb<'_>) -> Purpose {
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
