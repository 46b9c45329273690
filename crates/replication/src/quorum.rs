//! The one arithmetic of quorums: A + E > N for leaders, W + R > N without one. No network here.
//!
//! An entry is acknowledged by A replicas (the leader included), a candidate needs E votes, and
//! C = N - E + 1 replicas make an entry committed. C + E > N: no election can lose a committed
//! entry, whatever A is. 2E > N: no epoch has two leaders. A + E > N: no election can lose an
//! acknowledged entry.

use crate::keyspace::{Acks, Failover, GroupOptions};

/// The numbers of one leader-follower group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorum {
    /// N: the replicas.
    pub replicas: usize,
    /// A: copies that a writer waits for.
    pub acks: usize,
    /// E: votes that a candidate needs.
    pub election: usize,
    /// C: copies that make an entry committed.
    pub commit: usize,
}

impl Quorum {
    /// The numbers that follow from the options.
    pub fn of(options: &GroupOptions) -> Quorum {
        let replicas = usize::from(options.replicas);
        let majority = replicas / 2 + 1;
        let acks = copies_of(options.acks, replicas);
        let election = match options.failover {
            Failover::Safe => majority.max((replicas + 1).saturating_sub(acks)),
            Failover::Available => majority,
        };
        Quorum { replicas, acks, election, commit: replicas + 1 - election.min(replicas) }
    }

    /// Copies from which on a write is visible at its leader: never later than its
    /// acknowledgement, never before it is either that or committed.
    pub fn visible(&self) -> usize {
        self.acks.min(self.commit)
    }

    /// To how many copies `degrade` can lower the acks: it acts only where that is less than A.
    pub fn degraded(&self) -> usize {
        self.acks.min(self.commit)
    }

    /// Whether a write that so many replicas durably had at its acknowledgement survives every
    /// election.
    pub fn survives(&self, copies: usize) -> bool {
        copies + self.election > self.replicas
    }

    /// Whether every acknowledged write survives every election.
    pub fn acknowledged_survives(&self) -> bool {
        self.survives(self.acks)
    }

    /// How many nodes may be down while writes are still acknowledged.
    pub fn writes_tolerate(&self) -> usize {
        self.replicas.saturating_sub(self.acks.max(self.commit))
    }

    /// How many nodes may be down while a new leader can still be elected.
    pub fn failover_tolerates(&self) -> usize {
        self.replicas.saturating_sub(self.election)
    }
}

/// How many of so many replicas an acknowledgement mode means; may be more than there are.
pub fn copies_of(acks: Acks, replicas: usize) -> usize {
    match acks {
        Acks::Async => 1,
        Acks::SemiSync => 2,
        Acks::Sync => replicas,
        Acks::Majority => replicas / 2 + 1,
        Acks::Exactly(count) => usize::from(count),
    }
}

/// The largest index that at least `copies` of the replicas have reached; 0 where too few answer.
pub fn reached_by(indexes: &mut [u64], copies: usize) -> u64 {
    indexes.sort_unstable_by(|a, b| b.cmp(a));
    copies.checked_sub(1).and_then(|place| indexes.get(place)).copied().unwrap_or(0)
}

/// Whether every read quorum meets every write quorum.
pub fn reads_see_writes(n: usize, w: usize, r: usize) -> bool {
    w + r > n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(replicas: u8, acks: Acks, failover: Failover) -> Quorum {
        Quorum::of(&GroupOptions { acks, failover, ..GroupOptions::defaults(replicas) })
    }

    #[test]
    fn the_invariants_hold_for_every_size_and_mode() {
        for replicas in 1..=9u8 {
            for acks in 1..=replicas {
                for failover in [Failover::Safe, Failover::Available] {
                    let q = quorum(replicas, Acks::Exactly(acks), failover);
                    assert!(q.commit + q.election > q.replicas, "{q:?}");
                    assert!(2 * q.election > q.replicas, "{q:?}");
                    assert!(q.commit >= 1 && q.election <= q.replicas, "{q:?}");
                    if failover == Failover::Safe {
                        assert!(q.acknowledged_survives(), "{q:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_named_modes_of_three_replicas() {
        let numbers = |q: Quorum| (q.acks, q.election, q.commit);
        assert_eq!(numbers(quorum(3, Acks::Async, Failover::Available)), (1, 2, 2));
        assert_eq!(numbers(quorum(3, Acks::Async, Failover::Safe)), (1, 3, 1));
        assert_eq!(numbers(quorum(3, Acks::SemiSync, Failover::Safe)), (2, 2, 2));
        assert_eq!(numbers(quorum(3, Acks::Sync, Failover::Safe)), (3, 2, 2));
        assert_eq!(numbers(quorum(3, Acks::Majority, Failover::Safe)), (2, 2, 2));
        assert_eq!(numbers(quorum(5, Acks::SemiSync, Failover::Safe)), (2, 4, 2));
        assert_eq!(numbers(quorum(1, Acks::Majority, Failover::Safe)), (1, 1, 1));
    }

    #[test]
    fn reached_by_takes_the_copies_th_largest() {
        assert_eq!(reached_by(&mut [5, 9, 7], 1), 9);
        assert_eq!(reached_by(&mut [5, 9, 7], 2), 7);
        assert_eq!(reached_by(&mut [5, 9, 7], 3), 5);
        assert_eq!(reached_by(&mut [5, 9], 3), 0);
    }

    #[test]
    fn the_four_rows_of_the_article() {
        assert!(reads_see_writes(3, 2, 2));
        assert!(reads_see_writes(3, 3, 1));
        assert!(reads_see_writes(3, 1, 3));
        assert!(!reads_see_writes(3, 1, 1));
    }
}
