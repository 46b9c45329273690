//! Whether a seed's leaders hold leases, and how long these are: drawn apart from everything else.

use crate::clock;
use replication::NodeId;
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

/// In so many of a hundred seeds nodes do not promise alike.
const TERMS_PERCENT: u64 = 40;
/// Then a process's lease is such a share of the election timeout, in hundredths.
const TERM_SHARE: (u64, u64) = (10, 100);
/// And so much wider at most is the bound on how far clocks drift apart that it was given.
const TERM_DRIFT_PPM: u64 = 300_000;

/// What the processes of a run promise to their leaders: all the same, or each as it was drawn,
/// also another one on the same disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    seed: Option<u64>,
}

impl Terms {
    /// Those of a seed.
    pub fn draw(seed: u64) -> Terms {
        let differ = Random::new(seed ^ LEASE_SEED ^ u64::MAX).chance(TERMS_PERCENT);
        Terms { seed: differ.then_some(seed) }
    }

    /// The timing of a process: the how manieth it is on its disk.
    pub fn of(self, timing: Timing, node: NodeId, processes: u64) -> Timing {
        let Some(seed) = self.seed else { return timing };
        let name = u64::from(node.0) << 32 | processes;
        let mut random = Random::new(seed ^ name.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let share = random.range(TERM_SHARE.0, TERM_SHARE.1);
        let wider = if random.chance(50) { random.range(0, TERM_DRIFT_PPM) } else { 0 };
        Timing {
            lease_us: timing.election_timeout_us * share / 100,
            clock_drift_ppm: DRIFT_APART_PPM + wider,
            ..timing
        }
    }
}

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
