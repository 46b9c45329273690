//! The degrade ledger: where writes were acknowledged with fewer acks than their keyspace
//! declares, from the first such write to the last.
//!
//! It is replicated state, written by entries of the log: an interval is opened by an entry that
//! is committed before the first of its writes is acknowledged, so no failover and no restart can
//! make a degraded acknowledgement look like a full one. The entry that closes it has the exact
//! numbers. Where a retry of an older write is acknowledged with fewer acks, an entry that is
//! committed before that widens the interval. A leader that finds an interval which another one has
//! left open closes it with what it can know: bounds.

use crate::version::{EntryId, Stamp};
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::collections::VecDeque;

/// Intervals that a group remembers; the oldest go first, and are counted.
pub const INTERVALS_MAX: usize = 1024;

/// A line of the ledger, as an entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// From this write on, acks may be fewer. In an interval that is open already: from an earlier
    /// write on than it was said before.
    Opened {
        /// The first write that may have fewer.
        first: EntryId,
    },
    /// Acks are as declared again.
    Closed(Degraded),
}

/// The writes of an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Degraded {
    /// The first write that had fewer acks than declared.
    pub first: EntryId,
    /// The last one.
    pub last: EntryId,
    /// How many had fewer; none: the interval was opened in vain, and is forgotten.
    pub writes: u64,
    /// The fewest copies that one of them durably had when it was acknowledged.
    pub fewest: u64,
    /// Whether the leader that acknowledged them is gone, or has lost count: no write outside of
    /// these was acknowledged with fewer acks, and not all of them need to have been.
    pub is_bound: bool,
}

/// One interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// The entry that opened it: no other interval has the same.
    pub opened: EntryId,
    /// When it was opened, in milliseconds since 1970.
    pub opened_ms: u64,
    /// When it was closed; `None` while it is open.
    pub closed_ms: Option<u64>,
    /// Its writes; while it is open, the first that may be one.
    pub degraded: Degraded,
}

/// The intervals of one group, the oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    intervals: VecDeque<Interval>,
    /// How many were forgotten because there were too many.
    forgotten: u64,
    /// The newest entry that was taken: the same again changes nothing.
    taken: u64,
}

impl Ledger {
    /// Takes a committed entry.
    pub fn take(&mut self, id: EntryId, stamp: Stamp, note: Note) {
        if id.index <= self.taken {
            return;
        }
        self.taken = id.index;
        match note {
            Note::Opened { first } => {
                let last = self.intervals.back_mut();
                if let Some(open) = last.filter(|interval| interval.closed_ms.is_none()) {
                    open.degraded.first = open.degraded.first.min(first);
                    return;
                }
                let degraded = Degraded { first, ..Degraded::default() };
                let opened_ms = stamp.wall_ms();
                let interval = Interval { opened: id, opened_ms, closed_ms: None, degraded };
                self.intervals.push_back(interval);
                if self.intervals.len() > INTERVALS_MAX {
                    self.intervals.pop_front();
                    self.forgotten += 1;
                }
            }
            Note::Closed(degraded) => {
                let open = self.intervals.pop_back_if(|interval| interval.closed_ms.is_none());
                if let Some(open) = open.filter(|_| degraded.writes > 0) {
                    let closed_ms = Some(stamp.wall_ms());
                    self.intervals.push_back(Interval { closed_ms, degraded, ..open });
                }
            }
        }
    }

    /// The intervals, the oldest first.
    pub fn intervals(&self) -> impl Iterator<Item = &Interval> {
        self.intervals.iter()
    }

    /// The interval that is open.
    pub fn open(&self) -> Option<&Interval> {
        self.intervals.back().filter(|interval| interval.closed_ms.is_none())
    }

    /// How many intervals were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Writes the ledger.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u64(self.forgotten);
        w.u64(self.taken);
        w.u32(self.intervals.len() as u32);
        for interval in &self.intervals {
            w.entry_id(interval.opened);
            w.u64(interval.opened_ms);
            w.option_u64(interval.closed_ms);
            interval.degraded.encode(w);
        }
    }

    /// Reads what [`Ledger::encode`] has written.
    pub fn decode(r: &mut Reader<'_>) -> Read<Ledger> {
        let (forgotten, taken) = (r.u64()?, r.u64()?);
        let mut intervals = VecDeque::new();
        for _ in 0..r.u32()? {
            let (opened, opened_ms, closed_ms) = (r.entry_id()?, r.u64()?, r.option_u64()?);
            let degraded = Degraded::decode(r)?;
            intervals.push_back(Interval { opened, opened_ms, closed_ms, degraded });
        }
        Ok(Ledger { intervals, forgotten, taken })
    }
}

