//! Which of two versions is newer, and how a write is named: hybrid clock, dots, version vectors.
//!
//! The hybrid logical clock follows Kulkarni et al., "Logical Physical Clocks" (2014): a stamp is
//! close to the wall clock, and larger than every stamp that its maker had seen. So a write that
//! saw another always wins over it, whatever the clocks say.

use alloc::vec::Vec;
use core::fmt;

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

/// For each actor, how many of its writes are known: all of them up to the number. Actors are
/// datacenters' groups: so few that they need no memory of their own.
#[derive(Clone)]
pub struct VersionVector(Pairs);

/// How many actors fit into a vector itself.
const FEW: usize = 4;

/// Actors with their numbers, in the actors' order.
#[derive(Clone)]
enum Pairs {
    Few(usize, [(u64, u64); FEW]),
    Many(Vec<(u64, u64)>),
}

impl VersionVector {
    /// How many writes of the actor are covered.
    pub fn get(&self, actor: u64) -> u64 {
        let found = self.iter().find(|(one, _)| *one == actor);
        found.map_or(0, |(_, counter)| counter)
    }

    /// Whether the write is among those that are covered.
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.counter
    }

    /// Whether everything that `other` covers is covered.
    pub fn covers_all(&self, other: &VersionVector) -> bool {
        other.iter().all(|(actor, counter)| self.get(actor) >= counter)
    }

    /// Covers the actor's writes up to this one.
    pub fn advance(&mut self, dot: Dot) {
        let pairs = self.pairs_mut();
        let place = pairs.iter().position(|(actor, _)| *actor >= dot.actor).unwrap_or(pairs.len());
        match pairs.get_mut(place) {
            Some((actor, counter)) if *actor == dot.actor => *counter = (*counter).max(dot.counter),
            _ => self.insert(place, (dot.actor, dot.counter)),
        }
    }

    /// The same without one actor's writes.
    pub fn without(&self, actor: u64) -> VersionVector {
        let mut rest = VersionVector::default();
        for (place, pair) in self.iter().filter(|(one, _)| *one != actor).enumerate() {
            rest.insert(place, pair);
        }
        rest
    }

    /// Covers what `other` covers, too.
    pub fn merge(&mut self, other: &VersionVector) {
        for (actor, counter) in other.iter() {
            self.advance(Dot { actor, counter });
        }
    }

    /// The actors with their numbers, in the actors' order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.pairs().iter().copied()
    }

    /// How many actors are known.
    pub fn len(&self) -> usize {
        self.pairs().len()
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }

    fn pairs(&self) -> &[(u64, u64)] {
        match &self.0 {
            Pairs::Few(count, pairs) => pairs.get(..*count).unwrap_or(pairs),
            Pairs::Many(pairs) => pairs,
        }
    }

    fn pairs_mut(&mut self) -> &mut [(u64, u64)] {
        match &mut self.0 {
            Pairs::Few(count, pairs) => pairs.get_mut(..*count).unwrap_or_default(),
            Pairs::Many(pairs) => pairs,
        }
    }

    fn insert(&mut self, place: usize, pair: (u64, u64)) {
        match &mut self.0 {
            Pairs::Few(count, pairs) if *count < FEW => {
                *count += 1;
                if let Some(tail) = pairs.get_mut(place..*count) {
                    tail.rotate_right(1);
                }
                if let Some(free) = pairs.get_mut(place) {
                    *free = pair;
                }
            }
            Pairs::Few(_, pairs) => {
                let mut many = pairs.to_vec();
                many.insert(place.min(many.len()), pair);
                self.0 = Pairs::Many(many);
            }
            Pairs::Many(pairs) => pairs.insert(place.min(pairs.len()), pair),
        }
    }
}

impl Default for VersionVector {
    fn default() -> VersionVector {
        VersionVector(Pairs::Few(0, [(0, 0); FEW]))
    }
}

impl PartialEq for VersionVector {
    fn eq(&self, other: &VersionVector) -> bool {
        self.pairs() == other.pairs()
    }
}

impl Eq for VersionVector {}

impl fmt::Debug for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<(u64, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(pairs: I) -> VersionVector {
        let mut vector = VersionVector::default();
        for (actor, counter) in pairs {
            vector.advance(Dot { actor, counter });
        }
        vector
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

    #[test]
    fn a_vector_is_in_order_however_many_actors_it_has() {
        let mut vector = VersionVector::default();
        for actor in [5, 1, 9, 3, 7, 2] {
            vector.advance(Dot { actor, counter: actor + 10 });
            vector.advance(Dot { actor, counter: actor });
        }
        let all = [(1, 11), (2, 12), (3, 13), (5, 15), (7, 17), (9, 19)];
        assert!(vector.iter().eq(all));
        assert_eq!(vector, all.into_iter().rev().collect());
        assert_ne!(vector, all.into_iter().skip(1).collect());
        assert!(vector.covers_all(&all.into_iter().skip(3).collect()));
        assert_eq!((vector.get(4), vector.get(7), vector.len()), (0, 17, 6));
        let rest = vector.without(5);
        assert_eq!((rest.get(5), rest.get(7), rest.len()), (0, 17, 5));
        assert_eq!((vector.without(6), rest.without(5)), (vector, rest));
    }
}
