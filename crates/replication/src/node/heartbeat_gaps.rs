//! A day of silences: how long this node heard nothing of each other node, so that an operator can
//! try out an election timeout on the past (`TF.REHEARSE`, `trefoil rehearse`).
//!
//! A gap is the time between two heartbeats of one node, as this node has handled them: a stall at
//! either end or in the network looks the same, and would have had the same effect. Only gaps that
//! are longer than heartbeats explain are kept. An election timeout is drawn anew at each sign of
//! the leader, between T and 2T (`leader_follower/election.rs`), so a gap between T and 2T might
//! have started an election, and a gap of 2T or more would have.
//!
//! Memory is bounded: for each node and hour, counts by length on a logarithmic scale; and the
//! longest gaps of the day one by one. Where those are all that a question is about, its answer is
//! exact; else it is a pair of bounds that the scale allows.
//!
//! Left out: what a group's own messages say between two heartbeats (they put an election off, too,
//! so the bounds lie on the safe side), and gaps of an earlier process: a restart forgets them.

use super::{Node, Timing};
use crate::{NodeId, Session, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Gaps that are kept one by one, for each node.
pub const LONGEST_GAPS_MAX: usize = 64;
/// How long gaps are kept, in hours.
pub const HOURS: u64 = 24;
const HOUR_US: u64 = 3_600_000_000;
/// Counts for each doubling of the length: neighbours differ by a quarter or less.
const STEPS_PER_DOUBLING: u64 = 4;

/// A silence that has ended, or that lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// How long, in microseconds.
    pub us: u64,
    /// When it ended (or was asked for), in milliseconds since 1970.
    pub end_ms: u64,
    /// What it was.
    pub kind: GapKind,
}

/// What a silence was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GapKind {
    /// The node led a group of this node, and was there all the time: a failover is needless.
    LeaderPaused,
    /// The node led a group of this node, and came back as another process: a failover is needed.
    LeaderRestarted,
    /// The node led nothing that this node follows in: no failover at all.
    NoLeader,
}

/// Elections that a timeout would have started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Elections {
    /// So many gaps reach the longest wait that is drawn from it.
    pub least: u64,
    /// So many gaps reach the timeout.
    pub most: u64,
}

/// What this node has heard of another in the last day.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatGaps {
    /// When the first heartbeat came, in microseconds of the monotonic clock.
    since_us: Option<u64>,
    heard_us: u64,
    /// Shorter gaps are no silences, in microseconds.
    ignored_us: u64,
    /// Whether it led a group of this node when it was last heard.
    led: bool,
    session: Option<Session>,
    /// How many gaps, by hour, kind and length on the scale.
    counts: BTreeMap<(u64, GapKind, u64), u32>,
    /// The longest gaps, longest first, with the moment of their end in microseconds.
    longest: Vec<(Gap, u64)>,
    /// The longest gap that had to make room: only above it, `longest` is complete.
    dropped_us: u64,
}

impl HeartbeatGaps {
    /// A heartbeat has come. `ignored_us`: gaps up to here are what heartbeats are.
    pub(super) fn heard(&mut self, now: Time, session: Session, leads: bool, ignored_us: u64) {
        let now_us = now.monotonic_us;
        if self.since_us.is_none() {
            self.since_us = Some(now_us);
        } else {
            let us = now_us.saturating_sub(self.heard_us);
            if us > ignored_us {
                let kind = self.kind(self.session == Some(session));
                self.keep(now_us, Gap { us, end_ms: now.wall_ms, kind });
            }
        }
        (self.heard_us, self.led, self.session) = (now_us, leads, Some(session));
        self.ignored_us = ignored_us;
    }

    /// How long this node has listened to the other, in microseconds: a day at most.
    pub fn recorded_us(&self, now_us: u64) -> u64 {
        self.since_us.map_or(0, |since| now_us.saturating_sub(since).min(HOURS * HOUR_US))
    }

    /// Elections of this node that a timeout would have started in gaps of a kind, the silence that
    /// lasts included.
    pub fn elections(&self, now: Time, timeout_us: u64, kind: GapKind) -> Elections {
        let longest_us = Timing::longest_wait_us(timeout_us);
        let mut elections = Elections {
            least: self.reaching(now, longest_us, kind).0,
            most: self.reaching(now, timeout_us, kind).1,
        };
        if let Some(gap) = self.silence(now).filter(|gap| gap.kind == kind) {
            elections.least += u64::from(gap.us >= longest_us);
            elections.most += u64::from(gap.us >= timeout_us);
        }
        elections
    }

