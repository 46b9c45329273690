//! Leaders of real processes: changed by order, paused, asked for what is impossible.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Cluster, Node, eventually, signal};

const ONE_DATACENTER: [&str; 4] = ["--datacenters", "eu", "--nodes", "3"];
/// Switchovers of one test.
const SWITCHOVERS: usize = 5;
/// The pause that must not matter, and what a busy machine may make of it. An election takes 600 ms
/// without a heartbeat at least, and a heartbeat comes every 100 ms.
const PAUSE: Duration = Duration::from_millis(300);
const PAUSE_MAX: Duration = Duration::from_millis(350);

/// Leader, epoch, milliseconds: one for each partition.
type Switched = Vec<(String, u64, u64)>;

fn group(cluster: &Cluster, asked: &Node) -> Option<Value> {
    let status = cluster.status(asked)?;
    let keyspaces = status["keyspaces"].as_array()?;
    let keyspace = keyspaces.iter().find(|keyspace| keyspace["prefix"] == "user:")?;
    Some(keyspace["groups"][0].clone())
}

fn leader_and_epoch(cluster: &Cluster, asked: &Node) -> (Node, u64) {
    eventually("a leader that all know", || {
        let leader = cluster.leader(asked, "user:")?;
        let epoch = group(cluster, &leader)?["epoch"].as_u64()?;
        let knows = |node: &Node| Some(group(cluster, node)?["epoch"].as_u64()? == epoch);
        let all = cluster.nodes().iter().all(|node| knows(node) == Some(true));
        all.then_some((leader, epoch))
    })
}

/// Adds to a counter, again and again, until it is told to stop; how often it was told the result.
fn count_up(node: &Node, key: &str, stop: &AtomicBool) -> u64 {
    let mut client = Client::of(node);
    let mut told = 0;
    while !stop.load(Ordering::Relaxed) {
        client.call::<u64>("INCR", &[key]).unwrap();
        client.call::<u64>("GET", &[key]).unwrap();
        told += 1;
    }
    told
}

#[test]
fn a_switchover_under_load_loses_nothing_and_nobody_hears_an_error() {
    let cluster = Cluster::start(&ONE_DATACENTER);
    let nodes = cluster.nodes();
    let (mut leader, mut epoch) = leader_and_epoch(&cluster, &nodes[0]);
    let stop = AtomicBool::new(false);
    let told: u64 = std::thread::scope(|scope| {
        let stop = &stop;
        let count = |node| scope.spawn(move || count_up(node, "user:counter", stop));
        let counters: Vec<_> = nodes.iter().map(count).collect();
        for number in 0..SWITCHOVERS {
            let to = nodes.iter().filter(|node| node.name != leader.name).nth(number % 2).unwrap();
            let asked = &nodes[number % nodes.len()];
            let mut client = Client::of(asked);
            let switched: Switched = client.call("TF.SWITCHOVER", &["user:", &to.name]).unwrap();
            let [(name, new_epoch, pause_ms)] = switched.as_slice() else { panic!("{switched:?}") };
            assert_eq!((name, *new_epoch > epoch), (&to.name, true), "{switched:?}");
            println!("switchover {number}: {pause_ms} ms without commands");
            (leader, epoch) = (to.clone(), *new_epoch);
        }
        stop.store(true, Ordering::Relaxed);
        counters.into_iter().map(|counter| counter.join().unwrap()).sum()
    });
    let mut client = Client::of(&nodes[0]);
    assert_eq!(client.call::<u64>("GET", &["user:counter"]).unwrap(), told);
    let why = eventually("the new leader says why it leads", || {
        Some(group(&cluster, &leader)?["why"].as_str()?.to_owned())
    });
    assert!(why.contains("handed over"), "{why}");
}

