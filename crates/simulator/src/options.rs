//! What a seed stands for: the cluster, its numbers, the clients and which faults there are.
//! Everything is drawn from the seed and can be printed.

use crate::cluster::Plan;
use crate::disk::Pace;
use crate::faults::Families;
use crate::leases::{self, Terms};
use crate::limits;
use crate::network::Weather;
use crate::promises::{self, Ways};
use crate::workload::kind;
use replication::keyspace::{
    AckLevel, Acks, Cluster, Conflicts, Durability, Failover, GroupOptions, Keyspace,
    LeaderFollower, Leaderless, Member, MissingAcks, Model, MultiLeader,
};
use replication::mutant::Mutants;
use replication::node::Timing;
use replication::quorum::Quorum;
use replication::random::Random;
use replication::{DatacenterId, KeyspaceId};
use std::fmt;

/// One seed in so many has `interval-1s` keyspaces.
const INTERVAL_SEEDS: u64 = 6;

/// How often nodes write down what they have heard of each other.
const GAPS_INTERVAL_US: u64 = 400_000;
/// So many seeds in a hundred remove all keys now and then.
const FLUSH_SEEDS_PERCENT: u64 = 10;
/// So many leader-follower seeds in a hundred have two keyspaces.
const TWO_KEYSPACES_PERCENT: u64 = 20;

/// The models, as the command line calls them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ModelName {
    /// One leader.
    LeaderFollower,
    /// One leader in each datacenter.
    MultiLeader,
    /// No leader.
    Leaderless,
}

impl ModelName {
    /// All of them.
    pub const ALL: [ModelName; 3] =
        [ModelName::LeaderFollower, ModelName::MultiLeader, ModelName::Leaderless];

    /// By its name on the command line.
    pub fn parse(text: &str) -> Option<ModelName> {
        Self::ALL.into_iter().find(|model| model.to_string() == text)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelName::LeaderFollower => "leader-follower",
            ModelName::MultiLeader => "multi-leader",
            ModelName::Leaderless => "leaderless",
        })
    }
}

/// A seed, spelt out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// The model of the only keyspace.
    pub model: ModelName,
    /// The cluster.
    pub plan: Plan,
    /// Its faults.
    pub families: Families,
    /// Families that were switched on by name, where its cluster can go on with them.
    pub also: Vec<String>,
    /// How many clients there are.
    pub clients: usize,
    /// How many commands they give in all.
    pub operations: usize,
    /// How long the faults go on, at most.
    pub safety_us: u64,
    /// Whether clients send several commands at once.
    pub pipelines: bool,
    /// Whether clients remove all keys now and then.
    pub flushes: bool,
    /// Whether clients delete keys of two partitions together.
    pub deletes_several: bool,
    /// How writers are acknowledged, where it is in a special way.
    pub ways: Ways,
    /// What nodes promise to their leaders.
    pub terms: Terms,
}

impl Options {
    /// What a seed stands for with a model.
    pub fn of(seed: u64, model: ModelName, mutants: Mutants) -> Options {
        let mut random = Random::new(seed.wrapping_mul(0x5851_F42D_4C95_7F2D) ^ model as u64);
        let mut families = Families::of(model, seed, &mut random);
        let mut cluster = match model {
            ModelName::LeaderFollower => leader_follower(&mut random),
            ModelName::MultiLeader => multi_leader(&mut random),
            ModelName::Leaderless => leaderless(&mut random),
        };
        let ways = promises::vary(seed, &mut cluster);
        // Only the wall clock knows how often a restored node had started.
        families.old_backups &= !families.has_wrong_walls();
        if !survives_a_wipe(&cluster) {
            families.spare_disks();
        }
        if seed.is_multiple_of(INTERVAL_SEEDS) && !ways.degrade {
            set_durability(&mut cluster, Durability::Interval);
            if seed.is_multiple_of(2 * INTERVAL_SEEDS) {
                set_available(&mut cluster);
            }
            // One lost disk and another one that lost its last second are more than a group can do
            // without, unless its failover goes before safety.
            families.power = !families.loses_disks() || is_available(&cluster);
            if model == ModelName::Leaderless {
                // How long ago something was written tells whether a power cut may have taken it.
                (families.slow_disks, families.stalled_disks) = (false, false);
            }
        }
        let deletes_several = model == ModelName::LeaderFollower && matches!(seed % 6, 3 | 5);
        if deletes_several && !ways.degrade {
            kind::in_two_partitions(&mut cluster);
        }
        let mut timing = timing(&mut random);
        leases::draw(seed, &mut cluster, &mut timing);
        let limits = limits::draw(seed, &families, &mut random);
        let weather = weather(families, &mut random);
        // What a node has not read yet comes in its order, as long as its connection is there.
        let reads_slowly = families.slow_readers && model == ModelName::LeaderFollower;
        let plan = Plan {
            cluster,
            timing,
            limits,
            mutants,
            // What may take for ever ends with the connection that it went over, and with nothing
            // else.
            weather: if ways.block || reads_slowly { weather.over_streams() } else { weather },
            pace: pace(&mut random),
        };
        Options {
            seed,
            model,
            plan,
            families,
            also: Vec::new(),
            clients: random.range(3, 9) as usize,
            operations: random.range(100, 260) as usize,
            safety_us: random.range(2_000_000, 5_000_000),
            pipelines: random.chance(40),
            flushes: model == ModelName::LeaderFollower && random.chance(FLUSH_SEEDS_PERCENT),
            deletes_several,
            ways,
            terms: Terms::draw(seed),
        }
    }

