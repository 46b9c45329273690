//! What keys cost in memory, and what must cost none: counted at the allocator.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use replication::data::Name;
use replication::leader_follower::entry::{Change, Entry, Payload};
use replication::leader_follower::state::State;
use replication::storage::record::{Record, Value};
use replication::storage::store::Store;
use replication::version::{Dot, EntryId, Stamp};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::borrow::Cow;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the allocator adds to each allocation: a head of 8 bytes, and up to 15 to a whole 16.
const ALLOCATION_BYTES: f64 = 16.0;
/// How far a store's own estimate may be from the truth.
const ESTIMATE_SLACK: f64 = 0.15;
/// For keys of 16 and values of 100 bytes, all included: redis 7.0 takes about 200.
const KEY_BYTES_MAX: f64 = 200.0;

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn record(index: u64, value: &[u8], expires_at_ms: Option<u64>) -> Record<'_> {
    let value = Value::String(Cow::Borrowed(value));
    let name = Name { stamp: Stamp(index), dot: Dot { actor: 1, counter: index } };
    Record { value, expires_at_ms, ..Record::tombstone(name) }
}

/// What the allocator has given, and what the store says, for each of so many keys.
fn measured(keys: u64, value: &[u8], expires_at_ms: impl Fn(u64) -> Option<u64>) -> (f64, f64) {
    let region = Region::new(ALLOCATOR);
    let mut store = Store::new(0, 16_383, 7);
    (0..keys).for_each(|n| store.put(&key(n), &record(n, value, expires_at_ms(n))));
    let stats = region.change();
    let held = (stats.bytes_allocated - stats.bytes_deallocated) as f64;
    let held = held + stats.bytes_reallocated as f64;
    let allocations = (stats.allocations - stats.deallocations) as f64;
    let bytes = held + allocations * ALLOCATION_BYTES;
    (bytes / keys as f64, store.bytes() as f64 / keys as f64)
}

fn reading_and_overwriting_allocate_nothing() {
    const KEYS: u64 = 1_000;
    let value = [b'v'; 100];
    let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
    let mut state = State::new(0, 16_383, 7, false);
    let set = |state: &mut State, index: u64, committed: u64| {
        let key = Cow::Borrowed(keys[(index % KEYS) as usize].as_slice());
        let change = Change { key, record: Some(record(index, &value, None)) };
        let id = EntryId { epoch: 1, index };
        let (origin, asker, once) = (None, None, None);
        let payload = Payload::Changes(change.into());
        state.apply(&Entry { id, stamp: Stamp(index), origin, asker, once, payload }, true);
        state.commit(committed);
    };
    // Up to some hundred of them wait for their copies at any time.
    let lag = |index: u64| index - index.min(index % 700);
    (1..5_000).for_each(|index| set(&mut state, index, lag(index)));
    let region = Region::new(ALLOCATOR);
    (5_000..50_000).for_each(|index| set(&mut state, index, lag(index)));
    assert_eq!(region.change().allocations, 0, "an overwriting SET");
    assert_eq!(region.change().reallocations, 0, "an overwriting SET");
    let found = keys.iter().filter(|key| state.store.get(key).unwrap().value().is_some()).count();
    assert_eq!(region.change().allocations, 0, "a GET");
    assert_eq!(found as u64, KEYS);
}

/// One test: what others allocate at the same time would count, too.
#[test]
fn memory_is_what_the_store_says_and_none_where_nothing_grows() {
    reading_and_overwriting_allocate_nothing();
    let (held, _) = measured(10_000, &[b'v'; 100], |_| None);
    assert!(held < KEY_BYTES_MAX, "{held:.1} bytes for each of a few keys");
    for (keys, value_bytes) in [(30_000, 100), (200_000, 100), (200_000, 10), (5_000, 5_000)] {
        let value = vec![b'v'; value_bytes];
        let (held, said) = measured(keys, &value, |_| None);
        let off = (said / held - 1.0).abs();
        assert!(off < ESTIMATE_SLACK, "{keys} of {value_bytes}: {held:.1} held, {said:.1} said");
    }
    let (held, said) = measured(100_000, &[b'v'; 100], |number| Some(number * 7_919 % 100_003));
    let off = (said / held - 1.0).abs();
    assert!(off < ESTIMATE_SLACK, "with deadlines: {held:.1} held, {said:.1} said");
}
