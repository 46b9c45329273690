//! An operator says that a disk is to go on, and the disks that are lost were in later epochs than
//! any that is left. What those epochs named is never named again: nobody takes a lost write for
//! another one, and an old disk that comes back is neither believed nor elected.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover};
use replication::token::{Token, cluster_number};
use replication::{NodeId, Reply};
use simulator::cluster::by_hand::MS;
use simulator::cluster::{Cluster, Plan};
use simulator::options::group;

const WRITES: usize = 60;
/// So many changes of leaders does the disk that is left not see.
const UNSEEN: u64 = 6;

/// Two disks and what they had acknowledged are lost, or not there.
struct Lost {
    world: Cluster,
    /// The disk that is left, which saw none of it.
    left: NodeId,
    /// The others, which are down.
    lost: [NodeId; 2],
    /// The name of the last write, as its client has it.
    token: String,
}

impl Lost {
    fn new() -> Lost {
        let mut world = three_nodes(1);
        let left = world.others(world.leader().unwrap())[0];
        let lost = world.others(left).try_into().unwrap();
        world.crash(left, false);
        let unseen = epoch(&world) + UNSEEN;
        switch_over_to(&mut world, unseen);
        let leader = world.leader().unwrap();
        write(&mut world, leader, "lost", WRITES);
        let group = world.group(leader).unwrap();
        let token = Token { group: group.id, id: group.last() };
        let token = token.to_word(cluster_number(&world.plan().cluster));
        for node in lost {
            world.crash(node, false);
        }
        Lost { world, left, lost, token }
    }

    /// One of the two has an empty disk, with which the one that is left goes on; the other's old
    /// disk stays away.
    fn goes_on_without(&mut self) -> NodeId {
        let [old, wiped] = self.lost;
        self.world.wipe(wiped);
        self.world.start(wiped);
        self.world.start(self.left);
        recover(&mut self.world, self.left);
        old
    }
}

/// A group of which any two may go on, with a leader.
fn three_nodes(seed: u64) -> Cluster {
    let mut cluster = Plan::of_three(group(3, Acks::Majority, Failover::Safe)).build(seed);
    assert!(cluster.until(|cluster| cluster.leader().is_some()));
    cluster
}

fn epoch(cluster: &Cluster) -> u64 {
    cluster.leader().map_or(0, |leader| cluster.epoch(leader))
}

fn switch_over_to(cluster: &mut Cluster, wanted: u64) {
    while epoch(cluster) < wanted {
        let leader = cluster.leader().unwrap();
        cluster.ask(leader, &["TF.SWITCHOVER", ""]);
        assert!(cluster.until(|cluster| cluster.leader().is_some()));
    }
}

/// An operator says it until it is done: a lease may have to end first.
fn recover(cluster: &mut Cluster, node: NodeId) {
    cluster.pass(1_000 * MS);
    assert!((0..5).any(|_| cluster.ask(node, &["TF.RECOVER", ""]) == Some(Reply::Ok)));
    assert!(cluster.until(|cluster| cluster.leader().is_some()));
}

fn write(cluster: &mut Cluster, node: NodeId, key: &str, count: usize) {
    for number in 0..count {
        let key = format!("{key}{number}");
        assert_eq!(cluster.ask(node, &["SET", &key, "v"]), Some(Reply::Ok));
    }
}

fn digests(cluster: &Cluster) -> Vec<u64> {
    let nodes = cluster.nodes();
    let digest = |node: &NodeId| {
        let group = cluster.group(*node)?.id;
        cluster.server(*node)?.node()?.digest(group)
    };
    nodes.iter().filter_map(digest).collect()
}

fn has(cluster: &mut Cluster, node: NodeId, key: &str) -> bool {
    matches!(cluster.ask(node, &["GET", key]), Some(Reply::Bulk(_)))
}

