//! A leader that began under a possible loss meets a follower that knows better: the follower gives
//! up what the leader lacks, keeps it aside and tells of it, and the group goes on with as many
//! members as its quorum needs. What is lost in a power cut is chance, so that each story is tried
//! with many seeds, and must have come about in some.
#![allow(clippy::unwrap_used, clippy::panic)]

use replication::keyspace::{Acks, Durability, Failover, LeaderFollower, Model};
use replication::leader_follower::Group;
use replication::leader_follower::lost_writes::report::{LostWrite, What};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{DatacenterId, NodeId, Reply};
use simulator::cluster::{Cluster, Outside, Plan, Server};
use simulator::convergence;
use simulator::disk::Pace;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const MS: u64 = 1_000;
const STEP_US: u64 = 100;
const PATIENCE_US: u64 = 5_000 * MS;
/// A sync takes longer than a few writes: a power cut takes them.
const SYNC_US: (u64, u64) = (40 * MS, 80 * MS);
/// A vote takes the candidate's sync and the voter's, each of which may have to wait for another.
const ELECTION_TIMEOUT_US: u64 = 5 * SYNC_US.1;
/// What a power cut takes is chance.
const SEEDS: u64 = 200;
const NODES: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];

/// Three nodes whose copies count before they are synced, and any two of which may go on.
struct World {
    cluster: Cluster,
}

impl World {
    fn new(seed: u64, limits: Limits) -> World {
        let mut group = group(3, Acks::Majority, Failover::Available);
        group.durability = Durability::Interval;
        let home = DatacenterId(0);
        let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
        let plan = Plan {
            cluster: cluster_of(&["eu"], 3, model, seed),
            timing: Timing {
                lease_us: MS,
                clock_drift_ppm: 500,
                heartbeat_interval_us: 10 * MS,
                election_timeout_us: ELECTION_TIMEOUT_US,
                leader_wait_us: 500 * MS,
                forward_timeout_us: 500 * MS,
                gaps_interval_us: 1_000 * MS,
            },
            limits,
            mutants: Mutants::default(),
            weather: Weather::calm(),
            pace: Pace { sync_us: SYNC_US, ..Pace::quick() },
        };
        World { cluster: Cluster::new(plan, seed, Trace::new(false)) }
    }

    fn group(&self, node: NodeId) -> Option<&Group> {
        self.cluster.server(node).and_then(Server::node)?.groups().next()
    }

    fn commit(&self, node: NodeId) -> u64 {
        self.group(node).map_or(0, Group::commit)
    }

    /// Who leads in a later epoch than this one.
    fn leader_above(&self, epoch: u64) -> Option<NodeId> {
        let leads =
            |node: &NodeId| self.group(*node).is_some_and(|g| g.leads() && g.epoch() > epoch);
        NODES.into_iter().find(leads)
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
        while self.cluster.now_us < limit_us {
            match self.cluster.next(limit_us) {
                Some(Outside::Reply { connection: on, reply, .. }) if on == connection => {
                    return Some(reply);
                }
                Some(Outside::Broken(on)) if on == connection => return None,
                _ => {}
            }
        }
        None
    }

    fn writes(&mut self, node: NodeId, key: &str, value: &str) -> bool {
        let limit_us = self.cluster.now_us + PATIENCE_US;
        while self.cluster.now_us < limit_us {
            if self.ask(node, &["SET", key, value]) == Some(Reply::Ok) {
                return true;
            }
        }
        false
    }

    fn cut(&mut self, node: NodeId, cut: bool) {
        for peer in NODES.into_iter().filter(|peer| *peer != node) {
            self.cluster.network.set_cut(node, peer, cut);
            self.cluster.network.set_cut(peer, node, cut);
        }
    }

    /// The keys of what a node reports as lost.
    fn lost_keys(&self, node: NodeId) -> Vec<String> {
        let reported = self.group(node).into_iter().flat_map(Group::reported);
        let keys = |write: &LostWrite| match &write.what {
            What::Changes(changes) => changes.iter().map(|change| change.key.clone()).collect(),
            What::Everything => Vec::new(),
        };
        let keys = reported.flat_map(keys);
        keys.map(|key| String::from_utf8_lossy(&key).into_owned()).collect()
    }
}

/// Two of three lose their power before anything was synced, while the third, which knows that
/// something was committed, is cut off; one of the two leads with the other's vote, which then goes
/// away. `None` where the power cut took less.
fn leads_with_nothing(
    seed: u64,
    keys: &[&str],
    log_bytes_max: usize,
) -> Option<(World, NodeId, NodeId, NodeId)> {
    let small = Limits { records_at_once_max: 2, ..Limits::default() };
    let mut world = World::new(seed, Limits { log_bytes_max, ..small });
    assert!(world.until(|world| world.leader_above(0).is_some()));
    let old = world.leader_above(0)?;
    let [aside, other]: [NodeId; 2] =
        NODES.into_iter().filter(|node| *node != old).collect::<Vec<_>>().try_into().unwrap();
    for key in keys {
        assert!(world.writes(old, key, "a"));
    }
    let written = 1 + keys.len() as u64;
    if !world.until(|world| world.commit(aside) >= written) {
        return None;
    }
    world.cut(aside, true);
    for node in [old, other] {
        world.cluster.crash(node, true);
        world.cluster.start(node);
    }
    let epoch = world.group(aside)?.epoch();
    let mut alone = None;
    world.until(|world| world.leader_above(epoch).is_some());
    let leader = world.leader_above(epoch)?;
    let voter = if leader == old { other } else { old };
    world.cluster.crash(voter, false);
    if world.commit(leader) == 0 && world.group(leader)?.last().index == 1 {
        alone = Some(leader);
    }
    Some((world, alone?, aside, voter))
}

/// Two of three go on without what only the third knows, and that one tells of all of it.
fn is_told(keys: &[&str], log_bytes_max: usize) {
    let mut staged = 0;
    for seed in 1..=SEEDS {
        let Some((mut world, leader, aside, voter)) = leads_with_nothing(seed, keys, log_bytes_max)
        else {
            continue;
        };
        staged += 1;
        world.cut(aside, false);
        assert!(world.writes(leader, "another", "c"), "seed {seed}: two of three do not go on");
        assert!(world.until(|world| world.commit(aside) >= 2), "seed {seed}");
        assert_eq!(world.lost_keys(aside), keys, "seed {seed}");
        world.cluster.start(voter);
        assert!(world.until(|world| convergence::all_equal(&world.cluster)), "seed {seed}");
    }
    assert!(staged >= 5, "{staged}");
}

#[test]
fn a_leader_that_has_nothing_is_followed_by_one_that_has_something() {
    is_told(&["first", "second"], Limits::default().log_bytes_max);
}

#[test]
fn what_the_log_no_longer_has_is_told_by_the_state() {
    is_told(&["k1", "k2", "k3", "k4", "k5"], 100);
}
