//! Leaderships that began under a possible loss, and followers that remember what is gone.
//!
//! Everywhere else, what a follower knows to be committed is in every leader's log. A leader that
//! won by another rule than E unsuspected votes (`suspicion.rs`, `operator.rs`) may lack some of
//! it: it opens its epoch with an entry that says so, tells the operator, and in a multi-leader
//! keyspace names its writes anew, as numbers that were lost must not be given again.
//!
//! The epoch of the newest such entry is the log's *history*. A follower whose log has the same
//! one as its leader's agrees with it up to that entry, and no election since has lost anything.
//! Where they differ, it asks whether the newest entry that it knows to be committed is in the
//! leader's log; logs that have an entry in common are the same up to there. If it is not, all
//! that the follower has is replaced by a snapshot, and what was lost is kept aside: the entries
//! that its log still has, and of older ones what the state shows (`lost_writes/parting.rs`).
//!
//! The leader may need that very follower to commit anything. So the snapshot is of what it knows
//! to be committed, be that nothing at all, and its log follows. What the follower drops may be in
//! the rest of that log, which fewer members hold until the follower has it again: until then it
//! is suspect.

use super::entry::{Opener, Payload};
use super::epochs::Epochs;
use super::lost_writes::parting::is_cut;
use super::message::Body;
use super::{Group, Role};
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{Event, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Why a leadership may lack committed entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Too many members may have lost what was not synced.
    Power,
    /// An operator has said that this node is to go on.
    Operator,
}

impl Loss {
    fn text(self) -> &'static str {
        match self {
            Loss::Power => {
                "too many members have lost their power with writes that were not synced; what \
                 all of them had lost is lost"
            }
            Loss::Operator => {
                "an operator has said that it goes on with the disks that are there; what only \
                 the others had is lost"
            }
        }
    }
}

impl Group {
    /// The entry that opens this leader's epoch, and why it may lack something.
    pub(super) fn opening(&self, turn: &Turn<'_>) -> (Payload<'static>, Option<Loss>) {
        let (loss, named, votes) = match &self.role {
            Role::Candidate(candidate) => {
                let loss = candidate.loss(&self.quorum, self.options.failover);
                (loss, candidate.named(), candidate.sound_votes())
            }
            _ => (None, Vec::new(), 0),
        };
        let me = Opener {
            node: turn.local.me,
            incarnation: turn.local.incarnation,
            heard: self.heard_of_newest(),
            may_lack: loss.is_some() || self.may_lack_acknowledged(votes),
            torn: self.has_led_torn(turn),
        };
        let payload = match loss {
            None => Payload::Opening(me),
            // None are named where the voters stay who they are.
            Some(_) => Payload::OpeningAfterLoss(me, named),
        };
        (payload, loss)
    }

    /// Tells that this leader may lack committed entries.
    pub(super) fn tell_loss(&self, turn: &mut Turn<'_>, loss: Loss) {
        let (group, epoch, last) = (self.id, self.epoch, self.log.last());
        let why = Cow::Borrowed(loss.text());
        turn.event(Event::PossibleLoss { group, epoch, last, why });
    }

    /// The newest epoch in this log that began under a possible loss; 0 for none.
    pub fn history(&self) -> u64 {
        self.epochs.history()
    }

    /// Whether this log has an entry, as far as can be told.
    fn has_entry(&self, id: EntryId) -> bool {
        if id == EntryId::default() {
            // What is before the first entry is before that of every log.
            return true;
        }
        if id.index > self.log.last_index() {
            return false;
        }
        match self.log.id_at(id.index) {
            Some(found) => found == id,
            None => self.epochs.reign_at(id.index).is_some_and(|reign| reign.epoch == id.epoch),
        }
    }

    /// Whether what this follower knows to be committed is in the log of its leader, whose history
    /// is given if it is known. If that cannot be told, asks.
    pub(super) fn agrees(
        &mut self,
        turn: &mut Turn<'_>,
        leader: NodeId,
        history: Option<u64>,
    ) -> bool {
        let committed = self.newest_committed();
        if committed.index == 0 || history == Some(self.history()) {
            self.follower.agreed = true;
        }
        if !self.follower.agreed {
            self.say_epoch(turn, leader, Body::AskAgrees { committed });
        }
        self.follower.agreed
    }

    /// The newest entry that this follower knows to be committed. Some slots of a snapshot may
    /// contain more than the log has reached: that no log of another history is known to have, and
    /// the entry is one that there is nowhere.
    fn newest_committed(&self) -> EntryId {
        match self.state.ahead_of(self.commit) {
            Some(index) => EntryId { epoch: 0, index },
            None => self.log.id_at(self.commit).unwrap_or_default(),
        }
    }

    pub(super) fn on_ask_agrees(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        committed: EntryId,
    ) {
        let agrees = self.has_entry(committed);
        let Some(progress) = self.progress_of(turn, from, incarnation) else { return };
        if agrees {
            progress.set_probe_due();
            self.snapshot_is_there(turn, from, incarnation, committed.index);
        } else if progress.snapshot.is_none() {
            self.start_snapshot(turn, from);
        }
        self.say_epoch(turn, from, Body::Agrees { committed, agrees });
    }

    pub(super) fn on_agrees(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        committed: EntryId,
        agrees: bool,
    ) {
        if self.leader != Some(from) || self.newest_committed() != committed {
            return;
        }
        if agrees {
            self.follower.agreed = true;
        } else if !self.follower.agreed && !self.follower.diverged {
            self.follower.diverged = true;
            self.give_snapshot_up();
            turn.event(Event::Alarm(Cow::Borrowed(
                "the new leader lacks entries that this node knew to be committed: what it holds \
                 is replaced by the leader's state",
            )));
        }
    }

    /// A snapshot that ends with `floor` replaces a state that is not the leader's: keeps aside
    /// what the leader's log does not have up to there, and what comes after it, which may or may
    /// not be in the rest of that log: it is decided when that is committed.
    pub(super) fn part_from_history(
        &mut self,
        turn: &mut Turn<'_>,
        floor: EntryId,
        epochs: &Epochs,
    ) {
        let first = self.first_cut(self.log.start().index + 1, floor, epochs);
        if let Some(first) = first {
            self.put_aside_committed(turn, first, |id| is_cut(floor, epochs, id));
        }
        self.become_suspect(turn);
    }

    /// Up to where this log is the same as another one with this floor and these epochs, as far as
    /// can be told: logs that have an entry in common are the same up to there.
    pub(super) fn shared_up_to(&self, floor: EntryId, epochs: &Epochs) -> u64 {
        let mut index = floor.index.min(self.log.last_index());
        while let (Some(ours), Some(theirs)) = (self.epochs.reign_at(index), epochs.reign_at(index))
        {
            if ours.epoch == theirs.epoch {
                return index;
            }
            // Epochs only rise: the later leadership has not begun in the other log before.
            let later = if ours.epoch > theirs.epoch { ours } else { theirs };
            index = later.first_index - 1;
        }
        0
    }

    /// The leader is told that this follower has what a snapshot ends with. Of a snapshot of
    /// nothing a matched index cannot tell.
    pub(super) fn say_has_floor(&mut self, turn: &mut Turn<'_>, leader: NodeId, floor: EntryId) {
        self.match_up_to(floor.index);
        if floor.index == 0 {
            self.say_epoch(turn, leader, Body::AskAgrees { committed: floor });
        }
    }
}
