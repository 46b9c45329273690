//! Links that are cut, in all the shapes that have broken real systems (bridge and majorities' ring
//! are Jepsen's, swizzle-clogging is FoundationDB's), come and go, or hold everything up.

use super::{Faults, Later};
use crate::cluster::Cluster;
use crate::workload::datacenter;
use replication::NodeId;

/// How long the network stays split.
const SPLIT_US: (u64, u64) = (50_000, 1_500_000);
/// From one flap of a node's links to the next: shorter and longer than an election takes.
const FLAP_US: (u64, u64) = (5_000, 150_000);
/// How often they flap.
const FLAPS: (u64, u64) = (4, 20);
/// Within how long nodes are clogged, one after another, and come free again.
const SWIZZLE_US: u64 = 800_000;

impl Faults {
    /// Halves, any two parts, or the datacenters are cut from each other.
    pub(super) fn split(&mut self, cluster: &mut Cluster) {
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
    pub(super) fn cut(&mut self, side: &[NodeId], out: bool, inwards: bool, cluster: &mut Cluster) {
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
        self.later(Later::Mend, SPLIT_US, cluster);
    }

    /// Two parts see each other only through one node.
    pub(super) fn bridge(&mut self, bridge: NodeId, cluster: &mut Cluster) {
        cluster.observations.count("bridge");
        let left: Vec<bool> = cluster.nodes().iter().map(|_| cluster.random.chance(50)).collect();
        let side = |node: NodeId| left.get(usize::from(node.0)).copied();
        self.cut_where(cluster, |from, to| {
            from != bridge && to != bridge && side(from) != side(to)
        });
    }

    /// Everybody sees only its two neighbours: with five nodes, each sees another majority. Three
    /// nodes hear only the one before them.
    pub(super) fn ring(&mut self, cluster: &mut Cluster) {
        cluster.observations.count("ring");
        let nodes = cluster.servers.len() as u16;
        self.cut_where(cluster, |from, to| {
            let step = (to.0 + nodes - from.0) % nodes;
            step != 1 && (nodes <= 3 || step != nodes - 1)
        });
    }

    /// A node and one other lose each other; everybody else sees both.
    pub(super) fn single_link(&mut self, node: NodeId, cluster: &mut Cluster) {
        cluster.observations.count("single link cut");
        let nodes = cluster.servers.len() as u64;
        let other = NodeId(((u64::from(node.0) + cluster.random.range(1, nodes)) % nodes) as u16);
        self.cut_where(cluster, |from, to| {
            (from == node && to == other) || (from == other && to == node)
        });
    }

    fn cut_where(&mut self, cluster: &mut Cluster, cut: impl Fn(NodeId, NodeId) -> bool) {
        let mut links = Vec::new();
        for from in cluster.nodes() {
            links.extend(cluster.nodes().into_iter().map(|to| (from, to)));
        }
        links.retain(|(from, to)| from != to && cut(*from, *to));
        for (from, to) in &links {
            cluster.network.set_cut(*from, *to, true);
        }
        cluster.trace.line(cluster.now_us, || {
            let links: Vec<_> = links.iter().map(|(from, to)| format!("{from}-{to}")).collect();
            format!("these links are cut: {}", links.join(" "))
        });
        self.later(Later::Mend, SPLIT_US, cluster);
    }

    pub(super) fn start_flapping(&mut self, node: NodeId, cluster: &mut Cluster) {
        cluster.observations.count("flapping links");
        let flaps = cluster.random.range(FLAPS.0, FLAPS.1) as u32;
        self.flap(node, flaps, cluster);
    }

    /// A node's links are cut at every other time.
    pub(super) fn flap(&mut self, node: NodeId, more: u32, cluster: &mut Cluster) {
        let cut = more % 2 == 1;
        cluster.trace.line(cluster.now_us, || format!("{node}'s links flap (cut: {cut})"));
        for other in cluster.nodes().into_iter().filter(|other| *other != node) {
            cluster.network.set_cut(node, other, cut);
            cluster.network.set_cut(other, node, cut);
            if cut && cluster.random.chance(30) {
                cluster.lose_peer(node, other, 0);
                cluster.lose_peer(other, node, 0);
            }
        }
        if let Some(more) = more.checked_sub(1) {
            self.later(Later::Flap(node, more), FLAP_US, cluster);
        }
    }

    /// Swizzle-clogging: some nodes are clogged one by one, and come free in another order.
    pub(super) fn swizzle(&mut self, cluster: &mut Cluster) {
        cluster.observations.count("swizzle-clog");
        for node in cluster.nodes() {
            if cluster.random.chance(60) {
                let until_us = cluster.now_us + cluster.random.range(SWIZZLE_US, 2 * SWIZZLE_US);
                self.later(Later::Clog(node, until_us), (0, SWIZZLE_US), cluster);
            }
        }
    }

    pub(super) fn clog(&mut self, node: NodeId, until_us: u64, cluster: &mut Cluster) {
        cluster.trace.line(cluster.now_us, || {
            format!("{node} is clogged until {}.{:06}", until_us / 1_000_000, until_us % 1_000_000)
        });
        for other in cluster.nodes().into_iter().filter(|other| *other != node) {
            cluster.network.clog(node, other, until_us);
            cluster.network.clog(other, node, until_us);
        }
    }
}
