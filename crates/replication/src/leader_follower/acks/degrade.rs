//! `when-acks-are-missing = "degrade"`: at its deadline a write that C replicas durably have, and
//! A have not, is acknowledged all the same. It is committed, so it survives every failover; what
//! it lacks is the margin that was declared. That acts only where A > C.
//!
//! The first such write opens an interval in the degrade ledger, and its OK waits until the entry
//! that opens it is committed. While the interval is open, writes are acknowledged as soon as they
//! are committed. It is closed when the newest write that had fewer acks has all of them, or when
//! the A-th replica is no further behind than half the time that writers would wait for it: then
//! the declared acks can be had again.
//!
//! A command that is sent again (`TF.ONCE`) follows the same rule, whoever wrote it and when: what
//! it waits for may be an entry of an earlier leader, or one from before the interval. Then the
//! interval is widened to that entry, by another entry that is committed before the OK. An interval
//! so tells which writes its leader has acknowledged with fewer acks while it was open; a write
//! whose first attempt was acknowledged so by an earlier leader may be in that one's, too.

use super::super::degrade_ledger::{Degraded, Interval, Note};
use super::super::entry::{Entry, Payload};
use super::super::{Group, Role};
use super::held::{Answer, Special};
use super::need::Need;
use crate::command::Reply;
use crate::keyspace::{AckLevel, MissingAcks};
use crate::mutant::Mutant;
use crate::quorum::reached_by;
use crate::turn::{Requester, Turn};
use crate::version::EntryId;
use crate::{Event, GroupId};
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// How a leader lowers acks.
#[derive(Debug, Default)]
pub struct Degrading {
    stage: Stage,
    /// What was acknowledged below in the interval that is open.
    degraded: Degraded,
    /// The end of the log at the last tick, and when that was.
    mark: (u64, u64),
    /// Whether an interval that an earlier leader left open has been looked for.
    has_looked_back: bool,
    /// This leader's writes that the interval may not have counted although they are not older than
    /// those that it has.
    apart: Apart,
    /// The first write that was acknowledged in the interval in its turn, and not because it was
    /// sent again; 0: none yet. What is older is from before the interval.
    in_turn_from: u64,
    /// Writes from before the interval that were acknowledged in it, when they were sent again.
    older: BTreeSet<u64>,
    /// The first write that the ledger was asked to widen the interval to; 0: none.
    widened_to: u64,
}

/// Older writes that an interval remembers one by one. With more of them its numbers are bounds.
const OLDER_WRITES_MAX: usize = 4096;
/// The same for those that stand apart.
const APART_MAX: usize = 4096;

/// Writes that were not acknowledged in the line of the others: their clients were told that the
/// outcome is open, or have said themselves what they wait for, and have or had that. One that is
/// sent again, and then acknowledged with fewer acks than declared, was not counted as such before;
/// also not if its first attempt had all acks: a replica may have lost its disk in the meantime.
#[derive(Debug, Default)]
struct Apart {
    indexes: BTreeSet<u64>,
    /// Of what is up to here nobody knows any more whether it stood apart.
    forgotten_to: u64,
}

impl Apart {
    fn add(&mut self, index: u64) {
        self.indexes.insert(index);
        if self.indexes.len() > APART_MAX {
            self.forgotten_to = self.indexes.pop_first().unwrap_or_default();
        }
    }

    /// A write stands apart no longer: whether it did; `None` if that is not known.
    fn remove(&mut self, index: u64) -> Option<bool> {
        match self.indexes.remove(&index) {
            false if index <= self.forgotten_to => None,
            was => Some(was),
        }
    }

    /// What is older than this is not asked for any more.
    fn start_at(&mut self, index: u64) {
        self.indexes = self.indexes.split_off(&index);
    }
}

/// Whether acks are lowered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// They are not.
    #[default]
    Off,
    /// The entry that says so is not committed yet; what waits for it does so until the deadline.
    Opening { index: u64, deadline_us: u64 },
    /// They are.
    Open,
}

impl Degrading {
    /// A write that is not older than those which the interval has counted in their turn is
    /// acknowledged in it: whether for the first time.
    fn note_own(&mut self, index: u64) -> bool {
        let stood_apart = self.apart.remove(index);
        self.degraded.is_bound |= stood_apart.is_none();
        stood_apart.unwrap_or(true)
    }

