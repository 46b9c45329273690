//! A set of a partition's replicas, as bits: nothing is allocated to count acks and answers.

/// The most replicas that a partition can have: one bit for each.
pub const REPLICAS_MAX: usize = 64;

/// Some of a partition's replicas, by their places in the preference order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Places(u64);

impl Places {
    /// The first `count` places.
    pub(super) fn first(count: usize) -> Places {
        let count = count.min(REPLICAS_MAX) as u32;
        Places(u64::MAX.checked_shr(u64::BITS - count).unwrap_or(0))
    }

    /// One place.
    pub(super) fn one(place: usize) -> Places {
        Places(1u64.checked_shl(place as u32).unwrap_or(0))
    }

    /// How many there are.
    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of the others are among these.
    pub(super) fn has(self, others: Places) -> bool {
        others.0 & !self.0 == 0
    }

    /// Takes others in.
    pub(super) fn add(&mut self, others: Places) {
        self.0 |= others.0;
    }

    /// These without others.
    pub(super) fn without(self, others: Places) -> Places {
        Places(self.0 & !others.0)
    }

    /// These and others.
    pub(super) fn and(self, others: Places) -> Places {
        Places(self.0 | others.0)
    }

    /// Their places, in preference order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let place = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (place < u64::BITS).then_some(place as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn places_are_a_set() {
        let mut places = Places::one(2);
        places.add(Places::one(63));
        places.add(Places::one(2));
        assert_eq!(places.iter().collect::<Vec<_>>(), [2, 63]);
        assert_eq!((places.len(), Places::first(64).len(), Places::first(0).len()), (2, 64, 0));
        assert!(places.has(Places::one(63)) && !places.has(Places::first(3)));
        assert_eq!(Places::first(3).without(places).iter().collect::<Vec<_>>(), [0, 1]);
        assert!(Places::one(64).is_empty() && Places::default().is_empty());
    }
}
