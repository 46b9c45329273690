//! After a restart: the group as the node's log has it.
//!
//! Records come in the order in which they were written. What is committed among the entries is
//! known from images (which hold committed state only) and from records that say so now and then:
//! it is applied then, and kept only as far as followers are served from memory. Of the rest a
//! leader tells. That rest is little, so that it is no long step to apply it, to lead with it, or
//! to cut it. A log whose beginning was dropped after a checkpoint starts with entries that are
//! followed by the checkpoint they belong to.

use super::Group;
use super::entry::{Entry, Head, Payload};
use super::epochs::Epochs;
use super::follower_reads::Shown;
use super::image::Image;
use super::log_record::{Body, LogRecord};
use super::reading::Reading;
use super::replication_log::ReplicationLog;
use super::replication_log::run::Bodies;
use super::staging::Staged;
use crate::Position;
use crate::keyspace::Durability;
use crate::turn::Turn;
use crate::version::{EntryId, VersionVector};
use crate::wire::{Malformed, Read};

impl Group {
    /// Takes a record of this group from the node's log.
    pub fn replay(&mut self, position: Position, record: LogRecord<'_>) -> Read<()> {
        match record.body {
            Body::Entries(run) => self.replay_entries(position, &run)?,
            Body::Cut { last_kept } => self.replay_cut(last_kept)?,
            Body::Vote { epoch, voted_for } => {
                self.epoch = epoch;
                self.voted_for = voted_for;
            }
            Body::Voters { voters, born, as_of } => self.voters.restore(&voters, born, as_of),
            Body::Checkpoint {
                epoch,
                voted_for,
                voters,
                born,
                as_of,
                floor,
                covered,
                epochs,
                degraded,
                suspect,
                newest,
            } => {
                self.newest_stamp = self.newest_stamp.max(newest);
                self.reading.lacks_pieces = false;
                self.suspicion.restore(suspect);
                self.epoch = epoch;
                self.voted_for = voted_for;
                self.voters.restore(&voters, born, as_of);
                self.covered.merge(&covered);
                self.anchor(floor, position);
                self.epochs = epochs;
                self.degraded = degraded;
                self.note_openings(floor.index);
                self.name_start();
                self.apply_known()?;
            }
            Body::Image(image) => self.replay_image(&image)?,
            Body::CutEntry(bytes) => self.lost_writes.replay_kept(&bytes)?,
            Body::CutFate { id, fate } => self.lost_writes.replay_fate(id, fate),
            Body::Acknowledged(range) => self.lost_writes.acknowledged.replay(range),
            Body::AcknowledgedAll { after, epoch } => {
                self.lost_writes.acknowledged.replay_all(after, epoch);
            }
            Body::GivenUp(count) => self.lost_writes.replay_given_up(count),
            Body::Torn(epoch) => self.lost_writes.replay_torn(epoch),
            Body::SnapshotBegin => self.reading.staged = Some(Staged::new(&self.state)),
            Body::Staged(image) => {
                if let Some(staged) = &mut self.reading.staged {
                    staged.take(&image)?;
                }
            }
            Body::SnapshotEnd { floor, voters, as_of, covered, epochs, degraded, newest } => {
                self.newest_stamp = self.newest_stamp.max(newest);
                self.replay_staged(floor);
                self.restart_log(floor, position);
                self.reading.begin_after(floor.index);
                self.covered = covered;
                self.epochs = epochs;
                self.degraded = degraded;
                self.voters.restore(&voters, true, as_of);
            }
            Body::Committed(index) => self.replay_committed(index)?,
            Body::Suspect(suspect) => self.suspicion.restore(suspect),
            Body::Forget => self.forget_all(),
        }
        Ok(())
    }

    fn replay_image(&mut self, image: &Image<'_>) -> Read<()> {
        self.commit = self.commit.max(image.applied);
        self.apply_known()?;
        let newest = self.state.install(image)?;
        self.newest_stamp = self.newest_stamp.max(newest);
        self.reading.image((image.first_slot, image.last_slot), image.applied);
        // Slots that contain no more than this are ahead of nothing.
        self.state.commit(self.reading.applied());
        Ok(())
    }

