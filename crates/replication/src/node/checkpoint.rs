//! Checkpoints: the log does not grow for ever.
//!
//! A checkpoint is written into the node's own log, a piece a turn, while everything goes on: who
//! this is, what is known of each group, and then images of all records, slot range by slot
//! range. Once the last piece is on disk, what came before the first is not needed any more,
//! except for entries that were not committed when their group's images began. That piece says where
//! the log may begin from then on: a log without its beginning is recognised. No group holds up
//! the others: its committed state can always be shown, whatever waits to be committed. But a group
//! whose entries nobody commits holds the log from the first of them on, and the status says so.

use super::Roles;
use super::log_record::{Begin, Identity};
use crate::keyspace::Durability;
use crate::leader_follower::Group;
use crate::turn::Turn;
use crate::{GroupId, Position};
use alloc::collections::VecDeque;

/// The node's checkpoint, at work or not.
#[derive(Default)]
pub struct Checkpoint {
    /// What is left to write: a group, and the slot to go on with.
    left: VecDeque<(GroupId, u16)>,
    /// The newest checkpoint's first record.
    began: Position,
    /// The first record that is needed once all is written and on disk.
    keep_from: Position,
    /// When the last piece is on disk, the checkpoint is complete.
    last_piece: Option<Position>,
    /// How many bytes the log had grown by when the newest checkpoint began, and what that one has
    /// written itself since: else a checkpoint that is larger than the growth which starts one
    /// would start the next, for ever.
    began_at_bytes: u64,
    /// Bytes of the newest checkpoint.
    bytes: u64,
    /// This process's identity record.
    pub(super) identity: Option<Identity>,
}

impl Roles {
    /// A turn's share of the checkpoint: starts one if it is time, writes a piece if one is at
    /// work.
    pub(super) fn step_checkpoint(&mut self, turn: &mut Turn<'_>) {
        if self.checkpoint.last_piece.is_some() {
            return;
        }
        if self.checkpoint.left.is_empty() {
            let grown = turn.local.appended_bytes.saturating_sub(self.checkpoint.began_at_bytes);
            // Twice as much as the last one wrote, at the least: of three bytes that a large
            // state's log grows by, one at most is a checkpoint's.
            let enough = self.limits.checkpoint_bytes.max(2 * self.checkpoint.bytes);
            if grown < enough || !self.begin_checkpoint(turn) {
                return;
            }
        }
        let before = turn.local.appended_bytes;
        self.write_piece(turn);
        let written = turn.local.appended_bytes - before;
        self.checkpoint.bytes += written;
        self.checkpoint.began_at_bytes += written;
    }

    /// Writes the next piece of the checkpoint at work.
    fn write_piece(&mut self, turn: &mut Turn<'_>) {
        let Some((id, slot)) = self.checkpoint.left.pop_front() else { return };
        let bytes_max = self.limits.image_bytes_max;
        let next = match self.groups.get_mut(&id) {
            Some(group) => Some(group.checkpoint_slots(turn, slot)),
            None => self.leaderless.get_mut(&id.keyspace).and_then(|leaderless| {
                let next = leaderless.image(turn, id, slot, bytes_max);
                next.map(u32::from)
            }),
        };
        if let Some(next) = next.filter(|next| *next <= u32::from(self.last_slot_of(id))) {
            self.checkpoint.left.push_front((id, next as u16));
        }
        if self.checkpoint.left.is_empty() {
            let begin = Begin { keep_from: self.checkpoint.keep_from };
            self.checkpoint.last_piece = Some(turn.append(&begin.encode(), Durability::Fsync));
        }
    }

    fn begin_checkpoint(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(identity) = &self.checkpoint.identity else { return false };
        let mut keep_from = turn.append(&identity.encode(), Durability::Fsync);
        self.checkpoint.began = keep_from;
        for group in self.groups.values_mut() {
            keep_from = keep_from.min(group.first_needed().unwrap_or(keep_from));
            group.begin_checkpoint(turn);
        }
        let groups = self.placement.keys().filter(|id| {
            self.groups.contains_key(id)
                || self.leaderless.get(&id.keyspace).is_some_and(|held| held.holds(**id))
        });
        let left = groups.map(|id| (*id, self.first_slot_of(*id))).collect();
        self.checkpoint.left = left;
        self.checkpoint.keep_from = keep_from;
        self.checkpoint.began_at_bytes = turn.local.appended_bytes;
        self.checkpoint.bytes = 0;
        true
    }

    /// The log is kept further: if that includes the last piece, what is old may go.
    pub(super) fn finish_checkpoint(&mut self, turn: &mut Turn<'_>) {
        if self.checkpoint.last_piece.is_some_and(|last| last <= turn.local.synced) {
            self.checkpoint.last_piece = None;
            turn.effects.truncate(self.checkpoint.keep_from);
        }
    }

    /// Records in front of the newest checkpoint that are kept for a group alone: from the first of
    /// its entries on that were not committed then, and are not now.
    pub(super) fn records_held_by(&self, group: &Group) -> u64 {
        let began = self.checkpoint.began.0;
        group.first_needed().map_or(0, |position| began.saturating_sub(position.0))
    }

    /// The last slot of a group.
    pub(super) fn last_slot_of(&self, id: GroupId) -> u16 {
        let keyspace = self.cluster.keyspace(id.keyspace);
        keyspace.map_or(0, |keyspace| keyspace.slots_of(id.partition).1)
    }

    fn first_slot_of(&self, id: GroupId) -> u16 {
        let keyspace = self.cluster.keyspace(id.keyspace);
        keyspace.map_or(0, |keyspace| keyspace.slots_of(id.partition).0)
    }
}
