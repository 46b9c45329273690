//! FLUSHALL's part of a group: a tombstone for every live key, by quorum writes, in bounded steps.
//!
//! First the keys that the coordinator holds; then it asks the other replicas to do the same with
//! what they hold beyond that. When R replicas have done so, every acknowledged write has met it
//! (W + R > N). Nothing that is stamped later than the flush is deleted: neither what the same
//! connection writes after it, nor anything by a message that comes twice.

use super::Leaderless;
use super::message::Message;
use super::operation::{About, Customer, Purpose};
use crate::command::verb::With;
use crate::command::{KeyCommand, Reply, Verb};
use crate::turn::{Requester, Turn};
use crate::version::Stamp;
use crate::{GroupId, NodeId};
use alloc::format;
use alloc::vec::Vec;

/// Tombstones of one flush that are under way at a time.
const WINDOW: usize = 128;
/// Flushes, of clients and for other replicas, that may be under way on a node.
const FLUSHES_MAX: usize = 1_024;
/// After so long a flush is given up, in microseconds.
const TIMEOUT_US: u64 = 60_000_000;
/// After so long another replica is asked again, in microseconds.
const RETRANSMIT_US: u64 = 1_000_000;

/// A flush of one group.
pub(super) struct Flush {
    group: GroupId,
    customer: FlushFor,
    /// Nothing newer is deleted.
    before: Stamp,
    /// The slot and the hash to go on with; `None` when all keys are found.
    next: Option<(u16, u64)>,
    /// Keys found before that.
    keys: Vec<Vec<u8>>,
    in_flight: usize,
    /// Tombstones that missed W.
    missed: u64,
    /// Whether all keys that this node holds are deleted.
    own_done: bool,
    /// Replicas that have deleted what they hold.
    done: Vec<NodeId>,
    deadline_us: u64,
    retransmit_us: u64,
}

/// Who waits for a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FlushFor {
    /// A client.
    Requester(Requester),
    /// Another replica, which coordinates it.
    Peer { node: NodeId, operation: u64, before: Stamp },
}

impl Leaderless {
    /// Begins a flush.
    pub(super) fn begin_flush(&mut self, turn: &mut Turn<'_>, group: GroupId, customer: FlushFor) {
        let first_slot = self.partitions.get(group).map(|held| held.store.first_slot());
        let (Some(first_slot), true) = (first_slot, self.flushes.len() < FLUSHES_MAX) else {
            if let FlushFor::Requester(requester) = customer {
                let error = "TRYAGAIN no replica of the group, or too many flushes are under way";
                turn.refuse(requester, error);
            }
            return;
        };
        let before = match customer {
            FlushFor::Requester(_) => self.name_write(turn, Stamp::ZERO).0.stamp,
            FlushFor::Peer { before, .. } => before,
        };
        let now = turn.now.monotonic_us;
        let flush = Flush {
            group,
            customer,
            before,
            next: Some((first_slot, 0)),
            keys: Vec::new(),
            in_flight: 0,
            missed: 0,
            own_done: false,
            done: Vec::new(),
            deadline_us: now.saturating_add(TIMEOUT_US),
            retransmit_us: now.saturating_add(RETRANSMIT_US),
        };
        self.wake_at(flush.retransmit_us);
        let id = self.count(turn);
        self.flushes.insert(id, flush);
        self.continuing_flushes.push_back(id);
    }

    /// Goes on with flushes that have room for more tombstones, or are done.
    pub(super) fn continue_flushes(&mut self, turn: &mut Turn<'_>) {
        while let Some(id) = self.continuing_flushes.pop_front() {
            while let Some(key) = self.next_key(turn, id) {
                let Some(flush) = self.flushes.get(&id) else { break };
                let (group, before) = (flush.group, flush.before);
                self.delete(turn, group, &key, Customer::Flush { flush: id, before });
            }
            let own_done =
                self.flushes.get_mut(&id).filter(|flush| flush.in_flight == 0 && !flush.own_done);
            if let Some(flush) = own_done {
                flush.own_done = true;
                self.on_own_part_flushed(turn, id);
            }
        }
    }

    /// The next key to delete, counted as under way; `None` while the window is full, and after
    /// the last one.
    fn next_key(&mut self, turn: &Turn<'_>, id: u64) -> Option<Vec<u8>> {
        let flush = self.flushes.get_mut(&id)?;
        let store = &self.partitions.get(flush.group)?.store;
        while flush.in_flight < WINDOW {
            if let Some(key) = flush.keys.pop() {
                flush.in_flight += 1;
                return Some(key);
            }
            let (slot, hash) = flush.next.take()?;
            let page = store.page(slot, hash, WINDOW);
            flush.next = page.next;
            let (before, now_ms) = (flush.before, turn.now.wall_ms);
            let found = page
                .entries
                .iter()
                .filter(|(_, record)| record.is_live(now_ms) && record.newest_stamp() <= before);
            flush.keys = found.map(|(key, _)| key.to_vec()).collect();
        }
        None
    }

