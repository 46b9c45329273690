//! Tests of the log on disk: what was synced comes back, from segments that are used again and
//! again; torn ends go; one process at a time.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use replication::Position;
use replication::keyspace::Durability;
use replication::storage::log::{Recovered, SECTOR_BYTES};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A segment of eight batches of one sector, in bytes.
pub(super) const SMALL: u64 = 8 * SECTOR_BYTES as u64;
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until everything that was appended is synced.
fn settle(log: &mut Log) {
    let deadline = Instant::now() + DEADLINE;
    while log.kept().1 < log.last() {
        assert!(Instant::now() < deadline, "the log thread does not report");
        log.hand_over(Instant::now(), false).unwrap();
        log.progress().unwrap();
        std::thread::yield_now();
    }
}

pub(super) type Records = Vec<(u64, Vec<u8>)>;

/// Opens the log, gives what was recovered, and the log.
pub(super) fn open(path: &Path, segment_bytes_max: u64) -> Result<(Records, Log), DiskError> {
    open_as(path, LogOptions { segment_bytes_max, direct: true })
}

fn open_as(path: &Path, options: LogOptions) -> Result<(Records, Log), DiskError> {
    let directory = Directory::open(path)?;
    let segments = directory.segments()?;
    let recovered = segments.recover()?;
    let (records, tail) = read(&segments, &recovered)?;
    let log = Log::start(&directory, &segments, &recovered, &tail, options, || {})?;
    Ok((records, log))
}

/// The log's records, and the block that it ends in.
pub(super) fn read(
    segments: &segments::Segments,
    recovered: &Recovered,
) -> Result<(Records, segments::Tail), DiskError> {
    let mut records = Vec::new();
    let tail = segments.replay(recovered, |position, record| {
        records.push((position.0, record.to_vec()));
        Ok::<(), DiskError>(())
    })?;
    Ok((records, tail))
}

/// Flips a bit of the first segment; returns the bytes as they are now.
fn damage(path: &Path, at: usize) -> Vec<u8> {
    let file = segment_path(path, 1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    bytes
}

/// Closes the log and opens it again.
fn reopen(mut log: Log, path: &Path, segment_bytes_max: u64) -> (Records, Log) {
    log.close().unwrap();
    drop(log);
    open(path, segment_bytes_max).unwrap()
}

pub(super) fn segment_path(path: &Path, number: u64) -> PathBuf {
    path.join(format!("log/{number:020}.log"))
}

fn numbers(path: &Path) -> Vec<u64> {
    let entries = fs::read_dir(path.join("log")).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| name(entry.unwrap()).strip_suffix(".log")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn append(log: &mut Log, durability: Durability) -> Position {
    let next = log.last().0 + 1;
    assert_eq!(log.append_parts(&next.to_le_bytes(), &[], durability), Position(next));
    Position(next)
}

pub(super) fn fill(log: &mut Log, count: u64) {
    for _ in 0..count {
        append(log, Durability::Fsync);
        settle(log);
    }
}

/// Fills until so many segments were begun; how quickly that is goes by how soon spares are ready.
pub(super) fn fill_segments(log: &mut Log, count: u64) {
    let deadline = Instant::now() + DEADLINE;
    while log.counts.segments < count {
        assert!(Instant::now() < deadline, "no spare segment comes");
        fill(log, 1);
    }
}

pub(super) fn expected(range: std::ops::RangeInclusive<u64>) -> Records {
    range.map(|number| (number, number.to_le_bytes().to_vec())).collect()
}

#[test]
fn records_come_back_over_segments_and_old_segments_are_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let (records, mut log) = open(directory.path(), SMALL).unwrap();
    assert_eq!(records, vec![]);
    for round in 1..=4u64 {
        // Behind the log's end there are spares, from the second round on with what they held.
        fill_segments(&mut log, 3);
        let last = log.last().0;
        let (records, mut again) = reopen(log, directory.path(), SMALL);
        let first = records.first().unwrap().0;
        assert_eq!(records, expected(first..=last), "round {round}");
        again.truncate(Position(last));
        fill(&mut again, 1);
        let (records, again) = reopen(again, directory.path(), SMALL);
        assert_eq!(records.last().unwrap().0, last + 1);
        assert!(records.first().unwrap().0 > first, "what is wholly below is gone");
        assert!(records.first().unwrap().0 <= last, "and no more");
        let numbers = numbers(directory.path());
        assert!(numbers.len() <= 6, "{numbers:?}");
        assert!(numbers.first().unwrap() > &round, "{numbers:?}");
        log = again;
    }
    log.close().unwrap();
}

#[test]
fn without_direct_writes_the_log_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    for direct in [false, true, false] {
        let options = LogOptions { segment_bytes_max: SMALL, direct };
        let (records, mut log) = open_as(directory.path(), options).unwrap();
        assert_eq!(records, expected(1..=records.len() as u64));
        fill(&mut log, 20);
        assert_eq!(log.is_direct(), log.counts.direct > 0);
        assert!(direct || !log.is_direct());
        assert_eq!(log.counts.plain > 0, !log.is_direct());
        log.close().unwrap();
    }
    assert_eq!(open(directory.path(), SMALL).unwrap().0, expected(1..=60));
}

