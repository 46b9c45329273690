//! Quorum reads: the own record, and what so many other replicas say that R have spoken.
//!
//! A question carries a digest of the coordinator's own record: who holds the same says only that.
//! The replicas that are asked change from turn to turn, so that a stale one is met soon; but
//! those whom the turn tells something anyway mostly come first. Where an answer differs, or none
//! comes, the others are asked, too.

use super::Leaderless;
use super::operation::{Customer, Operation, Phase, Purpose};
use super::outbox::OwedPart;
use super::partition::{Gate, Held, digest_of, digest_of_stored};
use super::parts::Part;
use super::places::Places;
use crate::NodeId;
use crate::command::Reply;
use crate::conflict::last_write_wins::{self, Outcome};
use crate::data;
use crate::mutant::Mutant;
use crate::storage::record::Record;
use crate::storage::store::{Hashes, unpack};
use crate::turn::Turn;
use alloc::format;
use alloc::vec::Vec;

/// In one of so many turns with reads, it does not matter whom the turn tells something anyway: so
/// that read repair reaches every replica. Where R = 1, all are asked then.
const ROTATE_TURNS: usize = 16;

/// The answers to one question. Each replica counts once.
#[derive(Default)]
pub(super) struct QuorumRead {
    /// Of the own record, as it was when the read began; 0 where this replica does not know.
    pub(super) digest: u64,
    /// Who was asked.
    pub(super) asked: Places,
    /// Who has said what it holds, this node included: it counts when what it holds is durable.
    answered: Places,
    own: Option<Gate>,
    /// Replicas that do not know: their disk was emptied.
    not_ready: Places,
    /// What those hold who hold something else than the digest says.
    differing: Vec<(usize, Option<Record<'static>>)>,
}

impl QuorumRead {
    /// How many replicas have said what they hold.
    pub(super) fn answers(&self) -> usize {
        self.answered.len()
    }

    /// Who has spoken, be it to say that it does not know.
    pub(super) fn spoken(&self) -> Places {
        self.answered.and(self.not_ready)
    }

    /// Whether nobody holds something else than this node did.
    pub(super) fn all_same(&self) -> bool {
        self.differing.is_empty()
    }

    /// The replicas whose answer was older than all answers together.
    pub(super) fn stale(&self, merged: &Record<'_>) -> Places {
        let digest = digest_of(Some(merged));
        let mut stale = Places::default();
        let mut same = self.answered;
        for (place, record) in &self.differing {
            same = same.without(Places::one(*place));
            if digest_of(record.as_ref()) != digest {
                stale.add(Places::one(*place));
            }
        }
        if self.digest != digest {
            stale.add(same);
        }
        stale
    }
}

impl Operation {
    /// What all answers to its read come to: what is missing at one replica loses to anything
    /// elsewhere.
    pub(super) fn merged(&self) -> Option<Record<'_>> {
        let Phase::Reading(read) = &self.phase else { return None };
        // What this node held when the read began; empty where it held nothing.
        let own = unpack(&self.body).ok().map(|(_, record)| record);
        if read.all_same() {
            return own;
        }
        let all_differ = read.answered.len() == read.differing.len();
        let own = own.filter(|_| !all_differ);
        let others = read.differing.iter().filter_map(|(_, record)| record.as_ref());
        others.fold(own, |all, one| {
            let Some(all) = all else { return Some(one.borrowed()) };
            Some(match last_write_wins::merge(&all, &one.borrowed()).outcome {
                Outcome::Kept => all,
                Outcome::Incoming => one.borrowed(),
                Outcome::Both(merged) => merged,
            })
        })
    }
}

