//! One partition of the keyspace as this replica keeps it.

use crate::conflict::last_write_wins::{self, Outcome};
use crate::keyspace::Durability;
use crate::keyspace::slot::slot_of;
use crate::storage::record::Record;
use crate::storage::store::Store;
use crate::turn::Local;
use crate::version::{Dot, Stamp};
use crate::{GroupId, NodeId, Position};
use alloc::vec;
use alloc::vec::Vec;

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

/// A partition and what this replica holds of it.
pub(super) struct Held {
    pub(super) store: Store,
    pub(super) replicas: Vec<NodeId>,
    /// All replicas but this one.
    pub(super) others: Vec<NodeId>,
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

impl Held {
    /// An empty partition.
    pub(super) fn new(partition: Partition, me: NodeId, seed: u64) -> Held {
        let Partition { first_slot, last_slot, replicas, .. } = partition;
        let slots = (usize::from(last_slot) + 1).saturating_sub(usize::from(first_slot));
        Held {
            store: Store::new(first_slot, last_slot, seed),
            others: replicas.iter().copied().filter(|node| *node != me).collect(),
            replicas,
            gates: vec![Gate::default(); slots],
        }
    }

    /// Whether a key belongs here.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        (self.store.first_slot()..=self.store.last_slot()).contains(&slot_of(key))
    }

    /// What must be kept before anything is said about a key.
    pub(super) fn gate(&self, key: &[u8]) -> Gate {
        self.place(key).and_then(|place| self.gates.get(place)).copied().unwrap_or_default()
    }

    /// Takes note of a record of the log that is about a key.
    pub(super) fn close_gate(&mut self, key: &[u8], position: Position, durability: Durability) {
        let place = self.place(key);
        let Some(gate) = place.and_then(|place| self.gates.get_mut(place)) else { return };
        match durability {
            Durability::Fsync => gate.synced = position,
            Durability::Interval => gate.written = position,
        }
    }

    /// The key's record after taking in another; `None` where that changes nothing.
    pub(super) fn merged(&self, key: &[u8], record: &Record<'_>) -> Option<Record<'static>> {
        match self.store.get(key) {
            None => Some(record.clone().into_owned()),
            Some(stored) => match last_write_wins::merge(&stored, record).outcome {
                Outcome::Kept => None,
                Outcome::Incoming => Some(record.clone().into_owned()),
                Outcome::Both(merged) => Some(merged.into_owned()),
            },
        }
    }

    fn place(&self, key: &[u8]) -> Option<usize> {
        slot_of(key).checked_sub(self.store.first_slot()).map(usize::from)
    }
}

impl Gate {
    /// Whether the log is kept so far.
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
