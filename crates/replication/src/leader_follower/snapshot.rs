//! Images of the state: as a snapshot for a follower that the log does not reach, and as a
//! checkpoint in the node's own log.
//!
//! Both are taken slot range by slot range while writes go on. Each image says up to which index
//! it is applied, and whoever installs it skips older entries for its slots. A follower gathers the
//! pieces beside its state and switches at the end, all or nothing (`staging.rs`): what it had
//! acknowledged before stays until then. Several pieces are on their way at a time, as many bytes
//! as the follower's window has; one that is lost is sent again, with those behind it.
//!
//! A snapshot is named by its *floor*, the committed entry after which the log goes on. A leader
//! offers one; the follower asks for it, or for the rest of one that has begun to arrive, maybe
//! from another leader, and gets that if this leader's log goes on after its floor. So a snapshot
//! goes on where it stopped after a broken connection, a silence, and a change of leader. A
//! follower whose log has the floor needs no snapshot: it says so, and keeps its log.
//!
//! Left out: the pieces that have arrived do not survive the follower's process.

use super::epochs::Epochs;
use super::image::{Begin, Image, SnapshotPiece};
use super::log_record;
use super::message::Body;
use super::{Group, Role};
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{Event, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How much more log than usual is kept in memory for followers that are sent a snapshot. Beyond
/// it they get another one: a writer that outruns them so far would outrun any bound.
pub const SNAPSHOT_LOG_FACTOR: usize = 8;

/// Pieces that are made at once: each takes a part of a millisecond, in which the leader does
/// nothing else. Every word of the follower lets go so many more, until its window is full.
const PIECES_AT_ONCE_MAX: usize = 2;

/// Bytes of pieces on their way to one follower, as a part of what may be of its log: pieces cost
/// their maker more, and the follower keeps them all.
const SNAPSHOT_WINDOW_SHARE: usize = 4;

/// A snapshot on its way to a follower.
#[derive(Debug)]
pub struct Sending {
    floor: EntryId,
    /// The first slot that the follower lacks, as far as it has said.
    wanted_slot: u32,
    /// The first slot of the next piece.
    next_slot: u32,
    /// The pieces in between: the slot behind each, and its bytes.
    in_flight: VecDeque<(u32, usize)>,
    /// The newest heartbeat round before the last of them: see `progress.rs`.
    sent_round: u64,
    /// Whether the follower has come on since the last tick.
    comes_on: bool,
    /// It has not: one piece at a time, until it does.
    probing: bool,
    /// Whether the follower has said what it wants; until then it is only offered.
    wanted: bool,
    /// What goes with the first piece; nothing where the snapshot was begun by another leader, or
    /// before a silence.
    begin: Option<Begin>,
}

impl Sending {
    fn new(floor: EntryId, next_slot: u32, begin: Option<Begin>) -> Sending {
        Sending {
            floor,
            wanted_slot: next_slot,
            next_slot,
            in_flight: VecDeque::new(),
            sent_round: 0,
            comes_on: true,
            probing: false,
            wanted: false,
            begin,
        }
    }

    /// The follower says which slot it lacks first.
    fn hear(&mut self, slot: u32) {
        if slot < self.wanted_slot || slot > self.next_slot {
            // It has lost what it had, or has had something from somebody else.
            return self.go_on_from(slot);
        }
        self.comes_on |= slot > self.wanted_slot;
        self.probing &= slot == self.wanted_slot;
        self.wanted_slot = slot;
        while self.in_flight.pop_front_if(|(behind, _)| *behind <= slot).is_some() {}
    }

    /// A heartbeat interval has passed, and a round is answered. If the follower has not come on
    /// although everything has arrived, a piece was lost, and those behind it were for nothing.
    pub(super) fn on_tick(&mut self, round: u64) {
        let has_arrived = self.in_flight.is_empty() || round > self.sent_round;
        if has_arrived && !core::mem::take(&mut self.comes_on) {
            self.on_lost();
        }
    }

    /// The connection broke: the pieces on their way are lost.
    pub(super) fn on_lost(&mut self) {
        self.go_on_from(self.wanted_slot);
        self.probing = true;
    }

    /// Bytes of the pieces on their way.
    pub(super) fn bytes_on_way(&self) -> usize {
        self.in_flight.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of the newest piece on its way.
    pub(super) fn newest_bytes(&self) -> usize {
        self.in_flight.back().map_or(0, |(_, bytes)| *bytes)
    }

    fn go_on_from(&mut self, slot: u32) {
        (self.wanted_slot, self.next_slot) = (slot, slot);
        self.in_flight.clear();
    }

    /// Whether another piece may be on its way.
    fn has_room(&self, bytes_max: usize) -> bool {
        self.in_flight.is_empty() || (!self.probing && self.bytes_on_way() < bytes_max)
    }
}

impl Group {
    /// The follower's log ends before this one begins: it can have the state.
    pub(super) fn start_snapshot(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let Some(floor) = self.log.id_at(self.commit) else { return };
        let begin = Begin {
            voters: self.voters.list(),
            voters_as_of: self.voters.as_of(),
            covered: self.covered.clone(),
            degraded: self.degraded.clone(),
            history: self.history(),
            newest: self.newest_stamp,
        };
        let next_slot = u32::from(self.state.store.first_slot());
        let sending = Sending::new(floor, next_slot, Some(begin));
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&node)
        {
            progress.snapshot = Some(sending);
            progress.set_probe_due();
        }
        self.send_snapshot_piece(turn, node, false);
    }

    /// Sends the next pieces as far as the follower's window allows, or asks what it wants: when it
    /// has said something, and at every tick.
    pub(super) fn send_snapshot_piece(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        its_turn: bool,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&node) else { return };
        let Some(sending) = progress.snapshot.as_ref().filter(|_| progress.probe_due) else {
            return;
        };
        if !sending.wanted {
            let floor = sending.floor;
            progress.probe_due = false;
            return self.say_epoch(turn, node, Body::SnapshotOffer { floor });
        }
        let window_bytes_max = self.limits.window_bytes_max / SNAPSHOT_WINDOW_SHARE;
        if sending.has_room(window_bytes_max) && !self.finds_room(turn, node, its_turn) {
            return;
        }
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&node)
        {
            progress.probe_due = false;
        }
        for number in 0..PIECES_AT_ONCE_MAX {
            // One message may go over the window's edge, and no second one.
            if number == 0 || self.is_open(turn, node, its_turn) {
                self.send_next_piece(turn, node);
            }
        }
    }

    fn send_next_piece(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let window_bytes_max = self.limits.window_bytes_max / SNAPSHOT_WINDOW_SHARE;
        let first_of_all = u32::from(self.state.store.first_slot());
        let sending = self.sending_to(node).filter(|sending| sending.has_room(window_bytes_max));
        let Some(sending) = sending else { return };
        let (floor, next_slot) = (sending.floor, sending.next_slot);
        let is_first = next_slot == first_of_all;
        let begin = if is_first { sending.begin.clone() } else { None };
        if next_slot > u32::from(self.state.store.last_slot()) {
            return;
        }
        if is_first && begin.is_none() {
            // The follower has lost what it had of another leader's snapshot.
            return self.start_snapshot(turn, node);
        }
        let first_slot = u16::try_from(next_slot).unwrap_or(u16::MAX);
        let bytes_max = self.limits.image_bytes_max;
        let image = self.image(turn, Vec::new(), first_slot, bytes_max);
        let bytes = image.records.len() + image.once.len();
        let next_slot = u32::from(image.last_slot) + 1;
        let done = image.last_slot == self.state.store.last_slot();
        let epochs = if done { self.epochs.up_to(floor.index) } else { Epochs::default() };
        if let Some(sending) = self.sending_to(node) {
            sending.next_slot = next_slot;
            sending.in_flight.push_back((next_slot, bytes));
            sending.sent_round = turn.local.rounds.newest();
        }
        self.take_share(turn, node, bytes);
        let piece = SnapshotPiece { floor, image, done, begin, epochs };
        self.say_epoch(turn, node, Body::Snapshot(piece));
    }

    fn sending_to(&mut self, node: NodeId) -> Option<&mut Sending> {
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.progress.get_mut(&node)?.snapshot.as_mut()
    }

    /// A follower says what it wants. What it has of an earlier snapshot stays good for as long as
    /// this log goes on after that one's floor: all pieces hold committed state only, and each
    /// says up to which entry, so those of several leaders go together.
    pub(super) fn on_snapshot_wanted(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (floor, history): (EntryId, u64),
        next_slot: u32,
    ) {
        let first_slot = u32::from(self.state.store.first_slot());
        let last_slot = u32::from(self.state.store.last_slot());
        let same_history = history == self.history();
        let reaches = same_history
            && floor.index <= self.commit
            && self.log.id_at(floor.index) == Some(floor);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        let Some(sending) = &mut progress.snapshot else { return };
        if next_slot > last_slot {
            return;
        }
        if sending.floor == floor {
            // Pieces of another history may hold entries beyond their floor that are lost.
            sending.hear(if same_history { next_slot } else { first_slot });
        } else if sending.wanted {
            return;
        } else if reaches {
            *sending = Sending::new(floor, next_slot, None);
            turn.event(Event::SnapshotResumed { group: self.id, node: from, next_slot });
        }
        sending.wanted = true;
        progress.set_probe_due();
        self.send_snapshot_piece(turn, from, false);
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
        let bytes_max = self.log_bytes_max();
        self.log.prune(self.needed_by_snapshots(), bytes_max);
        self.log.prune(self.commit, bytes_max.saturating_mul(SNAPSHOT_LOG_FACTOR));
    }

    fn needed_by_snapshots(&self) -> u64 {
        self.needed_after_snapshots().min(self.commit)
    }

    /// The entry after which somebody needs the log who has a snapshot, or is sent one; the largest
    /// number where nobody does.
    pub(super) fn needed_after_snapshots(&self) -> u64 {
        let Role::Leader(leader) = &self.role else { return u64::MAX };
        let needed = leader.progress.values().filter_map(|progress| match &progress.snapshot {
            Some(sending) => Some(sending.floor.index),
            None => progress.is_catching_up.then_some(progress.received),
        });
        needed.min().unwrap_or(u64::MAX).min(self.needed_after)
    }

    /// The leader's log does not reach this follower's. A snapshot that has begun to arrive goes
    /// on, whoever began it.
    pub(super) fn on_snapshot_offer(&mut self, turn: &mut Turn<'_>, from: NodeId, floor: EntryId) {
        if self.leads() {
            return;
        }
        self.follow(turn, from);
        if !self.follower.diverged && !self.agrees(turn, from, None) {
            return;
        }
        if self.has_floor(floor) {
            return self.say_has_floor(turn, from, floor);
        }
        match &self.installing {
            Some(_) => self.say_wanted(turn, from),
            None => self.say_all_wanted(turn, from, floor),
        }
    }

    /// Whether this log, or the state under it, has a committed entry of the leader's: then the
    /// logs agree up to it, what follows may agree, too, and nothing of either is replaced.
    fn has_floor(&self, floor: EntryId) -> bool {
        !self.follower.diverged
            && (floor.index <= self.commit.max(self.follower.matched())
                || self.log.id_at(floor.index) == Some(floor))
    }

    /// The log has got beyond a snapshot that was arriving.
    pub(super) fn forget_snapshot_below(&mut self, index: u64) {
        if self.installing.as_ref().is_some_and(|begun| begun.floor.index <= index) {
            self.give_snapshot_up();
        }
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
        let is_late = self.has_floor(piece.floor);
        if is_late && !turn.local.mutants.is(Mutant::OldSnapshotTaken) {
            return self.say_has_floor(turn, from, piece.floor);
        }
        let epoch = self.epoch;
        // A later leader that does not go on with what has begun may offer an earlier floor, or
        // the same one of another history.
        let other = self.installing.as_ref().is_none_or(|begun| {
            let begin = piece.begin.as_ref();
            let parted = begin.is_some_and(|begin| begin.history != begun.begin.history);
            begun.floor.index < piece.floor.index
                || ((parted || begun.floor != piece.floor) && begun.epoch < epoch)
        });
        if other {
            let Some(begin) = piece.begin.clone() else {
                return self.say_all_wanted(turn, from, piece.floor);
            };
            match &mut self.installing {
                Some(begun) if turn.local.mutants.is(Mutant::SnapshotsMix) => {
                    (begun.floor, begun.begin, begun.epoch) = (piece.floor, begin, epoch);
                }
                _ => self.begin_installing(turn, piece.floor, begin),
            }
        }
        self.take_piece(turn, from, &piece);
    }

    /// A piece of the snapshot that is arriving, or of one that was: the first that is lacking is
    /// taken.
    fn take_piece(&mut self, turn: &mut Turn<'_>, from: NodeId, piece: &SnapshotPiece<'_>) {
        let is_next = self.installing.as_ref().is_some_and(|begun| {
            begun.floor == piece.floor && begun.next_slot() == u32::from(piece.image.first_slot)
        });
        if is_next && self.stage(turn, piece).is_err() {
            return turn.event(Event::Alarm(Cow::Borrowed("a malformed snapshot piece")));
        }
        let Some(begun) = &self.installing else { return };
        if begun.is_complete() {
            return self.end_installing(turn, from, &piece.epochs);
        }
        self.say_wanted(turn, from);
    }

    /// Says which piece is the next, once those before it are on disk.
    fn say_wanted(&self, turn: &mut Turn<'_>, to: NodeId) {
        let Some(begun) = &self.installing else { return };
        let (floor, next_slot) = (begun.floor, begun.next_slot());
        let history = begun.begin.history;
        let body = Body::SnapshotWanted { floor, history, next_slot };
        let kept = begun.newest_record().max(self.epoch_position);
        turn.send_when_durable(kept, Durability::Fsync, to, self.message(body));
    }

    /// Asks for a snapshot of which nothing is there.
    fn say_all_wanted(&self, turn: &mut Turn<'_>, to: NodeId, floor: EntryId) {
        let next_slot = u32::from(self.state.store.first_slot());
        self.say_epoch(turn, to, Body::SnapshotWanted { floor, history: 0, next_slot });
    }

    fn image(
        &self,
        turn: &Turn<'_>,
        buffer: Vec<u8>,
        first_slot: u16,
        bytes_max: usize,
    ) -> Image<'static> {
        let mut image = self.state.image_in(buffer, first_slot, bytes_max, self.commit);
        if turn.local.mutants.is(Mutant::OnceForgottenInImages) {
            image.once = Cow::Borrowed(&[]);
        }
        image
    }

    /// Begins a checkpoint: writes down what is known besides records and entries.
    pub fn begin_checkpoint(&mut self, turn: &mut Turn<'_>) {
        let commit = EntryId { epoch: 0, index: self.commit };
        let floor = self.log.id_at(self.commit).unwrap_or(commit);
        let body = log_record::Body::Checkpoint {
            epoch: self.epoch,
            voted_for: self.voted_for,
            voters: self.voters.list(),
            born: self.voters.is_born(),
            as_of: self.voters.as_of(),
            floor,
            covered: self.covered.clone(),
            epochs: self.epochs.up_to(floor.index),
            degraded: self.degraded.clone(),
            suspect: self.suspicion.is_suspect(),
            newest: self.newest_stamp,
        };
        self.log_record(turn, body, Durability::Fsync);
        self.checkpoint_lost(turn);
    }

    /// Writes the image of the slots from `first_slot` on, of about so many bytes; returns the next
    /// slot to go on with, which is beyond the last when done.
    pub fn checkpoint_slots(
        &mut self,
        turn: &mut Turn<'_>,
        first_slot: u16,
        bytes_max: usize,
    ) -> u32 {
        let buffer = core::mem::take(&mut turn.local.records);
        let image = self.image(turn, buffer, first_slot, bytes_max);
        let mut head = core::mem::take(&mut turn.local.scratch);
        log_record::LogRecord::encode_image_head(self.id, &image, &mut head);
        // The checkpoint is complete when its last piece is on disk, whenever that is: where writes
        // do not wait for the disk, they do not wait for pieces either.
        self.newest_record = turn.append_parts(&head, &image.records, self.options.durability);
        turn.local.scratch = head;
        turn.local.records = image.records.into_owned();
        u32::from(image.last_slot) + 1
    }
}
