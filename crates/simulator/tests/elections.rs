//! Two candidates miss each other, however slow the disks are that their votes wait for: the draws
//! of their waits need not be further apart than a question takes to arrive.
#![allow(clippy::expect_used)]

use replication::NodeId;
use replication::keyspace::{Acks, Durability, Failover, GroupOptions};
use replication::node::Timing;
use simulator::cluster::by_hand::{MS, PATIENCE_US};
use simulator::cluster::{Cluster, Plan};
use simulator::disk::Pace;
use simulator::options::group;

const SEEDS: u64 = 100;
/// So many of them elect somebody in the first epoch that they try.
const AT_ONCE: usize = 95;
/// A disk on which two waits of two candidates are rarely further apart than a vote takes.
const SYNC_US: (u64, u64) = (40 * MS, 80 * MS);
/// After which everybody has all that there is, on his disk.
const QUIET_US: u64 = 2_000 * MS;

/// Three nodes, two of which may go on, timed like a server.
fn cluster(seed: u64, durability: Durability) -> Cluster {
    let group = GroupOptions { durability, ..group(3, Acks::Majority, Failover::Available) };
    let pace = Pace { sync_us: SYNC_US, ..Pace::quick() };
    Plan { timing: Timing::default(), pace, ..Plan::of_three(group) }.build(seed)
}

/// Who leads in a later epoch than this one, as soon as somebody does, and in which.
fn elected(cluster: &mut Cluster, epoch: u64) -> (NodeId, u64) {
    let leader = cluster.within(PATIENCE_US, |cluster| cluster.leader_above(epoch));
    let leader = leader.expect("somebody leads");
    (leader, cluster.epoch(leader))
}

/// In how many seeds what happens to a group's leader is made good in the very next epoch.
fn at_once(durability: Durability, happens: impl Fn(&mut Cluster, NodeId)) -> usize {
    let is_next = |seed: &u64| {
        let mut cluster = cluster(*seed, durability);
        let (leader, epoch) = elected(&mut cluster, 0);
        cluster.pass(QUIET_US);
        happens(&mut cluster, leader);
        elected(&mut cluster, epoch).1 == epoch + 1
    };
    (1..=SEEDS).filter(is_next).count()
}

/// All lose power, and all but the leader are back at once.
fn only_followers_come_back(cluster: &mut Cluster, leader: NodeId) {
    for node in cluster.nodes() {
        cluster.crash(node, true);
    }
    for node in cluster.others(leader) {
        cluster.start(node);
    }
}

#[test]
fn a_failover_is_one_election() {
    for durability in [Durability::Fsync, Durability::Interval] {
        let count = at_once(durability, |cluster, leader| cluster.crash(leader, false));
        assert!(count >= AT_ONCE, "{durability:?}: {count} of {SEEDS}");
    }
}

#[test]
fn a_power_cut_that_the_leader_does_not_survive_is_made_good_by_one_election() {
    let count = at_once(Durability::Fsync, only_followers_come_back);
    assert!(count >= AT_ONCE, "{count} of {SEEDS}");
}

/// Both wait for somebody who has lost nothing, with each other's word in their hands.
#[test]
fn two_who_may_have_lost_something_do_not_stand_against_each_other() {
    let count = at_once(Durability::Interval, only_followers_come_back);
    assert!(count >= AT_ONCE, "{count} of {SEEDS}");
}
