//! The two readings of a log: how much of it is in memory at a time, and what happens where the
//! second gives other bytes than the first.
#![allow(clippy::unwrap_used)]

use super::super::LogWriter;
use super::*;
use alloc::vec;

/// Segments that say how much was asked for at once, and that may fail.
struct Watched {
    segments: Vec<Vec<u8>>,
    longest_read: usize,
    bytes_read: usize,
    fails_at: Option<End>,
}

impl Watched {
    fn new(segments: Vec<Vec<u8>>) -> Watched {
        Watched { segments, longest_read: 0, bytes_read: 0, fails_at: None }
    }

    fn bytes(&self) -> usize {
        self.segments.iter().map(Vec::len).sum()
    }
}

impl Source for Watched {
    type Error = End;

    fn count(&self) -> usize {
        self.segments.len()
    }

    fn length(&self, segment: usize) -> usize {
        self.segments.get(segment).map_or(0, Vec::len)
    }

    fn read(&mut self, place: End, into: &mut [u8]) -> Result<(), End> {
        let bytes = &self.segments[place.segment][place.offset..place.offset + into.len()];
        into.copy_from_slice(bytes);
        self.longest_read = self.longest_read.max(into.len());
        self.bytes_read += into.len();
        let end = End { offset: place.offset + into.len(), ..place };
        let fails = self.fails_at.is_some_and(|at| (place..end).contains(&at));
        if fails { Err(place) } else { Ok(()) }
    }
}

const RECORD_BYTES: usize = 100_000;
const BATCHES: u64 = 30;

/// A log of four chunks or so a segment, and as much of its past behind it.
fn filled(record_bytes: impl Fn(u64) -> usize) -> Watched {
    let mut writer = LogWriter::new(Position(1), 0);
    let mut segments = vec![Vec::new()];
    for number in 1..=BATCHES {
        for part in [0, 1] {
            writer.append(&vec![number as u8 * 2 + part; record_bytes(number)]);
        }
        let durable = Position(number * 2 - 2);
        if segments.last().unwrap().len() > 2 * CHUNK_BYTES {
            segments.push(Vec::new());
        }
        writer.seal(durable, segments.last_mut().unwrap());
    }
    let spares = segments.clone();
    segments.iter_mut().for_each(|segment| segment.resize(segment.len().max(4 * CHUNK_BYTES), 0));
    // Of another log, so that they prove nothing.
    let blank = |mut spare: Vec<u8>| {
        spare.iter_mut().for_each(|byte| *byte ^= 0x55);
        spare
    };
    segments.extend(spares.into_iter().map(blank));
    Watched::new(segments)
}

#[test]
fn a_chunk_of_the_log_is_in_memory_however_long_it_is_and_its_spares_are() {
    let mut source = filled(|_| RECORD_BYTES);
    assert!(source.bytes() > 12 * CHUNK_BYTES);
    let log = recover(&mut source).unwrap();
    assert_eq!(log.next, Position(2 * BATCHES + 1));
    assert_eq!(source.longest_read, CHUNK_BYTES);
    let twice = source.count() * CHUNK_BYTES;
    let all = source.bytes()..source.bytes() + twice;
    assert!(all.contains(&source.bytes_read), "the spares, too, and no more than a chunk twice");
    let mut replay = Replay::new(&mut source, &log);
    let (mut count, mut memory) = (0, 0);
    while let Some(batch) = replay.next_batch().unwrap() {
        for (position, record) in batch {
            count += 1;
            assert_eq!((position.0, record.len()), (count, RECORD_BYTES));
            let number = count.div_ceil(2);
            assert_eq!(u64::from(record[0]), number * 2 + (count - 1) % 2);
        }
        memory = memory.max(replay.memory_bytes());
    }
    assert_eq!(count, 2 * BATCHES);
    assert_eq!(memory, CHUNK_BYTES);
    assert_eq!(source.longest_read, CHUNK_BYTES);
}

#[test]
fn a_batch_longer_than_a_chunk_is_read_whole_and_its_memory_is_given_back() {
    let long = 3 * CHUNK_BYTES;
    let mut source = filled(|number| if number == 5 { long } else { RECORD_BYTES });
    let log = recover(&mut source).unwrap();
    let mut replay = Replay::new(&mut source, &log);
    let mut memory = Vec::new();
    while let Some(batch) = replay.next_batch().unwrap() {
        assert_eq!(batch.count(), 2);
        memory.push(replay.memory_bytes());
    }
    assert!((2 * long..2 * long + CHUNK_BYTES).contains(&memory[4]), "{memory:?}");
    assert_eq!(*memory.last().unwrap(), CHUNK_BYTES);
}

/// Each of some changes to a log between its two readings is seen, and no record comes from behind
/// it, nor an altered one.
#[test]
fn a_log_that_is_another_at_the_second_reading_is_refused() {
    let mut source = filled(|_| RECORD_BYTES);
    let log = recover(&mut source).unwrap();
    let whole = source.segments.clone();
    let read = |source: &mut Watched| {
        let mut replay = Replay::new(source, &log);
        let mut batches = 0;
        loop {
            match replay.next_batch() {
                Ok(Some(batch)) => {
                    let place = batch.place;
                    assert_eq!(
                        whole[place.segment][place.offset..][..batch.bytes.len()],
                        *batch.bytes
                    );
                    batches += 1;
                }
                Ok(None) => return Ok(batches),
                Err(error) => return Err((error, batches)),
            }
        }
    };
    assert_eq!(read(&mut source), Ok(BATCHES));
    let padded =
        source.segments[0].windows(4).skip(1).position(|four| four == b"TFLB").unwrap() + 1;
    for at in [3, 50, padded - SECTOR_BYTES, padded + 17, padded + 40, padded + 2 * RECORD_BYTES] {
        source.segments[0][at] ^= 4;
        let place = End { segment: 0, offset: if at < padded { 0 } else { padded } };
        let before = u64::from(at >= padded);
        assert_eq!(read(&mut source), Err((ReplayError::Changed(place), before)), "byte {at}");
        source.segments[0][at] ^= 4;
    }
    // A whole log, but not this one.
    let (first, second) = whole[0].split_at(padded);
    source.segments[0] = [second, first].concat();
    assert_eq!(read(&mut source), Err((ReplayError::Changed(End::default()), 0)));
    source.segments[0] = first.to_vec();
    let end = End { segment: 0, offset: padded };
    assert_eq!(read(&mut source), Err((ReplayError::Changed(end), 1)));
    source.segments = whole.clone();
    source.segments.swap(1, 2);
    let Err((ReplayError::Changed(place), _)) = read(&mut source) else { unreachable!() };
    assert_eq!(place, End { segment: 1, offset: 0 });
    source.segments = whole.clone();
    source.fails_at = Some(End { segment: 1, offset: 2 * CHUNK_BYTES });
    assert!(matches!(read(&mut source), Err((ReplayError::Read(_), _))));
}

#[test]
fn a_segment_that_cannot_be_read_is_told_wherever_it_is() {
    let mut source = filled(|_| RECORD_BYTES);
    for segment in 0..source.count() {
        for offset in [0, CHUNK_BYTES, source.length(segment) - 1] {
            source.fails_at = Some(End { segment, offset });
            let error = recover(&mut source).unwrap_err();
            let RecoverError::Read(place) = error else { unreachable!() };
            assert_eq!(place.segment, segment);
        }
    }
}