    /// The same seed with one family of faults more; `None` where there is no such family. What
    /// is not for the model stays out, as do lost disks after which a group would need an operator;
    /// where it would need one after two families together, the other one goes.
    pub fn also(mut self, family: &str) -> Option<Options> {
        self.also.push(family.to_string());
        if !self.families.switch_on(family) {
            return None;
        }
        self.families.keep_to(self.model);
        if !survives_a_wipe(&self.plan.cluster) {
            self.families.spare_disks();
        }
        let takes_both = is_available(&self.plan.cluster) || !is_interval(&self.plan.cluster);
        match family {
            _ if takes_both || !self.families.loses_disks() => {}
            "power" => self.families.spare_disks(),
            _ => self.families.power = false,
        }
        Some(self)
    }

    /// The numbers of the leader-follower groups of its first keyspace, where it has any.
    pub fn quorum(&self) -> Option<Quorum> {
        self.plan.cluster.keyspaces.first().and_then(quorum)
    }

    /// The same for the keyspace that a key belongs to.
    pub fn quorum_of(&self, key: &str) -> Option<Quorum> {
        self.plan.cluster.keyspace_of(key.as_bytes()).and_then(quorum)
    }

    /// The same for all of its keyspaces.
    pub fn quorums(&self) -> impl Iterator<Item = Quorum> {
        self.plan.cluster.keyspaces.iter().filter_map(quorum)
    }

    /// What is counted of the cluster itself: how many replicas, which acks, and in which way.
    pub fn kinds(&self) -> Vec<&'static str> {
        let groups = self.plan.cluster.keyspaces.iter().filter_map(|k| k.model.group());
        let of_group = |group: &GroupOptions| {
            let replicas = if group.replicas == 5 { "5 replicas" } else { "3 replicas" };
            let acks = match group.acks {
                Acks::Async => "acks async",
                Acks::SemiSync => "acks semi-sync",
                Acks::Sync => "acks sync",
                Acks::Majority => "acks majority",
                Acks::Exactly(_) => "acks by number",
            };
            let missing = match group.missing_acks {
                MissingAcks::Error => "missing acks: error",
                MissingAcks::Block => "missing acks: block",
                MissingAcks::Degrade => "missing acks: degrade",
            };
            let level = match group.ack_level {
                AckLevel::Received => "ack level received",
                AckLevel::Durable => "ack level durable",
                AckLevel::Applied => "ack level applied",
            };
            let durability = match group.durability {
                Durability::Fsync => "durability fsync",
                Durability::Interval => "durability interval",
            };
            [replicas, acks, missing, level, durability]
        };
        groups.flat_map(of_group).collect()
    }

    /// Whether reads of a key are linearizable: what is acknowledged is committed, and no lease is
    /// worth less than its holder believes.
    pub fn is_linearizable(&self, key: &str) -> bool {
        let keyspace = self.plan.cluster.keyspace_of(key.as_bytes());
        let Some(group) = keyspace.and_then(|keyspace| keyspace.model.group()) else {
            return false;
        };
        let quorum = Quorum::of(group);
        quorum.commit <= quorum.acks && !(group.leases && self.families.breaks_leases())
    }

    /// N, W and R, where it is leaderless.
    pub fn leaderless(&self) -> Option<(usize, usize, usize)> {
        self.plan.cluster.keyspaces.first().and_then(|keyspace| match &keyspace.model {
            Model::Leaderless(o) => Some((o.n.into(), o.w.into(), o.r.into())),
            _ => None,
        })
    }
}

