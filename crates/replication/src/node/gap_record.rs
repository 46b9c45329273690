//! What was heard of other nodes by the hour, and how that goes to the node's log.
//!
//! ```text
//! record: kind 1, whole 1, then for each node: its number 2, longest dropped, hours, counts, gaps
//! hours:  how many, then each: hour since 1970, microseconds that were listened
//! counts: how many, then each: hour, kind 1, step of the scale 1, count
//! gaps:   how many, then each: microseconds, end in ms, kind 1, moment in microseconds
//! ```
//!
//! All other numbers are short ones. A record that is not whole adds to those before it; a whole
//! one takes their place, and is part of a checkpoint. Nothing else depends on any of them.

use super::heartbeat::Peer;
use super::heartbeat_gaps::{Gap, GapKind, HOUR_US, LONGEST_GAPS_MAX, is_kept, length_of, step};
use super::{Roles, log_record};
use crate::Time;
use crate::keyspace::Durability;
use crate::turn::Turn;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What was heard of a node in some hours.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Hours {
    /// How long this node has listened, by hour, in microseconds.
    listened_us: BTreeMap<u64, u64>,
    /// How many gaps, by hour, kind and length on the scale.
    counts: BTreeMap<(u64, GapKind, u64), u32>,
    /// The longest gaps, longest first, with the moment of their end in microseconds.
    longest: Vec<(Gap, u64)>,
    /// The longest gap that had to make room: only above it, `longest` is complete.
    dropped_us: u64,
}

impl Hours {
    /// Time has passed in which each heartbeat would have been noted.
    pub(super) fn listened(&mut self, at_us: u64, us: u64) {
        let listened_us = self.listened_us.entry(at_us / HOUR_US).or_default();
        *listened_us = listened_us.saturating_add(us);
    }

    /// A silence has ended.
    pub(super) fn keep(&mut self, at_us: u64, gap: Gap) {
        self.count((at_us / HOUR_US, gap.kind, step(gap.us)), 1);
        self.keep_if_long(at_us, gap);
    }

    fn count(&mut self, entry: (u64, GapKind, u64), more: u32) {
        let count = self.counts.entry(entry).or_default();
        *count = count.saturating_add(more);
    }

    fn keep_if_long(&mut self, at_us: u64, gap: Gap) {
        let place = self.longest.partition_point(|(other, _)| other.us >= gap.us);
        self.longest.insert(place, (gap, at_us));
        if self.longest.len() > LONGEST_GAPS_MAX
            && let Some((dropped, _)) = self.longest.pop()
        {
            self.dropped_us = self.dropped_us.max(dropped.us);
        }
    }

    /// What does not belong to the last day takes no memory.
    pub(super) fn forget_old(&mut self, now_us: u64) {
        self.listened_us.retain(|hour, _| is_kept(now_us, hour.saturating_mul(HOUR_US)));
        self.counts.retain(|(hour, ..), _| is_kept(now_us, hour.saturating_mul(HOUR_US)));
        self.longest.retain(|(_, at_us)| is_kept(now_us, *at_us));
    }

    /// How long this node has listened in the last day, in microseconds.
    pub(super) fn all_listened_us(&self, now_us: u64) -> u64 {
        let hours = self.listened_us.iter();
        let kept = hours.filter(|(hour, _)| is_kept(now_us, hour.saturating_mul(HOUR_US)));
        kept.fold(0, |sum: u64, (_, us)| sum.saturating_add(*us))
    }

    /// The longest gaps of the last day, longest first.
    pub(super) fn longest(&self, now_us: u64) -> impl Iterator<Item = Gap> {
        self.longest.iter().filter(move |(_, at)| is_kept(now_us, *at)).map(|(gap, _)| *gap)
    }

