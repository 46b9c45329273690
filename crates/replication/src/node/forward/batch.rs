//! Commands to one node, and answers to one: those of a turn travel together, as one message.
//!
//! ```text
//! command: attempt 8, token 8, group 8, epoch 8, who asked, then its words (4 bytes of length)
//! who asked: 0: nobody; 1: node 2, process 4, connection 8, number 8, label; 2: as before,
//! number 8
//! answer: token 8, reply, what was written
//! ```

use crate::turn::{Asker, LastWrite};
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{ClientId, GroupId, NodeId, Reply, Session};
use alloc::vec::Vec;

/// Bytes from which on a batch does not wait for the turn's end. One command or answer may be
/// longer; a frame has room for it and for a batch before it.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// A buffer larger than this is given back when it is empty.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Who asked, borrowed from a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskedBy<'a> {
    /// The node that the client is connected to.
    pub node: NodeId,
    /// Its process.
    pub process: u32,
    /// The connection there.
    pub client: ClientId,
    /// The command's number on the connection.
    pub sequence: u64,
    /// The client's address and the name that it has given itself.
    pub label: &'a [u8],
}

/// A forwarded command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command<'a> {
    /// Rises when the sender has taken note of a `NotHere` for this group.
    pub attempt: u64,
    /// Comes back with the answer.
    pub token: u64,
    /// The group it is for.
    pub group: GroupId,
    /// A write is for the leader of this epoch, and for no other.
    pub epoch: u64,
    /// Who asked.
    pub asker: Option<AskedBy<'a>>,
    /// The command, as encoded by [`crate::node::message::encode_arguments`].
    pub words: &'a [u8],
}

/// What gathers for one node until the turn ends.
#[derive(Default)]
pub(crate) struct Batch {
    /// The receiver's process.
    to: Session,
    bytes: Vec<u8>,
    /// Who asked for the newest command.
    newest: Option<Asker>,
}

/// What gathers for all nodes, by their numbers.
#[derive(Default)]
pub(crate) struct Batches(Vec<Batch>);

impl Batches {
    /// The batch for a node.
    #[inline]
    pub(crate) fn of(&mut self, node: NodeId) -> &mut Batch {
        let place = usize::from(node.0);
        if place >= self.0.len() {
            self.0.resize_with(place + 1, Batch::default);
        }
        &mut self.0[place]
    }

    /// All nodes that there are batches for.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.0.len() as u16).map(NodeId)
    }
}

impl Batch {
    /// Whether what goes to a process cannot join what is in here.
    #[inline]
    pub(crate) fn is_closed_to(&self, to: Session) -> bool {
        !self.bytes.is_empty() && (self.to != to || self.bytes.len() >= BATCH_BYTES_MAX)
    }

    pub(crate) fn add_command(
        &mut self,
        to: Session,
        (attempt, token): (u64, u64),
        (group, epoch): (GroupId, u64),
        asker: Option<&Asker>,
        words: &[u8],
    ) {
        self.to = to;
        let mut w = Writer(&mut self.bytes);
        w.u64(attempt);
        w.u64(token);
        w.group(group);
        w.u64(epoch);
        match asker {
            None => w.u8(0),
            Some(asker) if self.newest.as_ref().is_some_and(|newest| same(newest, asker)) => {
                w.u8(2);
                w.u64(asker.sequence);
            }
            Some(asker) => {
                w.u8(1);
                w.u16(asker.node.0);
                w.u32(asker.process);
                w.u64(asker.client.0);
                w.u64(asker.sequence);
                w.bytes(&asker.label);
                self.newest = Some(asker.clone());
            }
        }
        w.bytes(words);
    }

    pub(crate) fn add_answer(
        &mut self,
        to: Session,
        token: u64,
        reply: &Reply<'_>,
        last_write: Option<LastWrite>,
    ) {
        self.to = to;
        let mut w = Writer(&mut self.bytes);
        w.u64(token);
        reply.encode(&mut w);
        encode_last_write(last_write, &mut w);
    }

    /// Takes what has gathered, if anything has.
    pub(crate) fn take(&mut self) -> Option<(Session, Vec<u8>)> {
        self.newest = None;
        if self.bytes.is_empty() {
            return None;
        }
        Some((self.to, core::mem::take(&mut self.bytes)))
    }

    /// Gives the buffer back that [`Batch::take`] took.
    pub(crate) fn keep_buffer(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        if self.bytes.is_empty() && bytes.capacity() <= BUFFER_BYTES_KEPT {
            self.bytes = bytes;
        }
    }

    /// What has gathered is not said.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.newest = None;
    }
}

/// Whether two commands come from the same connection under the same name.
fn same(a: &Asker, b: &Asker) -> bool {
    (a.node, a.process, a.client) == (b.node, b.process, b.client) && a.label == b.label
}

/// The commands of a batch.
pub fn commands(bytes: &[u8]) -> Commands<'_> {
    Commands { r: Reader(bytes), newest: None }
}

/// The commands of a batch, in order; after malformed bytes there are none.
pub struct Commands<'a> {
    r: Reader<'a>,
    newest: Option<AskedBy<'a>>,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Read<Command<'a>>;

    fn next(&mut self) -> Option<Read<Command<'a>>> {
        if self.r.is_empty() {
            return None;
        }
        let command = self.command();
        if command.is_err() {
            self.r = Reader(&[]);
        }
        Some(command)
    }
}

