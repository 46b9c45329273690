//! Seeds 1 to 200 of every model, and that among them everything interesting happens as often as it
//! should ([`sometimes`]). A failure prints the line that replays it.

use replication::mutant::Mutants;
use simulator::options::ModelName;
use simulator::run::run;
use simulator::sometimes::{self, Counts};

const SEEDS: u64 = 200;

fn play(model: ModelName) {
    let mut counts = Counts::new();
    let mut failures = Vec::new();
    for seed in 1..=SEEDS {
        let outcomes = run(seed, model, Mutants::default(), false);
        if let Some(failure) = &outcomes.failure {
            failures.push(format!("{}\n    {failure}", outcomes.replay()));
        }
        for (what, count) in outcomes.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
    let never = sometimes::never(model, SEEDS, &counts);
    assert!(never.is_empty(), "{never:?} never happened in {SEEDS} seeds: {counts:?}");
    assert_eq!(sometimes::too_often(SEEDS, &counts), None);
}

#[test]
fn leader_follower() {
    play(ModelName::LeaderFollower);
}

#[test]
fn multi_leader() {
    play(ModelName::MultiLeader);
}

#[test]
fn leaderless() {
    play(ModelName::Leaderless);
}
