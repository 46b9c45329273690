//! The cluster as one node sees it, for `TF.STATUS`, INFO and ROLE.

use super::Node;
use crate::keyspace::{Cluster, Model};
use crate::leader_follower::degrade_ledger::Interval;
use crate::leader_follower::retention::Retention;
use crate::{GroupId, NodeId, Time};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

/// One group, as a node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The nodes that hold it.
    pub members: Vec<NodeId>,
    /// Who leads; `None` if nobody, or nobody known. Leaderless groups have none.
    pub leader: Option<NodeId>,
    /// What this node knows as a member; `None` if it is none.
    pub here: Option<MemberStatus>,
}

/// What a member knows of its group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberStatus {
    /// `leader`, `follower`, `candidate`, `learner`, `replica` or `replica, not ready`.
    pub role: &'static str,
    /// The epoch; 0 without leaders.
    pub epoch: u64,
    /// The newest entry.
    pub last_index: u64,
    /// Up to where the log is known to be committed.
    pub commit: u64,
    /// Records held.
    pub keys: u64,
    /// Memory of the records, in bytes.
    pub bytes: u64,
    /// At a leader: each follower that was heard lately, with the entries that it lacks.
    pub lag: Vec<(NodeId, u64)>,
    /// At a leader: each follower, with the bytes of entries that it is not known to have; of the
    /// log that is kept.
    pub lag_bytes: Vec<(NodeId, u64)>,
    /// How much of the log is kept, and who is next to be cut off from it.
    pub retention: Retention,
    /// Records of the node's log that are kept for this group's uncommitted entries although the
    /// newest checkpoint is behind them.
    pub log_held_records: u64,
    /// Sessions whose commands are remembered for `TF.ONCE`.
    pub once_sessions: u64,
    /// Writes that are reported as lost here, by what their clients were told.
    pub lost_writes: crate::leader_follower::lost_writes::Counts,
    /// At a leader: entries at least that earlier leaders took with them, which were not heard out.
    pub unheard_at_least: u64,
    /// At a leader: how many earlier ones were not heard out; each may have taken acknowledged
    /// writes with it.
    pub unheard_leaders: u64,
    /// The interval of the degrade ledger that is open: writes are acknowledged with fewer acks
    /// than declared.
    pub degraded: Option<Interval>,
    /// Since when the group has the leader that it has, or none, in milliseconds since 1970 by this
    /// node's clock; 0 if there never was one.
    pub since_ms: u64,
    /// Why that changed; or why a replica without a leader is not ready.
    pub why: Cow<'static, str>,
    /// Whether this member may have lost entries that it acknowledged: it counts for nothing until
    /// it has what a leader has.
    pub suspect: bool,
    /// The newest epoch in the log whose leader may have lacked committed entries; 0 for none.
    pub possible_loss: u64,
}

impl Node {
    /// The cluster's description.
    pub fn cluster(&self) -> &Cluster {
        &self.roles.cluster
    }

    /// Whether another node was heard lately, or is this one.
    pub fn is_up(&self, now: Time, node: NodeId) -> bool {
        let silence_us = self.roles.timing.election_timeout_us;
        node == self.local.me
            || (self.heard_us_ago(now.monotonic_us, node).is_some_and(|ago| ago < silence_us)
                && self.roles.peers.get(usize::from(node.0)).is_some_and(|peer| !peer.lost))
    }

    /// All groups of a keyspace, in order.
    pub fn status(&self, now: Time, keyspace: crate::KeyspaceId) -> Vec<GroupStatus> {
        let placed = self.roles.placement.iter().filter(|(id, _)| id.keyspace == keyspace);
        placed.map(|(id, members)| self.group_status(now, *id, members)).collect()
    }

    fn group_status(&self, now: Time, id: GroupId, members: &[NodeId]) -> GroupStatus {
        let group = self.roles.groups.get(&id);
        // A member knows for itself; what others have heard counts only while the leader is up.
        let heard = self.roles.leaders.get(&id).filter(|led| !led.is_over).map(|led| led.node);
        let leader = match group {
            // A follower that was cut off waits before it doubts: whom it does not hear is not up.
            Some(group) => group.leader().filter(|leader| self.is_up(now, *leader)),
            None => heard.filter(|leader| self.is_up(now, *leader)),
        };
        let here = match group {
            Some(group) => Some(MemberStatus {
                role: group.role_name(self.local.me, self.local.incarnation),
                epoch: group.epoch(),
                last_index: group.last().index,
                commit: group.commit(),
                keys: group.state.store.live() as u64,
                bytes: group.state.store.bytes() as u64,
                lag: group.lag(now.monotonic_us),
                lag_bytes: group.lag_bytes(),
                retention: group.retention(),
                log_held_records: self.roles.records_held_by(group),
                once_sessions: group.state.once.len() as u64,
                lost_writes: group.reported_counts(),
                unheard_at_least: group.unheard().map(|unheard| unheard.at_least).sum(),
                unheard_leaders: group.unheard().count() as u64,
                degraded: group.open_interval(),
                since_ms: group.tenure().since_ms,
                why: group.why(),
                suspect: group.is_suspect(),
                possible_loss: group.history(),
            }),
            None => self.replica_status(id),
        };
        GroupStatus { group: id, members: members.to_vec(), leader, here }
    }

    fn replica_status(&self, id: GroupId) -> Option<MemberStatus> {
        let leaderless = self.roles.leaderless.get(&id.keyspace)?;
        let store = leaderless.store(id)?;
        let (keys, bytes) = (store.live() as u64, store.bytes() as u64);
        let mut status = MemberStatus { role: "replica", keys, bytes, ..MemberStatus::default() };
        if !leaderless.is_ready() {
            status.role = "replica, not ready";
            status.why = Cow::Owned(format!(
                "its disk is new: it answers reads once it has asked each other replica of each \
                 partition for what that holds; {} answers are missing",
                leaderless.fetches_left()
            ));
        }
        Some(status)
    }

    /// Live records held by this node, per keyspace and in all: for DBSIZE-like figures of INFO.
    pub fn keys_here(&self, now: Time, keyspace: crate::KeyspaceId) -> u64 {
        let groups = self.status(now, keyspace).into_iter().filter_map(|group| group.here);
        groups.map(|here| here.keys).sum()
    }

    /// Groups of which this node is a member and knows that their acks are lowered.
    pub fn degraded_groups(&self) -> usize {
        self.groups().filter(|group| group.open_interval().is_some()).count()
    }

    /// Whether every group with a leader has one that this node knows to be up.
    pub fn is_settled(&self, now: Time) -> bool {
        self.roles.cluster.keyspaces.iter().all(|keyspace| {
            matches!(keyspace.model, Model::Leaderless(_))
                || self
                    .status(now, keyspace.id)
                    .iter()
                    .all(|group| group.leader.is_some_and(|leader| self.is_up(now, leader)))
        })
    }
}
