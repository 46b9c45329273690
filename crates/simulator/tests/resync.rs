//! How a follower that was away is brought up: from the log for as long as it reaches back, across
//! any number of failovers; by a snapshot beyond that, which goes on where it stopped.
#![allow(clippy::unwrap_used, clippy::panic)]

use replication::keyspace::{Acks, Failover};
use replication::leader_follower::Group;
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{NodeId, Reply};
use simulator::cluster::by_hand::{MS, PATIENCE_US, SHORT_TIMING};
use simulator::cluster::{Cluster, Plan};
use simulator::convergence;
use simulator::options::group;

/// The follower that is away.
const AWAY: NodeId = NodeId(2);

struct World {
    cluster: Cluster,
    written: usize,
}

impl World {
    fn new(seed: u64, limits: Limits) -> World {
        World::with(seed, limits, Mutants::default())
    }

    fn with(seed: u64, limits: Limits, mutants: Mutants) -> World {
        let plan = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
        // Quick elections: the moments within a snapshot that are tried are those of this timing.
        let timing = Timing {
            heartbeat_interval_us: 20 * MS,
            election_timeout_us: 120 * MS,
            lease_us: 60 * MS,
            ..SHORT_TIMING
        };
        let cluster = Plan { timing, limits, mutants, ..plan }.build(seed);
        let mut world = World { cluster, written: 0 };
        world.write(10);
        world
    }

    /// Looks up to a millisecond apart: the moments within a snapshot that are tried follow from
    /// when it has seen the one before.
    fn until(&mut self, what: &str, is_so: impl Fn(&Cluster) -> bool) {
        let limit_us = self.cluster.now_us + PATIENCE_US;
        while !is_so(&self.cluster) {
            assert!(self.cluster.now_us < limit_us, "{what} does not happen");
            let _ = self.cluster.next(self.cluster.now_us + MS);
        }
    }

    /// Writes so many values of 100 bytes, each until it is acknowledged, through a node that is
    /// not away.
    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let limit_us = self.cluster.now_us + PATIENCE_US;
            while !self.try_write() {
                assert!(self.cluster.now_us < limit_us, "no write is acknowledged");
            }
            self.written += 1;
        }
    }

    fn try_write(&mut self) -> bool {
        let nodes = [NodeId(0), NodeId(1)];
        let Some(node) = nodes.into_iter().find(|node| self.cluster.is_up(*node)) else {
            return false;
        };
        let (key, value) = (format!("k{}", self.written % 40), "v".repeat(100));
        self.cluster.ask(node, &["SET", &key, &value]) == Some(Reply::Ok)
    }

    /// Who was the last to begin to lead.
    fn leader(&self) -> NodeId {
        self.cluster.observations.leaderships.last().unwrap().node
    }

    /// The leader among the others is killed, comes back, and somebody leads.
    fn fail_over(&mut self) {
        let leader = self.leader();
        let before = self.cluster.observations.leaderships.len();
        self.cluster.crash(leader, true);
        let _ = self.cluster.next(self.cluster.now_us + 5 * MS);
        self.cluster.start(leader);
        self.until("a failover", |cluster| cluster.observations.leaderships.len() > before);
    }

    fn count(&self, what: &str) -> u64 {
        self.cluster.observations.counts.get(what).copied().unwrap_or(0)
    }

    fn comes_back(&mut self) {
        self.cluster.cut(AWAY, false);
        self.until("convergence", convergence::all_equal);
    }
}

/// A cluster whose third node is away while the others write and change their leader.
fn after_failovers(seed: u64, log_bytes_max: usize, writes: usize, failovers: usize) -> World {
    // A snapshot is not on its way as a whole at once.
    let small = Limits { image_bytes_max: 200, window_bytes_max: 2_000, ..Limits::default() };
    let limits = Limits { log_bytes_max, ..small };
    let mut world = World::new(seed, limits);
    world.until("everybody has everything", convergence::all_equal);
    world.cluster.cut(AWAY, true);
    world.write(writes);
    for _ in 0..failovers {
        world.fail_over();
        world.write(writes);
    }
    world
}

#[test]
fn no_snapshot_is_sent_where_the_log_reaches_back_however_many_failovers_there_were() {
    for seed in 1..=10 {
        let mut world = after_failovers(seed, 1 << 20, 10, 4);
        world.comes_back();
        assert_eq!(world.count("snapshot installed"), 0, "seed {seed}");
        assert!(world.count("failover") >= 4);
    }
}

/// All logs are shorter than the history, and long enough for who was away.
#[test]
fn no_snapshot_is_sent_where_the_log_is_cut_on_either_side_and_still_reaches_back() {
    for seed in 1..=10 {
        let limits = Limits { log_bytes_max: 12_000, ..Limits::default() };
        let mut world = World::new(seed, limits);
        world.write(150);
        world.until("everybody has everything", convergence::all_equal);
        world.cluster.cut(AWAY, true);
        for _ in 0..3 {
            world.write(8);
            world.fail_over();
        }
        world.write(2);
        let start = |node| world.cluster.group(node).map(Group::log_start);
        let leader = world.leader();
        assert!(start(AWAY) > Some(0) && start(leader) > Some(0), "seed {seed}");
        world.comes_back();
        assert_eq!(world.count("snapshot installed"), 0, "seed {seed}");
    }
}

