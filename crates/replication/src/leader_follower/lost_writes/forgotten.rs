//! Lost writes of which nobody wants to hear again.
//!
//! A report has copies: the node that led keeps the entry, witnesses keep it, and a node that is
//! still to cut its tail will put it aside. An operator forgets all of them, so every node that
//! hears of it keeps the name, durably and in every checkpoint: under that name nothing is put
//! aside any more, and a list hides what another node still says of it.
//!
//! Where it ends: a group keeps [`FORGOTTEN_MAX`] names on each node, those of the newest entries;
//! and a node that hears of none, while all that know are away, reports its copy.

use super::{Fate, LostWrites};
use crate::Position;
use crate::keyspace::Durability;
use crate::leader_follower::Group;
use crate::turn::Turn;
use crate::version::EntryId;
use alloc::vec::Vec;

/// Names of forgotten reports that a group keeps; those of the oldest entries go first.
pub const FORGOTTEN_MAX: usize = 10_000;

impl LostWrites {
    pub(super) fn note_forgotten(&mut self, id: EntryId) {
        self.remove(id);
        self.forgotten.insert(id);
        if self.forgotten.len() > FORGOTTEN_MAX {
            self.forgotten.pop_first();
        }
    }
}

impl Group {
    /// The names of the reports that were forgotten or replayed, in order.
    pub fn forgotten(&self) -> impl Iterator<Item = EntryId> {
        self.lost_writes.forgotten.iter().copied()
    }

    /// Whether a report with this name was forgotten or replayed.
    pub fn has_forgotten(&self, id: EntryId) -> bool {
        self.lost_writes.forgotten.contains(&id)
    }

    /// How many lost writes are kept here, be it as a witness; for observers.
    pub fn kept_lost(&self) -> usize {
        self.lost_writes.kept.values().filter(|write| write.is_lost).count()
    }

    /// Whether a lost write is kept here, be it as a witness.
    pub fn keeps_lost(&self, id: EntryId) -> bool {
        self.lost_writes.kept.get(&id).is_some_and(|write| write.is_lost)
    }

    /// Forgets a report, or a witness's entry, or what is still to be cut. Returns from when on
    /// that is durable. `replayed_as` names the entry that has brought it back.
    pub fn forget_lost(
        &mut self,
        turn: &mut Turn<'_>,
        id: EntryId,
        replayed_as: Option<EntryId>,
    ) -> Position {
        // Where writes merge, a dot is not an entry's name.
        let replayed_as = replayed_as.filter(|_| !self.merges());
        let is_known = self.has_forgotten(id) && !self.lost_writes.kept.contains_key(&id);
        if is_known && replayed_as.is_none() {
            return self.newest_record();
        }
        let fate = replayed_as.map_or(Fate::Forgotten, Fate::Replayed);
        let position = self.log_fate(turn, id, fate, Durability::Fsync);
        self.lost_writes.apply(id, fate);
        position
    }

    /// Writes down in a checkpoint what was forgotten.
    pub(super) fn checkpoint_forgotten(&mut self, turn: &mut Turn<'_>) {
        let forgotten: Vec<EntryId> = self.forgotten().collect();
        for id in forgotten {
            self.log_fate(turn, id, Fate::Forgotten, self.options.durability);
        }
    }
}
