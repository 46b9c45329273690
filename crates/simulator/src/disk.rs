//! A node's disk: the log's bytes in segments, writes and syncs that take their time, and crashes
//! that lose any part of what was not synced. It may also stall, fail, be full, have a bit flipped,
//! or go back to what it held before: what it had said to be kept was not.
//!
//! As on the server, segments have their length from the start and are used again: what a crash
//! takes away uncovers what was there before, zeros or batches of the segment's former life.

mod silent;
use replication::Position;
use replication::keyspace::Durability;
use replication::random::Random;
use replication::storage::log::{End, LogWriter, SECTOR_BYTES, recover_trusted};
use std::ops::Range;

/// A batch that does not fit into this gets a segment of its own: small, so that a checkpoint can
/// drop some.
const SEGMENT_BYTES: usize = 16 * SECTOR_BYTES;
/// Segments kept for later use.
const SPARES_MAX: usize = 2;
/// Where in a batch's header its length is.
const LENGTH_AT: Range<usize> = 8..16;

/// How often a batch that does not ask for a sync is left to the next one's.
const LAZY_PERCENT: u64 = 80;
/// How often what could be written before a turn ends is written after it, as what has to wait is.
const LATE_PERCENT: u64 = 40;
/// For how long it does at most: sooner than it must is allowed.
const REST_US_MAX: u64 = 50_000;

/// How long a disk takes, in microseconds from and to.
#[derive(Clone, Debug)]
pub struct Pace {
    /// A write.
    pub write_us: (u64, u64),
    /// A sync.
    pub sync_us: (u64, u64),
}

impl Pace {
    /// Like a good SSD.
    pub fn quick() -> Pace {
        Pace { write_us: (20, 60), sync_us: (200, 600) }
    }
}

/// A node's disk with the log on it.
#[derive(Clone, Debug)]
pub struct Disk {
    /// How long it takes.
    pub pace: Pace,
    /// While it is larger than 1, everything takes so many times as long.
    pub slow_factor: u64,
    /// The next thing that it does takes so much longer.
    pub stall_us: u64,
    /// The next write or sync fails, once.
    pub fails_once: bool,
    /// While it is full, no batch is written whole.
    pub full: bool,
    writer: LogWriter,
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    /// Those that are used next, with what they held.
    spares: Vec<Segment>,
    job: Option<Job>,
    written: Position,
    synced: Position,
    /// What it may go back to.
    backup: Option<Backup>,
    /// A record that is not synced asks for it.
    sync_asked: bool,
    /// A record that is not written counts as soon as it is.
    counts_when_written: bool,
    /// Synced records were gone when it was last opened, and nobody has durably taken note.
    damaged: bool,
}

/// What a disk holds when a process starts on it.
#[derive(Debug)]
pub struct Opened {
    /// The records.
    pub records: Vec<(Position, Vec<u8>)>,
    /// Whether records that had been synced are gone from behind them.
    pub damaged: bool,
}

/// A write or a sync has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFailure {
    /// There is no space left.
    Full,
    /// An error, once; the next attempt would succeed and prove nothing.
    Error,
}

/// A part of the log.
#[derive(Clone, Debug)]
struct Segment {
    /// Its last record.
    last: Position,
    /// As a process reads it.
    bytes: Vec<u8>,
    /// As it is without power.
    kept: Vec<u8>,
    /// Up to where it holds the log, in bytes.
    used: usize,
    /// Up to where that survives any crash.
    synced: usize,
}

/// What a disk held at some time.
#[derive(Clone, Debug)]
pub struct Backup {
    segments: Vec<Segment>,
    spares: Vec<Segment>,
}

impl Segment {
    fn blank() -> Segment {
        let zeros = vec![0; SEGMENT_BYTES];
        Segment { last: Position(0), bytes: zeros.clone(), kept: zeros, used: 0, synced: 0 }
    }

    /// Writes a batch behind what it holds.
    fn write(&mut self, batch: &[u8]) {
        let end = self.used + batch.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.kept.resize(self.bytes.len(), 0);
        if let Some(place) = self.bytes.get_mut(self.used..end) {
            place.copy_from_slice(batch);
        }
        self.used = end;
    }

