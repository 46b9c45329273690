//! A day of silences: how long this node heard nothing of each other node, so that an operator can
//! try out an election timeout on the past (`TF.REHEARSE`, `trefoil rehearse`).
//!
//! A gap is the time between two heartbeats of one node, as this node has handled them: a stall at
//! either end or in the network looks the same, and would have had the same effect. Only gaps that
//! are longer than heartbeats explain are kept. An election timeout is drawn anew at each sign of
//! the leader, between T and 1.5 T (`leader_follower/election.rs`), so a gap between T and 1.5 T
//! might have started an election, and a gap of 1.5 T or more would have.
//!
//! Memory is bounded: for each node and hour, counts by length on a logarithmic scale; and the
//! longest gaps of the day one by one. Where those are all that a question is about, its answer is
//! exact; else it is a pair of bounds that the scale allows.
//!
//! What was heard goes to the node's log about once a minute, and whole into every checkpoint
//! (`gap_record.rs`): a restart keeps the day but for its last minute. While this node was down it
//! has heard nothing and knows nothing: such time is neither a gap nor counted as listened to. A
//! process counts hours from where the wall clock stood when it started, by its monotonic clock: a
//! clock that is set meanwhile moves nothing, and what would lie more than a day back at a start,
//! or well ahead, is gone.
//!
//! Left out: what a group's own messages say between two heartbeats (they put an election off, too,
//! so the bounds lie on the safe side), and a silence that lasts while this node is restarted.

use super::gap_record::Hours;
use super::{Node, Timing};
use crate::{NodeId, Session, Time};
use alloc::vec::Vec;

/// Gaps that are kept one by one, for each node.
pub const LONGEST_GAPS_MAX: usize = 64;
/// How long gaps are kept, in hours.
pub const HOURS: u64 = 24;
pub(super) const HOUR_US: u64 = 3_600_000_000;
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
    /// What to add to the monotonic clock for microseconds since 1970, as of this process's start.
    since_1970_us: u64,
    /// When the newest heartbeat to this process came, in microseconds of the monotonic clock.
    heard_us: Option<u64>,
    /// Shorter gaps are no silences, in microseconds.
    ignored_us: u64,
    /// Whether it led a group of this node when it was last heard.
    led: bool,
    session: Option<Session>,
    /// The last day.
    pub(super) day: Hours,
    /// What of it is not in the log yet.
    pub(super) unwritten: Hours,
}

impl HeartbeatGaps {
    /// A process starts.
    pub(super) fn start(&mut self, now: Time) {
        self.since_1970_us = now.wall_ms.saturating_mul(1_000).saturating_sub(now.monotonic_us);
    }

    /// A heartbeat has come. `ignored_us`: gaps up to here are what heartbeats are.
    pub(super) fn heard(&mut self, now: Time, session: Session, leads: bool, ignored_us: u64) {
        if let Some(heard_us) = self.heard_us {
            let us = now.monotonic_us.saturating_sub(heard_us);
            let kind = self.kind(self.session == Some(session));
            let gap = (us > ignored_us).then_some(Gap { us, end_ms: now.wall_ms, kind });
            let at_us = self.at_us(now);
            let begins_hour = at_us / HOUR_US != at_us.saturating_sub(us) / HOUR_US;
            for hours in [&mut self.day, &mut self.unwritten] {
                if begins_hour {
                    hours.forget_old(at_us);
                }
                hours.listened(at_us, us);
                if let Some(gap) = gap {
                    hours.keep(at_us, gap);
                }
            }
        }
        (self.heard_us, self.led, self.session) = (Some(now.monotonic_us), leads, Some(session));
        self.ignored_us = ignored_us;
    }

    /// How long this node has listened to the other in the last day, in microseconds.
    pub fn recorded_us(&self, now: Time) -> u64 {
        let silence_us = self.heard_us.map_or(0, |us| now.monotonic_us.saturating_sub(us));
        let listened_us = self.day.all_listened_us(self.at_us(now));
        listened_us.saturating_add(silence_us).min(HOURS * HOUR_US)
    }

