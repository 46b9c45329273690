//! What nodes ask each other about lost writes.

use crate::leader_follower::lost_writes::Unheard;
use crate::leader_follower::lost_writes::report::LostWrite;
use crate::version::EntryId;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{DatacenterId, GroupId, KeyspaceId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A lost write's name, as operators write it: keyspace, generation, partition, datacenter, epoch
/// and index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LostId {
    /// The group whose log had it.
    pub group: GroupId,
    /// The entry.
    pub entry: EntryId,
}

/// What such a name is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// A lost write.
    Write,
    /// What is told of the leader of this epoch, which was not heard out.
    Unheard(u64),
    /// The group's reports that were given up.
    GivenUp,
}

impl LostId {
    /// Reads a name; `None` if it is none.
    pub fn parse(text: &[u8]) -> Option<LostId> {
        let text = core::str::from_utf8(text).ok()?;
        let mut parts = text.split('-');
        let group = GroupId {
            keyspace: KeyspaceId(u32::from_str_radix(parts.next()?, 16).ok()?),
            generation: parts.next()?.parse().ok()?,
            partition: parts.next()?.parse().ok()?,
            datacenter: DatacenterId(parts.next()?.parse().ok()?),
        };
        let entry =
            EntryId { epoch: parts.next()?.parse().ok()?, index: parts.next()?.parse().ok()? };
        parts.next().is_none().then_some(LostId { group, entry })
    }

    /// The name of all that is told of an epoch's leader that was not heard out: no entry has the
    /// index 0.
    pub fn of_unheard(group: GroupId, epoch: u64) -> LostId {
        LostId { group, entry: EntryId { epoch, index: 0 } }
    }

    /// The name of the group's reports that were given up: nobody leads in epoch 0.
    pub fn of_given_up(group: GroupId) -> LostId {
        LostId::of_unheard(group, 0)
    }

    /// What it names.
    pub fn named(&self) -> Named {
        match self.entry {
            EntryId { epoch: 0, index: 0 } => Named::GivenUp,
            EntryId { epoch, index: 0 } => Named::Unheard(epoch),
            _ => Named::Write,
        }
    }

    /// The name in print.
    pub fn print(&self) -> String {
        let GroupId { keyspace, generation, partition, datacenter } = self.group;
        format!(
            "{:x}-{generation}-{partition}-{}-{}-{}",
            keyspace.0, datacenter.0, self.entry.epoch, self.entry.index
        )
    }
}

/// A part of the list.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Page<'a> {
    /// Writes that have a key under it.
    pub prefix: &'a [u8],
    /// The ids that come after this one.
    pub after: Option<LostId>,
    /// So many of them.
    pub count: u32,
}

/// What one node asks another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Question<'a> {
    /// Which writes do you report, of those that are asked for?
    List(Page<'a>),
    /// What do you know of this one?
    Find(LostId),
    /// Forget this one, durably; replayed as the entry, if one is given.
    Forget(LostId, Option<EntryId>),
}

impl<'a> Question<'a> {
    /// The question's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut w = Writer(&mut bytes);
        match self {
            Question::List(Page { prefix, after, count }) => {
                w.u8(0);
                w.bytes(prefix);
                write_optional(&mut w, *after);
                w.u32(*count);
            }
            Question::Find(id) => {
                w.u8(1);
                w.group(id.group);
                w.entry_id(id.entry);
            }
            Question::Forget(id, replayed_as) => {
                w.u8(2);
                w.group(id.group);
                w.entry_id(id.entry);
                w.bool(replayed_as.is_some());
                w.entry_id(replayed_as.unwrap_or_default());
            }
        }
        bytes
    }

    /// Reads a question.
    pub fn decode(bytes: &'a [u8]) -> Read<Question<'a>> {
        let mut r = Reader(bytes);
        let question = match r.u8()? {
            0 => {
                let (prefix, after) = (r.bytes()?, read_optional(&mut r)?);
                Question::List(Page { prefix, after, count: r.u32()? })
            }
            1 => Question::Find(LostId { group: r.group()?, entry: r.entry_id()? }),
            2 => {
                let id = LostId { group: r.group()?, entry: r.entry_id()? };
                let (some, entry) = (r.bool()?, r.entry_id()?);
                Question::Forget(id, some.then_some(entry))
            }
            _ => return Err(Malformed),
        };
        r.finish()?;
        Ok(question)
    }
}

/// A report in an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The report.
    pub write: LostWrite,
    /// How many of its values are longer than those shown.
    pub shortened: u32,
}

/// What one node, or all of them, know.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answer {
    /// Reports. Of one write, what is certain counts.
    pub found: BTreeMap<LostId, Found>,
    /// How many more there are.
    pub more: u64,
    /// Up to where nothing is left out; `None` if nothing is left out.
    pub whole_up_to: Option<LostId>,
    /// Names of reports that were forgotten: who knows that counts, and not who still has them.
    pub forgotten: BTreeSet<LostId>,
    /// How many reports were given up.
    pub given_up: BTreeMap<GroupId, u64>,
    /// Earlier leaders that were not heard out.
    pub unheard: Vec<(GroupId, Unheard)>,
    /// Whether something was there to be forgotten.
    pub done: bool,
}

