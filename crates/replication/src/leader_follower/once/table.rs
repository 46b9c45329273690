//! What a group remembers of the commands that are to be carried out once.

use crate::command::Reply;
use crate::command::once::started_ms;
use crate::keyspace::slot::slot_of;
use crate::version::EntryId;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use xxhash_rust::xxh3::xxh3_64;

/// How many numbers of a session are remembered, from the newest one down: so many commands may a
/// client have under way.
pub const WINDOW: u64 = 32;

/// What a session costs in memory beyond its name and its calls, in bytes: an estimate.
const SESSION_OVERHEAD_BYTES: usize = 200;

/// What a call costs in memory beyond its reply, in bytes: an estimate.
const CALL_OVERHEAD_BYTES: usize = 64;

/// A session's name. In order of their starts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name {
    /// When the client started it, in milliseconds since 1970.
    pub started_ms: u64,
    /// All of the name.
    pub text: Arc<[u8]>,
}

/// The calls of one session that are remembered, by their numbers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Session {
    calls: Vec<Call>,
}

/// A call that was executed.
#[derive(Clone, PartialEq, Debug)]
struct Call {
    sequence: u64,
    id: EntryId,
    /// A hash of the command's words.
    digest: u64,
    /// As [`Reply::encode`] has made it.
    reply: Arc<[u8]>,
}

/// What is known of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Seen {
    /// It was executed: its entry, the hash of its words and its reply.
    Done(EntryId, u64, Reply<'static>),
    /// It was not, and its session is known.
    Open,
    /// It was not, as its session is new.
    New,
    /// It is below the window of its session, whose newest call has this number.
    TooOld(u64),
    /// Its session may have been forgotten, as others that started up to here, in milliseconds
    /// since 1970.
    Forgotten(u64),
}

/// The sessions whose committed state differs from what the table has, for images.
pub type Committed<'a> = BTreeMap<(u16, &'a Name), Option<&'a Arc<Session>>>;

/// All sessions of a group.
#[derive(Debug)]
pub struct OnceTable {
    /// The group's slots: a session belongs to one of them.
    slots: (u16, u16),
    sessions: BTreeMap<(u16, Name), Arc<Session>>,
    /// The same by their starts.
    by_start: BTreeSet<Name>,
    /// The latest start of a session that was forgotten; 0 while none was.
    horizon_ms: u64,
    bytes: usize,
}

impl Name {
    /// A session's name from its text.
    pub fn parse(text: &[u8]) -> Option<Name> {
        Some(Name { started_ms: started_ms(text)?, text: Arc::from(text) })
    }
}

impl OnceTable {
    /// No session, for a group of these slots, first and last.
    pub fn new(slots: (u16, u16)) -> OnceTable {
        let (sessions, by_start) = (BTreeMap::new(), BTreeSet::new());
        OnceTable { slots, sessions, by_start, horizon_ms: 0, bytes: 0 }
    }

    /// What is known of a call.
    pub fn seen(&self, name: &Name, sequence: u64) -> Seen {
        let Some(session) = self.sessions.get(&(self.slot(name), name.clone())) else {
            return match name.started_ms <= self.horizon_ms {
                true => Seen::Forgotten(self.horizon_ms),
                false => Seen::New,
            };
        };
        let newest = session.calls.last().map_or(0, |call| call.sequence);
        match session.calls.iter().find(|call| call.sequence == sequence) {
            Some(call) => match Reply::decode(&mut Reader(&call.reply)) {
                Ok(reply) => Seen::Done(call.id, call.digest, reply.into_owned()),
                Err(_) => Seen::TooOld(newest),
            },
            None if newest.saturating_sub(sequence) >= WINDOW => Seen::TooOld(newest),
            None => Seen::Open,
        }
    }

    /// Which sessions are to be forgotten so that one more reply of a session has room: those with
    /// the oldest start, but not that session itself.
    pub fn to_forget(
        &self,
        name: &Name,
        reply_bytes: usize,
        (sessions_max, bytes_max): (usize, usize),
    ) -> Vec<Name> {
        let is_new = !self.by_start.contains(name);
        let new = if is_new { SESSION_OVERHEAD_BYTES + name.text.len() } else { 0 };
        let mut bytes = self.bytes + reply_bytes + CALL_OVERHEAD_BYTES + new;
        let mut sessions = self.by_start.len() + usize::from(is_new);
        let mut forgotten = Vec::new();
        for oldest in self.by_start.iter().filter(|oldest| *oldest != name) {
            if sessions <= sessions_max && bytes <= bytes_max {
                break;
            }
            let session = self.sessions.get(&(self.slot(oldest), oldest.clone()));
            bytes = bytes.saturating_sub(session.map_or(0, |session| bytes_of(oldest, session)));
            sessions -= 1;
            forgotten.push(oldest.clone());
        }
        forgotten
    }

