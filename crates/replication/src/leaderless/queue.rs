//! The writes of one key, one at a time on this coordinator, in order of arrival.
//! A read that comes while its key is being written waits as well, so that a connection reads what
//! it has written just before.
//!
//! Increments need it, as an actor has one slot; and so do plain SETs, as a write that is stamped
//! again must not overtake a later one of the same connection. SETs that wait together are carried
//! out as one, the last of them: it overwrites the others at once.

use super::Leaderless;
use super::operation::{Customer, Operation, Purpose};
use crate::command::Reply;
use crate::turn::Turn;
use alloc::format;
use alloc::string::String;

/// Writes of one key that may wait for the one under way.
pub const KEY_QUEUE_MAX: usize = 1_024;

impl Leaderless {
    /// Begins a write, or lets it wait for the one of the same key that is under way.
    pub(super) fn enqueue(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at(place) else { return };
        let Some(holder) = self.operations.holder(operation.hashes.hash, operation.key()) else {
            self.operations.hold(place);
            return self.begin(turn, place);
        };
        let waiting = self.operations.at(holder).map_or(0, |holder| holder.waiting);
        if waiting < KEY_QUEUE_MAX {
            return self.operations.wait_behind(holder, place);
        }
        let error =
            format!("TRYAGAIN {waiting} writes of this key wait, no more than {KEY_QUEUE_MAX}");
        self.refuse(turn, place, error);
    }

    /// Begins what waited for writes that are answered. Called at the end of every input, so that
    /// no chain of answers becomes a chain of calls.
    pub(super) fn start_released(&mut self, turn: &mut Turn<'_>) {
        loop {
            self.continue_flushes(turn);
            let Some(place) = self.released.pop_front() else { return };
            let place = self.last_of_plain_sets(place);
            let Some(operation) = self.operations.at(place) else { continue };
            if operation.deadline_us <= turn.now.monotonic_us {
                let error = "TRYAGAIN earlier writes of this key took too long; not executed";
                self.refuse(turn, place, error.into());
                continue;
            }
            if operation.purpose == Purpose::Read {
                // A read holds no key: what waits behind it may begin, too.
                self.released.extend(self.operations.hand_on(place));
            }
            self.begin(turn, place);
        }
    }

    /// Plain SETs that wait one behind the other become one: the last.
    fn last_of_plain_sets(&mut self, mut place: u32) -> u32 {
        while let Some(earlier) = self.operations.at(place).filter(|one| is_plain_set(one))
            && let Some(next) = earlier.next
            && self.operations.at(next).is_some_and(is_plain_set)
        {
            self.operations.hand_on(place);
            self.overwrite_with(place, next);
            place = next;
        }
        place
    }

    /// One write for two that follow each other: the later value, for the customers of both, under
    /// the stricter conditions of both.
    fn overwrite_with(&mut self, earlier: u32, later: u32) {
        let Some(operation) = self.operations.at_mut(earlier) else { return };
        let mut customers = core::mem::take(&mut operation.customers);
        customers.push(core::mem::replace(&mut operation.customer, Customer::Nobody));
        let w = operation.w;
        self.operations.close(earlier);
        if let Some(operation) = self.operations.at_mut(later) {
            customers.append(&mut operation.customers);
            operation.customers = customers;
            operation.w = operation.w.max(w);
        }
    }

    fn begin(&mut self, turn: &mut Turn<'_>, place: u32) {
        match self.operations.at(place).map(|operation| operation.purpose) {
            Some(Purpose::Overwrite) => self.begin_overwrite(turn, place),
            Some(Purpose::Modify | Purpose::Read) => self.begin_read(turn, place),
            None => {}
        }
    }

    /// Refuses an operation that was not begun.
    fn refuse(&mut self, turn: &mut Turn<'_>, place: u32, error: String) {
        self.answer(turn, place, Reply::error(error), None);
        self.operations.close(place);
    }
}

/// A flush's tombstone is none: it may find that it must not delete.
fn is_plain_set(operation: &Operation) -> bool {
    operation.purpose == Purpose::Overwrite && operation.deletes_before().is_none()
}
