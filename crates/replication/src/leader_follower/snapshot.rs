//! Images of the state: as a snapshot for a follower that the log does not reach, and as a
//! checkpoint in the node's own log.
//!
//! Both are taken slot range by slot range while writes go on. Each image says up to which index
//! it is applied, and whoever installs it skips older entries for its slots. A follower keeps the
//! pieces in memory and switches at the end, all or nothing: what it had acknowledged before
//! stays until then.
//!
//! Left out: a snapshot starts anew when the leader changes; the matching part of the follower's
//! log is not kept.

use super::degrade_ledger::Ledger;
use super::epochs::Epochs;
use super::log_record;
use super::message::{Body, Image, SnapshotPiece, VoterSet};
use super::replication_log::ReplicationLog;
use super::{Group, Role};
use crate::keyspace::Durability;
use crate::turn::Turn;
use crate::version::{EntryId, VersionVector};
use crate::{Event, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// How much more log than usual is kept in memory for followers that are sent a snapshot. Beyond
/// it they get another one: a writer that outruns them so far would outrun any bound.
const SNAPSHOT_LOG_FACTOR: usize = 8;

/// A snapshot on its way to a follower.
#[derive(Debug)]
pub struct Sending {
    snapshot: u64,
    floor: EntryId,
    next_slot: u32,
    voters: VoterSet,
    covered: VersionVector,
    epochs: Epochs,
    degraded: Ledger,
}

/// A snapshot that is arriving.
pub struct Installing {
    snapshot: u64,
    next_slot: u32,
    images: Vec<Image<'static>>,
}

impl Group {
    /// The follower's log ends before this one begins: it gets the state.
    pub(super) fn start_snapshot(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let Some(floor) = self.log.id_at(self.commit) else { return };
        let sending = Sending {
            snapshot: turn.local.random.next_u64(),
            floor,
            next_slot: u32::from(self.state.store.first_slot()),
            voters: self.voters.list(),
            covered: self.covered.clone(),
            epochs: self.epochs.up_to(floor.index),
            degraded: self.degraded.clone(),
        };
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&node)
        {
            progress.snapshot = Some(sending);
        }
        self.send_snapshot_piece(turn, node);
    }

    /// Sends the piece that the follower wants; the same again at every tick until it is there.
    pub(super) fn send_snapshot_piece(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let bytes_max = self.limits.image_bytes_max;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&node) else { return };
        if !progress.take_probe_due() {
            return;
        }
        let Some(sending) = &progress.snapshot else { return };
        let first_slot = u16::try_from(sending.next_slot).unwrap_or(u16::MAX);
        let Some(image) = self.state.image(first_slot, bytes_max, self.commit) else { return };
        let done = image.last_slot == self.state.store.last_slot();
        let piece = SnapshotPiece {
            snapshot: sending.snapshot,
            floor: sending.floor,
            done,
            image,
            voters: sending.voters.clone(),
            covered: sending.covered.clone(),
            epochs: if done { sending.epochs.clone() } else { Epochs::default() },
            degraded: if done { sending.degraded.clone() } else { Ledger::default() },
        };
        self.say_epoch(turn, node, Body::Snapshot(piece));
    }

    pub(super) fn on_snapshot_wanted(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        snapshot: u64,
        next_slot: u32,
    ) {
        let last_slot = u32::from(self.state.store.last_slot());
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if let Some(sending) = &mut progress.snapshot
            && sending.snapshot == snapshot
            && next_slot <= last_slot
        {
            sending.next_slot = next_slot;
            progress.set_probe_due();
            self.send_snapshot_piece(turn, from);
        }
    }

    /// The follower has matched up to an index: if that is where its snapshot ends, the log goes
    /// on.
    pub(super) fn snapshot_is_there(
        &mut self,
        turn: &Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        received: u64,
    ) {
        if let Some(progress) = self.progress_of(turn, from, incarnation)
            && let Some(sending) = &progress.snapshot
            && received >= sending.floor.index
        {
            progress.go_on_after(received);
        }
    }

    /// Forgets what the log no longer needs: all that is committed, but not what a follower needs
    /// after its snapshot, within a bound.
    pub(super) fn prune_as_leader(&mut self) {
        let bytes_max = self.limits.log_bytes_max;
        self.log.prune(self.needed_by_snapshots(), bytes_max);
        self.log.prune(self.commit, bytes_max.saturating_mul(SNAPSHOT_LOG_FACTOR));
    }

    fn needed_by_snapshots(&self) -> u64 {
        let Role::Leader(leader) = &self.role else { return self.commit };
        let needed = leader.progress.values().filter_map(|progress| match &progress.snapshot {
            Some(sending) => Some(sending.floor.index),
            None => progress.is_catching_up.then_some(progress.received),
        });
        needed.min().unwrap_or(u64::MAX).min(self.commit)
    }

    pub(super) fn on_snapshot(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        piece: SnapshotPiece<'_>,
    ) {
        if self.leads() {
            return;
        }
        self.follow(turn, from);
        if !self.follower.diverged && !self.agrees(turn, from, None) {
            return;
        }
        // A late piece must not take the place of a longer log that was acknowledged since.
        if !self.follower.diverged && piece.floor.index <= self.commit.max(self.follower.matched())
        {
            return self.match_up_to(piece.floor.index);
        }
        let first_slot = u32::from(self.state.store.first_slot());
        let known = self.installing.as_ref().map(|installing| installing.snapshot);
        if known != Some(piece.snapshot) {
            let snapshot = piece.snapshot;
            self.installing =
                Some(Installing { snapshot, next_slot: first_slot, images: Vec::new() });
        }
        let Some(installing) = &mut self.installing else { return };
        if u32::from(piece.image.first_slot) == installing.next_slot {
            installing.next_slot = u32::from(piece.image.last_slot) + 1;
            installing.images.push(piece.image.clone().into_owned());
            if piece.done {
                return self.install_snapshot(turn, &piece);
            }
        }
        let (snapshot, next_slot) = (installing.snapshot, installing.next_slot);
        self.say_epoch(turn, from, Body::SnapshotWanted { snapshot, next_slot });
    }

    /// All pieces are there: they replace the state and the log, in the node's log at once.
    fn install_snapshot(&mut self, turn: &mut Turn<'_>, last: &SnapshotPiece<'_>) {
        let Some(installing) = self.installing.take() else { return };
        if core::mem::take(&mut self.follower.diverged) {
            self.follower.agreed = true;
            self.part_from_history(turn, &last.epochs);
        }
        self.put_aside(turn, self.commit);
        let begin = log_record::Body::SnapshotBegin {
            floor: last.floor,
            voters: last.voters.clone(),
            covered: last.covered.clone(),
            epochs: last.epochs.clone(),
            degraded: last.degraded.clone(),
        };
        self.log_record(turn, begin, Durability::Fsync);
        self.state.reset();
        for image in &installing.images {
            let record =
                log_record::Body::Image(Image { records: Cow::Borrowed(&image.records), ..*image });
            self.log_record(turn, record, Durability::Fsync);
            match self.state.install(image) {
                Ok(newest) => self.newest_stamp = self.newest_stamp.max(newest),
                Err(_) => turn.event(Event::Alarm(Cow::Borrowed("a malformed snapshot piece"))),
            }
        }
        let end = self.log_record(turn, log_record::Body::SnapshotEnd, Durability::Fsync);
        self.log = ReplicationLog::starting_after(last.floor, end);
        self.commit = last.floor.index;
        self.covered = last.covered.clone();
        self.epochs = last.epochs.clone();
        self.degraded = last.degraded.clone();
        self.voters.restore(&last.voters, true);
        self.match_up_to(last.floor.index);
        self.decide_lost(turn);
        turn.event(Event::SnapshotInstalled { group: self.id, up_to: self.commit });
    }

    /// Whether an image of the state could be taken now.
    pub fn can_be_imaged(&self) -> bool {
        self.log.id_at(self.commit).is_some()
            && self.state.image(self.state.store.last_slot(), 0, self.commit).is_some()
    }

    /// Begins a checkpoint: writes down what is known besides records and entries.
    pub fn begin_checkpoint(&mut self, turn: &mut Turn<'_>) {
        let Some(floor) = self.log.id_at(self.commit) else { return };
        let body = log_record::Body::Checkpoint {
            epoch: self.epoch,
            voted_for: self.voted_for,
            voters: self.voters.list(),
            born: self.voters.is_born(),
            floor,
            covered: self.covered.clone(),
            epochs: self.epochs.up_to(floor.index),
            degraded: self.degraded.clone(),
            suspect: self.suspicion.is_suspect(),
        };
        self.log_record(turn, body, Durability::Fsync);
        self.checkpoint_lost(turn);
    }

    /// Writes the image of the slots from `first_slot` on; returns the next slot to go on with,
    /// which is beyond the last when done, or `None` while the state cannot be imaged.
    pub fn checkpoint_slots(&mut self, turn: &mut Turn<'_>, first_slot: u16) -> Option<u32> {
        let bytes_max = self.limits.image_bytes_max;
        let image = self.state.image(first_slot, bytes_max, self.commit)?;
        let next = u32::from(image.last_slot) + 1;
        self.log_record(turn, log_record::Body::Image(image), Durability::Fsync);
        Some(next)
    }
}
