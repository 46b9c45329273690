//! The lost-write report: what a failover has cost, by key, client and time.
//!
//! A follower cuts from its log what a newer leader's log does not have. Where A < C (`async`, or
//! an `available` election) some of that was acknowledged. So every entry of a client is put aside
//! when it is cut, with all that can be told of it then: who asked, what it wrote, what it wrote
//! over, and what its client was told.
//!
//! - *Who reports.* The node that led the entry's epoch, for it knows what it acknowledged
//!   (`acknowledged.rs`); and it has every entry that it acknowledged, because where A < C its own
//!   durable copy must be among the A. A follower keeps the entries of others as a *witness*: they
//!   become a report (`maybe`) only when that leader can never tell, because another disk of it is
//!   a voter now, or when nobody can rely on it, because a leadership began under a possible loss
//!   since: that leader's machine may have lost its power, and with it the entries that it wrote.
//! - *When.* What was cut may come back with a leader that still has it. It is lost when the
//!   committed log has another entry in its place, or has gone on in a newer epoch before it: the
//!   log then holds it nowhere. After a snapshot the same question answers what of the old tail
//!   has survived in it.
//! - *For how long.* Until an operator says FORGET, or REPLAY has brought it back (`replay.rs`);
//!   in every checkpoint; up to a bound, over which the oldest are given up, with an
//!   alarm, and counted. What was forgotten does not come back (`forgotten.rs`).
//!
//! While the old leader has not come back, its successors say what they know: see `unheard.rs`.
//!
//! A follower that knew more to be committed than a leader under a possible loss has keeps that
//! aside, too (`parting.rs`).
//!
//! Left out: writes of an `interval-1s` keyspace that every machine had lost with its power. What
//! no disk has, nobody can tell; the leadership that follows says that there may be such a loss.

pub mod acknowledged;
mod before;
mod forgotten;
pub mod parting;
pub mod replay;
pub mod report;
mod torn;
mod unheard;

use super::entry::{Entry, Once};
use super::log_record;
use super::{Group, Role};
use crate::keyspace::{AckLevel, Durability};
use crate::mutant::Mutant;
use crate::turn::Turn;
use crate::version::EntryId;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{Event, Incarnation, NodeId, Position};
use acknowledged::{Acknowledged, Range};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use before::Before;
use report::{LostWrite, Status, What};
pub(super) use unheard::Hearing;
pub use unheard::{Unheard, Why};

/// Bytes of cut entries that a group keeps aside; the oldest go first, with an alarm.
pub const KEPT_BYTES_MAX: usize = 64 << 20;

/// What is kept of writes that were cut, and what is needed to tell of them.
#[derive(Default)]
pub struct LostWrites {
    kept: BTreeMap<EntryId, LostWrite>,
    /// Those whose fate is not known yet.
    open: BTreeSet<EntryId>,
    /// Those that were forgotten or replayed: see `forgotten.rs`.
    forgotten: BTreeSet<EntryId>,
    bytes: usize,
    /// Reports that were given up, and that no operator has forgotten.
    given_up: u64,
    pub(super) acknowledged: Acknowledged,
    /// How far the log of the leader that was heard last is known to reach.
    heard: EntryId,
    /// Epochs of which this disk may lack the end: see `torn.rs`.
    torn: BTreeSet<u64>,
}

/// How many reports there are, by what clients were told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Lost although they were acknowledged.
    pub acknowledged: u64,
    /// Lost, and no client was told otherwise.
    pub not_acknowledged: u64,
    /// Lost, and nobody knows what the client was told: see [`Status::Maybe`].
    pub maybe: u64,
    /// Lost, and the reports were given up, as there were too many bytes of them.
    pub given_up: u64,
}

/// What has become of an entry that was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// No log has it any more.
    Lost,
    /// It is in the committed log after all, or there were too many.
    Gone,
    /// A new entry does what it did.
    Replayed(EntryId),
    /// An operator has forgotten it.
    Forgotten,
}

impl Counts {
    fn add(&mut self, status: Status) {
        match status {
            Status::Acknowledged { .. } => self.acknowledged += 1,
            Status::NotAcknowledged => self.not_acknowledged += 1,
            Status::Maybe => self.maybe += 1,
        }
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.acknowledged + self.not_acknowledged + self.maybe + self.given_up
    }
}

impl LostWrites {
    fn insert(&mut self, mut write: LostWrite) {
        if let Some(before) = self.remove(write.id)
            && write.status == Status::Maybe
        {
            // It was cut before, came back, and was cut again: what was known once stays known.
            write.status = before.status;
        }
        if !write.is_lost {
            self.open.insert(write.id);
        }
        self.bytes += write.bytes();
        self.kept.insert(write.id, write);
    }

