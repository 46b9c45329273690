//! What is left of a log after a restart begins somewhere within a file: mostly in front of the
//! checkpoint that it belongs to. A member knows which entry is in front of what it has left, and
//! by that finds that another log is the same: it is brought up from the log, and nobody takes it
//! for a member of another history.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover};
use replication::leader_follower::Group;
use replication::node::Limits;
use replication::version::EntryId;
use replication::{NodeId, Reply};
use simulator::cluster::by_hand::MS;
use simulator::cluster::{Cluster, Plan};
use simulator::convergence;
use simulator::options::group;

/// The member that is away.
const AWAY: NodeId = NodeId(2);
fn cluster(seed: u64) -> Cluster {
    let plan = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
    // A checkpoint takes some dozens of writes, and is not the whole of a file.
    let limits = Limits { checkpoint_bytes: 3_000, image_bytes_max: 1_000, ..Limits::default() };
    let mut cluster = Plan { limits, ..plan }.build(seed);
    assert!(cluster.until(|cluster| cluster.leader().is_some()));
    cluster
}

/// So many writes, each acknowledged.
fn write(cluster: &mut Cluster, count: u64) {
    for number in 0..count {
        assert!(cluster.until(|cluster| cluster.leader().is_some()));
        let leader = cluster.leader().unwrap();
        let words = ["SET", &format!("k{}", number % 10), &"v".repeat(100)];
        assert_eq!(cluster.ask(leader, &words), Some(Reply::Ok));
    }
}

fn restart(cluster: &mut Cluster, node: NodeId) {
    cluster.crash(node, false);
    cluster.start(node);
}

fn count(cluster: &Cluster, what: &str) -> u64 {
    cluster.observations.counts.get(what).copied().unwrap_or(0)
}

/// The entry in front of what a node has left of its log.
fn start(cluster: &Cluster, node: NodeId) -> EntryId {
    let start = |group: &Group| group.id_at(group.log_start());
    cluster.group(node).and_then(start).unwrap()
}

#[test]
fn no_snapshot_is_sent_where_all_have_restarted_and_the_log_reaches_back() {
    let mut staged = 0;
    for seed in 1..=40 {
        let mut cluster = cluster(seed);
        write(&mut cluster, 40 + seed);
        cluster.pass(100 * MS);
        let has = cluster.last_index(AWAY);
        cluster.crash(AWAY, false);
        write(&mut cluster, 20);
        for node in cluster.others(AWAY) {
            restart(&mut cluster, node);
        }
        assert!(cluster.until(|cluster| cluster.leader().is_some()));
        let begins = start(&cluster, cluster.leader().unwrap());
        cluster.start(AWAY);
        // What it does not know to be committed has to be compared.
        let is_compared = begins.index > cluster.commit(AWAY);
        assert!(cluster.until(convergence::all_equal), "seed {seed}");
        if begins.index <= has {
            staged += u64::from(is_compared);
            assert_eq!(count(&cluster, "snapshot installed"), 0, "seed {seed}: after {begins:?}");
        }
    }
    assert!(staged >= 3, "{staged}");
}

/// An operator goes on with one disk, whose process has restarted: its history is a new one. The
/// member that was away knows no more to be committed than the entry in front of what the leader
/// has left, and that is the same on both.
#[test]
fn a_member_that_knows_the_entry_in_front_of_a_log_has_not_diverged_from_it() {
    let mut staged = 0;
    for written in 30..=110 {
        let mut cluster = cluster(1);
        write(&mut cluster, written);
        cluster.pass(100 * MS);
        let known = cluster.group(AWAY).and_then(|group| group.id_at(group.commit())).unwrap();
        cluster.crash(AWAY, false);
        write(&mut cluster, 30);
        let [left, lost] = [cluster.leader().unwrap(), NodeId(0)];
        let lost = if left == lost { NodeId(1) } else { lost };
        cluster.crash(lost, false);
        restart(&mut cluster, left);
        let begins = start(&cluster, left);
        if begins.index > known.index {
            continue;
        }
        cluster.wipe(lost);
        cluster.start(lost);
        cluster.pass(1_000 * MS);
        assert!((0..5).any(|_| cluster.ask(left, &["TF.RECOVER", ""]) == Some(Reply::Ok)));
        assert!(cluster.until(|cluster| cluster.leader().is_some()));
        let installed = count(&cluster, "snapshot installed");
        staged += u64::from(begins.index == known.index);
        cluster.start(AWAY);
        assert!(cluster.until(Cluster::all_disks_count));
        assert!(cluster.until(convergence::all_equal), "{written} writes");
        let installed = count(&cluster, "snapshot installed") - installed;
        assert_eq!(installed, 0, "{written} writes: {begins:?} was in front of the log");
    }
    assert!(staged >= 1, "{staged}");
}
