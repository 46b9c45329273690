//! What an administrator does at a bad moment.

use super::disk::all_count;
use super::{Faults, Later, anybody};
use crate::cluster::{Cluster, Server};
use replication::quorum::Quorum;
use replication::version::EntryId;
use replication::{GroupId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// How soon an operator says which disk is to go on, and from one time to the next.
const RECOVER_US: (u64, u64) = (200_000, 1_500_000);

/// Orders another leader, of his choice or of the leader's; nobody waits for the answer.
pub(super) fn switch_over(asked: NodeId, cluster: &mut Cluster) {
    let mut words = vec![String::from("TF.SWITCHOVER"), String::new()];
    if cluster.random.chance(60) {
        let chosen = anybody(cluster);
        words.push(cluster.name(chosen).to_string());
    }
    cluster.trace.line(cluster.now_us, || format!("administrator @{asked}: {}", words.join(" ")));
    let connection = cluster.connect(asked);
    cluster.request(connection, words);
}

/// Of so many majorities in a hundred, those that are left have been away for a while: they know
/// nothing of the newest leaders.
const BEHIND_PERCENT: u64 = 50;
/// For how long.
const BEHIND_US: (u64, u64) = (300_000, 2_000_000);

impl Faults {
    /// Of each group, more disks are lost at once than an election can do without: what only those
    /// held is gone, and the group stands still until an operator says which disk is to go on.
    pub(super) fn lose_majority(&mut self, spared: NodeId, cluster: &mut Cluster) {
        if self.disaster || !self.flipped.is_empty() || !all_count(cluster) {
            return;
        }
        self.disaster = true;
        let groups = cluster.plan().cluster.keyspaces.iter().filter_map(|k| k.model.group());
        let tolerated = groups.map(|group| Quorum::of(group).failover_tolerates()).max();
        let mut left = cluster.nodes();
        left.retain(|node| *node != spared);
        let mut lost = Vec::new();
        for _ in 0..=tolerated.unwrap_or(0) {
            if !left.is_empty() {
                let place = cluster.random.range(0, left.len() as u64) as usize;
                lost.push(left.swap_remove(place));
            }
        }
        left.push(spared);
        if cluster.random.chance(BEHIND_PERCENT) {
            left.iter().for_each(|node| cluster.crash(*node, true));
            return self.later(Later::LoseRest(left, lost), BEHIND_US, cluster);
        }
        self.lose_rest(left, lost, cluster);
    }

    pub(super) fn lose_rest(
        &mut self,
        left: Vec<NodeId>,
        lost: Vec<NodeId>,
        cluster: &mut Cluster,
    ) {
        cluster.observations.count("majority of disks lost");
        cluster.observations.disasters.push(cluster.now_us);
        for node in lost {
            cluster.crash(node, true);
            cluster.wipe(node);
            self.restart_later(node, cluster);
        }
        for node in &left {
            self.start(*node, cluster);
        }
        self.later(Later::Recover(left), RECOVER_US, cluster);
    }

    /// Says it at the node that has the longest log, as soon as all that are left are up; and again
    /// until all disks count: a leader may die before the others have what it was named by.
    pub(super) fn recover(&mut self, left: Vec<NodeId>, cluster: &mut Cluster) {
        if all_count(cluster) {
            self.disaster = false;
            return cluster.observations.count("group recovered by an operator");
        }
        if left.iter().all(|node| cluster.is_up(*node)) {
            for (node, prefix) in longest_logs(cluster) {
                let connection = cluster.connect(node);
                cluster.request(connection, vec![String::from("TF.RECOVER"), prefix]);
            }
        }
        self.later(Later::Recover(left), RECOVER_US, cluster);
    }
}

/// For each group its node with the longest log, and its keyspace's prefix.
fn longest_logs(cluster: &Cluster) -> BTreeSet<(NodeId, String)> {
    let nodes = cluster.servers.iter().filter_map(Server::node);
    let mut longest: BTreeMap<GroupId, (EntryId, NodeId)> = BTreeMap::new();
    for (group, node) in nodes.flat_map(|node| node.groups().map(move |g| (g, node.id()))) {
        let here = (group.last(), node);
        longest.entry(group.id).and_modify(|found| *found = here.max(*found)).or_insert(here);
    }
    let prefix = |group: GroupId| {
        let keyspace = cluster.plan().cluster.keyspace(group.keyspace);
        keyspace.map_or(String::new(), |k| String::from_utf8_lossy(&k.prefix).into_owned())
    };
    longest.into_iter().map(|(group, (_, node))| (node, prefix(group))).collect()
}
