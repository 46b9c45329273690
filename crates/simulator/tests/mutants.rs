//! Proof that the checkers see: each planted bug is caught within 2,000 seeds, by a seed that
//! passes without it. Those that plain seeds do not reach are provoked by hand (`provoked/`). Run
//! with `cargo test -p simulator --features mutants --test mutants`; with `-- --nocapture` it
//! prints the seeds that caught, to be recorded below after a change that has moved them, and which
//! of the known traps (`Mutant`'s documentation says what they are) are covered. `ONLY=Name,Name`
//! tries these bugs alone.

mod provoked;

use replication::mutant::{Mutant, Mutants};
use simulator::options::ModelName::{self, LeaderFollower, Leaderless, MultiLeader};
use simulator::options::Options;
use simulator::run::run;
use std::collections::BTreeMap;

/// A planted bug that plain seeds catch.
struct Planted {
    /// The trap that it walks into; none of the leader-follower model's where that is empty.
    trap: &'static str,
    mutant: Mutant,
    model: ModelName,
    /// The seed that caught it when this was written: it is tried first. Any change of the core or
    /// of the simulator moves the seeds.
    seed: u64,
    /// Which seeds are to catch it.
    among: Among,
}

/// Some of the seeds: what catches a bug in the others is no proof for these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Among {
    All,
    /// Those in which every leader shows what may be lost: A < C, so that nothing is linearizable.
    LossyAcks,
    /// Those in which no disk is lost: an election is not refused for that.
    WholeDisks,
}

impl Among {
    fn has(self, model: ModelName, seed: u64) -> bool {
        let options = Options::of(seed, model, Mutants::default());
        match self {
            Among::All => true,
            Among::WholeDisks => !options.families.loses_disks(),
            Among::LossyAcks => options.quorums().all(|quorum| quorum.acks < quorum.commit),
        }
    }
}

const fn at(trap: &'static str, mutant: Mutant, model: ModelName, seed: u64) -> Planted {
    Planted { trap, mutant, model, seed, among: Among::All }
}

/// The same among some of the seeds only.
const fn among(among: Among, planted: Planted) -> Planted {
    Planted { among, ..planted }
}

const PLANTED: &[Planted] = &[
    at("A1", Mutant::AckBeforeDurable, LeaderFollower, 3),
    at("A1", Mutant::OwnCopyCountsEarly, LeaderFollower, 15),
    at("A1", Mutant::ReceivedIsApplied, LeaderFollower, 210),
    at("A2", Mutant::TruncateToCommit, LeaderFollower, 37),
    at("A3", Mutant::MatchByIndex, LeaderFollower, 14),
    at("A4", Mutant::OldEpochBelieved, LeaderFollower, 191),
    at("A5", Mutant::LeaseFromReceive, LeaderFollower, 482),
    at("A5", Mutant::LeaseKeptInTransfer, LeaderFollower, 348),
    at("A6", Mutant::InheritedShown, LeaderFollower, 16),
    at("A7", Mutant::ReadWithoutRound, LeaderFollower, 737),
    at("A11", Mutant::DegradeBelowCommit, LeaderFollower, 11),
    at("A11", Mutant::DegradeUnrecorded, LeaderFollower, 11),
    at("A11", Mutant::ReadUncommitted, LeaderFollower, 52),
    among(Among::LossyAcks, at("A11", Mutant::ReadUncommitted, LeaderFollower, 10)),
    at("A11", Mutant::RetryDegradedUnrecorded, LeaderFollower, 43),
    at("A11", Mutant::NamedAcksDegraded, LeaderFollower, 15),
    at("A12", Mutant::VoteForAnyLog, LeaderFollower, 14),
    at("A13", Mutant::OnceForgottenInImages, LeaderFollower, 3),
    at("A14", Mutant::SyncRetried, LeaderFollower, 1),
    at("A15", Mutant::SuspectVotes, LeaderFollower, 36),
    at("A16", Mutant::DamageIsTornTail, LeaderFollower, 19),
    at("A17", Mutant::StallIgnored, LeaderFollower, 77),
    at("A18", Mutant::LeadsUnheard, LeaderFollower, 2),
    at("A19", Mutant::OnceAnsweredEarly, LeaderFollower, 75),
    at("A19", Mutant::RetryRepeated, LeaderFollower, 1),
    at("A19", Mutant::LostForwardResent, LeaderFollower, 13),
    at("A20", Mutant::AskedTooFar, LeaderFollower, 13),
    at("A20", Mutant::ForgottenIsLost, LeaderFollower, 20),
    at("A20", Mutant::ForwardUnbound, LeaderFollower, 645),
    at("A20", Mutant::OpenIsRefused, LeaderFollower, 12),
    at("A20", Mutant::OutcomeByIndex, LeaderFollower, 14),
    at("", Mutant::WordTakesNextEpoch, LeaderFollower, 40),
    at("A21", Mutant::OwnDeadlines, LeaderFollower, 8),
    at("A20", Mutant::OpenPartHidden, LeaderFollower, 57),
    at("A22", Mutant::AppliedOutOfOrder, LeaderFollower, 2),
    at("A22", Mutant::ReadBeforeHeard, LeaderFollower, 381),
    at("A23", Mutant::WipedNodeCounts, LeaderFollower, 46),
    among(Among::WholeDisks, at("", Mutant::ElectionNeedsAll, LeaderFollower, 22)),
    at("", Mutant::WindowIgnored, LeaderFollower, 1),
    at("", Mutant::WindowNotGivenBack, LeaderFollower, 1),
    at("", Mutant::UncommittedIgnored, LeaderFollower, 5),
    at("", Mutant::WaitingIgnored, LeaderFollower, 23),
    at("", Mutant::ReportForgotten, LeaderFollower, 14),
    at("", Mutant::WaitForOnePart, LeaderFollower, 513),
    at("", Mutant::WallClockWins, MultiLeader, 29),
    at("", Mutant::ApplyTwice, MultiLeader, 1),
    at("", Mutant::ReadOneShort, Leaderless, 1),
];

