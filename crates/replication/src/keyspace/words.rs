//! Options in the configuration file's words.

use super::{AckLevel, Acks, Conflicts, Durability, Failover, MissingAcks, Model, Reads};
use core::fmt::{Display, Formatter, Result};

impl Model {
    /// The model's name.
    pub fn name(&self) -> &'static str {
        match self {
            Model::LeaderFollower(_) => "leader-follower",
            Model::MultiLeader(_) => "multi-leader",
            Model::Leaderless(_) => "leaderless",
        }
    }
}

impl Display for Acks {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Acks::Async => f.write_str("async"),
            Acks::SemiSync => f.write_str("semi-sync"),
            Acks::Sync => f.write_str("sync"),
            Acks::Majority => f.write_str("majority"),
            Acks::Exactly(count) => write!(f, "{count}"),
        }
    }
}

impl Display for Failover {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Failover::Safe => "safe",
            Failover::Available => "available",
        })
    }
}

impl Display for MissingAcks {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            MissingAcks::Error => "error",
            MissingAcks::Block => "block",
            MissingAcks::Degrade => "degrade",
        })
    }
}

impl Display for AckLevel {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            AckLevel::Received => "received",
            AckLevel::Durable => "durable",
            AckLevel::Applied => "applied",
        })
    }
}

impl Display for Reads {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Reads::Leader => "leader",
            Reads::Follower => "follower",
        })
    }
}

impl Display for Durability {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Durability::Fsync => "fsync",
            Durability::Interval => "interval-1s",
        })
    }
}

impl Display for Conflicts {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Conflicts::LastWriteWins => "last-write-wins",
        })
    }
}