fn quorum(keyspace: &Keyspace) -> Option<Quorum> {
    keyspace.model.group().map(Quorum::of)
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} {}: {} nodes", self.seed, self.model, self.plan.cluster.members.len())?;
        for (keyspace, q) in self.plan.cluster.keyspaces.iter().zip(self.quorums()) {
            let prefix = keyspace.prefix.escape_ascii();
            write!(
                f,
                ", \"{prefix}\" N={} A={} E={} C={}",
                q.replicas, q.acks, q.election, q.commit
            )?;
        }
        if let Some((n, w, r)) = self.leaderless() {
            write!(f, ", n={n} w={w} r={r}")?;
        }
        write!(f, ", {} clients, {} commands", self.clients, self.operations)?;
        if let Some(group) = promises::group_of(self) {
            let (missing, level) = (group.missing_acks, group.ack_level);
            write!(f, "\nmissing acks: {missing}, ack level: {level}, {:?}", self.ways)?;
        }
        write!(f, "\n{}\n{:?}", self.families, self.plan.weather)?;
        write!(f, "\n{:?}\n{:?}\n{:?}", self.plan.timing, self.plan.limits, self.plan.pace)
    }
}

fn set_durability(cluster: &mut Cluster, durability: Durability) {
    for keyspace in &mut cluster.keyspaces {
        match &mut keyspace.model {
            Model::LeaderFollower(options) => options.group.durability = durability,
            Model::MultiLeader(options) => options.group.durability = durability,
            Model::Leaderless(options) => options.durability = durability,
        }
    }
}

/// Whether a power cut may take from some keyspace what it has acknowledged.
fn is_interval(cluster: &Cluster) -> bool {
    cluster.keyspaces.iter().any(|keyspace| match &keyspace.model {
        Model::LeaderFollower(options) => options.group.durability == Durability::Interval,
        Model::MultiLeader(options) => options.group.durability == Durability::Interval,
        Model::Leaderless(options) => options.durability == Durability::Interval,
    })
}

/// Failover goes before safety everywhere.
fn set_available(cluster: &mut Cluster) {
    for keyspace in &mut cluster.keyspaces {
        match &mut keyspace.model {
            Model::LeaderFollower(options) => options.group.failover = Failover::Available,
            Model::MultiLeader(options) => options.group.failover = Failover::Available,
            Model::Leaderless(_) => {}
        }
    }
}

/// Whether failover goes before safety everywhere.
pub fn is_available(cluster: &Cluster) -> bool {
    let groups = cluster.keyspaces.iter().map(|keyspace| keyspace.model.group());
    groups.flatten().all(|group| group.failover == Failover::Available)
}

/// Whether the cluster goes on without an operator when one disk is empty: an election among the
/// others must be possible.
fn survives_a_wipe(cluster: &Cluster) -> bool {
    cluster.keyspaces.iter().all(|keyspace| match &keyspace.model {
        Model::LeaderFollower(LeaderFollower { group, .. })
        | Model::MultiLeader(MultiLeader { group, .. }) => {
            let quorum = Quorum::of(group);
            quorum.election < quorum.replicas && quorum.commit < quorum.replicas
        }
        Model::Leaderless(_) => true,
    })
}

/// Members named `eu-1`, `eu-2`, ... `us-1`, ..., which is also their order.
pub fn members(datacenters: &[&str], nodes: usize) -> Vec<Member> {
    let mut members = Vec::new();
    for (number, datacenter) in datacenters.iter().enumerate() {
        for node in 1..=nodes {
            let datacenter_id = DatacenterId(number as u8);
            members
                .push(Member { name: format!("{datacenter}-{node}"), datacenter: datacenter_id });
        }
    }
    members
}

/// A cluster with one keyspace, that of the empty prefix.
pub fn cluster_of(datacenters: &[&str], nodes: usize, model: Model, secret: u64) -> Cluster {
    Cluster {
        name: String::from("simulated"),
        secret,
        datacenters: datacenters.iter().map(|name| name.to_string()).collect(),
        members: members(datacenters, nodes),
        keyspaces: vec![Keyspace { id: KeyspaceId(1), prefix: Vec::new(), model }],
    }
}

/// How a group replicates, with short timeouts.
pub fn group(replicas: u8, acks: Acks, failover: Failover) -> GroupOptions {
    let (ack_timeout_ms, disk_stall_ms) = (400, leases::DISK_STALL_MS);
    let defaults = GroupOptions::defaults(replicas);
    GroupOptions { acks, failover, ack_timeout_ms, disk_stall_ms, ..defaults }
}

fn leader_follower(random: &mut Random) -> Cluster {
    let nodes = if random.chance(60) { 3 } else { 5 };
    let model = leader_follower_keyspace(nodes, random);
    let mut cluster = cluster_of(&["eu"], usize::from(nodes), model, random.next_u64());
    if random.chance(TWO_KEYSPACES_PERCENT) {
        let prefixes: [&[u8]; 4] = [b"register", b"list", b"mixed:1", b"{pair}"];
        let prefix = prefixes.get(random.range(0, 4) as usize).map_or(Vec::new(), |p| p.to_vec());
        let model = leader_follower_keyspace(nodes, random);
        cluster.keyspaces.push(Keyspace { id: KeyspaceId(2), prefix, model });
    }
    cluster
}

