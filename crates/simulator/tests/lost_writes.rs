//! What a new leader says of an old one that does not come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use replication::keyspace::{Acks, Failover, LeaderFollower, Model};
use replication::leader_follower::Group;
use replication::leader_follower::lost_writes::{Unheard, Why};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{DatacenterId, NodeId};
use simulator::cluster::{Cluster, Plan, Server};
use simulator::disk::Pace;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const MS: u64 = 1_000;
const HEARTBEAT_US: u64 = 30 * MS;
/// So many that the followers are behind for several heartbeats.
const WRITES: u64 = 400;

fn cluster() -> Cluster {
    let model = Model::LeaderFollower(LeaderFollower {
        home: DatacenterId(0),
        partitions: 1,
        group: group(3, Acks::Async, Failover::Available),
    });
    // One entry a message, and one message on its way: followers lag behind what heartbeats say of
    // the leader's log.
    let limits = Limits { append_bytes_max: 1, window_bytes_max: 1, ..Limits::default() };
    let timing = Timing {
        heartbeat_interval_us: HEARTBEAT_US,
        election_timeout_us: 150 * MS,
        leader_wait_us: 900 * MS,
        forward_timeout_us: 900 * MS,
        ..Timing::default()
    };
    let weather = Weather { delay_min_us: 3 * MS, delay_mean_us: 0, ..Weather::calm() };
    let cluster = cluster_of(&["eu"], 3, model, 1);
    let plan =
        Plan { cluster, timing, limits, mutants: Mutants::default(), weather, pace: Pace::quick() };
    Cluster::new(plan, 1, Trace::new(false))
}

fn group_of(cluster: &Cluster, node: NodeId) -> Option<&Group> {
    cluster.server(node).and_then(Server::node)?.groups().next()
}

fn unheard_of(cluster: &Cluster, node: NodeId) -> Option<Unheard> {
    group_of(cluster, node)?.unheard().next()
}

fn last_of(cluster: &Cluster, node: NodeId) -> u64 {
    group_of(cluster, node).map_or(0, |group| group.last().index)
}

fn leader(cluster: &Cluster) -> Option<NodeId> {
    let leads = |node: &NodeId| group_of(cluster, *node).is_some_and(Group::is_serving);
    cluster.nodes().into_iter().find(leads)
}

fn run_until<T>(cluster: &mut Cluster, mut look: impl FnMut(&Cluster) -> Option<T>) -> T {
    for _ in 0..20_000 {
        let until_us = cluster.now_us + MS;
        while cluster.next(until_us).is_some() {}
        if let Some(found) = look(cluster) {
            return found;
        }
    }
    panic!("not within 20 seconds");
}

/// A cluster whose leader has crashed with writes that nobody else has: it, its successor, and what
/// that one says.
fn after_a_crash(value: &str) -> (Cluster, NodeId, NodeId, Unheard) {
    let mut cluster = cluster();
    let old = run_until(&mut cluster, leader);
    let connection = cluster.connect(old);
    for number in 0..WRITES {
        let key = format!("k{number}");
        cluster.request(connection, ["SET", key.as_str(), value].map(String::from).to_vec());
    }
    // Its followers have heard in a heartbeat how far its log reaches, and do not have it.
    run_until(&mut cluster, |cluster| (last_of(cluster, old) > WRITES).then_some(()));
    let heard_us = cluster.now_us + 2 * HEARTBEAT_US;
    run_until(&mut cluster, |cluster| (cluster.now_us >= heard_us).then_some(()));
    let written = last_of(&cluster, old);
    cluster.crash(old, false);

    let new = run_until(&mut cluster, |cluster| leader(cluster).filter(|node| *node != old));
    let opening = group_of(&cluster, new).unwrap().epochs.reign_at(u64::MAX).unwrap();
    let unheard = unheard_of(&cluster, new).expect("the followers lagged behind");
    let Unheard { leader: of, first, at_least, why, .. } = unheard;
    assert_eq!((of, first, why), (old, opening.first_index, Why::Away));
    assert_eq!(first + at_least, written + 1);
    assert!(unheard.at_most.is_some_and(|at_most| at_most >= WRITES));
    (cluster, old, new, unheard)
}

#[test]
fn a_new_leader_tells_how_much_of_the_old_ones_log_nobody_has_until_that_is_back() {
    let (mut cluster, old, new, Unheard { at_least, .. }) = after_a_crash("v");
    cluster.start(old);
    let reports = run_until(&mut cluster, |cluster| {
        let reports = group_of(cluster, old)?.reported_counts().all();
        let told = unheard_of(cluster, new).is_some();
        (reports > 0 && !told).then_some(reports)
    });
    assert_eq!(reports, at_least, "now it tells for itself");
}

#[test]
fn it_goes_on_telling_when_the_old_one_comes_back_with_another_disk() {
    let (mut cluster, old, new, unheard) = after_a_crash("v");
    cluster.wipe(old);
    cluster.start(old);
    run_until(&mut cluster, |cluster| {
        let is_back = group_of(cluster, old)?.commit() > unheard.first;
        is_back.then_some(())
    });
    let later_us = cluster.now_us + 20 * HEARTBEAT_US;
    run_until(&mut cluster, |cluster| (cluster.now_us >= later_us).then_some(()));
    assert_eq!(leader(&cluster), Some(new));
    assert_eq!(unheard_of(&cluster, new), Some(Unheard { why: Why::DiskGone, ..unheard }));
}

#[test]
fn reports_that_are_too_large_to_keep_are_counted_also_after_a_restart() {
    let value = "v".repeat(200 << 10);
    let (mut cluster, old, new, Unheard { at_least, .. }) = after_a_crash(&value);
    let counts = |cluster: &Cluster| group_of(cluster, old).map(Group::reported_counts);
    cluster.start(old);
    let reported = run_until(&mut cluster, |cluster| {
        let told = unheard_of(cluster, new).is_some();
        counts(cluster).filter(|counts| counts.all() > 0 && !told)
    });
    assert!(reported.given_up > 0, "{reported:?}");
    assert_eq!(reported.all(), at_least);
    cluster.crash(old, false);
    cluster.start(old);
    let again = run_until(&mut cluster, |cluster| counts(cluster).filter(|c| c.all() > 0));
    assert_eq!(again, reported);
}