impl Degraded {
    fn encode(&self, w: &mut Writer<'_>) {
        w.entry_id(self.first);
        w.entry_id(self.last);
        w.u64(self.writes);
        w.u64(self.fewest);
        w.bool(self.is_bound);
    }

    fn decode(r: &mut Reader<'_>) -> Read<Degraded> {
        Ok(Degraded {
            first: r.entry_id()?,
            last: r.entry_id()?,
            writes: r.u64()?,
            fewest: r.u64()?,
            is_bound: r.bool()?,
        })
    }
}

impl Note {
    /// Writes the line.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Note::Opened { first } => {
                w.u8(0);
                w.entry_id(*first);
            }
            Note::Closed(degraded) => {
                w.u8(1);
                degraded.encode(w);
            }
        }
    }

    /// Reads what [`Note::encode`] has written.
    pub fn decode(r: &mut Reader<'_>) -> Read<Note> {
        Ok(match r.u8()? {
            0 => Note::Opened { first: r.entry_id()? },
            1 => Note::Closed(Degraded::decode(r)?),
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::vec::Vec;

    fn id(index: u64) -> EntryId {
        EntryId { epoch: 1, index }
    }

    fn closed(first: u64, last: u64, writes: u64) -> Note {
        let (first, last) = (id(first), id(last));
        Note::Closed(Degraded { first, last, writes, fewest: 2, is_bound: false })
    }

    fn open(ledger: &mut Ledger, index: u64) {
        ledger.take(id(index), Stamp::at(index), Note::Opened { first: id(index - 1) });
    }

    #[test]
    fn an_interval_is_opened_and_closed_once() {
        let mut ledger = Ledger::default();
        open(&mut ledger, 5);
        open(&mut ledger, 5);
        assert_eq!(ledger.open().unwrap().degraded.first, id(4));
        ledger.take(id(9), Stamp::at(90), closed(4, 8, 3));
        ledger.take(id(9), Stamp::at(90), closed(4, 8, 3));
        assert_eq!(ledger.open(), None);
        let interval = ledger.intervals().next().unwrap();
        assert_eq!((interval.opened_ms, interval.closed_ms), (5, Some(90)));
        assert_eq!((interval.degraded.last, interval.degraded.writes), (id(8), 3));
        assert_eq!(ledger.intervals().count(), 1);
    }

    #[test]
    fn an_open_interval_is_widened_and_is_still_one() {
        let mut ledger = Ledger::default();
        open(&mut ledger, 9);
        open(&mut ledger, 4);
        assert_eq!(ledger.open().unwrap().degraded.first, id(8), "of an entry taken before");
        ledger.take(id(10), Stamp::at(10), Note::Opened { first: id(3) });
        ledger.take(id(11), Stamp::at(11), Note::Opened { first: id(5) });
        let interval = *ledger.open().unwrap();
        assert_eq!((interval.opened, interval.degraded.first), (id(9), id(3)));
        assert_eq!(ledger.intervals().count(), 1);
    }

    #[test]
    fn what_was_opened_in_vain_is_forgotten() {
        let mut ledger = Ledger::default();
        open(&mut ledger, 5);
        ledger.take(id(6), Stamp::at(6), closed(0, 0, 0));
        assert_eq!(ledger.intervals().count(), 0);
    }

    #[test]
    fn the_history_is_bounded_and_says_so() {
        let mut ledger = Ledger::default();
        for round in 1..=INTERVALS_MAX as u64 + 3 {
            open(&mut ledger, 10 * round);
            ledger.take(id(10 * round + 1), Stamp::at(1), closed(10 * round, 10 * round, 1));
        }
        assert_eq!((ledger.intervals().count(), ledger.forgotten()), (INTERVALS_MAX, 3));
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let mut ledger = Ledger::default();
        open(&mut ledger, 5);
        ledger.take(id(9), Stamp::at(90), closed(4, 8, 3));
        open(&mut ledger, 12);
        let mut bytes = Vec::new();
        ledger.encode(&mut Writer(&mut bytes));
        assert_eq!(Ledger::decode(&mut Reader(&bytes)).unwrap(), ledger);
        for note in [Note::Opened { first: id(3) }, closed(1, 2, 3)] {
            let mut bytes = Vec::new();
            note.encode(&mut Writer(&mut bytes));
            assert_eq!(Note::decode(&mut Reader(&bytes)).unwrap(), note);
        }
    }
}
