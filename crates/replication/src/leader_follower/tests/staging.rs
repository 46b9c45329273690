//! Snapshots on their way into a follower, and its crashes meanwhile.

use super::super::log_record::LogRecord;
use super::*;
use crate::storage::record::{Record, Value};
use crate::version::Dot;
use crate::wire::{Malformed, Reader};
use alloc::format;
use entry::{Change, Payload};

const OLD_KEYS: u64 = 10;
pub(super) const KEYS: u64 = 1_000;
const PIECE_BYTES: usize = 2_000;
/// What a step may write besides a piece's bytes: what is around the records, the key that is over
/// the bound, and what opens or closes a snapshot.
const BESIDES_BYTES: usize = 1_000;

/// Some group members said this to others.
type Said = Vec<(NodeId, Vec<u8>)>;

impl Member {
    pub(super) fn set(&mut self, number: u64) {
        self.set_to(number, format!("value {number}").into_bytes());
    }

    pub(super) fn set_to(&mut self, number: u64, value: Vec<u8>) {
        self.step(|group, turn| {
            let id = group.next_id();
            let record = Record {
                stamp: Stamp::at(1_000 + number),
                dot: Dot { actor: id.epoch, counter: id.index },
                value: Value::String(value.into()),
                expiry_stamp: Stamp::ZERO,
                expires_at_ms: None,
                increments: Default::default(),
            };
            let key = Cow::Owned(format!("key {number}").into_bytes());
            let changes = vec![Change { key, record: Some(record) }];
            group.append(turn, None, Payload::Changes(changes.into()));
        });
    }

    /// Hears what another member has said to it; returns what it says to that.
    fn hear_all(&mut self, from: NodeId, said: &Said, each: &mut dyn FnMut(&Member)) -> Said {
        let (me, mut answers) = (self.local.me, Said::new());
        for (_, bytes) in said.iter().filter(|(to, _)| *to == me) {
            let crate::Message::LeaderFollower(message) = crate::Message::decode(bytes).unwrap()
            else {
                panic!("a group says what a group says")
            };
            self.step(|group, turn| group.on_message(turn, from, DISK, message));
            answers.append(&mut self.sink.sent);
            each(self);
        }
        answers
    }

    /// Follows a new leader, whose log has all that is known here to be committed.
    pub(super) fn agree_with(&mut self, leader: NodeId, epoch: u64) {
        self.step(|group, turn| {
            group.adopt_epoch(turn, epoch, "a test");
            group.follow(turn, leader);
            group.follower.agreed = true;
        });
    }

    pub(super) fn digest(&self) -> u64 {
        self.group.state.store.digest()
    }
}

/// A leader, and a follower that has a few old keys of a log that is otherwise gone.
pub(super) fn leader_and_follower() -> (Member, Member) {
    let (mut leader, mut follower) = (Member::new(), Member::new());
    leader.group.limits.image_bytes_max = PIECE_BYTES;
    leader.lead(false);
    (0..OLD_KEYS).for_each(|number| leader.set(number));
    leader.matched_by(PEER);
    follower.local = Local::new(OTHER, DISK, 2, Mutants::default());
    snapshot(&mut leader, &mut follower, &mut |_| true);
    assert_eq!(follower.group.state.store.len() as u64, OLD_KEYS);
    (OLD_KEYS..KEYS).for_each(|number| leader.set(number));
    leader.matched_by(PEER);
    (leader, follower)
}

/// The leader sends the follower a snapshot, for as long as `goes_on` says so after each of the
/// follower's steps.
pub(super) fn snapshot(
    leader: &mut Member,
    follower: &mut Member,
    goes_on: &mut dyn FnMut(&Member) -> bool,
) {
    leader.step(|group, turn| {
        group.progress_of(turn, OTHER, DISK);
        group.start_snapshot(turn, OTHER);
    });
    let (mut said, mut on) = (core::mem::take(&mut leader.sink.sent), true);
    let floor = leader.group.commit();
    while on && follower.group.commit() < floor {
        let answers = follower.hear_all(ME, &said, &mut |member| on &= goes_on(member));
        said = leader.hear_all(OTHER, &answers, &mut |_| {});
        assert!(!said.is_empty(), "the snapshot stands still");
    }
}

/// The group after a restart with some of the records of its log.
pub(super) fn restarted<'a>(
    records: impl Iterator<Item = (u64, &'a [u8])>,
) -> Result<Member, Malformed> {
    let mut member = Member::new();
    for (position, record) in records {
        let mut r = Reader(record);
        r.u8().unwrap();
        member.group.replay(Position(position), LogRecord::decode(&mut r).unwrap())?;
    }
    member.group.finish_recovery()?;
    Ok(member)
}

fn numbered(log: &[Vec<u8>]) -> impl DoubleEndedIterator<Item = (u64, &[u8])> {
    log.iter().enumerate().map(|(n, record)| (n as u64 + 1, record.as_slice()))
}

