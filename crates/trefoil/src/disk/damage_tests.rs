//! What was synced and is damaged nevertheless (reliability F44-F46, F49): a sector of another
//! place or of another time, a file that ends too early, a name that is gone. Each case is tried at
//! every place. What comes back is refused, or it is the log's beginning, record for record; and
//! where a later batch could prove that something is missing, it is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::tests::{SMALL, expected, fill, fill_segments, open, read, segment_path};
use super::*;
use replication::storage::log::SECTOR_BYTES;
use std::fs;
use std::path::Path;

/// A batch of one record of eight bytes, without what fills its sector.
const BATCH_BYTES: usize = 64;

/// A log over three segments whose batches are one sector each, and their files' numbers.
struct Image {
    directory: tempfile::TempDir,
    /// Numbers and bytes.
    files: Vec<(u64, Vec<u8>)>,
    first: u64,
    last: u64,
}

impl Image {
    /// In a log that was never truncated, or in segments that are used for the second time.
    fn new(used_again: bool) -> Image {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut log) = open(directory.path(), SMALL).unwrap();
        fill_segments(&mut log, 2);
        if used_again {
            for segments in [4, 6] {
                log.truncate(log.last());
                fill_segments(&mut log, segments);
            }
        }
        fill(&mut log, 3);
        log.close().unwrap();
        drop(log);
        let mut image = Image { directory, files: Vec::new(), first: 0, last: 0 };
        let records = image.recover().unwrap();
        (image.first, image.last) = (records.first().unwrap().0, records.last().unwrap().0);
        let path = image.path().join("log");
        for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_stem().unwrap().to_str().unwrap();
            image.files.push((name.parse().unwrap(), fs::read(&entry).unwrap()));
        }
        image.files.sort();
        image
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn recover(&self) -> Result<Vec<(u64, Vec<u8>)>, DiskError> {
        let segments = Directory::open(self.path())?.segments()?;
        let recovered = segments.recover()?;
        Ok(read(&segments, &recovered)?.0)
    }

    /// Where each record's batch is: a file's place in `files`, and an offset.
    fn batches(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (file, (_, bytes)) in self.files.iter().enumerate() {
            for at in (0..bytes.len()).step_by(SECTOR_BYTES) {
                let first = bytes.get(at + 16..at + 24).unwrap().try_into().unwrap();
                let first = u64::from_le_bytes(first);
                let is_batch = bytes.get(at..at + 4) == Some(b"TFLB");
                if is_batch && (self.first..=self.last).contains(&first) {
                    found.push((first, (file, at)));
                }
            }
        }
        found.sort_unstable();
        assert_eq!(found.len() as u64, self.last - self.first + 1);
        found.into_iter().map(|(_, place)| place).collect()
    }

    /// Puts a sector in the place of another.
    fn with(&self, place: (usize, usize), sector: &[u8]) {
        let (number, bytes) = self.files.get(place.0).unwrap();
        let mut bytes = bytes.clone();
        bytes.get_mut(place.1..place.1 + SECTOR_BYTES).unwrap().copy_from_slice(sector);
        fs::write(segment_path(self.path(), *number), bytes).unwrap();
    }

    fn sector(&self, place: (usize, usize)) -> &[u8] {
        self.files.get(place.0).unwrap().1.get(place.1..place.1 + SECTOR_BYTES).unwrap()
    }

    fn restore(&self, file: usize) {
        let (number, bytes) = self.files.get(file).unwrap();
        fs::write(segment_path(self.path(), *number), bytes).unwrap();
    }

    /// Record `lost` of the log is not where it was: it is refused, but for the newest, without
    /// which the log only ends before it.
    fn judge(&self, lost: u64, what: &str) {
        match self.recover() {
            Err(_) => {}
            Ok(records) => {
                assert_eq!(lost, self.last, "{what}: the loss of record {lost} was not seen");
                assert_eq!(records, expected(self.first..=self.last - 1), "{what}");
            }
        }
    }
}

#[test]
fn a_write_that_went_to_another_place_is_seen_at_both() {
    for image in [Image::new(false), Image::new(true)] {
        let batches = image.batches();
        let numbers = image.first..=image.last;
        for (from, number) in batches.iter().zip(numbers.clone()) {
            for (to, other) in batches.iter().zip(numbers.clone()).filter(|(to, _)| *to != from) {
                // Without its beginning, a log says so to the node (`OpenError::Beginning`).
                if other == image.first && image.first > 1 {
                    continue;
                }
                // It is in both places, ...
                image.with(*to, image.sector(*from));
                image.judge(other, &format!("{number} over {other}"));
                // ... or where it belongs is what was there before.
                if from.0 != to.0 {
                    image.with(*from, &[0; SECTOR_BYTES]);
                    image.judge(number.min(other), &format!("{number} moved to {other}"));
                    image.restore(from.0);
                }
                image.restore(to.0);
            }
        }
    }
}

