//! A log that is damaged where it had been on disk, on one of the two that a write is on.

use super::{MS, World, is_always_seen};
use replication::mutant::Mutant;
use replication::node::idle_mark::RESTS_AFTER_US;
use replication::{NodeId, Position};
use simulator::checkers::leadership;
use simulator::cluster::Cluster;

/// So many that the damage mostly is in front of one of them.
const WRITES: u64 = 20;

/// Long enough for a log to be marked.
const REST_US: u64 = RESTS_AFTER_US + 200 * MS;

fn a_flipped_bit(mutant: Option<Mutant>, seed: u64) -> Option<Result<(), String>> {
    damage(mutant, seed, |cluster, node, _| cluster.flip_bit(node))
}

/// The damage is in the newest of all writes, of a log that is at rest since.
fn a_flipped_bit_at_the_end(mutant: Option<Mutant>, seed: u64) -> Option<Result<(), String>> {
    damage(mutant, seed, Cluster::flip_bit_of)
}

/// Two of three have acknowledged some writes. The leader dies, and a bit of the follower's log has
/// flipped: together with the third, which never had them, it must elect nobody. What the checker
/// says; `None` where the follower rightly refuses its log, or no bit could be flipped.
fn damage(
    mutant: Option<Mutant>,
    seed: u64,
    flip: impl Fn(&mut Cluster, NodeId, Position) -> bool,
) -> Option<Result<(), String>> {
    let mut world = World::with_lease(mutant, seed, MS, MS);
    assert!(world.run_until(|world| world.cluster.leader_above(0).is_some()));
    let leader = world.cluster.leader_above(0)?;
    let epoch = world.cluster.epoch(leader);
    world.run(100 * MS);
    let [damaged, third]: [_; 2] = world.cluster.others(leader).try_into().ok()?;
    world.cluster.cut(third, true);
    for number in 0..WRITES {
        assert!(world.write(leader, &format!("~{number};")));
    }
    let newest = world.cluster.server(damaged)?.disk.kept().1;
    world.run(REST_US);
    world.cluster.crash(damaged, false);
    if !flip(&mut world.cluster, damaged, newest) {
        return None;
    }
    world.cluster.crash(leader, false);
    world.cluster.cut(third, false);
    world.cluster.start(damaged);
    if !world.cluster.is_up(damaged) {
        return None;
    }
    world.run_until(|world| world.cluster.leader_above(epoch).is_some());
    let elected = world.cluster.leader_above(epoch);
    assert!(elected.is_none() || mutant.is_some(), "seed {seed}: {elected:?}");
    world.cluster.start(leader);
    assert!(world.run_until(|world| world.cluster.leader_above(epoch).is_some()), "seed {seed}");
    let next = world.cluster.leader_above(epoch)?;
    assert!(world.write(next, "~last;"), "seed {seed}");
    world.run(500 * MS);
    Some(leadership::committed_prefix(&world.cluster.observations.commits))
}

#[test]
fn damage_at_the_end_of_a_log_at_rest_that_is_taken_for_a_torn_end_is_seen() {
    is_always_seen(a_flipped_bit_at_the_end, 20, Mutant::RestUnmarked, "is committed twice");
}

#[test]
fn damage_that_is_taken_for_a_torn_end_is_seen() {
    is_always_seen(a_flipped_bit, 20, Mutant::DamageIsTornTail, "is committed twice");
}
