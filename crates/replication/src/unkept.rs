//! How long the oldest record has been waiting for the disk: so a node notices that its disk
//! stalls, which no error tells.

use crate::Position;
use alloc::collections::VecDeque;

/// Records that came within so many microseconds are taken for one.
const GRAIN_US: u64 = 10_000;
/// Marks that are remembered; beyond them records are taken for as old as the last mark.
const MARKS_MAX: usize = 1024;

/// The records that were appended and are not kept yet.
#[derive(Debug, Default)]
pub struct Unkept {
    /// For each grain, the newest record and when the first came.
    marks: VecDeque<(Position, u64)>,
}

impl Unkept {
    /// A record was appended.
    pub fn note(&mut self, position: Position, now_us: u64) {
        let full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some((newest, since_us)) if full || now_us < since_us.saturating_add(GRAIN_US) => {
                *newest = position;
            }
            _ => self.marks.push_back((position, now_us)),
        }
    }

    /// The log is kept up to a position.
    pub fn kept(&mut self, up_to: Position) {
        while self.marks.pop_front_if(|(newest, _)| *newest <= up_to).is_some() {}
    }

    /// When the oldest record came that is not kept, give or take a grain.
    pub fn since_us(&self) -> Option<u64> {
        self.marks.front().map(|(_, since_us)| *since_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_that_waits_tells_how_long_the_disk_takes() {
        let mut unkept = Unkept::default();
        assert_eq!(unkept.since_us(), None);
        unkept.note(Position(1), 1_000);
        unkept.note(Position(2), 2_000);
        unkept.note(Position(3), 1_000 + GRAIN_US);
        unkept.kept(Position(1));
        assert_eq!(unkept.since_us(), Some(1_000));
        unkept.kept(Position(2));
        assert_eq!(unkept.since_us(), Some(1_000 + GRAIN_US));
        unkept.kept(Position(3));
        assert_eq!(unkept.since_us(), None);
    }

    #[test]
    fn a_disk_that_never_answers_costs_no_memory() {
        let mut unkept = Unkept::default();
        for number in 1..=3 * MARKS_MAX as u64 {
            unkept.note(Position(number), number * GRAIN_US);
        }
        assert_eq!((unkept.marks.len(), unkept.since_us()), (MARKS_MAX, Some(GRAIN_US)));
        unkept.kept(Position(3 * MARKS_MAX as u64));
        assert_eq!(unkept.since_us(), None);
    }
}
