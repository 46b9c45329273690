//! What a leader knows of the acknowledgements that it gave before the entries were committed:
//! which entries, when, and at which level.
//!
//! Where an acknowledgement comes with the commit (A >= C) nothing is kept. Elsewhere there is a
//! range for each turn that let replies go. It rides in the node's log with the next entry that
//! is appended: lazily, with a sync of its own for nobody. So while the process lives this is the
//! whole truth, and after a crash it is a part of it: what is in a range was acknowledged, of
//! everything else nobody knows. A process that is asked to stop writes down the ranges that are
//! missing, and that it has: then the next one knows the whole truth, too.

use super::report::{Status, decode_level, encode_level};
use crate::keyspace::AckLevel;
use crate::version::EntryId;
use crate::wire::{Read, Reader, Writer};
use alloc::collections::VecDeque;

/// Entries, one after another, whose writers were told OK at the same moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Range {
    /// The epoch that they were written in.
    pub epoch: u64,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What of their copies.
    pub level: AckLevel,
}

impl Range {
    fn has(&self, id: EntryId) -> bool {
        self.epoch == id.epoch && (self.first..=self.last).contains(&id.index)
    }

    /// Writes the range, the kind of its record first.
    pub fn encode(&self, kind: u8, w: &mut Writer<'_>) {
        w.u8(kind);
        for number in [self.epoch, self.first, self.last, self.at_ms] {
            w.u64(number);
        }
        encode_level(self.level, w);
    }

    /// Reads what [`Range::encode`] has written after the kind.
    pub fn decode(r: &mut Reader<'_>) -> Read<Range> {
        Ok(Range {
            epoch: r.u64()?,
            first: r.u64()?,
            last: r.u64()?,
            at_ms: r.u64()?,
            level: decode_level(r)?,
        })
    }
}

/// The acknowledgements of this node's own leaderships, of entries that are not committed yet.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// In the order of the log.
    ranges: VecDeque<Range>,
    /// How many of the ranges, from the front, are in the node's log; those grow no more.
    logged: usize,
    /// What was acknowledged in epochs up to this one is known from the log only: an earlier
    /// process led them.
    earlier_process: u64,
    /// The newest stop of a process that has written down everything: what it said of epochs before
    /// its own, and its newest epoch.
    stopped: Option<(u64, u64)>,
}

impl Acknowledged {
    /// A writer is told OK although its entry is not committed.
    pub fn note(&mut self, id: EntryId, at_ms: u64, level: AckLevel) {
        let grows = self.ranges.len() > self.logged;
        if let Some(newest) = self.ranges.back_mut().filter(|_| grows)
            && (newest.epoch, newest.last + 1) == (id.epoch, id.index)
            && (newest.at_ms, newest.level) == (at_ms, level)
        {
            newest.last = id.index;
            return;
        }
        let (epoch, index) = (id.epoch, id.index);
        self.ranges.push_back(Range { epoch, first: index, last: index, at_ms, level });
    }

    /// Takes a range that is to be written down next, if there is one.
    pub fn next_to_log(&mut self) -> Option<Range> {
        let range = self.ranges.get(self.logged).copied()?;
        self.logged += 1;
        Some(range)
    }

    /// All ranges, for a checkpoint.
    pub fn ranges(&self) -> impl Iterator<Item = &Range> {
        self.ranges.iter()
    }

    /// The entries up to an index are committed, or their fate is known.
    pub fn forget_up_to(&mut self, index: u64) {
        while self.ranges.pop_front_if(|range| range.last <= index).is_some() {
            self.logged = self.logged.saturating_sub(1);
        }
    }

    /// What became of an entry's reply, as the node that led its epoch knows it.
    pub fn status(&self, id: EntryId) -> Status {
        match self.ranges.iter().find(|range| range.has(id)) {
            Some(range) => Status::Acknowledged { at_ms: range.at_ms, level: range.level },
            None if id.epoch > self.earlier_process => Status::NotAcknowledged,
            None => Status::Maybe,
        }
    }

    /// A range that was found in the node's log.
    pub fn replay(&mut self, range: Range) {
        if !self.ranges.contains(&range) {
            self.ranges.push_back(range);
            self.logged = self.ranges.len();
        }
    }