    fn sync(&mut self) {
        self.kept.clone_from(&self.bytes);
        self.synced = self.used;
    }

    /// What was written there is lost.
    fn lose(&mut self, range: Range<usize>) -> usize {
        if let (Some(bytes), Some(kept)) =
            (self.bytes.get_mut(range.clone()), self.kept.get(range.clone()))
        {
            bytes.copy_from_slice(kept);
        }
        range.len()
    }

    /// Where its batches are, without what fills their last sectors.
    fn batches(&self) -> Vec<Range<usize>> {
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(length) = self.bytes.get(at + LENGTH_AT.start..at + LENGTH_AT.end)
            && let Ok(length) = length.try_into().map(u64::from_le_bytes)
            && at < self.used
        {
            found.push(at..at + length as usize);
            at += (length as usize).next_multiple_of(SECTOR_BYTES);
        }
        found
    }
}

/// What the disk is doing: one batch at a time.
#[derive(Clone, Copy, Debug)]
enum Job {
    Writing {
        last: Position,
        bytes: usize,
    },
    Syncing {
        last: Position,
    },
    /// What is written is synced later, with what comes meanwhile.
    Resting,
}

impl Disk {
    /// An empty disk.
    pub fn new(pace: Pace) -> Disk {
        Disk {
            pace,
            slow_factor: 1,
            stall_us: 0,
            fails_once: false,
            full: false,
            writer: LogWriter::new(Position(1), 0),
            segments: vec![Segment::blank()],
            spares: Vec::new(),
            job: None,
            written: Position(0),
            synced: Position(0),
            sync_asked: false,
            counts_when_written: false,
            damaged: false,
            backup: None,
        }
    }

    /// Starts anew after a crash: the records that the disk still holds, up to any damage.
    ///
    /// # Errors
    /// The log is damaged where it had been synced, which never happens by a crash alone, and
    /// `may_repair` refuses to go on with the records in front of that.
    pub fn open(
        &mut self,
        may_repair: impl Fn(&[(Position, &[u8])]) -> Result<(), String>,
    ) -> Result<Opened, String> {
        let all = self.segments.iter().chain(&self.spares);
        let bytes: Vec<&[u8]> = all.map(|segment| segment.bytes.as_slice()).collect();
        let (log, damage) =
            recover_trusted(&bytes, None).map_err(|corruption| format!("{corruption:?}"))?;
        if let Some(corruption) = damage {
            may_repair(&log.records).map_err(|why| format!("{corruption:?}: {why}"))?;
            self.damaged = true;
        }
        let records = log.records.iter().map(|(p, record)| (*p, record.to_vec())).collect();
        self.writer = LogWriter::new(log.next, log.chain);
        let (end, leftovers) = (log.end, log.leftovers);
        self.job = None;
        self.written = self.writer.last();
        self.synced = self.written;
        (self.sync_asked, self.counts_when_written) = (false, false);
        self.cut(end, &leftovers);
        self.backup = None;
        Ok(Opened { records, damaged: self.damaged })
    }

    /// Goes on where the good log ends: what is behind it is blanked where it could come back.
    fn cut(&mut self, end: End, leftovers: &[End]) {
        self.segments.append(&mut self.spares);
        for End { segment, offset } in leftovers {
            let sector = *offset..offset + SECTOR_BYTES;
            let segment = self.segments.get_mut(*segment);
            if let Some(bytes) = segment.and_then(|segment| segment.bytes.get_mut(sector)) {
                bytes.fill(0);
            }
        }
        self.spares = self.segments.split_off((end.segment + 1).min(self.segments.len()));
        self.spares.truncate(SPARES_MAX);
        for spare in &mut self.spares {
            (spare.used, spare.last) = (0, Position(0));
        }
        if let Some(segment) = self.segments.last_mut() {
            (segment.used, segment.last) = (end.offset, self.written);
        }
        for segment in self.segments.iter_mut().chain(&mut self.spares) {
            segment.kept = segment.bytes.clone();
            segment.synced = segment.used;
        }
    }

    /// The process has durably taken note of the damage.
    pub fn trust(&mut self) {
        self.damaged = false;
    }

