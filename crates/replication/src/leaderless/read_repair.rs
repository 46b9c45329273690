//! Read repair: the action after the reply. Whoever answered with an older record gets the newer.

use super::Leaderless;
use super::message::Message;
use super::quorum_read::QuorumRead;
use crate::storage::record::Record;
use crate::turn::Turn;
use crate::{Event, GroupId};
use alloc::borrow::Cow;

impl Leaderless {
    /// Writes what all answers come to over the stale ones, and nothing else: the replicas merge
    /// it, so that it does no harm where something newer has come in the meantime. Nobody waits.
    pub(super) fn repair(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupId,
        key: &[u8],
        read: &QuorumRead,
    ) {
        let Some(merged) = read.merged() else { return };
        for node in read.stale(&merged) {
            if node == self.me {
                self.keep_record(turn, group, key, &merged, self.options.durability);
            } else {
                let (key, record) = (Cow::Borrowed(key), merged.borrowed());
                let message = Message::Repair { group, key, record };
                turn.send(node, crate::Message::Leaderless(message));
            }
            turn.event(Event::ReadRepaired { node, key: key.to_vec() });
        }
    }

    /// A coordinator has seen that this replica is stale.
    pub(super) fn on_repair(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupId,
        key: &[u8],
        record: &Record<'_>,
    ) {
        if self.held.get(&group).is_some_and(|held| held.covers(key)) {
            self.clock.observe(record.newest_stamp());
            self.keep_record(turn, group, key, record, self.options.durability);
        }
    }
}
