//! The voters are remembered by every disk: a power cut of all members leaves a group that elects a
//! leader, whatever was done to the voters before, and however far back a member reads its log.
#![allow(clippy::unwrap_used)]

mod world;

use replication::node::Limits;
use replication::{NodeId, Reply};
use world::{NODES, World};

/// A checkpoint comes after a few dozen writes, and shows what was committed when it began.
const CHECKPOINT_BYTES: u64 = 6_000;
const VALUE_BYTES: usize = 100;
const WRITES: usize = 120;

impl World {
    fn write(&mut self, node: NodeId) {
        let value = "v".repeat(VALUE_BYTES);
        for number in 0..WRITES {
            let key = format!("k{}", number % 7);
            assert_eq!(self.ask(node, &["SET", &key, &value]), Some(Reply::Ok));
        }
    }

    /// Each gets an empty disk, one after the other, and is admitted with it.
    fn replace_disks(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.cluster.crash(*node, false);
            self.cluster.wipe(*node);
            self.cluster.start(*node);
            assert!(self.until(World::all_count));
        }
    }

    /// All lose their power at once, and come back; whether they elect a leader.
    fn survives_a_power_cut_of_all(&mut self) -> bool {
        let disks = self.disks();
        for node in NODES {
            self.cluster.crash(node, true);
        }
        for node in NODES {
            self.cluster.start(node);
        }
        assert_eq!(self.disks(), disks);
        self.until(|world| world.leader().is_some() && world.all_count())
    }
}

/// The second new disk takes its checkpoint while it is still being brought up: after the power cut
/// it reads its log back to where the first one was admitted.
#[test]
fn disks_that_were_replaced_twice_count_after_a_power_cut_of_all() {
    let small = Limits { append_bytes_max: 500, window_bytes_max: 1_000, ..Limits::default() };
    let mut world = World::new(Limits { checkpoint_bytes: CHECKPOINT_BYTES, ..small });
    let leader = world.leader().unwrap();
    let others = world.others(leader);
    world.replace_disks(&others);
    world.write(leader);
    world.replace_disks(&others);
    assert!(world.survives_a_power_cut_of_all());
}

/// The log still has the entries that admitted the disks which the operator has given up.
#[test]
fn disks_that_an_operator_has_named_count_after_a_power_cut_of_all() {
    let limits = Limits { checkpoint_bytes: CHECKPOINT_BYTES, ..Limits::default() };
    let mut world = World::new(limits);
    let left = world.leader().unwrap();
    let others = world.others(left);
    world.replace_disks(&others);
    for node in &others {
        world.cluster.crash(*node, false);
        world.cluster.wipe(*node);
    }
    assert!(world.until(|world| world.leader().is_none()));
    for node in &others {
        world.cluster.start(*node);
    }
    // Where the node has just noticed that it leads no longer, it may have to be said again.
    assert!((0..3).any(|_| world.ask(left, &["TF.RECOVER", ""]) == Some(Reply::Ok)));
    assert!(world.until(World::all_count));
    world.write(left);
    assert!(world.survives_a_power_cut_of_all());
}