    /// How many gaps of a kind are at least so long: no fewer than, no more than.
    pub(super) fn reaching(&self, now_us: u64, us: u64, kind: GapKind) -> (u64, u64) {
        if us > self.dropped_us {
            let reach = |gap: &Gap| gap.us >= us && gap.kind == kind;
            let exact = self.longest(now_us).filter(reach).count() as u64;
            return (exact, exact);
        }
        let (mut least, mut most) = (0, 0);
        for ((hour, of, length), count) in &self.counts {
            let kept = is_kept(now_us, hour.saturating_mul(HOUR_US));
            if *of != kind || !kept || *length < step(us) {
                continue;
            }
            most += u64::from(*count);
            // Of those on the same step, nobody knows.
            if *length > step(us) || length_of(*length) == us {
                least += u64::from(*count);
            }
        }
        (least, most)
    }

    /// How many hours, counts and gaps it holds.
    #[cfg(test)]
    pub(super) fn entries(&self) -> (usize, usize, usize) {
        (self.listened_us.len(), self.counts.len(), self.longest.len())
    }

    fn is_empty(&self) -> bool {
        self.listened_us.is_empty() && self.counts.is_empty()
    }

    /// Others are added, as far as they belong to the last day.
    fn add(&mut self, now_us: u64, others: &Hours) {
        for (hour, us) in &others.listened_us {
            self.listened(hour.saturating_mul(HOUR_US), *us);
        }
        for (entry, count) in &others.counts {
            self.count(*entry, *count);
        }
        for (gap, at_us) in &others.longest {
            self.keep_if_long(*at_us, *gap);
        }
        self.dropped_us = self.dropped_us.max(others.dropped_us);
        self.forget_old(now_us);
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.short(self.dropped_us);
        w.short(self.listened_us.len() as u64);
        for (hour, us) in &self.listened_us {
            w.short(*hour);
            w.short(*us);
        }
        w.short(self.counts.len() as u64);
        for ((hour, kind, step), count) in &self.counts {
            w.short(*hour);
            w.u8(number_of(*kind));
            w.u8(u8::try_from(*step).unwrap_or(u8::MAX));
            w.short(u64::from(*count));
        }
        w.short(self.longest.len() as u64);
        for (Gap { us, end_ms, kind }, at_us) in &self.longest {
            w.short(*us);
            w.short(*end_ms);
            w.u8(number_of(*kind));
            w.short(*at_us);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Read<Hours> {
        let mut hours = Hours { dropped_us: r.short()?, ..Hours::default() };
        for _ in 0..r.short()? {
            hours.listened_us.insert(r.short()?, r.short()?);
        }
        for _ in 0..r.short()? {
            let entry = (r.short()?, kind_of(r.u8()?)?, u64::from(r.u8()?));
            let count = u32::try_from(r.short()?).map_err(|_| Malformed)?;
            if entry.2 < step(0) {
                return Err(Malformed);
            }
            hours.counts.insert(entry, count);
        }
        for _ in 0..r.short()? {
            let gap = Gap { us: r.short()?, end_ms: r.short()?, kind: kind_of(r.u8()?)? };
            hours.keep_if_long(r.short()?, gap);
        }
        Ok(hours)
    }
}

fn number_of(kind: GapKind) -> u8 {
    match kind {
        GapKind::LeaderPaused => 0,
        GapKind::LeaderRestarted => 1,
        GapKind::NoLeader => 2,
    }
}

fn kind_of(number: u8) -> Read<GapKind> {
    match number {
        0 => Ok(GapKind::LeaderPaused),
        1 => Ok(GapKind::LeaderRestarted),
        2 => Ok(GapKind::NoLeader),
        _ => Err(Malformed),
    }
}

impl Roles {
    /// Writes down what was heard since that was done last, if it is time. It asks for a sync: what
    /// need only be written would make all batches of that second pass through the page cache.
    pub(super) fn write_gaps(&mut self, turn: &mut Turn<'_>) {
        if turn.now.monotonic_us < self.gaps_due_us {
            return;
        }
        self.gaps_due_us = turn.now.monotonic_us.saturating_add(self.timing.gaps_interval_us);
        if let Some(record) = record(&mut self.peers, None) {
            turn.append(&record, Durability::Fsync);
        }
    }

    /// The whole day, as a part of a checkpoint.
    pub(super) fn write_all_gaps(&mut self, turn: &mut Turn<'_>) {
        if let Some(record) = record(&mut self.peers, Some(turn.now)) {
            turn.append(&record, Durability::Fsync);
        }
    }

    /// Takes a record of the log, after its kind.
    pub(super) fn replay_gaps(&mut self, r: &mut Reader<'_>, now: Time) -> Read<()> {
        let is_whole = r.bool()?;
        if is_whole {
            self.peers.iter_mut().for_each(|peer| peer.gaps.day = Hours::default());
        }
        while !r.is_empty() {
            let (node, hours) = (r.node()?, Hours::decode(r)?);
            if let Some(peer) = self.peers.get_mut(usize::from(node.0)) {
                let now_us = peer.gaps.at_us(now);
                peer.gaps.day.add(now_us, &hours);
            }
        }
        Ok(())
    }
}

/// A record of what is not written yet, or of the whole day as of now; `None` where that is
/// nothing. All of it counts as written from here on.
fn record(peers: &mut [Peer], whole: Option<Time>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut w = Writer(&mut bytes);
    w.u8(log_record::GAPS_KIND);
    w.bool(whole.is_some());
    let head = w.0.len();
    for (number, Peer { gaps, .. }) in (0u16..).zip(peers) {
        let mut hours = core::mem::take(&mut gaps.unwritten);
        if let Some(now) = whole {
            let now_us = gaps.at_us(now);
            gaps.day.forget_old(now_us);
            hours.clone_from(&gaps.day);
        }
        if !hours.is_empty() {
            w.u16(number);
            hours.encode(&mut w);
        }
    }
    (bytes.len() > head).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW_US: u64 = 500_000 * HOUR_US + 7;

    fn gap(us: u64, kind: GapKind) -> Gap {
        Gap { us, end_ms: NOW_US / 1_000, kind }
    }

    /// An hour with some gaps, of which the shortest had to make room.
    fn full(at_us: u64) -> Hours {
        let mut hours = Hours::default();
        hours.listened(at_us, HOUR_US / 2);
        for us in 1..=LONGEST_GAPS_MAX as u64 + 3 {
            hours.keep(at_us, gap(us * 300_000, GapKind::LeaderPaused));
        }
        hours.keep(at_us, gap(u64::MAX, GapKind::NoLeader));
        hours
    }

    #[test]
    fn what_is_written_down_comes_back() {
        let hours = full(NOW_US);
        assert!(hours.dropped_us > 0);
        let mut bytes = Vec::new();
        hours.encode(&mut Writer(&mut bytes));
        let mut r = Reader(&bytes);
        assert_eq!(Hours::decode(&mut r), Ok(hours));
        assert!(r.is_empty());
        for length in 0..bytes.len() {
            assert_eq!(Hours::decode(&mut Reader(&bytes[..length])), Err(Malformed), "{length}");
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let (mut whole, mut parts) = (Hours::default(), Hours::default());
        for (n, us) in (0u64..).zip([900, 300, 400, 2_000, 300]) {
            let (at_us, gap) = (NOW_US + n * HOUR_US / 2, gap(us, GapKind::LeaderRestarted));
            let mut part = Hours::default();
            for hours in [&mut whole, &mut part] {
                hours.listened(at_us, 1_000);
                hours.keep(at_us, gap);
            }
            parts.add(NOW_US + 2 * HOUR_US, &part);
        }
        assert_eq!(parts, whole);
        assert_eq!(parts.all_listened_us(NOW_US + 2 * HOUR_US), 5_000);
    }

    #[test]
    fn what_is_older_than_a_day_or_of_another_clock_is_not_taken() {
        for (hours_ago, taken) in [(-9, false), (-1, true), (0, true), (23, true), (24, false)] {
            let at_us = NOW_US.saturating_add_signed(-hours_ago * HOUR_US as i64);
            let mut hours = Hours::default();
            hours.add(NOW_US, &full(at_us));
            assert_eq!(hours.all_listened_us(NOW_US) > 0, taken, "{hours_ago}");
            assert_eq!(hours.longest(NOW_US).count() > 0, taken, "{hours_ago}");
            assert_eq!(hours.entries() != (0, 0, 0), taken, "{hours_ago}");
        }
    }
}
