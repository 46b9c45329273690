//! DEL and UNLINK of several keys: those of one partition are one entry, as MSET's are, so that a
//! command of any length is done in each partition or not at all.
//!
//! In a leaderless keyspace each key is a quorum write of its own. A command with more of them than
//! may be under way is refused before anything is done.

use super::Roles;
use super::gather::Kind;
use super::requests::{NO_KEYSPACE, Work, encode_words, refusal, with_words};
use crate::command::verb::With;
use crate::command::{KeyCommand, Verb};
use crate::keyspace::Model;
use crate::turn::{Requester, Turn};
use crate::{Arguments, GroupId, Span};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// Keys of leaderless keyspaces that one command deletes: half of the operations that a node may
/// have under way.
const LEADERLESS_KEYS_MAX: usize = crate::leaderless::OPERATIONS_MAX / 2;

/// One part of the command.
enum Share<'a> {
    One(&'a [u8]),
    Many(GroupId, Vec<&'a [u8]>),
}

impl Roles {
    /// Starts a DEL of several keys.
    pub(super) fn start_delete_many(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        keys: Arguments<'_>,
        with: With,
    ) {
        let mut leaderless = Vec::new();
        let mut with_leader: BTreeMap<GroupId, Vec<&[u8]>> = BTreeMap::new();
        for key in keys.iter() {
            let Some((group, keyspace)) = self.group_of(key) else {
                return turn.refuse(requester, NO_KEYSPACE);
            };
            match keyspace.model {
                Model::Leaderless(_) => leaderless.push(Share::One(key)),
                _ => with_leader.entry(group).or_default().push(key),
            }
        }
        if leaderless.len() > LEADERLESS_KEYS_MAX {
            let text = format!(
                "ERR {} keys of leaderless keyspaces in one command, each a quorum write of its \
                 own; at most {LEADERLESS_KEYS_MAX}, nothing was done",
                leaderless.len()
            );
            return turn.refuse(requester, text);
        }
        let shares = with_leader.into_iter().map(|(group, keys)| match keys.as_slice() {
            [key] => Share::One(key),
            _ => Share::Many(group, keys),
        });
        let shares: Vec<Share<'_>> = shares.chain(leaderless).collect();
        let gather = self.gathers.open(requester, Kind::Sum, shares.len(), true);
        for (part, share) in shares.into_iter().enumerate() {
            let requester = Requester::Part { gather, part: part as u32 };
            match share {
                Share::One(key) => self.delete_one(turn, requester, key, with),
                Share::Many(group, keys) => self.delete_in(turn, requester, group, &keys, with),
            }
        }
    }

    fn delete_one(&mut self, turn: &mut Turn<'_>, requester: Requester, key: &[u8], with: With) {
        let command = KeyCommand { key, verb: Verb::Delete };
        let encode = |out: &mut Vec<u8>| encode_words(&with_words(with, &[b"DEL", key]), out);
        self.start_key(turn, requester, &command, with, &encode);
    }

    fn delete_in(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        group: GroupId,
        keys: &[&[u8]],
        with: With,
    ) {
        let (mut bytes, mut spans) = (Vec::new(), Vec::with_capacity(keys.len()));
        for key in keys {
            spans.push(Span { start: bytes.len() as u32, length: key.len() as u32 });
            bytes.extend_from_slice(key);
        }
        let work = Work::DeleteMany(Arguments::new(&bytes, &spans), with);
        let keyspace = self.cluster.keyspace(group.keyspace);
        if let Some(refusal) = keyspace.and_then(|keyspace| refusal(keyspace, &work)) {
            return turn.answer(requester, refusal, None);
        }
        let encode = |out: &mut Vec<u8>| {
            let words: Vec<&[u8]> = [&b"DEL"[..]].into_iter().chain(keys.iter().copied()).collect();
            encode_words(&with_words(with, &words), out);
        };
        self.deliver(turn, requester, group, &work, &encode);
    }
}
