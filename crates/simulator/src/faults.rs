//! Which fault comes when: drawn from the seed, from the families that the seed has.

use crate::cluster::{Cluster, Timer};
use crate::options::Families;
use crate::workload::datacenter;
use replication::{GroupId, NodeId};
use std::collections::BTreeMap;

/// From one fault to the next.
const PAUSE_US: (u64, u64) = (60_000, 600_000);
/// The same for faults that aim at a new leader.
const HUNT_PAUSE_US: (u64, u64) = (5_000, 120_000);
/// How long a node stays down.
const DOWN_US: (u64, u64) = (20_000, 800_000);
/// The same for a process that is started again at once, as a supervisor does: it comes back into
/// the very election that it left.
const BLINK_US: (u64, u64) = (500, 20_000);
/// How long a hunted leader leads.
const FALL_US: (u64, u64) = (500, 15_000);
/// How long the network stays split.
const SPLIT_US: (u64, u64) = (50_000, 1_500_000);
/// How long a node stands still: longer than an election takes, most of the time.
const PAUSED_US: (u64, u64) = (50_000, 900_000);
/// How long a disk stays slow.
const SLOW_US: (u64, u64) = (100_000, 1_000_000);
/// How far a wall clock jumps at most, either way.
const JUMP_MS_MAX: u64 = 2_000;
/// The timer of the next fault; ends of faults count from 1.
const NEXT: u64 = 0;

/// How a fault ends.
#[derive(Clone, Debug)]
enum End {
    Restart(NodeId),
    /// Not an end but a delayed beginning: a new leader crashes.
    Fall(NodeId),
    Mend,
    Speed(NodeId),
}

/// What can be done to a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Crash,
    CrashSome,
    CrashAll,
    Pause,
    Isolate,
    Split,
    OneWay,
    SlowDisk,
    Jump,
    Wipe,
}

/// The faults of a run.
#[derive(Debug)]
pub struct Faults {
    families: Families,
    possible: Vec<Fault>,
    ends: BTreeMap<u64, End>,
    number: u64,
    over: bool,
    /// Whether a disk was wiped.
    wiped: bool,
}

impl Faults {
    /// The first fault comes after a pause.
    pub fn new(families: Families, cluster: &mut Cluster) -> Faults {
        let possible = [
            (families.crashes, Fault::Crash),
            (families.crashes, Fault::Crash),
            (families.crashes, Fault::CrashSome),
            (families.pauses, Fault::Pause),
            (families.pauses, Fault::Pause),
            (families.crash_of_all, Fault::CrashAll),
            (families.partitions, Fault::Isolate),
            (families.partitions, Fault::Split),
            (families.one_way, Fault::OneWay),
            (families.slow_disks, Fault::SlowDisk),
            (families.clocks, Fault::Jump),
            (families.wipes, Fault::Wipe),
        ];
        let possible = possible.iter().filter(|(on, _)| *on).map(|(_, fault)| *fault).collect();
        let faults = Faults {
            families,
            possible,
            ends: BTreeMap::new(),
            number: 0,
            over: false,
            wiped: false,
        };
        faults.plan_next(cluster);
        faults
    }

    /// A timer of these faults.
    pub fn timer(&mut self, number: u64, cluster: &mut Cluster) {
        if self.over {
            return;
        }
        match self.ends.remove(&number) {
            Some(End::Restart(node)) => cluster.start(node),
            Some(End::Fall(node)) => self.crash(node, cluster),
            Some(End::Mend) => {
                cluster.trace.line(cluster.now_us, || String::from("the network is whole"));
                cluster.network.heal();
            }
            Some(End::Speed(node)) => set_slow(cluster, node, 1),
            None if number == NEXT => {
                self.strike(cluster);
                self.plan_next(cluster);
            }
            None => {}
        }
    }