#[test]
fn a_lost_write_is_never_told_to_be_committed() {
    let Lost { mut world, left, lost, token } = Lost::new();
    for node in lost {
        world.wipe(node);
    }
    for node in world.nodes() {
        world.start(node);
    }
    recover(&mut world, left);
    assert!(world.until(Cluster::all_disks_count));
    // As many leaders later, and further than the lost log.
    for _ in 0..2 * UNSEEN {
        let leader = world.leader().unwrap();
        write(&mut world, leader, "new", WRITES);
        assert_eq!(world.ask(leader, &["TF.OUTCOME", &token]), Some(Reply::Simple("LOST".into())));
        let next = epoch(&world) + 1;
        switch_over_to(&mut world, next);
    }
}

#[test]
fn an_old_disk_that_comes_back_is_brought_in_line() {
    let mut story = Lost::new();
    let old = story.goes_on_without();
    let mut world = story.world;
    for _ in 0..2 * UNSEEN {
        let leader = world.leader().unwrap();
        write(&mut world, leader, "new", WRITES);
        let next = epoch(&world) + 1;
        switch_over_to(&mut world, next);
    }
    world.start(old);
    assert!(world.until(Cluster::all_disks_count));
    let leader = world.leader().unwrap();
    write(&mut world, leader, "end", 1);
    assert!(world.until(|world| digests(world).windows(2).all(|pair| pair[0] == pair[1])));
    let name = world.name(old).to_string();
    world.ask(leader, &["TF.SWITCHOVER", "", &name]);
    assert!(world.until(|world| world.leader() == Some(old)));
    assert!(
        has(&mut world, old, "new0")
            && has(&mut world, old, "end0")
            && !has(&mut world, old, "lost0")
    );
}

/// The old disk counts itself and the one that is left among the voters, and these two are there.
#[test]
fn an_old_disk_is_not_elected_by_the_voters_that_it_knows() {
    let mut story = Lost::new();
    let old = story.goes_on_without();
    let mut world = story.world;
    let leader = world.leader().unwrap();
    write(&mut world, leader, "new", WRITES);
    for node in world.nodes() {
        world.crash(node, true);
    }
    world.start(old);
    world.start(story.left);
    world.pass(5_000 * MS);
    assert_eq!(world.leader(), None);
    world.start(story.lost[1]);
    assert!(world.until(Cluster::all_disks_count));
    let leader = world.leader().unwrap();
    assert!(has(&mut world, leader, "new0") && !has(&mut world, leader, "lost0"));
}

/// Whoever restarts goes by the newest disks that it ever knew to count, and not by those that the
/// operator had named before one of them was replaced.
#[test]
fn a_disk_that_was_replaced_after_the_word_counts_after_a_restart() {
    for seed in 1..=20 {
        let mut world = three_nodes(seed);
        let left = world.nodes()[0];
        for node in world.others(left) {
            world.crash(node, false);
            world.wipe(node);
            world.start(node);
        }
        recover(&mut world, left);
        assert!(world.until(Cluster::all_disks_count));
        let replaced = world.others(world.leader().unwrap())[0];
        world.crash(replaced, false);
        world.wipe(replaced);
        world.start(replaced);
        assert!(world.until(Cluster::all_disks_count));
        // What is known is on all disks.
        world.pass(500 * MS);
        for node in world.nodes() {
            world.crash(node, true);
        }
        let away = world.others(replaced)[seed as usize % 2];
        for node in world.others(away) {
            world.start(node);
        }
        assert!(world.until(|world| world.leader().is_some()), "seed {seed}");
    }
}

/// Of two words neither of which knows of the other, both leave names of their own.
#[test]
fn two_words_on_two_sets_of_disks_do_not_name_the_same_epochs() {
    let epoch_after = |seen: u64| {
        let mut world = three_nodes(1);
        let left = world.nodes()[0];
        let lost = world.others(left);
        switch_over_to(&mut world, seen);
        for node in &lost {
            world.crash(*node, false);
            world.wipe(*node);
        }
        for node in lost {
            world.start(node);
        }
        recover(&mut world, left);
        epoch(&world)
    };
    let (one, other) = (epoch_after(3), epoch_after(4));
    assert!(one.abs_diff(other) > 1_000, "{one} and {other}");
}
