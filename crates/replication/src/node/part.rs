//! A group's share of a command that means many keys or the whole cluster: what one node asks
//! another to do with one group. Travels like a client's command, under a name that clients
//! cannot use.

use super::message::encode_arguments;
use crate::asked_token::AskedToken;
use crate::version::EntryId;
use crate::wire::{Read, Reader, Writer};
use crate::{Arguments, NodeId, Span};
use alloc::vec::Vec;

/// The name that opens the encoded arguments; only peers may send it.
pub const PART: &[u8] = b"TF.PART";

/// A group's share.
#[derive(Clone, PartialEq, Debug)]
pub enum Part<'a> {
    /// How many keys the group has.
    Size,
    /// The group's keys that match a pattern.
    Keys(&'a [u8]),
    /// Any key of the group.
    Random,
    /// Remove all keys of the group.
    Flush,
    /// A page of the group's keys.
    Scan {
        /// The slot to go on in.
        slot: u16,
        /// The key hash in it to go on from.
        hash: u64,
        /// About how many keys to look at.
        count: u64,
        /// Only keys that match.
        pattern: Option<&'a [u8]>,
    },
    /// Wait until so many followers have an entry.
    Wait {
        /// The entry.
        id: EntryId,
        /// How many followers.
        replicas: u64,
        /// How long, in milliseconds.
        timeout_ms: u64,
        /// WAITAOF: how many copies of the leader's own.
        local: Option<u64>,
    },
    /// What has become of an entry.
    Outcome(EntryId),
    /// What has become of a command that was forwarded.
    OutcomeAsked(AskedToken),
    /// The group's degrade ledger.
    Degraded,
    /// The leader hands over.
    Switchover {
        /// To whom; the leader chooses where nobody is named.
        to: Option<NodeId>,
    },
    /// Do a lost write again: its report, encoded.
    Replay(&'a [u8]),
}

impl<'a> Part<'a> {
    /// Whether it changes anything: then it is never sent twice.
    pub fn is_write(&self) -> bool {
        matches!(self, Part::Flush | Part::Replay(_) | Part::Switchover { .. })
    }

    /// Adds the part as a forwarded command.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let mut w = Writer(&mut body);
        match self {
            Part::Size => w.u8(0),
            Part::Keys(pattern) => {
                w.u8(1);
                w.bytes(pattern);
            }
            Part::Random => w.u8(2),
            Part::Flush => w.u8(3),
            Part::Scan { slot, hash, count, pattern } => {
                w.u8(4);
                w.u16(*slot);
                w.u64(*hash);
                w.u64(*count);
                w.bool(pattern.is_some());
                w.bytes(pattern.unwrap_or(&[]));
            }
            Part::Wait { id, replicas, timeout_ms, local } => {
                w.u8(5);
                w.entry_id(*id);
                w.u64(*replicas);
                w.u64(*timeout_ms);
                w.option_u64(*local);
            }
            Part::Outcome(id) => {
                w.u8(6);
                w.entry_id(*id);
            }
            Part::OutcomeAsked(asked) => {
                w.u8(10);
                asked.write(&mut w);
            }
            Part::Degraded => w.u8(7),
            Part::Switchover { to } => {
                w.u8(8);
                w.option_node(*to);
            }
            Part::Replay(report) => {
                w.u8(9);
                w.bytes(report);
            }
        }
        let mut bytes = PART.to_vec();
        let name = Span { start: 0, length: PART.len() as u32 };
        let argument = Span { start: name.length, length: body.len() as u32 };
        bytes.extend_from_slice(&body);
        encode_arguments(&Arguments::new(&bytes, &[name, argument]), out);
    }

    /// Reads a part from the argument that follows the name.
    pub fn decode(body: &'a [u8]) -> Read<Part<'a>> {
        let mut r = Reader(body);
        let part = match r.u8()? {
            0 => Part::Size,
            1 => Part::Keys(r.bytes()?),
            2 => Part::Random,
            3 => Part::Flush,
            4 => {
                let (slot, hash, count, some) = (r.u16()?, r.u64()?, r.u64()?, r.bool()?);
                let pattern = r.bytes()?;
                Part::Scan { slot, hash, count, pattern: some.then_some(pattern) }
            }
            5 => Part::Wait {
                id: r.entry_id()?,
                replicas: r.u64()?,
                timeout_ms: r.u64()?,
                local: r.option_u64()?,
            },
            6 => Part::Outcome(r.entry_id()?),
            7 => Part::Degraded,
            8 => Part::Switchover { to: r.option_node()? },
            9 => Part::Replay(r.bytes()?),
            10 => Part::OutcomeAsked(AskedToken::read(&mut r)?),
            _ => return Err(crate::wire::Malformed),
        };
        r.finish()?;
        Ok(part)
    }
}
