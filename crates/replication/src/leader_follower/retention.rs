//! How much is on its way to a follower, how far back the log reaches, for whom that is enough, and
//! who is next to be cut off.

use super::leader::Progress;
use super::{Group, Role};
use crate::NodeId;

/// Messages on their way to one follower before the leader waits for its word.
const APPENDS_IN_FLIGHT_MAX: usize = 16;

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

impl Group {
    /// What the log holds, and who is next to be cut off from it.
    pub fn retention(&self) -> Retention {
        let bytes_max = self.limits.log_bytes_max as u64;
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
        Retention { bytes: self.log.bytes() as u64, bytes_max, slowest }
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
    /// Whether more may be on its way. What is larger than the window goes alone.
    pub(super) fn has_window(&self, bytes_max: usize) -> bool {
        let bytes: usize = self.in_flight.iter().map(|(_, bytes)| bytes).sum();
        self.in_flight.len() < APPENDS_IN_FLIGHT_MAX && (bytes < bytes_max)
    }

    /// Up to where the follower is known to have the log.
    fn known(&self) -> u64 {
        self.received.max(self.durable)
    }
}
