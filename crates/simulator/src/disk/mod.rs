//! A node's disk: the log's bytes in segments, writes and syncs that take their time, and crashes
//! that lose any part of what was not synced. It may also stall, fail, be full, be damaged where
//! it had been synced (`damage.rs`), or go back to what it held before: what it had said to be kept
//! was not.
//!
//! As on the server, segments have their length from the start and are used again: what a crash
//! takes away uncovers what was there before, zeros or batches of the segment's former life. A file
//! gets a new name when it is used again, and a power cut may take back the last such name; all
//! others are on disk before the next is given, as the server's thread for spare segments does it.

mod damage;
mod segment;
#[cfg(test)]
mod tests;

pub use damage::{Damage, Harm};

mod silent;
use replication::Position;
use replication::keyspace::Durability;
use replication::random::Random;
use replication::storage::log::{End, LogWriter, SECTOR_BYTES, recover_trusted};
use segment::Segment;

/// A batch that does not fit into this gets a segment of its own: small, so that a checkpoint can
/// drop some.
const SEGMENT_BYTES: usize = 16 * SECTOR_BYTES;
/// Segments kept for later use.
const SPARES_MAX: usize = 2;

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
    /// What it is doing, or has done last, takes so much longer for that.
    stalled: bool,
    /// The next write or sync fails, once.
    pub fails_once: bool,
    /// While it is full, no batch is written whole.
    pub full: bool,
    /// The next process cannot read it, once.
    pub unreadable_once: bool,
    writer: LogWriter,
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    /// Those that are used next, with what they held.
    spares: Vec<Segment>,
    /// The last file that was given a new name, as it was: that name is not on disk yet.
    renamed: Option<Segment>,
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
    /// What was synced is damaged, and recovery must see it.
    must_see: bool,
}

/// What a disk held at some time.
#[derive(Clone, Debug)]
pub struct Backup {
    segments: Vec<Segment>,
    spares: Vec<Segment>,
}

/// What a disk holds when a process starts on it.
#[derive(Debug)]
pub struct Opened {
    /// The records.
    pub records: Vec<(Position, Vec<u8>)>,
    /// Whether records that had been synced are gone from behind them.
    pub damaged: bool,
    /// Whether such are gone, it can be seen, and nobody has seen it: a finding.
    pub overlooked: bool,
}

/// What a crash has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Torn {
    /// So many bytes are damaged or gone.
    pub lost: usize,
    /// Of what was not synced, so much is still there.
    pub left: usize,
    /// A file has its old name again.
    pub name_back: bool,
}