    /// Bytes of what is kept: counted anew, and as they are counted; for observers.
    pub(super) fn recount(&self) -> (u64, u64) {
        let bytes = self.kept.values().map(|write| write.bytes() as u64);
        (bytes.sum(), self.bytes as u64)
    }

    fn remove(&mut self, id: EntryId) -> Option<LostWrite> {
        let write = self.kept.remove(&id)?;
        self.open.remove(&id);
        self.bytes = self.bytes.saturating_sub(write.bytes());
        Some(write)
    }

    fn apply(&mut self, id: EntryId, fate: Fate) {
        match fate {
            Fate::Lost => {
                self.open.remove(&id);
                if let Some(write) = self.kept.get_mut(&id) {
                    write.is_lost = true;
                }
            }
            Fate::Gone => drop(self.remove(id)),
            Fate::Forgotten => self.note_forgotten(id),
            Fate::Replayed(now) => {
                self.note_forgotten(id);
                // What was written over the lost write may be replayed after it: it is there again,
                // under another name.
                for write in self.kept.values_mut() {
                    let What::Changes(changes) = &mut write.what else { continue };
                    for old in changes.iter_mut().filter_map(|change| change.old.as_mut()) {
                        if (old.dot.actor, old.dot.counter) == (id.epoch, id.index) {
                            (old.dot.actor, old.dot.counter) = (now.epoch, now.index);
                        }
                    }
                }
            }
        }
    }

    /// Takes an entry that was put aside from the node's log.
    pub(super) fn replay_kept(&mut self, bytes: &[u8]) -> Read<()> {
        let mut r = Reader(bytes);
        self.insert(LostWrite::decode(&mut r)?);
        r.finish()
    }

    /// Takes from the node's log how many reports were given up.
    pub(super) fn replay_given_up(&mut self, count: u64) {
        self.given_up = count;
    }

    /// Takes a fate from the node's log.
    pub(super) fn replay_fate(&mut self, id: EntryId, fate: Fate) {
        self.apply(id, fate);
    }
}

impl Group {
    /// The log is about to be cut after an index: what clients wrote above it is put aside. Called
    /// while the state holds what is committed and nothing else.
    pub(super) fn put_aside(&mut self, turn: &mut Turn<'_>, last_kept: u64) {
        let nothing = last_kept >= self.log.last_index();
        if nothing || turn.local.mutants.is(Mutant::ReportForgotten) {
            return;
        }
        let mut before = Before::new(&self.state);
        let mut cut = Vec::new();
        for index in self.commit + 1..=self.log.last_index() {
            let Some(body) = self.log.get(index) else { continue };
            let Ok(entry) = Entry::decode(body) else { continue };
            if index > last_kept
                && let Some(what) = before.what(&entry)
            {
                cut.extend(self.lost_write(turn, &entry, what));
            }
            before.take(&entry);
        }
        for write in cut {
            self.log_kept(turn, &write);
            self.lost_writes.insert(write);
        }
        self.bound_kept(turn);
    }

    /// Entries from an index on that were known to be committed are lost after all: what a leader
    /// under a possible loss lacks. What they wrote over is not known any more, nor, in general,
    /// what their clients were told, also where this node led.
    pub(super) fn put_aside_committed(
        &mut self,
        turn: &mut Turn<'_>,
        first: u64,
        is_cut: impl Fn(EntryId) -> bool,
    ) {
        let mut cut = Vec::new();
        for index in first..=self.commit {
            let Some(body) = self.log.get(index) else { continue };
            let Ok(entry) = Entry::decode(body) else { continue };
            if is_cut(entry.id)
                && let Some(what) = before::without(&entry)
                && let Some(write) = self.lost_write(turn, &entry, what)
            {
                // What clients were told of committed entries is not kept, so that the absence of
                // an acknowledgement says nothing.
                let status = match write.status {
                    Status::NotAcknowledged => Status::Maybe,
                    known => known,
                };
                cut.push(LostWrite { status, ..write });
            }
        }
        for write in cut {
            self.log_kept(turn, &write);
            self.lost_writes.insert(write);
        }
        self.bound_kept(turn);
    }

    /// `None` if it is no client's.
    fn lost_write(&self, turn: &Turn<'_>, entry: &Entry<'_>, what: What) -> Option<LostWrite> {
        let (id, asker) = (entry.id, entry.asker?.into_owned());
        if self.has_forgotten(id) {
            return None;
        }
        let once = entry.once.as_deref().map(Once::without_forgotten);
        let reign = self.epochs.reign_of(id.epoch);
        let leader = reign.map(|reign| (reign.leader, reign.incarnation));
        let is_own = leader == Some((turn.local.me, turn.local.incarnation));
        let status = match is_own {
            true => self.lost_writes.acknowledged.status(id),
            false => Status::Maybe,
        };
        let cut_at_ms = turn.now.wall_ms;
        let is_lost = false;
        Some(LostWrite { id, asker, leader, is_own, status, once, what, cut_at_ms, is_lost })
    }

