//! Records that nobody needs any more: a state that a snapshot has replaced. To free millions of
//! them at once would stop the node for longer than its heartbeats allow, so every turn of the
//! group frees some.

use super::Group;
use crate::storage::store::{Remains, Store};
use crate::turn::Turn;
use alloc::vec::Vec;

/// Records that a turn frees: a part of a millisecond.
const FREED_AT_ONCE: usize = 4096;

/// The next ones are freed so much later, in microseconds: others have their turns in between.
const PAUSE_US: u64 = 1_000;

/// What is left of replaced states.
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
    /// A turn ends: frees some of what is left.
    pub(super) fn free_some(&mut self, turn: &Turn<'_>) {
        let Some(last) = self.leaving.remains.last_mut() else { return };
        if last.free(FREED_AT_ONCE) {
            self.leaving.remains.pop();
        }
        self.leaving.due_us = turn.now.monotonic_us.saturating_add(PAUSE_US);
    }
}
