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

/// From when on, and for how long, what a slow reader is sent waits until it is read.
const SLOW_READER_US: (u64, u64) = (200_000, 1_500_000);
/// How long a slow reader takes for a byte, in microseconds: less than what a leader sends it, and
/// more.
const BYTE_US: (u64, u64) = (5, 300);

/// What is cut from what: each is counted by the frames that it cuts off.
pub(super) mod by {
    pub const BRIDGE: &str = "bridge";
    pub const DATACENTERS: &str = "datacenters cut off";
    pub const FLAP: &str = "flapping links";
    pub const HALVES: &str = "halves";
    pub const ISOLATION: &str = "isolated node";
    pub const LEADER_ISOLATION: &str = "isolated leader";
    pub const ONE_WAY: &str = "one-way cut";
    pub const RING: &str = "ring";
    pub const SINGLE_LINK: &str = "single link cut";
    pub const SPLIT: &str = "split";
}

impl Faults {
    /// Any two parts, or the datacenters, are cut from each other.
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
        let one_each = by_datacenter && !side.is_empty() && side.len() < cluster.servers.len();
        let by = if one_each { by::DATACENTERS } else { by::SPLIT };
        self.cut(&side, (true, true), by, cluster);
    }

    /// Those that are up fall into two parts of the same size, and nobody is in a majority: where
    /// their number is odd, one of them is alone.
    pub(super) fn halve(&mut self, cluster: &mut Cluster) {
        let mut nodes = cluster.nodes();
        nodes.retain(|node| cluster.is_up(*node));
        for place in (1..nodes.len()).rev() {
            nodes.swap(place, cluster.random.range(0, place as u64 + 1) as usize);
        }
        let half = nodes.len() / 2;
        let part = |node: NodeId| {
            let place = nodes.iter().position(|other| *other == node);
            place.map_or(2, |place| place.checked_div(half).unwrap_or(2))
        };
        self.cut_where(by::HALVES, cluster, |from, to| part(from) != part(to));
    }

    /// A node is cut off from all others.
    pub(super) fn isolate(&mut self, node: NodeId, cluster: &mut Cluster) {
        let leads = cluster.observations.leaderships.last().map(|start| start.node) == Some(node);
        let by = if leads { by::LEADER_ISOLATION } else { by::ISOLATION };
        self.cut(&[node], (true, true), by, cluster);
    }

    /// Cuts what goes from one side to the rest, into it, or both.
    pub(super) fn cut(
        &mut self,
        side: &[NodeId],
        (out, inwards): (bool, bool),
        by: &'static str,
        cluster: &mut Cluster,
    ) {
        cluster.trace.line(cluster.now_us, || {
            format!("{side:?} are cut off (what they send: {out}, what they get: {inwards})")
        });
        let noticed = cluster.random.chance(50);
        for inner in side {
            for outer in cluster.nodes().into_iter().filter(|node| !side.contains(node)) {
                cluster.network.set_cut_by(*inner, outer, out.then_some(by));
                cluster.network.set_cut_by(outer, *inner, inwards.then_some(by));
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
        let left: Vec<bool> = cluster.nodes().iter().map(|_| cluster.random.chance(50)).collect();
        let side = |node: NodeId| left.get(usize::from(node.0)).copied();
        self.cut_where(by::BRIDGE, cluster, |from, to| {
            from != bridge && to != bridge && side(from) != side(to)
        });
    }

    /// Everybody sees only its two neighbours: with five nodes, each sees another majority. Three
    /// nodes hear only the one before them.
    pub(super) fn ring(&mut self, cluster: &mut Cluster) {
        let nodes = cluster.servers.len() as u16;
        self.cut_where(by::RING, cluster, |from, to| {
            let step = (to.0 + nodes - from.0) % nodes;
            step != 1 && (nodes <= 3 || step != nodes - 1)
        });
    }

    /// A node and one other lose each other; everybody else sees both.
    pub(super) fn single_link(&mut self, node: NodeId, cluster: &mut Cluster) {
        let nodes = cluster.servers.len() as u64;
        let other = NodeId(((u64::from(node.0) + cluster.random.range(1, nodes)) % nodes) as u16);
        self.cut_where(by::SINGLE_LINK, cluster, |from, to| {
            (from == node && to == other) || (from == other && to == node)
        });
    }

    fn cut_where(
        &mut self,
        by: &'static str,
        cluster: &mut Cluster,
        cut: impl Fn(NodeId, NodeId) -> bool,
    ) {
        let mut links = Vec::new();
        for from in cluster.nodes() {
            links.extend(cluster.nodes().into_iter().map(|to| (from, to)));
        }
        links.retain(|(from, to)| from != to && cut(*from, *to));
        for (from, to) in &links {
            cluster.network.set_cut_by(*from, *to, Some(by));
        }
        cluster.trace.line(cluster.now_us, || {
            let links: Vec<_> = links.iter().map(|(from, to)| format!("{from}-{to}")).collect();
            format!("these links are cut: {}", links.join(" "))
        });
        self.later(Later::Mend, SPLIT_US, cluster);
    }

    pub(super) fn start_flapping(&mut self, node: NodeId, cluster: &mut Cluster) {
        let flaps = cluster.random.range(FLAPS.0, FLAPS.1) as u32;
        self.flap(node, flaps, cluster);
    }

    /// A node's links are cut at every other time.
    pub(super) fn flap(&mut self, node: NodeId, more: u32, cluster: &mut Cluster) {
        let cut = more % 2 == 1;
        cluster.trace.line(cluster.now_us, || format!("{node}'s links flap (cut: {cut})"));
        for other in cluster.nodes().into_iter().filter(|other| *other != node) {
            cluster.network.set_cut_by(node, other, cut.then_some(by::FLAP));
            cluster.network.set_cut_by(other, node, cut.then_some(by::FLAP));
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

    /// A node that reads slowly: what others send it waits in front of it, until it is quick again.
    /// Mostly a follower, so that its leader has much to send to it.
    pub(super) fn slow_reader(&mut self, node: NodeId, cluster: &mut Cluster) {
        let leader = cluster.observations.leaderships.last().map(|start| start.node);
        let nodes = cluster.servers.len() as u64;
        let node = match leader {
            Some(leader) if leader == node => {
                let step = cluster.random.range(1, nodes);
                NodeId(((u64::from(node.0) + step) % nodes) as u16)
            }
            _ => node,
        };
        let byte_us = cluster.random.range(BYTE_US.0, BYTE_US.1);
        let for_us = cluster.random.range(SLOW_READER_US.0, SLOW_READER_US.1);
        let until_us = cluster.now_us + for_us;
        cluster.trace.line(cluster.now_us, || {
            format!("{node} takes {byte_us} us to read a byte, for {for_us} us")
        });
        for other in cluster.nodes().into_iter().filter(|other| *other != node) {
            cluster.network.read_slowly(other, node, byte_us, until_us);
        }
    }
}