#[test]
fn no_step_of_a_follower_takes_in_more_of_a_snapshot_than_a_piece() {
    let (mut leader, mut follower) = leader_and_follower();
    let (before, old) = (follower.sink.records.len(), follower.digest());
    let (mut logged, mut steps) = (before, 0);
    snapshot(&mut leader, &mut follower, &mut |member| {
        let new = member.sink.records.get(logged..).unwrap_or_default();
        let bytes: usize = new.iter().map(Vec::len).sum();
        assert!(bytes <= PIECE_BYTES + BESIDES_BYTES, "{bytes} bytes in a step");
        (logged, steps) = (member.sink.records.len(), steps + 1);
        let is_over = member.group.installing.is_none();
        assert!(steps == 1 || is_over || member.digest() == old, "the old state stays");
        true
    });
    assert!(steps > 20, "{steps} steps");
    assert_eq!(follower.digest(), leader.digest());
    assert_eq!(follower.group.commit(), leader.group.commit());
}

#[test]
fn a_crash_leaves_the_old_state_or_the_new_one() {
    let (mut leader, mut follower) = leader_and_follower();
    let (old, old_commit) = (follower.digest(), follower.group.commit());
    let before = follower.sink.records.len();
    snapshot(&mut leader, &mut follower, &mut |_| true);
    let log = follower.sink.records;
    for kept in before..log.len() {
        let member = restarted(numbered(&log).take(kept)).unwrap();
        assert_eq!((member.digest(), member.group.commit()), (old, old_commit), "{kept} records");
        assert_eq!(member.group.first_needed(), None);
    }
    let member = restarted(numbered(&log)).unwrap();
    assert_eq!(member.digest(), leader.digest());
    assert_eq!(member.group.commit(), leader.group.commit());
}

#[test]
fn the_log_is_held_from_the_first_staged_piece_on() {
    let (mut leader, mut follower) = leader_and_follower();
    let began = Position(follower.sink.records.len() as u64 + 1);
    let mut steps = 0;
    snapshot(&mut leader, &mut follower, &mut |_| {
        steps += 1;
        steps < 10
    });
    assert_eq!(follower.group.first_needed(), Some(began));
    // A checkpoint of the old state from here on; the log goes on to the snapshot's end.
    let checkpointed = follower.sink.records.len();
    follower.step(|group, turn| {
        group.begin_checkpoint(turn);
        assert!(group.checkpoint_slots(turn, 0, usize::MAX) > u32::from(LAST_SLOT));
    });
    snapshot(&mut leader, &mut follower, &mut |_| true);
    assert_eq!(follower.group.first_needed(), None);
    let ended = follower.sink.records.len();
    follower.step(|group, turn| {
        group.begin_checkpoint(turn);
        assert!(group.checkpoint_slots(turn, 0, usize::MAX) > u32::from(LAST_SLOT));
    });
    let log = follower.sink.records;
    let new = leader.digest();
    let first = usize::try_from(began.0).unwrap() - 1;
    let with = |from: usize, to: usize| {
        restarted(numbered(&log).take(to).skip(from)).map(|member| member.digest())
    };
    assert_eq!(with(first, ended), Ok(new), "the earlier checkpoint and the staged pieces");
    // Once the later checkpoint is complete, the log may begin anywhere before it.
    for from in first..=ended {
        assert_eq!(with(from, log.len()), Ok(new), "from record {from} on");
    }
    // Pieces that are missing without one are noticed.
    for from in first + 1..checkpointed {
        assert_eq!(with(from, ended), Err(Malformed), "from record {from} on");
    }
}

#[test]
fn a_snapshot_that_another_takes_the_place_of_never_was() {
    let (mut leader, mut follower) = leader_and_follower();
    let mut steps = 0;
    snapshot(&mut leader, &mut follower, &mut |_| {
        steps += 1;
        steps < 10
    });
    let begun = follower.group.installing.as_ref().unwrap().next_slot();
    assert!(begun > 0);
    // Another leader of a later epoch, which has more and does not go on with it.
    let floor = EntryId { epoch: 9, index: leader.group.commit() + 5 };
    follower.agree_with(PEER, 9);
    follower.hear(PEER, 9, Body::Snapshot(piece(floor, (0, 99), Some(0))));
    assert_eq!(follower.group.installing.as_ref().unwrap().next_slot(), 100);
    follower.hear(PEER, 9, Body::Snapshot(piece(floor, (100, LAST_SLOT), None)));
    assert!(follower.group.state.store.is_empty());
    let member = restarted(numbered(&follower.sink.records)).unwrap();
    assert!(member.group.state.store.is_empty());
    assert_eq!(member.group.commit(), floor.index);
}

#[test]
fn a_malformed_piece_is_not_taken_and_never_logged() {
    let (_, mut follower) = leader_and_follower();
    let old = follower.digest();
    let floor = EntryId { epoch: 9, index: 5_000 };
    follower.agree_with(PEER, 9);
    follower.hear(PEER, 9, Body::Snapshot(piece(floor, (0, 99), Some(0))));
    assert!(follower.group.installing.is_some());
    let mut last = piece(floor, (100, LAST_SLOT), None);
    last.image.records = Cow::Borrowed(&[200, 1, 2]);
    follower.hear(PEER, 9, Body::Snapshot(last));
    assert!(follower.group.installing.is_none());
    assert_eq!(follower.digest(), old);
    // The rest of it does not follow anything.
    follower.hear(PEER, 9, Body::Snapshot(piece(floor, (100, LAST_SLOT), None)));
    assert_eq!(follower.digest(), old);
    let member = restarted(numbered(&follower.sink.records)).unwrap();
    assert_eq!(member.digest(), old);
}
