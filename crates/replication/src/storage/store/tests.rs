//! The store against a model of it: a sorted map.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::storage::record::{Increment, Value};
use crate::version::{Dot, Stamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use proptest::prelude::*;

const SEED: u64 = 42;
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
    let mut store = Store::new(0, LAST_SLOT, SEED);
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
    Put(Vec<u8>, Record<'static>),
    Remove(Vec<u8>),
    /// So many keys of one slot, or of all.
    Fill(bool, usize),
    RemoveAllBut(usize),
    Clear,
}

/// A few keys, so that they meet; some are longer than a byte can say, some share a slot.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let key = |number: u8| match number {
        0 => vec![b'k'; 300],
        1 => Vec::new(),
        2..8 => format!("{{tag}}{number}").into_bytes(),
        _ => format!("key{number}").into_bytes(),
    };
    (0..20u8).prop_map(key)
}

fn records() -> impl Strategy<Value = Record<'static>> {
    let values = prop_oneof![
        Just(Value::Absent),
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(|v| Value::String(v.into())),
        Just(Value::String(vec![b'v'; 300].into())),
    ];
    let numbers = || prop_oneof![0..9u64, any::<u64>()];
    let slot = (0..3u64, any::<i64>(), any::<i8>());
    let slots = proptest::collection::btree_map(numbers(), slot, 0..3);
    let names = (numbers(), numbers(), numbers(), proptest::option::of(numbers()));
    (names, values, proptest::option::of(0..20u64), slots).prop_map(
        |((stamp, actor, counter, expiry_stamp), value, expires_at_ms, slots)| Record {
            stamp: Stamp(stamp),
            dot: Dot { actor, counter },
            value,
            expiry_stamp: Stamp(expiry_stamp.unwrap_or(stamp)),
            expires_at_ms,
            increments: slots
                .into_iter()
                .map(|(actor, (count, integer, eighths))| Increment {
                    actor,
                    count,
                    integer,
                    float: f64::from(eighths) / 8.0,
                })
                .collect(),
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        20 => (keys(), records()).prop_map(|(key, record)| Change::Put(key, record)),
        8 => keys().prop_map(Change::Remove),
        2 => (any::<bool>(), 1..200usize).prop_map(|(tagged, count)| Change::Fill(tagged, count)),
        1 => (0..30usize).prop_map(Change::RemoveAllBut),
        1 => Just(Change::Clear),
    ]
}

/// The keys that a change is about, with their new records.
fn writes(change: Change, model: &Model) -> Vec<(Vec<u8>, Option<Record<'static>>)> {
    match change {
        Change::Put(key, record) => vec![(key, Some(record))],
        Change::Remove(key) => vec![(key, None)],
        Change::Fill(true, count) => {
            tagged(count).into_iter().map(|key| (key, Some(record(Some(b"v"), None)))).collect()
        }
        Change::Fill(false, count) => (0..count)
            .map(|number| format!("key{number}").into_bytes())
            .map(|key| (key.clone(), Some(record(Some(&key), Some(7)))))
            .collect(),
        Change::RemoveAllBut(count) => {
            model.keys().skip(count).map(|key| (key.clone(), None)).collect()
        }
        Change::Clear => Vec::new(),
    }
}

type Model = BTreeMap<Vec<u8>, Record<'static>>;

