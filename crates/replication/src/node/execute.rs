//! Carrying work out on this node, if it can.

use super::part::Part;
use super::requests::Work;
use super::routes::Route;
use super::{Roles, multi_leader};
use crate::command::verb::With;
use crate::command::{KeyCommand, glob};
use crate::keyspace::slot::slot_of;
use crate::keyspace::{Reads, SLOTS};
use crate::leader_follower::Group;
use crate::leader_follower::acks::copies::wait_counts;
use crate::leader_follower::acks::need::Need;
use crate::leader_follower::lost_writes::report::LostWrite;
use crate::storage::record::Record;
use crate::storage::store::Store;
use crate::turn::{Requester, Turn};
use crate::wire::Reader;
use crate::{Arguments, GroupId, Reply};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Keys that one SCAN looks at, at most, whatever its COUNT.
const SCAN_KEYS_MAX: u64 = 10_000;

impl Roles {
    /// Carries the work out here; false if this node cannot, and then nothing has happened.
    pub(super) fn try_here(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        id: GroupId,
        work: &Work<'_>,
    ) -> bool {
        if id.datacenter == GroupId::EVERYWHERE {
            return self.try_leaderless(turn, requester, id, work);
        }
        let Some(place) = self.groups.place_of(&id) else { return false };
        if let Work::Key(command, with) = work {
            return self.try_key(turn, requester, place, command, *with);
        }
        let after = match work {
            Work::Part(_) => self.scan_goes_on(id),
            _ => GoesOn::default(),
        };
        let Some(group) = self.groups.at(place).filter(|group| group.leads()) else { return false };
        if let Work::Part(Part::Switchover { to }) = work {
            self.switch_over(turn, requester, id, *to);
            return true;
        }
        if group.is_handing_over() {
            // Nothing has happened: it waits where it came from, for whoever leads next.
            return false;
        }
        let need = match work
            .with()
            .map_or_else(|| Ok(group.need()), |with| group.need_with(turn, with))
        {
            Ok(need) => need,
            Err(why) => {
                turn.refuse(requester, why);
                return true;
            }
        };
        let is_over = match work {
            Work::Part(Part::OutcomeAsked(asked)) => self.forwards.seen.is_over(asked),
            _ => false,
        };
        match work {
            Work::Part(Part::OutcomeAsked(asked)) => {
                group.hold_outcome_asked(turn, requester, *asked, is_over);
            }
            Work::Once(..) if group.merges() => return false,
            Work::SetMany(pairs, _) if group.merges() => {
                multi_leader::set_many(group, turn, requester, *pairs, need);
            }
            Work::Part(Part::Flush) if group.merges() => {
                multi_leader::flush(group, turn, requester);
            }
            Work::Once(id, work) => match &**work {
                Work::Key(command, _) => group.execute_once(turn, requester, *id, command, need),
                Work::SetMany(pairs, _) => {
                    group.set_many_once(turn, requester, *id, *pairs, need);
                }
                _ => return false,
            },
            // Taken above.
            Work::Key(..) => return false,
            Work::SetMany(pairs, _) => group.set_many(turn, requester, *pairs, need),
            Work::DeleteMany(keys, _) => delete_many(group, turn, requester, *keys, need),
            Work::Part(part) => {
                let prefix = self.cluster.keyspace(id.keyspace).map(|keyspace| &*keyspace.prefix);
                lead_part(group, turn, requester, part, prefix.unwrap_or_default(), after);
            }
        }
        true
    }

    /// The same for a command on one key, whose way is known, and its slot where that was found.
    #[inline]
    pub(super) fn try_on_route(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        (route, slot): (Route, Option<u16>),
        command: &KeyCommand<'_>,
        with: With,
    ) -> bool {
        match route.place {
            Some(place) => self.try_key(turn, requester, place, command, with),
            None if route.group.datacenter == GroupId::EVERYWHERE => {
                let leaderless = self.leaderless.get_mut(&route.group.keyspace);
                let Some(leaderless) = leaderless.filter(|held| held.holds(route.group)) else {
                    return false;
                };
                let slot = slot.unwrap_or_else(|| slot_of(command.key));
                leaderless.execute(turn, requester, (route.group, slot), command, with);
                true
            }
            None => false,
        }
    }

    /// A command on one key of the group at a place.
    fn try_key(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        place: usize,
        command: &KeyCommand<'_>,
        with: With,
    ) -> bool {
        let Some(group) = self.groups.at(place) else { return false };
        if !group.leads() {
            let here = group.follower_reads(turn) && !command.verb.is_write();
            if here {
                match group.merges() {
                    true => multi_leader::read_here(group, turn, requester, command),
                    false => group.read_here(turn, requester, command),
                }
            }
            return here;
        }
        if group.is_handing_over() {
            // Nothing has happened: it waits where it came from, for whoever leads next.
            return false;
        }
        match group.need_with(turn, with) {
            Ok(need) if group.merges() => {
                multi_leader::execute(group, turn, requester, command, need);
            }
            Ok(need) => group.execute(turn, requester, command, need),
            Err(why) => turn.refuse(requester, why),
        }
        true
    }

