//! Committed entries that are lost after all, and that the log does not have: so old that it has
//! them no more, or so new that it does not have them yet, as a snapshot has brought them before.
//! What they wrote is in the state, where nothing has written over it.
//!
//! The snapshot that is to replace that state is there already, and waits: each turn looks at some
//! records, and then writes some of what it has found into the node's log, so that no step costs a
//! walk over everything. Meanwhile the state stands still, as a follower whose leader lacks what it
//! has takes nothing in. If that leader goes, nothing has happened: what is kept aside by then is
//! found in the next leader's log, or put aside again.

use super::report::{LostChange, LostWrite, NOT_KNOWN, OVERHEAD_BYTES, Status, What};
use super::{Group, KEPT_BYTES_MAX};
use crate::leader_follower::Role;
use crate::leader_follower::epochs::Epochs;
use crate::storage::record::Record;
use crate::turn::{Asker, Turn};
use crate::version::EntryId;
use crate::{ClientId, Event, NodeId};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The next records are looked at so much later, in microseconds: others have their turns in
/// between.
const PAUSE_US: u64 = 1_000;

/// Bytes of what was found that a turn writes into the node's log, and one entry more.
pub(in crate::leader_follower) const KEPT_AT_ONCE_BYTES_MAX: usize = 256 << 10;

/// What is looked for in a state before a snapshot replaces it.
pub struct Parting {
    /// Which leader wrote what of the snapshot, up to its floor.
    epochs: Epochs,
    /// The first and the last entry that the log here does not have and the leader's may lack.
    range: Option<(u64, u64)>,
    /// The first slot that was not looked at.
    next_slot: u32,
    /// What entries have written, as far as nobody has written over it.
    found: BTreeMap<EntryId, Vec<LostChange>>,
    found_bytes: usize,
    /// Keys with such records.
    keys: u64,
    /// Those of them that are over the bound.
    keys_over: u64,
    due_us: u64,
}

impl Parting {
    fn find(&mut self, id: EntryId, key: &[u8], record: &Record<'_>) {
        self.keys += 1;
        let value_bytes = record.value().map_or(0, |value| value.len());
        let bytes = key.len() + value_bytes + 2 * OVERHEAD_BYTES + NOT_KNOWN.len();
        if self.found_bytes + bytes > KEPT_BYTES_MAX {
            self.keys_over += 1;
            return;
        }
        self.found_bytes += bytes;
        let new = Some(record.clone().into_owned());
        self.found.entry(id).or_default().push(LostChange { key: key.to_vec(), old: None, new });
    }
}

/// Whether a leader's log lacks an entry of another one, if it has `floor` and these epochs up to
/// there. What comes after the floor counts as lacking: it may or may not be there.
pub(in crate::leader_follower) fn is_cut(floor: EntryId, epochs: &Epochs, id: EntryId) -> bool {
    id.index > floor.index || epochs.reign_at(id.index).is_none_or(|reign| reign.epoch != id.epoch)
}

impl Group {
    /// Whether a snapshot is there that waits for what is to be kept aside of the old state.
    pub fn is_parting(&self) -> bool {
        self.parting().is_some()
    }

    /// When the group wants a turn to look for that, in microseconds of the monotonic clock.
    pub(in crate::leader_follower) fn parting_deadline(&self) -> u64 {
        self.parting().map_or(u64::MAX, |parting| parting.due_us)
    }

    fn parting(&self) -> Option<&Parting> {
        self.installing.as_ref()?.parting.as_ref()
    }

    /// All pieces of a snapshot are there: it takes the place of what is here, at once, or after
    /// what is to be kept aside is found.
    pub(in crate::leader_follower) fn end_installing(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        epochs: &Epochs,
    ) {
        let Some(begun) = &self.installing else { return };
        if !self.follower.diverged {
            return self.close_snapshot(turn, from, epochs);
        }
        if begun.parting.is_some() {
            return;
        }
        let range = self.lost_beside_log(begun.floor, epochs);
        let store = &self.state.store;
        // Where writes merge, a record does not name its entry.
        let next_slot = match range.is_none() || self.merges() {
            true => u32::from(store.last_slot()) + 1,
            false => u32::from(store.first_slot()),
        };
        let parting = Parting {
            epochs: epochs.clone(),
            range,
            next_slot,
            found: BTreeMap::new(),
            found_bytes: 0,
            keys: 0,
            keys_over: 0,
            due_us: turn.now.monotonic_us,
        };
        if let Some(begun) = &mut self.installing {
            begun.parting = Some(parting);
        }
    }

    /// The entries that were known to be committed, are before the log's first one or behind its
    /// end, and may not be in the leader's log.
    fn lost_beside_log(&self, floor: EntryId, epochs: &Epochs) -> Option<(u64, u64)> {
        let (start, end) = (self.log.start().index, self.log.last_index());
        let ahead = self.state.ahead_of(end);
        let first = self.first_cut(1, floor, epochs).filter(|first| *first <= start);
        Some((first.or(ahead.map(|_| end + 1))?, ahead.unwrap_or(start)))
    }

