//! Disks that are slow, fail, fill up, lose what they held, or lie.
//!
//! **The atlas.** What destroys acknowledged bytes must leave the cluster a good copy: a committed
//! entry stays on more than N - E voters whose disks tell the truth. A wipe and a flipped bit
//! announce themselves (another incarnation, a wrong checksum) and count for nothing until the
//! others have brought the node up to date; so they are allowed at any time, one node after
//! another. A disk that lies does not, and its node goes on under its old name: it has forgotten
//! entries that it acknowledged and votes that it gave. That is survived only where all other
//! members hold durably all that it held, epochs included, and nothing that it forgot was only
//! its own (the count of its starts, for example): so the lie begins after a process has started,
//! ends with the same process, and comes out only in such a moment.

use super::{Faults, Later};
use crate::cluster::{Cluster, Server};
use crate::options::is_available;
use replication::{GroupId, Node, NodeId};

/// How long a disk stays slow.
const SLOW_US: (u64, u64) = (100_000, 1_000_000);
/// For how long a disk does nothing.
const STALL_US: (u64, u64) = (500_000, 5_000_000);
/// How long a disk stays full.
const FULL_US: (u64, u64) = (50_000, 1_500_000);
/// How long a disk lies before that may come out, and from one attempt to the next.
const LIE_US: (u64, u64) = (1_000, 60_000);

/// So often does the leader fall soon after another node has lost its disk.
const LEADER_FALLS_PERCENT: u64 = 50;
/// How soon.
const FALLS_AFTER_US: (u64, u64) = (500, 100_000);

impl Faults {
    /// Starts a node, whose disk may be damaged.
    pub(super) fn start(&mut self, node: NodeId, cluster: &mut Cluster) {
        if cluster.is_leaving(node) {
            // Whoever is told to stop does, sooner or later.
            cluster.stop_clean(node);
        }
        cluster.start(node);
        if cluster.is_up(node) {
            self.flipped.remove(&node);
        }
    }

    pub(super) fn slow_disk(&mut self, node: NodeId, cluster: &mut Cluster) {
        let factor = cluster.random.range(5, 100);
        cluster
            .trace
            .line(cluster.now_us, || format!("{node}'s disk takes {factor} times as long"));
        if let Some(server) = server(node, cluster) {
            server.disk.slow_factor = factor;
        }
        self.later(Later::DiskWell(node), SLOW_US, cluster);
    }

    /// Whatever is written while the disk is full fails, and ends the process, again and again.
    pub(super) fn fill(&mut self, node: NodeId, cluster: &mut Cluster) {
        cluster.trace.line(cluster.now_us, || format!("{node}'s disk is full"));
        if let Some(server) = server(node, cluster) {
            server.disk.full = true;
        }
        self.later(Later::DiskWell(node), FULL_US, cluster);
    }

    /// A disk is lost at any time at which everybody is up and counts, with the disk that he has,
    /// in everybody's eyes: so one after another. What it held alone with others stays with those,
    /// and what it had promised is not forgotten, as a new disk counts for nothing. Without a
    /// leader nobody tells when a lost disk is made good: there it happens once, and only where
    /// everybody is connected and has the same state.
    pub(super) fn wipe(&mut self, node: NodeId, cluster: &mut Cluster) {
        if !self.may_lose(node, cluster) {
            return;
        }
        cluster.crash(node, true);
        cluster.wipe(node);
        self.restart_later(node, cluster);
        self.fall_too(node, cluster);
    }

    /// Soon after that the leader falls as well.
    fn fall_too(&mut self, node: NodeId, cluster: &mut Cluster) {
        let leader = cluster.observations.leaderships.last().map(|start| start.node);
        if let Some(leader) = leader.filter(|leader| *leader != node)
            && self.families.leader_hunt
            && cluster.random.chance(LEADER_FALLS_PERCENT)
        {
            self.later(Later::Fall(leader, 0), FALLS_AFTER_US, cluster);
        }
    }

    pub(super) fn may_lose(&mut self, node: NodeId, cluster: &Cluster) -> bool {
        let leads = leader_groups(cluster, node) > 0;
        let calm = leads || (is_whole(cluster) && crate::convergence::all_equal(cluster));
        let calm = calm && !self.disaster;
        let may = (leads || !self.wiped) && calm && self.flipped.is_empty() && all_count(cluster);
        self.wiped |= may;
        may
    }

    /// A bit is flipped under the same conditions as a disk is lost.
    pub(super) fn flip_bit(&mut self, node: NodeId, cluster: &mut Cluster) {
        if !self.may_lose(node, cluster) {
            return;
        }
        cluster.crash(node, false);
        if cluster.flip_bit(node) {
            self.flipped.insert(node);
        }
        self.restart_later(node, cluster);
        self.fall_too(node, cluster);
    }

    /// A node does not start from its log: right, where that is damaged. Its operator gives it an
    /// empty disk.
    ///
    /// # Errors
    /// It was not damaged.
    pub fn on_cannot_start(
        &mut self,
        node: NodeId,
        why: String,
        cluster: &mut Cluster,
    ) -> Result<(), String> {
        if self.dead.contains(&node) {
            return Ok(());
        }
        if !self.flipped.remove(&node) {
            return Err(format!("{node} cannot start: {why}"));
        }
        cluster.trace.line(cluster.now_us, || format!("{node} refuses its damaged log: {why}"));
        cluster.observations.count("damaged log refused");
        cluster.wipe(node);
        cluster.start(node);
        Ok(())
    }

