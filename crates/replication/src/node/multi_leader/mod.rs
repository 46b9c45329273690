//! Multi-leader keyspaces: a leader-follower group in each datacenter, and the exchange between
//! them. The groups replicate, `multi_leader/` decides; this folder carries values from one to the
//! other: here the commands at a datacenter's leader, in `exchange.rs` what goes to and comes from
//! the other datacenters, in `take_in.rs` how that becomes entries.

mod delete_many;
mod exchange;
mod take_in;

use crate::command::{Arguments, KeyCommand, Reply, error};
use crate::data::{self, Evaluation, ExpiresAt, Name, Write};
use crate::leader_follower::Group;
use crate::leader_follower::acks::need::Need;
use crate::leader_follower::entry::{Change, Changes, Origin, Payload};
use crate::leader_follower::execute::NO_ROOM;
use crate::leader_follower::lost_writes::replay::FLUSH_IS_NOT_REPLAYED;
use crate::leader_follower::lost_writes::report::{LostWrite, What};
use crate::multi_leader::leader::{self, Proposal};
use crate::mutant::Mutant;
use crate::storage::record::Record;
use crate::turn::{LastWrite, Requester, Turn};
use crate::version::{EntryId, Stamp};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
pub(in crate::node) use delete_many::delete_many;

/// Carries out a command on one key. This node leads its datacenter's group.
pub(in crate::node) fn execute(
    group: &mut Group,
    turn: &mut Turn<'_>,
    requester: Requester,
    command: &KeyCommand<'_>,
    need: Need,
) {
    if let Some(error) = leader::coordination_error(&command.verb) {
        return turn.refuse(requester, error);
    }
    if group.is_set_too_far(command) {
        return turn.refuse(requester, crate::command::error::TOO_LONG);
    }
    let now_ms = group.time_ms(turn);
    let hashes = group.state.store.hashes(command.key);
    let kept = group.state.store.get_by(command.key, hashes);
    let index = group.state.newest_index(kept.as_ref());
    let seen = kept.as_ref().map(|record| record.as_of(now_ms));
    let seen = seen.as_ref();
    let Evaluation { reply, write } = data::evaluate(command, seen, now_ms);
    let reply = reply.into_owned();
    if write == Write::Nothing {
        return group.hold_read(turn, requester, index, reply);
    }
    if let Some(error) = write_error(group, turn) {
        return turn.refuse(requester, error);
    }
    if group.is_too_long(&write) {
        return turn.refuse(requester, error::TOO_LONG);
    }
    let proposal = propose(group, turn, leader::newest_seen(seen));
    let record = data::mint(write, seen, proposal.name, proposal.name.dot.actor);
    let change = Change { key: Cow::Borrowed(command.key), record: Some(record) };
    let id = append(group, turn, proposal, Changes::One(change, Some(hashes)));
    let saw = if command.verb.tells_nothing() { 0 } else { index };
    group.hold_write_that_saw(turn, requester, id, (reply, saw), need);
}

/// Answers a read from what this follower knows to be committed; it may be stale.
pub(in crate::node) fn read_here(
    group: &Group,
    turn: &mut Turn<'_>,
    requester: Requester,
    command: &KeyCommand<'_>,
) {
    let now_ms = group.time_ms(turn);
    let record = group.state.store.get(command.key);
    let evaluation = data::evaluate(command, record.as_ref(), now_ms);
    turn.answer(requester, evaluation.reply, None);
}

/// MSET: all pairs in one entry. This node leads its datacenter's group.
pub(in crate::node) fn set_many(
    group: &mut Group,
    turn: &mut Turn<'_>,
    requester: Requester,
    pairs: Arguments<'_>,
    need: Need,
) {
    if let Some(error) = write_error(group, turn) {
        return turn.refuse(requester, error);
    }
    // Of a key that is given twice, the last value counts: both have the same name.
    let mut values: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for place in (0..pairs.len()).step_by(2) {
        if let (Some(key), Some(value)) = (pairs.get(place), pairs.get(place + 1)) {
            values.insert(key, value);
        }
    }
    let seen = values.keys().map(|key| leader::newest_seen(group.state.store.get(key).as_ref()));
    let newest = seen.max().unwrap_or_default();
    let proposal = propose(group, turn, newest);
    let changes = values.into_iter().map(|(key, value)| {
        let expires_at_ms = ExpiresAt::Never;
        let write = Write::Set { value: Cow::Borrowed(value), expires_at_ms };
        let record = data::mint(write, None, proposal.name, proposal.name.dot.actor);
        Change { key: Cow::Borrowed(key), record: Some(record) }
    });
    let changes = changes.collect();
    let id = append(group, turn, proposal, changes);
    group.hold_write(turn, requester, id, Reply::Ok, need);
}

