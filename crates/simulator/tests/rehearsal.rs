//! What a rehearsal says of an election timeout is what that timeout does: the same pauses of a
//! leader are played once with a timeout that none of them reaches, where the followers note how
//! long it was silent, and once with the timeout that is tried out. And what they have noted is
//! still there when they are started again.
#![allow(clippy::unwrap_used)]

use replication::NodeId;
use replication::keyspace::{Acks, Failover};
use replication::leader_follower::Group;
use replication::node::heartbeat_gaps::{Elections, GapKind};
use replication::node::{Limits, Timing};
use simulator::cluster::by_hand::{MS, SHORT_TIMING};
use simulator::cluster::{Cluster, Plan};
use simulator::options::group;

/// What is tried out.
const TIMEOUT_US: u64 = 100 * MS;
/// A timeout that no pause reaches.
const PATIENT_US: u64 = 2_000 * MS;
/// How often what was heard is written down.
const GAPS_INTERVAL_US: u64 = 200 * MS;
/// How long a node is down.
const DOWN_US: u64 = 1_000 * MS;
/// Votes and their answers take that long at the most: a leader that comes back earlier than that
/// after the timeout may be heard before the votes are.
const ELECTION_US: u64 = 10 * MS;

/// A cluster of three whose leader has stood still for a while, and is back.
fn play(seed: u64, election_timeout_us: u64, pause_us: u64) -> (Cluster, NodeId, u64) {
    let timing = Timing {
        heartbeat_interval_us: 10 * MS,
        election_timeout_us,
        lease_us: election_timeout_us / 2,
        clock_drift_ppm: 0,
        gaps_interval_us: GAPS_INTERVAL_US,
        ..SHORT_TIMING
    };
    // Little besides what was heard is written: that alone makes checkpoints.
    let limits = Limits { checkpoint_bytes: 500, image_bytes_max: 100, ..Limits::default() };
    let plan = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
    let mut cluster = Plan { timing, limits, ..plan }.build(seed);
    cluster.pass(3 * PATIENT_US);
    let leader = cluster.node_where(Group::leads).unwrap();
    let epoch = cluster.epoch(leader);
    cluster.pause(leader, pause_us);
    cluster.pass(pause_us + 4 * TIMEOUT_US);
    (cluster, leader, epoch)
}

/// What each follower says of the timeout.
fn rehearse(cluster: &Cluster, leader: NodeId, timeout_us: u64) -> Vec<Elections> {
    let followers = cluster.others(leader).into_iter();
    let ask = |node: NodeId| {
        let server = cluster.server(node).unwrap();
        let now = server.clock.time(cluster.now_us);
        let gaps = server.node().unwrap().heartbeat_gaps(leader).unwrap();
        gaps.elections(now, timeout_us, GapKind::LeaderPaused)
    };
    followers.map(ask).collect()
}

#[test]
fn a_timeout_does_what_its_rehearsal_has_said() {
    let (mut never, mut always, mut open) = (0, 0, 0);
    for (seed, pause_ms) in (1..=4).flat_map(|seed| (30..=270).step_by(20).map(move |p| (seed, p)))
    {
        let pause_us = pause_ms * MS;
        let (patient, leader, epoch) = play(seed, PATIENT_US, pause_us);
        let kept = patient.nodes().into_iter().all(|node| patient.epoch(node) == epoch);
        assert!(kept, "seed {seed}: the patient cluster has had a failover");
        let least =
            rehearse(&patient, leader, TIMEOUT_US + ELECTION_US).iter().all(|e| e.least > 0);
        let most = rehearse(&patient, leader, TIMEOUT_US).iter().all(|e| e.most > 0);
        let (quick, leader, epoch) = play(seed, TIMEOUT_US, pause_us);
        let failed_over = quick.epoch(leader) > epoch;
        let what = format!("seed {seed}: a pause of {pause_ms} ms, failover: {failed_over}");
        match (least, most) {
            (false, false) => assert!(!failed_over, "{what}, none was foretold"),
            (true, true) => assert!(failed_over, "{what}, one was foretold"),
            (least, _) => assert!(!least, "{what}, less than a certain one is possible"),
        }
        never += u32::from(!most);
        always += u32::from(least);
        open += u32::from(most && !least);
    }
    assert!(never > 0 && always > 0 && open > 0, "never {never}, always {always}, open {open}");
}

