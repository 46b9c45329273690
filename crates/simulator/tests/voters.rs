//! The voters are remembered by every disk: a power cut of all members leaves a group that elects a
//! leader, whatever was done to the voters before, and however far back a member reads its log.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover};
use replication::node::Limits;
use replication::{NodeId, Reply};
use simulator::cluster::{Cluster, Plan};
use simulator::options::group;

/// A checkpoint comes after a few dozen writes, and shows what was committed when it began.
const CHECKPOINT_BYTES: u64 = 6_000;
const VALUE_BYTES: usize = 100;
const WRITES: usize = 120;

/// Three nodes with a keyspace of which any two may go on, one of which leads.
fn cluster(limits: Limits) -> Cluster {
    let plan = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
    let mut cluster = Plan { limits, ..plan }.build(1);
    assert!(cluster.until(|cluster| cluster.leader().is_some()));
    cluster
}

fn write(cluster: &mut Cluster, node: NodeId) {
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..WRITES {
        let key = format!("k{}", number % 7);
        assert_eq!(cluster.ask(node, &["SET", &key, &value]), Some(Reply::Ok));
    }
}

/// Each gets an empty disk, one after the other, and is admitted with it.
fn replace_disks(cluster: &mut Cluster, nodes: &[NodeId]) {
    for node in nodes {
        cluster.crash(*node, false);
        cluster.wipe(*node);
        cluster.start(*node);
        assert!(cluster.until(Cluster::all_disks_count));
    }
}

/// All lose their power at once, and come back; whether they elect a leader.
fn survives_a_power_cut_of_all(cluster: &mut Cluster) -> bool {
    let before = cluster.disks();
    for node in cluster.nodes() {
        cluster.crash(node, true);
    }
    for node in cluster.nodes() {
        cluster.start(node);
    }
    assert_eq!(cluster.disks(), before);
    cluster.until(|cluster| cluster.leader().is_some() && cluster.all_disks_count())
}

/// The second new disk takes its checkpoint while it is still being brought up: after the power cut
/// it reads its log back to where the first one was admitted.
#[test]
fn disks_that_were_replaced_twice_count_after_a_power_cut_of_all() {
    let small = Limits { append_bytes_max: 500, window_bytes_max: 1_000, ..Limits::default() };
    let mut cluster = cluster(Limits { checkpoint_bytes: CHECKPOINT_BYTES, ..small });
    let leader = cluster.leader().unwrap();
    let others = cluster.others(leader);
    replace_disks(&mut cluster, &others);
    write(&mut cluster, leader);
    replace_disks(&mut cluster, &others);
    assert!(survives_a_power_cut_of_all(&mut cluster));
}

/// The log still has the entries that admitted the disks which the operator has given up.
#[test]
fn disks_that_an_operator_has_named_count_after_a_power_cut_of_all() {
    let limits = Limits { checkpoint_bytes: CHECKPOINT_BYTES, ..Limits::default() };
    let mut cluster = cluster(limits);
    let left = cluster.leader().unwrap();
    let others = cluster.others(left);
    replace_disks(&mut cluster, &others);
    for node in &others {
        cluster.crash(*node, false);
        cluster.wipe(*node);
    }
    assert!(cluster.until(|cluster| cluster.leader().is_none()));
    for node in &others {
        cluster.start(*node);
    }
    // Where the node has just noticed that it leads no longer, it may have to be said again.
    assert!((0..3).any(|_| cluster.ask(left, &["TF.RECOVER", ""]) == Some(Reply::Ok)));
    assert!(cluster.until(Cluster::all_disks_count));
    write(&mut cluster, left);
    assert!(survives_a_power_cut_of_all(&mut cluster));
}