    /// Elections of this node that a timeout would have started in gaps of a kind, the silence that
    /// lasts included.
    pub fn elections(&self, now: Time, timeout_us: u64, kind: GapKind) -> Elections {
        let longest_us = Timing::longest_wait_us(timeout_us);
        let at_us = self.at_us(now);
        let mut elections = Elections {
            least: self.day.reaching(at_us, longest_us, kind).0,
            most: self.day.reaching(at_us, timeout_us, kind).1,
        };
        if let Some(gap) = self.silence(now).filter(|gap| gap.kind == kind) {
            elections.least += u64::from(gap.us >= longest_us);
            elections.most += u64::from(gap.us >= timeout_us);
        }
        elections
    }

    /// The longest gaps of the day, longest first, the silence that lasts included.
    pub fn longest(&self, now: Time) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = self.day.longest(self.at_us(now)).collect();
        gaps.extend(self.silence(now));
        gaps.sort_by_key(|gap| core::cmp::Reverse(gap.us));
        gaps
    }

    /// A moment in microseconds since 1970, by the wall clock of this process's start.
    pub(super) fn at_us(&self, now: Time) -> u64 {
        self.since_1970_us.saturating_add(now.monotonic_us)
    }

    /// The silence that lasts, if it is one.
    fn silence(&self, now: Time) -> Option<Gap> {
        let us = now.monotonic_us.saturating_sub(self.heard_us?);
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
}

/// Whether what happened then belongs to the last day, counted in whole hours. What is ahead of it
/// by more than an hour was noted by another clock: nobody knows when it was.
pub(super) fn is_kept(now_us: u64, at_us: u64) -> bool {
    let (now, at) = (now_us / HOUR_US, at_us / HOUR_US);
    at + HOURS > now && at <= now + 1
}

/// The step of the scale that a length is on.
pub(super) fn step(us: u64) -> u64 {
    let doublings = u64::from(us.max(STEPS_PER_DOUBLING).ilog2());
    let rest = us.max(STEPS_PER_DOUBLING) >> (doublings - u64::from(STEPS_PER_DOUBLING.ilog2()));
    doublings * STEPS_PER_DOUBLING + (rest - STEPS_PER_DOUBLING)
}

/// The shortest length on a step.
pub(super) fn length_of(step: u64) -> u64 {
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
        assert_eq!(gaps.day.longest(at(end).monotonic_us).count(), LONGEST_GAPS_MAX);
        assert_eq!(elections(&gaps, end, 400), (10, 10), "the longest ones are known one by one");
        assert_eq!(elections(&gaps, end, 200), (10, 309), "300 ms lies within a step of the scale");
        assert_eq!(elections(&gaps, end, 100), (309, 309));
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let hour = 3_600_000;
        let mut gaps = leader([0, 1_000]);
        for ms in (1_000..=25 * hour + 1_000).step_by(100) {
            if ms == 23 * hour {
                assert_eq!(elections(&gaps, ms, 400), (1, 1));
            }
            gaps.heard(at(ms), process(1), true, IGNORED_US);
        }
        let day = gaps.recorded_us(at(25 * hour + 1_000));
        let of_hours = (HOURS - 1) * HOUR_US..(HOURS - 1) * HOUR_US + 2_000_000;
        assert!(of_hours.contains(&day), "the hour that has begun, and 23 before it: {day}");
        assert_eq!(elections(&gaps, 25 * hour, 400), (0, 0));
        assert!(gaps.longest(at(25 * hour)).iter().all(|gap| gap.us <= 1_000_000));
        gaps.heard(at(26 * hour), process(1), true, IGNORED_US);
        assert_eq!(gaps.day.entries(), (24, 1, 1), "what is older than a day takes no memory");
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
