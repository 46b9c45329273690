//! What a key costs in the tables alone: instructions and allocations for each operation, and
//! memory for each key.
//!
//! ```text
//! store_cost CASE [--keys N] [--operations N] [--slots N]
//! CASE: get | put | apply | memory
//! ```
//!
//! `put` overwrites in the store; `apply` is a leader's overwriting SET: an entry is read from its
//! bytes, applied so that it could be taken back, and committed. Instructions as in `step_cost`:
//! what callgrind counts for more operations, divided by how many more.
//!
//! ```text
//! cargo build --release -p replication --example store_cost
//! valgrind --tool=callgrind target/release/examples/store_cost get --operations 120000
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use replication::data::Name;
use replication::leader_follower::entry::{Change, Entry, Payload};
use replication::leader_follower::state::State;
use replication::storage::record::{Record, Value};
use replication::version::{Dot, EntryId, Stamp};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::borrow::Cow;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VALUE_BYTES: usize = 100;
const PAGE_BYTES: usize = 4096;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str, or: u64| {
        let place = arguments.iter().position(|argument| argument == name);
        place.map_or(or, |place| arguments[place + 1].parse().unwrap())
    };
    let (keys, operations) = (option("--keys", 20_000), option("--operations", 20_000));
    let last_slot = option("--slots", 16_384) as u16 - 1;
    let (requested, resident) = (requested_bytes(), resident_bytes());
    let mut state = State::new(0, last_slot, 7, false);
    for number in 0..keys {
        state.store.put(&key(number), &record(number + 1, 1));
    }
    let (requested, resident) = (requested_bytes() - requested, resident_bytes() - resident);
    let mut cost = Cost { keys, state };
    let region = Region::new(ALLOCATOR);
    let case = arguments.get(1).map_or("memory", String::as_str);
    match case {
        "get" => (0..operations).for_each(|number| cost.get(number)),
        "put" => (0..operations).for_each(|number| cost.put(number)),
        "apply" => (0..operations).for_each(|number| cost.apply(number)),
        "memory" => {
            let estimated = cost.state.store.bytes() as f64 / keys as f64;
            let of = |bytes: usize| bytes as f64 / keys as f64;
            println!("{keys} keys: {:.1} bytes requested for each", of(requested));
            println!("{:.1} resident, {estimated:.1} by its own estimate", of(resident));
            return;
        }
        other => panic!("no such case: {other}"),
    }
    let stats = region.change();
    let allocations = stats.allocations + stats.reallocations;
    println!("{case}: {:.3} allocations for each", allocations as f64 / operations as f64);
}

struct Cost {
    keys: u64,
    state: State,
}

impl Cost {
    fn key(&self, number: u64) -> [u8; 16] {
        key(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.keys)
    }

    fn get(&mut self, number: u64) {
        let record = self.state.store.get(&self.key(number)).unwrap();
        assert_eq!(record.value().unwrap().len(), VALUE_BYTES);
    }

    fn put(&mut self, number: u64) {
        let key = self.key(number);
        self.state.store.put(&key, &record(number + 1, 2));
    }

    fn apply(&mut self, number: u64) {
        let key = self.key(number);
        let id = EntryId { epoch: 1, index: self.keys + number + 1 };
        let change = Change { key: Cow::Borrowed(&key), record: Some(record(id.index, 2)) };
        let (origin, asker, once) = (None, None, None);
        let payload = Payload::Changes(change.into());
        let entry = Entry { id, stamp: Stamp(id.index), origin, asker, once, payload };
        self.state.apply(&entry, true);
        self.state.commit(id.index);
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for place in key.iter_mut().rev().take(12) {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn record(index: u64, epoch: u64) -> Record<'static> {
    static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
    let value = Value::String(Cow::Borrowed(&VALUE));
    let dot = Dot { actor: epoch, counter: index };
    Record { value, ..Record::tombstone(Name { stamp: Stamp(index), dot }) }
}

/// What the allocator was asked for and not given back.
fn requested_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    let reallocated = stats.bytes_reallocated;
    (stats.bytes_allocated - stats.bytes_deallocated).wrapping_add_signed(reallocated)
}

/// What the operating system has given, in pages.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).map_or(0, |pages| pages.parse().unwrap_or(0));
    pages * PAGE_BYTES
}
