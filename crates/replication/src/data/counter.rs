//! Counters: strings that are numbers, and what is added to them.

use super::decimal::Number;
use super::{Evaluation, Write, string};
use crate::command::{Reply, error, number};
use crate::storage::record::{Increment, Record};
use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

pub(super) fn increment(delta: i64, live: Option<&Record<'_>>) -> Evaluation<'static, 'static> {
    let old = match live {
        None => Some(0),
        Some(_) => number::integer(&string::value(live)),
    };
    let Some(old) = old else {
        return Evaluation::error(error::NOT_AN_INTEGER);
    };
    let Some(new) = old.checked_add(delta).filter(|_| slots_have_room(delta, live)) else {
        return Evaluation::error(error::OVERFLOW);
    };
    let sum = new.to_string().into_bytes();
    let write = Write::Increment { integer: delta, float: 0.0, sum };
    Evaluation { reply: Reply::Integer(new), write }
}

pub(super) fn increment_float(
    delta: f64,
    live: Option<&Record<'_>>,
) -> Evaluation<'static, 'static> {
    let old = match live {
        None => Some(Number::of(0.0)),
        Some(_) => Number::parse(&string::value(live)),
    };
    let Some(old) = old else {
        return Evaluation::error(error::NOT_A_FLOAT);
    };
    let new = old.plus(Number::of(delta));
    if !new.is_finite() || !slots_stay_finite(delta, live) {
        return Evaluation::error(error::NOT_FINITE);
    }
    let sum = new.text();
    let reply = Reply::Bulk(Cow::Owned(sum.clone()));
    Evaluation { reply, write: Write::Increment { integer: 0, float: delta, sum } }
}

/// What a base and the increments on it come to. Whole numbers add up exactly; as soon as one is
/// not whole the result is a decimal fraction, added up in actor order, the same on every replica.
///
/// A base that is no number cannot have got increments; should it have some, it stays as it is.
pub(super) fn total<'a>(base: Option<&'a [u8]>, increments: &[Increment]) -> Cow<'a, [u8]> {
    let text = base.unwrap_or(b"0");
    let whole = number::integer(text).filter(|_| increments.iter().all(|i| i.float == 0.0));
    if let Some(base) = whole {
        let sum: i128 = increments.iter().map(|i| i128::from(i.integer)).sum();
        return Cow::Owned((i128::from(base) + sum).to_string().into_bytes());
    }
    let Some(base) = Number::parse(text) else {
        return Cow::Borrowed(text);
    };
    let sum = increments.iter().fold(base, |sum, increment| {
        sum.plus(Number::whole(increment.integer)).plus(Number::of(increment.float))
    });
    Cow::Owned(sum.text())
}

/// Adds to the actor's slot.
pub(super) fn add(increments: &mut Vec<Increment>, actor: u64, integer: i64, float: f64) {
    let place = match increments.binary_search_by_key(&actor, |increment| increment.actor) {
        Ok(place) => place,
        Err(place) => {
            increments.insert(place, Increment { actor, count: 0, integer: 0, float: 0.0 });
            place
        }
    };
    if let Some(slot) = increments.get_mut(place) {
        slot.count = slot.count.saturating_add(1);
        // `evaluate` has refused what would overflow.
        slot.integer = slot.integer.saturating_add(integer);
        if float != 0.0 {
            slot.float = Number::of(slot.float).plus(Number::of(float)).to_float();
        }
    }
}

/// Whether the sum of any actor can still grow by so much, whoever's it will be.
fn slots_have_room(delta: i64, live: Option<&Record<'_>>) -> bool {
    slots(live).iter().all(|slot| slot.integer.checked_add(delta).is_some())
}

fn slots_stay_finite(delta: f64, live: Option<&Record<'_>>) -> bool {
    slots(live).iter().all(|slot| (slot.float + delta).is_finite())
}

fn slots<'r>(live: Option<&'r Record<'_>>) -> &'r [Increment] {
    live.map_or(&[], |record| &record.increments)
}
