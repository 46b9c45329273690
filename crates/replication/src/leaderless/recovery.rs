//! What a replica knows after a crash, and how it gets back what a wiped disk has lost.
//!
//! The log has the records of all keys as they were merged, the ceiling of the stamps, and whether
//! the replica is ready. `image` writes all of that anew, slot by slot, so that old segments may
//! go. A replica that is not ready fetches, page by page, what *each* other replica holds: any of
//! them may be the one that made its quorum together with the disk that was lost.
//!
//! Left out: of two replicas that are wiped one soon after the other, each takes the other for one
//! that has nothing, and becomes ready: what only these two had is gone, and nobody is told. A page
//! holds whole records, however large.

use super::Leaderless;
use super::message::{Message, Place};
use super::partition::Gate;
use super::parts::Body;
use crate::keyspace::Durability;
use crate::keyspace::slot::slot_of;
use crate::storage::record::Record;
use crate::turn::Turn;
use crate::version::Stamp;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{GroupId, KeyspaceId, NodeId};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The first byte of this model's records in the node's log.
pub const RECORD_KIND: u8 = 3;

/// A key's record.
const PUT: u8 = 0;
/// The ceiling of the stamps.
const CEILING: u8 = 1;
/// Whether reads may be answered.
const READY: u8 = 2;

/// A page of a fetch ends when it has so many bytes.
const FETCH_BYTES: usize = 256 << 10;
/// Keys that are taken from a slot at a time.
const FETCH_KEYS: usize = 32;
/// After so long another replica or partition is asked first, in microseconds.
const FETCH_RETRY_US: u64 = 500_000;

impl Leaderless {
    /// While this replica is not ready: how many questions to other replicas are open, of one for
    /// each partition and replica.
    pub fn fetches_left(&self) -> usize {
        self.fetches.tasks.len()
    }
}

/// What is still to be fetched.
#[derive(Default)]
pub(super) struct Fetches {
    /// One for each partition and other replica.
    tasks: VecDeque<Task>,
    /// The number of the question under way, which is about the first task; none if there is none.
    asked: Option<u64>,
    retry_at_us: u64,
}

#[derive(Clone, Copy)]
struct Task {
    group: GroupId,
    node: NodeId,
    from: Place,
}

/// Whose record of the log it is, where several keyspaces are leaderless. The reader stands after
/// the kind byte, and stays there.
pub fn keyspace_of_record(r: &Reader<'_>) -> Read<KeyspaceId> {
    Ok(KeyspaceId(r.clone().u32()?))
}

/// What the log's record of a key begins with; what [`Body`] has encoded follows.
pub(super) fn put_head(group: GroupId) -> Vec<u8> {
    let mut bytes = Vec::new();
    head(&mut bytes, group.keyspace, PUT).group(group);
    bytes
}

fn head(bytes: &mut Vec<u8>, keyspace: KeyspaceId, kind: u8) -> Writer<'_> {
    let mut w = Writer(bytes);
    w.u8(RECORD_KIND);
    w.u32(keyspace.0);
    w.u8(kind);
    w
}

impl Leaderless {
    /// Takes up one of this keyspace's records from the log, at recovery; the kind byte is read.
    /// Records must come in the order of the log: of one key the last one counts.
    pub fn replay(&mut self, r: &mut Reader<'_>) -> Read<()> {
        if KeyspaceId(r.u32()?) != self.keyspace {
            return Err(Malformed);
        }
        match r.u8()? {
            PUT => {
                let (group, key, record) = (r.group()?, r.bytes()?, r.record()?);
                let held = self.partitions.get_mut(group).ok_or(Malformed)?;
                let hashes = self.operations.hashes(key);
                if !held.has_slot(hashes.slot) {
                    return Err(Malformed);
                }
                self.ceiling.recover(record.newest_stamp());
                held.store.put_by(key, hashes, &record);
            }
            CEILING => self.ceiling.recover(Stamp(r.u64()?)),
            READY => {
                self.ready = r.bool()?;
                // The first tick begins the fetch.
                self.wake_at(0);
            }
            _ => return Err(Malformed),
        }
        r.finish()
    }

    /// Writes the records of a group's slots anew, from `first_slot` on, until about
    /// `budget_bytes` are used: whole slots, at least one. The slot to go on with; `None` when the
    /// group is done. The first step writes what belongs to no key, too.
    pub fn image(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupId,
        first_slot: u16,
        budget_bytes: usize,
    ) -> Option<u16> {
        let durability = self.options.durability;
        let held = self.partitions.get(group)?;
        let (start, last) = (first_slot.max(held.store.first_slot()), held.store.last_slot());
        if start == held.store.first_slot() {
            let (ceiling, ready) =
                (self.ceiling_record(self.ceiling.newest()), self.ready_record());
            turn.append(&ceiling, Durability::Fsync);
            turn.append(&ready, Durability::Fsync);
        }
        let (head, mut body) = (put_head(group), core::mem::take(&mut turn.local.scratch));
        let (mut used, mut next, mut written) = (0usize, None, start);
        for (slot, key, record) in held.store.walk(start, last) {
            if slot != written && used >= budget_bytes.max(1) {
                next = Some(slot);
                break;
            }
            written = slot;
            body.clear();
            Body::encode(&mut body, key, &record);
            used = used.saturating_add(head.len() + body.len());
            turn.append_parts(&head, &body, durability);
        }
        turn.local.scratch = body;
        next
    }

