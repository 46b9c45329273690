//! Whether a seed's leaders hold leases, and how long these are: drawn apart from everything else.

use crate::clock;
use replication::keyspace::{Cluster, Model};
use replication::node::Timing;
use replication::random::Random;

/// After how long without its disk's word a leader hands over.
pub const DISK_STALL_MS: u64 = 300;
/// So much faster may one clock run than another: one at each end of what clocks drift.
pub const DRIFT_APART_PPM: u64 = 2 * clock::DRIFT_PPM_MAX.unsigned_abs();
/// In so many of a hundred seeds leaders hold leases.
const LEASE_PERCENT: u64 = 70;
/// A lease's share of the election timeout, in hundredths.
const LEASE_SHARE: (u64, u64) = (40, 100);
/// Keeps these draws apart from all others of a seed.
const LEASE_SEED: u64 = 0x1EA5_E000;

/// Draws them.
pub fn draw(seed: u64, cluster: &mut Cluster, timing: &mut Timing) {
    let mut random = Random::new(seed ^ LEASE_SEED);
    let leases = random.chance(LEASE_PERCENT);
    let share = random.range(LEASE_SHARE.0, LEASE_SHARE.1);
    timing.lease_us = timing.election_timeout_us * share / 100;
    timing.clock_drift_ppm = DRIFT_APART_PPM;
    for keyspace in &mut cluster.keyspaces {
        match &mut keyspace.model {
            Model::LeaderFollower(options) => options.group.leases = leases,
            Model::MultiLeader(options) => options.group.leases = leases,
            Model::Leaderless(_) => {}
        }
    }
}