    /// A write from before the interval is acknowledged in it: whether for the first time.
    fn note_older(&mut self, index: u64) -> bool {
        if self.older.len() >= OLDER_WRITES_MAX && !self.older.contains(&index) {
            self.degraded.is_bound = true;
            return true;
        }
        self.older.insert(index)
    }
}

impl Group {
    /// A write's acks have not come in time. Until when it goes on waiting: for an interval of
    /// the degrade ledger to open; `None` if that does not help it.
    pub(super) fn degrade_at_deadline(&mut self, turn: &mut Turn<'_>, id: EntryId) -> Option<u64> {
        let below = turn.local.mutants.is(Mutant::DegradeBelowCommit);
        let acts = self.options.missing_acks == MissingAcks::Degrade
            && self.quorum.degraded() < self.quorum.acks;
        if !acts || !self.is_serving() || (id.index > self.commit && !below) {
            return None;
        }
        let (now_us, until_us) = (turn.now.monotonic_us, self.ack_deadline_us(turn));
        let Role::Leader(leader) = &self.role else { return None };
        match leader.degrading.stage {
            Stage::Off => {
                let note = Note::Opened { first: id };
                let index = match turn.local.mutants.is(Mutant::DegradeUnrecorded) {
                    true => 0,
                    false => self.append(turn, None, Payload::Degrade(note)).index,
                };
                if let Role::Leader(leader) = &mut self.role {
                    leader.degrading.stage = Stage::Opening { index, deadline_us: until_us };
                    leader.degrading.in_turn_from = 0;
                    leader.degrading.degraded = Degraded::default();
                    leader.degrading.older.clear();
                    leader.degrading.widened_to = 0;
                }
                Some(until_us)
            }
            Stage::Opening { deadline_us, .. } if now_us < deadline_us => Some(deadline_us),
            Stage::Opening { .. } | Stage::Open => None,
        }
    }

