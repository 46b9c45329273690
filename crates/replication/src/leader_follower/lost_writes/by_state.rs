//! Committed entries that are lost after all, and that the log does not have: so old that it has
//! them no more, or so new that it does not have them yet, as a snapshot has brought them before.
//! What they wrote is in the state, where nothing has written over it.

use super::report::{LostChange, LostWrite, NOT_KNOWN, Status, What};
use super::{Group, KEPT_BYTES_MAX};
use crate::turn::{Asker, Turn};
use crate::version::EntryId;
use crate::{ClientId, Event};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Group {
    /// Entries that were known to be committed are not in the leader's log, and the log here begins
    /// after some of them, or ends before. Keeps aside those whose values are still the newest of
    /// their keys, and says how many there may have been. `borders`: where the leader's log changes
    /// its epoch.
    pub(in crate::leader_follower) fn put_aside_by_state(
        &mut self,
        turn: &mut Turn<'_>,
        is_cut: impl Fn(EntryId) -> bool,
        borders: impl Iterator<Item = u64>,
    ) {
        let (start, end) = (self.log.start().index, self.log.last_index());
        let ahead = self.state.ahead_of(end);
        let id_at = |index| {
            let epoch = self.epochs.reign_at(index).map_or(0, |reign| reign.epoch);
            EntryId { epoch, index }
        };
        let borders = borders.chain(self.epochs.first_indexes()).chain([1]);
        let first = borders.filter(|index| *index <= start && is_cut(id_at(*index))).min();
        let Some(first) = first.or(ahead.map(|_| end + 1)) else { return };
        let last = ahead.unwrap_or(start);
        let is_in_log = |id: EntryId| id.index > start && id.index <= end;
        let cut = self.newest_of_keys(turn, |id| !is_in_log(id) && is_cut(id));
        let text = format!(
            "entries {first} to {last} were known here to be committed, and the new leader may \
             lack them: {} of them were the newest writes of their keys and are kept aside, the \
             others are not in this node's log",
            cut.len()
        );
        turn.event(Event::Alarm(Cow::Owned(text)));
        for write in cut {
            self.log_kept(turn, &write);
            self.lost_writes.insert(write);
        }
        self.bound_kept(turn);
    }

    /// The entries that a test picks and whose records nobody has written over, as lost writes, up
    /// to a bound. Where writes merge, a record does not name its entry.
    fn newest_of_keys(&self, turn: &Turn<'_>, is_cut: impl Fn(EntryId) -> bool) -> Vec<LostWrite> {
        let mut by_entry: BTreeMap<EntryId, Vec<LostChange>> = BTreeMap::new();
        let store = &self.state.store;
        let mut bytes = 0usize;
        for (key, record) in store.iter_slots(store.first_slot(), store.last_slot()) {
            let id = EntryId { epoch: record.dot.actor, index: record.dot.counter };
            if self.merges() || !is_cut(id) {
                continue;
            }
            bytes += key.len() + record.value().map_or(0, |value| value.len());
            if bytes > KEPT_BYTES_MAX {
                break;
            }
            let change =
                LostChange { key: key.to_vec(), old: None, new: Some(record.clone().into_owned()) };
            by_entry.entry(id).or_default().push(change);
        }
        let lost = by_entry.into_iter().map(|(id, changes)| {
            let leader = self.epochs.reign_of(id.epoch);
            LostWrite {
                id,
                asker: Asker {
                    node: turn.local.me,
                    process: 0,
                    client: ClientId(0),
                    sequence: 0,
                    label: Arc::from(NOT_KNOWN.as_bytes()),
                },
                leader: leader.map(|reign| (reign.leader, reign.incarnation)),
                is_own: leader.is_some_and(|reign| {
                    (reign.leader, reign.incarnation) == (turn.local.me, turn.local.incarnation)
                }),
                status: Status::Maybe,
                once: None,
                what: What::Changes(changes),
                cut_at_ms: turn.now.wall_ms,
                is_lost: false,
            }
        });
        lost.collect()
    }
}
