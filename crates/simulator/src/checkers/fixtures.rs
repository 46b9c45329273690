//! What the checkers' tests speak of: one group, and a write in it.

use crate::observe::Written;
use replication::version::{Dot, Stamp};
use replication::{DatacenterId, GroupId, KeyspaceId, NodeId};

pub(crate) const GROUP: GroupId =
    GroupId { keyspace: KeyspaceId(1), generation: 0, partition: 0, datacenter: DatacenterId(0) };

/// A write of the first node under the name (actor, counter); in a group these are the entry's
/// epoch and index.
pub(crate) fn written(actor: u64, counter: u64) -> Written {
    let dot = Dot { actor, counter };
    Written { at_us: 0, node: NodeId(0), stamp: Stamp(1), dot, spread: false }
}