impl<'a> Commands<'a> {
    fn command(&mut self) -> Read<Command<'a>> {
        let r = &mut self.r;
        let (attempt, token, group, epoch) = (r.u64()?, r.u64()?, r.group()?, r.u64()?);
        let asker = match r.u8()? {
            0 => None,
            1 => {
                let (node, process) = (r.node()?, r.u32()?);
                let (client, sequence) = (ClientId(r.u64()?), r.u64()?);
                Some(AskedBy { node, process, client, sequence, label: r.bytes()? })
            }
            2 => Some(AskedBy { sequence: r.u64()?, ..self.newest.ok_or(Malformed)? }),
            _ => return Err(Malformed),
        };
        self.newest = asker.or(self.newest);
        Ok(Command { attempt, token, group, epoch, asker, words: r.bytes()? })
    }
}

/// The answers of a batch, in order: the token, the reply, and what the write has written. After
/// malformed bytes there are none.
pub fn answers(bytes: &[u8]) -> impl Iterator<Item = Read<Answer<'_>>> {
    let mut r = Reader(bytes);
    core::iter::from_fn(move || {
        if r.is_empty() {
            return None;
        }
        let answer = answer(&mut r);
        if answer.is_err() {
            r = Reader(&[]);
        }
        Some(answer)
    })
}

/// The answer to a forwarded command: its token, the reply, and what the write has written.
pub type Answer<'a> = (u64, Reply<'a>, Option<LastWrite>);

fn answer<'a>(r: &mut Reader<'a>) -> Read<Answer<'a>> {
    let (token, reply) = (r.u64()?, Reply::decode(r)?);
    let last_write = match r.u8()? {
        0 => None,
        1 => Some(LastWrite::Entry { group: r.group()?, id: r.entry_id()? }),
        2 => Some(LastWrite::Copies { acks: r.u16()?, synced: r.bool()? }),
        _ => return Err(Malformed),
    };
    Ok((token, reply, last_write))
}

fn encode_last_write(last_write: Option<LastWrite>, w: &mut Writer<'_>) {
    match last_write {
        None => w.u8(0),
        Some(LastWrite::Entry { group, id }) => {
            w.u8(1);
            w.group(group);
            w.entry_id(id);
        }
        Some(LastWrite::Copies { acks, synced }) => {
            w.u8(2);
            w.u16(acks);
            w.bool(synced);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::version::EntryId;
    use crate::{DatacenterId, Incarnation, KeyspaceId};
    use alloc::sync::Arc;

    const TO: Session = Session { incarnation: Incarnation(3), boot: 2 };

    fn group(partition: u16) -> GroupId {
        let (keyspace, datacenter) = (KeyspaceId(9), DatacenterId(0));
        GroupId { keyspace, generation: 0, partition, datacenter }
    }

    fn asker(client: u64, sequence: u64) -> Asker {
        let label = Arc::from(alloc::format!("client {client}").into_bytes());
        Asker { node: NodeId(1), process: 7, client: ClientId(client), sequence, label }
    }

    #[test]
    fn commands_come_back_with_their_askers() {
        let askers =
            [Some(asker(1, 5)), Some(asker(1, 6)), None, Some(asker(1, 7)), Some(asker(2, 1))];
        let mut batch = Batch::default();
        for (number, asker) in (0u16..).zip(&askers) {
            let names = (u64::from(number), 100 + u64::from(number));
            batch.add_command(TO, names, (group(number), 6), asker.as_ref(), b"words");
        }
        let (to, bytes) = batch.take().unwrap();
        assert_eq!(to, TO);
        assert!(batch.take().is_none());
        let found: Vec<Command<'_>> = commands(&bytes).map(Result::unwrap).collect();
        assert_eq!(found.len(), askers.len());
        for (number, (command, asker)) in (0u16..).zip(found.iter().zip(&askers)) {
            let names = (command.attempt, command.token, command.group, command.epoch);
            assert_eq!(names, (number.into(), 100 + u64::from(number), group(number), 6));
            let asked = asker.as_ref().map(|a| (a.node, a.client, a.sequence, &*a.label));
            assert_eq!(command.asker.map(|a| (a.node, a.client, a.sequence, a.label)), asked);
        }
        for length in 0..bytes.len() {
            let cut = bytes.get(..length).unwrap();
            assert!(commands(cut).count() <= askers.len());
        }
    }

    #[test]
    fn answers_come_back_and_malformed_bytes_end_them() {
        let id = EntryId { epoch: 1, index: 2 };
        let all = [
            (1, Reply::Ok, Some(LastWrite::Entry { group: group(1), id })),
            (2, Reply::Bulk(b"value".as_slice().into()), None),
            (3, Reply::Nil, Some(LastWrite::Copies { acks: 2, synced: true })),
        ];
        let mut batch = Batch::default();
        for (token, reply, last_write) in &all {
            batch.add_answer(TO, *token, reply, *last_write);
        }
        let (_, mut bytes) = batch.take().unwrap();
        let found: Vec<_> = answers(&bytes).map(Result::unwrap).collect();
        assert_eq!(found, all);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(answers(&bytes).filter(Result::is_ok).count(), 2);
        assert_eq!(answers(&bytes).count(), 3);
    }

    #[test]
    fn a_batch_is_closed_to_another_process_and_when_it_is_long() {
        let mut batch = Batch::default();
        assert!(!batch.is_closed_to(TO));
        batch.add_answer(TO, 1, &Reply::Ok, None);
        assert!(!batch.is_closed_to(TO));
        assert!(batch.is_closed_to(Session { boot: 3, ..TO }));
        batch.add_answer(TO, 2, &Reply::Bulk(alloc::vec![0; BATCH_BYTES_MAX].into()), None);
        assert!(batch.is_closed_to(TO));
    }
}