/// A write or a sync has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFailure {
    /// There is no space left.
    Full,
    /// An error, once; the next attempt would succeed and prove nothing.
    Error,
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
            stalled: false,
            fails_once: false,
            full: false,
            unreadable_once: false,
            writer: LogWriter::new(Position(1), 0),
            segments: vec![Segment::blank(1)],
            spares: Vec::new(),
            renamed: None,
            job: None,
            written: Position(0),
            synced: Position(0),
            sync_asked: false,
            counts_when_written: false,
            damaged: false,
            must_see: false,
            backup: None,
        }
    }

    /// Starts anew after a crash: the records that the disk still holds, up to any damage.
    ///
    /// # Errors
    /// The log is damaged where it had been synced, which never happens by a crash alone, and
    /// `may_repair` refuses to go on with the records in front of that; or a file is missing.
    pub fn open(
        &mut self,
        may_repair: impl Fn(&[(Position, &[u8])]) -> Result<(), String>,
    ) -> Result<Opened, String> {
        if self.has_gap() {
            return Err(String::from("a segment of the log is missing between two others"));
        }
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
        let overlooked = std::mem::take(&mut self.must_see) && !self.damaged;
        Ok(Opened { records, damaged: self.damaged, overlooked })
    }

    /// Goes on where the good log ends: what is behind it is blanked where it could come back.
    fn cut(&mut self, end: End, leftovers: &[End]) {
        self.segments.append(&mut self.spares);
        for End { segment, offset } in leftovers {
            let Some(segment) = self.segments.get_mut(*segment) else { continue };
            // The file may end within the sector.
            let end = segment.bytes.len().min(offset + SECTOR_BYTES);
            if let Some(bytes) = segment.bytes.get_mut(*offset..end) {
                bytes.fill(0);
            }
        }
        self.spares = self.segments.split_off((end.segment + 1).min(self.segments.len()));
        self.spares.truncate(SPARES_MAX);
        for spare in &mut self.spares {
            spare.recycle(spare.number);
        }
        self.renamed = None;
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
            self.renamed = None;
            let is_spare = !self.spares.is_empty();
            let next = self.segments.last().map_or(1, |segment| segment.number + 1);
            self.segments.push(if is_spare { self.spares.remove(0) } else { Segment::blank(next) });
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
                self.renamed = None;
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
        self.stalled = self.stall_us > 0;
        random.range(from, to) * self.slow_factor + std::mem::take(&mut self.stall_us)
    }

    /// Whether a file has a new name that a power cut would take back.
    pub fn has_new_name(&self) -> bool {
        self.renamed.is_some()
    }

    /// What a process has had from it at last took longer: by what, as it is counted.
    pub fn was_late(&mut self) -> Option<&'static str> {
        let is_slow = self.slow_factor > 1 && self.job.is_some();
        match std::mem::take(&mut self.stalled) {
            true => Some("disk stall"),
            false => is_slow.then_some("slow disk"),
        }
    }

    /// Writes and syncs everything at once; nothing more comes from this process. False where the
    /// disk fails.
    pub fn close(&mut self) -> bool {
        if self.full || std::mem::take(&mut self.fails_once) {
            return false;
        }
        self.job = None;
        if self.writer.pending() {
            let _ = self.write();
        }
        self.written = self.writer.last();
        self.synced = self.written;
        self.renamed = None;
        self.segments.iter_mut().for_each(Segment::sync);
        true
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
        self.renamed = None;
        self.bytes() != bytes
    }

    /// What it remembers.
    pub fn take_backup(&mut self) -> Option<Backup> {
        self.backup.take()
    }

    /// The process ends. Without power, any subset of the sectors that were not synced is lost and
    /// the end may be torn off; with it, only the batch that was being written is torn. Returns
    /// what was taken.
    pub fn crash(&mut self, power: bool, random: &mut Random) -> Torn {
        let job = self.job.take();
        let writing = match job {
            Some(Job::Writing { bytes, .. }) => bytes,
            _ => 0,
        };
        let count = self.segments.len();
        let mood = random.range(0, 4);
        let name_back = power && self.renamed.is_some() && random.chance(50);
        let mut torn = Torn { name_back: name_back && self.take_back_name(), ..Torn::default() };
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let unsafe_from = if power {
                segment.synced
            } else if number + 1 == count {
                segment.used.saturating_sub(writing)
            } else {
                segment.used
            };
            let lost = match mood {
                0 => 0,
                1 => segment.lose(unsafe_from..segment.used),
                _ => segment.tear(unsafe_from, random),
            };
            torn.lost += lost;
            torn.left += (segment.used - unsafe_from.min(segment.used)).saturating_sub(lost);
        }
        torn
    }

    /// The last file that was renamed has its old name again, and is the oldest of the log.
    fn take_back_name(&mut self) -> bool {
        let Some(old) = self.renamed.take() else { return false };
        self.spares.pop();
        self.segments.insert(0, Segment { is_back: true, ..old });
        true
    }

    /// Drops the segments that hold nothing from this position on; says whether there were any.
    pub fn truncate(&mut self, before: Position) -> bool {
        let count = self.segments.len();
        let keep = self.segments.iter().position(|segment| segment.last >= before);
        let keep = keep.unwrap_or(count).min(count.saturating_sub(1));
        for mut segment in self.segments.drain(..keep).collect::<Vec<_>>() {
            self.renamed = None;
            if self.spares.len() < SPARES_MAX {
                self.renamed = Some(segment.clone());
                let newest = self.spares.last().or(self.segments.last());
                segment.recycle(newest.map_or(1, |newest| newest.number + 1));
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
