//! Quorum reads: all replicas are asked, R answers are merged; the later ones serve read repair.

use super::Leaderless;
use super::message::{Answer, Message};
use super::operation::{Operation, Phase, Purpose};
use super::partition::Gate;
use crate::command::Reply;
use crate::conflict::last_write_wins::{self, Outcome};
use crate::data;
use crate::mutant::Mutant;
use crate::storage::record::Record;
use crate::turn::Turn;
use crate::{GroupId, NodeId};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

/// The answers to one question. Each replica counts once.
#[derive(Default)]
pub(super) struct QuorumRead {
    /// The own record as it was when the read began, until it is durable.
    own: Option<(Gate, Option<Record<'static>>)>,
    answered: Vec<(NodeId, Option<Record<'static>>)>,
    /// Replicas that do not know: their disk was emptied.
    not_ready: Vec<NodeId>,
}

impl QuorumRead {
    /// How many replicas have said what they hold.
    pub(super) fn answers(&self) -> usize {
        self.answered.len()
    }

    /// Whether a replica has spoken, be it to say that it does not know.
    pub(super) fn has_answered(&self, node: NodeId) -> bool {
        self.not_ready.contains(&node) || self.answered.iter().any(|(from, _)| *from == node)
    }

    /// The answers as one record. What is missing at one replica loses to anything elsewhere.
    pub(super) fn merged(&self) -> Option<Record<'static>> {
        let mut records = self.answered.iter().filter_map(|(_, record)| record.as_ref());
        let first = records.next()?.clone();
        Some(records.fold(first, |all, one| match last_write_wins::merge(&all, one).outcome {
            Outcome::Kept => all,
            Outcome::Incoming => one.clone(),
            Outcome::Both(merged) => merged,
        }))
    }

    /// The replicas whose answer was older than all answers together.
    pub(super) fn stale(&self, merged: &Record<'_>) -> impl Iterator<Item = NodeId> {
        let older = move |(node, record): &(NodeId, Option<Record<'static>>)| {
            (record.as_ref() != Some(merged)).then_some(*node)
        };
        self.answered.iter().filter_map(older)
    }

    /// Counts an answer; a replica's second one changes nothing.
    fn add(&mut self, node: NodeId, answer: Answer<'_>) {
        if self.has_answered(node) {
            return;
        }
        match answer {
            Answer::NotReady => self.not_ready.push(node),
            Answer::Missing => self.answered.push((node, None)),
            Answer::Holds(record) => self.answered.push((node, Some(record.into_owned()))),
        }
    }

    /// Asks a replica for its record.
    pub(super) fn ask(
        turn: &mut Turn<'_>,
        operation: u64,
        group: GroupId,
        key: &[u8],
        node: NodeId,
    ) {
        let message = Message::Read { operation, group, key: Cow::Borrowed(key) };
        turn.send(node, crate::Message::Leaderless(message));
    }
}

impl Leaderless {
    /// Asks all replicas for a key's record.
    pub(super) fn begin_read(&mut self, turn: &mut Turn<'_>, mut operation: Operation) {
        let Some(held) = self.held.get(&operation.group) else { return };
        let key = &operation.command.key;
        let (gate, others) = (held.gate(key), held.others.clone());
        let mut read = QuorumRead::default();
        if self.ready {
            read.own = Some((gate, held.store.get(key).map(Record::into_owned)));
        } else {
            read.add(self.me, Answer::NotReady);
        }
        let (group, key) = (operation.group, key.clone());
        operation.phase = Phase::Reading(read);
        let id = self.keep(turn, operation);
        for node in others {
            QuorumRead::ask(turn, id, group, &key, node);
        }
        if !gate.is_open(turn.local) {
            self.await_gate(turn, id, gate);
        }
        self.advance_read(turn, id);
    }

    /// Counts the own answer, replies at R answers, and repairs at N.
    pub(super) fn advance_read(&mut self, turn: &mut Turn<'_>, id: u64) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let Some(held) = self.held.get(&operation.group) else { return };
        let n = held.replicas.len();
        let Phase::Reading(read) = &mut operation.phase else {
            self.operations.insert(id, operation);
            return;
        };
        if let Some((_, record)) = read.own.take_if(|(gate, _)| gate.is_open(turn.local)) {
            read.answered.push((self.me, record));
        }
        let one_short = turn.local.mutants.is(Mutant::ReadOneShort);
        let need = if one_short { (operation.r - 1).max(1) } else { operation.r };
        let (answers, not_ready) = (read.answers(), read.not_ready.len());
        let waits_for = |node: &NodeId| !read.has_answered(*node) && !self.lost.contains(node);
        let all = read.own.is_none() && !held.others.iter().any(waits_for);
        if !operation.answered && answers >= need {
            let merged = read.merged();
            if operation.purpose == Purpose::Modify {
                return self.modify(turn, operation, merged.as_ref());
            }
            let command = operation.command.clone();
            let evaluation = data::evaluate(&command.command(), merged.as_ref(), turn.now.wall_ms);
            self.answer(turn, &mut operation, evaluation.reply, None);
        } else if !operation.answered && n - not_ready < need {
            let error = format!(
                "NOREPLICAS answered={answers} need={need} n={n} not-ready={not_ready}: replicas \
                 whose disk was emptied do not answer before they are filled again"
            );
            self.answer(turn, &mut operation, Reply::error(error), None);
        }
        if !(operation.answered && all) {
            self.operations.insert(id, operation);
        } else if let Phase::Reading(read) = &operation.phase {
            self.repair(turn, operation.group, &operation.command.key, read);
        }
    }

    /// A replica has said what it holds.
    pub(super) fn on_read_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        id: u64,
        group: GroupId,
        answer: Answer<'_>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Phase::Reading(read) = &mut operation.phase else { return };
        if operation.group == group {
            read.add(from, answer);
            self.advance_read(turn, id);
        }
    }

    /// A coordinator asks what this replica holds: it says so when that is durable.
    pub(super) fn on_read(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        operation: u64,
        group: GroupId,
        key: &[u8],
    ) {
        let Some(held) = self.held.get(&group).filter(|held| held.covers(key)) else { return };
        let say =
            |answer| crate::Message::Leaderless(Message::ReadAnswer { operation, group, answer });
        if !self.ready {
            return turn.send(from, say(Answer::NotReady));
        }
        let stored = held.store.get(key);
        let gate = held.gate(key);
        if gate.is_open(turn.local) {
            let answer = stored.map_or(Answer::Missing, Answer::Holds);
            return turn.send(from, say(answer));
        }
        let answer = stored.map_or(Answer::Missing, |r| Answer::Holds(r.into_owned()));
        let message = crate::Message::Leaderless(Message::ReadAnswer { operation, group, answer });
        let (position, durability) = gate.waits_for(turn.local);
        turn.send_when_durable(position, durability, from, message);
    }
}
