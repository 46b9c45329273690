//! Changes that are taken back, or committed, in all orders.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::data::Name;
use crate::leader_follower::entry::Change;
use crate::storage::record::Value;
use crate::version::{Dot, EntryId, Stamp};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec;
use proptest::prelude::*;

fn changes(index: u64, key: &str, value: Option<&str>) -> Entry<'static> {
    let id = EntryId { epoch: 1, index };
    let dot = Dot { actor: 1, counter: index };
    let record = value.map(|value| Record {
        value: Value::String(value.as_bytes().to_vec().into()),
        ..Record::tombstone(Name { stamp: Stamp(index), dot })
    });
    let change = Change { key: Cow::Owned(key.as_bytes().to_vec()), record };
    let (origin, asker, once) = (None, None, None);
    let payload = Payload::Changes(vec![change].into());
    Entry { id, stamp: Stamp(index), origin, asker, once, payload }
}

fn clear(index: u64) -> Entry<'static> {
    let id = EntryId { epoch: 1, index };
    let (origin, asker, once) = (None, None, None);
    Entry { id, stamp: Stamp(index), origin, asker, once, payload: Payload::Clear }
}

/// A state with `count` committed keys, k1 to kCOUNT.
fn filled(count: u64) -> State {
    let mut state = State::new(0, 16_383, 7, false);
    for index in 1..=count {
        state.apply(&changes(index, &format!("k{index}"), Some("v")), false);
    }
    state.commit(count);
    state
}

#[test]
fn a_committed_delete_leaves_no_tombstone_when_what_followed_is_taken_back() {
    for followed_by in [changes(3, "k1", Some("w")), changes(3, "k1", None), clear(3)] {
        let mut state = filled(1);
        state.apply(&changes(2, "k1", None), true);
        state.apply(&followed_by, true);
        state.commit(2);
        let image = state.image(0, usize::MAX, 2);
        assert!(image.records.is_empty(), "{followed_by:?}");
        state.undo();
        assert!(state.store.is_empty(), "{followed_by:?}");
    }
}

#[test]
fn an_image_shows_what_is_committed_whatever_is_about_to_be_removed() {
    for count in [3, LARGE_FROM as u64 + 1] {
        let mut state = filled(count);
        let before = state.image(0, usize::MAX, count);
        for entry in [
            changes(count + 1, "k2", Some("w")),
            clear(count + 2),
            changes(count + 3, "k2", Some("x")),
            clear(count + 4),
            changes(count + 5, "new", Some("y")),
        ] {
            state.apply(&entry, true);
            let image = state.image(0, usize::MAX, count);
            let [stored, wanted] = [image, before.clone()].map(|image| {
                let mut other = State::new(0, 16_383, 7, false);
                other.install(&image).unwrap();
                other.store.digest()
            });
            assert_eq!(stored, wanted, "{count}: {entry:?}");
        }
    }
}

#[test]
fn slots_that_contain_more_are_images_of_their_own() {
    let mut state = filled(3);
    let image = filled(9).image(100, 0, 9);
    assert_eq!((image.first_slot, image.last_slot), (100, 100));
    state.install(&image).unwrap();
    let ranges = [0, 100, 101].map(|first| state.image(first, usize::MAX, 3));
    let ranges = ranges.map(|image| (image.first_slot, image.last_slot, image.applied));
    assert_eq!(ranges, [(0, 99, 3), (100, 100, 9), (101, 16_383, 3)]);
    assert_eq!([3, 9].map(|index| state.ahead_of(index)), [Some(9), None]);
}

#[test]
fn what_a_key_was_at_an_earlier_entry_is_told_until_all_keys_go() {
    let mut state = filled(2);
    state.apply(&changes(3, "k1", Some("w")), true);
    state.apply(&changes(4, "k1", None), true);
    state.apply(&changes(5, "new", Some("x")), true);
    let dot = |state: &State, key: &str, visible| {
        let (record, hidden) = state.record_at(key.as_bytes(), visible)?;
        let live = record.filter(|record| record.is_live(0));
        Some((live.map(|record| record.dot.counter), hidden))
    };
    assert_eq!(
        [2, 3, 4].map(|at| dot(&state, "k1", at)),
        [Some((Some(1), 3)), Some((Some(3), 4)), None]
    );
    assert_eq!([2, 5].map(|at| dot(&state, "new", at)), [Some((None, 5)), None]);
    assert_eq!(dot(&state, "k2", 2), None, "nothing of it is hidden");
    state.apply(&clear(6), true);
    assert_eq!([5, 6].map(|at| dot(&state, "k2", at)), [None, None]);
}

