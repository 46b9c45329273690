//! The exchange between datacenters: a leader pulls what another one has committed.
//!
//! One question at a time for each (source, target): the puller says up to where it has taken the
//! source's log, and what its own committed state covers; the source answers with the entries in
//! between that are not covered, and goes on answering, in parts, as more is committed. Each part
//! says where the one before ended: the puller takes none after a gap. It says now and then how
//! much it has taken, and the source sends no more than [`WINDOW_BYTES`] beyond that. A source that
//! is silent is asked again, and then answers at once, even with nothing: so the puller learns
//! whether it lacks something that the source's log cannot give.
//!
//! A source answers at once when it has writes of its own datacenter. What it has from a third one
//! is most likely on its way to the puller, too: it goes along with the next answer, or when the
//! puller asks again and still lacks it. Else each write would travel between all datacenters,
//! also back to where it was made.

use super::catch_up::Transfer;
use super::leader;
use super::message::{Pull, Wants};
use crate::NodeId;
use crate::storage::record::Record;
use crate::version::{Dot, Stamp, VersionVector};
use crate::wire::{Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Bytes of updates that a source sends beyond what the puller says it has taken.
pub const WINDOW_BYTES: u64 = 4 << 20;

/// Bytes of answers on their way to one node, over all of its questions. Where there are as many,
/// a question has one part of [`PART_BYTES`] at a time: so none waits for the others.
pub const NODE_WINDOW_BYTES: u64 = 8 << 20;

/// Bytes of updates or records in an answer to a node that has much on its way.
pub const PART_BYTES: usize = 16 << 10;

/// After so many bytes of updates a puller says how much it has taken; and after a heartbeat
/// interval, if that is new.
const PROGRESS_BYTES: u64 = WINDOW_BYTES / 4;

/// Heartbeat intervals of silence after which a question is asked again.
pub const REPEAT_HEARTBEATS: u64 = 5;

/// Heartbeat intervals that a stream rests after an update that could not be taken yet.
pub const REST_HEARTBEATS: u64 = 1;

/// Heartbeat intervals for which a stream waits for what other streams must bring; then it asks
/// for the source's state instead.
pub const PATIENCE_HEARTBEATS: u64 = 50;

/// How many times the bytes of one answer a source reads through for it.
const SCANNED_ANSWERS_MAX: usize = 4;

/// Pages that a source makes for a puller in one turn: each is a walk over many records.
pub const PAGES_PER_TURN_MAX: usize = 4;

/// Entries that a source passes over before it tells a puller that waits how far it has got.
const PASSED_ENTRIES_MAX: u64 = 1024;

/// One committed entry on its way to another datacenter.
#[derive(Clone, PartialEq, Debug)]
pub struct Update<'a> {
    /// Its place in the source's log.
    pub index: u64,
    /// Its name: who made it, and which of his it was.
    pub dot: Dot,
    /// When it was made; no stamp in its changes is newer.
    pub stamp: Stamp,
    /// Everything of others that its maker had seen; of his own he had seen everything.
    pub dependencies: VersionVector,
    /// What it changes, as the logs of all groups have it.
    pub changes: Cow<'a, [u8]>,
}

impl<'a> Update<'a> {
    /// Writes the update.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u64(self.index);
        w.dot(self.dot);
        w.u64(self.stamp.0);
        w.vector(&self.dependencies);
        w.bytes(&self.changes);
    }

    /// Reads an update.
    pub fn decode(r: &mut Reader<'a>) -> Read<Update<'a>> {
        let (index, dot, stamp) = (r.u64()?, r.dot()?, Stamp(r.u64()?));
        let (dependencies, changes) = (r.vector()?, Cow::Borrowed(r.bytes()?));
        Ok(Update { index, dot, stamp, dependencies, changes })
    }
}

/// What becomes of an update that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the next of its actor, and everything that it depends on is here.
    Take,
    /// It is here already.
    Known,
    /// Something that it depends on is not here yet.
    Early,
    /// It is from too far ahead of this node's clock.
    Ahead,
}

/// What becomes of an update, given what the receiver's whole log covers.
pub fn judge(update: &Update<'_>, covered: &VersionVector, wall_ms: u64) -> Verdict {
    let next = covered.get(update.dot.actor).saturating_add(1);
    if update.dot.counter < next {
        Verdict::Known
    } else if update.dot.counter > next || !covered.covers_all(&update.dependencies) {
        Verdict::Early
    } else if leader::is_ahead(update.stamp, wall_ms) {
        Verdict::Ahead
    } else {
        Verdict::Take
    }
}

