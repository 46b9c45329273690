//! The partitions of the keyspace as this replica keeps them.

use super::parts::Body;
use super::places::{Places, REPLICAS_MAX};
use super::recovery;
use crate::conflict::last_write_wins::{self, Outcome};
use crate::keyspace::Durability;
use crate::storage::record::Record;
use crate::storage::store::{self, Hashes, Store};
use crate::turn::{Local, Turn};
use crate::version::{Dot, Stamp};
use crate::{GroupId, NodeId, Position};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// The digest of nothing that was ever written. No record's digest is smaller.
const DIGEST_OF_NOTHING: u64 = 1;

/// A partition that this node replicates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// The group.
    pub group: GroupId,
    /// The first of its slots.
    pub first_slot: u16,
    /// The last of its slots.
    pub last_slot: u16,
    /// All replicas, this node among them, in preference order.
    pub replicas: Vec<NodeId>,
}

/// All partitions that this node replicates, found by their number.
pub(super) struct Partitions(Vec<Option<Held>>);

/// A partition and what this replica holds of it.
pub(super) struct Held {
    pub(super) group: GroupId,
    pub(super) store: Store,
    pub(super) replicas: Vec<NodeId>,
    /// All replicas but this one.
    pub(super) others: Vec<NodeId>,
    /// This node's place among the replicas.
    pub(super) own_place: usize,
    /// What each record of the log about one of its keys begins with.
    log_head: Vec<u8>,
    /// For each slot, the newest record of the log that is about one of its keys.
    gates: Vec<Gate>,
}

/// How far the log must be kept before something may be said about a slot's keys.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Gate {
    /// Handed to the operating system up to here.
    written: Position,
    /// On disk up to here.
    synced: Position,
}

/// What became of a record that was to be kept.
pub(super) struct Kept {
    /// Opens when what is kept now is durable.
    pub(super) gate: Gate,
    /// A newer base was there: nothing is left of the record.
    pub(super) newer: bool,
}

impl Partitions {
    /// Empty partitions.
    pub(super) fn new(partitions: Vec<Partition>, me: NodeId, seed: u64) -> Partitions {
        let mut held = Vec::new();
        for partition in partitions {
            let number = usize::from(partition.group.partition);
            if held.len() <= number {
                held.resize_with(number + 1, || None);
            }
            if let Some(place) = held.get_mut(number) {
                *place = Some(Held::new(partition, me, seed));
            }
        }
        Partitions(held)
    }

    /// By number.
    #[inline]
    pub(super) fn at(&self, partition: u16) -> Option<&Held> {
        self.0.get(usize::from(partition))?.as_ref()
    }

    /// By number, to change.
    #[inline]
    pub(super) fn at_mut(&mut self, partition: u16) -> Option<&mut Held> {
        self.0.get_mut(usize::from(partition))?.as_mut()
    }

    /// By name.
    pub(super) fn get(&self, group: GroupId) -> Option<&Held> {
        self.at(group.partition).filter(|held| held.group == group)
    }

    /// By name, to change.
    pub(super) fn get_mut(&mut self, group: GroupId) -> Option<&mut Held> {
        self.at_mut(group.partition).filter(|held| held.group == group)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.0.iter().flatten()
    }
}

impl Held {
    /// An empty partition.
    fn new(partition: Partition, me: NodeId, seed: u64) -> Held {
        let Partition { group, first_slot, last_slot, mut replicas } = partition;
        let slots = (usize::from(last_slot) + 1).saturating_sub(usize::from(first_slot));
        replicas.truncate(REPLICAS_MAX);
        Held {
            group,
            store: Store::new(first_slot, last_slot, seed),
            others: replicas.iter().copied().filter(|node| *node != me).collect(),
            own_place: replicas.iter().position(|node| *node == me).unwrap_or(REPLICAS_MAX),
            replicas,
            log_head: recovery::put_head(group),
            gates: vec![Gate::default(); slots],
        }
    }

    /// Whether the keys of a slot belong here.
    #[inline]
    pub(super) fn has_slot(&self, slot: u16) -> bool {
        (self.store.first_slot()..=self.store.last_slot()).contains(&slot)
    }

    /// This node.
    pub(super) fn own(&self) -> Places {
        Places::one(self.own_place)
    }

    /// All replicas but this one.
    pub(super) fn other_places(&self) -> Places {
        Places::first(self.replicas.len()).without(self.own())
    }

    /// Another replica's place; none for a stranger and for this node.
    pub(super) fn place_of(&self, node: NodeId) -> Option<usize> {
        let place = self.replicas.iter().position(|replica| *replica == node)?;
        (place != self.own_place).then_some(place)
    }

