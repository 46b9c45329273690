//! Every queue of a node is bounded (invariant G8): after each of its turns, what is in it is
//! counted anew and held against its limit, with one item over it where that is documented. What
//! the node itself counts must come to the same: a counter that only rises closes a window for
//! ever, and one that falls too far opens it.

use super::Verdict;
use crate::streams::Streams;
use replication::leader_follower::Group;
use replication::leader_follower::acks::need::SPECIAL_WRITES_MAX;
use replication::leader_follower::degrade_ledger::INTERVALS_MAX;
use replication::leader_follower::epochs::EPOCHS_MAX;
use replication::leader_follower::lost_writes::KEPT_BYTES_MAX;
use replication::leader_follower::progress::APPENDS_IN_FLIGHT_MAX;
use replication::leader_follower::sizes::{Kept, Size};
use replication::leader_follower::snapshot::SNAPSHOT_LOG_FACTOR;
use replication::node::{Limits, OnLink};
use replication::turn::OWED_MAX;
use replication::{GroupId, Node, NodeId};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Of so many turns, what a group keeps for long is looked at once: all of it is counted.
const KEPT_TURNS: u64 = 8;

/// So many questions with entries there may be on the way to a follower.
const QUESTIONS: u64 = 2;

/// What was seen of a process before.
#[derive(Debug, Default)]
pub struct Watch {
    turns: u64,
    groups: BTreeMap<GroupId, Before>,
}

/// The same of one of its groups.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    commit: u64,
    /// Its log is kept for a snapshot.
    waits: bool,
    /// Or was, and nothing has been committed since.
    keeps_more: bool,
    horizon_ms: u64,
}

impl Before {
    fn see(&mut self, group: &Group) {
        let (commit, waits) = (group.commit(), group.waits_for_snapshots());
        // A turn may first commit, and then find that a snapshot has arrived.
        let until_now = std::mem::replace(&mut self.waits, waits);
        let still = until_now || (self.keeps_more && commit == self.commit);
        (self.commit, self.keeps_more) = (commit, waits || still);
    }
}