fn agrees(store: &Store, model: &Model) {
    assert_eq!(store.len(), model.len());
    assert_eq!(store.is_empty(), model.is_empty());
    assert_eq!(store.live(), model.values().filter(|r| is_live(r)).count());
    for now_ms in [0, 3, u64::MAX] {
        let live = model.values().filter(|record| record.is_live(now_ms)).count();
        assert_eq!(store.live_at(now_ms), live);
    }
    assert_eq!(
        store.bytes(),
        model
            .iter()
            .map(|(key, record)| Measure::of(&Packed::new(key, record)).bytes)
            .sum::<usize>()
    );
    for (key, record) in model {
        assert_eq!(store.get(key).as_ref(), Some(record));
    }
    let mut order: Vec<(u16, u64, &[u8])> =
        model.keys().map(|key| (slot_of(key), hash_of(key, SEED), key.as_slice())).collect();
    order.sort_unstable();
    let walked: Vec<(u16, &[u8], Record<'_>)> = store.walk(0, LAST_SLOT).collect();
    assert!(walked.iter().map(|w| (w.0, w.1)).eq(order.iter().map(|o| (o.0, o.2))));
    assert!(walked.iter().all(|(_, key, record)| model.get(*key) == Some(record)));
    for (first, last) in [(0, 9000), (9000, LAST_SLOT), (slot_of(b"tag"), slot_of(b"tag"))] {
        let some = order.iter().filter(|(slot, ..)| (first..=last).contains(slot));
        assert!(store.iter_slots(first, last).map(|(key, _)| key).eq(some.map(|(.., key)| *key)));
    }
    let (mut paged, mut from) = (Vec::new(), Some((0, 0)));
    while let Some((slot, hash)) = from {
        let page = store.page(slot, hash, 7);
        assert!(page.entries.len() >= 7 || page.next.is_none());
        assert!(page.next.is_none_or(|next| next > (slot, hash) && next.1 & !PAGE_HASH_MASK == 0));
        paged.extend(page.entries.iter().map(|(key, _)| *key));
        from = page.next;
    }
    assert!(paged.iter().eq(order.iter().map(|(.., key)| key)));
    agrees_in_time(store, model);
}

/// The deadlines.
fn agrees_in_time(store: &Store, model: &Model) {
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

fn is_live(record: &Record<'_>) -> bool {
    record.value != Value::Absent || !record.increments.is_empty()
}

fn deadline_of(record: &Record<'_>) -> Option<u64> {
    record.expires_at_ms.filter(|_| is_live(record))
}

fn owned(bytes: &[u8]) -> (Vec<u8>, Record<'static>) {
    let (key, record) = unpack(bytes).unwrap();
    (key.to_vec(), record.into_owned())
}

/// All of a record that a digest tells apart: of the value its length alone.
fn named(record: &Record<'_>) -> String {
    let value = match &record.value {
        Value::Absent => None,
        Value::String(bytes) => Some(bytes.len()),
    };
    format!("{value:?} {:?}", Record { value: Value::Absent, ..record.clone() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn records_have_the_same_digest_if_they_are_the_same(
        keys in proptest::collection::vec(keys(), 2),
        one in records(),
        other in records(),
    ) {
        let mut store = Store::new(0, LAST_SLOT, SEED);
        let mut digests = Vec::new();
        for (key, record) in keys.iter().zip([&one, &other]) {
            store.put(key, record);
            let hashes = store.hashes(key);
            digests.push(digest(store.bytes_by(key, hashes).unwrap()));
        }
        prop_assert_eq!(&digests, &vec![digest_of(&one), digest_of(&other)]);
        prop_assert_eq!(digests[0] == digests[1], named(&one) == named(&other));
    }

    #[test]
    fn it_behaves_like_a_sorted_map(changes in proptest::collection::vec(change(), 0..60)) {
        let (mut store, mut model) = (Store::new(0, LAST_SLOT, SEED), Model::new());
        for change in changes {
            if matches!(change, Change::Clear) {
                store.clear();
                model.clear();
            }
            for (key, new) in writes(change, &model) {
                let mut old = None;
                let expected = match new {
                    Some(record) => {
                        let hashes = store.hashes(&key);
                        store.put_over(&key, hashes, &record, |bytes| old = bytes.map(owned));
                        model.insert(key.clone(), record)
                    }
                    None => {
                        store.remove_over(&key, |bytes| old = bytes.map(owned));
                        model.remove(&key)
                    }
                };
                assert_eq!(old, expected.map(|old| (key, old)));
            }
        }
        agrees(&store, &model);
        let mut rebuilt = Store::new(0, LAST_SLOT, 1);
        model.iter().rev().for_each(|(key, record)| rebuilt.put(key, record));
        assert_eq!(store.digest(), rebuilt.digest());
    }

    #[test]
    fn what_is_packed_is_unpacked(key in keys(), record in records()) {
        let packed = Packed::new(&key, &record);
        prop_assert_eq!((packed.key(), packed.record()), (key.as_slice(), record.clone()));
        prop_assert_eq!(owned(packed.bytes()), (key, record));
    }

    #[test]
    fn what_is_cut_short_is_not_unpacked(key in keys(), record in records(), keep in 0.0..1.0f64) {
        let packed = Packed::new(&key, &Record { value: Value::Absent, ..record });
        let length = (packed.bytes().len() as f64 * keep) as usize;
        prop_assert!(unpack(&packed.bytes()[..length]).is_err());
    }
}

#[test]
fn a_plain_key_has_twenty_bytes_besides_itself() {
    let record = Record { dot: Dot { actor: 3, counter: 1 << 40 }, ..record(Some(b"value"), None) };
    let record = Record { expiry_stamp: record.stamp, ..record };
    assert_eq!(Packed::new(b"key", &record).bytes().len(), 20 + 3 + 5);
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
fn pages_give_every_key_once_however_many_share_a_slot() {
    let keys = tagged(500);
    let mut store = store_of(&keys);
    store.put(b"elsewhere", &record(None, None));
    let (mut seen, mut from, mut pages) = (Vec::new(), Some((0, 0)), 0);
    while let Some((slot, hash)) = from {
        let page = store.page(slot, hash, 7);
        assert!(page.entries.len() >= 7 || page.next.is_none());
        seen.extend(page.entries.iter().map(|(key, _)| key.to_vec()));
        from = page.next;
        pages += 1;
    }
    let order: Vec<Vec<u8>> = store.iter_slots(0, LAST_SLOT).map(|(key, _)| key.to_vec()).collect();
    assert_eq!(seen, order);
    assert_eq!(seen.len(), 501);
    assert!(pages > 60);
    assert_eq!(store.page(0, 0, 501).entries.len(), 501);
    assert_eq!(store.page(0, 0, 502).next, None);
    assert_eq!(store.page(LAST_SLOT, u64::MAX, 7), Page { entries: vec![], next: None });
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

#[test]
fn a_store_is_freed_a_part_at_a_time() {
    let mut store = Store::new(0, LAST_SLOT, SEED);
    let keys: Vec<Vec<u8>> = (0..5_000).map(|number| format!("k{number}").into_bytes()).collect();
    for (number, key) in keys.iter().enumerate() {
        store.put(key, &record(Some(key), (number % 2 == 0).then_some(1_000 + number as u64)));
    }
    let mut remains = store.into_remains();
    let parts = (1..).find(|_| remains.free(100)).unwrap_or_default();
    assert!((50..=100).contains(&parts), "{parts} parts");
}
