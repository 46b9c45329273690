//! A follower that takes over a snapshot while the leader goes on: what came with the snapshot is
//! of different moments, and none of its readers sees that.
#![allow(clippy::unwrap_used, clippy::panic)]

use replication::keyspace::slot::slot_of;
use replication::keyspace::{Acks, Failover, GroupOptions, Reads};
use replication::mutant::Mutants;
use replication::node::Limits;
use replication::{ClientId, Reply};
use simulator::cluster::by_hand::MS;
use simulator::cluster::{Cluster, Plan};
use simulator::options::group;

/// Without commands for so long, whoever can catch up does.
const QUIET_US: u64 = 1_000 * MS;
/// How many times as long a follower's disk takes that takes over a snapshot.
const SLOW_FACTOR: u64 = 10;
/// Each side of the slots: keys there are in the first and in the last pieces of a snapshot.
const SIDE_SLOTS: u16 = 50;
const LAST_SLOT: u16 = 16_383;

/// A group whose followers answer reads, and that keeps so little of its log that whoever was away
/// gets a snapshot of many pieces.
fn cluster(mutants: Mutants) -> Cluster {
    let group = GroupOptions { reads: Reads::Follower, ..group(3, Acks::Majority, Failover::Safe) };
    let limits = Limits {
        log_bytes_max: 2_000,
        image_bytes_max: 500,
        window_bytes_max: 4_000,
        ..Limits::default()
    };
    Plan { limits, mutants, ..Plan::of_three(group) }.build(1)
}

fn set(cluster: &mut Cluster, connection: ClientId, key: &str, value: &str) {
    assert_eq!(cluster.ask_over(connection, &["SET", key, value]), Some(Reply::Ok));
}

/// The number that a key holds.
fn read(cluster: &mut Cluster, connection: ClientId, key: &str) -> u64 {
    match cluster.ask_over(connection, &["GET", key]) {
        Some(Reply::Bulk(bytes)) => String::from_utf8_lossy(&bytes).parse().unwrap(),
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
    cluster.pass(QUIET_US);
    let leader = cluster.leader().unwrap();
    let follower = cluster.others(leader)[0];
    let first = key_in(0..=SIDE_SLOTS);
    let last = key_in(LAST_SLOT - SIDE_SLOTS..=LAST_SLOT);
    let writer = cluster.connect(leader);
    let fill = |cluster: &mut Cluster, letter: &str| {
        for n in 0..100 {
            set(cluster, writer, &format!("fill{n}"), &letter.repeat(100));
        }
    };
    fill(&mut cluster, "x");
    for key in [&first, &last] {
        set(&mut cluster, writer, key, "0");
    }
    cluster.pass(QUIET_US);
    let reader = cluster.connect(follower);
    let mut newest = read(&mut cluster, reader, &last);
    cluster.cut(follower, true);
    fill(&mut cluster, "y");
    // What the log brings takes long to count, and so does each piece.
    cluster.servers[usize::from(follower.0)].disk.slow_factor = SLOW_FACTOR;
    cluster.cut(follower, false);
    for n in 1..=300u64 {
        let value = n.to_string();
        for key in [&first, &last] {
            set(&mut cluster, writer, key, &value);
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
