//! Changes that are taken back, or committed, in all orders.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::leader_follower::entry::Change;
use crate::storage::record::Value;
use crate::version::{EntryId, Stamp};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec;

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
        let image = state.image(0, usize::MAX, 2).unwrap();
        assert!(image.records.is_empty(), "{followed_by:?}");
        state.undo();
        assert!(state.store.is_empty(), "{followed_by:?}");
    }
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
    for count in [3, CLEARED_AT_ONCE_MIN as u64 + 1] {
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
