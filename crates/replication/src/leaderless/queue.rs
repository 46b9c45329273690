//! The writes of one key, one at a time on this coordinator, in order of arrival.
//! A read that comes while its key is being written waits as well, so that a connection reads what
//! it has written just before.
//!
//! Increments need it, as an actor has one slot; and so do plain SETs, as a write that is stamped
//! again must not overtake a later one of the same connection. SETs that wait together are carried
//! out as one, the last of them: it overwrites the others at once.

use super::Leaderless;
use super::operation::{Operation, Purpose};
use crate::command::Reply;
use crate::turn::Turn;
use alloc::collections::VecDeque;
use alloc::collections::btree_map::Entry;
use alloc::format;

/// Writes of one key that may wait for the one under way.
pub const KEY_QUEUE_MAX: usize = 1_024;

impl Leaderless {
    /// Begins a write, or lets it wait for the one of the same key that is under way.
    pub(super) fn enqueue(&mut self, turn: &mut Turn<'_>, mut operation: Operation) {
        match self.queues.entry(operation.command.key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::new());
                self.begin(turn, operation);
            }
            Entry::Occupied(mut entry) if entry.get().len() < KEY_QUEUE_MAX => {
                entry.get_mut().push_back(operation);
                self.queued += 1;
            }
            Entry::Occupied(entry) => {
                let error = format!(
                    "TRYAGAIN {} writes of this key wait, no more than {KEY_QUEUE_MAX}",
                    entry.get().len()
                );
                self.refuse(turn, &mut operation, error);
            }
        }
    }

    /// Begins what waited for writes that are answered. Called at the end of every input, so that
    /// no chain of answers becomes a chain of calls.
    pub(super) fn start_released(&mut self, turn: &mut Turn<'_>) {
        loop {
            self.continue_flushes(turn);
            let Some(key) = self.released.pop_front() else { return };
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            let Some(mut next) = queue.pop_front() else {
                self.queues.remove(&key);
                continue;
            };
            self.queued = self.queued.saturating_sub(1);
            while is_plain_set(&next)
                && let Some(later) = queue.pop_front_if(|later| is_plain_set(later))
            {
                self.queued = self.queued.saturating_sub(1);
                next = overwritten_by(next, later);
            }
            if next.deadline_us > turn.now.monotonic_us {
                // A read holds no key: what waits behind it may begin, too.
                if next.purpose == Purpose::Read {
                    self.released.push_back(key);
                }
                self.begin(turn, next);
                continue;
            }
            let error = "TRYAGAIN earlier writes of this key took too long; not executed";
            self.refuse(turn, &mut next, error.into());
            self.released.push_back(key);
        }
    }

    fn begin(&mut self, turn: &mut Turn<'_>, operation: Operation) {
        match operation.purpose {
            Purpose::Overwrite => self.begin_overwrite(turn, operation),
            Purpose::Modify | Purpose::Read => self.begin_read(turn, operation),
        }
    }

    /// Refuses a write that was not begun: it holds no key.
    fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        operation: &mut Operation,
        error: alloc::string::String,
    ) {
        let released = self.released.len();
        self.answer(turn, operation, Reply::error(error), None);
        self.released.truncate(released);
    }
}

/// A flush's tombstone is none: it may find that it must not delete.
fn is_plain_set(operation: &Operation) -> bool {
    operation.purpose == Purpose::Overwrite && operation.deletes_before().is_none()
}

/// One write for two that follow each other: the later value, for the customers of both, under the
/// stricter conditions of both.
fn overwritten_by(earlier: Operation, mut later: Operation) -> Operation {
    let mut customers = earlier.customers;
    customers.append(&mut later.customers);
    later.customers = customers;
    later.w = later.w.max(earlier.w);
    later
}