    /// Adds a record to the batch that is written next.
    pub fn append(&mut self, record: &[u8], durability: Durability) -> Position {
        match durability {
            Durability::Fsync => self.sync_asked = true,
            Durability::Interval => self.counts_when_written = true,
        }
        self.writer.append(record)
    }

    /// Begins to write what has gathered, unless a batch is on its way already; returns how long
    /// it takes.
    pub fn flush(&mut self, random: &mut Random) -> Option<u64> {
        let is_busy = !matches!(self.job, None | Some(Job::Resting));
        if is_busy || !self.writer.pending() {
            return None;
        }
        let (last, bytes) = self.write()?;
        self.job = Some(Job::Writing { last, bytes });
        Some(self.duration(self.pace.write_us, random))
    }

    /// Writes what has gathered at once if something of it counts as soon as it is written, as the
    /// server's event loop does before a turn ends; the sync comes later. Returns when.
    pub fn write_early(&mut self, random: &mut Random) -> Option<u64> {
        let is_busy = !matches!(self.job, None | Some(Job::Resting));
        let is_well = !self.full && !self.fails_once && self.stall_us == 0;
        if is_busy || !is_well || !self.counts_when_written || random.chance(LATE_PERCENT) {
            return None;
        }
        let (last, _) = self.write()?;
        self.written = last;
        if std::mem::take(&mut self.sync_asked) {
            self.job = Some(Job::Syncing { last });
            return Some(self.duration(self.pace.sync_us, random));
        }
        self.job = Some(Job::Resting);
        Some(random.range(1, REST_US_MAX))
    }

    /// Puts the batch that has gathered in its place: its last record and its length.
    fn write(&mut self) -> Option<(Position, usize)> {
        let mut batch = Vec::new();
        let sealed = self.writer.seal(self.synced, &mut batch)?;
        self.counts_when_written = false;
        let used = self.segments.last().map_or(0, |segment| segment.used);
        if used > 0 && used + batch.len() > SEGMENT_BYTES {
            let is_spare = !self.spares.is_empty();
            self.segments.push(if is_spare { self.spares.remove(0) } else { Segment::blank() });
        }
        let segment = self.segments.last_mut()?;
        segment.write(&batch);
        segment.last = sealed.last;
        Some((sealed.last, batch.len()))
    }

    /// What was begun is finished: how far the log is written and synced, and how long the next
    /// thing takes, if there is one.
    ///
    /// # Errors
    /// It has failed, and so has the process's trust in its log.
    pub fn done(
        &mut self,
        random: &mut Random,
    ) -> Result<(Position, Position, Option<u64>), DiskFailure> {
        if self.job.is_some() && std::mem::take(&mut self.fails_once) {
            return Err(DiskFailure::Error);
        }
        let next = match self.job.take() {
            Some(job @ Job::Writing { .. }) if self.full => {
                self.job = Some(job);
                return Err(DiskFailure::Full);
            }
            Some(Job::Writing { last, .. }) => {
                self.written = last;
                let lazy = !self.sync_asked && random.chance(LAZY_PERCENT);
                if lazy {
                    self.job = Some(Job::Resting);
                    self.flush(random).or_else(|| Some(random.range(1, REST_US_MAX)))
                } else {
                    self.sync_asked = self.writer.pending() && self.sync_asked;
                    self.job = Some(Job::Syncing { last });
                    Some(self.duration(self.pace.sync_us, random))
                }
            }
            Some(Job::Resting) => {
                self.job = Some(Job::Syncing { last: self.written });
                Some(self.duration(self.pace.sync_us, random))
            }
            Some(Job::Syncing { last }) => {
                self.synced = last;
                // What was written meanwhile was not waited for.
                for segment in &mut self.segments {
                    segment.sync();
                }
                self.flush(random)
            }
            None => None,
        };
        Ok((self.written, self.synced, next))
    }

    fn duration(&mut self, (from, to): (u64, u64), random: &mut Random) -> u64 {
        random.range(from, to) * self.slow_factor + std::mem::take(&mut self.stall_us)
    }

    /// Whether all that was ever appended is synced.
    pub fn is_idle(&self) -> bool {
        self.job.is_none() && !self.writer.pending() && self.synced == self.writer.last()
    }

