//! An old leader that has lost its power with writes that were not synced: it comes back, lacks
//! what it had acknowledged, and cannot report it. So nothing that it says ends what is told of
//! it. What a power cut takes is chance: each story is tried with many seeds, and must have come
//! about in some.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use replication::keyspace::{Acks, Durability, Failover, GroupOptions};
use replication::leader_follower::lost_writes::Unheard;
use replication::node::Limits;
use replication::{NodeId, Reply};
use simulator::cluster::by_hand::{MS, PATIENCE_US, SHORT_TIMING};
use simulator::cluster::{Cluster, Plan};
use simulator::disk::Pace;
use simulator::options::group;

const HEARTBEAT_US: u64 = SHORT_TIMING.heartbeat_interval_us;
/// A sync takes longer than a few writes: a power cut takes them.
const SYNC_US: (u64, u64) = (20 * MS, 40 * MS);
/// Acknowledged by the old leader alone.
const WRITES: u64 = 5;
const SEEDS: u64 = 40;
/// Bytes of log between two checkpoints.
const CHECKPOINT_BYTES: u64 = 3_000;
/// So many are enough for several of those.
const MORE_WRITES: u64 = 300;
/// So often each story must have come about.
const STAGED_MIN: u64 = 5;

/// Lets time pass until something is seen.
fn see<T>(cluster: &mut Cluster, look: impl Fn(&Cluster) -> Option<T>) -> T {
    cluster.within(PATIENCE_US, look).expect("it comes to be")
}

fn cluster(seed: u64) -> Cluster {
    let durability = Durability::Interval;
    let group = GroupOptions { durability, ..group(3, Acks::Async, Failover::Available) };
    // What stays of a log is what checkpoints repeat.
    let checkpoint_bytes = CHECKPOINT_BYTES;
    let limits = Limits { checkpoint_bytes, image_bytes_max: 1_000, ..Limits::default() };
    let pace = Pace { sync_us: SYNC_US, ..Pace::quick() };
    Plan { pace, limits, ..Plan::of_three(group) }.build(seed)
}

/// A leader that nobody hears has told a client OK: the cluster, the leader, and its last index.
fn acknowledged_alone(seed: u64) -> (Cluster, NodeId, u64) {
    let mut cluster = cluster(seed);
    let old = see(&mut cluster, Cluster::leader);
    assert_eq!(cluster.ask(old, &["SET", "first", "a"]), Some(Reply::Ok));
    see(&mut cluster, |cluster| {
        let commits = cluster.nodes().into_iter().map(|node| cluster.commit(node));
        commits.min().filter(|least| *least == cluster.last_index(old))
    });
    cluster.cut(old, true);
    for number in 0..WRITES {
        let key = format!("k{number}");
        assert_eq!(cluster.ask(old, &["SET", &key, "lost"]), Some(Reply::Ok), "seed {seed}");
    }
    let last = cluster.last_index(old);
    (cluster, old, last)
}

/// The node that leads in another epoch than the first, and what it says of the first.
fn told(cluster: &Cluster) -> Option<(NodeId, Option<Unheard>)> {
    let new = cluster.node_where(|group| group.is_serving() && group.epoch() > 1)?;
    Some((new, cluster.group(new)?.unheard().find(|unheard| unheard.epoch == 1)))
}

/// The old leader is back, and a follower like any other.
fn is_back(cluster: &Cluster, old: NodeId) -> Option<()> {
    let group = cluster.group(old)?;
    let (new, _) = told(cluster)?;
    let has_all = cluster.commit(old) >= cluster.group(new)?.last().index;
    (has_all && !group.is_suspect()).then_some(())
}

fn why(cluster: &Cluster) -> Option<&'static str> {
    told(cluster)?.1.map(|unheard| unheard.why.word())
}