    /// The longest gaps of the day, longest first, the silence that lasts included.
    pub fn longest(&self, now: Time) -> Vec<Gap> {
        let mut gaps: Vec<Gap> =
            self.longest.iter().filter(|(_, at)| is_kept(now, *at)).map(|(gap, _)| *gap).collect();
        gaps.extend(self.silence(now));
        gaps.sort_by_key(|gap| core::cmp::Reverse(gap.us));
        gaps
    }

    /// The silence that lasts, if it is one.
    fn silence(&self, now: Time) -> Option<Gap> {
        self.since_us?;
        let us = now.monotonic_us.saturating_sub(self.heard_us);
        if us <= self.ignored_us {
            return None;
        }
        Some(Gap { us, end_ms: now.wall_ms, kind: self.kind(true) })
    }

    fn kind(&self, same_process: bool) -> GapKind {
        match (self.led, same_process) {
            (true, true) => GapKind::LeaderPaused,
            (true, false) => GapKind::LeaderRestarted,
            (false, _) => GapKind::NoLeader,
        }
    }

    fn keep(&mut self, now_us: u64, gap: Gap) {
        let hour = now_us / HOUR_US;
        let first = hour.saturating_sub(HOURS - 1);
        self.counts = self.counts.split_off(&(first, GapKind::LeaderPaused, 0));
        let count = self.counts.entry((hour, gap.kind, step(gap.us))).or_default();
        *count = count.saturating_add(1);
        self.longest.retain(|(_, at)| *at / HOUR_US >= first);
        let place = self.longest.partition_point(|(other, _)| other.us >= gap.us);
        self.longest.insert(place, (gap, now_us));
        if self.longest.len() > LONGEST_GAPS_MAX
            && let Some((dropped, _)) = self.longest.pop()
        {
            self.dropped_us = self.dropped_us.max(dropped.us);
        }
    }

