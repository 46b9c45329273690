//! A follower that reads slowly costs its leader no more than its window, and the others nothing.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover, LeaderFollower, Model};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{DatacenterId, NodeId, Reply};
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::convergence;
use simulator::disk::Pace;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const MS: u64 = 1_000;
const SLOW: NodeId = NodeId(2);
const WRITES: usize = 200;
const WINDOW_BYTES: usize = 2_000;
/// So long does any of the writes take, whoever reads slowly.
const WRITE_US_MAX: u64 = 20 * MS;

fn cluster(seed: u64) -> Cluster {
    let model = Model::LeaderFollower(LeaderFollower {
        home: DatacenterId(0),
        partitions: 1,
        group: group(3, Acks::Majority, Failover::Safe),
    });
    let (window_bytes_max, append_bytes_max) = (WINDOW_BYTES, WINDOW_BYTES / 4);
    let limits = Limits { window_bytes_max, append_bytes_max, ..Limits::default() };
    let plan = Plan {
        cluster: cluster_of(&["eu"], 3, model, seed),
        timing: Timing {
            lease_us: 60 * MS,
            clock_drift_ppm: 500,
            heartbeat_interval_us: 20 * MS,
            election_timeout_us: 120 * MS,
            ..Timing::default()
        },
        limits,
        mutants: Mutants::default(),
        weather: Weather::calm().over_streams(),
        pace: Pace::quick(),
    };
    Cluster::new(plan, seed, Trace::new(false))
}

/// Writes a value; how long that took, if it was acknowledged.
fn write(cluster: &mut Cluster, node: NodeId, number: usize) -> Option<u64> {
    let (began_us, connection) = (cluster.now_us, cluster.connect(node));
    let words = ["SET", &format!("k{number}"), &"v".repeat(100)].map(String::from).to_vec();
    cluster.request(connection, words);
    while let Some(outside) = cluster.next(began_us + 3_000 * MS) {
        match outside {
            Outside::Reply { connection: on, reply, .. } if on == connection => {
                return (reply == Reply::Ok).then(|| cluster.now_us - began_us);
            }
            _ => {}
        }
    }
    None
}

#[test]
fn a_follower_that_reads_slowly_holds_up_no_write_and_is_sent_one_window() {
    for seed in 1..=20 {
        let mut cluster = cluster(seed);
        // Whoever leads must not be the slow one.
        let leader = loop {
            let _ = cluster.next(cluster.now_us + MS);
            let serves = |server: &&Server| server.node().unwrap().groups().any(|g| g.is_serving());
            if let Some(server) = cluster.servers.iter().find(serves) {
                break server.id;
            }
            assert!(cluster.now_us < 5_000 * MS, "seed {seed}: nobody leads");
        };
        let slow = if leader == SLOW { NodeId(0) } else { SLOW };
        write(&mut cluster, leader, WRITES).unwrap();
        let until_us = cluster.now_us + 60_000 * MS;
        for other in cluster.nodes().into_iter().filter(|other| *other != slow) {
            cluster.network.read_slowly(other, slow, 100, until_us);
        }
        let mut on_way_max = 0;
        for number in 0..WRITES {
            let took_us = write(&mut cluster, leader, number);
            assert!(took_us.is_some_and(|us| us < WRITE_US_MAX), "seed {seed}: {took_us:?}");
            let on_way = cluster.network.streams.as_ref().unwrap().on_way(leader, slow);
            on_way_max = on_way.max(on_way_max);
        }
        assert_eq!(cluster.observations.over_bounds, None, "seed {seed}");
        let most = WINDOW_BYTES as u64 + cluster.observations.most_entry_bytes;
        assert!(on_way_max <= most, "seed {seed}: {on_way_max} bytes were on their way");
        assert!(cluster.observations.counts.contains_key("window full"), "seed {seed}");
        cluster.network.heal();
        let limit_us = until_us + 10_000 * MS;
        while !convergence::all_equal(&cluster) {
            assert!(cluster.now_us < limit_us, "seed {seed}: the slow one does not catch up");
            let _ = cluster.next(cluster.now_us + 10 * MS);
        }
    }
}