    /// From now on, a disk keeps nothing of what it says is synced, until that comes out.
    pub(super) fn lie(&mut self, node: NodeId, cluster: &mut Cluster) {
        let now_us = cluster.now_us;
        let Some(server) = server(node, cluster) else { return };
        let process = server.process_number;
        if server.disk.is_idle() && server.node().is_some() && !server.disk.has_backup() {
            server.disk.back_up();
            cluster.trace.line(now_us, || format!("{node}'s disk begins to lie"));
            self.later(Later::GoBack(node, process), LIE_US, cluster);
        }
    }

    /// The lie comes out with a crash, if the atlas allows it now; else it is tried again.
    pub(super) fn go_back(&mut self, node: NodeId, process: u64, cluster: &mut Cluster) {
        let allowed = all_hold_all(cluster);
        let Some(server) = server(node, cluster) else { return };
        if server.process_number != process || !server.disk.has_backup() {
            return;
        }
        if !allowed {
            return self.later(Later::GoBack(node, process), LIE_US, cluster);
        }
        let Some(backup) = server.disk.take_backup() else { return };
        if server.disk.go_back(backup) {
            cluster.observations.count("disk lied");
            cluster.observations.wipes.push((node, cluster.now_us));
        }
        cluster.trace.line(cluster.now_us, || format!("{node}'s disk has lied"));
        cluster.crash(node, true);
        self.restart_later(node, cluster);
    }
}

pub(super) fn server(node: NodeId, cluster: &mut Cluster) -> Option<&mut Server> {
    cluster.servers.get_mut(usize::from(node.0))
}

/// A disk is quick again and has space.
pub(super) fn make_well(node: NodeId, cluster: &mut Cluster) {
    cluster.trace.line(cluster.now_us, || format!("{node}'s disk is well again"));
    if let Some(server) = server(node, cluster) {
        server.disk.slow_factor = 1;
        server.disk.full = false;
    }
}

/// The next thing that a disk does takes long.
pub(super) fn stall(node: NodeId, cluster: &mut Cluster) {
    let stall_us = cluster.random.range(STALL_US.0, STALL_US.1);
    cluster.trace.line(cluster.now_us, || format!("{node}'s disk stalls for {stall_us} us"));
    if let Some(server) = server(node, cluster) {
        server.disk.stall_us = stall_us;
    }
}

/// The next write or sync fails.
pub(super) fn fail_once(node: NodeId, cluster: &mut Cluster) {
    if let Some(server) = server(node, cluster) {
        server.disk.fails_once = true;
    }
}

/// Whether everybody is up and connected.
fn is_whole(cluster: &Cluster) -> bool {
    cluster.network.is_whole() && cluster.nodes().iter().all(|node| cluster.is_up(*node))
}

/// Whether all members of every group hold durably the same log, in the same epoch, and nobody has
/// anything that is not synced. All of them have an entry of that epoch, so that its election is
/// over for everybody: a vote that is forgotten now cannot be given again.
pub(super) fn all_hold_all(cluster: &Cluster) -> bool {
    let nodes: Vec<&Node> = cluster.servers.iter().filter_map(Server::node).collect();
    let mut groups = std::collections::BTreeMap::new();
    let same = nodes.iter().flat_map(|node| node.groups()).all(|group| {
        let held = (group.last(), group.epoch(), group.commit());
        let elected = held.0.epoch == held.1 && held.0.index == held.2;
        elected && *groups.entry(group.id).or_insert(held) == held
    });
    same && nodes.len() == cluster.servers.len()
        && cluster.servers.iter().all(|server| server.disk.is_idle())
        && all_count(cluster)
}

/// Whether every member of every group with a leader counts, with the disk that it has, in the eyes
/// of all members, and trusts its own log. While a group is being created that is not so, and a
/// lost disk then means that an operator must begin anew; and beside a lost disk, one that may have
/// lost its last second (a lie has come out) leaves too few for an election, unless failover goes
/// before safety.
pub(super) fn all_count(cluster: &Cluster) -> bool {
    let available = is_available(&cluster.plan().cluster);
    let nodes: Vec<_> = cluster.servers.iter().filter_map(|server| server.node()).collect();
    let all_are_up = nodes.len() == cluster.servers.len();
    all_are_up
        && nodes.iter().flat_map(|node| node.groups()).all(|group| {
            let voters = group.voters();
            (available || !group.is_suspect())
                && group.members.iter().all(|member| {
                    let disk =
                        nodes.iter().find(|node| node.id() == *member).map(|n| n.incarnation());
                    disk.is_some_and(|disk| voters.contains(&(*member, disk)))
                })
        })
}

/// How many groups with a leader a node is in.
pub(super) fn leader_groups(cluster: &Cluster, node: NodeId) -> usize {
    let mut groups = replication::replicas::groups(&cluster.plan().cluster, node);
    groups.retain(|(group, _)| group.datacenter != GroupId::EVERYWHERE);
    groups.len()
}