    /// How many gaps of a kind are at least so long: no fewer than, no more than.
    fn reaching(&self, now: Time, us: u64, kind: GapKind) -> (u64, u64) {
        if us > self.dropped_us {
            let reach = |gap: &Gap, at: u64| gap.us >= us && gap.kind == kind && is_kept(now, at);
            let exact = self.longest.iter().filter(|(gap, at)| reach(gap, *at)).count() as u64;
            return (exact, exact);
        }
        let (mut least, mut most) = (0, 0);
        for ((hour, of, length), count) in &self.counts {
            if *of != kind || !is_kept(now, hour * HOUR_US) || *length < step(us) {
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
}

/// Whether what happened then belongs to the last day, counted in whole hours.
fn is_kept(now: Time, at_us: u64) -> bool {
    at_us / HOUR_US + HOURS > now.monotonic_us / HOUR_US
}

/// The step of the scale that a length is on.
fn step(us: u64) -> u64 {
    let doublings = u64::from(us.max(STEPS_PER_DOUBLING).ilog2());
    let rest = us.max(STEPS_PER_DOUBLING) >> (doublings - u64::from(STEPS_PER_DOUBLING.ilog2()));
    doublings * STEPS_PER_DOUBLING + (rest - STEPS_PER_DOUBLING)
}

/// The shortest length on a step.
fn length_of(step: u64) -> u64 {
    let (doublings, rest) = (step / STEPS_PER_DOUBLING, step % STEPS_PER_DOUBLING);
    (STEPS_PER_DOUBLING + rest) << (doublings - u64::from(STEPS_PER_DOUBLING.ilog2()))
}

impl Node {
    /// What this node has heard of another; `None` if it never listened to it.
    pub fn heartbeat_gaps(&self, node: NodeId) -> Option<&HeartbeatGaps> {
        Some(&self.roles.peers.get(usize::from(node.0))?.gaps)
    }

    /// The groups of this node that another node leads, each with E, the votes that an election of
    /// another leader would need.
    pub fn follows_in(&self, leader: NodeId) -> Vec<(crate::GroupId, usize)> {
        let groups = self.roles.groups.values();
        let led = groups.filter(|group| group.leader() == Some(leader) && leader != self.local.me);
        led.map(|group| (group.id, group.quorum.election)).collect()
    }

    /// The node's intervals and timeouts.
    pub fn timing(&self) -> super::Timing {
        self.roles.timing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;

    const IGNORED_US: u64 = 200_000;

    fn at(ms: u64) -> Time {
        Time { monotonic_us: ms * 1_000, wall_ms: 1_000_000 + ms }
    }

    fn process(boot: u64) -> Session {
        Session { incarnation: Incarnation(1), boot }
    }

    /// Heartbeats of a leader at these moments, in milliseconds.
    fn leader(moments: impl IntoIterator<Item = u64>) -> HeartbeatGaps {
        let mut gaps = HeartbeatGaps::default();
        moments.into_iter().for_each(|ms| gaps.heard(at(ms), process(1), true, IGNORED_US));
        gaps
    }

    fn elections(gaps: &HeartbeatGaps, now_ms: u64, timeout_ms: u64) -> (u64, u64) {
        let found = gaps.elections(at(now_ms), timeout_ms * 1_000, GapKind::LeaderPaused);
        (found.least, found.most)
    }

    #[test]
    fn a_wait_is_drawn_between_the_timeout_and_one_and_a_half_of_it() {
        let gaps = leader([0, 100, 200, 900, 1_000, 1_100]);
        assert_eq!(elections(&gaps, 1_150, 701), (0, 0));
        assert_eq!(elections(&gaps, 1_150, 700), (0, 1), "the draw might be as short as that");
        assert_eq!(elections(&gaps, 1_150, 468), (0, 1));
        assert_eq!(elections(&gaps, 1_150, 466), (1, 1), "no draw is longer than that");
        let longest = gaps.longest(at(1_150));
        assert_eq!((longest[0].us, longest[0].end_ms), (700_000, 1_000_900));
        assert_eq!(longest.len(), 1, "the time between two heartbeats is no silence");
    }

    #[test]
    fn the_silence_that_lasts_counts() {
        let gaps = leader([0, 100]);
        assert_eq!(elections(&gaps, 550, 500), (0, 0));
        assert_eq!(elections(&gaps, 600, 500), (0, 1));
        assert_eq!(elections(&gaps, 850, 500), (1, 1));
    }

    #[test]
    fn restarts_and_nodes_that_lead_nothing_are_told_apart() {
        let mut gaps = leader([0]);
        gaps.heard(at(5_000), process(2), false, IGNORED_US);
        gaps.heard(at(9_000), process(2), true, IGNORED_US);
        let count = |kind| gaps.elections(at(9_000), 500_000, kind).least;
        assert_eq!(count(GapKind::LeaderRestarted), 1, "it led when it fell silent");
        assert_eq!(count(GapKind::NoLeader), 1);
        assert_eq!(count(GapKind::LeaderPaused), 0);
    }

    #[test]
    fn beyond_the_longest_gaps_the_answer_is_a_pair_of_bounds() {
        // 300 gaps of 300 ms, 10 of 900 ms.
        let moments = (0..300).map(|n| n * 300).chain((1..=10).map(|n| 299 * 300 + n * 900));
        let gaps = leader(moments);
        let end = 299 * 300 + 9_000;
        assert_eq!(gaps.longest.len(), LONGEST_GAPS_MAX);
        assert_eq!(elections(&gaps, end, 400), (10, 10), "the longest ones are known one by one");
        assert_eq!(elections(&gaps, end, 200), (10, 309), "300 ms lies within a step of the scale");
        assert_eq!(elections(&gaps, end, 100), (309, 309));
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let hour = 3_600_000;
        let mut gaps = leader([0, 1_000]);
        for ms in (1..=25 * 36_000).map(|n| 1_000 + n * 100) {
            gaps.heard(at(ms), process(1), true, IGNORED_US);
        }
        let day = gaps.recorded_us(25 * hour * 1_000 + 1_000_000);
        assert_eq!(day, HOURS * HOUR_US);
        assert_eq!(elections(&gaps, 23 * hour, 400), (1, 1));
        assert_eq!(elections(&gaps, 25 * hour, 400), (0, 0));
        assert!(gaps.longest(at(25 * hour)).iter().all(|gap| gap.us <= 1_000_000));
        gaps.heard(at(26 * hour), process(1), true, IGNORED_US);
        assert_eq!(gaps.counts.len(), 1, "what is older than a day takes no memory");
    }

    #[test]
    fn the_scale_has_no_holes() {
        let lengths = (0..20_000u64).chain((20..63).flat_map(|n| [(1u64 << n) - 1, 1 << n]));
        for us in lengths {
            let lower = length_of(step(us));
            assert!(lower <= us.max(STEPS_PER_DOUBLING), "{us}");
            assert!(length_of(step(us) + 1) > us, "{us}");
        }
    }
}
