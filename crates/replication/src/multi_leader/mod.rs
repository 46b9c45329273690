//! Multi-leader replication.
//!
//! Every datacenter of the keyspace has a leader of its own: a leader-follower group that orders
//! the writes made there and acknowledges them without asking anybody across the ocean. What a
//! group has *committed* travels to the other datacenters and is merged there. This module is
//! about that second part only: it takes what a group has committed, and says what another group
//! is to append; how a group replicates inside its datacenter is not its business.
//! `node/multi_leader.rs` puts the two together.
//!
//! The life of a write: `leader.rs` names it (a dense number of its datacenter, a stamp of the
//! hybrid clock, and everything its leader had seen); it is an entry of its group's log, and its
//! client is answered. Once it is committed, the leaders of the other datacenters get it as the
//! answer to a pull (`sync.rs`), append it to their own logs under the same name, and merge its
//! records with theirs: the last write wins, increments add up. A datacenter that was away for
//! longer than logs reach back is brought up by the records themselves (`catch_up.rs`).
//!
//! The rules:
//!
//! - **Only committed entries leave a datacenter**, whatever `acks` is, and only from a leader
//!   whose first entry is committed: a failover must not reuse a number that is known elsewhere.
//! - **Exactly once.** A group takes a write if it is the next of its actor, and never again. The
//!   vector of what it has taken is replicated with the log, so that the next leader goes on.
//!   What comes back to its origin, or a second way through a third datacenter, is known.
//! - **Causal order.** A write waits until everything that its leader had seen is here: its
//!   stream stops there, and is pulled again when other streams have advanced.
//! - **What saw the other wins.** A leader's stamps are larger than those of every entry in its
//!   log. A write that wins over one that it had not seen is a conflict, and is told.
//! - **Clocks.** A leader whose clock is behind the newest stamp by more than
//!   [`leader::MAX_SKEW_MS`] refuses local writes. An update from further ahead is held, and its
//!   stream waits: it is never skipped.
//! - **Nothing to remember.** The source remembers nothing that matters: the puller says what it
//!   has, and where in the source's log it has got to. That place is a shortcut only; it is
//!   forgotten with the leadership, and then the vector does the filtering.
//!
//! Every record travels whole, and merging is idempotent. So a state transfer may overlap with
//! updates, and a transfer goes on where it was when the source gets another leader.
//!
//! Left out:
//!
//! - The group's incarnation never changes in an `fsync` keyspace (see [`leader::incarnation`]). A
//!   datacenter that was restored from a backup must draw a new one before its first write: else
//!   it gives numbers to new writes that the others know as old ones.
//! - Tombstones stay for ever, and so do records past their deadline, with their values: they may
//!   go once every datacenter has them.
//! - While a state transfer runs, what it has brought is visible before all of it is there.
//! - `siblings`, `merge` and `custom`: of two bases, the last one wins; the losers are not kept.

pub mod catch_up;
pub mod leader;
pub mod message;
pub mod sync;

use crate::GroupId;
use alloc::collections::BTreeMap;

/// What a node knows of the exchange with other datacenters, for all groups that it leads.
#[derive(Debug, Default)]
pub struct MultiLeader {
    /// What this node pulls: (the group that it leads, the group that it pulls from).
    pub streams: BTreeMap<(GroupId, GroupId), sync::Stream>,
    /// Questions that are answered here: (the group that it leads, the group that asked).
    pub waiting: BTreeMap<(GroupId, GroupId), sync::Waiting>,
    /// Whether groups of this node keep more of their logs, for those who are sent their state.
    pub keeps_logs: bool,
    /// Bytes of answers on their way to each node, in the order of their numbers.
    pub on_way: alloc::vec::Vec<u64>,
    /// Answers to pulls are made here, to spare allocations.
    pub buffer: alloc::vec::Vec<u8>,
}

/// Whether two groups hold the same partition of the same keyspace in different datacenters.
pub fn are_siblings(one: GroupId, other: GroupId) -> bool {
    one.datacenter != other.datacenter && GroupId { datacenter: one.datacenter, ..other } == one
}

#[cfg(test)]
mod tests;
