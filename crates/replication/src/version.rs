//! Which of two versions is newer, and how a write is named: hybrid clock, dots, version vectors.
//!
//! The hybrid logical clock follows Kulkarni et al., "Logical Physical Clocks" (2014): a stamp is
//! close to the wall clock, and larger than every stamp that its maker had seen. So a write that
//! saw another always wins over it, whatever the clocks say.

use alloc::collections::BTreeMap;

/// A moment of the hybrid clock: 48 bits of wall milliseconds, then 16 bits of logical counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Older than every write: the stamp of a key that was never written.
    pub const ZERO: Stamp = Stamp(0);
    const LOGICAL_BITS: u32 = 16;

    /// The first stamp of a wall-clock millisecond.
    pub fn at(wall_ms: u64) -> Stamp {
        Stamp(wall_ms << Self::LOGICAL_BITS)
    }

    /// The stamp that follows.
    pub fn next(self) -> Stamp {
        Stamp(self.0.saturating_add(1))
    }

    /// The wall-clock part, in milliseconds.
    pub fn wall_ms(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }
}

/// A hybrid logical clock. It only moves forward.
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    newest: Stamp,
}

impl HybridClock {
    /// A stamp larger than every one seen or given so far, and not before the wall clock.
    pub fn next(&mut self, wall_ms: u64) -> Stamp {
        self.newest = Stamp(self.newest.0.saturating_add(1)).max(Stamp::at(wall_ms));
        self.newest
    }

    /// Takes note of a stamp: later ones will be larger.
    pub fn observe(&mut self, stamp: Stamp) {
        self.newest = self.newest.max(stamp);
    }

    /// The largest stamp seen or given.
    pub fn newest(&self) -> Stamp {
        self.newest
    }
}

/// The name of a write: who made it, and which of his it was.
///
/// Leader-follower: (epoch, index). Multi-leader: (datacenter and group incarnation, sequence).
/// Leaderless: (replica and incarnation, counter).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Dot {
    /// Who.
    pub actor: u64,
    /// Which, counted from 1 by the actor.
    pub counter: u64,
}

/// The name of an entry of a group's replication log. Two logs that agree on the id of an entry
/// agree on it and on everything before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EntryId {
    /// The leadership that appended it.
    pub epoch: u64,
    /// Its place in the log, from 1.
    pub index: u64,
}

/// For each actor, how many of its writes are known: all of them up to the number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VersionVector(pub BTreeMap<u64, u64>);

impl VersionVector {
    /// How many writes of the actor are covered.
    pub fn get(&self, actor: u64) -> u64 {
        self.0.get(&actor).copied().unwrap_or(0)
    }

    /// Whether the write is among those that are covered.
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.counter
    }

    /// Whether everything that `other` covers is covered.
    pub fn covers_all(&self, other: &VersionVector) -> bool {
        other.0.iter().all(|(actor, counter)| self.get(*actor) >= *counter)
    }

    /// Covers the actor's writes up to this one.
    pub fn advance(&mut self, dot: Dot) {
        let counter = self.0.entry(dot.actor).or_default();
        *counter = (*counter).max(dot.counter);
    }

    /// Covers what `other` covers, too.
    pub fn merge(&mut self, other: &VersionVector) {
        for (actor, counter) in &other.0 {
            self.advance(Dot { actor: *actor, counter: *counter });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_repeats_and_never_goes_back() {
        let mut clock = HybridClock::default();
        let first = clock.next(1000);
        let second = clock.next(1000);
        let third = clock.next(10);
        assert!(first < second && second < third);
        assert_eq!(third.wall_ms(), 1000);
        clock.observe(Stamp::at(5000));
        assert!(clock.next(1000) > Stamp::at(5000));
    }

    #[test]
    fn a_vector_covers_what_it_has_merged() {
        let mut left = VersionVector::default();
        left.advance(Dot { actor: 1, counter: 3 });
        let mut right = VersionVector::default();
        right.advance(Dot { actor: 2, counter: 1 });
        assert!(!left.covers_all(&right));
        left.merge(&right);
        assert!(left.covers_all(&right));
        assert!(left.covers(Dot { actor: 1, counter: 2 }));
        assert!(!left.covers(Dot { actor: 1, counter: 4 }));
    }
}
