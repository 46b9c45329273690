//! What a node's own log holds longer than it wants to, and what it has forgotten.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover};
use replication::node::Limits;
use replication::{KeyspaceId, NodeId, Reply};
use simulator::cluster::by_hand::MS;
use simulator::cluster::{Cluster, Plan};
use simulator::options::group;

/// Processes that run between the backup and its return.
const PROCESSES: u64 = 3;

fn cluster(seed: u64, limits: Limits) -> Cluster {
    let plan = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
    Plan { limits, ..plan }.build(seed)
}

/// A node whose disk was restored from a backup that an earlier process made has forgotten how
/// often it had started. Its peers must not take it for one of the processes that they have met.
#[test]
fn a_restored_node_is_heard_and_told_its_own_answers() {
    for seed in 1..=20 {
        let mut cluster = cluster(seed, Limits::default());
        cluster.pass(1_000 * MS);
        let leader = cluster.leader().unwrap();
        let node = cluster.others(leader)[0];
        let place = usize::from(node.0);
        let backup = cluster.servers[place].disk.clone();
        for process in 0..PROCESSES {
            cluster.crash(node, false);
            cluster.start(node);
            for number in 0..5 {
                let value = format!("{process}.{number}");
                assert_eq!(cluster.ask(node, &["SET", "key", &value]), Some(Reply::Ok));
            }
            cluster.pass(100 * MS);
        }
        cluster.crash(node, false);
        cluster.servers[place].disk = backup;
        cluster.start(node);
        for number in 0..5 {
            let value = format!("last.{number}");
            assert_eq!(cluster.ask(node, &["SET", "key", &value]), Some(Reply::Ok), "{seed}");
            let read = Some(Reply::Bulk(value.into_bytes().into()));
            assert_eq!(cluster.ask(node, &["GET", "key"]), read, "seed {seed}");
        }
    }
}

/// How many records a node's log keeps for uncommitted entries in front of its newest checkpoint.
fn held_records(cluster: &Cluster, node: NodeId) -> u64 {
    let server = cluster.server(node).unwrap();
    let now = server.clock.time(cluster.now_us);
    let status = server.node().unwrap().status(now, KeyspaceId(1));
    status.iter().filter_map(|group| group.here.as_ref()).map(|here| here.log_held_records).sum()
}

#[test]
fn a_checkpoint_keeps_what_is_not_committed_and_the_status_says_so() {
    let limits = Limits { checkpoint_bytes: 2_000, ..Limits::default() };
    let mut cluster = cluster(1, limits);
    cluster.pass(1_000 * MS);
    let old = cluster.leader().unwrap();
    assert_eq!(held_records(&cluster, old), 0);
    cluster.cut(old, true);
    let before = cluster.last_index(old);
    for number in 0..20 {
        let connection = cluster.connect(old);
        cluster.send(connection, &["SET", &format!("k{number}"), &"v".repeat(400)]);
        cluster.pass(MS);
    }
    cluster.pass(50 * MS);
    let last = cluster.last_index(old);
    assert!(last > before, "a leader that is cut off appends at first");
    assert!(held_records(&cluster, old) > 0, "the checkpoint is behind entries that nobody has");
    cluster.crash(old, false);
    cluster.start(old);
    assert_eq!(cluster.last_index(old), last, "they are not gone");
    cluster.cut(old, false);
    cluster.pass(3_000 * MS);
    for node in cluster.nodes() {
        assert_eq!(held_records(&cluster, node), 0, "{node}");
    }
}
