//! The same seed gives the same run: twenty seeds of each model are played twice, and their traces
//! compared byte for byte.

use replication::mutant::Mutants;
use simulator::options::ModelName;
use simulator::run::run;

fn play_twice(model: ModelName) {
    for seed in 1..=20 {
        let first = run(seed, model, Mutants::default(), true);
        let second = run(seed, model, Mutants::default(), true);
        let lines = first.trace.lines().iter().zip(second.trace.lines());
        for (number, (a, b)) in lines.enumerate() {
            assert_eq!(a, b, "seed {seed} of {model} differs from line {number} on");
        }
        assert_eq!(first.trace.text(), second.trace.text(), "seed {seed} of {model}");
        assert!(first.trace.lines().len() > 1000, "seed {seed} of {model}: too little happened");
    }
}

#[test]
fn leader_follower_runs_twice_the_same() {
    play_twice(ModelName::LeaderFollower);
}

#[test]
fn multi_leader_runs_twice_the_same() {
    play_twice(ModelName::MultiLeader);
}

#[test]
fn leaderless_runs_twice_the_same() {
    play_twice(ModelName::Leaderless);
}
