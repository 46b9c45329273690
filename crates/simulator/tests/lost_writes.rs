//! What a new leader says of an old one that does not come back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use replication::keyspace::{Acks, Failover};
use replication::leader_follower::Group;
use replication::leader_follower::lost_writes::{Unheard, Why};
use replication::node::Limits;
use replication::node::lost_writes::message::LostId;
use replication::{NodeId, Reply};
use simulator::cluster::by_hand::{MS, PATIENCE_US, SHORT_TIMING};
use simulator::cluster::{Cluster, Plan};
use simulator::network::Weather;
use simulator::options::group;

const HEARTBEAT_US: u64 = SHORT_TIMING.heartbeat_interval_us;
/// So many that the followers are behind for several heartbeats.
const WRITES: u64 = 400;

fn cluster() -> Cluster {
    // One entry a message, and one message on its way: followers lag behind what heartbeats say of
    // the leader's log.
    let limits = Limits { append_bytes_max: 1, window_bytes_max: 1, ..Limits::default() };
    let weather = Weather { delay_min_us: 3 * MS, delay_mean_us: 0, ..Weather::calm() };
    let plan = Plan::of_three(group(3, Acks::Async, Failover::Available));
    Plan { limits, weather, ..plan }.build(1)
}

fn unheard_of(cluster: &Cluster, node: NodeId) -> Option<Unheard> {
    cluster.group(node)?.unheard().next()
}

/// Lets time pass until something is seen.
fn see<T>(cluster: &mut Cluster, look: impl Fn(&Cluster) -> Option<T>) -> T {
    cluster.within(PATIENCE_US, look).expect("it comes to be")
}

/// A cluster whose leader has crashed with writes that nobody else has: it, its successor, and what
/// that one says.
fn after_a_crash(value: &str) -> (Cluster, NodeId, NodeId, Unheard) {
    let mut cluster = cluster();
    let old = see(&mut cluster, Cluster::leader);
    let connection = cluster.connect(old);
    for number in 0..WRITES {
        cluster.send(connection, &["SET", &format!("k{number}"), value]);
    }
    // Its followers have heard in a heartbeat how far its log reaches, and do not have it.
    see(&mut cluster, |cluster| (cluster.last_index(old) > WRITES).then_some(()));
    cluster.pass(2 * HEARTBEAT_US);
    let written = cluster.last_index(old);
    cluster.crash(old, false);

    let new = see(&mut cluster, |cluster| cluster.leader().filter(|node| *node != old));
    let opening = cluster.group(new).unwrap().epochs.reign_at(u64::MAX).unwrap();
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
    let reports = see(&mut cluster, |cluster| {
        let reports = cluster.group(old)?.reported_counts().all();
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
    see(&mut cluster, |cluster| {
        let is_back = cluster.group(old)?.commit() > unheard.first;
        is_back.then_some(())
    });
    cluster.pass(20 * HEARTBEAT_US);
    assert_eq!(cluster.leader(), Some(new));
    assert_eq!(unheard_of(&cluster, new), Some(Unheard { why: Why::DiskGone, ..unheard }));
}

#[test]
fn reports_that_are_too_large_to_keep_are_counted_also_after_a_restart() {
    let value = "v".repeat(200 << 10);
    let (mut cluster, old, new, Unheard { at_least, .. }) = after_a_crash(&value);
    let counts = |cluster: &Cluster| cluster.group(old).map(Group::reported_counts);
    cluster.start(old);
    let reported = see(&mut cluster, |cluster| {
        let told = unheard_of(cluster, new).is_some();
        counts(cluster).filter(|counts| counts.all() > 0 && !told)
    });
    assert!(reported.given_up > 0, "{reported:?}");
    assert_eq!(reported.all(), at_least);
    cluster.crash(old, false);
    cluster.start(old);
    let again = see(&mut cluster, |cluster| counts(cluster).filter(|c| c.all() > 0));
    assert_eq!(again, reported);
}

#[test]
fn nobody_is_told_that_it_is_forgotten_before_that_is_committed() {
    let (mut cluster, old, new, unheard) = after_a_crash("v");
    let id = LostId::of_unheard(cluster.group(new).unwrap().id, unheard.epoch).print();
    let third = cluster.others(new).into_iter().find(|node| *node != old).unwrap();
    // Nobody else hears of the entry, and the next leader does not have it.
    cluster.cut(new, true);
    let reply = cluster.ask(new, &["TF.LOST", "FORGET", &id]).expect("an answer");
    assert!(format!("{reply:?}").contains("TRYAGAIN"), "{reply:?}");
    cluster.crash(new, false);
    cluster.start(old);
    see(&mut cluster, |cluster| cluster.leader().filter(|node| [old, third].contains(node)));
}

#[test]
fn two_nodes_at_once_may_be_told_to_forget_it() {
    let (mut cluster, old, new, unheard) = after_a_crash("v");
    let id = LostId::of_unheard(cluster.group(new).unwrap().id, unheard.epoch).print();
    for node in cluster.others(old) {
        let connection = cluster.connect(node);
        cluster.send(connection, &["TF.LOST", "FORGET", &id]);
    }
    let reply = cluster.ask(new, &["TF.LOST", "FORGET", &id]).expect("an answer");
    assert_eq!(reply, Reply::Ok);
    cluster.crash(new, false);
    cluster.start(old);
    let next = see(&mut cluster, |cluster| cluster.leader().filter(|node| *node != new));
    assert_eq!(unheard_of(&cluster, next).filter(|u| u.epoch == unheard.epoch), None);
}