    fn replay_committed(&mut self, index: u64) -> Read<()> {
        self.commit = self.commit.max(index);
        self.apply_known()
    }

    fn replay_entries(&mut self, position: Position, run: &[u8]) -> Read<()> {
        for body in Bodies::of(run) {
            self.replay_entry(body?)?;
        }
        self.log.record_up_to(self.log.last_index(), position);
        Ok(())
    }

    fn replay_entry(&mut self, body: &[u8]) -> Read<()> {
        let entry = Entry::decode_to_apply(body)?;
        // A checkpoint in the part that a later one has superseded may name a floor whose entries
        // are gone: what follows begins anew, and the later checkpoint covers it.
        let superseded = self.log.is_empty() && entry.id.index > self.log.last_index() + 1;
        if !self.reading.anchored || superseded {
            let start = EntryId { epoch: 0, index: entry.id.index.saturating_sub(1) };
            self.log = ReplicationLog::starting_after(start, Position(0));
            self.reading.begin_after(start.index);
        }
        if entry.id.index != self.log.last_index() + 1 {
            return Err(Malformed);
        }
        self.newest_stamp = self.newest_stamp.max(entry.stamp);
        self.epoch = self.epoch.max(entry.id.epoch);
        self.log.append(body.len(), |bytes| bytes.extend_from_slice(body));
        self.epochs.note(&entry);
        Ok(())
    }

    /// The epochs that a checkpoint remembers end at its floor: what opens one behind it is in the
    /// log.
    fn note_openings(&mut self, floor: u64) {
        for index in floor + 1..=self.log.last_index() {
            let Some(body) = self.log.get(index) else { return };
            if Head::of(body).is_ok_and(|head| head.is_of_epochs())
                && let Ok(entry) = Entry::decode(body)
            {
                self.epochs.note(&entry);
            }
        }
    }

    /// A log that begins in front of its checkpoint does not say which entry is in front of it; the
    /// epochs do. Logs are compared by it: a start that nobody can name is in no other log.
    fn name_start(&mut self) {
        let start = self.log.start();
        if start.epoch == 0
            && let Some(reign) = self.epochs.reign_at(start.index)
        {
            self.log.name_start(EntryId { epoch: reign.epoch, ..start });
        }
    }

    fn replay_cut(&mut self, last_kept: u64) -> Read<()> {
        if self.reading.has_applied_above(last_kept) {
            return Err(Malformed);
        }
        self.log.cut_above(last_kept);
        self.epochs.cut(last_kept);
        self.voters.cut(self.log.last());
        if last_kept < self.log.start().index {
            // The log's beginning was dropped in the midst of a tail that was cut later: nothing
            // of it is left, and the checkpoint that allowed it is still to come.
            self.log = ReplicationLog::default();
            self.reading.begin_anew();
        }
        Ok(())
    }

    /// A checkpoint names the entry before which everything is in images: the log goes back to it
    /// where it goes back to anything.
    fn anchor(&mut self, floor: EntryId, position: Position) {
        if !self.reading.anchored || self.log.last_index() < floor.index {
            self.log = ReplicationLog::starting_after(floor, position);
            self.reading.begin_after(floor.index);
        }
        self.commit = self.commit.max(floor.index);
    }

    /// A snapshot is closed: what is staged is the state. Where its first pieces were dropped from
    /// the log's beginning, a checkpoint with all of it follows.
    fn replay_staged(&mut self, floor: EntryId) {
        let staged = self.reading.staged.take().filter(Staged::is_complete);
        self.reading.lacks_pieces = staged.is_none();
        self.reading.replace(self.slots(), staged.as_ref().map(|_| floor.index));
        self.state = staged.map_or_else(|| self.state.anew(), Staged::into_state);
    }

    /// The log goes on after a snapshot's floor, and has nothing else.
    pub(super) fn restart_log(&mut self, floor: EntryId, position: Position) {
        self.log = ReplicationLog::starting_after(floor, position);
        (self.commit, self.recorded_commit) = (floor.index, floor.index);
    }