    /// While an interval is open: lets go what is committed, and closes it when the declared acks
    /// are there again. `copies` says up to where each replica durably has the log.
    pub(super) fn release_degraded(&mut self, turn: &mut Turn<'_>, copies: &[u64]) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        match leader.degrading.stage {
            Stage::Opening { index, .. } if index <= commit => leader.degrading.stage = Stage::Open,
            Stage::Open => {}
            Stage::Off | Stage::Opening { .. } => return,
        }
        let mut copies = copies.to_vec();
        let lowered = match turn.local.mutants.is(Mutant::DegradeBelowCommit) {
            true => reached_by(&mut copies, 1),
            false => commit,
        };
        while let Some(write) = self.pop_held_write(|write| write.id.index <= lowered) {
            let has = copies.iter().filter(|copy| **copy >= write.id.index).count();
            self.note_in_turn(write.id.index);
            self.note_degraded(turn, write.id, has as u64);
            self.acknowledge(turn, write, below(has));
        }
        self.release_degraded_retries(turn, lowered, &copies);
        let all = reached_by(&mut copies, self.quorum.acks);
        let in_time_us = self.options.ack_timeout_ms.saturating_mul(500);
        let Role::Leader(leader) = &mut self.role else { return };
        let Degrading { degraded, mark: (index, at_us), .. } = &leader.degrading;
        let is_quick = all >= *index && turn.now.monotonic_us.saturating_sub(*at_us) < in_time_us;
        if degraded.writes == 0 || all >= degraded.last.index || is_quick {
            let note = Note::Closed(*degraded);
            leader.degrading.stage = Stage::Off;
            self.append(turn, None, Payload::Degrade(note));
        }
    }

    /// The same for commands that were sent again: what they wait for was written before. Of this
    /// leader's own it is in the ledger already, unless its first answer was that the outcome is
    /// open, or it has waited for acks of its own. For what is from before the interval the ledger is
    /// widened first: whoever inherits the interval would else close it without that.
    fn release_degraded_retries(&mut self, turn: &mut Turn<'_>, lowered: u64, copies: &[u64]) {
        let (usual, epoch) = (self.need(), self.epoch);
        let Some(interval) = self.degraded.open().copied() else { return };
        let first = interval.degraded.first;
        let unrecorded = turn.local.mutants.is(Mutant::RetryDegradedUnrecorded);
        let Role::Leader(leader) = &mut self.role else { return };
        let (committed, mut waiting): (Vec<Special>, Vec<Special>) = leader
            .held
            .special
            .drain(..)
            .partition(|Special { write, need }| *need == usual && write.id.index <= lowered);
        let mut earliest = first;
        let mut enough = Vec::with_capacity(committed.len());
        for special in committed {
            earliest = earliest.min(special.write.id);
            match special.write.id >= first || unrecorded {
                true => enough.push(special.write),
                false => waiting.push(special),
            }
        }
        leader.held.special = waiting;
        let from = leader.degrading.in_turn_from;
        for write in enough {
            let has = copies.iter().filter(|copy| **copy >= write.id.index).count();
            let Role::Leader(leader) = &mut self.role else { return };
            let is_own = write.id.epoch == epoch && from > 0 && write.id.index >= from;
            let degrading = &mut leader.degrading;
            let is_new = match is_own {
                true => degrading.note_own(write.id.index),
                false => degrading.note_older(write.id.index),
            };
            if is_new && !unrecorded {
                self.note_degraded(turn, write.id, has as u64);
            }
            self.acknowledge(turn, write, below(has));
        }
        self.widen(turn, earliest, first);
    }

    /// Asks the ledger to let the interval begin with an earlier write, once.
    fn widen(&mut self, turn: &mut Turn<'_>, earliest: EntryId, first: EntryId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let asked = &mut leader.degrading.widened_to;
        if earliest < first && (*asked == 0 || earliest.index < *asked) {
            *asked = earliest.index;
            self.append(turn, None, Payload::Degrade(Note::Opened { first: earliest }));
        }
    }

    fn note_in_turn(&mut self, index: u64) {
        if let Role::Leader(leader) = &mut self.role
            && leader.degrading.in_turn_from == 0
        {
            leader.degrading.in_turn_from = index;
            leader.degrading.apart.start_at(index);
        }
    }

    fn note_degraded(&mut self, turn: &mut Turn<'_>, entry: EntryId, copies: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        let degraded = &mut leader.degrading.degraded;
        if degraded.writes == 0 {
            *degraded = Degraded { first: entry, fewest: copies, ..*degraded };
        }
        degraded.first = degraded.first.min(entry);
        degraded.last = degraded.last.max(entry);
        degraded.writes += 1;
        degraded.fewest = degraded.fewest.min(copies);
        let interval = self.degraded.open().map_or(EntryId::default(), |open| open.opened);
        turn.event(Event::AcknowledgedBelow { group: self.id, entry, copies, interval });
    }

    /// A write leaves the line in which writes are acknowledged, or never stands in it.
    pub(super) fn note_apart(&mut self, id: EntryId) {
        if let Role::Leader(leader) = &mut self.role
            && self.options.missing_acks == MissingAcks::Degrade
        {
            leader.degrading.apart.add(id.index);
        }
    }

    /// At a tick: remembers where the log ends now, to see how quickly the last replica follows.
    pub(in super::super) fn mark_for_degrade(&mut self, turn: &Turn<'_>) {
        let last = self.log.last_index();
        if let Role::Leader(leader) = &mut self.role {
            leader.degrading.mark = (last, turn.now.monotonic_us);
        }
    }

    /// A new leader has committed everything that it has inherited: an interval that another one
    /// left open ends before this leader's first entry. More is not known of it.
    pub(super) fn close_inherited(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if core::mem::replace(&mut leader.degrading.has_looked_back, true) {
            return;
        }
        let last_index = leader.first_index - 1;
        let Some(Interval { degraded: Degraded { first, .. }, .. }) = self.degraded.open().copied()
        else {
            return;
        };
        let epoch = self.epochs.reign_at(last_index).map_or(first.epoch, |reign| reign.epoch);
        let degraded = Degraded {
            first,
            last: EntryId { epoch, index: last_index },
            writes: (last_index + 1).saturating_sub(first.index).max(1),
            fewest: self.quorum.degraded() as u64,
            is_bound: true,
        };
        self.append(turn, None, Payload::Degrade(Note::Closed(degraded)));
    }

    /// A line of the ledger is committed.
    pub(in super::super) fn on_degrade_committed(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Entry<'_>,
        note: Note,
    ) {
        self.degraded.take(entry.id, entry.stamp, note);
        if !self.leads() {
            return;
        }
        let group = self.id;
        match note {
            Note::Opened { first } => turn.event(Event::DegradeOpened { group, first }),
            Note::Closed(Degraded { last, writes, .. }) => {
                turn.event(Event::DegradeClosed { group, last, writes });
            }
        }
    }

    /// TF.DEGRADED LIST: this group's part, once a round has confirmed this leader.
    pub fn hold_degraded(&mut self, turn: &mut Turn<'_>, requester: Requester, prefix: &[u8]) {
        self.hold_answer(turn, requester, 0, Answer::Degraded(prefix.to_vec()));
    }

    /// The interval that is open, with what this node knows of its writes: exact at the leader.
    pub fn open_interval(&self) -> Option<Interval> {
        let open = *self.degraded.open()?;
        match &self.role {
            Role::Leader(leader) if leader.degrading.degraded.writes > 0 => {
                Some(Interval { degraded: leader.degrading.degraded, ..open })
            }
            _ => Some(open),
        }
    }

    /// The ledger as a reply: one array of names and values for each interval.
    pub(super) fn degraded_reply(&self, prefix: &[u8]) -> Reply<'static> {
        let closed = self.degraded.intervals().filter(|interval| interval.closed_ms.is_some());
        let all = closed.copied().chain(self.open_interval());
        Reply::Array(all.map(|interval| row(self.id, prefix, &interval)).collect())
    }
}

