//! The voters are remembered by every disk: a power cut of all members leaves a group that elects a
//! leader, whatever was done to the voters before, and however far back a member reads its log.
#![allow(clippy::unwrap_used)]

use replication::keyspace::{Acks, Failover, LeaderFollower, Model};
use replication::leader_follower::Group;
use replication::leader_follower::message::VoterSet;
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{DatacenterId, NodeId, Reply};
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::disk::Pace;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const MS: u64 = 1_000;
const STEP_US: u64 = 500;
const PATIENCE_US: u64 = 20_000 * MS;
const NODES: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];
/// A checkpoint comes after a few dozen writes, and shows what was committed when it began.
const CHECKPOINT_BYTES: u64 = 6_000;
const VALUE_BYTES: usize = 100;
const WRITES: usize = 120;

/// Three nodes with a keyspace of which any two may go on.
struct World {
    cluster: Cluster,
}

impl World {
    fn new(limits: Limits) -> World {
        let group = group(3, Acks::Majority, Failover::Safe);
        let home = DatacenterId(0);
        let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
        let plan = Plan {
            cluster: cluster_of(&["eu"], 3, model, 1),
            timing: Timing {
                gaps_interval_us: 1_000 * MS,
                lease_us: 120 * MS,
                clock_drift_ppm: 500,
                heartbeat_interval_us: 30 * MS,
                election_timeout_us: 150 * MS,
                leader_wait_us: 900 * MS,
                forward_timeout_us: 900 * MS,
            },
            limits,
            mutants: Mutants::default(),
            weather: Weather::calm(),
            pace: Pace::quick(),
        };
        let mut world = World { cluster: Cluster::new(plan, 1, Trace::new(false)) };
        assert!(world.until(|world| world.leader().is_some()));
        world
    }

    fn group(&self, node: NodeId) -> Option<&Group> {
        self.cluster.server(node).and_then(Server::node)?.groups().next()
    }

    fn leader(&self) -> Option<NodeId> {
        NODES.into_iter().find(|node| self.group(*node).is_some_and(Group::is_serving))
    }

    fn others(&self, than: NodeId) -> Vec<NodeId> {
        NODES.into_iter().filter(|node| *node != than).collect()
    }

    /// Each member's disk.
    fn disks(&self) -> VoterSet {
        let disk = |node| (node, self.cluster.server(node).unwrap().node().unwrap().incarnation());
        NODES.map(disk).to_vec()
    }

    /// Whether all members know all disks that are there for the voters.
    fn all_count(&self) -> bool {
        let disks = self.disks();
        NODES.into_iter().all(|node| self.group(node).is_some_and(|group| group.voters() == disks))
    }

    /// Lets time pass until something is so; whether it came to be.
    fn until(&mut self, done: impl Fn(&World) -> bool) -> bool {
        let limit_us = self.cluster.now_us + PATIENCE_US;
        while !done(self) {
            if self.cluster.now_us >= limit_us {
                return false;
            }
            let until_us = self.cluster.now_us + STEP_US;
            while self.cluster.next(until_us).is_some() {}
        }
        true
    }

    fn ask(&mut self, node: NodeId, words: &[&str]) -> Option<Reply<'static>> {
        let connection = self.cluster.connect(node);
        self.cluster.request(connection, words.iter().map(|word| word.to_string()).collect());
        let limit_us = self.cluster.now_us + PATIENCE_US;
        while let Some(outside) = self.cluster.next(limit_us) {
            match outside {
                Outside::Reply { connection: on, reply, .. } if on == connection => {
                    return Some(reply);
                }
                Outside::Broken(on) if on == connection => return None,
                _ => {}
            }
        }
        None
    }

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
