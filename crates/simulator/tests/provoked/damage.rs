//! A log that is damaged where it had been on disk, on one of the two that a write is on.

use super::{MS, World};
use replication::mutant::Mutant;
use simulator::checkers::leadership;

/// So many that the damage mostly is in front of one of them.
const WRITES: u64 = 20;

/// Two of three have acknowledged some writes. The leader dies, and a bit of the follower's log has
/// flipped: together with the third, which never had them, it must elect nobody. What the checker
/// says; `None` where the follower rightly refuses its log, or no bit could be flipped.
fn a_flipped_bit(mutant: Option<Mutant>, seed: u64) -> Option<Result<(), String>> {
    let mut world = World::with_lease(mutant, seed, MS, MS);
    assert!(world.run_until(|world| world.leader_above(0).is_some()));
    let leader = world.leader_above(0)?;
    let epoch = world.epoch(leader);
    world.run(100 * MS);
    let [damaged, third]: [_; 2] = world.others(leader).try_into().ok()?;
    world.cut(third, true, true);
    for number in 0..WRITES {
        assert!(world.write(leader, &format!("~{number};")));
    }
    world.run(100 * MS);
    world.cluster.crash(damaged, false);
    if !world.cluster.flip_bit(damaged) {
        return None;
    }
    world.cluster.crash(leader, false);
    world.cut(third, false, false);
    world.cluster.start(damaged);
    if !world.cluster.is_up(damaged) {
        return None;
    }
    world.run_until(|world| world.leader_above(epoch).is_some());
    let elected = world.leader_above(epoch);
    assert!(elected.is_none() || mutant.is_some(), "seed {seed}: {elected:?}");
    world.cluster.start(leader);
    assert!(world.run_until(|world| world.leader_above(epoch).is_some()), "seed {seed}");
    let next = world.leader_above(epoch)?;
    assert!(world.write(next, "~last;"), "seed {seed}");
    world.run(500 * MS);
    Some(leadership::committed_prefix(&world.cluster.observations.commits))
}

#[test]
fn damage_that_is_taken_for_a_torn_end_is_seen() {
    let mut staged = 0;
    for seed in 1..=20 {
        let Some(sound) = a_flipped_bit(None, seed) else { continue };
        assert_eq!(sound, Ok(()), "seed {seed}");
        let Some(found) = a_flipped_bit(Some(Mutant::DamageIsTornTail), seed) else { continue };
        assert!(found.is_err_and(|text| text.contains("is committed twice")), "seed {seed}");
        staged += 1;
    }
    assert!(staged >= 10, "{staged}");
}
