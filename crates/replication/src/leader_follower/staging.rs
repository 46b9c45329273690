//! A snapshot on its way into a follower: no message of it costs more than a piece does.
//!
//! Each piece is checked, put into a state of its own beside the old one, and written into the
//! node's log, as *staged*. The record that closes a snapshot decides: with it on disk, the staged
//! pieces are the group's state, and without it they never were; so a member that crashes has one
//! of the two, whole. The last step is that record and the exchange of the two states. The leader
//! hears of a piece once it is on disk: a quick network does not fill the memory of a node with a
//! slow disk.
//!
//! From the first staged record on, the node's log is held until the snapshot is closed or given
//! up: a checkpoint has images of the old state only. Once a checkpoint that began later has come
//! to its end, the pieces may go, and the log may then begin in the midst of them.

use super::image::{Begin, Image, SnapshotPiece};
use super::log_record::{self, LogRecord};
use super::lost_writes::parting::Parting;
use super::state::State;
use super::{Group, epochs::Epochs};
use crate::keyspace::Durability;
use crate::turn::Turn;
use crate::version::{EntryId, Stamp};
use crate::wire::{Malformed, Read};
use crate::{NodeId, Position};

/// A snapshot that is arriving. It outlives the leader that began it.
pub struct Installing {
    /// Its name.
    pub(super) floor: EntryId,
    /// What came with its first piece.
    pub(super) begin: Begin,
    /// The epoch of the leader that went on with it last.
    pub(super) epoch: u64,
    /// Its first record in the node's log.
    began: Position,
    /// Its newest one.
    newest: Position,
    staged: Staged,
    /// All pieces are there, and what is to be kept aside of the old state is being looked for.
    pub(super) parting: Option<Parting>,
}

/// The pieces of a snapshot as far as they are there, from the first slot on without a gap.
pub struct Staged {
    state: State,
    next_slot: u32,
    newest_stamp: Stamp,
}

impl Installing {
    /// The first slot that is not there yet.
    pub(super) fn next_slot(&self) -> u32 {
        self.staged.next_slot
    }

    /// When this is on disk, so is every piece.
    pub(super) fn newest_record(&self) -> Position {
        self.newest
    }

    /// Whether all pieces are there.
    pub(super) fn is_complete(&self) -> bool {
        self.staged.is_complete()
    }
}

impl Staged {
    /// Nothing yet, of a snapshot for the group with this state.
    pub(super) fn new(old: &State) -> Staged {
        let next_slot = u32::from(old.store.first_slot());
        Staged { state: old.anew(), next_slot, newest_stamp: Stamp::ZERO }
    }

    /// Takes the next piece. After an error, what is there is of no use.
    pub(super) fn take(&mut self, image: &Image<'_>) -> Read<()> {
        let follows = u32::from(image.first_slot) == self.next_slot;
        let last_slot = self.state.store.last_slot();
        if !follows || !(image.first_slot..=last_slot).contains(&image.last_slot) {
            return Err(Malformed);
        }
        self.newest_stamp = self.newest_stamp.max(self.state.install(image)?);
        self.next_slot = u32::from(image.last_slot) + 1;
        Ok(())
    }

    /// Whether all pieces are there.
    pub(super) fn is_complete(&self) -> bool {
        self.next_slot > u32::from(self.state.store.last_slot())
    }

    /// The state that they make.
    pub(super) fn into_state(self) -> State {
        self.state
    }
}

impl Group {
    /// A snapshot begins to arrive; what had arrived of another is given up.
    pub(super) fn begin_installing(&mut self, turn: &mut Turn<'_>, floor: EntryId, begin: Begin) {
        self.give_snapshot_up();
        let began = self.log_record(turn, log_record::Body::SnapshotBegin, Durability::Fsync);
        let staged = Staged::new(&self.state);
        let (epoch, newest) = (self.epoch, began);
        let parting = None;
        self.installing = Some(Installing { floor, begin, epoch, began, newest, staged, parting });
    }

    /// Nothing more comes of the snapshot that was arriving.
    pub(super) fn give_snapshot_up(&mut self) {
        if let Some(begun) = self.installing.take() {
            self.leaving.push(begun.staged.into_state().store);
        }
    }

    /// Takes the next piece of the snapshot that is arriving: it goes into the state beside the
    /// present one, and into the node's log. A malformed one spoils what had arrived before.
    pub(super) fn stage(&mut self, turn: &mut Turn<'_>, piece: &SnapshotPiece<'_>) -> Read<()> {
        let image = &piece.image;
        let Some(installing) = &mut self.installing else { return Err(Malformed) };
        installing.epoch = self.epoch;
        let taken = installing.staged.take(image);
        if taken.is_err() || installing.is_complete() != piece.done {
            self.give_snapshot_up();
            return Err(Malformed);
        }
        let mut head = core::mem::take(&mut turn.local.scratch);
        LogRecord::encode_staged_head(self.id, image, &mut head);
        let position = turn.append_parts(&head, &image.records, Durability::Fsync);
        turn.local.scratch = head;
        self.newest_record = position;
        installing.newest = position;
        Ok(())
    }

    /// All pieces are there: they take the place of the state and the log.
    pub(super) fn close_snapshot(&mut self, turn: &mut Turn<'_>, from: NodeId, epochs: &Epochs) {
        let Some(installing) = self.installing.take() else { return };
        let Installing { floor, begin, staged, .. } = installing;
        let shared = match core::mem::take(&mut self.follower.diverged) {
            true => {
                self.follower.agreed = true;
                self.part_from_history(turn, floor, epochs);
                self.commit
            }
            false => self.shared_up_to(floor, epochs).max(self.commit),
        };
        self.put_aside(turn, shared);
        self.newest_stamp = self.newest_stamp.max(begin.newest).max(staged.newest_stamp);
        let body = log_record::Body::SnapshotEnd {
            floor,
            voters: begin.voters.clone(),
            as_of: begin.voters_as_of,
            covered: begin.covered.clone(),
            epochs: epochs.clone(),
            degraded: begin.degraded.clone(),
            newest: self.newest_stamp,
        };
        let end = self.log_record(turn, body, Durability::Fsync);
        self.replace_state(staged.into_state());
        self.restart_log(floor, end);
        self.covered = begin.covered;
        self.degraded = begin.degraded;
        self.epochs = epochs.clone();
        self.voters.restore(&begin.voters, true, begin.voters_as_of);
        self.find_named_voters();
        // Slots that contain no more than this are ahead of nothing.
        self.state.commit(self.commit);
        self.say_has_floor(turn, from, floor);
        self.decide_lost(turn);
        turn.event(crate::Event::SnapshotInstalled { group: self.id, up_to: self.commit });
    }

    /// Another state takes the place of this one, whose records are freed by and by.
    pub(super) fn replace_state(&mut self, state: State) {
        let mut old = core::mem::replace(&mut self.state, state);
        old.take_replaced().for_each(|store| self.leaving.push(store));
        self.leaving.push(old.store);
    }

    /// From which record on the node's log holds the snapshot that is arriving.
    pub(super) fn staged_from(&self) -> Option<Position> {
        self.installing.as_ref().map(|begun| begun.began)
    }
}