fn leader_follower_keyspace(nodes: u8, random: &mut Random) -> Model {
    let acks = match random.range(0, 10) {
        0 | 1 => Acks::Async,
        2 | 3 => Acks::SemiSync,
        4 => Acks::Sync,
        5 if nodes == 5 => Acks::Exactly(4),
        _ => Acks::Majority,
    };
    let loses = random.chance(if acks == Acks::Async { 70 } else { 15 });
    let failover = if loses { Failover::Available } else { Failover::Safe };
    Model::LeaderFollower(LeaderFollower {
        home: DatacenterId(0),
        partitions: if random.chance(80) { 1 } else { 2 },
        group: group(nodes, acks, failover),
    })
}

fn multi_leader(random: &mut Random) -> Cluster {
    let acks = match random.range(0, 10) {
        0 => Acks::Async,
        1 | 2 => Acks::SemiSync,
        3 => Acks::Sync,
        _ => Acks::Majority,
    };
    let loses = acks == Acks::Async && random.chance(50);
    let failover = if loses { Failover::Available } else { Failover::Safe };
    let model = Model::MultiLeader(MultiLeader {
        datacenters: vec![DatacenterId(0), DatacenterId(1)],
        partitions: 1,
        group: group(3, acks, failover),
        conflicts: Conflicts::LastWriteWins,
    });
    cluster_of(&["eu", "us"], 3, model, random.next_u64())
}

fn leaderless(random: &mut Random) -> Cluster {
    let (w, r) = match random.range(0, 8) {
        0 => (3, 1),
        1 => (1, 3),
        2 => (1, 1),
        _ => (2, 2),
    };
    let model = Model::Leaderless(Leaderless {
        partitions: 4,
        n: 3,
        w,
        r,
        durability: Durability::Fsync,
        timeout_ms: 300,
    });
    cluster_of(&["eu", "us"], 3, model, random.next_u64())
}

fn timing(random: &mut Random) -> Timing {
    let heartbeat_interval_us = random.range(20_000, 50_000);
    Timing {
        heartbeat_interval_us,
        election_timeout_us: heartbeat_interval_us * random.range(4, 8),
        leader_wait_us: random.range(300_000, 900_000),
        forward_timeout_us: random.range(300_000, 900_000),
        gaps_interval_us: GAPS_INTERVAL_US,
        ..Timing::default()
    }
}

fn weather(families: Families, random: &mut Random) -> Weather {
    let bad = |random: &mut Random, most: u64| {
        if random.chance(50) { random.range(1, most) } else { 0 }
    };
    Weather {
        loss_percent: bad(random, 25),
        repeat_percent: bad(random, 30),
        repeat_late_us: random.range(1_000, 2_000_000),
        delay_min_us: random.range(50, 500),
        delay_mean_us: random.range(50, 5_000),
        spike_percent: bad(random, 8),
        spike_us: random.range(5_000, 300_000),
        damage_per_mille: if families.damage { random.range(1, 20) } else { 0 },
        keep_back_percent: if families.old_frames { random.range(1, 5) } else { 0 },
        streams: false,
    }
}

fn pace(random: &mut Random) -> Pace {
    let sync = random.range(200, 6_000);
    Pace { write_us: (20, 200), sync_us: (sync / 2, sync * 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_stands_for_the_same() {
        for model in ModelName::ALL {
            let text = |seed| Options::of(seed, model, Mutants::default()).to_string();
            assert_eq!(text(7), text(7));
            assert_ne!(text(7), text(8));
        }
    }

    #[test]
    fn a_wipe_leaves_enough_nodes_for_an_election() {
        for seed in 0..500 {
            let options = Options::of(seed, ModelName::LeaderFollower, Mutants::default());
            if let (true, Some(quorum)) = (options.families.wipes, options.quorum()) {
                assert!(quorum.election < quorum.replicas, "{quorum:?}");
            }
        }
    }

    #[test]
    fn all_modes_and_rows_are_among_the_first_seeds() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 1..=200 {
            let options = Options::of(seed, ModelName::LeaderFollower, Mutants::default());
            seen.extend(options.quorum().map(|q| (q.replicas, q.acks, q.election)));
            let options = Options::of(seed, ModelName::Leaderless, Mutants::default());
            seen.extend(options.leaderless());
        }
        // (N, A, E), then (n, w, r).
        let wanted = [(3, 1, 2), (3, 1, 3), (3, 2, 2), (3, 3, 2), (5, 3, 3), (5, 2, 4), (5, 4, 3)];
        for row in wanted.into_iter().chain([(3, 2, 2), (3, 3, 1), (3, 1, 3), (3, 1, 1)]) {
            assert!(seen.contains(&row), "{row:?} is not in {seen:?}");
        }
    }
}
