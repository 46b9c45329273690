//! The log against a list of entries, and the rules about records and durability.
#![allow(clippy::unwrap_used)]
use super::chunks::CHUNK_BYTES;
use super::run::{Bodies, LENGTH_BYTES};
use super::*;
use crate::wire::Writer;
use alloc::vec;

/// An entry's bytes, as far as the log looks into them, and so many in all.
fn body(epoch: u64, index: u64, bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    Writer(&mut body).entry_id(EntryId { epoch, index });
    body.resize(bytes.max(body.len()), index as u8);
    body
}

fn append(log: &mut ReplicationLog, epoch: u64, position: u64, bytes: usize) {
    let body = body(epoch, log.last_index() + 1, bytes);
    log.append(body.len(), |out| out.extend_from_slice(&body));
    log.record_up_to(log.last_index(), Position(position));
}

const ENTRY_BYTES: usize = 16;
const KEPT_BYTES: u64 = (ENTRY_BYTES + LENGTH_BYTES) as u64;

fn log_of(epochs: &[u64]) -> ReplicationLog {
    let mut log = ReplicationLog::default();
    for (place, epoch) in epochs.iter().enumerate() {
        append(&mut log, *epoch, 10 + place as u64, ENTRY_BYTES);
    }
    log
}

#[test]
fn durable_follows_positions_and_not_indexes() {
    let mut log = log_of(&[1, 1, 1]);
    assert_eq!(log.durable_index(Position(11)), 2);
    log.cut_above(1);
    append(&mut log, 2, 20, ENTRY_BYTES);
    assert_eq!(log.durable_index(Position(12)), 1, "the cut entry's sync does not count");
    assert_eq!(log.durable_index(Position(20)), 2);
}

#[test]
fn an_entry_without_a_record_is_not_durable() {
    let mut log = log_of(&[1]);
    let bodies: Vec<Vec<u8>> = (2..=4).map(|index| body(1, index, 20)).collect();
    for body in &bodies {
        log.append(body.len(), |out| out.extend_from_slice(body));
    }
    assert_eq!(log.durable_index(Position(u64::MAX)), 1);
    assert_eq!(log.position_after(1), None);
    let (run, last) = log.unrecorded().unwrap();
    assert_eq!(Bodies::of(run).map(Result::unwrap).collect::<Vec<_>>(), bodies);
    log.record_up_to(last, Position(30));
    assert_eq!(log.unrecorded(), None);
    assert_eq!((log.durable_index(Position(29)), log.durable_index(Position(30))), (1, 4));
    assert_eq!(log.position_after(2), Some(Position(30)), "one record holds them all");
    log.cut_above(3);
    assert_eq!((log.durable_index(Position(30)), log.position_after(2)), (3, Some(Position(30))));
    append(&mut log, 2, 40, 20);
    assert_eq!(log.durable_index(Position(39)), 3);
}

#[test]
fn pruning_keeps_the_boundary_matchable() {
    let mut log = log_of(&[1, 2, 2, 3]);
    log.prune(3, KEPT_BYTES as usize + 1);
    assert_eq!(log.start(), EntryId { epoch: 2, index: 3 });
    assert_eq!(log.id_at(3), Some(EntryId { epoch: 2, index: 3 }));
    assert_eq!((log.id_at(2), log.get(3)), (None, None));
    assert_eq!(log.last(), EntryId { epoch: 3, index: 4 });
    assert_eq!([2, 3, 4, 5].map(|i| log.bytes_after(i)), [KEPT_BYTES, KEPT_BYTES, 0, 0]);
    log.prune(4, 0);
    assert_eq!((log.last(), log.bytes()), (EntryId { epoch: 3, index: 4 }, 0));
    append(&mut log, 4, 20, ENTRY_BYTES);
    assert_eq!((log.last(), log.bytes()), (EntryId { epoch: 4, index: 5 }, KEPT_BYTES));
}

#[test]
fn a_hint_skips_a_whole_epoch() {
    let log = log_of(&[1, 2, 2, 2]);
    assert_eq!(log.before_epoch_at(4), 1);
    assert_eq!(log.before_epoch_at(1), 0);
}

/// The log as a list of entries: what the chunks must look like from outside.
#[derive(Default)]
struct Model {
    start: u64,
    entries: Vec<(Vec<u8>, u64)>,
}

impl Model {
    fn last(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().map(|(body, _)| (body.len() + LENGTH_BYTES) as u64).sum()
    }
}

fn agree(log: &mut ReplicationLog, model: &Model) {
    assert_eq!((log.start().index, log.last_index()), (model.start, model.last()));
    assert_eq!(log.bytes(), model.bytes());
    for (place, (body, at)) in model.entries.iter().enumerate() {
        let index = model.start + 1 + place as u64;
        assert_eq!(log.get(index), Some(&body[..]));
        assert_eq!(log.position_after(index - 1), Some(Position(*at)));
        let (run, last) = log.run_after(index - 1, 1000).unwrap();
        let count = (last + 1 - index) as usize;
        let bodies: Vec<&[u8]> = Bodies::of(run).map(Result::unwrap).collect();
        let expected = model.entries.get(place..place + count).unwrap();
        assert!(bodies.iter().eq(expected.iter().map(|(body, _)| body)));
        let before_last = run.len() - bodies.last().unwrap().len() - LENGTH_BYTES;
        assert!(before_last < 1000, "a run ends with the entry that has the thousandth byte");
    }
    assert_eq!(log.durable_index(Position(u64::MAX)), model.last());
}

#[test]
fn chunks_come_and_go_and_nobody_sees_it() {
    let mut random = crate::random::Random::new(7);
    let mut log = ReplicationLog::default();
    let mut model = Model::default();
    let mut position = 0;
    for round in 0..2_000 {
        position += 1;
        match random.range(0, 8) {
            0 => {
                let index = model.start + random.range(0, model.entries.len() as u64 + 1);
                log.cut_above(index);
                model.entries.truncate((index - model.start) as usize);
            }
            1 => {
                let index = model.start + random.range(0, model.entries.len() as u64 + 1);
                let bytes_max = random.range(0, 4 * CHUNK_BYTES as u64);
                log.prune(index, bytes_max as usize);
                while model.bytes() > bytes_max && model.start < index {
                    model.entries.remove(0);
                    model.start += 1;
                }
            }
            kind => {
                let bytes_max = if kind == 2 { 2 * CHUNK_BYTES } else { CHUNK_BYTES / 16 };
                let mut run = vec![];
                let first = model.last() + 1;
                for place in 0..random.range(0, 12) {
                    let bytes = random.range(0, bytes_max as u64) as usize;
                    let body = body(1, first + place, bytes);
                    Writer(&mut run).bytes(&body);
                    model.entries.push((body, position));
                }
                match kind % 2 {
                    0 => log.append_run(&run),
                    _ => Bodies::of(&run).flatten().for_each(|body| {
                        log.append(body.len(), |out| out.extend_from_slice(body));
                    }),
                }
                while let Some((_, last)) = log.unrecorded() {
                    log.record_up_to(last, Position(position));
                }
            }
        }
        if round % 16 == 0 {
            agree(&mut log, &model);
        }
    }
}