    /// The slot that a session belongs to.
    pub fn slot(&self, name: &Name) -> u16 {
        let (first, last) = self.slots;
        let count = u32::from(last.saturating_sub(first)) + 1;
        first + (u32::from(slot_of(&name.text)) % count) as u16
    }

    /// A session with one more call that was executed. What falls out of the window is forgotten.
    pub fn with_call(
        &self,
        name: &Name,
        (sequence, digest): (u64, u64),
        id: EntryId,
        reply: &Reply<'_>,
    ) -> Arc<Session> {
        let known = self.sessions.get(&(self.slot(name), name.clone()));
        let mut calls = known.map_or_else(Vec::new, |session| session.calls.clone());
        let mut bytes = Vec::new();
        reply.encode(&mut Writer(&mut bytes));
        calls.retain(|call| call.sequence != sequence);
        let place = calls.partition_point(|call| call.sequence < sequence);
        calls.insert(place, Call { sequence, id, digest, reply: Arc::from(bytes) });
        let newest = calls.last().map_or(0, |call| call.sequence);
        calls.retain(|call| newest.saturating_sub(call.sequence) < WINDOW);
        Arc::new(Session { calls })
    }

    /// Sets what is remembered of a session; returns what was.
    pub fn put(&mut self, name: Name, session: Option<Arc<Session>>) -> Option<Arc<Session>> {
        let key = (self.slot(&name), name);
        let old = self.sessions.remove(&key);
        self.bytes -= old.as_ref().map_or(0, |old| bytes_of(&key.1, old));
        match session {
            Some(session) => {
                self.bytes += bytes_of(&key.1, &session);
                self.by_start.insert(key.1.clone());
                self.sessions.insert(key, session);
            }
            None => {
                self.by_start.remove(&key.1);
            }
        }
        old
    }

    /// The latest start of a session that was forgotten, in milliseconds since 1970.
    pub fn horizon_ms(&self) -> u64 {
        self.horizon_ms
    }

    /// Sets the horizon.
    pub fn set_horizon(&mut self, horizon_ms: u64) {
        self.horizon_ms = horizon_ms;
    }

    /// How many sessions are remembered.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// An estimate of the memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same for each session, counted anew: for observers.
    pub fn recount(&self) -> impl Iterator<Item = usize> {
        self.sessions.iter().map(|((_, name), session)| bytes_of(name, session))
    }

    /// Writes the sessions of a slot as they are committed.
    pub fn encode_slot(&self, slot: u16, committed: &Committed<'_>, w: &mut Writer<'_>) {
        for ((_, name), session) in self.of_slots(slot, slot) {
            if !committed.contains_key(&(slot, name)) {
                session.encode(name, w);
            }
        }
        for ((_, name), session) in committed.iter().filter(|((of, _), _)| *of == slot) {
            if let Some(session) = session {
                session.encode(name, w);
            }
        }
    }

    /// Puts sessions in place of those that these slots held.
    pub fn install(&mut self, (first, last): (u16, u16), sessions: &[u8]) -> Read<()> {
        let old: Vec<Name> = self.of_slots(first, last).map(|((_, n), _)| n.clone()).collect();
        for name in old {
            self.put(name, None);
        }
        let mut r = Reader(sessions);
        while !r.is_empty() {
            let (name, session) = Session::decode(&mut r)?;
            if !(first..=last).contains(&self.slot(&name)) {
                return Err(Malformed);
            }
            self.put(name, Some(Arc::new(session)));
        }
        Ok(())
    }

    fn of_slots(
        &self,
        first: u16,
        last: u16,
    ) -> impl Iterator<Item = (&(u16, Name), &Arc<Session>)> {
        let least = Name { started_ms: 0, text: Arc::from([]) };
        self.sessions.range((first, least)..).take_while(move |((slot, _), _)| *slot <= last)
    }

    /// A hash over all of it: equal for two tables that remember the same.
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::new();
        let mut w = Writer(&mut bytes);
        w.u64(self.horizon_ms);
        for ((_, name), session) in &self.sessions {
            session.encode(name, &mut w);
        }
        xxh3_64(&bytes)
    }
}

