//! Planted bugs that plain seeds do not reach: each needs a chain of faults at the right
//! moments, which is played here by hand. Where chance decides about a moment, it is tried at
//! many; with the bug the checkers must see it at one of them, and without it at none.

mod damage;
mod leases;
mod lost_writes;
mod torn;

use replication::keyspace::{Acks, Failover};
use replication::mutant::{Mutant, Mutants};
use replication::node::{Limits, Timing};
use replication::{ClientId, DatacenterId, NodeId};
use simulator::checkers::leadership;
use simulator::cluster::by_hand::{MS, SHORT_TIMING};
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::history::{Action, Operation, Outcome};
use simulator::network::Weather;
use simulator::options::group;

/// How long an election takes at least, in these worlds.
const ELECTION_US: u64 = 150 * MS;
const STEP_US: u64 = 100;
const KEY: &str = "register:0";

/// Three nodes, one group, and what clients saw.
struct World {
    cluster: Cluster,
    operations: Vec<Operation>,
}

impl World {
    fn new(mutant: Option<Mutant>, seed: u64, delay_us: u64) -> World {
        World::with_lease(mutant, seed, delay_us, 120 * MS)
    }

    /// What is not about leases has short ones: else a node that has just started does not vote.
    fn with_lease(mutant: Option<Mutant>, seed: u64, delay_us: u64, lease_us: u64) -> World {
        // One entry a message: what is inherited arrives alone, before the epoch's first entry.
        let limits = Limits { append_bytes_max: 1, ..Limits::default() };
        let timing = Timing { election_timeout_us: ELECTION_US, lease_us, ..SHORT_TIMING };
        let weather = Weather { delay_min_us: delay_us, delay_mean_us: 0, ..Weather::calm() };
        let mutants = mutant.map_or(Mutants::default(), Mutants::plant);
        let plan = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
        let cluster = Plan { timing, limits, mutants, weather, ..plan }.build(seed);
        World { cluster, operations: Vec::new() }
    }

    fn run(&mut self, for_us: u64) {
        let until_us = self.cluster.now_us + for_us;
        while let Some(outside) = self.cluster.next(until_us) {
            self.take(outside);
        }
    }

    /// Lets time pass until something is so; whether it came to be in time.
    fn run_until(&mut self, what: impl Fn(&World) -> bool) -> bool {
        let until_us = self.cluster.now_us + 3_000 * MS;
        while !what(self) && self.cluster.now_us < until_us {
            self.run(STEP_US);
        }
        what(self)
    }

    fn take(&mut self, outside: Outside) {
        let (connection, reply) = match outside {
            Outside::Reply { connection, reply, .. } => (connection, Some(reply)),
            Outside::Broken(connection) => (connection, None),
            Outside::Timer(_) | Outside::Stopped(_) | Outside::CannotStart(..) => return,
        };
        let now_us = self.cluster.now_us;
        let open =
            |o: &&mut Operation| o.connection == connection.0 && o.outcome == Outcome::Pending;
        match (self.operations.iter_mut().find(open), reply) {
            (Some(operation), Some(reply)) => operation.complete(&reply, now_us),
            (Some(operation), None) => operation.abandon("broken", now_us),
            (None, _) => {}
        }
    }

    fn call(&mut self, node: NodeId, action: Action) -> ClientId {
        let connection = self.cluster.connect(node);
        self.cluster.request(connection, action.arguments(KEY));
        self.operations.push(Operation {
            client: self.operations.len(),
            connection: connection.0,
            node,
            datacenter: DatacenterId(0),
            key: KEY.to_string(),
            action,
            invoked_us: self.cluster.now_us,
            returned_us: u64::MAX,
            outcome: Outcome::Pending,
            asked: None,
            must_survive: None,
            copies: None,
            keys: 1,
        });
        connection
    }

    fn outcome(&self, connection: ClientId) -> Option<&Outcome> {
        self.operations.iter().find(|o| o.connection == connection.0).map(|o| &o.outcome)
    }

