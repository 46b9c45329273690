//! Leases that are counted, kept or looked at in the wrong way. A second line of defence (who
//! stood still for longer than an election takes steps down) covers most of it in plain seeds: here
//! everything stays just within that.

use super::{ELECTION_US, MS, World};
use replication::NodeId;
use replication::mutant::Mutant;
use simulator::checkers::zones;
use simulator::history::Action;

/// Three nodes, a leader who has confirmed a write, and the other two.
fn world(mutant: Option<Mutant>, seed: u64) -> (World, NodeId, [NodeId; 2]) {
    let mut world = World::new(mutant, seed, 3 * MS);
    assert!(world.run_until(|world| world.cluster.leader_above(0).is_some()));
    let old = world.cluster.leader_above(0).unwrap_or(NodeId(0));
    let others = world.cluster.others(old);
    assert!(world.write(old, "~old;"));
    world.run(100 * MS);
    let others = [others.first(), others.last()].map(|node| *node.unwrap_or(&old));
    (world, old, others)
}

fn verdict(world: &World) -> Result<(), String> {
    zones::check(super::KEY, world.operations.iter())
}

/// Lets time pass until somebody leads in a newer epoch, but no longer than so; writes there.
fn successor_writes(world: &mut World, epoch: u64, within_us: u64) -> bool {
    let until_us = world.cluster.now_us + within_us;
    while world.cluster.leader_above(epoch).is_none() && world.cluster.now_us < until_us {
        world.run(super::STEP_US);
    }
    world.cluster.leader_above(epoch).is_some_and(|new| world.write(new, "~new;"))
}

/// The leader stands still just after it has asked, and handles the answers later.
fn answers_are_late(mutant: Option<Mutant>, seed: u64) -> Result<(), String> {
    let (mut world, old, _) = world(mutant, seed);
    let epoch = world.cluster.epoch(old);
    world.run(seed % 30 * MS);
    world.cluster.pause(old, 110 * MS);
    world.run(7 * MS);
    world.cluster.cut(old, true);
    if successor_writes(&mut world, epoch, 2 * ELECTION_US) {
        world.call(old, Action::Get);
    }
    world.run(1_000 * MS);
    verdict(&world)
}

/// The leader stands still just after it has looked at its clock, when its lease is nearly over.
fn the_clock_was_read_early(mutant: Option<Mutant>, seed: u64) -> Result<(), String> {
    let (mut world, old, _) = world(mutant, seed);
    let epoch = world.cluster.epoch(old);
    world.cluster.cut(old, true);
    world.run((60 + seed % 50) * MS);
    let sleeps_us = ELECTION_US - 5 * MS;
    let wakes_us = world.cluster.now_us + sleeps_us;
    world.cluster.pause(old, sleeps_us);
    if successor_writes(&mut world, epoch, sleeps_us) && world.cluster.now_us < wakes_us {
        world.call(old, Action::Get);
    }
    world.run(1_000 * MS);
    verdict(&world)
}

/// The leader hears only one follower, the other would lead. That one's process is started anew,
/// and the leader is cut off.
fn the_voter_starts_anew(mutant: Option<Mutant>, seed: u64) -> Result<(), String> {
    let (mut world, old, [voter, candidate]) = world(mutant, seed);
    let epoch = world.cluster.epoch(old);
    world.cluster.cut_between(old, candidate, true);
    world.run(400 * MS + seed % 40 * 5 * MS);
    world.cluster.cut(old, true);
    world.cluster.crash(voter, false);
    world.cluster.start(voter);
    if successor_writes(&mut world, epoch, ELECTION_US) {
        world.call(old, Action::Get);
    }
    world.run(1_000 * MS);
    verdict(&world)
}

/// The successor that the leader has told to take over sleeps so long that the leader goes on.
fn the_successor_wakes_up_late(mutant: Option<Mutant>, seed: u64) -> Result<(), String> {
    let (mut world, old, [successor, third]) = world(mutant, seed);
    let epoch = world.cluster.epoch(old);
    let order = ["TF.SWITCHOVER", "", world.cluster.name(successor)].map(String::from).to_vec();
    let connection = world.cluster.connect(old);
    world.cluster.request(connection, order);
    let told =
        |world: &World| world.cluster.group(old).is_some_and(|group| group.is_handing_over());
    assert!(world.run_until(told));
    world.cluster.pause(successor, 2 * ELECTION_US + seed % 60 * MS);
    world.run(2 * ELECTION_US - 10 * MS);
    world.cluster.network.set_cut(successor, old, true);
    let began = |world: &World| world.cluster.epoch(successor) > epoch;
    assert!(world.run_until(began), "it has not taken over");
    world.cluster.network.set_cut(third, old, true);
    if successor_writes(&mut world, epoch, ELECTION_US) {
        world.call(old, Action::Get);
    }
    world.run(1_000 * MS);
    verdict(&world)
}

fn is_seen(mutant: Mutant, play: fn(Option<Mutant>, u64) -> Result<(), String>) {
    for seed in 1..=60 {
        assert_eq!(play(None, seed), Ok(()), "seed {seed}");
    }
    let found = (1..=60).find_map(|seed| play(Some(mutant), seed).err());
    assert!(found.is_some_and(|text| text.contains("not linearizable")), "{mutant:?}");
}

#[test]
fn a_leader_that_wakes_up_and_answers_without_asking_is_seen() {
    is_seen(Mutant::ReadWithoutRound, the_clock_was_read_early);
}

#[test]
fn a_lease_that_begins_with_the_answers_is_seen() {
    is_seen(Mutant::LeaseFromReceive, answers_are_late);
}

#[test]
fn a_lease_that_is_looked_at_with_an_old_clock_is_seen() {
    is_seen(Mutant::LeaseCheckedEarly, the_clock_was_read_early);
}

#[test]
fn a_promise_that_a_start_forgets_is_seen() {
    is_seen(Mutant::PromiseForgotten, the_voter_starts_anew);
}

#[test]
fn a_lease_that_a_transfer_keeps_is_seen() {
    is_seen(Mutant::LeaseKeptInTransfer, the_successor_wakes_up_late);
}
