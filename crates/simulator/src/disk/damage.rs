//! What happens to bytes that had been synced: a bit flips, a write is lost or goes to another
//! place, a file ends too early or is not there any more.
//!
//! Whether recovery *can* see it is told here from what lay on the disk before, and not by asking
//! recovery: a whole batch behind the damage proves that the damaged one had been on disk, and so
//! does a gap in the files' numbers. What can be seen must be seen ([`super::Opened::overlooked`]).
//! What cannot is the end of the log: without it the disk looks as it did some time ago.

use super::Disk;
use super::segment::{Batch, Segment};
use replication::Position;
use replication::random::Random;
use replication::storage::log::SECTOR_BYTES;
use std::ops::Range;

/// So many bits flip in the newest segment, and so many in the newest batch of one: what is damaged
/// there is most easily taken for a torn end.
const NEWEST_PERCENT: u64 = 30;

/// How a disk destroys what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// A write never reached the disk, or some of its sectors: what was there before is back.
    LostWrite,
    /// A write went to another place of the log, and destroyed what was there.
    Misdirected,
    /// A file ends too early.
    Truncated,
    /// A file is not there any more.
    Missing,
}

impl Damage {
    /// What it is counted as.
    pub fn name(self) -> &'static str {
        match self {
            Damage::LostWrite => "write lost by the disk",
            Damage::Misdirected => "misdirected write",
            Damage::Truncated => "truncated file",
            Damage::Missing => "missing file",
        }
    }
}

/// What a damage has destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Harm {
    /// The last record in front of it.
    pub kept: Position,
    /// Whether recovery must see it.
    pub can_be_seen: bool,
}

impl Disk {
    /// Damages a disk that nobody uses. `None` where there was nothing to be damaged.
    pub fn damage(&mut self, damage: Damage, random: &mut Random) -> Option<Harm> {
        let needed = self.segments.iter().filter(|segment| !segment.is_back);
        let before: Vec<(Batch, Vec<u8>)> =
            needed.flat_map(Segment::batches).map(|b| self.read(b)).collect();
        let place = random.range(0, before.len() as u64) as usize;
        let (batch, _) = before.get(place)?;
        match damage {
            Damage::LostWrite => self.lose_write(batch, random),
            Damage::Misdirected => self.misdirect(batch, random)?,
            Damage::Truncated => self.cut_off(batch.number, random),
            Damage::Missing => self.lose_file(batch.number)?,
        }
        let is_whole = |(batch, bytes): &&(Batch, Vec<u8>)| {
            self.file(batch.number).and_then(|s| s.bytes.get(batch.range.clone())) == Some(bytes)
        };
        let (first, _) = before.iter().find(|batch| !is_whole(batch))?;
        let missing = first.first;
        let proof =
            |(batch, _): &&(Batch, Vec<u8>)| batch.first > missing && batch.durable >= missing;
        let can_be_seen = self.has_gap() || before.iter().filter(is_whole).any(|b| proof(&b));
        self.must_see |= can_be_seen;
        Some(Harm { kept: Position(missing.0 - 1), can_be_seen })
    }

    fn read(&self, batch: Batch) -> (Batch, Vec<u8>) {
        let bytes = self.file(batch.number).and_then(|s| s.bytes.get(batch.range.clone()));
        let bytes = bytes.unwrap_or(&[]).to_vec();
        (batch, bytes)
    }

    fn file(&self, number: u64) -> Option<&Segment> {
        self.segments.iter().chain(&self.spares).find(|segment| segment.number == number)
    }

    /// Puts the same bytes into a file, with and without power.
    fn overwrite(&mut self, number: u64, range: Range<usize>, bytes: &[u8]) {
        let mut all = self.segments.iter_mut().chain(&mut self.spares);
        let Some(segment) = all.find(|segment| segment.number == number) else { return };
        for view in [&mut segment.bytes, &mut segment.kept] {
            if let Some(place) = view.get_mut(range.clone())
                && place.len() == bytes.len()
            {
                place.copy_from_slice(bytes);
            }
        }
    }

    /// What was in a batch's place before it was written.
    fn former(&self, batch: &Batch, range: &Range<usize>) -> Vec<u8> {
        let former = self.file(batch.number).and_then(|s| s.former.get(range.clone()));
        former.map_or_else(|| vec![0; range.len()], <[u8]>::to_vec)
    }

