//! A member's log is read, which holds many times what the member keeps of it.

use super::super::log_record::LogRecord;
use super::*;
use crate::wire::Reader;

const KEYS: u64 = 20;
const WRITES: u64 = 2_000;
const VALUE_BYTES: usize = 50;
/// What is kept of the log for followers, in bytes, and how often it is written down what is
/// committed.
const LOG_BYTES: usize = 4_000;
const PIECE_BYTES: usize = 1_000;

fn member() -> Member {
    let mut member = Member::new();
    member.group.limits.log_bytes_max = LOG_BYTES;
    member.group.limits.image_bytes_max = PIECE_BYTES;
    member
}

/// Reads a log. Returns the member, and the most bytes of entries that it had in memory.
fn read(records: &[Vec<u8>]) -> (Member, u64) {
    let (mut reader, mut most) = (member(), 0);
    for (at, record) in records.iter().enumerate() {
        let record = LogRecord::decode(&mut Reader(&record[1..])).unwrap();
        reader.group.replay(Position(at as u64 + 1), record).unwrap();
        most = most.max(reader.group.log.bytes());
    }
    reader.group.finish_recovery().unwrap();
    (reader, most)
}

#[test]
fn what_is_known_to_be_committed_is_applied_while_the_log_is_read() {
    let mut leader = member();
    leader.lead(false);
    for number in 0..WRITES {
        leader.set_to(number % KEYS, vec![number as u8; VALUE_BYTES]);
        leader.matched_by(PEER);
    }
    let written: usize = leader.sink.records.iter().map(Vec::len).sum();
    let (reader, most) = read(&leader.sink.records);
    assert!(most < (LOG_BYTES + 2 * PIECE_BYTES) as u64 && written > 20 * LOG_BYTES, "{most}");
    let kept = reader.group.log.bytes();
    assert!(kept > (LOG_BYTES - PIECE_BYTES) as u64, "{kept}: followers need more of the log");
    assert_eq!(reader.group.last(), leader.group.last());
    let (known, last) = (reader.group.commit(), leader.group.commit());
    assert!(known > last - 40, "{known} of {last}");
    let digest = |from: u64, group: &mut Group| {
        let rest: Vec<_> = (from + 1..=last).filter_map(|at| group.log.get(at)).collect();
        rest.iter().flat_map(|body| entry::Entry::decode(body)).for_each(|entry| {
            group.state.apply(&entry, false);
        });
        group.state.store.digest()
    };
    let mut reader = reader;
    assert_eq!(digest(known, &mut reader.group), leader.group.state.store.digest());
}

#[test]
fn a_log_that_takes_back_what_it_has_said_to_be_committed_is_not_read() {
    let mut leader = member();
    leader.lead(false);
    for number in 0..WRITES {
        leader.set_to(number % KEYS, vec![number as u8; VALUE_BYTES]);
        leader.matched_by(PEER);
    }
    let mut reader = member();
    for (at, record) in leader.sink.records.iter().enumerate() {
        let record = LogRecord::decode(&mut Reader(&record[1..])).unwrap();
        reader.group.replay(Position(at as u64 + 1), record).unwrap();
    }
    let cut = |last_kept| LogRecord { group: GROUP, body: log_record::Body::Cut { last_kept } };
    let (at, last) = (Position(1 << 20), reader.group.last().index);
    assert!(reader.group.replay(at, cut(last - 1)).is_ok());
    assert!(reader.group.replay(at, cut(reader.group.commit() - 1)).is_err());
}