/// Only for a planted bug: a change that is known is added once more, as a receiver would do to
/// whom updates are additions and not records.
pub fn added_again(kept: &Record<'_>, incoming: &Record<'_>, actor: u64) -> Record<'static> {
    let mut record = kept.clone().into_owned();
    let again = incoming.increments.iter().find(|slot| slot.actor == actor);
    let slot = record.increments.to_mut().iter_mut().find(|slot| slot.actor == actor);
    if let (Some(slot), Some(again)) = (slot, again) {
        slot.count = slot.count.saturating_add(1);
        slot.integer = slot.integer.saturating_add(again.integer);
        slot.float += again.float;
    }
    record
}

/// What one leader pulls from another datacenter's group, in one leadership.
#[derive(Debug, Default)]
pub struct Stream {
    /// The leadership of the group that pulls.
    pub epoch: u64,
    /// Everything up to this index of the source's log is taken.
    cursor: u64,
    /// The question's number.
    number: u64,
    /// Who was asked, and when he was heard last; he was asked then if he was not heard at all.
    asked: Option<(NodeId, u64)>,
    /// Bytes of the question's answer that are taken.
    taken_bytes: u64,
    /// What of it the source was told, and when.
    told_bytes: u64,
    told_us: u64,
    rest_until_us: u64,
    /// Since when something is missing that this stream does not bring.
    lacks_since_us: Option<u64>,
    wants_state: bool,
    /// The state transfer that is going on.
    transfer: Option<Transfer>,
    /// Whether it has been told that updates are held because of their stamps.
    alarmed: bool,
}

/// What a stream says to its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// A new question.
    Question,
    /// A new question in place of one that was not answered any more.
    Again,
    /// How much of the answer is taken.
    Progress,
}

/// What becomes of a part of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It goes on where the stream is.
    Next,
    /// It is of another question, or was taken before.
    Old,
    /// What comes before it is missing.
    BehindGap,
}

/// How far an answer could be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Everything up to this index of the source's log is taken.
    pub cursor: u64,
    /// Whether any update was new.
    pub any: bool,
    /// Whether the answer was taken to its end.
    pub all: bool,
    /// Whether something is missing that this stream has not brought.
    pub lacks: bool,
}

impl Stream {
    /// A stream of a leadership that has just begun.
    pub fn new(epoch: u64) -> Stream {
        Stream { epoch, ..Stream::default() }
    }

    /// What is to be said to the source's leader now, if anything.
    pub fn due(&self, now_us: u64, leader: NodeId, heartbeat_us: u64) -> Option<Due> {
        let Some((_, heard_us)) = self.asked.filter(|(node, _)| *node == leader) else {
            return (now_us >= self.rest_until_us).then_some(Due::Question);
        };
        if now_us.saturating_sub(heard_us) >= REPEAT_HEARTBEATS * heartbeat_us {
            return Some(Due::Again);
        }
        let untold = self.taken_bytes - self.told_bytes;
        let is_page = self.transfer.is_some();
        let is_late = now_us.saturating_sub(self.told_us) >= heartbeat_us || is_page;
        (untold >= PROGRESS_BYTES || (untold > 0 && is_late)).then_some(Due::Progress)
    }

    /// It is said; `number` is that of a new question. Which question it is, how many bytes of its
    /// answer are taken, and what it asks for.
    pub fn say(
        &mut self,
        (now_us, leader, first_slot): (u64, NodeId, u16),
        due: Due,
        number: u64,
    ) -> (u64, u64, Wants) {
        if due != Due::Progress {
            (self.number, self.taken_bytes) = (number, 0);
            self.asked = Some((leader, now_us));
        }
        (self.told_bytes, self.told_us) = (self.taken_bytes, now_us);
        let wants = match &self.transfer {
            Some(transfer) => Wants::Slots(transfer.next_slot()),
            None if self.wants_state => Wants::Slots(first_slot),
            None => Wants::After(self.cursor),
        };
        (self.number, self.taken_bytes, wants)
    }

    /// The connection to a node broke: a question to it is asked again.
    pub fn on_peer_lost(&mut self, node: NodeId) {
        self.asked = self.asked.filter(|(asked, _)| *asked != node);
    }

