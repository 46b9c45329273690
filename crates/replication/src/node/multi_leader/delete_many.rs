//! DEL of several keys of one partition: one entry, all of it or nothing.

use super::{append, propose, write_error};
use crate::command::{Arguments, Reply};
use crate::leader_follower::Group;
use crate::leader_follower::acks::need::Need;
use crate::leader_follower::entry::Change;
use crate::multi_leader::leader;
use crate::storage::record::Record;
use crate::turn::{Requester, Turn};
use alloc::borrow::Cow;

/// Puts a tombstone in place of each of the keys that there is, and tells how many. This node leads
/// its datacenter's group.
pub(in crate::node) fn delete_many(
    group: &mut Group,
    turn: &mut Turn<'_>,
    requester: Requester,
    keys: Arguments<'_>,
    need: Need,
) {
    let found = group.find_many(turn, keys);
    let reply = Reply::Integer(found.live.len() as i64);
    if found.live.is_empty() {
        return group.hold_read(turn, requester, found.index, reply);
    }
    if let Some(error) = write_error(group, turn) {
        return turn.refuse(requester, error);
    }
    let seen =
        found.live.iter().map(|key| leader::newest_seen(group.state.store.get(key).as_ref()));
    let newest = seen.max().unwrap_or_default();
    let proposal = propose(group, turn, newest);
    let changes = found.live.iter().map(|key| Change {
        key: Cow::Borrowed(*key),
        record: Some(Record::tombstone(proposal.name)),
    });
    let changes = changes.collect();
    let id = append(group, turn, proposal, changes);
    group.hold_write_that_saw(turn, requester, id, (reply, found.index), need);
}
