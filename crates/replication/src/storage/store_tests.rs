//! The store against a model of it: a sorted map.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::storage::record::Increment;
use crate::version::{Dot, Stamp};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec;
use proptest::prelude::*;

const LAST_SLOT: u16 = crate::keyspace::SLOTS - 1;

fn record(value: Option<&[u8]>, expires_at_ms: Option<u64>) -> Record<'static> {
    Record {
        stamp: Stamp(7),
        dot: Dot { actor: 1, counter: 2 },
        value: value.map_or(Value::Absent, |bytes| Value::String(bytes.to_vec().into())),
        expiry_stamp: Stamp::ZERO,
        expires_at_ms,
        increments: Default::default(),
    }
}

fn store_of(keys: &[Vec<u8>]) -> Store {
    let mut store = Store::new(0, LAST_SLOT, 42);
    for key in keys {
        store.put(key, &record(Some(key), None));
    }
    store
}

/// Keys that all fall into one slot.
fn tagged(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("{{tag}}{number}").into_bytes()).collect()
}

#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>, Option<Vec<u8>>, Option<u64>),
    Remove(Vec<u8>),
    Clear,
}

fn change() -> impl Strategy<Value = Change> {
    let key = || (0..12u8).prop_map(|number| format!("key{number}").into_bytes());
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4));
    let put = (key(), value, proptest::option::of(0..20u64));
    prop_oneof![
        20 => put.prop_map(|(key, value, deadline)| Change::Put(key, value, deadline)),
        8 => key().prop_map(Change::Remove),
        1 => Just(Change::Clear),
    ]
}

fn agrees(store: &Store, model: &BTreeMap<Vec<u8>, Record<'static>>) {
    assert_eq!(store.len(), model.len());
    assert_eq!(store.is_empty(), model.is_empty());
    assert_eq!(store.live(), model.values().filter(|r| is_live(r)).count());
    for now_ms in [0, 3, u64::MAX] {
        let live = model.values().filter(|record| record.is_live(now_ms)).count();
        assert_eq!(store.live_at(now_ms), live);
    }
    assert_eq!(store.bytes(), model.iter().map(|(key, r)| bytes_of(key, r)).sum::<usize>());
    for (key, record) in model {
        assert_eq!(store.get(key).as_ref(), Some(record));
    }
    let walked: Vec<(&[u8], Record<'_>)> = store.iter_slots(0, LAST_SLOT).collect();
    assert_eq!(walked.len(), model.len());
    assert!(walked.iter().all(|(key, record)| model.get(*key) == Some(record)));
    let mut deadlines: Vec<(u64, &[u8])> =
        model.iter().filter_map(|(key, r)| Some((deadline_of(r)?, key.as_slice()))).collect();
    deadlines.sort_unstable();
    assert_eq!(store.next_deadline_ms(), deadlines.first().map(|(deadline, _)| *deadline));
    let expected: BTreeSet<&[u8]> =
        deadlines.iter().filter(|(deadline, _)| *deadline <= 10).map(|(_, key)| *key).collect();
    let due = store.due(10, usize::MAX);
    assert_eq!(due.iter().map(Vec::as_slice).collect::<BTreeSet<_>>(), expected);
    let times: Vec<u64> = due.iter().map(|key| model[key].expires_at_ms.unwrap()).collect();
    assert!(times.is_sorted());
    assert_eq!(store.due(10, 2), due.iter().take(2).cloned().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn it_behaves_like_a_sorted_map(changes in proptest::collection::vec(change(), 0..60)) {
        let mut store = Store::new(0, LAST_SLOT, 42);
        let mut model: BTreeMap<Vec<u8>, Record<'static>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Put(key, value, deadline) => {
                    let record = record(value.as_deref(), deadline);
                    assert_eq!(store.put(&key, &record), model.insert(key, record));
                }
                Change::Remove(key) => assert_eq!(store.remove(&key), model.remove(&key)),
                Change::Clear => {
                    store.clear();
                    model.clear();
                }
            }
        }
        agrees(&store, &model);
    }
}