/// Within so many seeds a bug must be caught.
const SEEDS: u64 = 2000;
/// So many different traps at least.
const TRAPS_MIN: usize = 12;

#[test]
fn every_planted_bug_is_caught_within_two_thousand_seeds() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    let mut missed = Vec::new();
    let mut traps: BTreeMap<&str, Vec<Mutant>> = BTreeMap::new();
    for Planted { trap, mutant, model, seed, among } in PLANTED {
        if !only.is_empty() && !only.contains(&format!("{mutant:?}").as_str()) {
            continue;
        }
        let seeds = std::iter::once(*seed).chain(1..=SEEDS);
        let mut seeds = seeds.filter(|seed| among.has(*model, *seed));
        match seeds.find_map(|seed| Some((seed, catches(*mutant, *model, seed)?))) {
            Some((seed, failure)) => {
                let text = format!("at({trap:?}, Mutant::{mutant:?}, {model:?}, {seed})");
                println!("{text}, // among {among:?}: {failure}");
                traps.entry(trap).or_default().push(*mutant);
            }
            None => {
                println!("at({trap:?}, Mutant::{mutant:?}, {model:?}, ?), // NOT CAUGHT");
                missed.push((mutant, model, among));
            }
        }
    }
    traps.remove("");
    println!("{} traps are covered by plain seeds: {traps:?}", traps.len());
    assert!(missed.is_empty(), "not caught by any of {SEEDS} seeds: {missed:?}");
    assert!(traps.len() >= TRAPS_MIN || !only.is_empty(), "{traps:?}");
}

/// What a checker says of the bug in this seed, if it sees it, and if the seed passes without.
fn catches(mutant: Mutant, model: ModelName, seed: u64) -> Option<String> {
    let failure = run(seed, model, Mutants::plant(mutant), false).failure?;
    // A run that only gets stuck may do so for another reason; not so replicas that stay different.
    let is_stuck = failure.contains("liveness") && !failure.contains("replicas to be equal");
    let is_seen = !is_stuck || (mutant == Mutant::ElectionNeedsAll && failure.starts_with("core"));
    (is_seen && run(seed, model, Mutants::default(), false).failure.is_none()).then_some(failure)
}
