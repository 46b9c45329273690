//! What a writer was promised by his OK: how many replicas have the write, in which sense. A seed
//! may give its keyspace an ack level, let acks be degraded, or have clients say for themselves
//! what they wait for.

use crate::history::{Action, History, Operation, Outcome};
use crate::observe::Observations;
use crate::options::Options;
use replication::keyspace::{
    AckLevel, Acks, Cluster, Durability, Failover, GroupOptions, Keyspace, MissingAcks, Model,
    Reads,
};
use replication::quorum::{Quorum, copies_of};
use replication::random::Random;
use std::borrow::Cow;

/// The chance that a client says for itself what its write waits for.
const OWN_PERCENT: u64 = 40;
/// The chance that it then asks for what is declared, where acks may be lowered.
const DECLARED_PERCENT: u64 = 70;
/// How often a keyspace that blocks wants the acks of all replicas.
const BLOCKED_SYNC_PERCENT: u64 = 60;
/// A disk that is neither slow nor stalled has synced what was written so long ago.
const UNSYNCED_US_MAX: u64 = 1_000_000;
/// Told apart from the other chances of a seed, so that they stay what they were.
const SALT: u64 = 0xACC5_0000_ACC5_0000;

/// What a writer waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// Replicas, the leader included.
    pub copies: usize,
    /// In which sense they have it.
    pub level: AckLevel,
}

/// How a seed's writers are acknowledged, where it is in a special way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ways {
    /// Clients say for themselves what they wait for.
    pub own: bool,
    /// Acks that are missing are lowered.
    pub degrade: bool,
    /// Acks that are missing are waited for, for as long as it takes.
    pub block: bool,
}

/// Varies how a leader-follower keyspace acknowledges.
pub fn vary(seed: u64, cluster: &mut Cluster) -> Ways {
    let mut random = Random::new(seed ^ SALT);
    let mut ways = Ways::default();
    let [Keyspace { model: Model::LeaderFollower(model), .. }] = cluster.keyspaces.as_mut_slice()
    else {
        return ways;
    };
    let group = &mut model.group;
    match random.range(0, 12) {
        0 | 1 => {
            group.acks = match group.replicas {
                5 if random.chance(50) => Acks::Exactly(4),
                _ => Acks::Sync,
            };
            group.failover = Failover::Safe;
            group.missing_acks = MissingAcks::Degrade;
            group.ack_timeout_ms = random.range(60, 250);
            model.partitions = 1;
            ways.degrade = true;
            ways.own = random.chance(50);
        }
        2 => group.ack_level = AckLevel::Received,
        3 => group.ack_level = AckLevel::Applied,
        7 => group.reads = Reads::Follower,
        4..=6 => {
            group.weaker_acks = random.chance(50);
            ways.own = true;
        }
        8 => {
            if random.chance(BLOCKED_SYNC_PERCENT) {
                (group.acks, group.failover) = (Acks::Sync, Failover::Safe);
            }
            group.missing_acks = MissingAcks::Block;
            // When an answer would be late if it were not for that.
            group.ack_timeout_ms = random.range(60, 250);
            ways.block = true;
            ways.own = random.chance(30);
        }
        _ => {}
    }
    ways
}

/// The group options of a leader-follower seed.
pub fn group_of(options: &Options) -> Option<&GroupOptions> {
    options.plan.cluster.keyspaces.first().and_then(|keyspace| match &keyspace.model {
        Model::LeaderFollower(model) => Some(&model.group),
        _ => None,
    })
}

/// What is declared, where a client that asks for just that is better off than one that says
/// nothing: its acks are not lowered.
pub fn declared_by_name(options: &Options) -> Option<(Acks, AckLevel)> {
    let group = group_of(options).filter(|_| options.ways.degrade && options.ways.own)?;
    Some((group.acks, group.ack_level))
}

/// Whether a write was acknowledged that was blocked: after it would have been answered otherwise.
pub fn was_blocked(options: &Options, operation: &Operation) -> bool {
    let group = group_of(options).filter(|_| options.ways.block && operation.action.is_write());
    let waited_us = operation.returned_us.saturating_sub(operation.invoked_us);
    operation.is_done() && group.is_some_and(|group| waited_us > group.ack_timeout_ms * 1_000)
}