    fn log_kept(&mut self, turn: &mut Turn<'_>, write: &LostWrite) {
        let mut bytes = Vec::new();
        write.encode(&mut Writer(&mut bytes));
        let record = log_record::Body::CutEntry(Cow::Owned(bytes));
        self.log_record(turn, record, self.options.durability);
    }

    fn log_fate(
        &mut self,
        turn: &mut Turn<'_>,
        id: EntryId,
        fate: Fate,
        durability: Durability,
    ) -> Position {
        self.log_record(turn, log_record::Body::CutFate { id, fate }, durability)
    }

    /// The oldest go where there are too many; what only a witness keeps goes first.
    fn bound_kept(&mut self, turn: &mut Turn<'_>) {
        if self.lost_writes.bytes <= KEPT_BYTES_MAX {
            return;
        }
        let mut forgotten = 0u64;
        for only_witnessed in [true, false] {
            let ids: Vec<EntryId> = self.lost_writes.kept.keys().copied().collect();
            for id in ids {
                if self.lost_writes.bytes <= KEPT_BYTES_MAX {
                    break;
                }
                let Some(write) = self.lost_writes.kept.get(&id) else { continue };
                if only_witnessed && (write.is_own || self.is_reported(write)) {
                    continue;
                }
                forgotten += u64::from(!only_witnessed);
                self.log_fate(turn, id, Fate::Gone, self.options.durability);
                self.lost_writes.remove(id);
            }
        }
        if forgotten > 0 {
            self.lost_writes.given_up += forgotten;
            self.log_given_up(turn);
            let text = alloc::format!(
                "the {forgotten} oldest lost writes are forgotten: more than {KEPT_BYTES_MAX} \
                 bytes of them wait for TF.LOST FORGET or REPLAY"
            );
            turn.event(Event::Alarm(Cow::Owned(text)));
        }
    }

    /// The commit index has risen: what was cut below it is lost, or has survived.
    pub(super) fn decide_lost(&mut self, turn: &mut Turn<'_>) {
        let mut told = Counts::default();
        if !self.lost_writes.open.is_empty() {
            let open: Vec<EntryId> = self.lost_writes.open.iter().copied().collect();
            for id in open {
                let Some(fate) = self.fate_of(id) else { continue };
                self.log_fate(turn, id, fate, self.options.durability);
                self.lost_writes.apply(id, fate);
                let write = self.lost_writes.kept.get(&id);
                if let Some(write) = write.filter(|write| self.is_reported(write)) {
                    told.add(write.status);
                }
            }
        }
        self.lost_writes.acknowledged.forget_up_to(self.commit);
        self.tell_lost(turn, told);
    }

    fn tell_lost(&self, turn: &mut Turn<'_>, counts: Counts) {
        if counts.all() > 0 {
            turn.event(Event::LostWrites { group: self.id, counts });
        }
    }

    /// What has become of an entry that was cut, as far as the committed log says. A log's epochs
    /// only rise: one that has passed the entry's epoch before the entry's place does not have it.
    fn fate_of(&self, id: EntryId) -> Option<Fate> {
        if id.index > self.commit {
            let newest = self.epochs.reign_at(self.commit)?;
            return (newest.epoch > id.epoch).then_some(Fate::Lost);
        }
        match self.epochs.reign_at(id.index) {
            Some(reign) if reign.epoch == id.epoch => Some(Fate::Gone),
            Some(_) => Some(Fate::Lost),
            // Forgotten after thousands of elections: nothing is reported that may have survived.
            None => Some(Fate::Gone),
        }
    }

    /// Whether a write that was cut is this node's to report: it led the epoch, or whoever did can
    /// never tell, or may not: after a possible loss, that one may have lost the write, too.
    fn is_reported(&self, write: &LostWrite) -> bool {
        let may_tell = |(node, disk)| self.voters.counts(node, disk);
        let is_ours = write.is_own || self.history() > write.id.epoch;
        write.is_lost && (is_ours || !write.leader.is_some_and(may_tell))
    }

    /// The writes that this node reports as lost, in the order of epochs and indexes.
    pub fn reported(&self) -> impl Iterator<Item = &LostWrite> {
        self.lost_writes.kept.values().filter(|write| self.is_reported(write))
    }

