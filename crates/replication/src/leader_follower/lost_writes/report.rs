//! A write that was cut: who asked for it, what it wrote over, and what its client was told.

use crate::keyspace::AckLevel;
use crate::leader_follower::entry::Once;
use crate::storage::record::Record;
use crate::turn::Asker;
use crate::version::EntryId;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{Incarnation, NodeId};
use alloc::vec::Vec;

/// What a report costs besides its keys and values, about, in bytes.
pub(super) const OVERHEAD_BYTES: usize = 128;

/// What the name of a command that is carried out once costs, with its reply, about, in bytes.
const ONCE_BYTES: usize = 256;

/// An entry that was cut, with what is known of it.
#[derive(Clone, PartialEq, Debug)]
pub struct LostWrite {
    /// The entry.
    pub id: EntryId,
    /// The client's command that it carried out.
    pub asker: Asker,
    /// Who led its epoch, with which disk; `None` where that is forgotten.
    pub leader: Option<(NodeId, Incarnation)>,
    /// Whether this very disk led it: then this node knows what was acknowledged.
    pub is_own: bool,
    /// What its client was told.
    pub status: Status,
    /// The name under which it was carried out once, if it has one: its client may send it again.
    pub once: Option<Once<'static>>,
    /// What it wrote.
    pub what: What,
    /// When it was cut, in milliseconds since 1970.
    pub cut_at_ms: u64,
    /// Whether it is known that no log has it: before that it may come back with another leader.
    pub is_lost: bool,
}

/// What a client was told about its write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// That it is done.
    Acknowledged {
        /// When, in milliseconds since 1970 by the leader's clock.
        at_ms: u64,
        /// What of the copies.
        level: AckLevel,
    },
    /// Nothing, or that its outcome is open.
    NotAcknowledged,
    /// Nobody knows: the leader crashed in between, or its disk is gone; or the write was
    /// committed, so that nothing more was remembered of it, and was lost all the same: under a
    /// possible loss.
    Maybe,
}

/// What a lost write wrote.
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// Some keys.
    Changes(Vec<LostChange>),
    /// It removed all keys there were.
    Everything,
}

/// One key of a lost write.
#[derive(Clone, PartialEq, Debug)]
pub struct LostChange {
    /// The key.
    pub key: Vec<u8>,
    /// What was there before; `None` for nothing.
    pub old: Option<Record<'static>>,
    /// What it put there; `None` for nothing.
    pub new: Option<Record<'static>>,
}

/// Who asked for a write of which only the state has told.
pub const NOT_KNOWN: &str = "not known any more";

impl LostWrite {
    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let of_record = |record: &Option<Record<'static>>| {
            record.as_ref().and_then(Record::value).map_or(0, |value| value.len())
        };
        let of_change = |change: &LostChange| {
            change.key.len() + of_record(&change.old) + of_record(&change.new) + OVERHEAD_BYTES
        };
        let what = match &self.what {
            What::Changes(changes) => changes.iter().map(of_change).sum(),
            What::Everything => 0,
        };
        let once = self.once.as_ref().map_or(0, |once| once.session.len() + ONCE_BYTES);
        OVERHEAD_BYTES + self.asker.label.len() + once + what
    }

    /// Whether a key of it, or all that it may have removed, is under a prefix.
    pub fn is_under(&self, prefix: &[u8], keyspace: &[u8]) -> bool {
        match &self.what {
            What::Changes(changes) => changes.iter().any(|change| change.key.starts_with(prefix)),
            What::Everything => keyspace.starts_with(prefix) || prefix.starts_with(keyspace),
        }
    }

    /// Writes the report.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.entry_id(self.id);
        Asker::encode(Some(&self.asker), w);
        w.option_node(self.leader.map(|(node, _)| node));
        w.u64(self.leader.map_or(0, |(_, incarnation)| incarnation.0));
        w.bool(self.is_own);
        self.status.encode(w);
        Once::encode(self.once.as_ref(), w);
        w.u64(self.cut_at_ms);
        w.bool(self.is_lost);
        match &self.what {
            What::Everything => w.u8(0),
            What::Changes(changes) => {
                w.u8(1);
                w.u32(changes.len() as u32);
                for change in changes {
                    w.bytes(&change.key);
                    for record in [&change.old, &change.new] {
                        w.bool(record.is_some());
                        if let Some(record) = record {
                            w.record(record);
                        }
                    }
                }
            }
        }
    }

    /// Reads what [`LostWrite::encode`] has written.
    pub fn decode(r: &mut Reader<'_>) -> Read<LostWrite> {
        let id = r.entry_id()?;
        let asker = Asker::decode(r)?.ok_or(Malformed)?;
        let (node, incarnation) = (r.option_node()?, r.incarnation()?);
        let leader = node.map(|node| (node, incarnation));
        let (is_own, status) = (r.bool()?, Status::decode(r)?);
        let once = Once::decode(r)?.as_ref().map(Once::without_forgotten);
        let (cut_at_ms, is_lost) = (r.u64()?, r.bool()?);
        let what = match r.u8()? {
            0 => What::Everything,
            1 => {
                let mut changes = Vec::new();
                for _ in 0..r.u32()? {
                    let key = r.bytes()?.to_vec();
                    let old = if r.bool()? { Some(r.record()?.into_owned()) } else { None };
                    let new = if r.bool()? { Some(r.record()?.into_owned()) } else { None };
                    changes.push(LostChange { key, old, new });
                }
                What::Changes(changes)
            }
            _ => return Err(Malformed),
        };
        Ok(LostWrite { id, asker, leader, is_own, status, once, what, cut_at_ms, is_lost })
    }
}

impl Status {
    fn encode(self, w: &mut Writer<'_>) {
        match self {
            Status::Acknowledged { at_ms, level } => {
                w.u8(0);
                w.u64(at_ms);
                encode_level(level, w);
            }
            Status::NotAcknowledged => w.u8(1),
            Status::Maybe => w.u8(2),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Read<Status> {
        Ok(match r.u8()? {
            0 => Status::Acknowledged { at_ms: r.u64()?, level: decode_level(r)? },
            1 => Status::NotAcknowledged,
            2 => Status::Maybe,
            _ => return Err(Malformed),
        })
    }

    /// As it is called in replies.
    pub fn word(self) -> &'static str {
        match self {
            Status::Acknowledged { .. } => "acknowledged",
            Status::NotAcknowledged => "not acknowledged",
            Status::Maybe => "maybe",
        }
    }
}

/// Writes a level.
pub(super) fn encode_level(level: AckLevel, w: &mut Writer<'_>) {
    w.u8(match level {
        AckLevel::Received => 0,
        AckLevel::Durable => 1,
        AckLevel::Applied => 2,
    });
}

/// Reads what [`encode_level`] has written.
pub(super) fn decode_level(r: &mut Reader<'_>) -> Read<AckLevel> {
    match r.u8()? {
        0 => Ok(AckLevel::Received),
        1 => Ok(AckLevel::Durable),
        2 => Ok(AckLevel::Applied),
        _ => Err(Malformed),
    }
}
