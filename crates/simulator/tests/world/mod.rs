//! Three nodes on which a story is told step by step: what several test files share.
// Each of them is a crate of its own, and uses a part.
#![allow(dead_code)]

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

pub const MS: u64 = 1_000;
const STEP_US: u64 = 500;
const PATIENCE_US: u64 = 20_000 * MS;
pub const NODES: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];

/// Three nodes with a keyspace of which any two may go on.
pub struct World {
    pub cluster: Cluster,
}

impl World {
    /// A cluster that has a leader.
    pub fn new(limits: Limits) -> World {
        World::in_weather(limits, Weather::calm())
    }

    /// The same in other weather.
    pub fn in_weather(limits: Limits, weather: Weather) -> World {
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
            weather,
            pace: Pace::quick(),
        };
        let mut world = World { cluster: Cluster::new(plan, 1, Trace::new(false)) };
        assert!(world.until(|world| world.leader().is_some()));
        world
    }

    /// The group, as a node that runs knows it.
    pub fn group(&self, node: NodeId) -> Option<&Group> {
        self.cluster.server(node).and_then(Server::node)?.groups().next()
    }

    /// Who serves.
    pub fn leader(&self) -> Option<NodeId> {
        NODES.into_iter().find(|node| self.group(*node).is_some_and(Group::is_serving))
    }

    /// The other nodes.
    pub fn others(&self, than: NodeId) -> Vec<NodeId> {
        NODES.into_iter().filter(|node| *node != than).collect()
    }

    /// Each member's disk.
    pub fn disks(&self) -> VoterSet {
        let disk = |node| (node, self.cluster.server(node).unwrap().node().unwrap().incarnation());
        NODES.map(disk).to_vec()
    }

    /// Whether all members know all disks that are there for the voters.
    pub fn all_count(&self) -> bool {
        let disks = self.disks();
        NODES.into_iter().all(|node| self.group(node).is_some_and(|group| group.voters() == disks))
    }

    /// Lets time pass until something is so; whether it came to be.
    pub fn until(&mut self, done: impl Fn(&World) -> bool) -> bool {
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

    /// The answer to a command; `None` where none came.
    pub fn ask(&mut self, node: NodeId, words: &[&str]) -> Option<Reply<'static>> {
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

    /// Lets a time pass, whatever happens in it.
    pub fn run(&mut self, for_us: u64) {
        let end_us = self.cluster.now_us + for_us;
        self.until(|world| world.cluster.now_us >= end_us);
    }
}
