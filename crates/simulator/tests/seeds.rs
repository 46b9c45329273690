//! Seeds 1 to 200 of every model, and that among them everything interesting happens at least
//! once. A failure prints the line that replays it.

use replication::mutant::Mutants;
use simulator::options::ModelName;
use simulator::run::run;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Plays the seeds; returns how often each interesting thing happened.
fn play(model: ModelName, seeds: RangeInclusive<u64>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in seeds {
        let outcomes = run(seed, model, Mutants::default(), false);
        if let Some(failure) = &outcomes.failure {
            failures.push(format!("{}\n    {failure}", outcomes.replay()));
        }
        for (what, count) in outcomes.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
    counts
}

/// A set of seeds in which an interesting thing never happened proves nothing about it.
fn assert_happened(counts: &BTreeMap<&'static str, u64>, wanted: &[&str]) {
    for what in wanted {
        assert!(counts.contains_key(what), "{what} never happened: {counts:?}");
    }
}

#[test]
fn leader_follower_1_to_100() {
    let counts = play(ModelName::LeaderFollower, 1..=100);
    assert_happened(&counts, &["failover", "-UNKNOWN", "crash of all", "partition"]);
}

#[test]
fn leader_follower_101_to_200() {
    let counts = play(ModelName::LeaderFollower, 101..=200);
    assert_happened(&counts, &["truncation", "snapshot installed", "voter admitted"]);
    assert_happened(&counts, &["checkpoint truncated the log"]);
}

#[test]
fn multi_leader_1_to_100() {
    let counts = play(ModelName::MultiLeader, 1..=100);
    assert_happened(&counts, &["failover", "-UNKNOWN", "conflict resolved"]);
}

#[test]
fn multi_leader_101_to_200() {
    let counts = play(ModelName::MultiLeader, 101..=200);
    assert_happened(&counts, &["crash of all", "partition", "snapshot installed"]);
}

#[test]
fn leaderless_1_to_100() {
    let counts = play(ModelName::Leaderless, 1..=100);
    assert_happened(&counts, &["read repair", "-PARTIAL", "crash of all", "partition"]);
}

#[test]
fn leaderless_101_to_200() {
    let counts = play(ModelName::Leaderless, 101..=200);
    assert_happened(&counts, &["checkpoint truncated the log", "crash"]);
}