    /// As if the node's disk had never known the group.
    pub(super) fn forget_all(&mut self) {
        self.state.reset();
        self.covered = VersionVector::default();
        self.epochs = Epochs::default();
        self.degraded = super::degrade_ledger::Ledger::default();
        self.lost_writes = super::lost_writes::LostWrites::default();
        self.voters = super::voters::Voters::default();
        self.suspicion.restore(false);
        self.log = ReplicationLog::default();
        (self.epoch, self.voted_for, self.commit) = (0, None, 0);
        self.recorded_commit = 0;
        self.newest_stamp = crate::version::Stamp::ZERO;
        self.reading = Reading::default();
    }

    fn slots(&self) -> (u16, u16) {
        (self.state.store.first_slot(), self.state.store.last_slot())
    }

    /// Applies what is known to be committed so far, and forgets what is not kept for followers:
    /// all entries since the oldest image would be many times the state.
    fn apply_known(&mut self) -> Read<()> {
        let target = self.commit.min(self.log.last_index());
        for index in self.reading.applied() + 1..=target {
            self.apply_read(index)?;
        }
        self.reading.apply_up_to(target);
        self.state.commit(target);
        self.log.prune(target, self.log_bytes_max());
        Ok(())
    }

    /// Applies an entry that is in memory, and known to be committed.
    fn apply_read(&mut self, index: u64) -> Read<()> {
        let Some(body) = self.log.get(index) else { return Err(Malformed) };
        let entry = Entry::decode_to_apply(body)?;
        self.state.apply(&entry, false);
        // Nobody waits for this node yet, and it may have no room for several states.
        drop(self.state.take_replaced());
        if let Some(origin) = &entry.origin {
            self.covered.advance(origin.dot);
        }
        match entry.payload {
            Payload::Voter(node, disk) => self.voters.admit(entry.id, node, disk),
            Payload::Covers(vector) => self.covered.merge(&vector),
            Payload::Degrade(note) => self.degraded.take(entry.id, entry.stamp, note),
            Payload::OpeningAfterLoss(_, voters) => self.voters.replace(entry.id, &voters),
            Payload::Opening(_) | Payload::HeardOut(_) | Payload::Changes(_) | Payload::Clear => {}
        }
        Ok(())
    }

    /// All records are read: applies the rest of what is known to be committed.
    pub fn finish_recovery(&mut self) -> Read<()> {
        if self.reading.lacks_pieces || !self.reading.is_complete(self.slots()) {
            return Err(Malformed);
        }
        let start = self.log.start().index;
        self.commit = self.commit.min(self.log.last_index()).max(start);
        self.apply_known()?;
        self.reading = Reading::default();
        self.find_named_voters();
        self.recorded_commit = self.commit;
        self.lost_writes.acknowledged.finish_recovery(self.epoch, self.commit);
        self.shown = Shown::after_start(self.log.last_index());
        Ok(())
    }

    /// Writes down how far the log is committed, when it has grown by as much as a piece of an
    /// image. Nobody waits for it.
    pub(super) fn record_commit(&mut self, turn: &mut Turn<'_>) {
        if self.bytes_since_commit >= self.limits.image_bytes_max {
            self.record_commit_now(turn);
        }
    }

    /// The same, however little it has grown.
    pub(super) fn record_commit_now(&mut self, turn: &mut Turn<'_>) {
        if self.commit <= self.recorded_commit {
            return;
        }
        (self.recorded_commit, self.bytes_since_commit) = (self.commit, 0);
        let mut bytes = core::mem::take(&mut turn.local.scratch);
        let body = Body::Committed(self.commit);
        LogRecord { group: self.id, body }.encode(&mut bytes);
        turn.append(&bytes, Durability::Interval);
        turn.local.scratch = bytes;
    }

    /// The newest stamp in the group's log.
    pub fn newest_stamp(&self) -> crate::version::Stamp {
        self.newest_stamp
    }
}