    /// Somebody has just begun to lead: one of those who voted for him forgets what was not
    /// synced, or he himself falls silent with entries that few have.
    pub fn on_new_leader(&mut self, leader: NodeId, cluster: &mut Cluster) {
        if self.over || !self.families.leader_hunt {
            return;
        }
        match cluster.random.range(0, 10) {
            0..3 => {
                let node = NodeId(cluster.random.range(0, cluster.servers.len() as u64) as u16);
                if node != leader && cluster.is_up(node) {
                    cluster.crash(node, self.families.power);
                    self.end(End::Restart(node), BLINK_US, cluster);
                }
            }
            3..6 => self.end(End::Fall(leader), FALL_US, cluster),
            _ => {}
        }
    }

    /// Everything is made whole, and stays so.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        self.over = true;
        cluster.trace.line(cluster.now_us, || String::from("everything is healed"));
        cluster.network.heal();
        cluster.network.weather = crate::network::Weather::calm();
        for node in cluster.nodes() {
            set_slow(cluster, node, 1);
            if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
                server.clock.set_right();
            }
            cluster.start(node);
        }
    }

    fn plan_next(&self, cluster: &mut Cluster) {
        let hunt = self.families.leader_hunt && cluster.random.chance(40);
        let pause = if hunt { HUNT_PAUSE_US } else { PAUSE_US };
        let after = cluster.random.range(pause.0, pause.1);
        cluster.set_timer(after, Timer::Fault(NEXT));
    }

    fn end(&mut self, end: End, after: (u64, u64), cluster: &mut Cluster) {
        self.number += 1;
        self.ends.insert(self.number, end);
        let after_us = cluster.random.range(after.0, after.1);
        cluster.set_timer(after_us, Timer::Fault(self.number));
    }

    /// Whom the next fault hits: anybody, or whoever began to lead last.
    fn target(&self, cluster: &mut Cluster) -> NodeId {
        let last = cluster.observations.leaderships.last().map(|leadership| leadership.node);
        match last {
            Some(node) if self.families.leader_hunt && cluster.random.chance(60) => node,
            _ => NodeId(cluster.random.range(0, cluster.servers.len() as u64) as u16),
        }
    }

    fn strike(&mut self, cluster: &mut Cluster) {
        let place = cluster.random.range(0, self.possible.len() as u64) as usize;
        let Some(fault) = self.possible.get(place).copied() else { return };
        let node = self.target(cluster);
        match fault {
            Fault::Crash => self.crash(node, cluster),
            Fault::CrashSome => {
                for node in cluster.nodes() {
                    if cluster.random.chance(50) {
                        self.crash(node, cluster);
                    }
                }
            }
            Fault::Pause => {
                let duration = cluster.random.range(PAUSED_US.0, PAUSED_US.1);
                let leader = cluster.observations.leaderships.last().map(|start| start.node);
                let leads = leader.filter(|_| cluster.random.chance(70));
                cluster.pause(leads.unwrap_or(node), duration);
            }
            Fault::CrashAll => {
                cluster.observations.count("crash of all");
                let down = if cluster.random.chance(50) { BLINK_US } else { DOWN_US };
                for node in cluster.nodes() {
                    cluster.crash(node, self.families.power);
                    self.end(End::Restart(node), down, cluster);
                }
            }
            Fault::Isolate => self.cut(&[node], true, true, cluster),
            Fault::OneWay => {
                let inwards = cluster.random.chance(50);
                self.cut(&[node], inwards, !inwards, cluster);
            }
            Fault::Split => self.split(cluster),
            Fault::SlowDisk => {
                let factor = cluster.random.range(5, 100);
                set_slow(cluster, node, factor);
                self.end(End::Speed(node), SLOW_US, cluster);
            }
            Fault::Jump => jump(cluster, node),
            Fault::Wipe => self.wipe(node, cluster),
        }
    }

    fn crash(&mut self, node: NodeId, cluster: &mut Cluster) {
        if !cluster.is_up(node) {
            return;
        }
        let power = cluster.random.chance(75) && self.families.power;
        cluster.crash(node, power);
        for peer in cluster.nodes() {
            if peer != node && cluster.random.chance(60) {
                let after_us = cluster.random.range(1_000, 20_000);
                cluster.lose_peer(peer, node, after_us);
            }
        }
        let down = if cluster.random.chance(30) { BLINK_US } else { DOWN_US };
        self.end(End::Restart(node), down, cluster);
    }

    /// Halves, any two parts, or the datacenters are cut from each other.
    fn split(&mut self, cluster: &mut Cluster) {
        let nodes = cluster.nodes();
        let by_datacenter = cluster.random.chance(40);
        let side: Vec<NodeId> = nodes
            .into_iter()
            .filter(|node| {
                let coin = cluster.random.chance(50);
                if by_datacenter { datacenter(cluster, *node).0 == 0 } else { coin }
            })
            .collect();
        self.cut(&side, true, true, cluster);
    }

    /// Cuts what goes from one side to the rest, into it, or both.
    fn cut(&mut self, side: &[NodeId], out: bool, inwards: bool, cluster: &mut Cluster) {
        cluster.trace.line(cluster.now_us, || {
            format!("{side:?} are cut off (what they send: {out}, what they get: {inwards})")
        });
        cluster.observations.count("partition");
        let noticed = cluster.random.chance(50);
        for inner in side {
            for outer in cluster.nodes().into_iter().filter(|node| !side.contains(node)) {
                cluster.network.set_cut(*inner, outer, out);
                cluster.network.set_cut(outer, *inner, inwards);
                if noticed && cluster.random.chance(70) {
                    let after_us = cluster.random.range(0, 100_000);
                    cluster.lose_peer(*inner, outer, after_us);
                    cluster.lose_peer(outer, *inner, after_us);
                }
            }
        }
        self.end(End::Mend, SPLIT_US, cluster);
    }

    /// A disk is lost only where nothing is lost with it: everybody is up, connected, has the same
    /// state, and counts with the disk that he has in everybody's eyes. Without a leader nobody
    /// tells when a lost disk is made good, so there it happens once.
    fn wipe(&mut self, node: NodeId, cluster: &mut Cluster) {
        let first = !core::mem::replace(&mut self.wiped, true);
        let whole = cluster.network.is_whole() && cluster.nodes().iter().all(|n| cluster.is_up(*n));
        let recovered = first || leader_groups(cluster, node) > 0;
        if !recovered || !whole || !all_count(cluster) || !crate::convergence::all_equal(cluster) {
            self.wiped = !first;
            return;
        }
        cluster.crash(node, true);
        cluster.wipe(node);
        self.end(End::Restart(node), DOWN_US, cluster);
    }
}

