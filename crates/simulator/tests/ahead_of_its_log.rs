//! All members of an `interval-1s` keyspace lose their power while one of them has a snapshot on
//! its disk that contains more than anybody's log has left. That one can lead nobody, and must not
//! keep the others from electing one of them: they do, under a possible loss, and what only it has
//! is reported. Each seed catches another moment; the story must have come about in some.
#![allow(clippy::unwrap_used)]

use replication::keyspace::slot::slot_of;
use replication::keyspace::{Acks, Durability, Failover, LeaderFollower, Model};
use replication::leader_follower::Group;
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{ClientId, DatacenterId, NodeId, Reply};
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::convergence;
use simulator::disk::Pace;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const MS: u64 = 1_000;
const STEP_US: u64 = 100;
const PATIENCE_US: u64 = 20_000 * MS;
const NODES: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];
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
        let mut group = group(3, Acks::Majority, Failover::Safe);
        group.durability = Durability::Interval;
        let home = DatacenterId(0);
        let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
        let plan = Plan {
            cluster: cluster_of(&["eu"], 3, model, seed),
            timing: Timing {
                lease_us: 120 * MS,
                clock_drift_ppm: 500,
                heartbeat_interval_us: 30 * MS,
                election_timeout_us: 150 * MS,
                leader_wait_us: 900 * MS,
                forward_timeout_us: 900 * MS,
                gaps_interval_us: 1_000 * MS,
            },
            limits: Limits {
                log_bytes_max: 2_000,
                image_bytes_max: 1_500,
                window_bytes_max: 64_000,
                ..Limits::default()
            },
            mutants: Mutants::default(),
            weather: Weather::calm(),
            pace: Pace::quick(),
        };
        let mut cluster = Cluster::new(plan, seed, Trace::new(false));
        pass(&mut cluster, 1_000 * MS);
        let leader = NODES.into_iter().find(|node| serves(&cluster, *node)).unwrap();
        let follower = NODES.into_iter().find(|node| *node != leader).unwrap();
        let writer = cluster.connect(leader);
        let key = |at: &dyn Fn(u16) -> bool| {
            let mut keys = (0..10_000).map(|number| format!("k{number}"));
            keys.find(|key| at(slot_of(key.as_bytes()))).unwrap()
        };
        let keys = [key(&|slot| slot < 50), key(&|slot| slot > 16_330)];
        World { cluster, leader, follower, writer, keys }
    }

    fn group(&self, node: NodeId) -> Option<&Group> {
        group_at(&self.cluster, node)
    }

    fn set(&mut self, key: &str, value: &str) -> u64 {
        self.cluster.request(self.writer, vec!["SET".into(), key.into(), value.into()])
    }

    fn fill(&mut self, value: &str) {
        for number in 0..FILL {
            let asked = self.set(&format!("fill{number}"), &value.repeat(100));
            let limit_us = self.cluster.now_us + PATIENCE_US;
            while let Some(outside) = self.cluster.next(limit_us) {
                if let Outside::Reply { sequence, reply, .. } = outside
                    && sequence == asked
                {
                    assert_eq!(reply, Reply::Ok);
                    break;
                }
            }
        }
    }

    fn is_ahead(&self, node: NodeId) -> bool {
        let ahead = |group: &Group| group.state.ahead_of(group.last().index).is_some();
        self.group(node).is_some_and(|group| group.commit() > 0 && ahead(group))
    }

    /// The follower comes back far behind and is sent a snapshot, while others are writing. Whether
    /// a moment came at which its slots had more than its log.
    fn gets_ahead(&mut self, seed: u64) -> bool {
        self.fill("x");
        self.cluster.crash(self.follower, false);
        self.fill("y");
        pass(&mut self.cluster, 2_500 * MS);
        let start_us = self.cluster.now_us + 700 * MS + seed * PHASE_US;
        let until_us = start_us + 500 * MS;
        let mut number = 0;
        while self.cluster.now_us < until_us {
            if self.cluster.now_us >= start_us && self.group(self.follower).is_none() {
                self.cluster.start(self.follower);
            }
            number += 1;
            for key in self.keys.clone() {
                self.set(&key, &number.to_string());
            }
            let next_us = self.cluster.now_us + WRITE_US;
            while self.cluster.now_us < next_us {
                pass(&mut self.cluster, STEP_US);
                if self.is_ahead(self.follower) {
                    return true;
                }
            }
        }
        false
    }

    /// All lose their power as soon as the snapshot is on disk, and come back. Whether the follower
    /// has kept most of the log then, and more in its slots.
    fn loses_power(&mut self) -> bool {
        self.cluster.network.set_cut(self.leader, self.follower, true);
        pass(&mut self.cluster, SYNC_US);
        for node in NODES {
            self.cluster.crash(node, true);
        }
        self.cluster.network.heal();
        for node in NODES {
            self.cluster.start(node);
        }
        let last = |node| self.group(node).map(Group::last);
        let longest =
            NODES.into_iter().all(|node| node == self.follower || last(node) < last(self.follower));
        self.is_ahead(self.follower) && longest
    }

    /// Lets time pass until something is so; whether it came to be.
    fn until(&mut self, done: impl Fn(&World) -> bool) -> bool {
        let limit_us = self.cluster.now_us + PATIENCE_US;
        while !done(self) {
            if self.cluster.now_us >= limit_us {
                return false;
            }
            pass(&mut self.cluster, STEP_US);
        }
        true
    }
}

fn pass(cluster: &mut Cluster, for_us: u64) {
    let until_us = cluster.now_us + for_us;
    while cluster.next(until_us).is_some() {}
}

fn group_at(cluster: &Cluster, node: NodeId) -> Option<&Group> {
    cluster.server(node).and_then(Server::node)?.groups().next()
}

fn serves(cluster: &Cluster, node: NodeId) -> bool {
    group_at(cluster, node).is_some_and(Group::is_serving)
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
        let someone_serves =
            |world: &World| NODES.into_iter().any(|node| serves(&world.cluster, node));
        assert!(world.until(someone_serves), "seed {seed}: nobody leads");
        assert!(!world.cluster.observations.losses.is_empty(), "seed {seed}: nobody says so");
        // The snapshot may be of nothing, and the log follows.
        let is_followed = |world: &World| {
            let commits = NODES.map(|node| world.group(node).map(Group::commit));
            commits.iter().all(|commit| *commit == commits[0])
                && convergence::all_equal(&world.cluster)
        };
        assert!(world.until(is_followed), "seed {seed}");
        let reported = world.group(world.follower).unwrap().reported().count();
        assert!(reported > 0, "seed {seed}: what only the follower had is not reported");
    }
    assert!(staged >= 3, "{staged}");
}