/// What a writer gets whose acks are lowered.
fn below(copies: usize) -> Need {
    Need { copies, level: AckLevel::Durable, is_firm: false }
}

/// One interval: names and values, as in a map.
fn row(group: GroupId, prefix: &[u8], interval: &Interval) -> Reply<'static> {
    let degraded = &interval.degraded;
    let is_open = interval.closed_ms.is_none();
    let place = |id: EntryId| match id.index {
        0 => Reply::Nil,
        index => text(format!("{}-{index}", id.epoch)),
    };
    let number = |number: u64| Reply::Integer(number as i64);
    let exact = match (is_open, degraded.is_bound) {
        (true, _) => "so far",
        (false, true) => "upper bound",
        (false, false) => "exact",
    };
    let fields: [(&'static str, Reply<'static>); 9] = [
        ("keyspace", Reply::Bulk(Cow::Owned(prefix.to_vec()))),
        ("partition", Reply::Integer(i64::from(group.partition))),
        ("opened-ms", number(interval.opened_ms)),
        ("first", place(degraded.first)),
        ("closed-ms", interval.closed_ms.map_or(Reply::Nil, number)),
        ("last", place(degraded.last)),
        ("writes", number(degraded.writes)),
        ("fewest-copies", number(degraded.fewest)),
        ("counted", text(String::from(exact))),
    ];
    let mut row: Vec<Reply<'static>> = vec![];
    for (name, value) in fields {
        row.push(text(String::from(name)));
        row.push(value);
    }
    Reply::Array(row)
}

fn text(text: String) -> Reply<'static> {
    Reply::Bulk(Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_apart_is_counted_once_and_only_so_many_are_remembered() {
        let mut degrading = Degrading::default();
        degrading.apart.add(7);
        assert!(!degrading.note_own(6), "acknowledged in its turn, it is counted already");
        assert!(degrading.note_own(7));
        assert!(!degrading.note_own(7), "it is counted now");
        assert!(!degrading.degraded.is_bound);
        for index in 10..10_000 {
            degrading.apart.add(index);
        }
        assert_eq!(degrading.apart.indexes.len(), APART_MAX);
        assert!(degrading.note_own(9_999) && !degrading.degraded.is_bound);
        assert!(degrading.note_own(10) && degrading.degraded.is_bound, "nobody knows any more");
        degrading.apart.start_at(9_990);
        assert_eq!(degrading.apart.indexes.len(), 9);
    }
}