    /// The first entry from an index on that is not in a log with this floor and these epochs.
    pub(in crate::leader_follower) fn first_cut(
        &self,
        from: u64,
        floor: EntryId,
        epochs: &Epochs,
    ) -> Option<u64> {
        // Both logs change their epochs at these places only.
        let borders = epochs.first_indexes().chain(self.epochs.first_indexes());
        let borders =
            borders.chain([from, floor.index.saturating_add(1)]).filter(|index| *index >= from);
        let id_at = |index| {
            let epoch = self.epochs.reign_at(index).map_or(0, |reign| reign.epoch);
            EntryId { epoch, index }
        };
        borders.filter(|index| is_cut(floor, epochs, id_at(*index))).min()
    }

    /// A turn ends: goes on with what is to be kept aside before the snapshot that is there takes
    /// the place of the state.
    pub(in crate::leader_follower) fn go_on_parting(&mut self, turn: &mut Turn<'_>) {
        let Some(begun) = self.installing.as_mut().filter(|begun| begun.parting.is_some()) else {
            return;
        };
        let floor = begun.floor;
        let follows = self.follower.diverged && matches!(self.role, Role::Follower);
        let Some(leader) = self.leader.filter(|_| follows) else {
            // Another epoch: its leader may have all that is here.
            return self.give_snapshot_up();
        };
        let now_us = turn.now.monotonic_us;
        let Some(mut parting) = begun.parting.take_if(|parting| parting.due_us <= now_us) else {
            return;
        };
        if parting.next_slot <= u32::from(self.state.store.last_slot()) {
            self.look_at_some(&mut parting, floor);
        } else if !parting.found.is_empty() {
            self.keep_some(turn, &mut parting);
        } else {
            self.tell_parted(turn, &parting);
            return self.close_snapshot(turn, leader, &parting.epochs);
        }
        parting.due_us = now_us.saturating_add(PAUSE_US);
        if let Some(begun) = &mut self.installing {
            begun.parting = Some(parting);
        }
    }

    /// Looks at the next records, those at least that are in one slot.
    fn look_at_some(&self, parting: &mut Parting, floor: EntryId) {
        let last_slot = self.state.store.last_slot();
        let Some((first, last)) = parting.range else { return };
        let (start, end) = (self.log.start().index, self.log.last_index());
        let (mut slot, mut seen) = (u16::try_from(parting.next_slot).unwrap_or(u16::MAX), 0);
        parting.next_slot = u32::from(last_slot) + 1;
        for (of, key, record) in self.state.store.walk(slot, last_slot) {
            if of != slot && seen >= self.limits.records_at_once_max {
                parting.next_slot = u32::from(of);
                return;
            }
            (slot, seen) = (of, seen + 1);
            let id = EntryId { epoch: record.dot.actor, index: record.dot.counter };
            let is_in_log = id.index > start && id.index <= end;
            let is_meant = !is_in_log && (first..=last).contains(&id.index);
            if is_meant && is_cut(floor, &parting.epochs, id) {
                parting.find(id, key, &record);
            }
        }
    }

    /// Writes some of what was found into the node's log.
    fn keep_some(&mut self, turn: &mut Turn<'_>, parting: &mut Parting) {
        let mut bytes = 0;
        for _ in 0..self.limits.records_at_once_max {
            let Some((id, changes)) = parting.found.pop_first() else { return };
            if self.has_forgotten(id) {
                continue;
            }
            let write = self.known_by_state(turn, id, changes);
            bytes += write.bytes();
            self.log_kept(turn, &write);
            self.lost_writes.insert(write);
            if bytes >= KEPT_AT_ONCE_BYTES_MAX {
                return;
            }
        }
    }

    /// What the state shows of an entry.
    fn known_by_state(&self, turn: &Turn<'_>, id: EntryId, changes: Vec<LostChange>) -> LostWrite {
        let leader = self.epochs.reign_of(id.epoch);
        let leader = leader.map(|reign| (reign.leader, reign.incarnation));
        LostWrite {
            id,
            asker: Asker {
                node: turn.local.me,
                process: 0,
                client: ClientId(0),
                sequence: 0,
                label: Arc::from(NOT_KNOWN.as_bytes()),
            },
            leader,
            is_own: leader == Some((turn.local.me, turn.local.incarnation)),
            status: Status::Maybe,
            once: None,
            what: What::Changes(changes),
            cut_at_ms: turn.now.wall_ms,
            is_lost: false,
        }
    }

    fn tell_parted(&mut self, turn: &mut Turn<'_>, parting: &Parting) {
        let Some((first, last)) = parting.range else { return };
        let Parting { keys, keys_over, .. } = parting;
        let over = match keys_over {
            0 => Cow::Borrowed(""),
            over => Cow::Owned(format!(
                "; of these, {over} are not: more than {KEPT_BYTES_MAX} bytes of them"
            )),
        };
        let text = format!(
            "entries {first} to {last} were known here to be committed, and the new leader may \
             lack them: what the newest writes of {keys} keys among them wrote is kept \
             aside{over}; the others are not in this node's log"
        );
        turn.event(Event::Alarm(Cow::Owned(text)));
        self.bound_kept(turn);
    }
}
