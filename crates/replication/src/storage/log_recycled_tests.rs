//! The log in segments that are used again and again, through crashes: what was synced is always
//! there, nothing of a former life comes back, and no torn end is taken for corruption.
#![allow(clippy::unwrap_used)]

use super::tests::recover;
use super::*;
use crate::random::Random;
use alloc::collections::VecDeque;
use alloc::{format, vec};

/// Small, so that a few batches fill it.
const SEGMENT_BYTES: usize = 8 * SECTOR_BYTES;
/// Segments that a crash finds written to, and used again.
const LIVES: u64 = 60;

/// A segment's bytes as they are read, and as they are on the platter.
#[derive(Clone)]
struct Segment {
    seen: Vec<u8>,
    kept: Vec<u8>,
    last: Position,
}

struct Disk {
    segments: VecDeque<Segment>,
    /// The last one of the log; those behind it are spare.
    open: usize,
    at: usize,
}

impl Disk {
    fn new() -> Disk {
        let blank = vec![0; SEGMENT_BYTES];
        let segment = Segment { seen: blank.clone(), kept: blank, last: Position(0) };
        Disk { segments: (0..4).map(|_| segment.clone()).collect(), open: 0, at: 0 }
    }

    /// Writes a batch where it fits; the oldest segment is used again when none is left.
    fn write(&mut self, batch: &[u8], last: Position) {
        if self.at + batch.len() > SEGMENT_BYTES {
            self.open += 1;
            self.at = 0;
        }
        if self.open == self.segments.len() {
            let oldest = self.segments.pop_front().unwrap();
            self.segments.push_back(oldest);
            self.open -= 1;
        }
        let segment = &mut self.segments[self.open];
        segment.seen[self.at..self.at + batch.len()].copy_from_slice(batch);
        segment.last = last;
        self.at += batch.len();
    }

    fn sync(&mut self) {
        for segment in &mut self.segments {
            segment.kept = segment.seen.clone();
        }
    }

    /// Any subset of the sectors that were not synced is on the platter.
    fn crash(&mut self, random: &mut Random) {
        let chance = random.range(0, 101);
        for segment in &mut self.segments {
            for at in (0..SEGMENT_BYTES).step_by(SECTOR_BYTES) {
                let sector = at..at + SECTOR_BYTES;
                if random.chance(chance) {
                    segment.kept[sector.clone()].copy_from_slice(&segment.seen[sector]);
                }
            }
            segment.seen = segment.kept.clone();
        }
    }

    /// What is there, in order, and where the log goes on.
    fn recover(&mut self) -> (Records, Position, u64) {
        let slices: Vec<&[u8]> = self.segments.iter().map(|s| s.seen.as_slice()).collect();
        let log = recover(&slices).unwrap();
        let records = log.records.clone();
        let (leftovers, next, chain) = (log.leftovers.clone(), log.next, log.chain);
        (self.open, self.at) = (log.end.segment, log.end.offset);
        for End { segment, offset } in leftovers {
            self.segments[segment].seen[offset..offset + SECTOR_BYTES].fill(0);
        }
        self.sync();
        (records, next, chain)
    }
}

type Records = Vec<(Position, Vec<u8>)>;

fn live_and_crash(seed: u64) {
    let mut random = Random::new(seed);
    let mut disk = Disk::new();
    let mut history: Records = Vec::new();
    let mut synced = Position(0);
    let sync_percent = random.range(5, 100);
    for life in 0..LIVES {
        let (found, next, chain) = disk.recover();
        let what = format!("seed {seed}, life {life}");
        let last = Position(next.0 - 1);
        assert!(last >= synced, "{what}: synced up to {synced:?}, and {last:?} is left");
        history.retain(|(position, _)| *position <= last);
        assert!(history.ends_with(&found), "{what}: others than were written");
        assert!(life == 0 || !found.is_empty() || synced == Position(0), "{what}");
        synced = last;
        let mut writer = LogWriter::new(next, chain);
        // Few different values, and nothing that tells one life from another: a batch is often the
        // very one that the last crash has lost.
        for _ in 0..random.range(0, 8) {
            for _ in 0..random.range(1, 4) {
                let record = vec![random.range(0, 2) as u8; random.range(0, 3) as usize * 300];
                history.push((writer.append(&record), record));
            }
            let mut batch = Vec::new();
            let sealed = writer.seal(synced, &mut batch).unwrap();
            disk.write(&batch, sealed.last);
            if random.chance(sync_percent) {
                disk.sync();
                synced = sealed.last;
            }
        }
        disk.crash(&mut random);
    }
}

#[test]
fn a_log_in_recycled_segments_survives_crash_after_crash() {
    for seed in 0..200 {
        live_and_crash(seed);
    }
}
