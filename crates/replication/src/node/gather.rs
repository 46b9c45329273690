//! Commands that were taken apart: their parts' answers, put together again.

use super::Roles;
use super::failed_parts::failure;
use crate::last_writes::LastWrites;
use crate::turn::{Requester, Turn};
use crate::{ClientId, Reply};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// For so many bytes is there room while a list of all keys is on its way: how long it is nobody
/// knows before it is there, and a client may ask for hundreds at once.
const KEYS_ON_THEIR_WAY_BYTES: u64 = 4 << 20;

/// Commands whose parts are out.
#[derive(Default)]
pub struct Gathers {
    next: u64,
    /// See [`Gathers::held_bytes`].
    held_bytes: u64,
    open: BTreeMap<u64, Gather>,
}

/// How the parts make one reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An array, a part at each place.
    Each,
    /// One array of all parts' elements.
    Keys,
    /// Numbers, added up.
    Sum,
    /// One of the parts that is not nil.
    Random,
    /// OK when all are.
    AllOk,
    /// Of the numbers, or of the numbers at each place of the arrays, the least.
    Least,
    /// A lost write that is done again: see `lost_writes/`, under this number.
    Replay(u64),
    /// An array, a part at each place, in which nodes are numbers.
    Switchover,
}

struct Gather {
    requester: Requester,
    kind: Kind,
    writes: bool,
    parts: Vec<Option<Reply<'static>>>,
    missing: usize,
    written: LastWrites,
}

impl Gathers {
    /// A command whose parts are about to go out.
    pub fn open(&mut self, requester: Requester, kind: Kind, parts: usize, writes: bool) -> u64 {
        self.next += 1;
        let gather = Gather {
            requester,
            kind,
            writes,
            parts: vec![None; parts],
            missing: parts,
            written: LastWrites::default(),
        };
        self.held_bytes += gather.held_bytes();
        self.open.insert(self.next, gather);
        self.next
    }

    /// Bytes of the parts that are there, and room for the lists of keys that are not.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The client that a command came from, if it came from one of this node.
    pub fn client(&self, gather: u64) -> Option<ClientId> {
        match self.open.get(&gather)?.requester {
            Requester::Client(request) => Some(request.client),
            _ => None,
        }
    }

    /// Whether a part belongs to a WAIT of a client.
    pub fn is_wait_of(&self, client: ClientId, requester: Requester) -> bool {
        let Requester::Part { gather, .. } = requester else { return false };
        let wait = self.open.get(&gather).filter(|gather| gather.kind == Kind::Least);
        wait.is_some_and(|gather| gather.is_of(client))
    }

    /// A client has gone: nobody asks any more what its WAITs wait for.
    pub fn forget_waits(&mut self, client: ClientId) {
        let is_its = |gather: &Gather| gather.kind == Kind::Least && gather.is_of(client);
        let gone = self.open.extract_if(.., |_, gather| is_its(gather));
        let gone_bytes = gone.map(|(_, gather)| gather.held_bytes()).sum();
        self.held_bytes = self.held_bytes.saturating_sub(gone_bytes);
    }
}

impl Roles {
    /// Takes up the parts that were answered in this step.
    pub(super) fn gather_parts(&mut self, turn: &mut Turn<'_>) {
        while let Some((number, part, reply, last_write)) = turn.local.part_answers.pop_front() {
            let Some(gather) = self.gathers.open.get_mut(&number) else { continue };
            let Some(slot) = gather.parts.get_mut(part as usize) else { continue };
            if slot.is_some() {
                continue;
            }
            self.gathers.held_bytes += reply.held_bytes();
            *slot = Some(reply);
            if let Some(write) = last_write {
                gather.written.add(write);
            }
            gather.missing -= 1;
            if gather.missing == 0
                && let Some(gather) = self.gathers.open.remove(&number)
            {
                let held_bytes = self.gathers.held_bytes;
                self.gathers.held_bytes = held_bytes.saturating_sub(gather.held_bytes());
                let requester = gather.requester;
                if let Kind::Replay(token) = gather.kind {
                    let reply = gather.parts.into_iter().flatten().next().unwrap_or(Reply::Nil);
                    self.on_replayed(turn, token, reply, gather.written.only());
                    continue;
                }
                let names = gather.kind == Kind::Switchover;
                let (mut reply, written) = gather.finish(turn);
                if names {
                    reply = self.told_by_name(reply);
                }
                turn.answer_in_parts(requester, reply, written);
            }
        }
    }
}

impl Gather {
    fn held_bytes(&self) -> u64 {
        let there: u64 = self.parts.iter().flatten().map(Reply::held_bytes).sum();
        there + self.kind.room_bytes()
    }

    fn is_of(&self, client: ClientId) -> bool {
        matches!(self.requester, Requester::Client(request) if request.client == client)
    }

    /// The reply, and what was written, by the parts that have failed, too.
    fn finish(self, turn: &mut Turn<'_>) -> (Reply<'static>, LastWrites) {
        let parts: Vec<Reply<'static>> = self.parts.into_iter().flatten().collect();
        let failure = failure(&parts, self.writes, turn.local.mutants);
        (failure.unwrap_or_else(|| self.kind.join(parts, turn)), self.written)
    }
}

impl Kind {
    /// For how many bytes there is room while parts are on their way.
    fn room_bytes(self) -> u64 {
        if self == Kind::Keys { KEYS_ON_THEIR_WAY_BYTES } else { 0 }
    }

    /// Makes one reply of the parts, none of which has failed.
    fn join(self, parts: Vec<Reply<'static>>, turn: &mut Turn<'_>) -> Reply<'static> {
        match self {
            Kind::Each | Kind::Switchover => Reply::Array(parts),
            Kind::AllOk | Kind::Replay(_) => Reply::Ok,
            Kind::Sum => {
                let number = |part: &Reply<'_>| match part {
                    Reply::Integer(number) => *number,
                    _ => 0,
                };
                Reply::Integer(parts.iter().map(number).sum())
            }
            Kind::Least => parts.into_iter().reduce(least).unwrap_or(Reply::Nil),
            Kind::Keys => {
                let elements = parts.into_iter().flat_map(|part| match part {
                    Reply::Array(elements) => elements,
                    _ => Vec::new(),
                });
                Reply::Array(elements.collect())
            }
            Kind::Random => {
                let mut some: Vec<_> = parts.into_iter().filter(|p| *p != Reply::Nil).collect();
                let place = turn.local.random.range(0, some.len() as u64) as usize;
                if place < some.len() { some.swap_remove(place) } else { Reply::Nil }
            }
        }
    }
}

/// The lesser of two numbers, or of each two at the same place.
fn least(one: Reply<'static>, other: Reply<'static>) -> Reply<'static> {
    match (one, other) {
        (Reply::Integer(one), Reply::Integer(other)) => Reply::Integer(one.min(other)),
        (Reply::Array(one), Reply::Array(other)) => {
            Reply::Array(one.into_iter().zip(other).map(|(one, other)| least(one, other)).collect())
        }
        (one, _) => one,
    }
}