    /// Whether this answers the question that the stream has asked.
    pub fn expects(&self, from: NodeId, number: u64) -> bool {
        self.number == number && self.asked.is_some_and(|(node, _)| node == from)
    }

    /// What becomes of a part of an answer that begins after an index of the source's log.
    pub fn place(&self, from: NodeId, number: u64, after: u64) -> Place {
        match after.cmp(&self.cursor) {
            _ if !self.expects(from, number) => Place::Old,
            Ordering::Less => Place::Old,
            Ordering::Equal => Place::Next,
            Ordering::Greater => Place::BehindGap,
        }
    }

    /// A part of an answer, of so many bytes, is taken, as far as it could be.
    pub fn took(&mut self, now_us: u64, taken: Taken, bytes: usize, heartbeat_us: u64) {
        self.asked = self.asked.map(|(node, _)| (node, now_us));
        self.taken_bytes += bytes as u64;
        self.cursor = taken.cursor;
        self.transfer = None;
        self.wants_state = false;
        if taken.any {
            self.alarmed = false;
        }
        if !taken.all {
            self.rest(now_us, heartbeat_us);
        }
        if taken.any || !taken.lacks {
            self.lacks_since_us = None;
        }
        if taken.lacks {
            let since_us = *self.lacks_since_us.get_or_insert(now_us);
            let patience_us = PATIENCE_HEARTBEATS * heartbeat_us;
            self.wants_state = now_us.saturating_sub(since_us) >= patience_us;
        }
        if self.wants_state {
            self.close();
        }
    }

    /// The state transfer that is going on; `None` if there is none.
    pub fn transfer(&self) -> Option<&Transfer> {
        self.transfer.as_ref()
    }

    /// What becomes of a page that begins with a slot, of a partition with this first slot.
    pub fn place_of_page(&self, from: NodeId, number: u64, slot: u16, first_slot: u16) -> Place {
        let expected = self.transfer.as_ref().map_or(first_slot, Transfer::next_slot);
        match slot.cmp(&expected) {
            _ if !self.expects(from, number) => Place::Old,
            Ordering::Less => Place::Old,
            Ordering::Equal => Place::Next,
            Ordering::Greater => Place::BehindGap,
        }
    }

    /// A piece of the source's state, of so many bytes, is taken: the transfer goes on, or was
    /// complete with it. Then the answer goes on where the log does.
    pub fn took_page(&mut self, now_us: u64, transfer: Transfer, bytes: usize) {
        self.asked = self.asked.map(|(node, _)| (node, now_us));
        self.taken_bytes += bytes as u64;
        self.alarmed = false;
        self.wants_state = false;
        self.lacks_since_us = None;
        if transfer.is_complete() {
            self.cursor = transfer.cursor();
            self.transfer = None;
        } else {
            self.transfer = Some(transfer);
        }
    }

    /// Not all of an answer could be taken: it is asked for again after a rest.
    pub fn rest(&mut self, now_us: u64, heartbeat_us: u64) {
        self.close();
        self.rest_until_us = now_us + REST_HEARTBEATS * heartbeat_us;
    }

    /// What else comes to the question is no answer any more.
    pub fn close(&mut self) {
        self.asked = None;
    }

    /// Updates are held because of their stamps; whether that is to be told, once.
    pub fn alarm(&mut self) -> bool {
        !core::mem::replace(&mut self.alarmed, true)
    }
}

/// A question at its source, which answers as it has something.
#[derive(Debug)]
pub struct Waiting {
    /// Who asked.
    pub node: NodeId,
    /// What he asked, or said of it last.
    pub pull: Pull,
    /// Up to where his answer goes so far.
    pub told: u64,
    /// Up to where there is nothing else for him; not less than `told`.
    pub passed: u64,
    /// Up to where there is nothing that only this source has; not less than `passed`.
    pub looked_at: u64,
    /// Whether there was more than the newest part could take.
    pub more: bool,
    /// The slot that the next page begins with, where he is sent the state.
    pub next_slot: Option<u16>,
    /// He was sent the state, and needs the log after this index to go on from there.
    pub needs_log_after: Option<u64>,
    sent_bytes: u64,
}

