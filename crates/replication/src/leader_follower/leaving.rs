//! Records that nobody needs any more: a state that a snapshot has replaced, or what was there
//! before all keys were removed. To free millions of them at once would stop the node for longer
//! than its heartbeats allow, so the turns of the group free some each.

use super::Group;
use crate::storage::store::{Remains, Store};
use crate::turn::Turn;
use alloc::vec::Vec;

/// The next ones are freed so much later, in microseconds: others have their turns in between.
const PAUSE_US: u64 = 1_000;

/// What is left of states and tables that were replaced.
#[derive(Default)]
pub struct Leaving {
    remains: Vec<Remains>,
    due_us: u64,
}

impl Leaving {
    /// These records go.
    pub(super) fn push(&mut self, store: Store) {
        self.remains.push(store.into_remains());
    }

    /// When the group wants a turn for it, in microseconds of the monotonic clock.
    pub(super) fn next_deadline(&self) -> u64 {
        if self.remains.is_empty() { u64::MAX } else { self.due_us }
    }
}

impl Group {
    /// Whether records that nobody needs any more are still to be freed.
    pub fn is_freeing(&self) -> bool {
        !self.leaving.remains.is_empty()
    }

    /// A turn ends: frees some of what is left.
    pub(super) fn free_some(&mut self, turn: &Turn<'_>) {
        self.state.take_replaced().for_each(|store| self.leaving.push(store));
        let Some(last) = self.leaving.remains.last_mut() else { return };
        if turn.now.monotonic_us < self.leaving.due_us {
            return;
        }
        if last.free(self.limits.records_at_once_max) {
            self.leaving.remains.pop();
        }
        self.leaving.due_us = turn.now.monotonic_us.saturating_add(PAUSE_US);
    }
}
