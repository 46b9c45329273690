//! Tests of the log on disk: what was synced comes back, torn ends go, one process at a time.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use std::fs;

/// Waits until everything that was appended is synced.
fn settle(log: &mut Log) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while log.kept().1 < log.last() {
        assert!(Instant::now() < deadline, "the log thread does not report");
        log.hand_over(Instant::now());
        log.progress().unwrap();
        std::thread::yield_now();
    }
}

type Records = Vec<(u64, Vec<u8>)>;

/// Opens the log, gives what was recovered, and the log.
fn open(path: &Path, segment_bytes_max: u64) -> Result<(Records, Log), DiskError> {
    let directory = Directory::open(path)?;
    let segments = directory.read()?;
    let slices = segments.slices();
    let recovered = segments.recover(&slices)?;
    let records = recovered.records.iter().map(|(p, bytes)| (p.0, bytes.to_vec())).collect();
    let log = Log::start(&directory, &segments, &recovered, segment_bytes_max, || {})?;
    Ok((records, log))
}

fn segment_names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.join("log")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fill(log: &mut Log, count: u64) {
    for _ in 0..count {
        let next = log.last().0 + 1;
        assert_eq!(log.append(&next.to_le_bytes(), Durability::Fsync), Position(next));
        settle(log);
    }
}

fn expected(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|number| (number, number.to_le_bytes().to_vec())).collect()
}

#[test]
fn records_come_back_over_segments_and_old_segments_go() {
    let directory = tempfile::tempdir().unwrap();
    let (records, mut log) = open(directory.path(), 100).unwrap();
    assert_eq!(records, vec![]);
    fill(&mut log, 10);
    log.close().unwrap();
    drop(log);
    assert!(segment_names(directory.path()).len() >= 4);
    let (records, mut log) = open(directory.path(), 100).unwrap();
    assert_eq!(records, expected(1..=10));
    fill(&mut log, 2);
    log.truncate(Position(6));
    log.close().unwrap();
    drop(log);
    let (records, mut log) = open(directory.path(), 100).unwrap();
    let first = records.first().unwrap().0;
    assert!((2..=6).contains(&first), "segments wholly below 6 are gone, and no more: {first}");
    assert_eq!(records, expected(first..=12));
    log.close().unwrap();
}

#[test]
fn a_torn_end_is_cut_and_the_log_goes_on_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 20).unwrap();
    fill(&mut log, 3);
    log.close().unwrap();
    drop(log);
    let file = directory.path().join("log/00000000000000000001.log");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, whole.get(..whole.len() - 3).unwrap()).unwrap();
    let (records, mut log) = open(directory.path(), 1 << 20).unwrap();
    assert_eq!(records, expected(1..=2));
    fill(&mut log, 2);
    log.close().unwrap();
    drop(log);
    let (records, mut log) = open(directory.path(), 1 << 20).unwrap();
    assert_eq!(records, expected(1..=4));
    log.close().unwrap();
}

#[test]
fn damage_in_the_middle_is_refused_and_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 20).unwrap();
    fill(&mut log, 4);
    log.close().unwrap();
    drop(log);
    let file = directory.path().join("log/00000000000000000001.log");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.get_mut(50).unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    let Err(error) = open(directory.path(), 1 << 20) else { panic!("the damage was not seen") };
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn a_missing_first_segment_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 20).unwrap();
    fill(&mut log, 1);
    log.close().unwrap();
    drop(log);
    let log = directory.path().join("log");
    let renamed = log.join("00000000000000000009.log");
    fs::rename(log.join("00000000000000000001.log"), renamed).unwrap();
    let Err(error) = open(directory.path(), 1 << 20) else { panic!("the name was not checked") };
    assert!(error.to_string().contains("renamed"), "{error}");
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
fn interval_records_count_when_written_and_are_synced_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut log) = open(directory.path(), 1 << 20).unwrap();
    let start = Instant::now();
    let position = log.append(b"x", Durability::Interval);
    log.hand_over(start);
    let deadline = start + Duration::from_secs(20);
    while log.kept().0 < position {
        assert!(Instant::now() < deadline);
        log.progress().unwrap();
        std::thread::yield_now();
    }
    assert_eq!(log.kept().1, Position(0), "not synced: nobody has asked");
    let due = log.deadline().unwrap();
    assert_eq!(due, start + SYNC_INTERVAL);
    // The clock is an argument: the second need not pass.
    log.hand_over(due);
    while log.kept().1 < position {
        assert!(Instant::now() < deadline);
        log.progress().unwrap();
        std::thread::yield_now();
    }
    assert_eq!(log.deadline(), None);
    log.close().unwrap();
}