    /// How many writes this node reports as lost.
    pub fn reported_counts(&self) -> Counts {
        let mut counts = Counts { given_up: self.lost_writes.given_up, ..Counts::default() };
        self.reported().for_each(|write| counts.add(write.status));
        counts
    }

    /// Another disk of a member counts from now on: what only the old one could tell is reported
    /// by the witnesses. Called before.
    pub(super) fn tell_for_replaced(
        &self,
        turn: &mut Turn<'_>,
        node: NodeId,
        incarnation: Incarnation,
    ) {
        let mut told = Counts::default();
        for write in self.lost_writes.kept.values().filter(|write| write.is_lost) {
            let was_told = self.is_reported(write);
            if !was_told && write.leader.is_some_and(|(n, disk)| n == node && disk != incarnation) {
                told.add(write.status);
            }
        }
        self.tell_lost(turn, told);
    }

    /// A writer is told OK. Only where the entry is not committed there is something to remember.
    pub(super) fn note_acknowledged(&mut self, turn: &Turn<'_>, id: EntryId, level: AckLevel) {
        if let Role::Leader(leader) = &mut self.role {
            leader.sight.told(id.index);
        }
        if id.index > self.commit {
            self.lost_writes.acknowledged.note(id, turn.now.wall_ms, level);
        }
    }

    /// Writes down what was acknowledged since the last time: rides with the next record.
    pub(super) fn log_acknowledged(&mut self, turn: &mut Turn<'_>) {
        while let Some(mut range) = self.lost_writes.acknowledged.next_to_log() {
            if turn.local.mutants.is(Mutant::WatermarkTooHigh) {
                range.last = self.log.last_index() + 1;
            }
            let record = log_record::Body::Acknowledged(range);
            self.log_record(turn, record, self.options.durability);
        }
    }

    /// The process stops as it was asked to: whom it has told OK is written down, and that it has
    /// told nobody else. Where nothing is left that could be cut, nobody will ask. Up to where the
    /// log is committed is written down before: an acknowledgement that came with the commit is
    /// remembered by that alone, and under a possible loss such an entry may be cut, too.
    pub fn on_stop(&mut self, turn: &mut Turn<'_>) {
        self.record_entries(turn);
        self.record_commit_now(turn);
        if self.log.last_index() > self.commit {
            let after = self.lost_writes.acknowledged.known_from_log();
            let record = log_record::Body::AcknowledgedAll { after, epoch: self.epoch };
            self.log_record(turn, record, self.options.durability);
        }
    }

    /// Writes down in a checkpoint what is kept of cut entries.
    pub(super) fn checkpoint_lost(&mut self, turn: &mut Turn<'_>) {
        let kept = core::mem::take(&mut self.lost_writes.kept);
        kept.values().for_each(|write| self.log_kept(turn, write));
        self.lost_writes.kept = kept;
        self.checkpoint_forgotten(turn);
        self.checkpoint_torn(turn);
        if self.lost_writes.given_up > 0 {
            self.log_given_up(turn);
        }
        let ranges: Vec<Range> = self.lost_writes.acknowledged.ranges().copied().collect();
        for range in ranges {
            self.log_record(turn, log_record::Body::Acknowledged(range), Durability::Fsync);
        }
    }

    fn log_given_up(&mut self, turn: &mut Turn<'_>) -> Position {
        let record = log_record::Body::GivenUp(self.lost_writes.given_up);
        self.log_record(turn, record, Durability::Fsync)
    }

    /// An operator knows of the reports that were given up here. Returns from when on that is
    /// durable; `None` if there are none.
    pub fn forget_given_up(&mut self, turn: &mut Turn<'_>) -> Option<Position> {
        if core::mem::take(&mut self.lost_writes.given_up) == 0 {
            return None;
        }
        Some(self.log_given_up(turn))
    }
}

impl Fate {
    /// Writes the fate of an entry.
    pub fn encode(self, id: EntryId, w: &mut Writer<'_>) {
        w.entry_id(id);
        match self {
            Fate::Lost => w.u8(0),
            Fate::Gone => w.u8(1),
            Fate::Replayed(id) => {
                w.u8(2);
                w.entry_id(id);
            }
            Fate::Forgotten => w.u8(3),
        }
    }

    /// Reads what [`Fate::encode`] has written after the entry.
    pub fn decode(r: &mut Reader<'_>) -> Read<Fate> {
        match r.u8()? {
            0 => Ok(Fate::Lost),
            1 => Ok(Fate::Gone),
            2 => Ok(Fate::Replayed(r.entry_id()?)),
            3 => Ok(Fate::Forgotten),
            _ => Err(Malformed),
        }
    }
}