    fn try_leaderless(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        id: GroupId,
        work: &Work<'_>,
    ) -> bool {
        let after = match work {
            Work::Part(_) => self.scan_goes_on(id),
            _ => GoesOn::default(),
        };
        let Some(leaderless) = self.leaderless.get_mut(&id.keyspace) else { return false };
        if !leaderless.holds(id) {
            return false;
        }
        match work {
            Work::Key(command, with) => {
                let group_and_slot = (id, slot_of(command.key));
                leaderless.execute(turn, requester, group_and_slot, command, *with);
            }
            Work::Part(Part::Flush) => leaderless.flush(turn, requester, id),
            Work::Part(part) => {
                let now_ms = turn.now.wall_ms;
                let Some(store) = leaderless.store(id) else { return false };
                let reply = look(turn, store, part, now_ms, after);
                turn.answer(requester, reply, None);
            }
            Work::SetMany(..) | Work::DeleteMany(..) | Work::Once(..) => return false,
        }
        true
    }

    /// Starts a SCAN at its cursor.
    pub(super) fn start_scan(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        scan: crate::command::verb::Scan<'_>,
    ) {
        if scan.kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"string")) {
            // There are only strings: nothing else is to be found anywhere.
            return turn.answer(requester, scan_reply(0, Vec::new()), None);
        }
        let place = match scan.cursor {
            0 => self.first_scan_place(),
            cursor => self.scan_place(cursor),
        };
        let Some((group, slot, hash)) = place else {
            return turn.answer(requester, scan_reply(0, Vec::new()), None);
        };
        let count = scan.count.clamp(1, SCAN_KEYS_MAX);
        let part = Part::Scan { slot, hash, count, pattern: scan.pattern };
        self.deliver(turn, requester, group, &Work::Part(part.clone()), &|out| part.encode(out));
    }

    fn first_scan_place(&self) -> Option<(GroupId, u16, u64)> {
        let keyspace = self.cluster.keyspaces.first()?;
        Some((self.group_in(keyspace, 0), 0, 0))
    }

    /// What a cursor means: the keyspace, the slot in it, the key hash in that.
    fn scan_place(&self, cursor: u64) -> Option<(GroupId, u16, u64)> {
        let (place, slot, hash) = split_cursor(cursor)?;
        let keyspace = self.cluster.keyspaces.get(place)?;
        let group = self.group_in(keyspace, keyspace.partition_of(slot));
        Some((group, slot, hash))
    }

    /// Where a scan goes on behind a group's last slot.
    fn scan_goes_on(&self, id: GroupId) -> GoesOn {
        let keyspaces = &self.cluster.keyspaces;
        let place = keyspaces.iter().position(|keyspace| keyspace.id == id.keyspace);
        let Some((keyspace, found)) = place.and_then(|p| Some((p, keyspaces.get(p)?))) else {
            return GoesOn { keyspace: 0, cursor: 0 };
        };
        let (_, last_slot) = found.slots_of(id.partition);
        let cursor = match last_slot + 1 < SLOTS {
            true => cursor(keyspace, last_slot + 1, 0),
            false if keyspace + 1 < keyspaces.len() => cursor(keyspace + 1, 0, 0),
            false => 0,
        };
        GoesOn { keyspace, cursor }
    }

    /// Whether any member may answer a group's reads.
    pub(super) fn reads_anywhere(&self, id: GroupId) -> bool {
        let keyspace = self.cluster.keyspace(id.keyspace);
        keyspace.is_some_and(|keyspace| {
            keyspace.model.group().is_none_or(|group| group.reads == Reads::Follower)
        })
    }
}

/// Where a scan is: the keyspace's place in the table, and the cursor behind the group's slots, 0
/// when that is the end of all.
#[derive(Clone, Copy, Default)]
struct GoesOn {
    keyspace: usize,
    cursor: u64,
}

fn delete_many(
    group: &mut Group,
    turn: &mut Turn<'_>,
    requester: Requester,
    keys: Arguments<'_>,
    need: Need,
) {
    match group.merges() {
        true => multi_leader::delete_many(group, turn, requester, keys, need),
        false => group.delete_many(turn, requester, keys, need),
    }
}