/// Whether every member of every group with a leader counts, with the disk that it has, in the eyes
/// of all members. While a group is being created that is not so, and a lost disk then means that
/// an operator must begin anew.
fn all_count(cluster: &Cluster) -> bool {
    let nodes: Vec<_> = cluster.servers.iter().filter_map(|server| server.node()).collect();
    nodes.iter().flat_map(|node| node.groups()).all(|group| {
        let voters = group.voters();
        group.members.iter().all(|member| {
            let disk = nodes.iter().find(|node| node.id() == *member).map(|n| n.incarnation());
            disk.is_some_and(|disk| voters.contains(&(*member, disk)))
        })
    })
}

/// How many groups with a leader a node is in.
fn leader_groups(cluster: &Cluster, node: NodeId) -> usize {
    let mut groups = replication::replicas::groups(&cluster.plan().cluster, node);
    groups.retain(|(group, _)| group.datacenter != GroupId::EVERYWHERE);
    groups.len()
}

fn set_slow(cluster: &mut Cluster, node: NodeId, factor: u64) {
    let now_us = cluster.now_us;
    if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
        if server.disk.slow_factor != factor {
            cluster.trace.line(now_us, || format!("{node}'s disk takes {factor} times as long"));
        }
        server.disk.slow_factor = factor;
    }
}

fn jump(cluster: &mut Cluster, node: NodeId) {
    let by_ms = cluster.random.range(0, 2 * JUMP_MS_MAX) as i64 - JUMP_MS_MAX as i64;
    let now_us = cluster.now_us;
    if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
        server.clock.jump(by_ms);
        cluster.trace.line(now_us, || format!("{node}'s wall clock jumps by {by_ms} ms"));
    }
}