    /// Gives a write and waits until it is acknowledged.
    fn write(&mut self, node: NodeId, value: &str) -> bool {
        let connection = self.call(node, Action::Set(value.to_string()));
        self.run_until(|world| matches!(world.outcome(connection), Some(Outcome::Done(_))))
    }
}

/// Raft's figure 8 with three nodes: an entry of an older epoch reaches a second replica, and then
/// a leader with a younger entry in its place comes back. What the checker says; `None` where the
/// votes were split, and nobody came to lead in between.
fn figure_8(mutant: Option<Mutant>, seed: u64) -> Option<Result<(), String>> {
    let mut world = World::with_lease(mutant, seed, 3 * MS, MS);
    assert!(world.run_until(|world| world.cluster.leader_above(0).is_some()));
    let first = world.cluster.leader_above(0).unwrap_or(NodeId(0));
    let epoch = world.cluster.epoch(first);
    assert!(world.write(first, "~a;"));
    world.run(100 * MS);
    // An entry that nobody else gets.
    let place = world.cluster.last_index(first) + 1;
    world.cluster.cut(first, true);
    world.call(first, Action::Set(String::from("~b;")));
    assert!(world.run_until(|world| world.cluster.last_index(first) == place));
    world.run(20 * MS);
    world.cluster.crash(first, false);
    // Another node is elected; its own first entry, in the same place, stays with it.
    let others = world.cluster.others(first);
    let risen = |world: &World, node: &NodeId| world.cluster.epoch(*node) > epoch;
    assert!(world.run_until(|world| others.iter().any(|node| risen(world, node))));
    let second = *others.iter().find(|node| risen(&world, node)).unwrap_or(&first);
    let third = *others.iter().find(|node| **node != second).unwrap_or(&first);
    assert!(world.run_until(|world| risen(world, &third)));
    world.cluster.cut_ways(second, true, false);
    if !world.run_until(|world| world.cluster.last_index(second) >= place) {
        return None;
    }
    world.cluster.cut(second, true);
    // The first one is back and leads; only the old entry reaches the third.
    world.cluster.cut(first, false);
    world.cluster.cut(second, true);
    world.cluster.start(first);
    assert!(world.cluster.last_index(third) < place, "the cut came too late");
    assert!(world.run_until(|world| world.cluster.last_index(third) >= place));
    world.cluster.cut_ways(first, true, false);
    world.run(20 * MS);
    world.cluster.crash(first, false);
    // The second comes back: its log ends in a younger epoch, and it wins.
    world.cluster.cut(second, false);
    let epoch = world.cluster.epoch(third);
    assert!(world.run_until(|world| world.cluster.leader_above(epoch) == Some(second)));
    world.cluster.network.heal();
    world.cluster.start(first);
    world.run(500 * MS);
    assert!(world.cluster.group(first).is_some_and(|group| group.commit() > place));
    let seen = &world.cluster.observations;
    let one = leadership::one_leader_per_epoch(&seen.leaderships);
    Some(one.and_then(|()| leadership::committed_prefix(&seen.commits)))
}

/// Over a slow network two nodes ask for votes in one epoch. The third votes for the first of them,
/// loses power, is back at once, and is asked by the second. Whether two have begun to lead.
fn two_candidates(mutant: Option<Mutant>, seed: u64) -> Result<(), String> {
    let mut world = World::with_lease(mutant, seed, 30 * MS, MS);
    let nodes = world.cluster.nodes();
    let stands = |world: &World, node: NodeId| {
        let server = world.cluster.server(node).and_then(Server::node);
        let incarnation = server.map(|server| server.incarnation()).unwrap_or_default();
        world.cluster.group(node).is_some_and(|g| g.role_name(node, incarnation) == "candidate")
    };
    let voter = |world: &World| {
        let voted = |node: &NodeId| {
            let mut others = world.cluster.others(*node).into_iter();
            world.cluster.epoch(*node) == 1
                && others.all(|o| world.cluster.epoch(o) == 1 && stands(world, o))
        };
        nodes.iter().copied().find(voted)
    };
    if world.run_until(|world| voter(world).is_some() || world.cluster.leader_above(0).is_some())
        && let Some(voter) = voter(&world)
    {
        world.cluster.crash(voter, true);
        world.cluster.start(voter);
    }
    world.run(1_000 * MS);
    leadership::one_leader_per_epoch(&world.cluster.observations.leaderships)
}

