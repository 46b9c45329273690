//! A leader that began under a possible loss meets a follower that knows better: the follower gives
//! up what the leader lacks, keeps it aside and tells of it, and the group goes on with as many
//! members as its quorum needs. What is lost in a power cut is chance, so that each story is tried
//! with many seeds, and must have come about in some.
#![allow(clippy::unwrap_used, clippy::panic)]

use replication::keyspace::{Acks, Durability, Failover, GroupOptions};
use replication::leader_follower::Group;
use replication::leader_follower::lost_writes::report::{LostWrite, Status, What};
use replication::node::{Limits, Timing};
use replication::{NodeId, Reply};
use simulator::cluster::by_hand::{MS, PATIENCE_US, SHORT_TIMING};
use simulator::cluster::{Cluster, Plan};
use simulator::convergence;
use simulator::disk::Pace;
use simulator::options::group;

/// A sync takes longer than a few writes: a power cut takes them.
const SYNC_US: (u64, u64) = (40 * MS, 80 * MS);
/// A vote takes the candidate's sync and the voter's, each of which may have to wait for another.
const ELECTION_TIMEOUT_US: u64 = 5 * SYNC_US.1;
/// What a power cut takes is chance.
const SEEDS: u64 = 200;

/// Three nodes whose copies count before they are synced, and any two of which may go on.
fn cluster(seed: u64, limits: Limits) -> Cluster {
    let durability = Durability::Interval;
    let group = GroupOptions { durability, ..group(3, Acks::Majority, Failover::Available) };
    let timing = Timing {
        lease_us: MS,
        heartbeat_interval_us: 10 * MS,
        election_timeout_us: ELECTION_TIMEOUT_US,
        ..SHORT_TIMING
    };
    let pace = Pace { sync_us: SYNC_US, ..Pace::quick() };
    Plan { timing, limits, pace, ..Plan::of_three(group) }.build(seed)
}

/// Who leads in a later epoch than this one, also before it may answer.
fn leads_above(cluster: &Cluster, epoch: u64) -> Option<NodeId> {
    cluster.node_where(|group| group.leads() && group.epoch() > epoch)
}

fn writes(cluster: &mut Cluster, node: NodeId, key: &str, value: &str) -> bool {
    let limit_us = cluster.now_us + PATIENCE_US;
    while cluster.now_us < limit_us {
        if cluster.ask(node, &["SET", key, value]) == Some(Reply::Ok) {
            return true;
        }
    }
    false
}

/// The keys of what a node reports as lost.
fn lost_keys(cluster: &Cluster, node: NodeId) -> Vec<String> {
    let reported = cluster.group(node).into_iter().flat_map(Group::reported);
    let keys = |write: &LostWrite| match &write.what {
        What::Changes(changes) => changes.iter().map(|change| change.key.clone()).collect(),
        What::Everything => Vec::new(),
    };
    let keys = reported.flat_map(keys);
    keys.map(|key| String::from_utf8_lossy(&key).into_owned()).collect()
}

/// Two of three lose their power before anything was synced, while the third, which knows that
/// something was committed, is cut off; one of the two leads with the other's vote, which then goes
/// away. `None` where the power cut took less.
fn leads_with_nothing(
    seed: u64,
    keys: &[&str],
    log_bytes_max: usize,
) -> Option<(Cluster, NodeId, NodeId, NodeId)> {
    let small = Limits { records_at_once_max: 2, ..Limits::default() };
    let mut cluster = cluster(seed, Limits { log_bytes_max, ..small });
    let old = cluster.within(PATIENCE_US, |cluster| leads_above(cluster, 0)).unwrap();
    let [aside, other]: [NodeId; 2] = cluster.others(old).try_into().unwrap();
    for key in keys {
        assert!(writes(&mut cluster, old, key, "a"));
    }
    let written = 1 + keys.len() as u64;
    if !cluster.until(|cluster| cluster.commit(aside) >= written) {
        return None;
    }
    cluster.cut(aside, true);
    for node in [old, other] {
        cluster.crash(node, true);
        cluster.start(node);
    }
    let epoch = cluster.group(aside)?.epoch();
    let leader = cluster.within(PATIENCE_US, |cluster| leads_above(cluster, epoch))?;
    let voter = if leader == old { other } else { old };
    cluster.crash(voter, false);
    let has_nothing = cluster.commit(leader) == 0 && cluster.last_index(leader) == 1;
    has_nothing.then_some((cluster, leader, aside, voter))
}

