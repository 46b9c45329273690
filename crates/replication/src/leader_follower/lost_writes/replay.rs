//! REPLAY: a lost write is done again as a normal write, if nobody has written its keys since. One
//! that was to be carried out once is done under its name: a retry of it does not count again, and
//! after a retry there is nothing to replay.

use super::report::{LostChange, LostWrite, What};
use crate::command::Reply;
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::data::Name;
use crate::leader_follower::Group;
use crate::leader_follower::entry::{Change, Payload};
use crate::leader_follower::execute::NO_ROOM;
use crate::storage::record::Record;
use crate::turn::{Requester, Turn};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A lost FLUSHALL stays lost.
pub const FLUSH_IS_NOT_REPLAYED: &str = "ERR this lost write removed all keys there were; \
    keys written since would go, too: give FLUSHALL again if that is meant, and FORGET this";

impl Group {
    /// Does a lost write again, all of it or nothing, as one entry. This node leads.
    pub fn replay_lost(&mut self, turn: &mut Turn<'_>, requester: Requester, write: &LostWrite) {
        let What::Changes(changes) = &write.what else {
            return turn.refuse(requester, FLUSH_IS_NOT_REPLAYED);
        };
        if let Some((index, text)) = self.replay_conflict(turn, changes) {
            return self.hold_read(turn, requester, index, Reply::error(text));
        }
        let once = write.once.as_ref();
        if let Some(again) = once.and_then(|once| self.carried_out_again(once)) {
            let text = format!(
                "CONFLICT its client has sent the command again, and it was carried out as entry \
                 {}-{}; nothing was replayed, FORGET this",
                again.epoch, again.index
            );
            return self.hold_read(turn, requester, again.index, Reply::error(text));
        }
        if !self.takes_write() {
            return turn.refuse(requester, NO_ROOM);
        }
        let name = self.next_name(turn);
        let again = changes.iter().map(|change| Change {
            key: Cow::Borrowed(&*change.key),
            record: change.new.as_ref().map(|record| renamed(record, name)),
        });
        let again: Vec<Change<'_>> = again.collect();
        let once = once.and_then(|once| self.may_come_again(once));
        let id = match once {
            Some(call) => self.append_once(turn, call, name.stamp, again),
            None => self.append_for_asker(turn, name.stamp, None, Payload::Changes(again.into())),
        };
        self.hold_write(turn, requester, id, Reply::Ok, self.need());
    }

    /// Why a lost write cannot be done again, and the entry that says so: a key is not what it was
    /// made on any more, or its time is over.
    pub fn replay_conflict(
        &self,
        turn: &Turn<'_>,
        changes: &[LostChange],
    ) -> Option<(u64, String)> {
        let now_ms = self.time_ms(turn);
        let live = |record: &&Record<'_>| record.is_live(now_ms);
        for change in changes {
            let kept = self.state.store.get(&change.key);
            let index = self.state.newest_index(kept.as_ref());
            let (there, old) = (kept.as_ref().filter(live), change.old.as_ref().filter(live));
            let key = echo(&change.key, ECHO_BYTES_MAX);
            if there.map(|record| self.name_of_record(record))
                != old.map(|record| self.name_of_record(record))
            {
                let there = match there.and_then(Record::value) {
                    Some(value) => format!("now holds '{}'", echo(&value, ECHO_BYTES_MAX)),
                    None => String::from("does not exist now"),
                };
                let text = format!(
                    "CONFLICT '{key}' {there}, which is not what the lost write was made on; \
                     nothing was replayed"
                );
                return Some((index, text));
            }
            let was_live = |record: &Record<'_>| record.is_live(0) && !record.is_live(now_ms);
            if change.new.as_ref().is_some_and(was_live) {
                let text = format!(
                    "ERR '{key}' would have expired by now; nothing was replayed, FORGET this"
                );
                return Some((index, text));
            }
        }
        None
    }

    /// What tells a record from every other one of its key. Where all writes are ordered, every
    /// write has its own dot; where they merge, increments and deadlines belong to their base.
    fn name_of_record(&self, record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut w = crate::wire::Writer(&mut bytes);
        match self.merges() {
            true => w.record(record),
            false => w.dot(record.dot),
        }
        bytes
    }
}

/// A lost record under a new name.
fn renamed<'a>(record: &'a Record<'_>, Name { stamp, dot }: Name) -> Record<'a> {
    Record { stamp, dot, expiry_stamp: stamp, ..record.borrowed() }
}
