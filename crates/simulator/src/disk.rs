//! A node's disk: the log's bytes in segments, writes and syncs that take their time, and crashes
//! that lose any part of what was not synced. It may also stall, fail, be full, have a bit flipped,
//! or go back to what it held before: what it had said to be kept was not.

use replication::Position;
use replication::keyspace::Durability;
use replication::random::Random;
use replication::storage::log::{LogWriter, recover_trusted};

/// What a disk keeps or loses as one.
const SECTOR_BYTES: usize = 512;
/// A segment that is longer gets no further batch: small, so that a checkpoint can drop some.
const SEGMENT_BYTES: usize = 4096;

/// How often a batch that does not ask for a sync is left to the next one's.
const LAZY_PERCENT: u64 = 80;

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
    /// Oldest first; the last one grows.
    segments: Vec<Segment>,
    job: Option<Job>,
    written: Position,
    synced: Position,
    /// What it may go back to.
    backup: Option<Vec<Segment>>,
    /// A record that is not synced asks for it.
    sync_asked: bool,
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
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Its last record.
    last: Position,
    bytes: Vec<u8>,
    /// How many of its bytes survive any crash.
    synced_bytes: usize,
    /// Where its last batch starts, if that is known.
    last_batch: usize,
}

/// What the disk is doing: one batch at a time.
#[derive(Clone, Copy, Debug)]
enum Job {
    Writing { last: Position, bytes: usize },
    Syncing { last: Position },
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
            segments: Vec::new(),
            job: None,
            written: Position(0),
            synced: Position(0),
            sync_asked: false,
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
        let bytes: Vec<&[u8]> = self.segments.iter().map(|s| s.bytes.as_slice()).collect();
        let (log, damage) =
            recover_trusted(&bytes, None).map_err(|corruption| format!("{corruption:?}"))?;
        if let Some(corruption) = damage {
            may_repair(&log.records).map_err(|why| format!("{corruption:?}: {why}"))?;
            self.damaged = true;
        }
        let records = log.records.iter().map(|(p, record)| (*p, record.to_vec())).collect();
        self.writer = LogWriter::new(log.next, log.chain);
        let end = log.end;
        self.job = None;
        self.written = self.writer.last();
        self.synced = self.written;
        self.sync_asked = false;
        self.segments.truncate(end.segment + 1);
        if let Some(segment) = self.segments.last_mut() {
            segment.bytes.truncate(end.offset);
            segment.last = self.written;
            segment.last_batch = 0;
        }
        for segment in &mut self.segments {
            segment.synced_bytes = segment.bytes.len();
        }
        self.backup = None;
        Ok(Opened { records, damaged: self.damaged })
    }

    /// The process has durably taken note of the damage.
    pub fn trust(&mut self) {
        self.damaged = false;
    }

    /// Adds a record to the batch that is written next.
    pub fn append(&mut self, record: &[u8], durability: Durability) -> Position {
        self.sync_asked |= durability == Durability::Fsync;
        self.writer.append(record)
    }

    /// Begins to write what has gathered, unless a batch is on its way already; returns how long
    /// it takes.
    pub fn flush(&mut self, random: &mut Random) -> Option<u64> {
        if self.job.is_some() || !self.writer.pending() {
            return None;
        }
        // Whatever a later segment holds, the earlier ones are whole.
        let is_full = |segment: &Segment| {
            segment.bytes.len() > SEGMENT_BYTES && segment.synced_bytes == segment.bytes.len()
        };
        if self.segments.last().is_none_or(is_full) {
            self.segments.push(Segment::default());
        }
        let segment = self.segments.last_mut()?;
        let sealed = self.writer.seal(self.synced, &mut segment.bytes)?;
        segment.last = sealed.last;
        segment.last_batch = sealed.bytes.start;
        self.job = Some(Job::Writing { last: sealed.last, bytes: sealed.bytes.len() });
        Some(self.duration(self.pace.write_us, random))
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
                    self.flush(random)
                } else {
                    self.sync_asked = self.writer.pending() && self.sync_asked;
                    self.job = Some(Job::Syncing { last });
                    Some(self.duration(self.pace.sync_us, random))
                }
            }
            Some(Job::Syncing { last }) => {
                self.synced = last;
                for segment in &mut self.segments {
                    segment.synced_bytes = segment.bytes.len();
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
        self.backup = Some(self.segments.clone());
    }

    /// Whether it remembers something.
    pub fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// Goes back to what it remembers, after its process has ended: a disk that lied about its
    /// syncs, or one that was restored from a backup. Says whether anything was lost.
    pub fn go_back(&mut self, backup: Vec<Segment>) -> bool {
        let bytes = self.bytes();
        self.segments = backup;
        self.bytes() != bytes
    }

    /// What it remembers.
    pub fn take_backup(&mut self) -> Option<Vec<Segment>> {
        self.backup.take()
    }

    /// Flips a bit of what is synced, but not in the newest batch: that it is damaged, and not
    /// only torn, can be told for all others. Says whether there was such a bit.
    pub fn flip_bit(&mut self, random: &mut Random) -> bool {
        let last = self.segments.len().saturating_sub(1);
        let place = random.range(0, self.segments.len() as u64) as usize;
        let Some(segment) = self.segments.get_mut(place) else { return false };
        let end = if place == last { segment.last_batch } else { segment.bytes.len() };
        let at = random.range(0, end.min(segment.synced_bytes) as u64) as usize;
        match segment.bytes.get_mut(..end).and_then(|bytes| bytes.get_mut(at)) {
            Some(byte) => {
                *byte ^= 1 << random.range(0, 8);
                true
            }
            None => false,
        }
    }

    /// The process ends. Without power, any subset of the sectors that were not synced is lost and
    /// the end may be torn off; with it, only the batch that was being written is torn. Returns how
    /// many bytes are damaged or gone.
    pub fn crash(&mut self, power: bool, random: &mut Random) -> usize {
        let job = self.job.take();
        let Some(segment) = self.segments.iter_mut().rfind(|s| s.synced_bytes < s.bytes.len())
        else {
            return 0;
        };
        let unsafe_from = match job {
            _ if power => segment.synced_bytes,
            Some(Job::Writing { bytes, .. }) => segment.bytes.len().saturating_sub(bytes),
            _ => return 0,
        };
        let before = segment.bytes.len();
        let mood = random.range(0, 4);
        let mut lost = 0;
        if mood == 0 {
            return 0;
        }
        if mood == 1 {
            segment.bytes.truncate(unsafe_from);
            return before - unsafe_from;
        }
        if random.chance(70) {
            let end = random.range(unsafe_from as u64, before as u64 + 1) as usize;
            segment.bytes.truncate(end);
            lost += before - end;
        }
        let mut start = unsafe_from;
        while start < segment.bytes.len() {
            let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(segment.bytes.len());
            if random.chance(30)
                && let Some(sector) = segment.bytes.get_mut(start..end)
            {
                sector.fill(0);
                lost += end - start;
            }
            start = end;
        }
        lost
    }

    /// Drops the segments that hold nothing from this position on; says whether there were any.
    pub fn truncate(&mut self, before: Position) -> bool {
        let count = self.segments.len();
        let keep = self.segments.iter().position(|segment| segment.last >= before);
        let keep = keep.unwrap_or(count).min(count.saturating_sub(1));
        self.segments.drain(..keep);
        keep > 0
    }

    /// Another, empty disk takes its place.
    pub fn wipe(&mut self) {
        *self = Disk::new(self.pace.clone());
    }

    /// The newest record, be it written or not.
    pub fn last(&self) -> Position {
        self.writer.last()
    }

    /// How many bytes the log has.
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(disk: &mut Disk, text: &str, random: &mut Random) -> Position {
        let position = disk.append(text.as_bytes(), Durability::Fsync);
        disk.flush(random);
        position
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut disk = Disk::new(Pace::quick());
            assert!(disk.open(|_| Ok(())).unwrap().records.is_empty());
            let mut kept = 0;
            for number in 1..=10u64 {
                let text = "x".repeat(random.range(1, 900) as usize);
                assert_eq!(write(&mut disk, &text, &mut random), Position(number));
                if number < 10 {
                    disk.done(&mut random).unwrap();
                    kept = disk.done(&mut random).unwrap().1.0;
                }
            }
            disk.crash(seed % 2 == 0, &mut random);
            let records = disk.open(|_| Ok(())).unwrap().records;
            assert!(records.len() as u64 >= kept, "seed {seed}");
            let next = write(&mut disk, "next", &mut random);
            assert_eq!(next.0, records.len() as u64 + 1);
        }
    }

    fn filled(random: &mut Random) -> Disk {
        let mut disk = Disk::new(Pace::quick());
        for _ in 0..40 {
            write(&mut disk, &"z".repeat(500), random);
            disk.done(random).unwrap();
            disk.done(random).unwrap();
        }
        disk
    }

    #[test]
    fn a_flipped_bit_is_never_taken_for_a_torn_end() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut disk = filled(&mut random);
            assert!(disk.flip_bit(&mut random));
            assert!(disk.open(|_| Err(String::new())).is_err(), "seed {seed}");
        }
    }

    #[test]
    fn a_failure_comes_once_and_a_full_disk_fails_until_there_is_space() {
        let mut random = Random::new(1);
        let mut disk = filled(&mut random);
        disk.fails_once = true;
        write(&mut disk, "lost", &mut random);
        assert_eq!(disk.done(&mut random), Err(DiskFailure::Error));
        disk.crash(true, &mut random);
        disk.full = true;
        for _ in 0..3 {
            disk.open(|_| Ok(())).unwrap();
            write(&mut disk, "no space", &mut random);
            assert_eq!(disk.done(&mut random), Err(DiskFailure::Full));
            disk.crash(false, &mut random);
        }
        disk.full = false;
        assert!(disk.open(|_| Ok(())).unwrap().records.len() >= 40);
        write(&mut disk, "space", &mut random);
        assert!(disk.done(&mut random).is_ok());
    }

    #[test]
    fn a_disk_that_lied_holds_what_it_held_before() {
        let mut random = Random::new(1);
        let mut disk = filled(&mut random);
        disk.back_up();
        assert!(disk.is_idle());
        write(&mut disk, "synced, or so it says", &mut random);
        assert!(!disk.is_idle());
        disk.done(&mut random).unwrap();
        disk.done(&mut random).unwrap();
        assert!(disk.is_idle());
        let backup = disk.take_backup().unwrap();
        disk.crash(true, &mut random);
        assert!(disk.go_back(backup));
        assert_eq!(disk.open(|_| Ok(())).unwrap().records.len(), 40);
    }

    #[test]
    fn a_truncated_log_opens_where_it_begins() {
        let mut random = Random::new(1);
        let mut disk = Disk::new(Pace::quick());
        for _ in 0..40 {
            write(&mut disk, &"y".repeat(500), &mut random);
            disk.done(&mut random).unwrap();
            disk.done(&mut random).unwrap();
        }
        assert!(disk.truncate(Position(30)));
        let records = disk.open(|_| Ok(())).unwrap().records;
        let first = records.first().unwrap().0;
        assert!(first > Position(1) && first <= Position(30), "{first:?}");
        assert_eq!(records.last().unwrap().0, Position(40));
    }
}
