//! When something is to be done for an operation that nothing happens to: one queue for each
//! delay, which is in order because time is. Most operations are over long before; their entries
//! are thrown away when they come to the front.

use alloc::collections::{BTreeSet, VecDeque};

/// After so long an unanswered replica is asked again, in microseconds.
pub(super) const RETRANSMIT_US: u64 = 100_000;

/// After so long the replicas that a read has not asked are asked in place of those that are
/// slow, in microseconds.
pub(super) const HEDGE_US: u64 = 10_000;

/// The moments, each with an operation's number.
#[derive(Default)]
pub(super) struct Timers {
    hedges: VecDeque<(u64, u64)>,
    again: VecDeque<(u64, u64)>,
    /// Deadlines that come before the next time to ask again.
    deadlines: BTreeSet<(u64, u64)>,
}

/// What has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// A read goes to the other replicas, too.
    Hedge(u64),
    /// Who has not answered is asked again.
    Again(u64),
    /// It is given up.
    Deadline(u64),
}

impl Timers {
    /// Looks after an operation until its deadline: it is asked for again in time.
    pub(super) fn start(&mut self, now_us: u64, deadline_us: u64, operation: u64) {
        let again_us = now_us.saturating_add(RETRANSMIT_US);
        if deadline_us <= again_us {
            self.deadlines.insert((deadline_us, operation));
        } else {
            self.again.push_back((again_us, operation));
        }
    }

    /// Looks after a read that has not asked everybody.
    pub(super) fn start_hedge(&mut self, now_us: u64, operation: u64) {
        self.hedges.push_back((now_us.saturating_add(HEDGE_US), operation));
    }

    /// The next thing that has come.
    pub(super) fn due(&mut self, now_us: u64) -> Option<Due> {
        let come = |front: &mut (u64, u64)| front.0 <= now_us;
        if let Some((_, operation)) = self.hedges.pop_front_if(come) {
            return Some(Due::Hedge(operation));
        }
        if let Some((_, operation)) = self.again.pop_front_if(come) {
            return Some(Due::Again(operation));
        }
        let (at_us, operation) = *self.deadlines.first()?;
        if at_us > now_us {
            return None;
        }
        self.deadlines.pop_first();
        Some(Due::Deadline(operation))
    }

    /// Forgets operations that are over, as far as they stand at the front.
    pub(super) fn trim(&mut self, is_over: impl Fn(u64) -> bool) {
        let over = |front: &mut (u64, u64)| is_over(front.1);
        while self.hedges.pop_front_if(over).is_some() {}
        while self.again.pop_front_if(over).is_some() {}
        while self.deadlines.first().is_some_and(|(_, operation)| is_over(*operation)) {
            self.deadlines.pop_first();
        }
    }

    /// When the first of them comes.
    pub(super) fn next_at_us(&self) -> u64 {
        let hedge = self.hedges.front().map_or(u64::MAX, |(at_us, _)| *at_us);
        let again = self.again.front().map_or(u64::MAX, |(at_us, _)| *at_us);
        let deadline = self.deadlines.first().map_or(u64::MAX, |(at_us, _)| *at_us);
        hedge.min(again).min(deadline)
    }
}
