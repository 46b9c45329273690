//! The last write wins: of two bases the one with the larger stamp of the hybrid clock, whole, so
//! that a write that saw another always wins over it. Dots break ties. Increments and deadlines
//! that belong to the same base are merged: increments add up, the newest deadline counts.
//!
//! Merging is commutative, associative and idempotent: replicas that have merged the same records
//! in any order, any number of times, hold the same one. Records are merged as they are kept,
//! never as [`Record::as_of`] shows them.

use crate::storage::record::{Increment, Record, Value};
use alloc::borrow::Cow;
use core::cmp::Ordering;

/// What two records of one key come to.
#[derive(Clone, PartialEq, Debug)]
pub struct Merged<'a> {
    /// Which record it is.
    pub outcome: Outcome<'a>,
    /// Whether increments were given up because the base that they were made on lost. Whether that
    /// was a conflict or a write that had seen them, the records do not tell: their dots do.
    pub lost: bool,
}

/// The record that a merge results in, without a copy where it is one of the two.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome<'a> {
    /// The one that was kept: the incoming one says nothing new.
    Kept,
    /// The incoming one.
    Incoming,
    /// Neither: this one, with parts of both.
    Both(Record<'a>),
}

impl<'a> Outcome<'a> {
    /// The record, given the incoming one; `None` where the kept one stays as it is.
    pub fn replacement(self, incoming: Record<'a>) -> Option<Record<'a>> {
        match self {
            Outcome::Kept => None,
            Outcome::Incoming => Some(incoming),
            Outcome::Both(record) => Some(record),
        }
    }
}

/// Merges two records of one key.
pub fn merge<'a>(kept: &Record<'a>, incoming: &Record<'a>) -> Merged<'a> {
    let (outcome, loser) = match base_order(kept, incoming) {
        Ordering::Greater => (Outcome::Kept, Some(incoming)),
        Ordering::Less => (Outcome::Incoming, Some(kept)),
        Ordering::Equal => (same_base(kept, incoming), None),
    };
    Merged { outcome, lost: loser.is_some_and(|record| !record.increments.is_empty()) }
}

/// Which base is newer. The values only differ under one name if a peer is broken: even then all
/// replicas decide alike.
fn base_order(left: &Record<'_>, right: &Record<'_>) -> Ordering {
    (left.stamp, left.dot)
        .cmp(&(right.stamp, right.dot))
        .then_with(|| bytes(left).cmp(&bytes(right)))
}

fn bytes<'r>(record: &'r Record<'_>) -> Option<&'r [u8]> {
    match &record.value {
        Value::Absent => None,
        Value::String(bytes) => Some(bytes),
    }
}

fn same_base<'a>(kept: &Record<'a>, incoming: &Record<'a>) -> Outcome<'a> {
    let increments = join(&kept.increments, &incoming.increments);
    let newer = if deadline_order(kept, incoming).is_lt() { incoming } else { kept };
    let (expiry_stamp, expires_at_ms) = (newer.expiry_stamp, newer.expires_at_ms);
    let is = |record: &Record<'_>| {
        deadline_order(record, newer).is_eq() && same_slots(&record.increments, &increments)
    };
    if is(kept) {
        Outcome::Kept
    } else if is(incoming) {
        Outcome::Incoming
    } else {
        let (stamp, dot, value) = (kept.stamp, kept.dot, kept.value.clone());
        let increments = Cow::Owned(increments);
        Outcome::Both(Record { stamp, dot, value, expiry_stamp, expires_at_ms, increments })
    }
}

/// Which deadline counts: the one set last; of two set at once the later, no deadline being the
/// latest.
fn deadline_order(left: &Record<'_>, right: &Record<'_>) -> Ordering {
    let key = |record: &Record<'_>| {
        let at = record.expires_at_ms;
        (record.expiry_stamp, at.is_none(), at)
    };
    key(left).cmp(&key(right))
}

/// All actors' slots, of each the newer one; in actor order, as both lists are.
fn join(left: &[Increment], right: &[Increment]) -> alloc::vec::Vec<Increment> {
    let mut joined = alloc::vec::Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return joined,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.actor.cmp(&other.actor),
        };
        let one = if order.is_le() { left.next() } else { None };
        let other = if order.is_ge() { right.next() } else { None };
        joined.extend(one.into_iter().chain(other).copied().max_by(slot_order));
    }
}

/// Which state of one actor's slot is newer. Counts only tie with different sums if a peer is
/// broken: even then all replicas decide alike.
fn slot_order(left: &Increment, right: &Increment) -> Ordering {
    (left.count, left.integer)
        .cmp(&(right.count, right.integer))
        .then_with(|| left.float.total_cmp(&right.float))
}