#[test]
fn a_torn_end_is_cut_and_the_log_goes_on_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 16).unwrap();
    fill(&mut log, 3);
    log.close().unwrap();
    drop(log);
    damage(directory.path(), 2 * SECTOR_BYTES + 50);
    let (records, mut log) = open(directory.path(), 1 << 16).unwrap();
    assert_eq!(records, expected(1..=2));
    fill(&mut log, 2);
    let (records, mut log) = reopen(log, directory.path(), 1 << 16);
    assert_eq!(records, expected(1..=4));
    log.close().unwrap();
}

/// The last write has torn, sector by sector, in every way that there is: each of its sectors is
/// the new one, or what was there before. What was synced before shares a block with it.
#[test]
fn a_block_that_tears_keeps_what_was_synced_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), SMALL).unwrap();
    // A recycled segment: what was there before is a batch of its former life.
    fill_segments(&mut log, 2);
    log.truncate(log.last());
    fill_segments(&mut log, 4);
    fill(&mut log, 1);
    let (records, mut log) = reopen(log, directory.path(), SMALL);
    let (first, synced) = (records.first().unwrap().0, log.last().0);
    let file = segment_path(directory.path(), 5);
    let before = fs::read(&file).unwrap();
    log.append_parts(&[7; 3 * SECTOR_BYTES], &[], Durability::Fsync);
    settle(&mut log);
    log.close().unwrap();
    drop(log);
    let after = fs::read(&file).unwrap();
    let sectors: Vec<usize> = (0..before.len() / SECTOR_BYTES).collect();
    let same = |sector: &usize| {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        before[range.clone()] == after[range]
    };
    let changed: Vec<usize> = sectors.into_iter().filter(|sector| !same(sector)).collect();
    assert!(changed.len() >= 4, "{changed:?}");
    assert!(before[..changed[0] * SECTOR_BYTES].iter().any(|byte| *byte != 0));
    for survivors in 0..1u32 << changed.len() {
        let mut torn = before.clone();
        for (bit, sector) in changed.iter().enumerate().filter(|(bit, _)| survivors >> bit & 1 == 1)
        {
            let _ = bit;
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            torn[range.clone()].copy_from_slice(&after[range]);
        }
        fs::write(&file, &torn).unwrap();
        let (found, mut log) = open(directory.path(), SMALL).unwrap();
        let whole = found.len() as u64 > synced - first + 1;
        assert_eq!(found[..(synced - first + 1) as usize], expected(first..=synced));
        assert!(!whole || found.last().unwrap().1 == [7; 3 * SECTOR_BYTES]);
        log.close().unwrap();
    }
}

#[test]
fn damage_in_the_middle_is_refused_and_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 16).unwrap();
    fill(&mut log, 4);
    log.close().unwrap();
    drop(log);
    let bytes = damage(directory.path(), 50);
    let Err(error) = open(directory.path(), 1 << 16) else { panic!("the damage was not seen") };
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(fs::read(segment_path(directory.path(), 1)).unwrap(), bytes);
}