    /// Remembers what it holds; a crash makes it forget.
    pub fn back_up(&mut self) {
        let (segments, spares) = (self.segments.clone(), self.spares.clone());
        self.backup = Some(Backup { segments, spares });
    }

    /// Whether it remembers something.
    pub fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// Goes back to what it remembers, after its process has ended: a disk that lied about its
    /// syncs, or one that was restored from a backup. Says whether anything was lost.
    pub fn go_back(&mut self, backup: Backup) -> bool {
        let bytes = self.bytes();
        (self.segments, self.spares) = (backup.segments, backup.spares);
        self.bytes() != bytes
    }

    /// What it remembers.
    pub fn take_backup(&mut self) -> Option<Backup> {
        self.backup.take()
    }

    /// Flips a bit of what is synced, but not in the newest batch: that it is damaged, and not
    /// only torn, can be told for all others. Says whether there was such a bit.
    pub fn flip_bit(&mut self, random: &mut Random) -> bool {
        let count = self.segments.len();
        let place = random.range(0, count as u64) as usize;
        let Some(segment) = self.segments.get_mut(place) else { return false };
        let mut batches = segment.batches();
        if place + 1 == count {
            batches.pop();
        }
        batches.retain(|batch| batch.end <= segment.synced);
        let Some(batch) = batches.get(random.range(0, batches.len() as u64) as usize) else {
            return false;
        };
        let at = random.range(batch.start as u64, batch.end as u64) as usize;
        let bit = 1 << random.range(0, 8);
        for view in [&mut segment.bytes, &mut segment.kept] {
            if let Some(byte) = view.get_mut(at) {
                *byte ^= bit;
            }
        }
        true
    }

    /// The process ends. Without power, any subset of the sectors that were not synced is lost and
    /// the end may be torn off; with it, only the batch that was being written is torn. Returns how
    /// many bytes are damaged or gone.
    pub fn crash(&mut self, power: bool, random: &mut Random) -> usize {
        let job = self.job.take();
        let writing = match job {
            Some(Job::Writing { bytes, .. }) => bytes,
            _ => 0,
        };
        let count = self.segments.len();
        let mood = random.range(0, 4);
        let mut lost = 0;
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let unsafe_from = if power {
                segment.synced
            } else if number + 1 == count {
                segment.used.saturating_sub(writing)
            } else {
                segment.used
            };
            lost += match mood {
                0 => 0,
                1 => segment.lose(unsafe_from..segment.used),
                _ => tear(segment, unsafe_from, random),
            };
        }
        lost
    }

    /// Drops the segments that hold nothing from this position on; says whether there were any.
    pub fn truncate(&mut self, before: Position) -> bool {
        let count = self.segments.len();
        let keep = self.segments.iter().position(|segment| segment.last >= before);
        let keep = keep.unwrap_or(count).min(count.saturating_sub(1));
        for mut segment in self.segments.drain(..keep) {
            segment.kept = segment.bytes.clone();
            (segment.used, segment.synced, segment.last) = (0, 0, Position(0));
            if self.spares.len() < SPARES_MAX {
                self.spares.push(segment);
            }
        }
        keep > 0
    }

    /// Another, empty disk takes its place.
    pub fn wipe(&mut self) {
        *self = Disk::new(self.pace.clone());
    }

    /// How far the log is written, and how far synced.
    pub fn kept(&self) -> (Position, Position) {
        (self.written, self.synced)
    }

    /// The newest record, be it written or not.
    pub fn last(&self) -> Position {
        self.writer.last()
    }

    /// How many bytes the log has.
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.used).sum()
    }
}

/// Tears off the end of what is not safe, and any of its sectors. Returns how many bytes are lost.
fn tear(segment: &mut Segment, unsafe_from: usize, random: &mut Random) -> usize {
    let (mut end, mut lost) = (segment.used, 0);
    if random.chance(70) {
        end = random.range(unsafe_from as u64, segment.used as u64 + 1) as usize;
        lost += segment.lose(end..segment.used);
    }
    let mut start = unsafe_from;
    while start < end {
        let next = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if random.chance(30) {
            lost += segment.lose(start..next);
        }
        start = next;
    }
    lost
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
