//! A leader that stands still is worse than none: nobody replaces it while its heartbeats go out.
//!
//! A disk that does not answer is noticed by the age of the oldest record that it was given (trap
//! A17): the leader hands over to the follower that has most of the log, or steps down where
//! nobody can take over, and stands for no election while it lasts. A process that did not run
//! for longer than an election takes steps down at once: others may have elected somebody.
//!
//! Where this node's own vote is needed for every election (C = 1), nobody can have taken over
//! from a process that stood still; and a group of one has nobody to hand over to.

use super::transfer::{By, Order};
use super::{Group, Role};
use crate::mutant::Mutant;
use crate::turn::Turn;
use alloc::borrow::Cow;
use alloc::format;

impl Group {
    /// How long this node's disk has not answered, in microseconds, if that is too long.
    pub(super) fn stalled_for_us(&self, turn: &Turn<'_>) -> Option<u64> {
        if self.members.len() == 1 || turn.local.mutants.is(Mutant::StallIgnored) {
            return None;
        }
        let since_us = turn.local.unkept_since_us(self.options.durability)?;
        let stalled_us = turn.now.monotonic_us.saturating_sub(since_us);
        (stalled_us > self.options.disk_stall_ms.saturating_mul(1000)).then_some(stalled_us)
    }

    /// A leader's look at its own disk, once a tick.
    pub(super) fn mind_disk(&mut self, turn: &mut Turn<'_>) {
        let Some(stalled_us) = self.stalled_for_us(turn) else { return };
        if !self.leads() || self.is_handing_over() {
            return;
        }
        let why = format!("its disk has not answered for {} ms", stalled_us / 1000);
        match self.successor(turn.now.monotonic_us, |_| true) {
            Some(to) => {
                self.hand_over(turn, Order { to, why: Cow::Owned(why), by: By::StalledDisk });
            }
            None => self.step_down(turn, Cow::Owned(why)),
        }
    }

    /// The process did not run for a while.
    pub fn on_stood_still(&mut self, turn: &mut Turn<'_>, gap_us: u64) {
        let matters = gap_us > self.timing.election_timeout_us && self.quorum.commit > 1;
        if matters && matches!(self.role, Role::Leader(_)) {
            let why = format!("its process stood still for {} ms", gap_us / 1000);
            self.step_down(turn, Cow::Owned(why));
        }
    }
}
