//! What one turn has to say to each peer, and what may be said only when the log is kept.

use super::message::{Message, Parts};
use super::parts::Part;
use crate::keyspace::Durability;
use crate::turn::Turn;
use crate::{GroupId, KeyspaceId, NodeId, Position};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A batch of so many bytes leaves before the end of the turn, so that no frame is refused for
/// its length.
const BATCH_BYTES_MAX: usize = 128 << 10;

/// A peer's buffer that has grown beyond this is given back when it is sent.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// What has gathered for each peer, by its number.
pub(super) struct Outbox {
    keyspace: KeyspaceId,
    generation: u8,
    buffers: Vec<Vec<u8>>,
    owed_synced: VecDeque<Owed>,
    owed_written: VecDeque<Owed>,
}

/// A part that waits for the log.
struct Owed {
    position: Position,
    to: NodeId,
    part: OwedPart,
}

/// What is said of most operations needs no memory of its own.
pub(super) enum OwedPart {
    /// The answer to a write that is kept.
    Kept(u64),
    /// The answer to a read that found the same.
    Same(u64),
    /// Anything else, encoded.
    Encoded(Box<[u8]>),
}

impl Outbox {
    /// Empty, for the groups of a keyspace, whose replicas have these numbers.
    pub(super) fn new(group: GroupId, peers: impl Iterator<Item = NodeId>) -> Outbox {
        let count = peers.map(|node| usize::from(node.0) + 1).max().unwrap_or(0);
        let mut buffers = Vec::new();
        buffers.resize_with(count, Vec::new);
        let GroupId { keyspace, generation, .. } = group;
        let (owed_synced, owed_written) = (VecDeque::new(), VecDeque::new());
        Outbox { keyspace, generation, buffers, owed_synced, owed_written }
    }

    /// Whether this turn tells a peer something.
    #[inline]
    pub(super) fn has_something_for(&self, node: NodeId) -> bool {
        self.buffers.get(usize::from(node.0)).is_some_and(|buffer| !buffer.is_empty())
    }

    /// Adds a part for a peer by writing it to the end of its buffer.
    pub(super) fn say(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(buffer) = self.buffers.get_mut(usize::from(to.0)) else { return };
        write(buffer);
        if buffer.len() >= BATCH_BYTES_MAX {
            send(turn, (self.keyspace, self.generation), to, buffer);
        }
    }

    /// Adds a part when the log is kept up to a position: a node never says what it does not
    /// durably hold.
    pub(super) fn say_when_durable(
        &mut self,
        turn: &mut Turn<'_>,
        (position, durability): (Position, Durability),
        to: NodeId,
        part: OwedPart,
    ) {
        if turn.local.durable(durability) >= position {
            return self.say(turn, to, |bytes| part.encode(bytes));
        }
        let owed = Owed { position, to, part };
        match durability {
            Durability::Fsync => self.owed_synced.push_back(owed),
            Durability::Interval => self.owed_written.push_back(owed),
        }
    }

    /// The log is kept further than before: what was owed is said.
    pub(super) fn say_owed(&mut self, turn: &mut Turn<'_>) {
        let (written, synced) = (turn.local.written, turn.local.synced);
        while let Some(owed) = self.owed_synced.pop_front_if(|o| o.position <= synced) {
            self.say(turn, owed.to, |bytes| owed.part.encode(bytes));
        }
        while let Some(owed) = self.owed_written.pop_front_if(|o| o.position <= written) {
            self.say(turn, owed.to, |bytes| owed.part.encode(bytes));
        }
    }

    /// Sends all that has gathered: one message to each peer.
    pub(super) fn send(&mut self, turn: &mut Turn<'_>) {
        for (number, buffer) in self.buffers.iter_mut().enumerate() {
            if !buffer.is_empty() {
                send(turn, (self.keyspace, self.generation), NodeId(number as u16), buffer);
            }
        }
    }
}

impl OwedPart {
    /// A part that carries a record.
    pub(super) fn encoded(part: &Part<'_>) -> OwedPart {
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        OwedPart::Encoded(bytes.into())
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            OwedPart::Kept(operation) => Part::Kept { operation: *operation }.encode(bytes),
            OwedPart::Same(operation) => Part::Same { operation: *operation }.encode(bytes),
            OwedPart::Encoded(part) => bytes.extend_from_slice(part),
        }
    }
}

fn send(
    turn: &mut Turn<'_>,
    (keyspace, generation): (KeyspaceId, u8),
    to: NodeId,
    buffer: &mut Vec<u8>,
) {
    let parts = Parts(Cow::Borrowed(buffer));
    turn.send(to, crate::Message::Leaderless(Message::Batch { keyspace, generation, parts }));
    buffer.clear();
    if buffer.capacity() > BUFFER_BYTES_KEPT {
        *buffer = Vec::new();
    }
}