    /// Of a batch's sectors, all or some are what they were before.
    fn lose_write(&mut self, batch: &Batch, random: &mut Random) {
        let all = random.chance(50);
        let keep = random.range(0, batch.range.len().div_ceil(SECTOR_BYTES) as u64) as usize;
        let starts = (batch.range.start..batch.range.end).step_by(SECTOR_BYTES);
        for (number, start) in starts.enumerate() {
            let sector = start..start + SECTOR_BYTES;
            if all || number != keep || batch.range.len() <= SECTOR_BYTES {
                let former = self.former(batch, &sector);
                self.overwrite(batch.number, sector, &former);
            }
        }
    }

    /// A batch lies somewhere else, and in its place is what was there before.
    fn misdirect(&mut self, batch: &Batch, random: &mut Random) -> Option<()> {
        let range = batch.range.start..batch.range.end.next_multiple_of(SECTOR_BYTES);
        let bytes = self.file(batch.number)?.bytes.get(range.clone())?.to_vec();
        let files = (self.segments.len() + self.spares.len()) as u64;
        let place = random.range(0, files) as usize;
        let target = self.segments.iter().chain(&self.spares).nth(place)?;
        let sectors = target.bytes.len().checked_sub(bytes.len())? / SECTOR_BYTES;
        let start = random.range(0, sectors as u64 + 1) as usize * SECTOR_BYTES;
        let number = target.number;
        if (number, start) == (batch.number, range.start) {
            return None;
        }
        let former = self.former(batch, &range);
        self.overwrite(batch.number, range, &former);
        self.overwrite(number, start..start + bytes.len(), &bytes);
        Some(())
    }

    fn cut_off(&mut self, number: u64, random: &mut Random) {
        let Some(segment) = self.segments.iter_mut().find(|s| s.number == number) else { return };
        let length = random.range(0, segment.synced as u64) as usize;
        segment.bytes.truncate(length);
        segment.kept.truncate(length);
    }

    /// Takes a file away; not the only one.
    fn lose_file(&mut self, number: u64) -> Option<()> {
        let place = self.segments.iter().position(|segment| segment.number == number)?;
        (self.segments.len() > 1).then(|| self.segments.remove(place))?;
        Some(())
    }

    /// Whether a file is missing between two others.
    pub(super) fn has_gap(&self) -> bool {
        let numbers: Vec<u64> =
            self.segments.iter().chain(&self.spares).map(|segment| segment.number).collect();
        numbers.windows(2).any(|pair| pair[0] + 1 != pair[1])
    }

    /// Flips a bit of what is synced, but only in a batch of which a later one says that it was: no
    /// other can be told from a torn one. Says whether there was such a bit.
    pub fn flip_bit(&mut self, random: &mut Random) -> bool {
        let count = self.segments.len();
        let known = self.segments.iter().flat_map(Segment::batches).map(|b| b.durable).max();
        let place = match random.chance(NEWEST_PERCENT) {
            true => count.saturating_sub(1),
            false => random.range(0, count as u64) as usize,
        };
        let Some(segment) = self.segments.get(place) else { return false };
        let mut batches = segment.batches();
        batches.retain(|batch| Some(batch.first) <= known);
        let batch = match random.chance(NEWEST_PERCENT) {
            true => batches.last(),
            false => batches.get(random.range(0, batches.len() as u64) as usize),
        };
        let range = batch.map(|batch| batch.range.clone());
        range.is_some_and(|range| self.flip_within(place, range, random))
    }

    /// Flips a bit of the batch that holds a record. Says whether it is there.
    pub fn flip_bit_of(&mut self, position: Position, random: &mut Random) -> bool {
        let found = self.segments.iter().enumerate().rev().find_map(|(place, segment)| {
            let batches = segment.batches();
            let batch = batches.into_iter().rev().find(|batch| batch.first <= position)?;
            Some((place, batch.range))
        });
        found.is_some_and(|(place, range)| self.flip_within(place, range, random))
    }

    fn flip_within(&mut self, place: usize, range: Range<usize>, random: &mut Random) -> bool {
        let Some(segment) = self.segments.get_mut(place) else { return false };
        let at = random.range(range.start as u64, range.end as u64) as usize;
        let bit = 1 << random.range(0, 8);
        for view in [&mut segment.bytes, &mut segment.kept] {
            if let Some(byte) = view.get_mut(at) {
                *byte ^= bit;
            }
        }
        true
    }
}