#[test]
fn the_order_and_the_digest_do_not_tell_the_history() {
    let mut keys: Vec<Vec<u8>> = (0..300).map(|n| format!("key{n}").into_bytes()).collect();
    keys.extend(tagged(200));
    let forward = store_of(&keys);
    let mut backward = store_of(&keys.iter().rev().cloned().collect::<Vec<_>>());
    for key in tagged(1000).into_iter().skip(200) {
        backward.put(&key, &record(None, None));
        backward.remove(&key);
    }
    let walk = |store: &Store| {
        store.iter_slots(0, LAST_SLOT).map(|(key, _)| key.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(walk(&forward), walk(&backward));
    let slots: Vec<u16> = walk(&forward).iter().map(|key| slot_of(key)).collect();
    assert!(slots.is_sorted());
    assert_eq!(forward.digest(), backward.digest());
    let mut other_seed = Store::new(0, LAST_SLOT, 1);
    for key in &keys {
        other_seed.put(key, &record(Some(key), None));
    }
    assert_eq!(forward.digest(), other_seed.digest());
    other_seed.put(b"key7", &record(Some(b"x"), None));
    assert_ne!(forward.digest(), other_seed.digest());
}

#[test]
fn pages_give_every_key_of_a_slot_once() {
    let keys = tagged(500);
    let mut store = store_of(&keys);
    store.put(b"elsewhere", &record(None, None));
    let slot = slot_of(b"tag");
    let (mut seen, mut from, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(hash) = from {
        let page = store.page(slot, hash, 7);
        assert!(page.entries.len() >= 7 || page.next.is_none());
        assert!(page.next.is_none_or(|next| next > hash && next & !PAGE_HASH_MASK == 0));
        seen.extend(page.entries.iter().map(|(key, _)| key.to_vec()));
        from = page.next;
        pages += 1;
    }
    let order: Vec<Vec<u8>> = store.iter_slots(slot, slot).map(|(key, _)| key.to_vec()).collect();
    assert_eq!(seen, order);
    assert_eq!(seen.len(), 500);
    assert!(pages > 60);
    assert_eq!(store.page(slot + 1, 0, 7).next, None);
    assert_eq!(store.page(slot, 0, 500).next, None);
}

#[test]
fn random_keys_are_live_and_reproducible_and_of_all_sorts() {
    let mut keys = tagged(20);
    keys.extend((0..20).map(|n| format!("key{n}").into_bytes()));
    let mut store = store_of(&keys);
    store.put(b"gone", &record(None, None));
    let draw = |seed| {
        let mut random = Random::new(seed);
        (0..2000).map(|_| store.random(&mut random).unwrap().to_vec()).collect::<Vec<_>>()
    };
    let drawn = draw(1);
    assert_eq!(drawn, draw(1));
    assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>(), keys.into_iter().collect());
    assert_eq!(Store::new(0, 5, 1).random(&mut Random::new(1)), None);
    let mut tombstone = Store::new(0, LAST_SLOT, 1);
    tombstone.put(b"gone", &record(None, None));
    assert_eq!(tombstone.random(&mut Random::new(1)), None);
}

#[test]
fn a_counter_without_a_base_is_live() {
    let mut store = Store::new(0, LAST_SLOT, 1);
    let mut counter = record(None, Some(5));
    counter.increments.to_mut().push(Increment { actor: 1, count: 1, integer: 3, float: 0.0 });
    store.put(b"counter", &counter);
    assert_eq!((store.live(), store.due(5, 9)), (1, vec![b"counter".to_vec()]));
    assert_eq!(store.due(4, 9), Vec::<Vec<u8>>::new());
}

#[test]
fn a_store_of_some_slots_knows_only_them() {
    let slot = slot_of(b"foo");
    let mut store = Store::new(slot, slot, 1);
    store.put(b"foo", &record(Some(b"1"), None));
    assert_eq!((store.first_slot(), store.last_slot()), (slot, slot));
    assert!(store.get(b"foo").is_some());
    assert_eq!(store.iter_slots(0, LAST_SLOT).count(), 1);
}