    /// Writes a tombstone.
    fn delete(&mut self, turn: &mut Turn<'_>, group: GroupId, key: &[u8], customer: Customer) {
        let hashes = self.operations.hashes(key);
        if !self.partitions.get(group).is_some_and(|held| held.has_slot(hashes.slot)) {
            return;
        }
        let (partition, purpose, with) = (group.partition, Purpose::Overwrite, With::default());
        let about = About { customer, partition, hashes, purpose, with };
        let command = KeyCommand { key, verb: Verb::Delete };
        let place = self.operation(turn, about, &command);
        self.enqueue(turn, place);
    }

    /// One of its tombstones is answered.
    pub(super) fn on_tombstone_answered(&mut self, id: u64, missed: bool) {
        let Some(flush) = self.flushes.get_mut(&id) else { return };
        flush.in_flight = flush.in_flight.saturating_sub(1);
        flush.missed += u64::from(missed);
        self.continuing_flushes.push_back(id);
    }

    fn on_own_part_flushed(&mut self, turn: &mut Turn<'_>, id: u64) {
        let Some(flush) = self.flushes.get_mut(&id) else { return };
        match flush.customer {
            FlushFor::Peer { node, operation, .. } => {
                let (group, missed) = (flush.group, flush.missed);
                self.flushes.remove(&id);
                let message = Message::FlushAnswer { operation, group, missed };
                turn.send(node, crate::Message::Leaderless(message));
            }
            FlushFor::Requester(_) => {
                if self.ready {
                    flush.done.push(self.me);
                }
                self.ask_to_flush(turn, id);
                self.end_flush(turn, id);
            }
        }
    }

    fn ask_to_flush(&self, turn: &mut Turn<'_>, id: u64) {
        let Some(flush) = self.flushes.get(&id) else { return };
        let Some(held) = self.partitions.get(flush.group) else { return };
        for node in held.others.iter().filter(|node| !flush.done.contains(node)) {
            let message =
                Message::Flush { operation: id, group: flush.group, before: flush.before };
            turn.send(*node, crate::Message::Leaderless(message));
        }
    }

    /// Answers a client's flush when R replicas have done their part.
    fn end_flush(&mut self, turn: &mut Turn<'_>, id: u64) {
        let need = usize::from(self.options.r);
        let Some(flush) = self.flushes.get(&id).filter(|flush| flush.done.len() >= need) else {
            return;
        };
        let reply = match flush.missed {
            0 => Reply::Ok,
            missed => Reply::error(format!(
                "PARTIAL missed={missed} so many deletes have fewer acks than asked for; they stay \
                 and may spread"
            )),
        };
        let acks = if flush.missed == 0 { usize::from(self.options.w) } else { 0 };
        let customer = flush.customer;
        self.flushes.remove(&id);
        if let FlushFor::Requester(requester) = customer {
            let last_write = Some(self.last_write(acks));
            turn.answer(requester, reply, last_write);
        }
    }

    /// Another replica flushes: this one deletes what it holds. One that was wiped does not know.
    pub(super) fn on_flush(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        operation: u64,
        group: GroupId,
        before: Stamp,
    ) {
        let customer = FlushFor::Peer { node, operation, before };
        let under_way = self.flushes.values().any(|flush| flush.customer == customer);
        if self.ready && !under_way {
            self.begin_flush(turn, group, customer);
        }
    }

    /// Another replica has done its part.
    pub(super) fn on_flush_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        id: u64,
        missed: u64,
    ) {
        let Some(flush) = self.flushes.get_mut(&id).filter(|flush| flush.own_done) else { return };
        if !flush.done.contains(&from) {
            flush.done.push(from);
            flush.missed = flush.missed.saturating_add(missed);
            self.end_flush(turn, id);
        }
    }

    /// Asks again, and gives up what has taken too long.
    pub(super) fn on_flushes_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_us;
        let ids: Vec<u64> = self.flushes.keys().copied().collect();
        for id in ids {
            let Some(flush) = self.flushes.get_mut(&id) else { continue };
            if flush.deadline_us <= now {
                let (answered, customer) = (flush.done.len(), flush.customer);
                self.flushes.remove(&id);
                if let FlushFor::Requester(requester) = customer {
                    let error = format!(
                        "PARTIAL answered={answered} need={} replicas have deleted their keys; \
                         some keys may be left",
                        self.options.r
                    );
                    let last_write = Some(self.last_write(0));
                    turn.answer(requester, Reply::error(error), last_write);
                }
                continue;
            }
            let asks = flush.own_done && flush.retransmit_us <= now;
            if flush.retransmit_us <= now {
                flush.retransmit_us = now.saturating_add(RETRANSMIT_US);
            }
            self.next_at_us = self.next_at_us.min(flush.retransmit_us.min(flush.deadline_us));
            if asks {
                self.ask_to_flush(turn, id);
            }
        }
    }
}
