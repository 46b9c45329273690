//! What an option is where the configuration file says nothing.

use super::{
    AckLevel, Acks, Durability, Failover, GroupOptions, LeaderFollower, Leaderless, MissingAcks,
    Reads,
};
use crate::DatacenterId;

/// N where nothing is said and there are enough nodes.
pub const REPLICAS: u8 = 3;
/// Partitions of a keyspace with leaders.
pub const PARTITIONS: u16 = 1;
/// Partitions of a leaderless keyspace: enough to spread over some dozens of nodes.
pub const PARTITIONS_LEADERLESS: u16 = 64;
/// How long a write or a read waits for what it needs, in milliseconds.
pub const TIMEOUT_MS: u64 = 1000;

/// How long a leader waits for its disk, in milliseconds: as long as others wait for a leader.
pub const DISK_STALL_MS: u64 = 600;

/// N for so many nodes: three, or all of them where there are fewer.
pub fn replicas(nodes: usize) -> u8 {
    u8::try_from(nodes).unwrap_or(u8::MAX).min(REPLICAS)
}

/// More than half of so many replicas.
pub fn majority(replicas: u8) -> u8 {
    replicas / 2 + 1
}

impl GroupOptions {
    /// Acknowledged by a majority, on disk, never lost by a failover; reads from the leader.
    pub fn defaults(replicas: u8) -> GroupOptions {
        GroupOptions {
            replicas,
            acks: Acks::Majority,
            failover: Failover::Safe,
            missing_acks: MissingAcks::Error,
            ack_timeout_ms: TIMEOUT_MS,
            ack_level: AckLevel::Durable,
            weaker_acks: false,
            reads: Reads::Leader,
            leases: true,
            durability: Durability::Fsync,
            disk_stall_ms: DISK_STALL_MS,
        }
    }
}

impl Failover {
    /// Safe, but available where the writer waits for the leader alone: else async would need
    /// every replica for a failover.
    pub fn default_for(acks: Acks) -> Failover {
        match acks {
            Acks::Async | Acks::Exactly(1) => Failover::Available,
            Acks::SemiSync | Acks::Sync | Acks::Majority | Acks::Exactly(_) => Failover::Safe,
        }
    }
}

impl LeaderFollower {
    /// One partition in its home, which has so many nodes.
    pub fn defaults(home: DatacenterId, nodes: usize) -> LeaderFollower {
        let group = GroupOptions::defaults(replicas(nodes));
        LeaderFollower { home, partitions: PARTITIONS, group }
    }
}

impl Leaderless {
    /// Majorities of three replicas, for a cluster of so many nodes.
    pub fn defaults(nodes: usize) -> Leaderless {
        let n = replicas(nodes);
        Leaderless {
            partitions: PARTITIONS_LEADERLESS,
            n,
            w: majority(n),
            r: majority(n),
            durability: Durability::Fsync,
            timeout_ms: TIMEOUT_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_clusters_get_fewer_replicas() {
        let numbers = |nodes| {
            let options = Leaderless::defaults(nodes);
            (options.n, options.w, options.r)
        };
        assert_eq!(numbers(1), (1, 1, 1));
        assert_eq!(numbers(2), (2, 2, 2));
        assert_eq!(numbers(3), (3, 2, 2));
        assert_eq!(numbers(1000), (3, 2, 2));
    }

    #[test]
    fn only_a_lone_ack_makes_failover_available() {
        assert_eq!(Failover::default_for(Acks::Async), Failover::Available);
        assert_eq!(Failover::default_for(Acks::Exactly(1)), Failover::Available);
        assert_eq!(Failover::default_for(Acks::Exactly(2)), Failover::Safe);
        assert_eq!(Failover::default_for(Acks::SemiSync), Failover::Safe);
    }
}
