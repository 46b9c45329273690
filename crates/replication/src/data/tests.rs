//! What the recorded conversations with Redis (`tests/redis_replies.txt`) cannot show: the writes,
//! the records that they become, and the moments around a deadline.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::storage::record::{Increment, Value};
use alloc::string::String;

const NOW_MS: u64 = 1_000_000;

fn name(number: u64) -> Name {
    Name { stamp: Stamp::at(NOW_MS + number), dot: Dot { actor: 7, counter: number } }
}

fn string(value: &str) -> Record<'_> {
    let value = Value::String(value.as_bytes().into());
    Record { value, ..Record::tombstone(name(1)) }
}

fn run<'r, 'c>(verb: Verb<'c>, record: Option<&'r Record<'_>>) -> Evaluation<'r, 'c> {
    evaluate(&KeyCommand { key: b"k", verb }, record, NOW_MS)
}

fn slot(actor: u64, integer: i64, float: f64) -> Increment {
    Increment { actor, count: 1, integer, float }
}

fn value(record: &Record<'_>) -> String {
    String::from_utf8(record.value().unwrap().into_owned()).unwrap()
}

#[test]
fn a_get_of_a_plain_string_borrows_it() {
    let record = string("v");
    assert!(matches!(run(Verb::Get, Some(&record)).reply, Reply::Bulk(Cow::Borrowed(b"v"))));
    let counter = Record { increments: alloc::vec![slot(1, 5, 0.0)].into(), ..string("1") };
    assert_eq!(run(Verb::Get, Some(&counter)).reply, Reply::Bulk(Cow::Borrowed(b"6")));
}

#[test]
fn a_key_exists_until_its_deadline() {
    for (deadline, exists) in [(NOW_MS - 1, 0), (NOW_MS, 0), (NOW_MS + 1, 1)] {
        let record = Record { expires_at_ms: Some(deadline), ..string("v") };
        assert_eq!(run(Verb::Exists, Some(&record)).reply, Reply::Integer(exists));
        assert_eq!(record.as_of(NOW_MS).value().is_some(), exists == 1);
    }
    let tombstone = Record::tombstone(name(1));
    assert_eq!(run(Verb::Get, Some(&tombstone)).reply, Reply::Nil);
    assert_eq!(run(Verb::Delete, Some(&tombstone)).write, Write::Nothing);
}

#[test]
fn an_expired_record_is_the_same_tombstone_everywhere_and_newer_than_itself() {
    let record = Record { expires_at_ms: Some(NOW_MS), ..string("v") };
    let (early, late) = (record.as_of(NOW_MS), record.as_of(NOW_MS * 2));
    assert_eq!(early, late);
    assert!(early.stamp > record.stamp && early.dot == record.dot);
    let late = Record { expires_at_ms: Some(NOW_MS + 500), ..record.clone() };
    assert_eq!(late.as_of(NOW_MS * 2).stamp, Stamp::at(NOW_MS + 500));
    let again = early.as_of(NOW_MS * 3);
    assert_eq!(again, early);
}

#[test]
fn a_deadline_in_the_past_removes_the_key() {
    use crate::command::verb::{Condition, Deadline, ExpireCondition, Expiry};
    let record = string("v");
    let past = Deadline::At(1);
    let expire = Verb::Expire(past, ExpireCondition::Always);
    assert_eq!(run(expire, Some(&record)).write, Write::Delete);
    let set = Verb::Set {
        value: b"w",
        expiry: Expiry::Set(past),
        condition: Condition::Always,
        get: false,
    };
    assert_eq!(run(set, Some(&record)).write, Write::Delete);
    assert_eq!(run(Verb::GetExpire(Expiry::Set(past)), Some(&record)).write, Write::Delete);
    let now = Verb::Expire(Deadline::In(0), ExpireCondition::Always);
    assert_eq!(run(now, Some(&record)).write, Write::Delete);
}