#[test]
fn a_long_tail_of_deletes_is_committed_at_once() {
    // An inherited tail. With a look at all of it for each delete this takes minutes.
    let count = 400_000;
    let mut state = State::new(0, 16_383, 7, false);
    for index in 1..=count {
        let value = (index % 2 == 0).then_some("v");
        state.apply(&changes(index, &format!("k{}", index / 4), value), true);
    }
    state.commit(count);
    assert!(state.is_settled());
    assert!(state.store.iter_slots(0, 16_383).all(|(_, record)| record.is_live(0)));
}

#[test]
fn removing_all_keys_is_taken_back_whether_there_are_few_or_many() {
    for count in [3, LARGE_FROM as u64 + 1] {
        let mut state = filled(count);
        state.apply(&changes(count + 1, "k2", None), true);
        state.apply(&clear(count + 2), true);
        state.apply(&clear(count + 3), true);
        state.apply(&changes(count + 4, "k1", Some("w")), true);
        assert_eq!(state.newest_index(None), count + 3, "an absent key waits for the clear");
        state.commit(count + 1);
        state.undo();
        let mut expected = filled(count);
        expected.store.remove(b"k2");
        assert_eq!(state.store.digest(), expected.store.digest(), "{count} keys");
    }
}

/// What happens to a group's state.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u8, usize),
    Delete(u8),
    Clear,
    /// A command that must not be carried out twice; it forgets what started before.
    Call(u64),
    /// So many of the entries that are not committed are.
    Commit(usize),
    Undo,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // A few sizes: records are overwritten in place, and not.
        10 => (0..24u8, 0..3usize).prop_map(|(key, size)| Step::Set(key, size)),
        6 => (0..24u8).prop_map(Step::Delete),
        1 => Just(Step::Clear),
        1 => (0..4u64).prop_map(Step::Call),
        5 => (0..9usize).prop_map(Step::Commit),
        1 => Just(Step::Undo),
    ]
}

fn entry(index: u64, step: Step, merges: bool) -> Option<Entry<'static>> {
    let Entry { id, stamp, origin, asker, .. } = clear(index);
    let tombstone = Record::tombstone(Name { stamp, dot: Dot { actor: 1, counter: index } });
    let (key, record) = match step {
        Step::Clear => return Some(clear(index)),
        Step::Commit(_) | Step::Undo => return None,
        Step::Call(session) => {
            let name = |session| Cow::Owned(format!("{session}-client").into_bytes());
            let (session, forgotten) = (name(session + 1), vec![name(session)]);
            let (digest, reply) = (9, crate::command::Reply::Ok);
            let once = Some(Once { session, sequence: index, digest, reply, forgotten });
            let payload = Payload::Changes(Vec::new().into());
            let once = once.map(Box::new);
            return Some(Entry { id, stamp, origin, asker, once, payload });
        }
        Step::Delete(key) => (key, merges.then_some(tombstone)),
        Step::Set(key, size) => {
            let value = Value::String(vec![index as u8; size * 100].into());
            (key, Some(Record { value, ..tombstone }))
        }
    };
    let change = Change { key: Cow::Owned(vec![b'k', key]), record };
    let payload = Payload::Changes(change.into());
    Some(Entry { id, stamp, origin, asker, once: None, payload })
}

fn digests(state: &State) -> (u64, u64, u64) {
    (state.store.digest(), state.once.digest(), state.once.horizon_ms())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_is_taken_back_leaves_what_is_committed(
        steps in proptest::collection::vec(step(), 0..80),
        merges in any::<bool>(),
    ) {
        let empty = || State::new(0, 16_383, 7, merges);
        // The committed entries, applied for good: what is to be left.
        let (mut state, mut committed) = (empty(), empty());
        let (mut tail, mut index) = (VecDeque::new(), 0);
        for step in steps {
            if let Some(entry) = entry(index + 1, step, merges) {
                index += 1;
                state.apply(&entry, true);
                tail.push_back(entry);
            }
            match step {
                Step::Commit(count) => for entry in tail.drain(..count.min(tail.len())) {
                    committed.apply(&entry, false);
                    state.commit(entry.id.index);
                },
                Step::Undo => {
                    state.undo();
                    tail.clear();
                    prop_assert_eq!(digests(&state), digests(&committed));
                }
                _ => {}
            }
            prop_assert!(state.is_settled() || !tail.is_empty());
            if matches!(step, Step::Commit(_)) {
                let image = state.image(0, usize::MAX, index);
                let mut installed = empty();
                installed.install(&image).unwrap();
                prop_assert_eq!(digests(&installed), digests(&committed));
            }
        }
        state.undo();
        prop_assert_eq!(digests(&state), digests(&committed));
    }
}
