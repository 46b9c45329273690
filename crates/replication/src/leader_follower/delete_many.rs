//! DEL of several keys of one partition: one entry, all of it or nothing.

use super::Group;
use super::acks::need::Need;
use super::entry::{Change, Payload};
use super::execute::NO_ROOM;
use crate::command::{Arguments, Reply};
use crate::turn::{Requester, Turn};
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// What a DEL of several keys has found.
#[derive(Default)]
pub struct Found<'a> {
    /// Keys that there are, each once.
    pub live: Vec<&'a [u8]>,
    /// Keys that are past their deadline, and not removed yet.
    past: Vec<&'a [u8]>,
    /// The newest entry that any of the keys shows.
    pub index: u64,
}

impl Group {
    /// Removes those of the keys that there are, and tells how many. This node leads.
    pub fn delete_many(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        keys: Arguments<'_>,
        need: Need,
    ) {
        let Found { live, past, index } = self.find_many(turn, keys);
        let reply = Reply::Integer(live.len() as i64);
        if live.is_empty() && past.is_empty() {
            return self.hold_read(turn, requester, index, reply);
        }
        if !self.takes_write() {
            return turn.refuse(requester, NO_ROOM);
        }
        let stamp = self.next_stamp(turn);
        // Nobody may see a key come back that is past its deadline: it goes with the others.
        let removed = live.into_iter().chain(past);
        let changes: Vec<Change<'_>> =
            removed.map(|key| Change { key: Cow::Borrowed(key), record: None }).collect();
        let id = self.append_for_asker(turn, stamp, None, Payload::Changes(changes.into()));
        self.hold_write_that_saw(turn, requester, id, (reply, index), need);
    }

    /// Which of some keys there are.
    pub fn find_many<'a>(&self, turn: &Turn<'_>, keys: Arguments<'a>) -> Found<'a> {
        let now_ms = self.time_ms(turn);
        let mut found = Found::default();
        let mut seen = BTreeSet::new();
        for key in keys.iter().filter(|key| seen.insert(*key)) {
            let record = self.state.store.get(key);
            found.index = found.index.max(self.state.newest_index(record.as_ref()));
            match record {
                Some(record) if record.is_live(now_ms) => found.live.push(key),
                // A tombstone has no deadline any more.
                Some(record) if record.expires_at_ms.is_some() => found.past.push(key),
                _ => {}
            }
        }
        found
    }
}
