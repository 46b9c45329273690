//! How much is on its way to a follower, how far back the log reaches, for whom that is enough, and
//! who is next to be cut off.

use super::progress::Progress;
use super::{Group, Role};
use crate::NodeId;
use alloc::vec::Vec;

/// How much of the log is kept in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Bytes of entries.
    pub bytes: u64,
    /// How many there may be before the oldest go; more while a follower gets a snapshot.
    pub bytes_max: u64,
    /// At a leader: the follower that is farthest behind.
    pub slowest: Option<Slowest>,
}

/// The follower that would be cut off first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slowest {
    /// Who.
    pub node: NodeId,
    /// How many bytes may be written until it needs a snapshot: 0 if it does already; `None` if
    /// it has not said yet in this epoch how far it is.
    pub bytes_left: Option<u64>,
}

/// Bytes of the log of a group that nobody follows and nobody pulls from: nothing below the commit
/// index is ever asked for, and what is small stays in the processor's cache.
const UNFOLLOWED_BYTES_MAX: usize = 64 << 10;

impl Group {
    /// Bytes of committed entries that the log keeps.
    pub(super) fn log_bytes_max(&self) -> usize {
        match self.members.len() == 1 && !self.merges() {
            true => self.limits.log_bytes_max.min(UNFOLLOWED_BYTES_MAX),
            false => self.limits.log_bytes_max,
        }
    }

    /// What the log holds, and who is next to be cut off from it.
    pub fn retention(&self) -> Retention {
        let bytes_max = self.log_bytes_max() as u64;
        let slowest = match &self.role {
            Role::Leader(leader) => {
                leader.progress.iter().min_by_key(|(_, progress)| progress.known())
            }
            _ => None,
        };
        let slowest = slowest.map(|(node, progress)| {
            let bytes_left = self.bytes_left(progress, bytes_max);
            Slowest { node: *node, bytes_left }
        });
        Retention { bytes: self.log.bytes(), bytes_max, slowest }
    }

    /// At a leader: each follower, and the bytes of entries that it is not known to have durably;
    /// of the log that is kept.
    pub fn lag_bytes(&self) -> Vec<(NodeId, u64)> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let lag = |progress: &Progress| self.log.bytes_after(progress.durable);
        leader.progress.iter().map(|(node, progress)| (*node, lag(progress))).collect()
    }

    fn bytes_left(&self, progress: &Progress, bytes_max: u64) -> Option<u64> {
        if progress.snapshot.is_some() {
            return Some(0);
        }
        match progress.known() {
            0 => None,
            known if known < self.log.start().index => Some(0),
            known => Some(bytes_max.saturating_sub(self.log.bytes_after(known))),
        }
    }
}

impl Progress {
    /// Up to where the follower is known to have the log.
    fn known(&self) -> u64 {
        self.received.max(self.durable)
    }
}
