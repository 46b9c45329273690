//! What a leader had written and a power cut has taken from its own disk.
//!
//! In an `interval-1s` keyspace a leader acknowledges what its operating system has. If the machine
//! loses its power, the last second is gone: writes that clients were told are done, and that it
//! cannot report, as it has neither them nor any trace of them. What it does report is true, but it
//! may not be all. So such a disk is *torn* in the epoch that it was in, for good: its leadership
//! of that epoch is never heard out (`unheard.rs`), whatever the disk takes in later.
//!
//! Why in that epoch only: a power cut takes an end of the node's log, and a vote or a newer epoch
//! is on disk before anything is said in it. What was written in earlier epochs is in front of
//! that, or, where it was cut, its report is.

use super::LostWrites;
use crate::keyspace::Durability;
use crate::leader_follower::epochs::EPOCHS_MAX;
use crate::leader_follower::{Group, log_record};
use crate::mutant::Mutant;
use crate::turn::Turn;
use alloc::vec::Vec;

impl LostWrites {
    /// Takes from the node's log that the end of an epoch may be missing. As many are kept as
    /// leaderships are remembered: nothing is told of older ones.
    pub(in crate::leader_follower) fn replay_torn(&mut self, epoch: u64) {
        self.torn.insert(epoch);
        if self.torn.len() > EPOCHS_MAX {
            self.torn.pop_first();
        }
    }
}

impl Group {
    /// What was written last and not synced may be gone with the power.
    pub(in crate::leader_follower) fn note_torn(&mut self, turn: &mut Turn<'_>) {
        if !self.lost_writes.torn.contains(&self.epoch) {
            self.lost_writes.replay_torn(self.epoch);
            self.log_record(turn, log_record::Body::Torn(self.epoch), Durability::Fsync);
        }
    }

    /// Whether this disk may lack the end of what it had written in an epoch.
    pub(in crate::leader_follower) fn is_torn(&self, turn: &Turn<'_>, epoch: u64) -> bool {
        self.lost_writes.torn.contains(&epoch) && !turn.local.mutants.is(Mutant::TornHeardOut)
    }

    /// Whether this disk led the newest epoch in its log, and may lack the end of that.
    pub(in crate::leader_follower) fn has_led_torn(&self, turn: &Turn<'_>) -> bool {
        let newest = self.epochs.reign_of(self.log.last().epoch);
        newest.is_some_and(|reign| {
            (reign.leader, reign.incarnation) == (turn.local.me, turn.local.incarnation)
                && self.is_torn(turn, reign.epoch)
        })
    }

    /// Writes down in a checkpoint of which epochs this disk may lack the end.
    pub(super) fn checkpoint_torn(&mut self, turn: &mut Turn<'_>) {
        let epochs: Vec<u64> = self.lost_writes.torn.iter().copied().collect();
        for epoch in epochs {
            self.log_record(turn, log_record::Body::Torn(epoch), Durability::Fsync);
        }
    }
}
