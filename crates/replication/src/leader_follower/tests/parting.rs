//! What a snapshot costs of the state and the log that it replaces, and what is kept aside of them.

use super::super::log_record::{Body as LogBody, LogRecord};
use super::super::lost_writes::parting::KEPT_AT_ONCE_BYTES_MAX;
use super::staging::{KEYS, leader_and_follower, restarted, snapshot};
use super::*;
use crate::wire::Reader;
use entry::Payload;

/// Records that a step looks at or writes.
const AT_ONCE: usize = 50;
/// What such a record takes in the node's log, at most.
const KEPT_BYTES_MAX: usize = 200;
const NEW_EPOCH: u64 = 9;

fn cut_entries(records: &[Vec<u8>]) -> usize {
    let is_cut = |record: &&Vec<u8>| {
        let mut r = Reader(record);
        r.u8().is_ok()
            && matches!(LogRecord::decode(&mut r).map(|r| r.body), Ok(LogBody::CutEntry(_)))
    };
    records.iter().filter(is_cut).count()
}

/// A member that knows all keys of an earlier leader's to be committed, and whose leader, in a
/// later epoch, has a snapshot of nothing for it.
fn parted() -> (Member, EntryId) {
    let (leader, member) = leader_and_follower();
    parted_from(leader, member)
}

fn parted_from(mut leader: Member, mut member: Member) -> (Member, EntryId) {
    snapshot(&mut leader, &mut member, &mut |_| true);
    member.group.limits.records_at_once_max = AT_ONCE;
    member.agree_with(PEER, NEW_EPOCH);
    member.group.follower.agreed = false;
    member.group.follower.diverged = true;
    (member, EntryId { epoch: NEW_EPOCH, index: 3 })
}

#[test]
fn what_a_snapshot_has_too_is_not_put_aside() {
    let (mut leader, mut follower) = leader_and_follower();
    // As after a restart: the log goes on, and nothing says that it is committed.
    let tail: Vec<Vec<u8>> = (follower.group.log.last_index() + 1..=leader.group.log.last_index())
        .filter_map(|index| leader.group.log.get(index).map(<[u8]>::to_vec))
        .collect();
    assert!(tail.len() > 500);
    for body in &tail {
        follower.group.log.append(body.len(), |bytes| bytes.extend_from_slice(body));
    }
    let before = follower.sink.records.len();
    leader.set(KEYS);
    leader.matched_by(PEER);
    snapshot(&mut leader, &mut follower, &mut |_| true);
    assert_eq!(follower.digest(), leader.digest());
    assert_eq!(cut_entries(&follower.sink.records[before..]), 0);
}

#[test]
fn an_old_state_is_searched_a_part_at_a_time() {
    let (mut member, floor) = parted();
    let (old, mut logged) = (member.digest(), member.sink.records.len());
    let first = logged;
    member.hear(PEER, NEW_EPOCH, Body::Snapshot(piece(floor, (0, LAST_SLOT), Some(0))));
    let mut steps = 0;
    while member.group.is_parting() {
        assert_eq!(member.digest(), old, "the old state stays");
        let new = member.sink.records.get(logged..).unwrap();
        let bytes: usize = new.iter().map(Vec::len).sum();
        assert!(bytes <= AT_ONCE * KEPT_BYTES_MAX, "{bytes} bytes in a step");
        (logged, steps) = (member.sink.records.len(), steps + 1);
        // A crash here leaves what was there.
        let restarted = restarted(numbered_from(&member)).unwrap();
        assert_eq!(restarted.digest(), old);
        member.now_us += 1_000;
        member.step(|_, _| {});
    }
    let keys = usize::try_from(KEYS).unwrap();
    assert!(steps >= 2 * keys / AT_ONCE, "{steps} steps");
    assert!(member.group.state.store.is_empty());
    assert_eq!(cut_entries(&member.sink.records[first..]), keys);
}

#[test]
fn of_large_values_a_step_writes_down_few() {
    const LARGE_BYTES: usize = 100 << 10;
    let (mut leader, member) = leader_and_follower();
    (0..10).for_each(|number| leader.set_to(number, vec![b'v'; LARGE_BYTES]));
    leader.matched_by(PEER);
    let (mut member, floor) = parted_from(leader, member);
    let mut logged = member.sink.records.len();
    let first = logged;
    member.hear(PEER, NEW_EPOCH, Body::Snapshot(piece(floor, (0, LAST_SLOT), Some(0))));
    while member.group.is_parting() {
        let new = member.sink.records.get(logged..).unwrap();
        let bytes: usize = new.iter().map(Vec::len).sum();
        assert!(bytes < KEPT_AT_ONCE_BYTES_MAX + 2 * LARGE_BYTES, "{bytes} bytes in a step");
        logged = member.sink.records.len();
        member.now_us += 1_000;
        member.step(|_, _| {});
    }
    assert_eq!(cut_entries(&member.sink.records[first..]), usize::try_from(KEYS).unwrap());
}

#[test]
fn another_leader_ends_the_search() {
    let (mut member, floor) = parted();
    let old = member.digest();
    member.hear(PEER, NEW_EPOCH, Body::Snapshot(piece(floor, (0, LAST_SLOT), Some(0))));
    assert!(member.group.is_parting());
    member.agree_with(OTHER, NEW_EPOCH + 1);
    assert!(!member.group.is_parting(), "it may have all that is here");
    assert!(member.group.installing.is_none());
    assert_eq!(member.digest(), old);
}

fn numbered_from(member: &Member) -> impl Iterator<Item = (u64, &[u8])> {
    (1..).zip(member.sink.records.iter().map(Vec::as_slice))
}

/// Removing all keys costs its leader and its followers no walk over them.
#[test]
fn what_all_keys_left_is_freed_a_part_at_a_time() {
    let (mut member, _) = leader_and_follower();
    member.group.limits.records_at_once_max = AT_ONCE;
    member.step(|group, turn| {
        group.append(turn, None, Payload::Clear);
    });
    assert!(member.group.state.store.is_empty());
    assert!(!member.group.is_freeing(), "it may still be taken back");
    member.matched_by(PEER);
    assert!(member.group.is_freeing());
    let mut steps = 0;
    while member.group.is_freeing() {
        member.now_us = member.now_us.max(member.group.leaving.next_deadline());
        member.step(|_, _| {});
        steps += 1;
    }
    assert!(steps >= usize::try_from(KEYS).unwrap() / AT_ONCE - 1, "{steps} steps");
}