#[test]
fn damage_at_the_end_of_a_marked_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 16).unwrap();
    fill(&mut log, 3);
    log.mark_and_close(b"mark").unwrap();
    drop(log);
    damage(directory.path(), 2 * SECTOR_BYTES + 50);
    let Err(error) = open(directory.path(), 1 << 16) else { panic!("the damage was not seen") };
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn a_missing_segment_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), SMALL).unwrap();
    fill_segments(&mut log, 2);
    log.close().unwrap();
    drop(log);
    let refused = |from: u64, to: u64, word: &str| {
        let (from, to) = (segment_path(directory.path(), from), segment_path(directory.path(), to));
        fs::rename(&from, &to).unwrap();
        let Err(error) = open(directory.path(), SMALL) else { panic!("it was not missed") };
        assert!(error.to_string().contains(word), "{error}");
        fs::rename(&to, &from).unwrap();
    };
    refused(2, 99, "segment 2 of the log is missing");
    refused(1, 99, "is missing between");
    for number in numbers(directory.path()).into_iter().filter(|number| *number > 1) {
        fs::remove_file(segment_path(directory.path(), number)).unwrap();
    }
    refused(1, 9, "renamed");
}

#[test]
fn a_directory_is_one_process_s() {
    let directory = tempfile::tempdir().unwrap();
    let held = Directory::open(directory.path()).unwrap();
    assert!(matches!(Directory::open(directory.path()), Err(DiskError::Locked(_))));
    drop(held);
    assert!(Directory::open(directory.path()).is_ok());
}

#[test]
fn interval_records_count_at_once_and_are_synced_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 16).unwrap();
    let start = Instant::now();
    append(&mut log, Durability::Interval);
    log.hand_over(start, false).unwrap();
    assert!(log.has_progress());
    assert_eq!(log.progress().unwrap(), Some((Position(1), Position(0))), "nobody asked to sync");
    assert!(!log.has_progress());
    let due = log.deadline().unwrap();
    assert_eq!(due, start + Duration::from_secs(1));
    // The clock is an argument: the second need not pass.
    log.hand_over(due, false).unwrap();
    // While that is synced, more counts as soon as it is written.
    append(&mut log, Durability::Interval);
    log.hand_over(due, false).unwrap();
    assert_eq!(log.kept().0, Position(2));
    let deadline = Instant::now() + DEADLINE;
    while log.kept().1 < Position(1) {
        assert!(Instant::now() < deadline);
        log.progress().unwrap();
        std::thread::yield_now();
    }
    assert_eq!(log.kept().1, Position(1), "the sync has begun before the second was written");
    assert_eq!(log.deadline(), Some(due + Duration::from_secs(1)));
    log.close().unwrap();
    assert_eq!(log.kept().1, Position(2));
}

#[test]
fn records_of_both_kinds_are_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), SMALL).unwrap();
    for round in 0..200u64 {
        for number in 0..round % 5 {
            let fsync = (round / 5 + number) % 3 == 0;
            append(&mut log, if fsync { Durability::Fsync } else { Durability::Interval });
        }
        log.hand_over(Instant::now(), false).unwrap();
        if round % 7 == 0 {
            log.progress().unwrap();
        }
        if round % 20 == 0 {
            settle(&mut log);
        }
    }
    let last = log.last().0;
    assert_eq!(last, 400);
    let (records, mut log) = reopen(log, directory.path(), SMALL);
    assert_eq!(records, expected(1..=last));
    log.close().unwrap();
}

#[test]
fn a_batch_larger_than_a_segment_is_written_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), SMALL).unwrap();
    fill(&mut log, 1);
    let large = vec![9; 5 << 20];
    log.append_parts(&large, &[], Durability::Fsync);
    settle(&mut log);
    fill(&mut log, 1);
    let (records, mut log) = reopen(log, directory.path(), SMALL);
    assert_eq!(records.len(), 3);
    assert_eq!(records[1], (2, large));
    log.close().unwrap();
}

#[test]
fn all_that_a_crash_leaves_behind_a_hole_is_blanked() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), SMALL).unwrap();
    let start = Instant::now();
    while log.counts.segments < 2 {
        assert!(start.elapsed() < DEADLINE, "no spare segment comes");
        // Never overdue: nothing proves that any of it was on disk.
        append(&mut log, Durability::Interval);
        log.hand_over(start, false).unwrap();
        std::thread::yield_now();
    }
    log.close().unwrap();
    drop(log);
    let first = segment_path(directory.path(), 1);
    let mut bytes = fs::read(&first).unwrap();
    bytes.get_mut(SECTOR_BYTES..2 * SECTOR_BYTES).unwrap().fill(0);
    fs::write(&first, bytes).unwrap();
    let leftovers = || {
        let segments = Directory::open(directory.path()).unwrap().segments().unwrap();
        segments.recover().unwrap().leftovers.len()
    };
    assert!(leftovers() > 8, "in more than one segment");
    let (records, mut log) = open(directory.path(), SMALL).unwrap();
    assert_eq!(records, expected(1..=1));
    log.close().unwrap();
    drop(log);
    assert_eq!(leftovers(), 0);
}