/// Two of three go on without what only the third knows, and that one tells of all of it.
fn is_told(keys: &[&str], log_bytes_max: usize) {
    let mut staged = 0;
    for seed in 1..=SEEDS {
        let staged_one = leads_with_nothing(seed, keys, log_bytes_max);
        let Some((mut cluster, leader, aside, voter)) = staged_one else { continue };
        staged += 1;
        cluster.cut(aside, false);
        assert!(
            writes(&mut cluster, leader, "another", "c"),
            "seed {seed}: two of three do not go on"
        );
        assert!(cluster.until(|cluster| cluster.commit(aside) >= 2), "seed {seed}");
        assert_eq!(lost_keys(&cluster, aside), keys, "seed {seed}");
        cluster.start(voter);
        assert!(cluster.until(convergence::all_equal), "seed {seed}");
    }
    assert!(staged >= 5, "{staged}");
}

#[test]
fn a_leader_that_never_crashed_does_not_say_that_a_committed_write_was_not_acknowledged() {
    let mut staged = 0;
    for seed in 1..=SEEDS {
        let mut cluster = cluster(seed, Limits::default());
        let old = cluster.within(PATIENCE_US, |cluster| leads_above(cluster, 0)).unwrap();
        assert!(writes(&mut cluster, old, "first", "a"));
        let (epoch, last) = (cluster.epoch(old), cluster.last_index(old));
        // It knows that the write is committed, and has told the client OK.
        assert!(cluster.until(|cluster| cluster.commit(old) >= last));
        cluster.cut(old, true);
        let others = cluster.others(old);
        for node in &others {
            cluster.crash(*node, true);
            cluster.start(*node);
        }
        cluster.within(PATIENCE_US, |cluster| leads_above(cluster, epoch)).unwrap();
        // What a node has left, with what has opened the new epoch.
        if others.iter().any(|node| cluster.last_index(*node) >= last) {
            continue;
        }
        staged += 1;
        cluster.cut(old, false);
        let is_told = |cluster: &Cluster| lost_keys(cluster, old) == ["first"];
        assert!(cluster.until(is_told), "seed {seed}");
        let counts = cluster.group(old).map(Group::reported_counts);
        let counts = counts.unwrap_or_default();
        let told = (counts.acknowledged, counts.not_acknowledged, counts.maybe);
        assert_eq!(told, (0, 0, 1), "seed {seed}: nobody remembers what was told of it");
    }
    assert!(staged >= 5, "{staged}");
}

#[test]
fn a_leader_that_has_nothing_is_followed_by_one_that_has_something() {
    is_told(&["first", "second"], Limits::default().log_bytes_max);
}

#[test]
fn what_the_log_no_longer_has_is_told_by_the_state() {
    is_told(&["k1", "k2", "k3", "k4", "k5"], 100);
}

/// A leader is stopped by its operator right after its writer was told OK, with the commit; the two
/// who go on lose their power, and with it the write. `None` where the power cut took less.
fn stopped_and_lost(seed: u64) -> Option<(Cluster, NodeId)> {
    let mut cluster = cluster(seed, Limits { records_at_once_max: 2, ..Limits::default() });
    let old = cluster.within(PATIENCE_US, |cluster| leads_above(cluster, 0)).unwrap();
    assert!(writes(&mut cluster, old, "told", "a"));
    // Nobody is told of this one: whoever stops with it has something to write down.
    cluster.cut(old, true);
    let connection = cluster.connect(old);
    cluster.send(connection, &["SET", "open", "b"]);
    cluster.pass(MS);
    assert!(cluster.last_index(old) > cluster.commit(old), "seed {seed}");
    cluster.stop_clean(old);
    cluster.cut(old, false);
    for node in cluster.others(old) {
        cluster.crash(node, true);
        cluster.start(node);
    }
    let leader = cluster.within(PATIENCE_US, |cluster| leads_above(cluster, 1))?;
    (cluster.commit(leader) == 0 && cluster.last_index(leader) == 1).then_some((cluster, old))
}

#[test]
fn what_a_stopped_leader_had_acknowledged_with_the_commit_is_not_told_as_refused() {
    let mut staged = 0;
    for seed in 1..=SEEDS {
        let Some((mut cluster, old)) = stopped_and_lost(seed) else { continue };
        staged += 1;
        cluster.start(old);
        let has_all = |cluster: &Cluster| lost_keys(cluster, old).len() == 2;
        assert!(cluster.until(has_all), "seed {seed}: {:?}", lost_keys(&cluster, old));
        let reported = cluster.group(old).into_iter().flat_map(Group::reported);
        let statuses: Vec<Status> = reported.map(|write| write.status).collect();
        assert_eq!(statuses, [Status::Maybe, Status::NotAcknowledged], "seed {seed}");
    }
    assert!(staged >= 5, "{staged}");
}