/// Bit for bit: NaN from a broken peer equals itself.
fn same_slots(left: &[Increment], right: &[Increment]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(one, other)| one.actor == other.actor && slot_order(one, other).is_eq())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::data::{Name, Write, mint};
    use crate::version::{Dot, Stamp};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn merged<'a>(left: &Record<'a>, right: &Record<'a>) -> Record<'a> {
        merge(left, right).outcome.replacement(right.clone()).unwrap_or_else(|| left.clone())
    }

    fn name(moment: u64, actor: u64) -> Name {
        Name { stamp: Stamp(moment), dot: Dot { actor, counter: moment } }
    }

    fn set(value: &'static str, moment: u64, actor: u64) -> Record<'static> {
        let value = value.as_bytes().into();
        let write = Write::Set { value, expires_at_ms: crate::data::ExpiresAt::Never };
        mint(write, None, name(moment, actor), actor)
    }

    fn add(record: Option<&Record<'_>>, integer: i64, actor: u64) -> Record<'static> {
        let write = Write::Increment { integer, float: 0.0, sum: Vec::new() };
        mint(write, record, name(99, actor), actor)
    }

    #[test]
    fn the_larger_stamp_wins_then_the_larger_actor() {
        assert_eq!(merged(&set("old", 1, 2), &set("new", 2, 1)), set("new", 2, 1));
        assert_eq!(merged(&set("a", 1, 2), &set("b", 1, 1)), set("a", 1, 2));
        let deleted = mint(Write::Delete, None, name(3, 1), 1);
        assert_eq!(merged(&deleted, &set("v", 2, 1)).value(), None);
    }

    #[test]
    fn increments_on_one_base_add_up_and_those_on_a_lost_base_are_reported() {
        let base = set("10", 1, 1);
        let (left, right) = (add(Some(&base), 5, 1), add(Some(&base), 7, 2));
        assert_eq!(merged(&left, &right).value().unwrap().as_ref(), b"22");
        assert!(!merge(&left, &right).lost);
        assert!(merge(&left, &set("0", 2, 2)).lost);
        assert!(merge(&set("0", 2, 2), &left).lost);
        assert!(!merge(&base, &set("0", 2, 2)).lost);
    }

    #[test]
    fn a_counter_created_by_two_at_once_has_both_increments() {
        let (left, right) = (add(None, 5, 1), add(None, 7, 2));
        let both = merged(&left, &right);
        assert_eq!(both.value().unwrap().as_ref(), b"12");
        assert_eq!(merged(&both, &add(Some(&left), 1, 1)).value().unwrap().as_ref(), b"13");
    }

    #[test]
    fn the_deadline_that_was_set_last_counts_whichever_is_longer() {
        let base = set("v", 1, 1);
        let expire = |moment, at| mint(Write::Expire(at), Some(&base), name(moment, 1), 1);
        let (early, late) = (expire(2, Some(9000)), expire(3, Some(5000)));
        assert_eq!(merged(&early, &late).expires_at_ms, Some(5000));
        assert_eq!(merged(&expire(2, None), &expire(2, Some(9))).expires_at_ms, None);
        assert_eq!(merged(&expire(2, Some(8)), &expire(2, Some(9))).expires_at_ms, Some(9));
        let counted = add(Some(&base), 1, 2);
        let both = merged(&counted, &late);
        assert_eq!((both.increments.len(), both.expires_at_ms), (1, Some(5000)));
    }

    #[test]
    fn a_longer_life_given_before_the_deadline_survives_it() {
        let short = Record { expires_at_ms: Some(1000), ..set("v", 1, 1) };
        let longer = mint(Write::Expire(Some(5000)), Some(&short), name(2, 2), 2);
        assert_eq!(short.as_of(2000).value(), None);
        assert!(merged(&short, &longer).as_of(2000).is_live(2000));
        let reborn = add(Some(&short.as_of(2000)), 3, 1);
        assert_eq!(merged(&reborn, &short).value().unwrap().as_ref(), b"3");
    }

    fn records() -> impl Strategy<Value = Record<'static>> {
        let slot = (0..3u64, -2..3i64, prop::sample::select(vec![0.0, 0.5, -0.0]));
        let slots = prop::collection::btree_map(0..3u64, slot, 0..3);
        let deadline = prop::option::of(0..3u64);
        (0..3u64, 0..2u64, 0..3u8, 0..3u64, deadline, slots).prop_map(
            |(stamp, actor, value, expiry_stamp, expires_at_ms, slots)| Record {
                stamp: Stamp(stamp),
                dot: Dot { actor, counter: stamp },
                value: match value {
                    0 => Value::Absent,
                    number => Value::String(vec![b'0' + number].into()),
                },
                expiry_stamp: Stamp(expiry_stamp),
                expires_at_ms,
                increments: slots
                    .into_iter()
                    .map(|(actor, (count, integer, float))| Increment {
                        actor,
                        count,
                        integer,
                        float,
                    })
                    .collect(),
            },
        )
    }

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::wire::Writer(&mut bytes).record(record);
        bytes
    }

    proptest! {
        #[test]
        fn merging_is_commutative(a in records(), b in records()) {
            prop_assert_eq!(encoded(&merged(&a, &b)), encoded(&merged(&b, &a)));
        }

        #[test]
        fn merging_is_associative(a in records(), b in records(), c in records()) {
            let left = merged(&merged(&a, &b), &c);
            let right = merged(&a, &merged(&b, &c));
            prop_assert_eq!(encoded(&left), encoded(&right));
        }

        #[test]
        fn merging_is_idempotent(a in records(), b in records()) {
            let once = merged(&a, &b);
            prop_assert_eq!(&merge(&a, &a).outcome, &Outcome::Kept);
            prop_assert_eq!(&merge(&once, &a).outcome, &Outcome::Kept);
            prop_assert_eq!(&merge(&once, &b).outcome, &Outcome::Kept);
        }
    }
}
