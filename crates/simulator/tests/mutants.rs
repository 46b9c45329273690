//! Proof that the checkers see: each planted bug is caught by the seed that is recorded here, and
//! that seed passes without it. What plain seeds do not reach is provoked by hand (`provoked/`).
//! Run with
//! `cargo test -p simulator --features mutants --test mutants`.
//!
//! `cargo test -p simulator --features mutants --test mutants -- --ignored --nocapture` looks for
//! the seeds anew, after a change of the core or of the simulator has moved them.

mod provoked;

use replication::mutant::{Mutant, Mutants};
use simulator::options::ModelName;
use simulator::run::run;

/// A planted bug, the model in which it shows, and a seed that catches it.
const CAUGHT: &[(Mutant, ModelName, u64)] = &[
    (Mutant::AckBeforeDurable, ModelName::LeaderFollower, 1),
    (Mutant::TruncateToCommit, ModelName::LeaderFollower, 52),
    (Mutant::WipedNodeCounts, ModelName::LeaderFollower, 211),
    (Mutant::OwnCopyCountsEarly, ModelName::LeaderFollower, 95),
    (Mutant::WallClockWins, ModelName::MultiLeader, 26),
    (Mutant::ApplyTwice, ModelName::MultiLeader, 11),
    (Mutant::ReadOneShort, ModelName::Leaderless, 1),
];

/// Where each bug can show.
const ALL: &[(Mutant, ModelName)] = &[
    (Mutant::AckBeforeDurable, ModelName::LeaderFollower),
    (Mutant::VoteNotDurable, ModelName::LeaderFollower),
    (Mutant::TruncateToCommit, ModelName::LeaderFollower),
    (Mutant::CountOlderEpochs, ModelName::LeaderFollower),
    (Mutant::ReadWithoutRound, ModelName::LeaderFollower),
    (Mutant::WipedNodeCounts, ModelName::LeaderFollower),
    (Mutant::OwnCopyCountsEarly, ModelName::LeaderFollower),
    (Mutant::WallClockWins, ModelName::MultiLeader),
    (Mutant::ApplyTwice, ModelName::MultiLeader),
    (Mutant::ReadOneShort, ModelName::Leaderless),
];

/// Within so many seeds a bug must be caught.
const SEEDS: u64 = 1000;

#[test]
fn every_recorded_seed_fails_with_its_mutant_and_passes_without() {
    for (mutant, model, seed) in CAUGHT {
        let with = run(*seed, *model, Mutants::plant(*mutant), false);
        // A run that only gets stuck may do so for another reason.
        let caught = with.failure.as_ref().is_some_and(|text| !text.starts_with("liveness"));
        assert!(caught, "seed {seed} of {model} does not catch {mutant:?}: {:?}", with.failure);
        let without = run(*seed, *model, Mutants::default(), false);
        assert_eq!(without.failure, None, "seed {seed} of {model} fails without {mutant:?}");
    }
    assert!(CAUGHT.len() >= 5, "at least five bugs are caught");
}

#[test]
#[ignore = "takes minutes; looks for the seeds to record above"]
fn look_for_seeds() {
    std::panic::set_hook(Box::new(|_| {}));
    for (mutant, model) in ALL {
        let found = (1..=SEEDS).find_map(|seed| {
            let failure = run(seed, *model, Mutants::plant(*mutant), false).failure?;
            // A run that only gets stuck may do so for another reason.
            if failure.starts_with("liveness") {
                return None;
            }
            let sound = run(seed, *model, Mutants::default(), false).failure.is_none();
            sound.then_some((seed, failure))
        });
        match found {
            Some((seed, failure)) => {
                println!("    (Mutant::{mutant:?}, ModelName::{model:?}, {seed}), // {failure}");
            }
            None => println!("    // {mutant:?}: not within {SEEDS} seeds"),
        }
    }
}
