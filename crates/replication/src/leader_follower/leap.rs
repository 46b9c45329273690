//! Epochs that no group can have reached. An epoch rises by one with each election; one that is
//! ahead by more than all elections of a century is garbage, and to believe it would use the
//! numbers up: at the last one nobody could be elected any more, or two in the same epoch.
//!
//! It is refused wherever a peer says it, before anything is changed, and counted as an epoch that
//! is refused. A peer that leaps again and again, each time by less than the bound, is no garbage
//! but an enemy with the cluster's secret: that is left out.

use super::Group;
use crate::turn::Turn;
use crate::{Event, NodeId};

/// By so much an epoch may be ahead: a thousand elections a second for 34 years.
const LEAP_MAX: u64 = 1 << 40;

/// Whether an epoch that a peer says is no such that a group can have reached, given one that it
/// has.
pub fn is_leap(known: u64, said: u64) -> bool {
    said.saturating_sub(known) > LEAP_MAX
}

impl Group {
    /// Whether a peer says an epoch that cannot be; it is told, if so.
    pub(super) fn refuses_leap(&self, turn: &mut Turn<'_>, from: NodeId, epoch: u64) -> bool {
        let leaps = is_leap(self.epoch, epoch);
        if leaps {
            turn.event(Event::EpochRefused { group: self.id, from, epoch });
        }
        leaps
    }
}
