//! What a node's own log holds longer than it wants to, and what it has forgotten.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover, LeaderFollower, Model};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{DatacenterId, KeyspaceId, NodeId, Reply};
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::disk::Pace;
use simulator::leases::DRIFT_APART_PPM;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const MS: u64 = 1_000;
/// How long an answer, or an election, is waited for.
const PATIENCE_US: u64 = 3_000 * MS;
/// Processes that run between the backup and its return.
const PROCESSES: u64 = 3;

fn cluster(seed: u64, limits: Limits) -> Cluster {
    let group = group(3, Acks::Majority, Failover::Safe);
    let home = DatacenterId(0);
    let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
    let plan = Plan {
        cluster: cluster_of(&["eu"], 3, model, seed),
        timing: Timing {
            heartbeat_interval_us: 30 * MS,
            election_timeout_us: 150 * MS,
            leader_wait_us: 900 * MS,
            forward_timeout_us: 900 * MS,
            gaps_interval_us: 1_000 * MS,
            lease_us: 120 * MS,
            clock_drift_ppm: DRIFT_APART_PPM,
        },
        limits,
        mutants: Mutants::default(),
        weather: Weather::calm(),
        pace: Pace::quick(),
    };
    Cluster::new(plan, seed, Trace::new(false))
}

fn run(cluster: &mut Cluster, for_us: u64) {
    let until_us = cluster.now_us + for_us;
    while cluster.next(until_us).is_some() {}
}

fn leader(cluster: &Cluster) -> Option<NodeId> {
    let serves = |server: &&Server| {
        server.node().is_some_and(|node| node.groups().any(|group| group.is_serving()))
    };
    cluster.servers.iter().find(serves).map(|server| server.id)
}

fn ask(cluster: &mut Cluster, node: NodeId, words: &[&str]) -> Option<Reply<'static>> {
    let connection = cluster.connect(node);
    cluster.request(connection, words.iter().map(|word| word.to_string()).collect());
    let until_us = cluster.now_us + PATIENCE_US;
    while let Some(outside) = cluster.next(until_us) {
        match outside {
            Outside::Reply { connection: on, reply, .. } if on == connection => return Some(reply),
            Outside::Broken(on) if on == connection => return None,
            _ => {}
        }
    }
    None
}

/// A node whose disk was restored from a backup that an earlier process made has forgotten how
/// often it had started. Its peers must not take it for one of the processes that they have met.
#[test]
fn a_restored_node_is_heard_and_told_its_own_answers() {
    for seed in 1..=20 {
        let mut cluster = cluster(seed, Limits::default());
        run(&mut cluster, 1_000 * MS);
        let leader = leader(&cluster).unwrap();
        let node = *cluster.nodes().iter().find(|node| **node != leader).unwrap();
        let place = usize::from(node.0);
        let backup = cluster.servers[place].disk.clone();
        for process in 0..PROCESSES {
            cluster.crash(node, false);
            cluster.start(node);
            for number in 0..5 {
                let value = format!("{process}.{number}");
                assert_eq!(ask(&mut cluster, node, &["SET", "key", &value]), Some(Reply::Ok));
            }
            run(&mut cluster, 100 * MS);
        }
        cluster.crash(node, false);
        cluster.servers[place].disk = backup;
        cluster.start(node);
        for number in 0..5 {
            let value = format!("last.{number}");
            assert_eq!(ask(&mut cluster, node, &["SET", "key", &value]), Some(Reply::Ok), "{seed}");
            let read = Some(Reply::Bulk(value.into_bytes().into()));
            assert_eq!(ask(&mut cluster, node, &["GET", "key"]), read, "seed {seed}");
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

fn last_index(cluster: &Cluster, node: NodeId) -> u64 {
    let node = cluster.server(node).and_then(Server::node).unwrap();
    node.groups().map(|group| group.last().index).sum()
}

#[test]
fn a_checkpoint_keeps_what_is_not_committed_and_the_status_says_so() {
    let limits = Limits { checkpoint_bytes: 2_000, ..Limits::default() };
    let mut cluster = cluster(1, limits);
    run(&mut cluster, 1_000 * MS);
    let old = leader(&cluster).unwrap();
    assert_eq!(held_records(&cluster, old), 0);
    for peer in cluster.nodes().into_iter().filter(|peer| *peer != old) {
        cluster.network.set_cut(old, peer, true);
        cluster.network.set_cut(peer, old, true);
    }
    let before = last_index(&cluster, old);
    for number in 0..20 {
        let connection = cluster.connect(old);
        let words = ["SET", &format!("k{number}"), &"v".repeat(400)].map(String::from);
        cluster.request(connection, words.to_vec());
        run(&mut cluster, MS);
    }
    run(&mut cluster, 50 * MS);
    let last = last_index(&cluster, old);
    assert!(last > before, "a leader that is cut off appends at first");
    assert!(held_records(&cluster, old) > 0, "the checkpoint is behind entries that nobody has");
    cluster.crash(old, false);
    cluster.start(old);
    assert_eq!(last_index(&cluster, old), last, "they are not gone");
    cluster.network.heal();
    run(&mut cluster, 3_000 * MS);
    for node in cluster.nodes() {
        assert_eq!(held_records(&cluster, node), 0, "{node}");
    }
}
