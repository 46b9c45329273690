//! The segments of a log, as a start reads them: piece by piece, and twice. The first reading finds
//! out where the log ends (`Segments::recover`), the second gives its records
//! (`Segments::replay`). What is in memory is a chunk of one segment, or one batch.

use super::DiskError;
use super::blocks::BLOCK_BYTES;
use replication::Position;
use replication::storage::log::{self, Batch, Corruption, End, Recovered, Replay, Source};
use replication::storage::log::{RecoverError, ReplayError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The segments of a log. Nobody else changes them meanwhile.
pub struct Segments {
    directory: PathBuf,
    /// In the order of their numbers, which have no gap.
    files: Vec<SegmentFile>,
}

/// A segment's file.
pub(super) struct SegmentFile {
    /// Its number.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// How long.
    pub bytes: usize,
}

/// The bytes of the block that the log ends in, up to that end, as they were when their checksums
/// were found right: the next write of the block has them once more.
pub struct Tail(Vec<u8>);

/// Reads segments; the one that it has read last is open.
struct SegmentReader<'a> {
    files: &'a [SegmentFile],
    open: Option<(usize, File)>,
}

impl Source for SegmentReader<'_> {
    type Error = DiskError;

    fn count(&self) -> usize {
        self.files.len()
    }

    fn length(&self, segment: usize) -> usize {
        self.files.get(segment).map_or(0, |file| file.bytes)
    }

    fn read(&mut self, place: End, into: &mut [u8]) -> Result<(), DiskError> {
        let Some(SegmentFile { path, .. }) = self.files.get(place.segment) else { return Ok(()) };
        let file = match self.open.take() {
            Some((segment, file)) if segment == place.segment => file,
            _ => File::open(path).map_err(DiskError::io("read", path))?,
        };
        file.read_exact_at(into, place.offset as u64).map_err(DiskError::io("read", path))?;
        self.open = Some((place.segment, file));
        Ok(())
    }
}

impl Segments {
    /// The log's files in a data directory, in order and without a gap.
    pub(super) fn new(directory: PathBuf, files: Vec<SegmentFile>) -> Segments {
        Segments { directory, files }
    }

    /// The files.
    pub(super) fn files(&self) -> &[SegmentFile] {
        &self.files
    }