impl Answer {
    /// Takes what another node knows, too.
    pub fn merge(&mut self, other: Answer) {
        for (id, found) in other.found {
            match self.found.get(&id) {
                Some(known) if known.write.is_own => {}
                _ => drop(self.found.insert(id, found)),
            }
        }
        self.more += other.more;
        self.whole_up_to = match (self.whole_up_to, other.whole_up_to) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.forgotten.extend(other.forgotten);
        for (group, count) in other.given_up {
            *self.given_up.entry(group).or_default() += count;
        }
        self.unheard.extend(other.unheard);
        self.done |= other.done;
    }

    /// Takes out what was forgotten although somebody still reports it.
    pub fn hide_forgotten(&mut self) -> Vec<LostId> {
        let forgotten = &self.forgotten;
        let hidden = self.found.extract_if(.., |id, _| forgotten.contains(id));
        hidden.map(|(id, _)| id).collect()
    }

    /// Leaves at most so many reports, and none behind which others are left out; tells after
    /// which the next ones come, if there are any.
    pub fn cut_to(&mut self, count: usize) -> Option<LostId> {
        let mut end = self.whole_up_to;
        if self.found.len() > count {
            let last = self.found.keys().nth(count.saturating_sub(1)).copied();
            end = end.into_iter().chain(last).min();
        }
        let end = end?;
        let before = self.found.len();
        self.found.retain(|id, _| *id <= end);
        self.more += (before - self.found.len()) as u64;
        (self.more > 0).then_some(end)
    }

    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut w = Writer(&mut bytes);
        w.u32(self.found.len() as u32);
        for (id, found) in &self.found {
            w.group(id.group);
            found.write.encode(&mut w);
            w.u32(found.shortened);
        }
        w.u64(self.more);
        write_optional(&mut w, self.whole_up_to);
        w.u32(self.forgotten.len() as u32);
        for id in &self.forgotten {
            w.group(id.group);
            w.entry_id(id.entry);
        }
        w.u32(self.given_up.len() as u32);
        for (group, count) in &self.given_up {
            w.group(*group);
            w.u64(*count);
        }
        w.u32(self.unheard.len() as u32);
        for (group, unheard) in &self.unheard {
            w.group(*group);
            unheard.encode(&mut w);
        }
        w.bool(self.done);
        bytes
    }

    /// Reads an answer.
    pub fn decode(bytes: &[u8]) -> Read<Answer> {
        let mut r = Reader(bytes);
        let mut answer = Answer::default();
        for _ in 0..r.u32()? {
            let group = r.group()?;
            let write = LostWrite::decode(&mut r)?;
            let id = LostId { group, entry: write.id };
            answer.found.insert(id, Found { write, shortened: r.u32()? });
        }
        answer.more = r.u64()?;
        answer.whole_up_to = read_optional(&mut r)?;
        for _ in 0..r.u32()? {
            answer.forgotten.insert(LostId { group: r.group()?, entry: r.entry_id()? });
        }
        for _ in 0..r.u32()? {
            answer.given_up.insert(r.group()?, r.u64()?);
        }
        for _ in 0..r.u32()? {
            answer.unheard.push((r.group()?, Unheard::decode(&mut r)?));
        }
        answer.done = r.bool()?;
        r.finish()?;
        Ok(answer)
    }
}

fn write_optional(w: &mut Writer<'_>, id: Option<LostId>) {
    w.bool(id.is_some());
    if let Some(id) = id {
        w.group(id.group);
        w.entry_id(id.entry);
    }
}

fn read_optional(r: &mut Reader<'_>) -> Read<Option<LostId>> {
    Ok(match r.bool()? {
        true => Some(LostId { group: r.group()?, entry: r.entry_id()? }),
        false => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_printed_and_nothing_else_is() {
        let group = GroupId {
            keyspace: KeyspaceId(0x9ab3_f01c),
            generation: 0,
            partition: 63,
            datacenter: DatacenterId(1),
        };
        let id = LostId { group, entry: EntryId { epoch: 3, index: 17 } };
        assert_eq!(id.print(), "9ab3f01c-0-63-1-3-17");
        assert_eq!(LostId::parse(id.print().as_bytes()), Some(id));
        for wrong in
            ["", "9ab3f01c-0-63-1-3", "9ab3f01c-0-63-1-3-17-1", "user:1", "-----", "\u{e9}"]
        {
            assert_eq!(LostId::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(id.named(), Named::Write);
        assert_eq!(LostId::of_unheard(group, 3).named(), Named::Unheard(3));
        assert_eq!(LostId::of_given_up(group).named(), Named::GivenUp);
    }
}