    /// The places of some nodes.
    #[inline]
    pub(super) fn places_of(&self, nodes: &BTreeSet<NodeId>) -> Places {
        if nodes.is_empty() {
            return Places::default();
        }
        let mut places = Places::default();
        for node in nodes {
            places.add(self.place_of(*node).map_or(Places::default(), Places::one));
        }
        places
    }

    /// The places of the other replicas of which something holds.
    #[inline]
    pub(super) fn places_where(&self, holds: impl Fn(NodeId) -> bool) -> Places {
        let mut places = Places::default();
        for (place, node) in self.replicas.iter().enumerate() {
            if place != self.own_place && holds(*node) {
                places.add(Places::one(place));
            }
        }
        places
    }

    /// The replicas at some places.
    pub(super) fn nodes(&self, places: Places) -> impl Iterator<Item = NodeId> {
        places.iter().filter_map(|place| self.replicas.get(place).copied())
    }

    /// What must be kept before anything is said about a slot's keys.
    #[inline]
    pub(super) fn gate(&self, slot: u16) -> Gate {
        self.place(slot).and_then(|place| self.gates.get(place)).copied().unwrap_or_default()
    }

    /// Takes a record into the store and the log, merged with what is there.
    pub(super) fn keep(
        &mut self,
        turn: &mut Turn<'_>,
        hashes: Hashes,
        body: &Body<'_>,
        durability: Durability,
    ) -> Kept {
        let slot = hashes.slot;
        let stored = self.store.get_by(body.key, hashes);
        let newer = stored.as_ref().is_some_and(|stored| base(stored) > base(&body.record));
        let outcome = stored.map_or(Outcome::Incoming, |stored| {
            last_write_wins::merge(&stored, &body.record).outcome
        });
        match outcome {
            Outcome::Kept => {}
            Outcome::Incoming => {
                self.log(turn, slot, body.bytes, durability);
                self.store.put_by(body.key, hashes, &body.record);
            }
            Outcome::Both(merged) => {
                let merged = merged.into_owned();
                let mut bytes = Vec::new();
                Body::encode(&mut bytes, body.key, &merged);
                self.log(turn, slot, &bytes, durability);
                self.store.put_by(body.key, hashes, &merged);
            }
        }
        turn.local.longest_record = turn.local.longest_record.max(self.store.longest());
        Kept { gate: self.gate(slot), newer }
    }

    /// Appends a record of the log about a slot's key: nothing is said about the slot before the
    /// record is kept.
    fn log(&mut self, turn: &mut Turn<'_>, slot: u16, body: &[u8], durability: Durability) {
        let position = turn.append_parts(&self.log_head, body, durability);
        let place = self.place(slot);
        let Some(gate) = place.and_then(|place| self.gates.get_mut(place)) else { return };
        match durability {
            Durability::Fsync => gate.synced = position,
            Durability::Interval => gate.written = position,
        }
    }

    fn place(&self, slot: u16) -> Option<usize> {
        slot.checked_sub(self.store.first_slot()).map(usize::from)
    }
}

impl Gate {
    /// Whether the log is kept so far.
    #[inline]
    pub(super) fn is_open(self, local: &Local) -> bool {
        local.written >= self.written && local.synced >= self.synced
    }

    /// The newest record of the log that it waits for.
    pub(super) fn newest(self) -> Position {
        self.written.max(self.synced)
    }

    /// Opens when both are open.
    pub(super) fn and(self, other: Gate) -> Gate {
        let written = self.written.max(other.written);
        Gate { written, synced: self.synced.max(other.synced) }
    }

    /// The position to wait for, and how it must be kept.
    pub(super) fn waits_for(self, local: &Local) -> (Position, Durability) {
        if local.synced >= self.synced {
            (self.written, Durability::Interval)
        } else {
            (self.newest(), Durability::Fsync)
        }
    }
}

/// What orders bases: the larger one wins.
pub(super) fn base(record: &Record<'_>) -> (Stamp, Dot) {
    (record.stamp, record.dot)
}

/// What tells two records of one key apart without either of them, given one as it lies in a
/// store: the same number for the same record on every replica. Never 0.
#[inline]
pub(super) fn digest_of_stored(stored: Option<&[u8]>) -> u64 {
    stored.map_or(DIGEST_OF_NOTHING, |bytes| some_digest(store::digest(bytes)))
}

/// The same of a record that lies elsewhere.
pub(super) fn digest_of(record: Option<&Record<'_>>) -> u64 {
    record.map_or(DIGEST_OF_NOTHING, |record| some_digest(store::digest_of(record)))
}

fn some_digest(digest: u64) -> u64 {
    digest.max(DIGEST_OF_NOTHING + 1)
}