/// What a client asks for by `TF.WITH`, if it does; sometimes more than it may have.
pub fn ask(options: &Options, action: &Action, random: &mut Random) -> Option<(Acks, AckLevel)> {
    let own = options.ways.own && action.is_write() && *action != Action::Clear;
    let replicas = group_of(options).filter(|_| own)?.replicas;
    if !random.chance(OWN_PERCENT) {
        return None;
    }
    let declared = declared_by_name(options).filter(|_| random.chance(DECLARED_PERCENT));
    if declared.is_some() {
        return declared;
    }
    let acks = match random.range(0, 6) {
        0 => Acks::Async,
        1 => Acks::SemiSync,
        2 => Acks::Sync,
        3 => Acks::Majority,
        _ => Acks::Exactly(random.range(1, u64::from(replicas) + 2) as u8),
    };
    let level = match random.range(0, 6) {
        0 | 1 => AckLevel::Received,
        2 => AckLevel::Applied,
        _ => AckLevel::Durable,
    };
    Some((acks, level))
}

/// What an operation's OK promises in a group.
pub fn of(operation: &Operation, group: &GroupOptions) -> Promise {
    promise(operation.asked, group)
}

/// Whether a write's OK means that it survives every failover, where that differs from what its
/// keyspace's acks mean: not where too few copies were durable, or none needed to be.
pub fn must_survive(options: &Options, asked: Option<(Acks, AckLevel)>) -> Option<bool> {
    let group = group_of(options)?;
    if asked.is_none() && group.ack_level == AckLevel::Durable {
        return None;
    }
    let promise = promise(asked, group);
    Some(match promise.level {
        AckLevel::Received => false,
        AckLevel::Durable => Quorum::of(group).survives(promise.copies),
        // Only what is committed is applied.
        AckLevel::Applied => true,
    })
}

fn promise(asked: Option<(Acks, AckLevel)>, group: &GroupOptions) -> Promise {
    let (acks, level) = asked.unwrap_or((group.acks, group.ack_level));
    Promise { copies: copies_of(acks, usize::from(group.replicas)), level }
}

/// The history for those who judge what is promised in general: an OK that is outside of the
/// guarantee says no more than that the write may have happened.
pub fn without_weak_oks(history: &History) -> Cow<'_, History> {
    let is_weak =
        |operation: &Operation| operation.is_done() && operation.must_survive == Some(false);
    if !history.operations.iter().any(is_weak) {
        return Cow::Borrowed(history);
    }
    let mut history = history.clone();
    for operation in history.operations.iter_mut().filter(|operation| is_weak(operation)) {
        operation.outcome = Outcome::Unknown(String::from("an OK outside of the guarantee"));
    }
    Cow::Owned(history)
}

/// The history for those who judge a leaderless keyspace whose copies count before they are synced:
/// an OK shortly before a power cut says no more than that the write may have happened.
pub fn without_what_power_cuts_took<'a>(
    options: &Options,
    history: &'a History,
    seen: &Observations,
) -> Cow<'a, History> {
    if counts_synced(&options.plan.cluster) || seen.power_cuts.is_empty() {
        return Cow::Borrowed(history);
    }
    let mut history = history.clone();
    for operation in history.operations.iter_mut().filter(|operation| operation.is_done()) {
        let last_us = operation.returned_us.saturating_add(UNSYNCED_US_MAX);
        let at_risk = |at_us: &u64| (operation.invoked_us..=last_us).contains(at_us);
        if operation.action.is_write() && seen.power_cuts.iter().any(|(at_us, _)| at_risk(at_us)) {
            operation.outcome = Outcome::Unknown(String::from("an OK before a power cut"));
        }
    }
    Cow::Owned(history)
}

/// Whether copies are counted where they are on disk, and the durable count means that.
pub fn counts_synced(cluster: &Cluster) -> bool {
    cluster.keyspaces.iter().all(|keyspace| match &keyspace.model {
        Model::LeaderFollower(model) => model.group.durability == Durability::Fsync,
        Model::MultiLeader(model) => model.group.durability == Durability::Fsync,
        Model::Leaderless(model) => model.durability == Durability::Fsync,
    })
}

/// A command with what its client asks for in front.
pub fn with(asked: Option<(Acks, AckLevel)>, mut words: Vec<String>) -> Vec<String> {
    if let Some((acks, level)) = asked {
        let with = ["TF.WITH", "ACKS", &acks.to_string(), "LEVEL", &level.to_string(), "--"];
        words.splice(0..0, with.map(String::from));
    }
    words
}
