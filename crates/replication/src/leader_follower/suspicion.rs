//! A member that may have lost what it acknowledged.
//!
//! In an `interval-1s` keyspace an entry counts when the operating system has it, and a machine
//! that loses its power loses the last second. Such a member comes back with its old name and a
//! shorter log: if it voted or acknowledged as before, an election could lose what it had helped to
//! acknowledge (reliability trap A15; DESIGN §6, "Voters"). So it is *suspect*: it says so with its
//! votes, and acknowledges nothing as durable, until it durably has everything that a leader's log
//! held when the two met after its restart, or leads itself.
//!
//! Why that is enough: a leader that E *unsuspected* members elected has every committed entry,
//! for among any E of those is one that helped to commit it and has lost nothing, or has it back
//! from a leader that had it. However many members are suspect at once, this rule loses nothing.
//! It may elect nobody: then the votes of all N members do, suspect or not (with `failover =
//! "available"`, E votes); nobody is left who could have more, but what all have lost is lost, and
//! the leadership says so: it starts under a *possible loss* (`history.rs`).
//!
//! A power cut can leave a member that has just installed a snapshot with slots that contain more
//! than its log, and than anybody's. It stands for no election (`election.rs`), and as a suspect it
//! votes for whoever asks, however short his log: its vote does not decide but where all must vote,
//! or safety does not go first, and there it would only keep the group from ever having a leader.
//! What it alone has is kept aside and reported, as of any other history. Somebody can be voted
//! for: the last leader's log had got beyond its slots before its vote for itself was on disk.
//!
//! The member asks where the leader's log ends, with the number of its own start: an append of the
//! same leader may have been on its way since before the restart, and names too early an end.

use super::log_record;
use super::message::Body;
use super::{Group, Role};
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::turn::Turn;
use crate::{Incarnation, NodeId};

/// Whether a member trusts its own log.
#[derive(Debug, Default)]
pub struct Suspicion {
    /// It may have lost entries that it had acknowledged.
    is_suspect: bool,
    /// How often its process has started.
    boot: u64,
    /// Where the log of this epoch's leader ended when it was asked.
    end: Option<u64>,
}

impl Suspicion {
    /// Takes over what the node's log says.
    pub(super) fn restore(&mut self, is_suspect: bool) {
        self.is_suspect = is_suspect;
    }

    /// Whether it may have lost something.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// A new epoch: its leader must be asked anew.
    pub(super) fn forget_end(&mut self) {
        self.end = None;
    }
}

impl Group {
    /// The node's process starts, for the `boot`th time on its disk. `lost_unsynced`: records
    /// that were written and not synced may be gone.
    pub fn start(&mut self, turn: &mut Turn<'_>, boot: u64, lost_unsynced: bool) {
        self.suspicion.boot = boot;
        // Who has been in no epoch has acknowledged nothing to any leader.
        if lost_unsynced && self.epoch > 0 && self.options.durability == Durability::Interval {
            self.note_torn(turn);
            self.become_suspect(turn);
        }
    }

    /// From now on, this member may lack entries that it has acknowledged.
    pub(super) fn become_suspect(&mut self, turn: &mut Turn<'_>) {
        self.suspicion.end = None;
        if !self.suspicion.is_suspect {
            self.suspicion.is_suspect = true;
            self.log_record(turn, log_record::Body::Suspect(true), Durability::Fsync);
        }
    }

    /// Whether this member may lack entries that it has acknowledged.
    pub fn is_suspect(&self) -> bool {
        self.suspicion.is_suspect
    }

    /// The same, as it tells others.
    pub(super) fn says_suspect(&self, turn: &Turn<'_>) -> bool {
        self.suspicion.is_suspect && !turn.local.mutants.is(Mutant::SuspectVotes)
    }

    /// A leader is heard: asks where its log ends, if that matters and is not known.
    pub(super) fn ask_last(&mut self, turn: &mut Turn<'_>, leader: NodeId) {
        if self.suspicion.is_suspect && self.suspicion.end.is_none() {
            let boot = self.suspicion.boot;
            self.say_epoch(turn, leader, Body::AskLast { boot });
        }
    }

    /// A follower may have lost what it acknowledged: until it says otherwise, it has nothing.
    pub(super) fn on_ask_last(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        boot: u64,
    ) {
        let last = self.log.last_index();
        let Some(progress) = self.progress_of(turn, from, incarnation) else { return };
        progress.durable = 0;
        self.say_epoch(turn, from, Body::Last { boot, last });
    }

    pub(super) fn on_last(&mut self, turn: &mut Turn<'_>, from: NodeId, boot: u64, last: u64) {
        if self.leader == Some(from) && boot == self.suspicion.boot {
            self.suspicion.end.get_or_insert(last);
            self.trust_again(turn);
        }
    }

    /// Ends the suspicion if this log durably holds what the leader's held when they met.
    pub(super) fn trust_again(&mut self, turn: &mut Turn<'_>) {
        let Some(end) = self.suspicion.end.filter(|_| self.suspicion.is_suspect) else { return };
        let durable = self.log.durable_index(turn.local.durable(self.options.durability));
        if matches!(self.role, Role::Follower) && self.follower.matched().min(durable) >= end {
            self.shown.wait_for(end);
            self.end_suspicion(turn);
            self.owe_answer();
        }
    }

    /// This member has nothing to make good any more. The record lies behind the entries that
    /// prove it: if a power cut takes those, it takes the record.
    pub(super) fn end_suspicion(&mut self, turn: &mut Turn<'_>) {
        if self.suspicion.is_suspect {
            self.suspicion.is_suspect = false;
            self.suspicion.end = None;
            let durability = self.options.durability;
            self.log_record(turn, log_record::Body::Suspect(false), durability);
        }
    }
}