    /// The log's record of a ceiling.
    pub(super) fn ceiling_record(&self, ceiling: Stamp) -> Vec<u8> {
        let mut bytes = Vec::new();
        head(&mut bytes, self.keyspace, CEILING).u64(ceiling.0);
        bytes
    }

    fn ready_record(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        head(&mut bytes, self.keyspace, READY).bool(self.ready);
        bytes
    }

    /// Says whether the own store may answer reads. A node whose disk was emptied, while others
    /// know an earlier incarnation of it, says `false` in the turn in which it is opened: it then
    /// fetches what the others hold and becomes ready by itself. `true` is an operator's word. The
    /// log remembers it.
    pub fn set_ready(&mut self, turn: &mut Turn<'_>, ready: bool) {
        if self.ready == ready {
            return;
        }
        self.ready = ready;
        self.fetches = Fetches::default();
        let record = self.ready_record();
        turn.append(&record, Durability::Fsync);
        if !ready {
            self.begin_fetches(turn);
        }
    }

    fn begin_fetches(&mut self, turn: &mut Turn<'_>) {
        let tasks = self.partitions.iter().flat_map(|held| {
            let from = Place { slot: held.store.first_slot(), hash: 0 };
            held.others.iter().map(move |node| Task { group: held.group, node: *node, from })
        });
        self.fetches.tasks = tasks.collect();
        self.fetch_next(turn);
    }

    /// Asks for the next page; where there is none, everything is here.
    fn fetch_next(&mut self, turn: &mut Turn<'_>) {
        let Some(task) = self.fetches.tasks.front().copied() else {
            return self.set_ready(turn, true);
        };
        let operation = self.count(turn);
        self.fetches.asked = Some(operation);
        self.fetches.retry_at_us = turn.now.monotonic_us.saturating_add(FETCH_RETRY_US);
        self.wake_at(self.fetches.retry_at_us);
        let message = Message::Fetch { operation, group: task.group, from: task.from };
        turn.send(task.node, crate::Message::Leaderless(message));
    }

    /// Begins the fetch after a restart, or tries another replica where one does not answer.
    pub(super) fn on_fetches_due(&mut self, turn: &mut Turn<'_>) {
        if self.ready {
            return;
        }
        if self.fetches.asked.is_none() {
            return self.begin_fetches(turn);
        }
        if self.fetches.retry_at_us <= turn.now.monotonic_us {
            self.fetches.tasks.rotate_left(1);
            self.fetch_next(turn);
        }
        self.wake_at(self.fetches.retry_at_us);
    }

    /// Another replica's disk was emptied: it gets a page of what is here, when that is durable.
    pub(super) fn on_fetch(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        operation: u64,
        group: GroupId,
        place: Place,
    ) {
        // A replica that is not ready answers, too: whoever fetches asks all others, and knows in
        // the end what any of them does. So a group whose replicas are all new becomes ready.
        let Some(held) = self.partitions.get(group) else { return };
        let (mut records, mut bytes, mut gate) = (Vec::new(), 0usize, Gate::default());
        let mut next = Some(place);
        while let Some(at) = next.take_if(|_| bytes < FETCH_BYTES) {
            let page = held.store.page(at.slot, at.hash, FETCH_KEYS);
            for (key, record) in page.entries {
                bytes =
                    bytes.saturating_add(key.len() + crate::storage::store::RECORD_OVERHEAD_BYTES);
                bytes = bytes.saturating_add(record.value().map_or(0, |value| value.len()));
                gate = gate.and(held.gate(slot_of(key)));
                records.push((Cow::Owned(key.to_vec()), record.into_owned()));
            }
            next = page.next.map(|(slot, hash)| Place { slot, hash });
        }
        let message = Message::Fetched { operation, group, records, next };
        let (position, durability) = gate.waits_for(turn.local);
        turn.send_when_durable(position, durability, from, crate::Message::Leaderless(message));
    }

    /// A page for the own emptied disk.
    pub(super) fn on_fetched(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        operation: u64,
        group: GroupId,
        records: &[(Cow<'_, [u8]>, Record<'_>)],
        next: Option<Place>,
    ) {
        let Some(task) = self.fetches.tasks.front().copied() else { return };
        if self.fetches.asked != Some(operation) || task.node != from || task.group != group {
            return;
        }
        let mut bytes = Vec::new();
        for (key, record) in records {
            bytes.clear();
            Body::encode(&mut bytes, key, record);
            if let Ok(body) = Body::decode(&mut Reader(&bytes)) {
                let hashes = self.operations.hashes(key);
                self.on_repair(turn, from, group.partition, &body, hashes);
            }
        }
        self.fetches.tasks.pop_front();
        // A page that leads back would never end: such a peer is asked again from where it was.
        let from = next.map(|next| if next > task.from { next } else { task.from });
        if let Some(from) = from {
            self.fetches.tasks.push_back(Task { from, ..task });
        }
        self.fetch_next(turn);
    }
}