    /// An earlier process was asked to stop, and has written down all that it had acknowledged in
    /// epochs up to this one; but of those up to `after`, only what it had found itself.
    pub fn replay_all(&mut self, after: u64, epoch: u64) {
        self.stopped = Some((after, epoch));
    }

    /// What was acknowledged in epochs up to this one is known from the log only.
    pub fn known_from_log(&self) -> u64 {
        self.earlier_process
    }

    /// The node's log is read: whatever this process will lead has an epoch above this one, and
    /// what is committed is of no interest. A process that has led since the last one was asked to
    /// stop has left a newer epoch.
    pub fn finish_recovery(&mut self, epoch: u64, commit: u64) {
        self.earlier_process = match self.stopped {
            Some((after, stopped)) if stopped == epoch => after,
            _ => epoch,
        };
        self.ranges.retain(|range| range.last > commit);
        self.ranges.make_contiguous().sort_unstable();
        self.logged = self.ranges.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64, index: u64) -> EntryId {
        EntryId { epoch, index }
    }

    fn at(at_ms: u64) -> Status {
        Status::Acknowledged { at_ms, level: AckLevel::Durable }
    }

    #[test]
    fn in_the_process_that_led_everything_is_known() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.finish_recovery(2, 0);
        for (index, at_ms) in [(4, 100), (5, 100), (7, 100), (8, 200)] {
            acknowledged.note(id(3, index), at_ms, AckLevel::Durable);
        }
        assert_eq!(acknowledged.ranges().count(), 3);
        let status = |index| acknowledged.status(id(3, index));
        assert_eq!([4, 5, 7, 8].map(status), [at(100), at(100), at(100), at(200)]);
        assert_eq!([6, 9].map(status), [Status::NotAcknowledged; 2]);
        assert_eq!(acknowledged.status(id(2, 4)), Status::Maybe, "an earlier process led it");
        acknowledged.forget_up_to(5);
        assert_eq!(acknowledged.ranges().count(), 2);
    }

    #[test]
    fn after_a_crash_only_what_was_written_down_is_known() {
        let mut before = Acknowledged::default();
        before.note(id(1, 1), 100, AckLevel::Durable);
        let mut after = Acknowledged::default();
        while let Some(range) = before.next_to_log() {
            after.replay(range);
            after.replay(range);
        }
        before.note(id(1, 2), 100, AckLevel::Durable);
        assert_eq!(before.next_to_log().map(|range| range.first), Some(2), "not the same again");
        after.finish_recovery(1, 0);
        assert_eq!(after.status(id(1, 1)), at(100));
        assert_eq!(after.status(id(1, 2)), Status::Maybe);
        after.note(id(2, 3), 300, AckLevel::Durable);
        assert_eq!(after.status(id(2, 4)), Status::NotAcknowledged);
        after.finish_recovery(2, 1);
        assert_eq!(after.ranges().count(), 1);
    }

    #[test]
    fn after_a_clean_stop_everything_is_known_until_a_process_that_led_crashes() {
        let range = Range { epoch: 3, first: 4, last: 4, at_ms: 100, level: AckLevel::Durable };
        let mut second = Acknowledged::default();
        second.replay(range);
        second.replay_all(2, 3);
        second.finish_recovery(3, 0);
        assert_eq!(second.status(id(3, 4)), at(100));
        assert_eq!(second.status(id(3, 5)), Status::NotAcknowledged);
        assert_eq!(second.status(id(2, 3)), Status::Maybe, "a process before that had crashed");
        let mut third = Acknowledged::default();
        third.replay_all(2, 3);
        third.replay_all(second.known_from_log(), 5);
        third.finish_recovery(5, 0);
        assert_eq!(third.status(id(3, 5)), Status::NotAcknowledged, "stopped twice");
        let mut crashed = Acknowledged::default();
        crashed.replay_all(2, 3);
        crashed.finish_recovery(5, 0);
        assert_eq!(crashed.status(id(5, 6)), Status::Maybe, "it led, and did not stop");
    }
}
