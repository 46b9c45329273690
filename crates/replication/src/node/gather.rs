//! Commands that were taken apart: their parts' answers, put together again.

use super::Roles;
use super::failed_parts::failure;
use crate::turn::{LastWrite, Requester, Turn};
use crate::{ClientId, Reply};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// Commands whose parts are out.
#[derive(Default)]
pub struct Gathers {
    next: u64,
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
    last_write: Option<LastWrite>,
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
            last_write: None,
        };
        self.open.insert(self.next, gather);
        self.next
    }

    /// The client that a command came from, if it came from one of this node.
    pub fn client(&self, gather: u64) -> Option<ClientId> {
        match self.open.get(&gather)?.requester {
            Requester::Client(request) => Some(request.client),
            _ => None,
        }
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
            *slot = Some(reply);
            gather.last_write = last_write.or(gather.last_write);
            gather.missing -= 1;
            if gather.missing == 0
                && let Some(gather) = self.gathers.open.remove(&number)
            {
                let (requester, last_write) = (gather.requester, gather.last_write);
                if let Kind::Replay(token) = gather.kind {
                    let reply = gather.parts.into_iter().flatten().next().unwrap_or(Reply::Nil);
                    self.on_replayed(turn, token, reply, last_write);
                    continue;
                }
                let names = gather.kind == Kind::Switchover;
                let mut reply = gather.finish(turn);
                if names {
                    reply = self.told_by_name(reply);
                }
                turn.answer(requester, reply, last_write);
            }
        }
    }
}

impl Gather {
    fn finish(self, turn: &mut Turn<'_>) -> Reply<'static> {
        let parts: Vec<Reply<'static>> = self.parts.into_iter().flatten().collect();
        if let Some(failure) = failure(&parts, self.writes) {
            return failure;
        }
        match self.kind {
            Kind::Each | Kind::Switchover => Reply::Array(parts),
            Kind::AllOk | Kind::Replay(_) => Reply::Ok,
            Kind::Sum => {
                let number = |part: &Reply<'_>| match part {
                    Reply::Integer(number) => *number,
                    _ => 0,
                };
                Reply::Integer(parts.iter().map(number).sum())
            }
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
