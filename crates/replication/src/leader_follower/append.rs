//! Entries into a leader's log. They are applied at once, sent to the followers at the end of the
//! turn, and written into the node's log then, all together.

use super::entry::{Entry, Once, Origin, Payload};
use super::log_record::LogRecord;
use super::{Group, Role};
use crate::Event;
use crate::mutant::Mutant;
use crate::turn::{Asker, Turn};
use crate::version::{EntryId, Stamp};
use alloc::boxed::Box;

impl Group {
    /// Appends an entry of this leader: to the log, and to the state.
    pub fn append(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Option<Origin>,
        payload: Payload<'_>,
    ) -> EntryId {
        let stamp = self.next_stamp(turn);
        self.append_entry(turn, stamp, origin, false, None, payload)
    }

    /// The same for a client's command, with a stamp that was taken before, because the payload's
    /// records carry it.
    pub fn append_for_asker(
        &mut self,
        turn: &mut Turn<'_>,
        stamp: Stamp,
        origin: Option<Origin>,
        payload: Payload<'_>,
    ) -> EntryId {
        self.append_entry(turn, stamp, origin, true, None, payload)
    }

    /// A stamp larger than every one in this group's log, and not before the wall clock. The group
    /// has no part in the stamps of others: a node whose clock is wrong spoils what it leads, and
    /// nothing else.
    pub fn next_stamp(&self, turn: &Turn<'_>) -> Stamp {
        self.newest_stamp.next().max(Stamp::at(turn.now.wall_ms))
    }

    /// Takes note of a stamp that a write will have seen.
    pub fn observe(&mut self, stamp: Stamp) {
        self.newest_stamp = self.newest_stamp.max(stamp);
    }

    /// The same with everything said. `for_asker`: for the client whose command is carried out.
    pub fn append_entry(
        &mut self,
        turn: &mut Turn<'_>,
        stamp: Stamp,
        origin: Option<Origin>,
        for_asker: bool,
        once: Option<Box<Once<'_>>>,
        payload: Payload<'_>,
    ) -> EntryId {
        let id = self.next_id();
        let asker = turn.local.asker.as_ref().filter(|_| for_asker).map(Asker::borrowed);
        let entry = Entry { id, stamp, origin, asker, once, payload };
        self.log.append(entry.room(), |bytes| entry.encode(bytes));
        self.epochs.note(&entry);
        self.newest_stamp = self.newest_stamp.max(stamp);
        if let Some(origin) = &entry.origin {
            self.covered_by_log.advance(origin.dot);
        }
        if let Payload::Covers(vector) = &entry.payload {
            self.covered_by_log.merge(vector);
        }
        for key in self.state.apply(&entry, true) {
            turn.effects.event(&Event::ConflictResolved { keyspace: self.id.keyspace, key });
        }
        if turn.local.mutants.is(Mutant::OwnCopyCountsEarly) {
            self.count_copies(turn);
        }
        id
    }

    /// The id that the next entry of this leader will have.
    pub fn next_id(&self) -> EntryId {
        EntryId { epoch: self.epoch, index: self.log.last_index() + 1 }
    }

    /// Whether the leader may append: not while too much is uncommitted.
    pub fn has_room(&self) -> bool {
        let uncommitted = self.log.last_index().saturating_sub(self.commit);
        let bytes_max = self.limits.uncommitted_bytes_max;
        // Mostly the whole log has fewer bytes than that.
        uncommitted < self.limits.uncommitted_entries_max as u64
            && (self.log.bytes() < bytes_max || self.log.bytes_after(self.commit) < bytes_max)
    }

    /// The same for a write of a client: nor while too many replies wait. Where more acks are
    /// wanted than make a write committed, they may wait for a follower that is gone for long.
    pub fn takes_write(&self) -> bool {
        let held = match &self.role {
            Role::Leader(leader) => leader.held.counts().0,
            _ => 0,
        };
        self.has_room() && held < self.limits.waiting_commands_max
    }

    /// Writes the entries that have no record yet into the node's log: a turn's entries are a
    /// record or two, however many they are. Before, none of them counts as a copy of this node.
    pub(super) fn record_entries(&mut self, turn: &mut Turn<'_>) {
        self.log_acknowledged(turn);
        while let Some((run, last)) = self.log.unrecorded() {
            let mut head = core::mem::take(&mut turn.local.scratch);
            self.bytes_since_commit = self.bytes_since_commit.saturating_add(run.len());
            LogRecord::encode_head(self.id, run.len(), &mut head);
            let position = turn.append_parts(&head, run, self.options.durability);
            turn.local.scratch = head;
            self.log.record_up_to(last, position);
            self.newest_record = position;
        }
    }

    /// The turn ends, or has ended: its entries are written down.
    pub fn record_turn(&mut self, turn: &mut Turn<'_>) {
        if self.log.recorded() != self.log.last_index() {
            self.record_entries(turn);
            self.release_received(turn);
        }
    }
}
