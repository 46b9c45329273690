//! All members of an `interval-1s` keyspace lose their power while one of them has a snapshot on
//! its disk that contains more than anybody's log has left. That one can lead nobody, and must not
//! keep the others from electing one of them: they do, under a possible loss, and what only it has
//! is reported. Each seed catches another moment; the story must have come about in some.
#![allow(clippy::unwrap_used)]

use replication::keyspace::slot::slot_of;
use replication::keyspace::{Acks, Durability, Failover, GroupOptions};
use replication::leader_follower::Group;
use replication::node::{Limits, Timing};
use replication::{ClientId, NodeId, Reply};
use simulator::cluster::by_hand::{MS, SHORT_TIMING};
use simulator::cluster::{Cluster, Plan};
use simulator::convergence;
use simulator::options::group;

const SEEDS: u64 = 120;
/// So many writes make the leader forget the beginning of its log.
const FILL: usize = 30;
/// From one pair of writes to the next.
const WRITE_US: u64 = 2 * MS;
/// The follower is started at another moment between two syncs of the others' logs in each seed.
const PHASE_US: u64 = 7 * MS;
/// From when the follower's snapshot is in place to when its record is on disk.
const SYNC_US: u64 = 1_500;

struct World {
    cluster: Cluster,
    leader: NodeId,
    follower: NodeId,
    writer: ClientId,
    /// Keys at both ends of the slots: images of them are made at different moments.
    keys: [String; 2],
}

impl World {
    fn new(seed: u64) -> World {
        let durability = Durability::Interval;
        let group = GroupOptions { durability, ..group(3, Acks::Majority, Failover::Safe) };
        let limits = Limits {
            log_bytes_max: 2_000,
            image_bytes_max: 1_500,
            window_bytes_max: 64_000,
            ..Limits::default()
        };
        // The moments that are played are those of a quick election.
        let (election_timeout_us, lease_us) = (150 * MS, 120 * MS);
        let timing = Timing { election_timeout_us, lease_us, ..SHORT_TIMING };
        let mut cluster = Plan { timing, limits, ..Plan::of_three(group) }.build(seed);
        cluster.pass(1_000 * MS);
        let leader = cluster.leader().unwrap();
        let follower = cluster.others(leader)[0];
        let writer = cluster.connect(leader);
        let key = |at: &dyn Fn(u16) -> bool| {
            let mut keys = (0..10_000).map(|number| format!("k{number}"));
            keys.find(|key| at(slot_of(key.as_bytes()))).unwrap()
        };
        let keys = [key(&|slot| slot < 50), key(&|slot| slot > 16_330)];
        World { cluster, leader, follower, writer, keys }
    }

    fn fill(&mut self, value: &str) {
        for number in 0..FILL {
            let words = ["SET", &format!("fill{number}"), &value.repeat(100)];
            assert_eq!(self.cluster.ask_over(self.writer, &words), Some(Reply::Ok));
        }
    }

    /// The follower comes back far behind and is sent a snapshot, while others are writing. Whether
    /// a moment came at which its slots had more than its log.
    fn gets_ahead(&mut self, seed: u64) -> bool {
        self.fill("x");
        self.cluster.crash(self.follower, false);
        self.fill("y");
        self.cluster.pass(2_500 * MS);
        let start_us = self.cluster.now_us + 700 * MS + seed * PHASE_US;
        let until_us = start_us + 500 * MS;
        let mut number = 0;
        while self.cluster.now_us < until_us {
            if self.cluster.now_us >= start_us && !self.cluster.is_up(self.follower) {
                self.cluster.start(self.follower);
            }
            number += 1;
            for key in self.keys.clone() {
                self.cluster.send(self.writer, &["SET", &key, &number.to_string()]);
            }
            let is_ahead = |cluster: &Cluster| is_ahead(cluster, self.follower).then_some(());
            if self.cluster.within(WRITE_US, is_ahead).is_some() {
                return true;
            }
        }
        false
    }

    /// All lose their power as soon as the snapshot is on disk, and come back. Whether the follower
    /// has kept most of the log then, and more in its slots.
    fn loses_power(&mut self) -> bool {
        self.cluster.network.set_cut(self.leader, self.follower, true);
        self.cluster.pass(SYNC_US);
        for node in self.cluster.nodes() {
            self.cluster.crash(node, true);
        }
        self.cluster.network.heal();
        for node in self.cluster.nodes() {
            self.cluster.start(node);
        }
        let last = |node| self.cluster.group(node).map(Group::last);
        let mut others = self.cluster.others(self.follower).into_iter();
        let longest = others.all(|node| last(node) < last(self.follower));
        is_ahead(&self.cluster, self.follower) && longest
    }
}

/// Whether a node's slots have more than its log.
fn is_ahead(cluster: &Cluster, node: NodeId) -> bool {
    let ahead = |group: &Group| group.state.ahead_of(group.last().index).is_some();
    cluster.group(node).is_some_and(|group| group.commit() > 0 && ahead(group))
}

#[test]
fn a_member_whose_slots_are_ahead_of_all_logs_does_not_keep_the_others_from_electing_one() {
    let mut staged = 0;
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        if !world.gets_ahead(seed) || !world.loses_power() {
            continue;
        }
        staged += 1;
        let World { mut cluster, follower, .. } = world;
        let serves = |cluster: &Cluster| cluster.leader().is_some();
        assert!(cluster.until(serves), "seed {seed}: nobody leads");
        assert!(!cluster.observations.losses.is_empty(), "seed {seed}: nobody says so");
        // The snapshot may be of nothing, and the log follows.
        let is_followed = |cluster: &Cluster| {
            let commit = cluster.commit(follower);
            cluster.nodes().into_iter().all(|node| cluster.commit(node) == commit)
                && convergence::all_equal(cluster)
        };
        assert!(cluster.until(is_followed), "seed {seed}");
        let reported = cluster.group(follower).unwrap().reported().count();
        assert!(reported > 0, "seed {seed}: what only the follower had is not reported");
    }
    assert!(staged >= 3, "{staged}");
}
