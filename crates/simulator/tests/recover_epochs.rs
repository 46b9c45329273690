//! An operator says that a disk is to go on, and the disks that are lost were in later epochs than
//! any that is left. What those epochs named is never named again: nobody takes a lost write for
//! another one, and an old disk that comes back is neither believed nor elected.
#![allow(clippy::unwrap_used)]

mod world;

use replication::node::Limits;
use replication::token::{Token, cluster_number};
use replication::{NodeId, Reply};
use world::{MS, NODES, World};

const WRITES: usize = 60;
/// So many changes of leaders does the disk that is left not see.
const UNSEEN: u64 = 6;

/// Two disks and what they had acknowledged are lost, or not there.
struct Lost {
    world: World,
    /// The disk that is left, which saw none of it.
    left: NodeId,
    /// The others, which are down.
    lost: [NodeId; 2],
    /// The name of the last write, as its client has it.
    token: String,
}

impl Lost {
    fn new() -> Lost {
        let mut world = World::new(Limits::default());
        let left = world.others(world.leader().unwrap())[0];
        let lost = world.others(left).try_into().unwrap();
        world.cluster.crash(left, false);
        let unseen = world.group(world.leader().unwrap()).unwrap().epoch() + UNSEEN;
        world.switch_over_to(unseen);
        let leader = world.leader().unwrap();
        world.write(leader, "lost", WRITES);
        let group = world.group(leader).unwrap();
        let token = Token { group: group.id, id: group.last() };
        let token = token.to_word(cluster_number(&world.cluster.plan().cluster));
        for node in lost {
            world.cluster.crash(node, false);
        }
        Lost { world, left, lost, token }
    }

    /// One of the two has an empty disk, with which the one that is left goes on; the other's old
    /// disk stays away.
    fn goes_on_without(&mut self) -> NodeId {
        let [old, wiped] = self.lost;
        self.world.cluster.wipe(wiped);
        self.world.cluster.start(wiped);
        self.world.cluster.start(self.left);
        self.world.recover(self.left);
        old
    }
}

impl World {
    fn epoch(&self) -> u64 {
        self.leader().and_then(|leader| self.group(leader)).map_or(0, |group| group.epoch())
    }

    fn switch_over_to(&mut self, epoch: u64) {
        while self.epoch() < epoch {
            let leader = self.leader().unwrap();
            self.ask(leader, &["TF.SWITCHOVER", ""]);
            assert!(self.until(|world| world.leader().is_some()));
        }
    }

    /// An operator says it until it is done: a lease may have to end first.
    fn recover(&mut self, node: NodeId) {
        self.run(1_000 * MS);
        assert!((0..5).any(|_| self.ask(node, &["TF.RECOVER", ""]) == Some(Reply::Ok)));
        assert!(self.until(|world| world.leader().is_some()));
    }

    fn write(&mut self, node: NodeId, key: &str, count: usize) {
        for number in 0..count {
            let key = format!("{key}{number}");
            assert_eq!(self.ask(node, &["SET", &key, "v"]), Some(Reply::Ok));
        }
    }

    fn digests(&self) -> Vec<u64> {
        let group = self.group(NODES[0]).unwrap().id;
        let digest = |node| self.cluster.server(node).unwrap().node().unwrap().digest(group);
        NODES.into_iter().filter_map(digest).collect()
    }

    fn has(&mut self, node: NodeId, key: &str) -> bool {
        matches!(self.ask(node, &["GET", key]), Some(Reply::Bulk(_)))
    }
}

#[test]
fn a_lost_write_is_never_told_to_be_committed() {
    let Lost { mut world, left, lost, token } = Lost::new();
    for node in lost {
        world.cluster.wipe(node);
    }
    for node in NODES {
        world.cluster.start(node);
    }
    world.recover(left);
    assert!(world.until(World::all_count));
    // As many leaders later, and further than the lost log.
    for _ in 0..2 * UNSEEN {
        let leader = world.leader().unwrap();
        world.write(leader, "new", WRITES);
        assert_eq!(world.ask(leader, &["TF.OUTCOME", &token]), Some(Reply::Simple("LOST".into())));
        let next = world.epoch() + 1;
        world.switch_over_to(next);
    }
}

#[test]
fn an_old_disk_that_comes_back_is_brought_in_line() {
    let mut story = Lost::new();
    let old = story.goes_on_without();
    let mut world = story.world;
    for _ in 0..2 * UNSEEN {
        let leader = world.leader().unwrap();
        world.write(leader, "new", WRITES);
        let next = world.epoch() + 1;
        world.switch_over_to(next);
    }
    world.cluster.start(old);
    assert!(world.until(World::all_count));
    let leader = world.leader().unwrap();
    world.write(leader, "end", 1);
    assert!(world.until(|world| world.digests().windows(2).all(|pair| pair[0] == pair[1])));
    let name = world.cluster.name(old).to_string();
    world.ask(leader, &["TF.SWITCHOVER", "", &name]);
    assert!(world.until(|world| world.leader() == Some(old)));
    assert!(world.has(old, "new0") && world.has(old, "end0") && !world.has(old, "lost0"));
}

/// The old disk counts itself and the one that is left among the voters, and these two are there.
#[test]
fn an_old_disk_is_not_elected_by_the_voters_that_it_knows() {
    let mut story = Lost::new();
    let old = story.goes_on_without();
    let mut world = story.world;
    let leader = world.leader().unwrap();
    world.write(leader, "new", WRITES);
    for node in NODES {
        world.cluster.crash(node, true);
    }
    world.cluster.start(old);
    world.cluster.start(story.left);
    world.run(5_000 * MS);
    assert_eq!(world.leader(), None);
    world.cluster.start(story.lost[1]);
    assert!(world.until(World::all_count));
    let leader = world.leader().unwrap();
    assert!(world.has(leader, "new0") && !world.has(leader, "lost0"));
}

/// Of two words neither of which knows of the other, both leave names of their own.
#[test]
fn two_words_on_two_sets_of_disks_do_not_name_the_same_epochs() {
    let epoch_after = |seen: u64| {
        let mut world = World::new(Limits::default());
        let (left, lost) = (NODES[0], [NODES[1], NODES[2]]);
        world.switch_over_to(seen);
        for node in lost {
            world.cluster.crash(node, false);
            world.cluster.wipe(node);
        }
        for node in lost {
            world.cluster.start(node);
        }
        world.recover(left);
        world.epoch()
    };
    let (one, other) = (epoch_after(3), epoch_after(4));
    assert!(one.abs_diff(other) > 1_000, "{one} and {other}");
}
