//! Reads that a follower answers from its own copy (`reads = "follower"`).
//!
//! Such a read may be stale, and no more than that: what a follower shows is always what the log
//! comes to up to some entry, and that entry only moves on, in this process and in the next ones.
//! Whoever has seen a write there sees all that came before it in the group, too (trap A22), and
//! sees it again later. So a follower leaves its reads to the leader
//!
//! - while slots that came with a snapshot contain more than the log has brought to the others;
//! - after a start, until it has applied all that an earlier process may have shown: the log that
//!   it found, less what a leader has cut of it, for only what was there was ever shown; and what
//!   the first leader to say so has said is committed, for it may have been away for long;
//! - while it may have lost entries with its power, and until it has applied what its leader's log
//!   held when the two met.
//!
//! Nothing of this costs the write path anything: it is looked at where a read comes.
//!
//! Left out: a read that is left to the leader may show more than a later one that the follower
//! answers itself, as the leader is ahead of it.

use super::Group;
use crate::keyspace::Reads;
use crate::mutant::Mutant;
use crate::turn::Turn;

/// What a follower must have applied before it answers reads.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// An earlier process may have shown what its log held up to here.
    before: u64,
    /// What a leader was first known to have committed, once that was asked for; at least what it
    /// had when this member might have lost something.
    heard: Option<u64>,
    /// All of it is applied: what is applied is never taken back.
    is_reached: bool,
}

impl Shown {
    /// The node's log is read, and goes up to an index.
    pub(super) fn after_start(last_index: u64) -> Shown {
        Shown { before: last_index, heard: None, is_reached: false }
    }

    /// What this member had shown was perhaps lost, and is back with all up to an index.
    pub(super) fn wait_for(&mut self, index: u64) {
        self.heard = Some(self.heard.unwrap_or(0).max(index));
        self.is_reached = false;
    }
}

impl Group {
    /// Whether this node may answer the keyspace's reads although it does not lead. Not while its
    /// disk is new: it would say "not found" of everything.
    pub fn follower_reads(&mut self, turn: &Turn<'_>) -> bool {
        self.options.reads == Reads::Follower
            && !self.leads()
            && self.is_voter(turn)
            && !self.is_suspect()
            && self.shows_no_slot_early(turn)
            && self.shows_all_again(turn)
    }

    /// Whether no slot contains more than the others.
    fn shows_no_slot_early(&self, turn: &Turn<'_>) -> bool {
        self.state.ahead_of(self.commit).is_none() || turn.local.mutants.is(Mutant::ReadAheadOfLog)
    }

    /// Whether what earlier processes have shown is applied, and what a leader had committed.
    fn shows_all_again(&mut self, turn: &Turn<'_>) -> bool {
        if self.shown.is_reached || turn.local.mutants.is(Mutant::ReadBeforeHeard) {
            return true;
        }
        // A leader that does not know itself what is committed says nothing.
        let heard = Some(self.follower.commit).filter(|commit| *commit > 0);
        self.shown.heard = self.shown.heard.or(heard);
        let Some(heard) = self.shown.heard else { return false };
        // What was cut was never committed, and never shown.
        let before = self.shown.before.min(self.log.last_index());
        self.shown.is_reached = self.commit >= heard.max(before);
        self.shown.is_reached
    }
}