    fn reader(&self) -> SegmentReader<'_> {
        SegmentReader { files: &self.files, open: None }
    }

    /// Finds out where the log ends. Refuses where synced records are gone.
    pub fn recover(&self) -> Result<Recovered, DiskError> {
        match self.recover_trusted(None)? {
            (recovered, None) => self.check_first(&recovered).map(|()| recovered),
            (_, Some(corruption)) => Err(self.refuse(&corruption, None)),
        }
    }

    /// What is in front of the damage, and the damage; see [`log::recover_trusted`].
    pub(super) fn recover_trusted(
        &self,
        trusted: Option<Position>,
    ) -> Result<(Recovered, Option<Corruption>), DiskError> {
        log::recover_trusted(&mut self.reader(), trusted).map_err(|error| match error {
            RecoverError::Read(error) => error,
            RecoverError::Corrupt(corruption) => self.refuse(&corruption, None),
        })
    }

    /// The segments before the first may be gone; only number 1 holds record 1.
    pub(super) fn check_first(&self, recovered: &Recovered) -> Result<(), DiskError> {
        let number = self.files.first().map(|segment| segment.number);
        match (number, recovered.first) {
            (Some(number), Some(found)) if (number == 1) != (found == Position(1)) => Err(self
                .corrupt(format!(
                    "the first segment of the log has number {number} and starts with record {}: \
                     a file was renamed or replaced",
                    found.0
                ))),
            (Some(number), None) if number > 1 => Err(self.corrupt(format!(
                "the first segment of the log has number {number} and cannot be read, and the \
                 segments before it are gone"
            ))),
            _ => Ok(()),
        }
    }

    /// Reads the log that was recovered once more, and hands out its records, in order. Refuses
    /// where it is another than before.
    pub fn replay<E: From<DiskError>>(
        &self,
        recovered: &Recovered,
        mut take: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Tail, E> {
        let mut reader = self.reader();
        let mut replay = Replay::new(&mut reader, recovered);
        let mut tail = Tail(Vec::new());
        while let Some(batch) = replay.next_batch().map_err(|error| self.unreadable(error))? {
            tail.add(&batch, recovered.end);
            for (position, record) in batch {
                take(position, record)?;
            }
        }
        Ok(tail)
    }

    fn unreadable(&self, error: ReplayError<DiskError>) -> DiskError {
        match error {
            ReplayError::Read(error) => error,
            ReplayError::Changed(End { segment, offset }) => self.corrupt(format!(
                "{} has at byte {offset} other bytes than a moment ago, when the log was found to \
                 be whole. Nothing was changed. The disk or the memory of this machine gives wrong \
                 bytes, or another program writes to the file: look at them, then start the node \
                 again",
                self.name(segment)
            )),
        }
    }

    /// Where the log is damaged.
    pub(super) fn describe(&self, corruption: &Corruption) -> String {
        format!(
            "the log is damaged in {} at byte {}: record {} is missing or unreadable, but \
             records up to {} had been on disk",
            self.name(corruption.segment),
            corruption.offset,
            corruption.missing.0,
            corruption.proven_durable.0
        )
    }

    /// A damaged log that is not repaired, and why.
    pub(super) fn refuse(&self, corruption: &Corruption, why: Option<&str>) -> DiskError {
        let name = self.name(corruption.segment);
        let why = why.map_or(String::new(), |why| format!(". It does not repair itself: {why}"));
        self.corrupt(format!("{corruption} (segment {}: {name}){why}", corruption.segment))
    }

    fn name(&self, segment: usize) -> String {
        self.files.get(segment).map_or(String::new(), |file| file.path.display().to_string())
    }

    fn corrupt(&self, text: String) -> DiskError {
        DiskError::Corrupt { directory: self.directory.clone(), text }
    }
}

impl SegmentFile {
    /// Where what is behind a place ends: behind the last byte that is not zero. The place itself
    /// where there is none.
    pub fn used_behind(&self, offset: usize) -> Result<usize, DiskError> {
        let mut used = offset;
        self.read_behind(offset, |at, bytes| {
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                used = at + last + 1;
            }
            Ok(())
        })?;
        Ok(used)
    }

    /// Hands out what is behind a place, chunk by chunk.
    pub fn read_behind(
        &self,
        offset: usize,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut reader = SegmentReader { files: std::slice::from_ref(self), open: None };
        let mut chunk = vec![0; log::CHUNK_BYTES];
        for at in (offset..self.bytes).step_by(chunk.len()) {
            let length = chunk.len().min(self.bytes - at);
            let chunk = chunk.get_mut(..length).unwrap_or_default();
            reader.read(End { segment: 0, offset: at }, chunk)?;
            take(at, chunk)?;
        }
        Ok(())
    }
}

impl Tail {
    /// The block's bytes.
    pub(super) fn block(&self) -> &[u8] {
        &self.0
    }

    /// Takes what of a batch is in the block that the log ends in.
    fn add(&mut self, batch: &Batch<'_>, end: End) {
        let block_at = end.offset - end.offset % BLOCK_BYTES;
        let batch_end = batch.place.offset + batch.bytes.len();
        if batch.place.segment != end.segment || batch_end <= block_at {
            return;
        }
        let before = block_at.saturating_sub(batch.place.offset);
        // Zeros fill the last sector of the batch before, and of this one.
        self.0.resize(batch.place.offset.saturating_sub(block_at), 0);
        self.0.extend_from_slice(batch.bytes.get(before..).unwrap_or_default());
        if batch_end.next_multiple_of(log::SECTOR_BYTES) == end.offset {
            self.0.resize(end.offset - block_at, 0);
        }
    }
}
