//! Checkpoints: the log does not grow for ever.
//!
//! A checkpoint is written into the node's own log, piece by piece, while everything goes on: who
//! this is, what is known of each group, and then images of all records, slot range by slot
//! range. It goes at the pace of the writes, a byte for a byte: a turn that has written much takes
//! up to twice as long for it, and no turn stands still for a checkpoint. A node that nobody writes
//! to goes on with it at its heartbeats. Once the last piece is on disk, what came before the first
//! is not needed any more, except for entries that were not committed when their group's images
//! began, and for a snapshot that was arriving then. That piece says where the log may begin from
//! then on: a log without its beginning is recognised. No group holds up
//! the others: its committed state can always be shown, whatever waits to be committed. But a group
//! whose entries nobody commits holds the log from the first of them on, and the status says so.

use super::Roles;
use super::log_record::{Begin, Identity};
use crate::keyspace::Durability;
use crate::leader_follower::Group;
use crate::turn::Turn;
use crate::{GroupId, Position};
use alloc::collections::VecDeque;

/// A checkpoint begins when the log has grown by so many times what the last one wrote. With 4,
/// each record is written down once more for as many bytes of writes as four of its like have; the
/// log of a large state takes up to seven times the state on disk, and a start reads as much: the
/// newest complete checkpoint, what was written since, and the next one with what is written
/// meanwhile.
const GROWTH_FACTOR: u64 = 4;

/// A piece has so many bytes at least: each costs a look at all that is not committed.
const PIECE_BYTES_MIN: usize = 64 << 10;

/// A group without records costs as much as the so-manyeth part of the largest piece.
const EMPTY_PIECE_SHARE: u64 = 64;

/// The node's checkpoint, at work or not. What is counted of the log is what was written into it
/// besides checkpoints: else one that is larger than the growth which starts one would start the
/// next, for ever.
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
    /// Bytes of all checkpoints of this process.
    all_bytes: u64,
    /// How long the log was when the newest checkpoint began.
    began_at_bytes: u64,
    /// Up to which length of the log the checkpoint at work has kept pace with it.
    paced_bytes: u64,
    /// Bytes of the newest checkpoint.
    bytes: u64,
    /// This process's identity record.
    pub(super) identity: Option<Identity>,
}

impl Roles {
    /// A turn's share of the checkpoint: starts one if it is time, writes pieces if one is at
    /// work.
    pub(super) fn step_checkpoint(&mut self, turn: &mut Turn<'_>) {
        if self.checkpoint.last_piece.is_some() {
            return;
        }
        let log_bytes = turn.local.appended_bytes.saturating_sub(self.checkpoint.all_bytes);
        if self.checkpoint.left.is_empty() {
            let grown = log_bytes.saturating_sub(self.checkpoint.began_at_bytes);
            let enough = self
                .limits
                .checkpoint_bytes
                .max(GROWTH_FACTOR.saturating_mul(self.checkpoint.bytes));
            if grown < enough || !self.begin_checkpoint(turn, log_bytes) {
                return;
            }
        }
        let largest = self.limits.image_bytes_max;
        let mut owed = log_bytes.saturating_sub(self.checkpoint.paced_bytes);
        if owed < PIECE_BYTES_MIN.min(largest) as u64 {
            return;
        }
        while owed > 0 && !self.checkpoint.left.is_empty() {
            let bytes_max = usize::try_from(owed).unwrap_or(largest).min(largest);
            let written = self.write_piece(turn, bytes_max);
            let paid = written.max(largest as u64 / EMPTY_PIECE_SHARE).max(1);
            owed = owed.saturating_sub(paid);
            self.checkpoint.paced_bytes += paid;
        }
    }

    /// A heartbeat interval has passed: the checkpoint at work goes on although nobody writes.
    pub(super) fn urge_checkpoint(&mut self) {
        let piece = self.limits.image_bytes_max as u64;
        self.checkpoint.paced_bytes = self.checkpoint.paced_bytes.saturating_sub(piece);
    }

    /// Writes the next piece of the checkpoint at work; returns its bytes.
    fn write_piece(&mut self, turn: &mut Turn<'_>, bytes_max: usize) -> u64 {
        let Some((id, slot)) = self.checkpoint.left.pop_front() else { return 0 };
        let before = turn.local.appended_bytes;
        let next = match self.groups.get_mut(&id) {
            Some(group) => Some(group.checkpoint_slots(turn, slot, bytes_max)),
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
        self.checkpoint.count(turn.local.appended_bytes - before)
    }

    fn begin_checkpoint(&mut self, turn: &mut Turn<'_>, log_bytes: u64) -> bool {
        let Some(identity) = &self.checkpoint.identity else { return false };
        let before = turn.local.appended_bytes;
        let mut keep_from = turn.append(&identity.encode(), Durability::Fsync);
        self.checkpoint.began = keep_from;
        self.write_all_gaps(turn);
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
        (self.checkpoint.began_at_bytes, self.checkpoint.paced_bytes) = (log_bytes, log_bytes);
        self.checkpoint.bytes = 0;
        self.checkpoint.count(turn.local.appended_bytes - before);
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

impl Checkpoint {
    /// Takes note of bytes of the newest checkpoint.
    fn count(&mut self, bytes: u64) -> u64 {
        self.bytes += bytes;
        self.all_bytes += bytes;
        bytes
    }
}