/// A group's share of something larger, at the group's leader.
fn lead_part(
    group: &mut Group,
    turn: &mut Turn<'_>,
    requester: Requester,
    part: &Part<'_>,
    prefix: &[u8],
    after: GoesOn,
) {
    match part {
        Part::Flush => group.flush(turn, requester),
        Part::Wait { id, replicas, timeout_ms, local } => match group.has(*id) {
            true => {
                let wanted = (*replicas, *local);
                group.hold_wait(turn, requester, id.index, wanted, *timeout_ms);
            }
            // A failover has put another entry in its place: nobody has it.
            false => turn.answer(requester, wait_counts(local.is_some(), false, 0), None),
        },
        Part::Outcome(id) => group.hold_outcome(turn, requester, *id),
        Part::Degraded => group.hold_degraded(turn, requester, prefix),
        Part::Replay(report) => match LostWrite::decode(&mut Reader(report)) {
            Ok(lost) if group.merges() => {
                multi_leader::replay_lost(group, turn, requester, &lost);
            }
            Ok(lost) => group.replay_lost(turn, requester, &lost),
            Err(_) => turn.refuse(requester, "ERR a malformed report"),
        },
        // Taken before.
        Part::OutcomeAsked(_) | Part::Switchover { .. } => {
            turn.refuse(requester, "ERR nobody here can hand over");
        }
        Part::Size | Part::Keys(_) | Part::Random | Part::Scan { .. } => {
            // What this reply does not show any more must not come back under a later leader
            // with a slower clock: a removal in the log keeps the group's time.
            group.expire_due(turn);
            let now_ms = group.time_ms(turn);
            let reply = look(turn, &group.state.store, part, now_ms, after);
            group.answer_range(turn, requester, reply);
        }
    }
}

/// What a group's records say to a part that only looks.
fn look(
    turn: &mut Turn<'_>,
    store: &Store,
    part: &Part<'_>,
    now_ms: u64,
    after: GoesOn,
) -> Reply<'static> {
    let live = |record: &Record<'_>| record.is_live(now_ms);
    match part {
        Part::Size => Reply::Integer(store.live_at(now_ms) as i64),
        Part::Keys(pattern) => {
            let all = store.iter_slots(store.first_slot(), store.last_slot());
            let keys = all.filter(|(key, record)| live(record) && glob::matches(pattern, key));
            Reply::Array(keys.map(|(key, _)| bulk(key)).collect())
        }
        Part::Random => match store.random(&mut turn.local.random) {
            Some(key) if store.get(key).is_some_and(|record| live(&record)) => bulk(key),
            Some(_) => first_live(store, now_ms),
            None => Reply::Nil,
        },
        Part::Scan { slot, hash, count, pattern } => {
            scan(store, (*slot, *hash), *count, *pattern, now_ms, after)
        }
        Part::Flush
        | Part::Wait { .. }
        | Part::Outcome(_)
        | Part::OutcomeAsked(_)
        | Part::Degraded
        | Part::Replay(_)
        | Part::Switchover { .. } => Reply::error("ERR not a look at the records of one group"),
    }
}

fn first_live(store: &Store, now_ms: u64) -> Reply<'static> {
    let mut all = store.iter_slots(store.first_slot(), store.last_slot());
    let live = all.find(|(_, record)| record.is_live(now_ms));
    live.map_or(Reply::Nil, |(key, _)| bulk(key))
}

/// Walks the slots from a place on until enough keys were looked at.
fn scan(
    store: &Store,
    from: (u16, u64),
    count: u64,
    pattern: Option<&[u8]>,
    now_ms: u64,
    after: GoesOn,
) -> Reply<'static> {
    let page = store.page(from.0, from.1, usize::try_from(count).unwrap_or(usize::MAX));
    let keys = page.entries.iter().filter(|(key, record)| {
        record.is_live(now_ms) && pattern.is_none_or(|pattern| glob::matches(pattern, key))
    });
    let keys = keys.map(|(key, _)| bulk(key)).collect();
    let next = page.next.map(|(slot, hash)| cursor(after.keyspace, slot, hash));
    scan_reply(next.unwrap_or(after.cursor), keys)
}

fn scan_reply(next: u64, keys: Vec<Reply<'static>>) -> Reply<'static> {
    let next = Reply::Bulk(Cow::Owned(format!("{next}").into_bytes()));
    Reply::Array(vec![next, Reply::Array(keys)])
}

fn bulk(key: &[u8]) -> Reply<'static> {
    Reply::Bulk(Cow::Owned(key.to_vec()))
}

const CURSOR_HASH_BITS: u32 = 32;
const CURSOR_SLOT_BITS: u32 = 14;

/// A SCAN cursor: the keyspace's place from 1, the slot, and the upper half of the key's hash.
fn cursor(keyspace: usize, slot: u16, hash: u64) -> u64 {
    let keyspace = (keyspace as u64 + 1) << (CURSOR_SLOT_BITS + CURSOR_HASH_BITS);
    keyspace | (u64::from(slot) << CURSOR_HASH_BITS) | (hash >> 32)
}

fn split_cursor(cursor: u64) -> Option<(usize, u16, u64)> {
    let keyspace = (cursor >> (CURSOR_SLOT_BITS + CURSOR_HASH_BITS)).checked_sub(1)?;
    let slot = (cursor >> CURSOR_HASH_BITS) as u16 & (SLOTS - 1);
    Some((keyspace as usize, slot, cursor << 32))
}