/// As an operator does who starts one node after the other with a new program.
#[test]
fn a_leader_that_is_told_to_stop_hands_over_first_and_nobody_hears_an_error() {
    let cluster = Cluster::start(&ONE_DATACENTER);
    let nodes = cluster.nodes();
    let (leader, epoch) = leader_and_epoch(&cluster, &nodes[0]);
    let others: Vec<&Node> = nodes.iter().filter(|node| node.name != leader.name).collect();
    let stop = AtomicBool::new(false);
    let told: u64 = std::thread::scope(|scope| {
        let stop = &stop;
        let count = |node| scope.spawn(move || count_up(node, "user:counter", stop));
        let counters: Vec<_> = others.iter().copied().map(count).collect();
        signal("-TERM", leader.pid);
        let (next, next_epoch) = eventually("another one leads", || {
            let next = cluster.leader(others[0], "user:").filter(|n| n.name != leader.name)?;
            Some((next.clone(), group(&cluster, &next)?["epoch"].as_u64()?))
        });
        let why = group(&cluster, &next).unwrap()["why"].as_str().unwrap().to_owned();
        stop.store(true, Ordering::Relaxed);
        assert!(why.contains("handed over") && next_epoch > epoch, "{next_epoch}: {why}");
        counters.into_iter().map(|counter| counter.join().unwrap()).sum()
    });
    let mut client = Client::of(others[1]);
    assert_eq!(client.call::<u64>("GET", &["user:counter"]).unwrap(), told);
}

#[test]
fn an_order_that_makes_no_sense_changes_nothing() {
    let cluster = Cluster::start(&ONE_DATACENTER);
    let nodes = cluster.nodes();
    let (leader, epoch) = leader_and_epoch(&cluster, &nodes[0]);
    let mut client = Client::of(&nodes[1]);
    for (arguments, words) in [
        (&["user:", "eu-9"][..], "no node is called"),
        (&["nobody:"], "no keyspace has the prefix"),
        (&["session:"], "leaderless"),
        (&["user:", "eu-1", "eu-2"], "syntax"),
        (&[], "wrong number of arguments"),
    ] {
        let error = client.call::<()>("TF.SWITCHOVER", arguments).unwrap_err().to_string();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    let switched: Switched = client.call("TF.SWITCHOVER", &["user:", &leader.name]).unwrap();
    assert_eq!(switched, [(leader.name.clone(), epoch, 0)], "it leads already");
    let follower = nodes.iter().find(|node| node.name != leader.name).unwrap();
    cluster.kill(follower);
    let error = eventually("a dead node is not taken", || {
        let to = ["user:", &follower.name];
        let asked = Client::of(&leader).call::<Switched>("TF.SWITCHOVER", &to);
        asked.err().map(|error| error.to_string())
    });
    assert!(error.contains("is down") || error.contains("no switchover"), "{error}");
    assert_eq!(leader_of(&cluster, &leader), (leader.name.clone(), epoch));
}

fn leader_of(cluster: &Cluster, asked: &Node) -> (String, u64) {
    let group = eventually("a node's status", || group(cluster, asked));
    (group["leader"].as_str().unwrap_or("").to_owned(), group["epoch"].as_u64().unwrap_or(0))
}

#[test]
fn a_pause_of_300_ms_changes_no_leader() {
    let cluster = Cluster::start(&ONE_DATACENTER);
    let nodes = cluster.nodes();
    // A pause that has become longer by itself proves nothing.
    let before = eventually("a pause of this length", || {
        let (leader, epoch) = leader_and_epoch(&cluster, &nodes[0]);
        let start = Instant::now();
        signal("-STOP", leader.pid);
        std::thread::sleep(PAUSE);
        signal("-CONT", leader.pid);
        let held = start.elapsed() <= PAUSE_MAX;
        held.then_some((leader, epoch))
    });
    let (leader, epoch) = before;
    assert!(Client::of(&leader).set("user:after", "the pause"));
    for node in &nodes {
        let sees = leader_of(&cluster, node);
        assert_eq!(sees, (leader.name.clone(), epoch), "as {} sees it", node.name);
    }
}
