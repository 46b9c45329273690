//! Proof that a log's newest batch was on disk.
//!
//! Each batch says up to where the log was on disk before it, so damage to what is on disk is told
//! from a write that a power failure has torn (`storage/log.rs`). The newest batch has none behind
//! it: the end of a log that has come to rest could be damaged unseen, and what it alone had
//! acknowledged with others would be missing without an alarm. So a log that rests gets one record
//! more, which says nothing and proves what is in front of it; its own loss costs nothing. A log
//! that is closed gets it at once, from the driver.

use super::{Roles, log_record};
use crate::Position;
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::turn::Turn;

/// How long a log has been on disk as a whole, with nothing appended, before it is marked: long
/// enough that a busy log never is, and a log that is written once in a while at most doubles its
/// writes.
pub const RESTS_AFTER_US: u64 = 200_000;

/// The record.
pub const IDLE_MARK: &[u8] = &[log_record::IDLE_MARK_KIND];

/// What is known of the log's rest.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// The newest record when it was looked at last, all of it on disk.
    newest: Position,
    /// When that was seen first.
    since_us: u64,
    /// The newest mark.
    mark: Position,
}

impl Roles {
    /// Marks the log if it has come to rest. Looked at with every heartbeat.
    pub(super) fn mark_resting_log(&mut self, turn: &mut Turn<'_>) {
        let (newest, now_us) = (turn.local.last_position, turn.now.monotonic_us);
        let rest = &mut self.rest;
        if newest == rest.mark || turn.local.synced < newest {
            return;
        }
        if newest != rest.newest {
            (rest.newest, rest.since_us) = (newest, now_us);
        } else if now_us.saturating_sub(rest.since_us) >= RESTS_AFTER_US
            && !turn.local.mutants.is(Mutant::RestUnmarked)
        {
            rest.mark = turn.append(IDLE_MARK, Durability::Fsync);
        }
    }
}
