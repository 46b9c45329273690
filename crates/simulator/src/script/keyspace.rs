//! What a script's `keyspace` and `timing` lines stand for.

use crate::cluster::by_hand::SHORT_TIMING;
use crate::options::group;
use replication::DatacenterId;
use replication::keyspace::{
    Acks, Conflicts, Durability, Failover, LeaderFollower, Leaderless, MissingAcks, Model,
    MultiLeader, Reads,
};
use replication::node::Timing;

/// The usual timeouts of a story, where the script does not say others.
pub fn timing_of(said: &[(String, u64)]) -> Result<Timing, String> {
    let mut timing = SHORT_TIMING;
    for (name, duration_us) in said {
        match name.as_str() {
            "heartbeat" => timing.heartbeat_interval_us = *duration_us,
            "lease" => timing.lease_us = *duration_us,
            "election" => timing.election_timeout_us = *duration_us,
            _ => return Err(format!("there is no timing called {name}")),
        }
    }
    Ok(timing)
}

/// The keyspace's model with its options.
pub fn model_of(
    name: &str,
    options: &[(String, String)],
    nodes: usize,
    datacenters: usize,
) -> Result<Model, String> {
    let mut acks = Acks::Majority;
    let mut failover = Failover::Safe;
    let mut reads = Reads::Leader;
    let mut missing_acks = MissingAcks::Error;
    let mut weaker_acks = false;
    let mut durability = Durability::Fsync;
    let mut leases = true;
    let (mut n, mut w, mut r) = (3u8, 2u8, 2u8);
    for (option, value) in options {
        let wrong = || format!("{option}={value}");
        let number = || value.parse::<u8>().map_err(|_| wrong());
        match (option.as_str(), value.as_str()) {
            ("acks", _) => acks = acks_of(value).ok_or_else(wrong)?,
            ("failover", "safe") => failover = Failover::Safe,
            ("failover", "available") => failover = Failover::Available,
            ("reads", "leader") => reads = Reads::Leader,
            ("reads", "follower") => reads = Reads::Follower,
            ("when-acks-are-missing", "error") => missing_acks = MissingAcks::Error,
            ("when-acks-are-missing", "block") => missing_acks = MissingAcks::Block,
            ("when-acks-are-missing", "degrade") => missing_acks = MissingAcks::Degrade,
            ("weaker-acks", _) => weaker_acks = value.parse().map_err(|_| wrong())?,
            ("durability", "fsync") => durability = Durability::Fsync,
            ("durability", "interval-1s") => durability = Durability::Interval,
            ("leases", _) => leases = value.parse().map_err(|_| wrong())?,
            ("n", _) => n = number()?,
            ("w", _) => w = number()?,
            ("r", _) => r = number()?,
            _ => return Err(wrong()),
        }
    }
    let mut group = group(nodes as u8, acks, failover);
    group.reads = reads;
    group.missing_acks = missing_acks;
    group.weaker_acks = weaker_acks;
    group.durability = durability;
    group.leases = leases;
    match name {
        "leader-follower" => Ok(Model::LeaderFollower(LeaderFollower {
            home: DatacenterId(0),
            partitions: 1,
            group,
        })),
        "multi-leader" => Ok(Model::MultiLeader(MultiLeader {
            datacenters: (0..datacenters).map(|number| DatacenterId(number as u8)).collect(),
            partitions: 1,
            group,
            conflicts: Conflicts::LastWriteWins,
        })),
        "leaderless" => Ok(Model::Leaderless(Leaderless {
            partitions: 1,
            n,
            w,
            r,
            durability,
            timeout_ms: 400,
        })),
        _ => Err(format!("there is no model called {name}")),
    }
}

fn acks_of(value: &str) -> Option<Acks> {
    Some(match value {
        "async" => Acks::Async,
        "semi-sync" => Acks::SemiSync,
        "sync" => Acks::Sync,
        "majority" => Acks::Majority,
        number => Acks::Exactly(number.parse().ok()?),
    })
}
