//! A follower that stands still costs its leader no memory, and the others no time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Instant;
use support::{Client, Cluster, Node, eventually, signal};

const VALUE_BYTES: usize = 256 << 10;
/// As much as a leader keeps of its log, and more: from then on its memory grows no more by that.
const FILL: usize = 320;
/// What is written while a follower stands still.
const MEANWHILE: usize = 480;
/// Of the 120 MiB that are then written, this much may be under way to the one that stands still.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

fn resident_bytes(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Writes one after another; how long that took in seconds.
fn write(client: &mut Client, count: usize) -> f64 {
    let value = "v".repeat(VALUE_BYTES);
    let start = Instant::now();
    for number in 0..count {
        let key = format!("user:{}", number % 10);
        eventually("a write is acknowledged", || client.set(&key, &value).then_some(()));
    }
    start.elapsed().as_secs_f64()
}

#[test]
fn a_follower_that_stands_still_costs_no_memory_and_the_others_no_time() {
    let cluster = Cluster::start(&["--datacenters", "eu", "--nodes", "3"]);
    let nodes = cluster.nodes();
    let leader = eventually("a leader", || cluster.leader(&nodes[0], "user:"));
    let mut client = Client::of(&leader);
    let usual = write(&mut client, FILL) / FILL as f64;
    let before = resident_bytes(&leader);
    let still = nodes.iter().find(|node| node.name != leader.name).unwrap();
    signal("-STOP", still.pid);
    let meanwhile = write(&mut client, MEANWHILE) / MEANWHILE as f64;
    let after = resident_bytes(&leader);
    let status = cluster.status(&leader);
    signal("-CONT", still.pid);
    assert!(
        after.saturating_sub(before) < GROWTH_BYTES_MAX,
        "from {before} to {after} bytes while {} stood still",
        still.name
    );
    assert!(meanwhile < 5.0 * usual + 0.1, "{meanwhile} s a write, {usual} s before");
    let groups = &status.unwrap()["keyspaces"];
    let keyspaces = groups.as_array().unwrap();
    let log = &keyspaces.iter().find(|k| k["prefix"] == "user:").unwrap()["groups"][0]["log"];
    assert_eq!(log["slowest"], still.name.as_str(), "{log}");
    assert_eq!(log["bytes_left"], 0, "{log}: it was sent more than is kept");
    eventually("it catches up", || {
        let status = cluster.status(&leader)?;
        let keyspaces = status["keyspaces"].as_array()?.clone();
        let group = &keyspaces.iter().find(|k| k["prefix"] == "user:")?["groups"][0];
        let lag = group["lag"][still.name.as_str()]["entries"].as_u64()?;
        (lag == 0).then_some(())
    });
}