impl Waiting {
    /// A question that has just come; `before` is the one before, of the same node.
    pub fn new(node: NodeId, pull: Pull, before: Option<&Waiting>) -> Waiting {
        let (told, sent_bytes) = (pull.cursor(), pull.taken_bytes);
        let next_slot = match pull.wants {
            Wants::After(_) => None,
            Wants::Slots(slot) => Some(slot),
        };
        // A transfer that goes on after a rest goes on with the log from where it began.
        let needs_log_after = before.and_then(|before| before.needs_log_after);
        let needs_log_after = needs_log_after.map(|floor| next_slot.map_or(told, |_| floor));
        let (passed, looked_at, more) = (told, told, next_slot.is_some());
        Waiting {
            node,
            pull,
            told,
            passed,
            looked_at,
            more,
            next_slot,
            needs_log_after,
            sent_bytes,
        }
    }

    /// The puller says how much of the answer it has taken, and what it covers now.
    pub fn on_progress(&mut self, mut pull: Pull) {
        pull.taken_bytes = pull.taken_bytes.max(self.pull.taken_bytes);
        pull.covered.merge(&self.pull.covered);
        self.pull = pull;
    }

    /// Bytes of the answer that are on their way.
    pub fn on_way(&self) -> u64 {
        self.sent_bytes.saturating_sub(self.pull.taken_bytes)
    }

    /// Whether another part may be sent to a node that has so many bytes on their way to it, this
    /// answer's included.
    pub fn has_room(&self, node_bytes: u64) -> bool {
        let on_way = self.on_way();
        on_way == 0 || (on_way < WINDOW_BYTES && node_bytes < NODE_WINDOW_BYTES)
    }

    /// A part is sent that goes up to an index; whether the log has more.
    pub fn sent(&mut self, to: u64, bytes: usize, more: bool) {
        (self.told, self.passed, self.more) = (to, to, more);
        self.sent_bytes += bytes as u64;
        self.needs_log_after = self.needs_log_after.filter(|_| more).map(|_| to);
    }

    /// A page is sent, of the state at a commit index or later; `next_slot` begins the next one.
    /// After the last one the answer goes on with what was committed since the first.
    pub fn sent_page(&mut self, commit: u64, next_slot: Option<u16>, bytes: usize) {
        let floor = *self.needs_log_after.get_or_insert(commit);
        (self.told, self.passed, self.looked_at) = (floor, floor, floor);
        (self.next_slot, self.more) = (next_slot, true);
        self.sent_bytes += bytes as u64;
    }

    /// Whether so much was passed over that the puller should know.
    pub fn is_far(&self) -> bool {
        self.passed.saturating_sub(self.told) >= PASSED_ENTRIES_MAX
    }
}

/// The updates of one answer, gathered by its source.
#[derive(Debug)]
pub struct Batch<'a> {
    covered: &'a VersionVector,
    bytes_max: usize,
    scanned: usize,
    /// The updates' bytes.
    pub updates: Vec<u8>,
    /// Up to this index everything is in, or covered.
    pub to: u64,
}

impl<'a> Batch<'a> {
    /// An empty batch for somebody who has taken everything up to `cursor`, and who covers
    /// `covered`. The buffer is one that was used before, or a new one.
    pub fn new(
        cursor: u64,
        covered: &'a VersionVector,
        bytes_max: usize,
        mut buffer: Vec<u8>,
    ) -> Batch<'a> {
        buffer.clear();
        Batch { covered, bytes_max, scanned: 0, updates: buffer, to: cursor }
    }

    /// The next committed entry: its index, its size, and what it is to others, if anything.
    /// Whether the batch wants more.
    pub fn offer(&mut self, index: u64, bytes: usize, update: Option<&Update<'_>>) -> bool {
        if let Some(update) = update
            && !self.covered.covers(update.dot)
        {
            update.encode(&mut Writer(&mut self.updates));
        }
        self.to = index;
        self.scanned += bytes;
        self.updates.len() < self.bytes_max
            && self.scanned < self.bytes_max.saturating_mul(SCANNED_ANSWERS_MAX)
    }
}

/// Whether a log that does not reach back to a puller's cursor still holds everything that he
/// lacks. `first` has, for each actor, his first write that the log holds; `covered` is what the
/// source covers.
pub fn log_suffices(
    puller: &VersionVector,
    covered: &VersionVector,
    first: &BTreeMap<u64, u64>,
) -> bool {
    covered.iter().all(|(actor, newest)| {
        let dropped = first.get(&actor).map_or(newest, |first| first.saturating_sub(1));
        puller.get(actor) >= dropped
    })
}