/// After a power cut at the old leader, another one leads, and the old one has come back; the
/// cluster and the old leader. `None` where the cut took nothing.
fn after_a_power_cut(seed: u64) -> Option<(Cluster, NodeId)> {
    let (mut cluster, old, last) = acknowledged_alone(seed);
    cluster.crash(old, true);
    see(&mut cluster, |cluster| told(cluster).map(|_| ()));
    cluster.start(old);
    if cluster.within(PATIENCE_US, |c| Some(c.last_index(old)).filter(|i| *i > 0))? >= last {
        return None;
    }
    cluster.cut(old, false);
    see(&mut cluster, |cluster| is_back(cluster, old));
    cluster.pass(20 * HEARTBEAT_US);
    Some((cluster, old))
}

#[test]
fn a_leader_whose_disk_is_torn_is_never_heard_out() {
    let mut staged = 0;
    for seed in 1..=SEEDS {
        let Some((mut cluster, old)) = after_a_power_cut(seed) else {
            continue;
        };
        staged += 1;
        assert_eq!(why(&cluster), Some("torn"), "seed {seed}");
        // It outlives the leader that tells of it, and restarts of the old one.
        let (new, _) = told(&cluster).unwrap();
        for number in 0..MORE_WRITES {
            let words = ["SET", "again", &format!("{number:0>200}")];
            assert_eq!(cluster.ask(new, &words), Some(Reply::Ok), "seed {seed}");
        }
        cluster.pass(1_000 * MS);
        for node in [old, new] {
            cluster.crash(node, false);
            cluster.pass(500 * MS);
            cluster.start(node);
        }
        see(&mut cluster, |cluster| is_back(cluster, old));
        see(&mut cluster, |cluster| (why(cluster) == Some("torn")).then_some(()));
        let (new, unheard) = told(&cluster).unwrap();
        let epoch = unheard.unwrap().epoch;
        let id = format!("{}-{epoch}-0", group_of(&mut cluster, new));
        assert_eq!(cluster.ask(new, &["TF.LOST", "FORGET", &id]), Some(Reply::Ok), "seed {seed}");
        cluster.pass(20 * HEARTBEAT_US);
        assert_eq!(why(&cluster), None, "seed {seed}");
    }
    assert!(staged >= STAGED_MIN, "{staged}");
}

/// How a group is called in the ids of what it reports.
fn group_of(cluster: &mut Cluster, node: NodeId) -> String {
    let id = cluster.group(node).unwrap().id;
    let (keyspace, generation) = (id.keyspace.0, id.generation);
    format!("{keyspace:x}-{generation}-{}-{}", id.partition, id.datacenter.0)
}

#[test]
fn a_leader_whose_disk_is_torn_and_that_leads_on_has_not_heard_itself_out() {
    let mut staged = 0;
    for seed in 1..=SEEDS {
        let (mut cluster, old, last) = acknowledged_alone(seed);
        cluster.crash(old, true);
        cluster.cut(old, false);
        // Nobody but the old leader is voted for.
        let [one, other]: [NodeId; 2] = cluster.others(old).try_into().unwrap();
        cluster.cut_between(one, other, true);
        cluster.start(old);
        let kept = cluster.within(PATIENCE_US, |c| Some(c.last_index(old)).filter(|i| *i > 0));
        let led = see(&mut cluster, |cluster| Some(told(cluster)?.0));
        if led != old || kept.is_none_or(|kept| kept >= last) {
            continue;
        }
        staged += 1;
        cluster.pass(20 * HEARTBEAT_US);
        assert_eq!(why(&cluster), Some("torn"), "seed {seed}");
    }
    assert!(staged >= STAGED_MIN, "{staged}");
}

#[test]
fn who_is_heard_out_has_what_it_reports_on_its_disk() {
    for seed in 1..=SEEDS {
        let (mut cluster, old, _) = acknowledged_alone(seed);
        see(&mut cluster, |cluster| told(cluster).map(|_| ()));
        cluster.cut(old, false);
        see(&mut cluster, |cluster| told(cluster)?.1.is_none().then_some(()));
        cluster.crash(old, true);
        cluster.start(old);
        see(&mut cluster, |cluster| is_back(cluster, old));
        cluster.pass(20 * HEARTBEAT_US);
        let reported = cluster.group(old).map(|group| group.reported_counts().acknowledged);
        assert_eq!(reported, Some(WRITES), "seed {seed}");
    }
}
