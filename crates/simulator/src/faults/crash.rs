//! Processes that end, start again, or stand still.

use super::network::by;
use super::{Faults, Later, anybody};
use crate::cluster::Cluster;
use replication::NodeId;

/// How long a node stays down.
const DOWN_US: (u64, u64) = (20_000, 800_000);
/// The same for a process that is started again at once, as a supervisor does: it comes back into
/// the very election that it left.
const BLINK_US: (u64, u64) = (500, 20_000);
/// How long a hunted leader leads.
const FALL_US: (u64, u64) = (500, 15_000);
/// How long a process lives in a storm of crashes: often too short to recover.
const STORM_US: (u64, u64) = (200, 40_000);
/// How many crashes a storm has, beyond the first.
const STORM_CRASHES: (u64, u64) = (3, 9);
/// A process ends within so many of its steps outwards.
const STEPS_MAX: u64 = 40;
/// The same after something rare has happened to it: within what follows from that.
const RARE_STEPS_MAX: u64 = 10;
/// How often a machine goes down right after files of its log were given new names, and within
/// how many steps.
const RENAMED_PERCENT: u64 = 50;
const RENAMED_STEPS_MAX: u64 = 3;
/// How long a node stands still: longer than an election takes, most of the time.
const PAUSED_US: (u64, u64) = (50_000, 900_000);
/// How long a turn takes that stalls.
const STALL_US: (u64, u64) = (1_000, 600_000);

impl Faults {
    /// Somebody has just begun to lead: one of those who voted for him forgets what was not
    /// synced, or he himself falls silent with entries that few have.
    pub fn on_new_leader(&mut self, leader: NodeId, cluster: &mut Cluster) {
        if self.over {
            return;
        }
        if self.families.old_frames && cluster.random.chance(30) {
            cluster.release_kept_back();
        }
        if !self.families.leader_hunt {
            return;
        }
        match cluster.random.range(0, 10) {
            0..3 => {
                let node = anybody(cluster);
                if node != leader && cluster.is_up(node) {
                    cluster.crash(node, self.families.power);
                    self.later(Later::Restart(node), BLINK_US, cluster);
                }
            }
            3..6 => self.later(Later::Fall(leader, 0), FALL_US, cluster),
            _ => {}
        }
    }

    /// Something rare has happened to a node (a tail was cut, a snapshot installed, a new disk
    /// admitted): its process may end before that is on disk, or said.
    pub fn on_rare_event(&mut self, node: NodeId, cluster: &mut Cluster) {
        if !self.over && self.families.crash_points && cluster.random.chance(40) {
            let steps = cluster.random.range(0, RARE_STEPS_MAX) as u32;
            let power = self.power(cluster);
            cluster.end_after(node, steps, power);
        }
    }

    /// Files of a node's log have new names: the machine may go down before these are on disk.
    pub fn on_renamed(&mut self, node: NodeId, cluster: &mut Cluster) {
        let may = self.families.crash_points || self.families.missing_files;
        let has = cluster.server(node).is_some_and(|server| server.disk.has_new_name());
        let may = may && has && self.families.power;
        if !self.over && may && cluster.random.chance(RENAMED_PERCENT) {
            let steps = cluster.random.range(0, RENAMED_STEPS_MAX) as u32;
            cluster.end_after(node, steps, true);
        }
    }

    /// A process has ended by itself.
    pub fn on_stopped(&mut self, node: NodeId, cluster: &mut Cluster) {
        if self.dead.contains(&node) {
            return;
        }
        if self.over {
            return self.start(node, cluster);
        }
        let down = if cluster.random.chance(50) { BLINK_US } else { DOWN_US };
        self.later(Later::Restart(node), down, cluster);
    }

    fn power(&self, cluster: &mut Cluster) -> bool {
        cluster.random.chance(75) && self.families.power
    }

    pub(super) fn restart_later(&mut self, node: NodeId, cluster: &mut Cluster) {
        self.later(Later::Restart(node), DOWN_US, cluster);
    }

    pub(super) fn crash(&mut self, node: NodeId, cluster: &mut Cluster) {
        if !cluster.is_up(node) {
            return;
        }
        let power = self.power(cluster);
        cluster.crash(node, power);
        for peer in cluster.nodes() {
            if peer != node && cluster.random.chance(60) {
                let after_us = cluster.random.range(1_000, 20_000);
                cluster.lose_peer(peer, node, after_us);
            }
        }
        let down = if cluster.random.chance(30) { BLINK_US } else { DOWN_US };
        self.later(Later::Restart(node), down, cluster);
    }

    /// An operator stops a node; its machine may then go down, which takes nothing.
    pub(super) fn stop_clean(&mut self, node: NodeId, cluster: &mut Cluster) {
        if !cluster.is_up(node) {
            return;
        }
        cluster.stop_clean(node);
        if self.families.power && cluster.random.chance(50) {
            cluster.cut_power(node);
        }
        self.restart_later(node, cluster);
    }

