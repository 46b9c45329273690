//! Updates and pages of another datacenter become entries of this one's log.

use crate::data::Name;
use crate::keyspace::SLOTS;
use crate::keyspace::slot::slot_of;
use crate::leader_follower::Group;
use crate::leader_follower::entry::{Change, Changes, Origin, Payload};
use crate::multi_leader::message::{Page, Updates};
use crate::multi_leader::sync::{self, Taken, Update, Verdict};
use crate::multi_leader::{catch_up, leader};
use crate::mutant::Mutant;
use crate::storage::store::{Hashes, IN_STEP, look_ahead_by};
use crate::turn::Turn;
use crate::wire::{Malformed, Read, Reader};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Appends the updates that are new, up to the first that cannot be taken yet. Whether that is
/// because of its stamp.
pub(super) fn take(
    group: &mut Group,
    turn: &mut Turn<'_>,
    updates: &Updates<'_>,
) -> Read<(Taken, bool)> {
    let mut taken = Taken { cursor: updates.to, any: false, all: true, lacks: false };
    let mut held = false;
    let mut r = Reader(&updates.updates);
    while taken.all && !r.is_empty() {
        let mut step = [const { None }; IN_STEP];
        for place in &mut step {
            if !r.is_empty() {
                *place = Some(Update::decode(&mut r)?);
            }
        }
        let hashes = look_ahead_in(group, &step);
        for (update, hashes) in step.into_iter().flatten().zip(hashes) {
            match sync::judge(&update, &group.covered_by_log, turn.now.wall_ms) {
                Verdict::Known => {
                    if turn.local.mutants.is(Mutant::ApplyTwice) {
                        append_again(group, turn, &update)?;
                    }
                }
                Verdict::Take if group.has_room() => {
                    append_update(group, turn, &update, hashes)?;
                    taken.any = true;
                }
                verdict => {
                    held = verdict == Verdict::Ahead;
                    taken.lacks = verdict == Verdict::Early;
                    taken.all = false;
                    taken.cursor = update.index.saturating_sub(1);
                    break;
                }
            }
        }
    }
    if taken.all && updates.last {
        taken.lacks = !group.covered_by_log.covers_all(&updates.covered);
    }
    Ok((taken, held))
}

/// Looks up the keys of updates side by side: one after another, each would wait for memory, which
/// took a tenth of all CPU time of three nodes with a million keys.
fn look_ahead_in(group: &Group, step: &[Option<Update<'_>>; IN_STEP]) -> [Option<Hashes>; IN_STEP] {
    let store = &group.state.store;
    let only_key =
        |update: &'_ Update<'_>| Changes::only_key(&update.changes).map(|key| store.hashes(key));
    let hashes = step.each_ref().map(|update| update.as_ref().and_then(only_key));
    look_ahead_by(hashes.iter().flatten().map(|hashes| (store, *hashes)));
    hashes
}

/// Whether a key belongs to the group's partition: what a peer says is not to be trusted.
fn holds(group: &Group, key: &[u8]) -> bool {
    let store = &group.state.store;
    let slots = (store.first_slot(), store.last_slot());
    slots == (0, SLOTS - 1) || (slots.0..=slots.1).contains(&slot_of(key))
}

/// What an update changes, looked over.
fn changes_of<'a>(group: &Group, update: &'a Update<'_>) -> Read<Changes<'a>> {
    let name = Name { stamp: update.stamp, dot: update.dot };
    let changes = Changes::of_write(name, &update.changes)?;
    let is_right = |change: &Change<'_>| {
        change.record.is_some()
            && change.newest_stamp() <= update.stamp
            && holds(group, &change.key)
    };
    if changes.iter().all(is_right) { Ok(changes) } else { Err(Malformed) }
}

/// An update is an entry of this group's log under the name that its maker gave it.
fn append_update(
    group: &mut Group,
    turn: &mut Turn<'_>,
    update: &Update<'_>,
    hashes: Option<Hashes>,
) -> Read<()> {
    let mut changes = changes_of(group, update)?;
    changes.know(hashes);
    let origin = Origin { dot: update.dot, dependencies: update.dependencies.clone() };
    group.append_entry(turn, update.stamp, Some(origin), false, None, Payload::Changes(changes));
    Ok(())
}

/// Only for a planted bug: see [`sync::added_again`].
fn append_again(group: &mut Group, turn: &mut Turn<'_>, update: &Update<'_>) -> Read<()> {
    let changes = changes_of(group, update)?.into_iter().filter_map(|change| {
        let kept = group.state.store.get(&change.key)?;
        let record = sync::added_again(&kept, &change.record?, update.dot.actor);
        Some(Change { key: change.key, record: Some(record) })
    });
    let payload = Payload::Changes(changes.collect());
    group.append(turn, None, payload);
    Ok(())
}

/// Appends what is new in a page; or says why it cannot be taken yet.
pub(super) fn take_page(
    group: &mut Group,
    turn: &mut Turn<'_>,
    page: &Page<'_>,
) -> Read<Option<Verdict>> {
    let kept = |key: &[u8]| holds(group, key).then(|| group.state.store.get(key)).flatten();
    let news = catch_up::news(page, kept)?;
    if !news.records.iter().all(|(key, _)| holds(group, key)) {
        return Err(Malformed);
    }
    if leader::is_ahead(news.newest, turn.now.wall_ms) {
        return Ok(Some(Verdict::Ahead));
    }
    if !group.has_room() {
        return Ok(Some(Verdict::Early));
    }
    group.observe(news.newest);
    let mut new = news.records.into_iter();
    loop {
        let keys = new.by_ref().take(catch_up::KEYS_PER_ENTRY_MAX);
        let changes: Vec<Change<'_>> = keys
            .map(|(key, record)| Change { key: Cow::Borrowed(key), record: Some(record) })
            .collect();
        if changes.is_empty() {
            return Ok(None);
        }
        group.append(turn, None, Payload::Changes(changes.into()));
    }
}
