//! A follower that takes over a snapshot while the leader goes on: what came with the snapshot is
//! of different moments, and none of its readers sees that.
#![allow(clippy::unwrap_used, clippy::panic)]

use replication::keyspace::slot::slot_of;
use replication::keyspace::{Acks, Failover, GroupOptions, LeaderFollower, Model, Reads};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{ClientId, DatacenterId, NodeId, Reply};
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::disk::Pace;
use simulator::leases::DRIFT_APART_PPM;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const MS: u64 = 1_000;
/// How long an answer may take.
const PATIENCE_US: u64 = 3_000 * MS;
/// How many times as long a follower's disk takes that takes over a snapshot.
const SLOW_FACTOR: u64 = 10;
/// Each side of the slots: keys there are in the first and in the last pieces of a snapshot.
const SIDE_SLOTS: u16 = 50;
const LAST_SLOT: u16 = 16_383;

/// A group whose followers answer reads, and that keeps so little of its log that whoever was away
/// gets a snapshot of many pieces.
fn cluster(mutants: Mutants) -> Cluster {
    let group = GroupOptions { reads: Reads::Follower, ..group(3, Acks::Majority, Failover::Safe) };
    let (home, partitions) = (DatacenterId(0), 1);
    let model = Model::LeaderFollower(LeaderFollower { home, partitions, group });
    let plan = Plan {
        cluster: cluster_of(&["eu"], 3, model, 1),
        timing: Timing {
            heartbeat_interval_us: 30 * MS,
            election_timeout_us: 150 * MS,
            leader_wait_us: 900 * MS,
            forward_timeout_us: 900 * MS,
            gaps_interval_us: 1_000 * MS,
            lease_us: 120 * MS,
            clock_drift_ppm: DRIFT_APART_PPM,
        },
        limits: Limits {
            log_bytes_max: 2_000,
            image_bytes_max: 500,
            window_bytes_max: 4_000,
            ..Limits::default()
        },
        mutants,
        weather: Weather::calm(),
        pace: Pace::quick(),
    };
    Cluster::new(plan, 1, Trace::new(false))
}

/// A second without commands: whoever can catch up does.
fn pass(cluster: &mut Cluster) {
    let until_us = cluster.now_us + 1_000 * MS;
    while cluster.next(until_us).is_some() {}
}

fn ask(cluster: &mut Cluster, connection: ClientId, words: &[&str]) -> Reply<'static> {
    let words = words.iter().map(|word| word.to_string()).collect();
    let asked = cluster.request(connection, words);
    let until_us = cluster.now_us + PATIENCE_US;
    while let Some(outside) = cluster.next(until_us) {
        match outside {
            Outside::Reply { connection: on, sequence, reply }
                if on == connection && sequence == asked =>
            {
                return reply;
            }
            Outside::Broken(on) if on == connection => panic!("the connection broke"),
            _ => {}
        }
    }
    panic!("no answer in {PATIENCE_US} us");
}

/// The number that a key holds.
fn read(cluster: &mut Cluster, connection: ClientId, key: &str) -> u64 {
    match ask(cluster, connection, &["GET", key]) {
        Reply::Bulk(bytes) => String::from_utf8_lossy(&bytes).parse().unwrap(),
        other => panic!("{key} = {other:?}"),
    }
}

fn key_in(slots: std::ops::RangeInclusive<u16>) -> String {
    (0..).map(|n| format!("k{n}")).find(|key| slots.contains(&slot_of(key.as_bytes()))).unwrap()
}

/// Two keys are set in turn, one in the first slots and one in the last, and read the other way
/// round on a follower that was cut off and takes over a snapshot meanwhile. Says where it shows
/// the later write and not the earlier one.
fn read_while_a_snapshot_settles(mutants: Mutants) -> Option<String> {
    let mut cluster = cluster(mutants);
    pass(&mut cluster);
    let serves = |s: &&Server| s.node().is_some_and(|n| n.groups().any(|g| g.is_serving()));
    let leader = cluster.servers.iter().find(serves).map(|server| server.id).unwrap();
    let followers: Vec<NodeId> = cluster.nodes().into_iter().filter(|n| *n != leader).collect();
    let [follower, other] = followers[..] else { panic!("{followers:?}") };
    let first = key_in(0..=SIDE_SLOTS);
    let last = key_in(LAST_SLOT - SIDE_SLOTS..=LAST_SLOT);
    let writer = cluster.connect(leader);
    let fill = |cluster: &mut Cluster, letter: &str| {
        for n in 0..100 {
            ask(cluster, writer, &["SET", &format!("fill{n}"), &letter.repeat(100)]);
        }
    };
    fill(&mut cluster, "x");
    for key in [&first, &last] {
        assert_eq!(ask(&mut cluster, writer, &["SET", key, "0"]), Reply::Ok);
    }
    pass(&mut cluster);
    let reader = cluster.connect(follower);
    let mut newest = read(&mut cluster, reader, &last);
    for node in [leader, other] {
        cluster.network.set_cut(node, follower, true);
        cluster.network.set_cut(follower, node, true);
    }
    fill(&mut cluster, "y");
    // What the log brings takes long to count, and so does each piece.
    cluster.servers[usize::from(follower.0)].disk.slow_factor = SLOW_FACTOR;
    cluster.network.heal();
    for n in 1..=300u64 {
        let value = n.to_string();
        for key in [&first, &last] {
            assert_eq!(ask(&mut cluster, writer, &["SET", key, &value]), Reply::Ok);
        }
        let later = read(&mut cluster, reader, &last);
        let earlier = read(&mut cluster, reader, &first);
        if earlier < later {
            return Some(format!("{first} = {earlier} was set before {last} = {later}"));
        }
        newest = earlier;
    }
    let counts = &cluster.observations.counts;
    for needed in ["snapshot installed", "slots ahead of their group"] {
        assert!(counts.contains_key(needed), "no {needed}");
    }
    assert!(newest > 200, "the follower stays behind, at {newest}");
    None
}

#[test]
fn whoever_reads_a_write_on_a_follower_reads_those_before_it_while_a_snapshot_settles() {
    assert_eq!(read_while_a_snapshot_settles(Mutants::default()), None);
}

#[cfg(feature = "mutants")]
#[test]
fn a_follower_that_reads_ahead_of_its_log_shows_a_write_without_the_one_before_it() {
    let planted = Mutants::plant(replication::mutant::Mutant::ReadAheadOfLog);
    assert!(read_while_a_snapshot_settles(planted).is_some());
}