    /// A process ends, and the next one cannot read its disk at first.
    pub(super) fn read_error(&mut self, node: NodeId, cluster: &mut Cluster) {
        if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
            server.disk.unreadable_once = true;
        }
        self.crash(node, cluster);
    }

    pub(super) fn crash_some(&mut self, cluster: &mut Cluster) {
        for node in cluster.nodes() {
            if cluster.random.chance(50) {
                self.crash(node, cluster);
            }
        }
    }

    pub(super) fn crash_all(&mut self, cluster: &mut Cluster) {
        cluster.observations.count("crash of all");
        let down = if cluster.random.chance(50) { BLINK_US } else { DOWN_US };
        for node in cluster.nodes() {
            cluster.crash(node, self.families.power);
            self.later(Later::Restart(node), down, cluster);
        }
    }

    /// The process ends within its next steps, wherever that is.
    pub(super) fn crash_point(&mut self, node: NodeId, cluster: &mut Cluster) {
        let steps = cluster.random.range(0, STEPS_MAX) as u32;
        let power = self.power(cluster);
        cluster.end_after(node, steps, power);
    }

    pub(super) fn crash_point_of_all(&mut self, cluster: &mut Cluster) {
        for node in cluster.nodes() {
            self.crash_point(node, cluster);
        }
    }

    pub(super) fn storm(&mut self, node: NodeId, cluster: &mut Cluster) {
        cluster.observations.count("storm of crashes");
        let more = cluster.random.range(STORM_CRASHES.0, STORM_CRASHES.1) as u32;
        self.fall(node, more, cluster);
    }

    /// A node crashes, and comes back for so many crashes more.
    pub(super) fn fall(&mut self, node: NodeId, more: u32, cluster: &mut Cluster) {
        let Some(more) = more.checked_sub(1) else { return self.crash(node, cluster) };
        let power = self.power(cluster);
        cluster.crash(node, power);
        self.start(node, cluster);
        self.later(Later::Fall(node, more), STORM_US, cluster);
    }
}

/// How long a node has not heard the leader before the rest of it happens.
const USURP_US: (u64, u64) = (100_000, 900_000);

impl Faults {
    /// A node has not heard the leader for long, and would lead; then the leader is cut off, and
    /// those who have heard it until now are started anew: what they have promised to it is all
    /// that keeps them from voting.
    pub(super) fn usurp(&mut self, node: NodeId, cluster: &mut Cluster) {
        let leader = cluster.observations.leaderships.last().map(|start| start.node);
        let leader = leader.unwrap_or(node);
        let nodes = cluster.servers.len() as u64;
        let heir = ((u64::from(leader.0) + cluster.random.range(1, nodes)) % nodes) as u16;
        let heir = NodeId(heir);
        cluster.network.set_cut_by(leader, heir, Some(by::SINGLE_LINK));
        cluster.network.set_cut_by(heir, leader, Some(by::SINGLE_LINK));
        self.later(Later::Usurp(leader, heir), USURP_US, cluster);
    }

    pub(super) fn cut_and_restart(&mut self, leader: NodeId, heir: NodeId, cluster: &mut Cluster) {
        self.isolate(leader, cluster);
        for node in cluster.nodes().into_iter().filter(|node| ![leader, heir].contains(node)) {
            if cluster.is_up(node) {
                cluster.crash(node, false);
                self.start(node, cluster);
            }
        }
    }
}

/// From the moment at which a node dozes off to the cut: what was on its way to it arrives.
const CUT_US: (u64, u64) = (2_000, 30_000);

impl Faults {
    /// A leader stands still for less than an election takes, and is cut off before it wakes up:
    /// the answers to what it had asked before are the last that it gets, and it gets them late.
    pub(super) fn doze(&mut self, node: NodeId, cluster: &mut Cluster) {
        let leader = cluster.observations.leaderships.last().map(|start| start.node);
        let node = leader.unwrap_or(node);
        let timeout_us = cluster.plan().timing.election_timeout_us;
        let duration_us = cluster.random.range(timeout_us / 4, timeout_us);
        cluster.pause(node, duration_us);
        self.later(Later::Isolate(node), CUT_US, cluster);
    }
}

pub(super) fn pause(node: NodeId, cluster: &mut Cluster) {
    let duration = cluster.random.range(PAUSED_US.0, PAUSED_US.1);
    let leader = cluster.observations.leaderships.last().map(|start| start.node);
    let leads = leader.filter(|_| cluster.random.chance(70));
    cluster.pause(leads.unwrap_or(node), duration);
}

pub(super) fn suspend(node: NodeId, cluster: &mut Cluster) {
    let duration = cluster.random.range(PAUSED_US.0, PAUSED_US.1);
    let leader = cluster.observations.leaderships.last().map(|start| start.node);
    let leads = leader.filter(|_| cluster.random.chance(70));
    cluster.suspend(leads.unwrap_or(node), duration);
}

pub(super) fn stall_turn(node: NodeId, cluster: &mut Cluster) {
    let duration = cluster.random.range(STALL_US.0, STALL_US.1);
    let leader = cluster.observations.leaderships.last().map(|start| start.node);
    let leads = leader.filter(|_| cluster.random.chance(70));
    cluster.stall_in_turn(leads.unwrap_or(node), duration);
}