/// FLUSHALL's part: a tombstone for every key, in entries of a bounded size; answered after the
/// last of them. This node leads its datacenter's group.
pub(in crate::node) fn flush(group: &mut Group, turn: &mut Turn<'_>, requester: Requester) {
    let now_ms = group.time_ms(turn);
    let (first, last) = (group.state.store.first_slot(), group.state.store.last_slot());
    let live: Vec<(Vec<u8>, Stamp)> = group
        .state
        .store
        .iter_slots(first, last)
        .filter(|(_, record)| record.is_live(now_ms))
        .map(|(key, record)| (key.to_vec(), record.newest_stamp()))
        .collect();
    let (mut newest, mut deleted) = (None, 0);
    for keys in live.chunks(leader::FLUSHED_KEYS_PER_ENTRY_MAX) {
        if let Some(error) = write_error(group, turn) {
            // What was begun is the connection's last write all the same: WAIT speaks of it.
            let last_write = newest.map(|id| LastWrite::Entry { group: group.id, id });
            let error = Reply::error(flush_error(error, deleted, live.len()));
            return turn.answer(requester, error, last_write);
        }
        deleted += keys.len();
        let seen = keys.iter().map(|(_, stamp)| *stamp).max().unwrap_or_default();
        let proposal = propose(group, turn, seen);
        let tombstone = |(key, _): &(Vec<u8>, Stamp)| Change {
            key: Cow::Owned(key.clone()),
            record: Some(Record::tombstone(proposal.name)),
        };
        let changes = keys.iter().map(tombstone).collect();
        newest = Some(append(group, turn, proposal, changes));
    }
    match newest {
        Some(id) => group.hold_write(turn, requester, id, Reply::Ok, group.need()),
        None => group.answer_range(turn, requester, Reply::Ok),
    }
}

/// Does a lost write again, all of it or nothing. This node leads its datacenter's group.
pub(in crate::node) fn replay_lost(
    group: &mut Group,
    turn: &mut Turn<'_>,
    requester: Requester,
    lost: &LostWrite,
) {
    let What::Changes(changes) = &lost.what else {
        return turn.refuse(requester, FLUSH_IS_NOT_REPLAYED);
    };
    if let Some((index, text)) = group.replay_conflict(turn, changes) {
        return group.hold_read(turn, requester, index, Reply::error(text));
    }
    if let Some(error) = write_error(group, turn) {
        return turn.refuse(requester, error);
    }
    let newest_seen = |key| leader::newest_seen(group.state.store.get(key).as_ref());
    let seen = changes.iter().map(|c| newest_seen(&c.key));
    let newest = seen.max().unwrap_or_default();
    let proposal = propose(group, turn, newest);
    let name = proposal.name;
    let again = changes.iter().filter_map(|change| {
        let record = again(change.old.as_ref(), change.new.as_ref()?, name);
        Some(Change { key: Cow::Borrowed(&*change.key), record: Some(record) })
    });
    let id = append(group, turn, proposal, again.collect());
    group.hold_write(turn, requester, id, Reply::Ok, group.need());
}

/// A lost record under a new name. An increment keeps its base's: it belongs to that.
fn again(old: Option<&Record<'_>>, new: &Record<'_>, name: Name) -> Record<'static> {
    let expiry_stamp = match old {
        Some(old) if old.expiry_stamp == new.expiry_stamp => new.expiry_stamp,
        _ => name.stamp,
    };
    let (stamp, dot) = match old {
        Some(old) if (old.stamp, old.dot) == (new.stamp, new.dot) => (new.stamp, new.dot),
        _ => (name.stamp, name.dot),
    };
    Record { stamp, dot, expiry_stamp, ..new.clone().into_owned() }
}

/// What a flush that cannot go on answers: what it has begun with is not taken back.
fn flush_error(error: Cow<'static, str>, deleted: usize, keys: usize) -> Cow<'static, str> {
    match deleted {
        0 => error,
        _ => Cow::Owned(format!(
            "PARTIAL deleted={deleted} of {keys} keys, which may or may not survive; the leader \
             cannot take more writes now: give the command again"
        )),
    }
}

/// Why this leader cannot take a write now.
fn write_error(group: &Group, turn: &Turn<'_>) -> Option<Cow<'static, str>> {
    if !group.takes_write() {
        return Some(Cow::Borrowed(NO_ROOM));
    }
    leader::clock_error(group.newest_stamp(), turn.now.wall_ms).map(Cow::Owned)
}

fn propose(group: &Group, turn: &Turn<'_>, seen: Stamp) -> Proposal {
    let stamp = match turn.local.mutants.is(Mutant::WallClockWins) {
        true => Stamp::at(turn.now.wall_ms),
        false => group.next_stamp(turn).max(seen.next()),
    };
    let incarnation = leader::incarnation(group.history());
    let actor = leader::actor(group.id.datacenter, incarnation);
    leader::propose(actor, &group.covered_by_log, stamp)
}

fn append(
    group: &mut Group,
    turn: &mut Turn<'_>,
    proposal: Proposal,
    changes: Changes<'_>,
) -> EntryId {
    let Proposal { name: Name { stamp, dot }, dependencies } = proposal;
    // What is done again may have kept a stamp that is newer than its own name's.
    let stamp = changes.iter().map(Change::newest_stamp).fold(stamp, Stamp::max);
    let origin = Origin { dot, dependencies };
    group.append_for_asker(turn, stamp, Some(origin), Payload::Changes(changes))
}