/// What a node says of its leader: the elections that the timeout would have started, and for how
/// long it has listened.
fn heard(cluster: &Cluster, node: NodeId, leader: NodeId) -> (Elections, u64) {
    let server = cluster.server(node).unwrap();
    let now = server.clock.time(cluster.now_us);
    let gaps = server.node().unwrap().heartbeat_gaps(leader).unwrap();
    (gaps.elections(now, TIMEOUT_US, GapKind::LeaderPaused), gaps.recorded_us(now))
}

/// Ends a follower's process, and starts it again after a while.
fn restart(cluster: &mut Cluster, node: NodeId, end: impl Fn(&mut Cluster, NodeId)) {
    end(cluster, node);
    cluster.pass(DOWN_US);
    cluster.start(node);
    cluster.pass(TIMEOUT_US);
}

#[test]
fn a_restart_forgets_no_gap_and_makes_none() {
    let mut checkpoints = 0;
    for seed in 1..=6 {
        let (mut cluster, leader, _) = play(seed, PATIENT_US, 250 * MS);
        let follower = cluster.others(leader)[0];
        cluster.pass(2 * GAPS_INTERVAL_US);
        let (elections, _) = heard(&cluster, follower, leader);
        assert!(elections.least > 0, "seed {seed}: the pause was noted");
        for way in 0..6 {
            let (before, listened_us) = heard(&cluster, follower, leader);
            restart(&mut cluster, follower, |cluster, node| match way % 3 {
                0 => cluster.crash(node, false),
                1 => cluster.crash(node, true),
                _ => cluster.stop_clean(node),
            });
            let (after, recorded_us) = heard(&cluster, follower, leader);
            let what = format!("seed {seed}, way {way}: {listened_us} us, then {recorded_us} us");
            assert_eq!(after, before, "{what}");
            assert!(recorded_us + GAPS_INTERVAL_US + 20 * MS > listened_us, "{what}: some is lost");
            assert!(recorded_us <= listened_us + TIMEOUT_US, "{what}: it was down for {DOWN_US}");
            // Long enough for checkpoints.
            cluster.pass(20 * GAPS_INTERVAL_US);
        }
        checkpoints +=
            cluster.observations.counts.get("checkpoint truncated the log").unwrap_or(&0);
    }
    assert!(checkpoints > 10, "{checkpoints} checkpoints");
}

#[test]
fn what_is_a_week_old_is_not_known_any_more() {
    let day_ms = 86_400_000;
    for (days, kept) in [(7, false), (-7, false), (0, true)] {
        let (mut cluster, leader, _) = play(1, PATIENT_US, 250 * MS);
        let follower = cluster.others(leader)[0];
        cluster.pass(2 * GAPS_INTERVAL_US);
        let jump = |cluster: &mut Cluster, node: NodeId| {
            cluster.servers[usize::from(node.0)].clock.jump(days * day_ms);
        };
        let (before, listened_us) = heard(&cluster, follower, leader);
        jump(&mut cluster, follower);
        assert_eq!(heard(&cluster, follower, leader), (before, listened_us), "while it runs");
        restart(&mut cluster, follower, |cluster, node| cluster.crash(node, false));
        let (after, recorded_us) = heard(&cluster, follower, leader);
        assert_eq!(after == before, kept, "{days} days");
        assert_eq!(recorded_us > TIMEOUT_US, kept, "{days} days: {recorded_us} us are known");
    }
}