/// Counts something that happened.
type Count<'a> = &'a mut dyn FnMut(&'static str);

/// Looks at a node at the end of a turn.
///
/// # Errors
/// A bound that is not kept, or a counter that is wrong.
pub fn check(node: &Node, limits: &Limits, watch: &mut Watch, count: Count<'_>) -> Verdict {
    watch.turns += 1;
    for (to, link) in node.on_links() {
        window(to, &link, limits, count)?;
    }
    for (group, waiting) in node.waiting_commands() {
        most(("commands that wait for", group), waiting, limits.waiting_commands_max)?;
    }
    // Two queues.
    most("messages that wait for the disk", node.owed_messages(), 2 * OWED_MAX)?;
    for group in node.groups() {
        let before = watch.groups.entry(group.id).or_default();
        uncommitted(group, limits)?;
        replies(group, limits, count)?;
        before.see(group);
        start(group)?;
        if !watch.turns.is_multiple_of(KEPT_TURNS) {
            continue;
        }
        let kept = group.kept();
        log(&kept, limits, before)?;
        once(&kept, limits, before, count)?;
        same("the bytes of lost writes", kept.lost)?;
        most("bytes of lost writes", kept.lost.found, KEPT_BYTES_MAX)?;
        most("intervals of the degrade ledger", kept.degraded, INTERVALS_MAX)?;
        most("leaderships that are remembered", kept.reigns, EPOCHS_MAX)?;
    }
    Ok(())
}

/// What is on its way to a node: one message may go over the window's edge. And where there is room
/// in it, nothing waits: neither another follower nor another group holds it up.
fn window(to: NodeId, link: &OnLink, limits: &Limits, count: Count<'_>) -> Verdict {
    let window = limits.window_bytes_max as u64;
    for (group, on_way) in &link.groups {
        same(("what is on its way to a follower of", group), on_way.bytes)?;
        most(("appends to a follower of", group), on_way.appends, APPENDS_IN_FLIGHT_MAX)?;
    }
    same(("what is on its way to", to), link.bytes)?;
    let newest = link.groups.iter().map(|(_, on_way)| on_way.newest_bytes).max().unwrap_or(0);
    let before = link.bytes.found - newest.min(link.bytes.found);
    if before > 0 && before >= window {
        return Err(format!(
            "bounds: {before} bytes and a message of {newest} are on their way to {to}, whose \
             window has {window}"
        ));
    }
    if link.bytes.found >= window {
        if link.groups.iter().any(|(_, on_way)| on_way.lacks) {
            count("window full");
        }
        return Ok(());
    }
    match link.groups.iter().find(|(_, on_way)| on_way.is_held_up) {
        Some((group, _)) => Err(format!(
            "bounds: {to} is not sent what it lacks of {group:?}, and has {} bytes on their way, \
             of {window}",
            link.bytes.found
        )),
        None => Ok(()),
    }
}

/// What lies between a node and each other one, as the connections themselves have it: the window,
/// and the message that goes over its edge. Besides, a leader that does not know where a follower
/// is asks with some entries: once in a leadership, and again where the answer is that there the
/// logs differ.
///
/// # Errors
/// There is more.
pub fn wire(streams: &Streams, node: &Node, limits: &Limits, largest: u64) -> Verdict {
    let groups = node.groups().count() as u64;
    let limit = limits.window_bytes_max as u64 + largest * (1 + QUESTIONS * groups);
    let members = node.groups().flat_map(|group| &group.members);
    for to in members.filter(|to| **to != node.id()) {
        let found = streams.on_way(node.id(), *to);
        if found > limit {
            return Err(format!(
                "bounds: {found} bytes have not arrived at {to} yet: over {limit}"
            ));
        }
    }
    Ok(())
}

/// What a leader took in and is not committed: it looks before it takes in one more.
fn uncommitted(group: &Group, limits: &Limits) -> Verdict {
    let found = group.uncommitted();
    most(
        "entries of clients that are not committed",
        found.entries,
        limits.uncommitted_entries_max,
    )?;
    let before = found.bytes - found.newest_bytes;
    if before > 0 && before >= limits.uncommitted_bytes_max {
        return Err(format!(
            "bounds: {before} bytes that are not committed, and then {} more: the limit is {}",
            found.newest_bytes, limits.uncommitted_bytes_max
        ));
    }
    Ok(())
}

fn replies(group: &Group, limits: &Limits, count: Count<'_>) -> Verdict {
    let held = group.held_replies();
    if held.writes >= limits.waiting_commands_max {
        count("too many replies wait");
    }
    most("replies to writes that wait", held.writes, limits.waiting_commands_max)?;
    most("replies that wait for acks of their own", held.special, SPECIAL_WRITES_MAX)?;
    same("the bytes of reads that wait", held.read_bytes)
}

/// The log in memory: so much that is committed, and more while a follower needs it after its
/// snapshot; it is cut when something is committed. What is not committed is all there.
fn log(kept: &Kept, limits: &Limits, before: &Before) -> Verdict {
    let factor = if before.keeps_more { SNAPSHOT_LOG_FACTOR } else { 1 };
    same("the bytes of the log", kept.log)?;
    let committed = kept.log.found - kept.tail_bytes.min(kept.log.found);
    most("bytes of committed entries in memory", committed, factor * limits.log_bytes_max)
}

/// Logs are compared by the entry in front of what they have left: its epoch is known.
fn start(group: &Group) -> Verdict {
    match group.id_at(group.log_start()) {
        Some(start) if start.epoch == 0 && start.index > 0 => Err(format!(
            "bounds: nobody knows the epoch of entry {}, after which the log begins",
            start.index
        )),
        _ => Ok(()),
    }
}

/// What is remembered of commands: within both bounds, but that a session is never forgotten for
/// itself.
fn once(kept: &Kept, limits: &Limits, before: &mut Before, count: Count<'_>) -> Verdict {
    same("the bytes of TF.ONCE", kept.once)?;
    if kept.is_ahead {
        return Ok(());
    }
    let forgotten = kept.horizon_ms > before.horizon_ms && before.horizon_ms > 0;
    if forgotten && kept.sessions < limits.once_sessions_max {
        count("session forgotten for its bytes");
    }
    before.horizon_ms = kept.horizon_ms.max(1);
    most("sessions of TF.ONCE", kept.sessions, limits.once_sessions_max)?;
    let bytes_max = limits.once_bytes_max.max(kept.largest_session as usize);
    most("bytes of TF.ONCE", kept.once.found, bytes_max)
}

fn most(what: impl Debug, found: impl TryInto<u64>, limit: usize) -> Verdict {
    let found = found.try_into().unwrap_or(u64::MAX);
    if found > limit as u64 {
        return Err(format!("bounds: {what:?}: {found}, and the limit is {limit}"));
    }
    Ok(())
}

/// What is counted is what there is.
fn same(what: impl Debug, size: Size) -> Verdict {
    if size.found != size.kept {
        return Err(format!(
            "bounds: {what:?}: {} are counted, and there are {}",
            size.kept, size.found
        ));
    }
    Ok(())
}