#[test]
fn a_snapshot_is_sent_where_the_log_does_not_reach_back() {
    for seed in 1..=5 {
        let mut world = after_failovers(seed, 2_000, 60, 1);
        world.comes_back();
        assert!(world.count("snapshot installed") >= 1, "seed {seed}");
    }
}

/// The follower whose copy is needed to commit a FLUSHALL lies beyond the log: it gets a snapshot
/// of what was before.
#[test]
fn a_snapshot_is_sent_while_all_keys_are_about_to_be_removed() {
    let limits = Limits { log_bytes_max: 2_000, ..Limits::default() };
    let mut world = World::new(1, limits);
    world.until("everybody has everything", convergence::all_equal);
    world.cluster.cut(AWAY, true);
    world.write(1);
    let leader = world.leader();
    // So many that they are put aside as one.
    let connection = world.cluster.connect(leader);
    for batch in 0..10 {
        let pairs = (0..500).flat_map(|n| [format!("k{}", 500 * batch + n), String::from("v")]);
        let words: Vec<_> = [String::from("MSET")].into_iter().chain(pairs).collect();
        world.cluster.send(connection, &words);
        world.cluster.pass(20 * MS);
    }
    let other = NodeId(1 - leader.0);
    world.cluster.crash(other, false);
    world.cluster.send(connection, &["FLUSHALL"]);
    world.cluster.pass(20 * MS);
    world.cluster.cut(AWAY, false);
    world.write(1);
    world.cluster.start(other);
    world.until("convergence", convergence::all_equal);
    assert_eq!(world.cluster.group(AWAY).unwrap().state.store.live(), 1);
}

/// A clock was an hour ahead, and only a key that is gone has seen it. The group's time goes on
/// from there on every node, whether it has entries, a snapshot or a checkpoint from then: else a
/// key that has expired would live again where its end is not in the log yet.
#[test]
fn a_groups_time_does_not_go_back_with_a_snapshot_or_a_checkpoint() {
    for checkpoint_bytes in [1, 1 << 20] {
        let limits = Limits { log_bytes_max: 100, checkpoint_bytes, ..Limits::default() };
        let mut world = World::new(1, limits);
        world.until("everybody has everything", convergence::all_equal);
        let newest = |cluster: &Cluster, node: NodeId| cluster.group(node).map(Group::newest_stamp);
        world.cluster.cut(AWAY, true);
        world.write(40);
        let leader = world.leader();
        let jump = |world: &mut World, by_ms| {
            world.cluster.servers.get_mut(usize::from(leader.0)).unwrap().clock.jump(by_ms);
        };
        jump(&mut world, 3_600_000);
        let connection = world.cluster.connect(leader);
        world.cluster.send(connection, &["SET", "gone", "v"]);
        world.cluster.send(connection, &["DEL", "gone"]);
        world.cluster.pass(50 * MS);
        jump(&mut world, -3_600_000);
        let then = newest(&world.cluster, leader);
        world.comes_back();
        assert_eq!(newest(&world.cluster, AWAY), then, "after the snapshot");
        world.cluster.pass(100 * MS);
        world.cluster.crash(AWAY, false);
        world.cluster.start(AWAY);
        assert_eq!(newest(&world.cluster, AWAY), then, "from {checkpoint_bytes} bytes of log on");
    }
}

/// The leader that sends a snapshot dies in the midst of it: the next one sends the rest.
#[test]
fn another_leader_goes_on_with_a_snapshot_where_it_stopped() {
    let mut resumed = 0;
    for seed in 1..=120 {
        let mut world = after_failovers(seed, 6_000, 100, 0);
        world.cluster.cut(AWAY, false);
        // What was lost with the links counts as on its way for some heartbeats; then the snapshot
        // goes on, and this is within it for one seed or another.
        world.cluster.pass(60 * MS + 500 * seed);
        world.fail_over();
        world.comes_back();
        resumed += world.count("snapshot resumed");
    }
    assert!(resumed >= 5, "{resumed} snapshots went on");
}

/// A snapshot stops in the midst; before it can go on, so much is written that no log goes on
/// after its floor. Whether all replicas become equal in the end.
#[cfg(feature = "mutants")]
fn a_snapshot_that_must_begin_anew(mutants: Mutants, seed: u64) -> bool {
    let limits = Limits { log_bytes_max: 2_000, image_bytes_max: 200, ..Limits::default() };
    let mut world = World::with(seed, limits, mutants);
    world.until("everybody has everything", convergence::all_equal);
    world.cluster.cut(AWAY, true);
    world.write(100);
    world.cluster.cut(AWAY, false);
    world.cluster.pass(MS * seed);
    world.cluster.cut(AWAY, true);
    // The leader gives the snapshot up, and with it the log behind its floor.
    world.cluster.pass(300 * MS);
    world.write(100);
    world.cluster.cut(AWAY, false);
    world.cluster.pass(3_000 * MS);
    convergence::all_equal(&world.cluster)
}

#[cfg(feature = "mutants")]
#[test]
fn pieces_of_different_snapshots_that_are_put_together_are_seen() {
    use replication::mutant::Mutant;
    for seed in 1..=20 {
        assert!(a_snapshot_that_must_begin_anew(Mutants::default(), seed), "seed {seed}");
    }
    let mixed = Mutants::plant(Mutant::SnapshotsMix);
    assert!((1..=20).any(|seed| !a_snapshot_that_must_begin_anew(mixed, seed)));
}