#[test]
fn a_sector_of_a_former_life_is_seen() {
    let image = Image::new(true);
    let batches = image.batches();
    // What the segments held before: batches of this log, with lower positions.
    let former: Vec<(usize, usize)> = (0..image.files.len())
        .flat_map(|file| (0..8).map(move |sector| (file, sector * SECTOR_BYTES)))
        .filter(|place| !batches.contains(place))
        .filter(|place| image.sector(*place).starts_with(b"TFLB"))
        .collect();
    assert!(!former.is_empty());
    for (place, number) in batches.iter().zip(image.first..=image.last).skip(1) {
        for old in &former {
            image.with(*place, image.sector(*old));
            image.judge(number, &format!("an old sector in the place of {number}"));
        }
        image.restore(place.0);
    }
}

#[test]
fn a_file_that_ends_too_early_is_refused_or_ends_the_log() {
    let image = Image::new(false);
    let batches = image.batches();
    let last_file = batches.last().unwrap().0;
    for (file, (number, bytes)) in image.files.iter().enumerate().take(last_file + 1) {
        let of_file = batches.iter().filter(|(of, _)| *of == file);
        let used = of_file.map(|(_, at)| at + BATCH_BYTES).max().unwrap_or(0);
        for length in (0..used).step_by(100) {
            fs::write(segment_path(image.path(), *number), &bytes[..length]).unwrap();
            if file < last_file {
                assert!(image.recover().is_err(), "segment {number} of {length} bytes");
                continue;
            }
            // Nothing behind it can tell: the records in front come back, and no others.
            let Ok(records) = image.recover() else { continue };
            let last = records.last().map_or(0, |(last, _)| *last);
            assert_eq!(records, expected(1..=last));
            let (_, mut log) = open(image.path(), SMALL).unwrap();
            fill(&mut log, 2);
            log.close().unwrap();
            drop(log);
            assert_eq!(image.recover().unwrap(), expected(1..=last + 2), "{length} bytes");
        }
        image.restore(file);
    }
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let image = Image::new(false);
    let live = image.batches().last().unwrap().0;
    assert!(live + 1 < image.files.len(), "behind the last one there is a spare");
    for (file, (number, _)) in image.files.iter().enumerate().take(live + 1).skip(1) {
        fs::remove_file(segment_path(image.path(), *number)).unwrap();
        let error = image.recover().unwrap_err().to_string();
        assert!(error.contains(&format!("segment {number} of the log is missing")), "{error}");
        image.restore(file);
    }
    assert_eq!(image.recover().unwrap(), expected(1..=image.last));
}

/// A new name is on disk only when its directory is synced. Each is before the next one is given,
/// so that a power cut takes back the last one at most: a segment that was to be used again has its
/// old name, or one that was prepared is not there.
#[test]
fn a_name_that_a_power_cut_takes_back_costs_nothing() {
    let image = Image::new(false);
    let first_of_second = {
        let segments = Directory::open(image.path()).unwrap().segments().unwrap();
        segments.recover().unwrap().starts[1]
    };
    let newest = image.files.last().unwrap().0 + 1;
    let (_, mut log) = open(image.path(), SMALL).unwrap();
    log.truncate(first_of_second);
    log.close().unwrap();
    drop(log);
    let (old, new) = (segment_path(image.path(), 1), segment_path(image.path(), newest));
    assert!(!old.exists() && new.exists(), "the first segment is to be used again");
    assert_eq!(image.recover().unwrap(), expected(first_of_second.0..=image.last));
    fs::rename(&new, &old).unwrap();
    assert_eq!(image.recover().unwrap(), expected(1..=image.last));
    let (_, mut log) = open(image.path(), SMALL).unwrap();
    fill(&mut log, 3);
    log.close().unwrap();
    drop(log);
    assert_eq!(image.recover().unwrap(), expected(1..=image.last + 3));
    for spare in image.batches().last().unwrap().0 + 1..image.files.len() {
        fs::remove_file(segment_path(image.path(), image.files[spare].0)).unwrap();
    }
    assert_eq!(image.recover().unwrap(), expected(1..=image.last + 3));
}

#[test]
fn directories_are_made_as_deep_as_they_are_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("of/many/levels");
    let (_, mut log) = open(&path, SMALL).unwrap();
    fill(&mut log, 2);
    log.close().unwrap();
    drop(log);
    assert_eq!(open(&path, SMALL).unwrap().0, expected(1..=2));
}
