//! Clocks that jump, tremble, or run at a wrong rate.

use super::{Faults, Later};
use crate::cluster::Cluster;
use replication::NodeId;

/// How far a wall clock jumps at most, either way.
pub(super) const JUMP_MS_MAX: u64 = 2_000;
/// How far off a wall clock is at most after a far jump: more than a multi-leader keyspace takes
/// for skew, and so little that it is right again within a run.
const FAR_MS_MAX: u64 = 25_000;
/// How often a far jump is one by days, where that may be: then it goes so many times as far.
const DAYS_PERCENT: u64 = 50;
const DAYS_FACTOR: i64 = 20_000;
/// How often a wall clock jumps to and fro.
pub(super) const STROBES: u32 = 12;
/// How far.
const STROBE_MS_MAX: u64 = 200;
/// From one of these jumps to the next.
const STROBE_US: (u64, u64) = (500, 30_000);
/// A monotonic clock that keeps to no bound: a tenth too fast or too slow.
pub(super) const WILD_DRIFT_PPM: i64 = 100_000;

/// A wall clock jumps, by so much at most.
pub(super) fn jump(node: NodeId, most_ms: u64, name: &'static str, cluster: &mut Cluster) {
    let by_ms = cluster.random.range(0, 2 * most_ms) as i64 - most_ms as i64;
    let now_us = cluster.now_us;
    if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
        server.clock.jump(by_ms);
        server.clock.turn_by(name);
        cluster.trace.line(now_us, || format!("{node}'s wall clock jumps by {by_ms} ms"));
    }
}

/// All wall clocks are wrong from the beginning, each by another constant.
pub(super) fn skew_all(cluster: &mut Cluster) {
    for node in cluster.nodes() {
        jump(node, JUMP_MS_MAX, "wall clocks skewed", cluster);
    }
}

/// A wall clock is set to a time that is far off.
pub(super) fn jump_far(node: NodeId, days_off: bool, cluster: &mut Cluster) {
    let mut offset_ms = cluster.random.range(0, 2 * FAR_MS_MAX) as i64 - FAR_MS_MAX as i64;
    let days = days_off && cluster.random.chance(DAYS_PERCENT);
    if days {
        offset_ms *= DAYS_FACTOR;
    }
    let now_us = cluster.now_us;
    if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
        server.clock.set_wall(offset_ms);
        server.clock.turn_by(if days { "clock days off" } else { "far clock jump" });
        cluster.trace.line(now_us, || format!("{node}'s wall clock is {offset_ms} ms off"));
    }
}

/// From now on a monotonic clock runs at another rate, that is wrong by so much at most.
pub(super) fn drift(node: NodeId, most_ppm: i64, cluster: &mut Cluster) {
    let ppm = cluster.random.range(0, 2 * most_ppm as u64 + 1) as i64 - most_ppm;
    let now_us = cluster.now_us;
    if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
        server.clock.set_drift(now_us, ppm);
        let beyond = ppm.abs() > crate::clock::DRIFT_PPM_MAX;
        cluster.observations.count(if beyond { "drift beyond the bound" } else { "drift" });
        cluster.trace.line(now_us, || format!("{node}'s monotonic clock is {ppm} ppm too fast"));
    }
}

impl Faults {
    /// A wall clock jumps to and fro.
    pub(super) fn strobe(&mut self, node: NodeId, more: u32, cluster: &mut Cluster) {
        jump(node, STROBE_MS_MAX, "clock strobe", cluster);
        if let Some(more) = more.checked_sub(1) {
            self.later(Later::Strobe(node, more), STROBE_US, cluster);
        }
    }
}