impl Leaderless {
    /// Asks for a key's record.
    pub(super) fn begin_read(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let mut read = QuorumRead::default();
        let gate = held.gate(operation.hashes.slot);
        let is_open = gate.is_open(turn.local);
        operation.body.clear();
        if self.ready {
            let stored = held.store.bytes_by(operation.command.key(), operation.hashes);
            read.digest = digest_of_stored(stored);
            // A copy: what is written while the answers come is not for this read.
            operation.body.extend_from_slice(stored.unwrap_or_default());
            match is_open {
                true => read.answered = held.own(),
                false => read.own = Some(gate),
            }
        } else {
            read.not_ready = held.own();
        }
        let (need, r) = (answers_needed(turn, operation), operation.r);
        let asked = self.first_asked(held, r);
        self.reads_in_turn = true;
        let waits = self.ready && !asked.is_empty() && read.answers() < need;
        let is_all = asked.has(held.other_places());
        let number = self.begin_phase(turn, place, Phase::Reading(read));
        if !is_all {
            self.timers.start_hedge(turn.now.monotonic_us, number);
        }
        if !is_open {
            self.await_gate(turn, number, gate);
        }
        self.ask(turn, place, asked);
        if !waits {
            self.advance_read(turn, place);
        }
    }

    /// Who is asked at first: so many that R answer. Mostly those whom this turn tells something
    /// anyway, as that saves a frame; otherwise in this turn's order.
    fn first_asked(&self, held: &Held, r: usize) -> Places {
        let (own, others) = (held.own_place, held.other_places());
        let need = r.saturating_sub(1);
        let rotates = self.read_turns.is_multiple_of(ROTATE_TURNS);
        if !self.ready || (need == 0 && rotates) {
            return others;
        }
        let slow = held.places_of(&self.lost).and(held.places_of(&self.slow));
        let mut asked = Places::default();
        if !rotates {
            asked = held.places_where(|node| self.outbox.has_something_for(node)).without(slow);
        }
        if asked.len() == need {
            return asked;
        }
        // Too many or too few: so many, in order, of those or besides those.
        let (told, n, count) = (asked, held.replicas.len(), others.len());
        let of_told = told.len() > need;
        if of_told {
            asked = Places::default();
        }
        let first = if rotates { self.read_turns / ROTATE_TURNS } else { self.read_turns };
        for step in 0..count {
            if asked.len() == need {
                break;
            }
            let place = Places::one((own + 1 + (first + step) % count) % n).without(slow);
            if !of_told || told.has(place) {
                asked.add(place);
            }
        }
        if asked.len() < need { others } else { asked }
    }

    /// Counts, replies at R answers, asks more replicas where that is needed, and repairs in the
    /// end.
    pub(super) fn advance_read(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let need = answers_needed(turn, operation);
        let Phase::Reading(read) = &mut operation.phase else { return };
        if read.own.take_if(|gate| gate.is_open(turn.local)).is_some() {
            read.answered.add(held.own());
        }
        let mut silent = read.asked.without(read.spoken());
        if !silent.is_empty() {
            silent = silent.without(held.places_of(&self.lost));
        }
        let done = silent.is_empty() && read.own.is_none();
        let (enough, all_same) = (read.answers() >= need, read.all_same());
        let differs = !all_same && operation.purpose == Purpose::Read;
        if differs || (done && !enough) {
            let unasked = held.other_places().without(read.asked);
            if !unasked.is_empty() {
                self.ask(turn, place, unasked);
                return self.advance_read(turn, place);
            }
        }
        let n = held.replicas.len();
        if !operation.answered && enough {
            if operation.purpose == Purpose::Modify {
                let learned = operation.merged().map(Record::into_owned);
                return self.modify(turn, place, learned.as_ref());
            }
            self.answer_read(turn, place);
        } else if !operation.answered && n - read.not_ready.len() < need {
            let (answers, not_ready) = (read.answers(), read.not_ready.len());
            let error = format!(
                "NOREPLICAS answered={answers} need={need} n={n} not-ready={not_ready}: replicas \
                 whose disk was emptied do not answer before they are filled again"
            );
            self.answer(turn, place, Reply::error(error), None);
        }
        if done && self.operations.at(place).is_some_and(|operation| operation.answered) {
            if !all_same {
                self.repair(turn, place);
            }
            self.operations.close(place);
        }
    }