/// A candidate is voted for, does not hear it, and stands again in the next epoch, cut off; only
/// then comes the old vote, while the others elect somebody. Whether two have begun to lead;
/// `None` where another one was the first to stand in the second epoch, or they elected nobody in
/// it.
fn a_late_vote(mutant: Option<Mutant>, seed: u64) -> Option<Result<(), String>> {
    let mut world = World::with_lease(mutant, seed, 3 * MS, MS);
    let nodes = world.cluster.nodes();
    let first = |world: &World| nodes.iter().copied().find(|node| world.cluster.epoch(*node) == 1);
    assert!(world.run_until(|world| first(world).is_some()));
    let candidate = first(&world)?;
    let others = world.cluster.others(candidate);
    let are_in_the_first =
        |world: &World| others.iter().all(|node| world.cluster.epoch(*node) == 1);
    // The answers are lost, but for a copy that is on its way.
    world.cluster.cut_ways(candidate, false, true);
    world.cluster.network.weather.keep_back_percent = 100;
    assert!(world.run_until(are_in_the_first));
    world.run(20 * MS);
    world.cluster.network.weather.keep_back_percent = 0;
    world.cluster.cut(candidate, false);
    let is_in_the_second = |world: &World| world.cluster.epoch(candidate) == 2;
    let stands_again = |world: &World| is_in_the_second(world) || !are_in_the_first(world);
    assert!(world.run_until(stands_again));
    if !is_in_the_second(&world) || !are_in_the_first(&world) {
        return None;
    }
    world.cluster.cut(candidate, true);
    world.cluster.release_kept_back();
    world.run(1_000 * MS);
    let leaderships = &world.cluster.observations.leaderships;
    let elected = leaderships.iter().any(|start| start.epoch == 2 && start.node != candidate);
    elected.then(|| leadership::one_leader_per_epoch(leaderships))
}

/// What a script with chance in it gives for one seed; `None` where the moment did not come about.
type Script = fn(Option<Mutant>, u64) -> Option<Result<(), String>>;

/// Of the seeds up to this one, in at least ten the moment comes about with and without the bug; in
/// all of these it is seen with the bug, in these words, and nothing is without.
fn is_always_seen(script: Script, seeds: u64, mutant: Mutant, words: &str) {
    let mut staged = 0;
    for seed in 1..=seeds {
        let Some(sound) = script(None, seed) else { continue };
        assert_eq!(sound, Ok(()), "seed {seed}");
        let Some(found) = script(Some(mutant), seed) else { continue };
        assert!(found.is_err_and(|text| text.contains(words)), "seed {seed}");
        staged += 1;
    }
    assert!(staged >= 10, "{staged}");
}

#[test]
fn a_vote_of_an_older_epoch_is_not_counted() {
    is_always_seen(a_late_vote, 60, Mutant::OldEpochBelieved, "began to be led twice");
}

#[test]
fn a_vote_that_is_forgotten_is_given_twice() {
    for seed in 1..=60 {
        assert_eq!(two_candidates(None, seed), Ok(()), "seed {seed}");
    }
    let mutant = Some(Mutant::VoteNotDurable);
    let found = (1..=60).find_map(|seed| two_candidates(mutant, seed).err());
    assert!(found.is_some_and(|text| text.contains("began to be led twice")));
}

#[test]
fn copies_of_an_older_epochs_entry_are_no_commit() {
    is_always_seen(figure_8, 20, Mutant::CountOlderEpochs, "is committed twice");
}
