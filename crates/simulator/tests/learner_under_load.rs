//! A member with an empty disk is admitted while clients write without a pause, also where its disk
//! is slower than the others': under load it never has all that is committed at the moment.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover};
use replication::{NodeId, Reply};
use simulator::cluster::by_hand::MS;
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::network::Weather;
use simulator::options::group;

const CLIENTS: usize = 30;
const AWAY_US: u64 = 500 * MS;
const LOAD_US: u64 = 3_000 * MS;
const SLOWER: u64 = 5;

/// Clients write one after the other, each as soon as it is answered, and a disk comes back
/// meanwhile that is slower. Whether it was admitted in the midst of that.
fn is_admitted_under_load(cluster: &mut Cluster, leader: NodeId, back: NodeId) -> bool {
    let words = |number: usize| vec!["SET".into(), format!("k{}", number % 7), "v".repeat(20)];
    for number in 0..CLIENTS {
        let connection = cluster.connect(leader);
        cluster.request(connection, words(number));
    }
    assert!(cluster.server(back).and_then(Server::node).is_none());
    let back_us = cluster.now_us + AWAY_US;
    let limit_us = back_us + LOAD_US;
    let mut answered = 0;
    while let Some(outside) = cluster.next(limit_us) {
        if cluster.now_us >= back_us && cluster.group(back).is_none() {
            cluster.start(back);
            cluster.slow_disk(back, SLOWER);
        }
        let Outside::Reply { connection, reply, .. } = outside else { continue };
        assert_eq!(reply, Reply::Ok);
        answered += 1;
        cluster.request(connection, words(answered));
        let runs = cluster.server(back).and_then(Server::node).is_some();
        if runs && cluster.all_disks_count() {
            return true;
        }
    }
    false
}

#[test]
fn a_learner_with_a_slower_disk_is_admitted_under_load() {
    let near = Weather { delay_min_us: 100, delay_mean_us: 0, ..Weather::calm() };
    let usual = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
    let mut cluster = Plan { weather: near, ..usual }.build(1);
    assert!(cluster.until(|cluster| cluster.leader().is_some()));
    let leader = cluster.leader().unwrap();
    let node = cluster.others(leader)[0];
    cluster.crash(node, false);
    cluster.wipe(node);
    assert!(is_admitted_under_load(&mut cluster, leader, node));
}