    /// Replies to a read.
    fn answer_read(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at(place) else { return };
        let merged = operation.merged();
        let command = operation.command.command();
        let evaluation = data::evaluate(&command, merged.as_ref(), turn.now.wall_ms);
        // Only plain SETs have more than one customer, and only deletes are a flush's.
        if let Customer::Requester(requester) = operation.customer {
            turn.answer(requester, evaluation.reply, None);
        }
        self.on_answered(place, false);
    }

    /// A replica has said what it holds: `None` if that is what the question's digest says,
    /// otherwise its record, if it has one.
    pub(super) fn on_read_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        number: u64,
        answer: Option<Option<Record<'_>>>,
    ) {
        let Some((place, who)) = self.reading(from, number) else { return };
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Phase::Reading(read) = &mut operation.phase else { return };
        if read.spoken().has(Places::one(who)) {
            return;
        }
        read.answered.add(Places::one(who));
        if let Some(record) = answer {
            read.differing.push((who, record.map(Record::into_owned)));
        }
        self.advance_read(turn, place);
    }

    /// A replica does not know.
    pub(super) fn on_not_ready(&mut self, turn: &mut Turn<'_>, from: NodeId, number: u64) {
        let Some((place, who)) = self.reading(from, number) else { return };
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Phase::Reading(read) = &mut operation.phase else { return };
        if !read.spoken().has(Places::one(who)) {
            read.not_ready.add(Places::one(who));
            self.advance_read(turn, place);
        }
    }

    /// The place of a read, and that of a replica which answers it.
    fn reading(&self, from: NodeId, number: u64) -> Option<(u32, usize)> {
        let place = self.operations.place_of(number)?;
        let held = self.partitions.at(self.operations.at(place)?.partition)?;
        Some((place, held.place_of(from)?))
    }

    /// Whoever was asked at first is slow: the others are asked, too, and asked first for a while.
    pub(super) fn hedge(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(place) = self.operations.place_of(number) else { return };
        let Some(operation) = self.operations.at(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let Phase::Reading(read) = &operation.phase else { return };
        self.slow.extend(held.nodes(read.asked.without(read.spoken())));
        let unasked = held.other_places().without(read.asked);
        self.ask(turn, place, unasked);
    }

    /// A coordinator asks what this replica holds: it says so when that is durable. The hashes are
    /// the key's.
    pub(super) fn on_read(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (operation, digest): (u64, u64),
        (partition, key): (u16, &[u8]),
        hashes: Hashes,
    ) {
        let Some(held) = self.partitions.at(partition) else { return };
        if held.place_of(from).is_none() || !held.has_slot(hashes.slot) {
            return;
        }
        let outbox = &mut self.outbox;
        if !self.ready {
            return outbox.say(turn, from, |b| Part::NotReady { operation }.encode(b));
        }
        let gate = held.gate(hashes.slot);
        let stored = held.store.bytes_by(key, hashes);
        if digest_of_stored(stored) == digest {
            let gate = gate.waits_for(turn.local);
            return outbox.say_when_durable(turn, gate, from, OwedPart::Same(operation));
        }
        let part = match stored.and_then(|stored| unpack(stored).ok()) {
            Some((_, record)) => Part::Holds { operation, record },
            None => Part::Missing { operation },
        };
        if gate.is_open(turn.local) {
            return outbox.say(turn, from, |b| part.encode(b));
        }
        let part = OwedPart::encoded(&part);
        outbox.say_when_durable(turn, gate.waits_for(turn.local), from, part);
    }
}

/// So many answers a read waits for.
fn answers_needed(turn: &Turn<'_>, operation: &Operation) -> usize {
    let one_short = turn.local.mutants.is(Mutant::ReadOneShort);
    if one_short { (operation.r - 1).max(1) } else { operation.r }
}
