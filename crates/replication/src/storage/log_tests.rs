//! The log's bytes under every truncation, every bit flip and every loss of unsynced sectors.
#![allow(clippy::unwrap_used)]

use super::*;
use alloc::string::ToString;
use alloc::{format, vec};
use proptest::prelude::*;

type Records = Vec<(Position, Vec<u8>)>;

/// Writes batches of records; the `durable` mark of each is the last record of the one before if
/// `synced`, else 0. Returns the bytes, all records, and where each batch ends.
fn write(batches: &[&[&[u8]]], synced: bool) -> (Vec<u8>, Records, Vec<usize>) {
    let mut writer = LogWriter::new(Position(1), 0);
    let (mut bytes, mut records, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for batch in batches {
        let durable = if synced { writer.last() } else { Position(0) };
        for record in *batch {
            records.push((writer.append(record), record.to_vec()));
        }
        let sealed = writer.seal(durable, &mut bytes).unwrap();
        assert_eq!(sealed.bytes.end, bytes.len());
        ends.push(bytes.len());
    }
    (bytes, records, ends)
}

const THREE: &[&[&[u8]]] = &[&[b"one", b""], &[b"three"], &[b"four", b"five", b"TFLB"]];

fn owned(log: &Recovered<'_>) -> Records {
    log.records.iter().map(|(position, bytes)| (*position, bytes.to_vec())).collect()
}

/// How many of the batches that end at `ends`, with their padding, are within so many bytes.
fn whole(ends: &[usize], length: usize) -> usize {
    ends.iter().filter(|end| **end <= length).count()
}

/// Where the batches that end at `ends` end without their padding.
fn bare(bytes: &[u8], ends: &[usize]) -> Vec<usize> {
    let starts = [0].into_iter().chain(ends.iter().copied());
    let end = |(start, _): (usize, &usize)| {
        start + Header::decode(&bytes[start..]).unwrap().1.length as usize
    };
    starts.zip(ends).map(end).collect()
}

/// Whether a byte is padding, which nothing covers and nothing reads.
fn is_padding(bare: &[usize], ends: &[usize], at: usize) -> bool {
    bare.iter().zip(ends).any(|(from, to)| (*from..*to).contains(&at))
}

#[test]
fn no_segment_is_left_out_for_a_batch_that_went_astray() {
    let (bytes, _, ends) = write(THREE, true);
    let mut without_first = bytes.clone();
    without_first[..ends[0]].fill(0);
    assert!(recover(&[&without_first, &bytes[..ends[0]]]).is_err());
    let (first, rest) = bytes.split_at(ends[0]);
    let second = &rest[..ends[1] - ends[0]];
    let mut without_second = rest.to_vec();
    without_second[..second.len()].fill(0);
    assert!(recover(&[first, &without_second, second]).is_err());
}

#[test]
fn a_batch_that_went_astray_to_the_next_segments_start_hides_nothing_behind_it() {
    let (bytes, _, ends) = write(&[&[b"one"], &[b"two"], &[b"three"], &[b"four"]], true);
    let (mut first, second) = (bytes.clone(), bytes[ends[0]..ends[1]].to_vec());
    first[ends[0]..ends[1]].fill(0);
    let (log, damage) = recover_trusted(&[&first, &second], None).unwrap();
    assert_eq!(log.records.len(), 2, "it is found where it is");
    assert_eq!(damage.map(|damage| damage.missing), Some(Position(3)));
}

#[test]
fn what_was_written_is_read_and_can_be_continued() {
    let (mut bytes, mut records, ends) = write(THREE, true);
    bytes.extend([0; 3000]);
    let log = recover(&[&bytes]).unwrap();
    assert_eq!(owned(&log), records);
    assert_eq!(log.next, Position(7));
    let end = End { segment: 0, offset: ends[2] };
    assert_eq!(log.end, end);
    let mut writer = LogWriter::new(log.next, log.chain);
    assert_eq!((writer.last(), writer.pending_bytes()), (Position(6), 0));
    assert_eq!(writer.seal(Position(6), &mut Vec::new()), None);
    records.push((writer.append(b"seven"), b"seven".to_vec()));
    bytes.truncate(end.offset);
    let pending = writer.pending_bytes();
    let sealed = writer.seal(Position(6), &mut bytes).unwrap();
    assert_eq!((sealed.first, sealed.last), (Position(7), Position(7)));
    assert_eq!(sealed.bytes, end.offset..end.offset + pending);
    assert_eq!(owned(&recover(&[&bytes]).unwrap()), records);
    assert_eq!(recover(&[&bytes]).unwrap().chain, writer.chain());
}

#[test]
fn an_empty_log_starts_at_one() {
    for segments in [&[] as &[&[u8]], &[&[0; 5000], &[]], &[b"rubbish", b"TFLB"]] {
        let log = recover(segments).unwrap();
        assert_eq!((log.end, log.next, log.chain), (End::default(), Position(1), 0));
        assert_eq!((log.records, log.leftovers), (vec![], vec![]));
        assert!(log.starts.iter().all(|start| *start == Position(1)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_records_come_back(
        batches in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..4), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let batches: Vec<Vec<&[u8]>> =
            batches.iter().map(|batch| batch.iter().map(Vec::as_slice).collect()).collect();
        let batches: Vec<&[&[u8]]> = batches.iter().map(Vec::as_slice).collect();
        let (mut bytes, records, _) = write(&batches, true);
        bytes.extend(tail);
        prop_assert_eq!(owned(&recover(&[&bytes]).unwrap()), records);
    }
}

#[test]
fn every_truncation_leaves_the_whole_batches_before_it() {
    let (bytes, records, ends) = write(THREE, true);
    let counts = [0, 2, 3, 6];
    let bare = bare(&bytes, &ends);
    for length in 0..=bytes.len() {
        let log = recover(&[&bytes[..length]]).unwrap();
        let batches = whole(&bare, length);
        assert_eq!(owned(&log), records[..counts[batches]]);
        assert_eq!(log.end.offset, if batches == 0 { 0 } else { ends[batches - 1] });
    }
}

#[test]
fn every_flipped_bit_is_the_end_or_corruption_and_never_a_wrong_record() {
    for synced in [true, false] {
        let (bytes, records, ends) = write(THREE, synced);
        let counts = [0, 2, 3];
        let bare = bare(&bytes, &ends);
        for bit in (0..bytes.len() * 8).filter(|bit| !is_padding(&bare, &ends, bit / 8)) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let damaged = whole(&ends, bit / 8);
            let missing = Position(counts[damaged] as u64 + 1);
            match recover(&[&flipped]) {
                Ok(log) => {
                    assert!(!synced || damaged == 2, "bit {bit}");
                    assert_eq!(owned(&log), records[..counts[damaged]], "bit {bit}");
                    assert_eq!(log.next, missing);
                }
                Err(corruption) => {
                    assert!(synced && damaged < 2, "bit {bit}");
                    assert_eq!(corruption.missing, missing);
                    assert_eq!(corruption.offset, if damaged == 0 { 0 } else { ends[0] });
                    assert_eq!(corruption.proven_durable, Position(3));
                }
            }
        }
    }
}

#[test]
fn a_batch_behind_a_refilled_hole_does_not_come_back() {
    // The batch "old" at position 2 is torn, the one behind it was never synced but is there.
    let (mut bytes, _, ends) = write(&[&[b"one"], &[b"old"], &[b"stale"]], false);
    bytes[ends[0] + HEADER_BYTES] ^= 1;
    let log = recover(&[&bytes]).unwrap();
    assert_eq!((log.next, log.end.offset), (Position(2), ends[0]));
    // The hole is filled by a batch of the same length: "stale" has the right place and position.
    let mut writer = LogWriter::new(log.next, log.chain);
    writer.append(b"new");
    let mut refill = Vec::new();
    writer.seal(Position(1), &mut refill);
    assert_eq!(refill.len(), ends[1] - ends[0]);
    bytes[ends[0]..ends[1]].copy_from_slice(&refill);
    let log = recover(&[&bytes]).unwrap();
    assert_eq!(log.records, [(Position(1), &b"one"[..]), (Position(2), &b"new"[..])]);
}

#[test]
fn the_checksum_depends_on_the_chain() {
    // The CRC of bytes that end with their own CRC would be a constant.
    let checksum_after = |chain| {
        let mut writer = LogWriter::new(Position(9), chain);
        writer.append(b"same");
        writer.seal(Position(0), &mut Vec::new());
        writer.chain()
    };
    assert_ne!(checksum_after(1), checksum_after(2));
    assert_ne!(checksum_after(1 << 40), checksum_after(2 << 40));
}

#[test]
fn any_loss_of_unsynced_sectors_leaves_a_prefix_with_all_that_was_synced() {
    let long = [vec![1u8; 700], vec![2; 300], vec![3; 900], vec![4; 700], vec![5; 600]];
    let mut writer = LogWriter::new(Position(1), 0);
    let (mut synced, mut bytes, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for (number, record) in long.iter().enumerate() {
        records.push((writer.append(record), record.clone()));
        // Two batches are synced; each later one says so, as they were written before the next.
        let durable = Position(number.min(2) as u64);
        writer.seal(durable, &mut bytes).unwrap();
        if number == 1 {
            synced = bytes.clone();
        }
    }
    let size = bytes.len().next_multiple_of(SECTOR_BYTES);
    synced.resize(size, 0);
    bytes.resize(size, 0);
    let mut lengths = vec![0; long.len() + 1];
    for survivors in 0..1u32 << (size / SECTOR_BYTES) {
        let mut disk = synced.clone();
        for sector in (0..size / SECTOR_BYTES).filter(|sector| survivors >> sector & 1 == 1) {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            disk[range.clone()].copy_from_slice(&bytes[range]);
        }
        let log = recover(&[&disk]).unwrap();
        assert!(log.records.len() >= 2);
        assert_eq!(owned(&log), records[..log.records.len()]);
        lengths[log.records.len()] += 1;
    }
    assert!(lengths[2..].iter().all(|times| *times > 0), "{lengths:?}");
}

/// A log of four batches in two segments with blank tails.
fn two_segments() -> (Vec<u8>, Vec<u8>, Records) {
    let (bytes, records, ends) = write(&[&[b"one"], &[b"two"], &[b"three"], &[b"four"]], true);
    let mut first = bytes[..ends[1]].to_vec();
    let mut second = bytes[ends[1]..].to_vec();
    first.extend([0; 100]);
    second.extend([0; 100]);
    (first, second, records)
}

#[test]
fn a_log_goes_on_in_the_next_segment_and_may_start_with_any() {
    let (first, second, records) = two_segments();
    let log = recover(&[&first, &second, &[0; 64]]).unwrap();
    assert_eq!(owned(&log), records);
    assert_eq!(log.end, End { segment: 1, offset: second.len() - 100 });
    let log = recover(&[&second]).unwrap();
    assert_eq!(owned(&log), records[2..]);
    assert_eq!(log.next, Position(5));
}

#[test]
fn a_torn_end_that_an_earlier_recovery_cut_does_not_hide_the_next_segment() {
    let (mut first, second, records) = two_segments();
    let blank = first.len() - 100;
    first[blank..blank + 9].copy_from_slice(b"TFLB torn");
    assert_eq!(owned(&recover(&[&first, &second]).unwrap()), records);
}

#[test]
fn a_missing_segment_or_a_damaged_start_is_corruption() {
    let (mut first, mut second, _) = two_segments();
    let (third, _, _) = write(&[&[b"unrelated"]], true);
    let lost = recover(&[&[0; 10], &second]).unwrap_err();
    assert_eq!((lost.segment, lost.offset, lost.missing), (1, 0, Position(1)));
    second[HEADER_BYTES] ^= 1;
    let lost = recover(&[&first, &second, &third]).unwrap_err();
    assert_eq!((lost.segment, lost.offset), (1, 0));
    assert_eq!((lost.missing, lost.proven_durable), (Position(3), Position(3)));
    assert!(lost.to_string().contains("segment 1 at byte 0: record 3 is missing"));
    first[0] ^= 1;
    assert_eq!(recover(&[&first]).unwrap_err().missing, Position(1));
}

#[test]
fn a_recycled_segment_shows_nothing_of_its_former_life() {
    let (first, second, records) = two_segments();
    // The oldest segment is taken for the newest before anything is written to it.
    let log = recover(&[&second, &first]).unwrap();
    assert_eq!(owned(&log), records[2..]);
    assert_eq!(log.end.segment, 0);
    assert_eq!((log.starts, log.leftovers), (vec![Position(3)], vec![]));
    // Its former life is longer than what is written over it.
    let mut writer = LogWriter::new(log.next, log.chain);
    writer.append(b"five");
    let mut recycled = Vec::new();
    writer.seal(Position(4), &mut recycled);
    assert!(recycled.len() < first.len() - 100);
    recycled.extend(&first[recycled.len()..]);
    let log = recover(&[&second, &recycled]).unwrap();
    assert_eq!(log.next, Position(6));
    assert_eq!((log.starts, log.leftovers), (vec![Position(3), Position(5)], vec![]));
}

#[test]
fn what_a_crash_leaves_behind_a_hole_is_named_and_stays_away_once_it_is_blank() {
    let (mut bytes, records, ends) = write(&[&[b"one"], &[b"two"], &[b"three"]], false);
    let hole = bytes.clone();
    bytes[ends[0]..ends[1]].fill(0);
    let log = recover(&[&bytes]).unwrap();
    assert_eq!(log.end.offset, ends[0]);
    let (next, chain) = (log.next, log.chain);
    assert_eq!(log.leftovers, [End { segment: 0, offset: ends[1] }]);
    // What is written into the hole is by chance what was there: its successor would be back.
    let mut writer = LogWriter::new(next, chain);
    writer.append(b"two");
    let mut refill = Vec::new();
    writer.seal(Position(0), &mut refill);
    assert_eq!(refill, hole[ends[0]..ends[1]]);
    bytes[ends[0]..ends[1]].copy_from_slice(&refill);
    assert_eq!(recover(&[&bytes]).unwrap().records.len(), 3);
    bytes[ends[1]..ends[1] + SECTOR_BYTES].fill(0);
    assert_eq!(owned(&recover(&[&bytes]).unwrap()), records[..2]);
}

#[test]
fn a_value_that_looks_like_a_header_proves_nothing() {
    let (mut bytes, records, ends) = write(&[&[b"one"], &[b"two"]], true);
    let (real, _, real_ends) = write(&[&[b"one"], &[b"two"], &[b"three"]], true);
    let (first, durable, chain) = (Position(1000), Position(999), 77 << 32 | 5);
    bytes.extend(Header { length: 100, first, durable, count: 1, chain }.encode());
    bytes.extend([0; 100]);
    let log = recover(&[&bytes]).unwrap();
    assert_eq!((owned(&log), log.end.offset), (records, ends[1]));
    // The log's own header at the same place does prove.
    bytes[ends[0]] ^= 1;
    bytes.resize(ends[1] + SECTOR_BYTES, 0);
    bytes.extend(&real[real_ends[1]..]);
    assert_eq!(recover(&[&bytes]).unwrap_err().missing, Position(2));
}

#[test]
fn a_newer_version_is_refused_and_not_cut() {
    let (mut bytes, _, ends) = write(THREE, false);
    bytes[ends[0] + 4] = 2;
    let crc = crc32fast::hash(&bytes[ends[0]..ends[0] + HEADER_CRC_AT]);
    let at = ends[0] + HEADER_CRC_AT;
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    let refused = recover(&[&bytes]).unwrap_err();
    assert_eq!((refused.unknown_version, refused.offset), (Some(2), ends[0]));
    assert!(format!("{refused}").contains("version 2"));
}

#[test]
fn lengths_that_lie_are_only_a_bad_batch() {
    for (count, length) in [(2, 56), (1, u64::MAX), (u32::MAX, 1 << 40), (1, 52)] {
        let (first, durable) = (Position(1), Position(0));
        let header = Header { length, first, durable, count, chain: 0 };
        let mut bytes = Vec::new();
        bytes.extend(header.encode());
        bytes.extend(9u32.to_le_bytes());
        let crc = checksum(&bytes[..HEADER_BYTES], &bytes[HEADER_BYTES..]);
        bytes.extend(crc.to_le_bytes());
        bytes.extend([0; 64]);
        assert_eq!(recover(&[&bytes]).unwrap().records, []);
    }
}

#[test]
fn every_flipped_bit_leaves_what_is_in_front_of_it() {
    let (bytes, records, ends) =
        write(&[&[b"id"], &[b"one", b"two"], &[b"three"], &[b"end"]], true);
    let last = ends.len() - 1;
    let bare = bare(&bytes, &ends);
    for bit in (0..ends[last - 1] * 8).filter(|bit| !is_padding(&bare, &ends, bit / 8)) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let before = whole(&ends, bit / 8);
        let kept = [0, 1, 3, 4][before];
        match recover_trusted(&[&flipped], None) {
            // The version is not in the checksum of what could be told apart.
            Err(corruption) => {
                assert!(before == 0 || corruption.unknown_version.is_some(), "{bit}")
            }
            Ok((log, corruption)) => {
                assert_eq!(owned(&log), records[..kept], "bit {bit}");
                // The last batch but one is proven by the last one; and so are all before.
                assert!(corruption.is_some(), "bit {bit}");
            }
        }
    }
}

#[test]
fn what_comes_after_the_trusted_record_is_left_out() {
    let (bytes, records, ends) = write(THREE, true);
    let (log, damage) = recover_trusted(&[&bytes], Some(Position(3))).unwrap();
    assert_eq!((owned(&log), damage), (records[..3].to_vec(), None));
    assert_eq!(log.end, End { segment: 0, offset: ends[1] });
    let short = &bytes[..ends[0]];
    let (log, damage) = recover_trusted(&[short], Some(Position(3))).unwrap();
    assert_eq!(owned(&log), records[..2], "and what is missing before it is damage");
    assert_eq!(damage.unwrap().missing, Position(3));
}