#[test]
fn a_deadline_stays_only_where_there_is_one() {
    let forever = string("v");
    let mortal = Record { expires_at_ms: Some(NOW_MS + 9), ..string("v") };
    let expired = Record { expires_at_ms: Some(NOW_MS - 9), ..string("v") };
    let of = |record| match run(Verb::Append(b"x"), Some(record)).write {
        Write::Set { expires_at_ms, .. } => expires_at_ms,
        other => panic!("{other:?}"),
    };
    assert_eq!(of(&forever), ExpiresAt::Never);
    assert_eq!(of(&mortal), ExpiresAt::Keep);
    assert_eq!(of(&expired), ExpiresAt::Never);
}

#[test]
fn overwriting_folds_increments_and_names_every_write() {
    let old = Record {
        expires_at_ms: Some(NOW_MS + 9),
        increments: alloc::vec![slot(1, 5, 0.0)].into(),
        ..string("10")
    };
    let write = run(Verb::Increment(2), Some(&old)).write;
    let new = overwrite(write, Some(&old), name(2)).unwrap();
    assert_eq!((value(&new).as_str(), new.increments.len()), ("17", 0));
    assert_eq!(
        (new.stamp, new.dot, new.expires_at_ms),
        (name(2).stamp, name(2).dot, Some(NOW_MS + 9))
    );
    let expire = overwrite(Write::Expire(None), Some(&old), name(3)).unwrap();
    assert_eq!(
        (value(&expire).as_str(), expire.dot, expire.expires_at_ms),
        ("15", name(3).dot, None)
    );
    assert_eq!(overwrite(Write::Delete, Some(&old), name(4)), None);
    assert_eq!(overwrite(Write::Expire(Some(1)), None, name(4)), None);
}

#[test]
fn minting_keeps_the_base_for_increments_and_deadlines() {
    let base = string("10");
    let write = |delta| run(Verb::Increment(delta), Some(&base)).write;
    let once = mint(write(2), Some(&base), name(2), 1);
    let twice = mint(write(3), Some(&once), name(3), 1);
    assert_eq!((twice.stamp, twice.dot, value(&twice).as_str()), (base.stamp, base.dot, "15"));
    assert_eq!((twice.increments[0].count, twice.increments[0].integer), (2, 5));
    let mortal = mint(Write::Expire(Some(9)), Some(&twice), name(4), 2);
    assert_eq!((mortal.dot, mortal.expiry_stamp), (base.dot, name(4).stamp));
    assert_eq!((value(&mortal).as_str(), mortal.expires_at_ms), ("15", Some(9)));
    assert_eq!(mortal.newest_stamp(), name(4).stamp);
    let gone = mint(Write::Delete, Some(&mortal), name(5), 2);
    assert_eq!(gone, Record::tombstone(name(5)));
}

#[test]
fn a_counter_that_was_never_set_has_the_oldest_base() {
    let new = mint(run(Verb::Increment(-3), None).write, None, name(2), 9);
    assert_eq!((new.stamp, new.dot, value(&new).as_str()), (Stamp::ZERO, Dot::default(), "-3"));
    assert!(new.is_live(NOW_MS));
}

#[test]
fn slots_add_up_in_actor_order() {
    let of = |base: &str, slots: &[Increment]| {
        let record = Record { increments: slots.to_vec().into(), ..string(base) };
        value(&record)
    };
    assert_eq!(of("10", &[slot(1, 5, 0.0), slot(2, -7, 0.0)]), "8");
    assert_eq!(of("10", &[slot(1, 5, 0.5), slot(2, 0, 0.1)]), "15.6");
    assert_eq!(of("0.1", &[slot(1, 0, 0.2)]), "0.3");
    assert_eq!(of("9223372036854775807", &[slot(1, 1, 0.0)]), "9223372036854775808");
    assert_eq!(of("no number", &[slot(1, 1, 0.0)]), "no number");
}

#[test]
fn what_would_overflow_an_actors_sum_is_refused() {
    let record = Record { increments: alloc::vec![slot(1, i64::MAX, 0.0)].into(), ..string("-5") };
    let refused = run(Verb::Increment(1), Some(&record));
    assert_eq!(refused.reply, Reply::error("ERR increment or decrement would overflow"));
    assert_eq!(refused.write, Write::Nothing);
}
