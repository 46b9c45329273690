//! How many replicas have an entry, as their disks have it and not as their leader thinks.

use replication::leader_follower::entry::Entry;
use replication::leader_follower::log_record::{Body, LogRecord, RECORD_KIND};
use replication::leader_follower::replication_log::run::Bodies;
use replication::version::EntryId;
use replication::wire::Reader;
use replication::{GroupId, NodeId, Position};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many replicas have ever had an entry, in one sense each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Logged it, kept or not.
    pub received: usize,
    /// Kept it.
    pub durable: usize,
    /// Took it for committed, and applied it.
    pub applied: usize,
}

impl Count {
    /// Of each, the higher of two.
    pub fn most_of(&self, other: &Count) -> Count {
        Count {
            received: self.received.max(other.received),
            durable: self.durable.max(other.durable),
            applied: self.applied.max(other.applied),
        }
    }
}

/// Who has what of the groups' logs.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// Logged and not yet kept, in the order of their positions.
    pending: BTreeMap<NodeId, VecDeque<(Position, GroupId, EntryId)>>,
    received: BTreeMap<(GroupId, EntryId), BTreeSet<NodeId>>,
    durable: BTreeMap<(GroupId, EntryId), BTreeSet<NodeId>>,
    /// Up to where a node has a group's state from a snapshot, without the entries.
    snapshots: BTreeMap<(GroupId, NodeId), u64>,
    applied: BTreeMap<(GroupId, NodeId), u64>,
}

impl Copies {
    /// A node has logged a record.
    pub fn logged(&mut self, node: NodeId, position: Position, record: &[u8]) {
        let Some((group, ids)) = entries_of(record) else { return };
        for id in ids {
            self.received.entry((group, id)).or_default().insert(node);
            self.pending.entry(node).or_default().push_back((position, group, id));
        }
    }

    /// A node's log is kept up to a position.
    pub fn kept(&mut self, node: NodeId, position: Position) {
        let Some(pending) = self.pending.get_mut(&node) else { return };
        while let Some((_, group, id)) = pending.pop_front_if(|(at, ..)| *at <= position) {
            self.durable.entry((group, id)).or_default().insert(node);
        }
    }

    /// A node starts from what its disk has: what else it had logged is gone.
    pub fn restarted(&mut self, node: NodeId, records: &[(Position, Vec<u8>)]) {
        self.pending.remove(&node);
        for (position, record) in records {
            self.logged(node, *position, record);
        }
    }

    /// A node has taken over a group's state.
    pub fn snapshot(&mut self, node: NodeId, group: GroupId, up_to: u64) {
        let at = self.snapshots.entry((group, node)).or_default();
        *at = up_to.max(*at);
    }

    /// A node has applied a group's log up to an index.
    pub fn applied(&mut self, node: NodeId, group: GroupId, up_to: u64) {
        let at = self.applied.entry((group, node)).or_default();
        *at = up_to.max(*at);
    }

    /// Who has ever kept an entry, or the state with it.
    pub fn holders(&self, group: GroupId, id: EntryId) -> BTreeSet<NodeId> {
        let reached =
            self.snapshots.iter().filter(|((of, _), at)| *of == group && **at >= id.index);
        let mut nodes: BTreeSet<NodeId> = reached.map(|((_, node), _)| *node).collect();
        nodes.extend(self.durable.get(&(group, id)).into_iter().flatten());
        nodes
    }

    /// How many have an entry.
    pub fn of(&self, group: GroupId, id: EntryId) -> Count {
        let up_to = |indexes: &BTreeMap<(GroupId, NodeId), u64>| -> BTreeSet<NodeId> {
            let reached = indexes.iter().filter(|((of, _), at)| *of == group && **at >= id.index);
            reached.map(|((_, node), _)| *node).collect()
        };
        let with_snapshots = |held: &BTreeMap<(GroupId, EntryId), BTreeSet<NodeId>>| {
            let mut nodes = up_to(&self.snapshots);
            nodes.extend(held.get(&(group, id)).into_iter().flatten());
            nodes.len()
        };
        Count {
            received: with_snapshots(&self.received),
            durable: with_snapshots(&self.durable),
            applied: up_to(&self.applied).len(),
        }
    }
}

/// The entries that a record of a node's log holds, if it holds any.
fn entries_of(record: &[u8]) -> Option<(GroupId, Vec<EntryId>)> {
    let (RECORD_KIND, rest) = record.split_first().map(|(kind, rest)| (*kind, rest))? else {
        return None;
    };
    let record = LogRecord::decode(&mut Reader(rest)).ok()?;
    let Body::Entries(run) = record.body else { return None };
    let ids = Bodies::of(&run).flatten().flat_map(Entry::id_of).collect();
    Some((record.group, ids))
}