impl Session {
    fn encode(&self, name: &Name, w: &mut Writer<'_>) {
        w.bytes(&name.text);
        w.u16(self.calls.len() as u16);
        for call in &self.calls {
            w.u64(call.sequence);
            w.entry_id(call.id);
            w.u64(call.digest);
            w.bytes(&call.reply);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Read<(Name, Session)> {
        let name = Name::parse(r.bytes()?).ok_or(Malformed)?;
        let mut calls = Vec::new();
        for _ in 0..r.u16()? {
            let (sequence, id, digest) = (r.u64()?, r.entry_id()?, r.u64()?);
            calls.push(Call { sequence, id, digest, reply: Arc::from(r.bytes()?) });
        }
        Ok((name, Session { calls }))
    }
}

fn bytes_of(name: &Name, session: &Session) -> usize {
    let calls = session.calls.iter().map(|call| call.reply.len() + CALL_OVERHEAD_BYTES);
    SESSION_OVERHEAD_BYTES + name.text.len() + calls.sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(started_ms: u64) -> Name {
        Name::parse(alloc::format!("{started_ms}-client").as_bytes()).unwrap()
    }

    fn call(table: &mut OnceTable, started_ms: u64, sequence: u64) {
        let id = EntryId { epoch: 1, index: sequence };
        let reply = Reply::Integer(sequence as i64);
        let session = table.with_call(&name(started_ms), (sequence, 9), id, &reply);
        table.put(name(started_ms), Some(session));
    }

    #[test]
    fn a_session_remembers_a_window_in_any_order() {
        let mut table = OnceTable::new((0, 16_383));
        assert_eq!(table.seen(&name(5), 1), Seen::New);
        call(&mut table, 5, 40);
        call(&mut table, 5, 38);
        let id = EntryId { epoch: 1, index: 38 };
        assert_eq!(table.seen(&name(5), 38), Seen::Done(id, 9, Reply::Integer(38)));
        assert_eq!(table.seen(&name(5), 39), Seen::Open);
        assert_eq!(table.seen(&name(5), 9), Seen::Open);
        assert_eq!(table.seen(&name(5), 8), Seen::TooOld(40));
        assert_eq!(table.seen(&name(5), 41), Seen::Open);
        call(&mut table, 5, 70);
        assert_eq!(table.seen(&name(5), 38), Seen::TooOld(70), "38 is 32 below 70");
        assert!(matches!(table.seen(&name(5), 40), Seen::Done(..)));
    }

    #[test]
    fn the_largest_number_is_remembered_like_every_other() {
        let mut table = OnceTable::new((0, 16_383));
        call(&mut table, 5, u64::MAX - WINDOW);
        call(&mut table, 5, u64::MAX);
        assert!(matches!(table.seen(&name(5), u64::MAX), Seen::Done(..)));
        assert_eq!(table.seen(&name(5), u64::MAX - 1), Seen::Open);
        assert_eq!(table.seen(&name(5), u64::MAX - WINDOW), Seen::TooOld(u64::MAX));
    }

    #[test]
    fn the_oldest_start_is_forgotten_first_and_never_the_one_that_calls() {
        let mut table = OnceTable::new((0, 16_383));
        for started_ms in [30, 10, 20] {
            call(&mut table, started_ms, 1);
        }
        let to_forget = |table: &OnceTable, started_ms, sessions| -> Vec<u64> {
            let names = table.to_forget(&name(started_ms), 9, (sessions, 1 << 20));
            names.iter().map(|name| name.started_ms).collect()
        };
        assert_eq!(to_forget(&table, 30, 3), [0u64; 0]);
        assert_eq!(to_forget(&table, 40, 3), [10]);
        assert_eq!(to_forget(&table, 40, 2), [10, 20]);
        assert_eq!(to_forget(&table, 10, 2), [20]);
        assert_eq!(table.to_forget(&name(40), 9, (9, 0)).len(), 3, "bytes count, too");
        table.put(name(10), None);
        table.set_horizon(10);
        assert_eq!(table.seen(&name(10), 1), Seen::Forgotten(10));
        assert_eq!(table.seen(&name(9), 1), Seen::Forgotten(10));
        assert_eq!(table.seen(&name(11), 1), Seen::New);
        assert_eq!(table.seen(&name(20), 2), Seen::Open);
    }

    #[test]
    fn bytes_are_what_is_held_and_images_hold_all_of_it() {
        let mut table = OnceTable::new((0, 99));
        for number in 0..200 {
            call(&mut table, 1000 + number % 40, number);
        }
        let mut copy = OnceTable::new((0, 99));
        for slot in 0..100 {
            let mut bytes = Vec::new();
            table.encode_slot(slot, &Committed::new(), &mut Writer(&mut bytes));
            copy.install((slot, slot), &bytes).unwrap();
        }
        assert_eq!((copy.digest(), copy.bytes()), (table.digest(), table.bytes()));
        for number in 0..40 {
            table.put(name(1000 + number), None);
        }
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }
}