#[test]
fn who_runs_the_loop_writes_small_batches_itself_while_the_disk_is_quick() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 20).unwrap();
    let hand = log.hand();
    let is_direct = log.is_direct();
    append(&mut log, Durability::Fsync);
    log.hand_over(Instant::now(), true).unwrap();
    let own = log.take_own();
    assert_eq!(own.is_some(), is_direct);
    let Some(write) = own else { return };
    append(&mut log, Durability::Fsync);
    log.hand_over(Instant::now(), true).unwrap();
    assert!(log.take_own().is_none(), "one write at a time");
    let report = hand.write(write);
    assert_eq!(log.kept().1, Position(0), "nothing is on disk that nobody has told of");
    log.hear_own(report).unwrap();
    assert_eq!(log.kept().1, Position(1));

    // A disk that takes long is another thread's.
    let mut is_another = || {
        append(&mut log, Durability::Fsync);
        log.hand_over(Instant::now(), true).unwrap();
        let Some(write) = log.take_own() else { return true };
        let Report::Written(blocks, _) = hand.write(write) else { panic!() };
        log.hear_own(Report::Written(blocks, Duration::from_secs(1))).unwrap();
        false
    };
    assert!((1..10).any(|_| is_another()));
    settle(&mut log);
    assert!(log.counts.own > 1 && log.counts.own < log.counts.direct);
    drop(hand);
    let (_, mut log) = reopen(log, directory.path(), 1 << 20);
    let last = log.append_parts(&[7; 65 << 10], &[], Durability::Fsync);
    log.hand_over(Instant::now(), true).unwrap();
    assert!(log.take_own().is_none(), "a large batch");
    settle(&mut log);
    let (records, mut log) = reopen(log, directory.path(), 1 << 20);
    assert_eq!(records.last().unwrap().0, last.0);
    log.close().unwrap();
}

#[test]
fn a_log_that_changes_between_its_two_readings_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), SMALL).unwrap();
    fill(&mut log, 6);
    log.close().unwrap();
    drop(log);
    let file = segment_path(directory.path(), 1);
    let whole = fs::read(&file).unwrap();
    let held = Directory::open(directory.path()).unwrap();
    let segments = held.segments().unwrap();
    let recovered = segments.recover().unwrap();
    assert_eq!(read(&segments, &recovered).unwrap().0, expected(1..=6));
    for batch in 0..6 {
        let mut bytes = whole.clone();
        *bytes.get_mut(batch * SECTOR_BYTES + 52).unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        let Err(error) = read(&segments, &recovered) else { panic!("batch {batch}") };
        let text = error.to_string();
        let place = format!("1.log has at byte {} other bytes", batch * SECTOR_BYTES);
        assert!(text.contains(&place), "{text}");
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    fs::write(&file, &whole[..SECTOR_BYTES]).unwrap();
    let Err(error) = read(&segments, &recovered) else { panic!("it was cut off") };
    assert!(error.to_string().contains("cannot read"), "{error}");
}

/// What is written once more with the next batch is what was read and checked: also where the last
/// block holds parts of several batches, or of one that begins before it.
#[test]
fn the_block_that_a_log_ends_in_is_known_as_it_is_on_the_disk() {
    for lengths in [&[8][..], &[8, 600, 8], &[5000], &[5000, 8], &[3500, 9000, 700], &[4036, 8, 8]]
    {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut log) = open(directory.path(), 1 << 20).unwrap();
        for length in lengths {
            log.append_parts(&vec![7; *length], &[], Durability::Fsync);
            settle(&mut log);
        }
        log.close().unwrap();
        drop(log);
        let bytes = fs::read(segment_path(directory.path(), 1)).unwrap();
        let segments = Directory::open(directory.path()).unwrap().segments().unwrap();
        let recovered = segments.recover().unwrap();
        let (_, tail) = read(&segments, &recovered).unwrap();
        let end = recovered.end.offset;
        assert_eq!(tail.block(), &bytes[end - end % blocks::BLOCK_BYTES..end], "{lengths:?}");
    }
}
