//! The effects of a node: records into the disk's bytes, messages into one frame for each peer and
//! turn, replies and events for the harness. Made by the same encoders as in the server.

use crate::disk::Disk;
use crate::observe::Observations;
use replication::keyspace::Durability;
use replication::{Effects, Event, Message, NodeId, Position, Reply, RequestId};
use std::collections::BTreeMap;

/// Counts messages that are not the same after encoding and decoding: a finding.
pub const GARBLED: &str = "garbled message";

/// Takes a node's effects during a turn.
pub(super) struct Sink<'a> {
    disk: &'a mut Disk,
    observations: &'a mut Observations,
    now_us: u64,
    me: NodeId,
    output: Output,
}

/// What a turn has brought forth, apart from records.
#[derive(Default)]
pub(super) struct Output {
    /// For each peer, its messages, each with its length before it.
    pub frames: BTreeMap<NodeId, Vec<u8>>,
    /// Replies in the order in which they were given.
    pub replies: Vec<(RequestId, Reply<'static>)>,
    /// Events, for the trace.
    pub events: Vec<Event>,
}

impl<'a> Sink<'a> {
    pub fn new(
        disk: &'a mut Disk,
        observations: &'a mut Observations,
        now_us: u64,
        me: NodeId,
    ) -> Sink<'a> {
        Sink { disk, observations, now_us, me, output: Output::default() }
    }

    /// What the harness sees, for what is no effect.
    pub fn observations(&mut self) -> &mut Observations {
        self.observations
    }

    pub fn finish(self) -> Output {
        self.output
    }
}

impl Effects for Sink<'_> {
    fn append(&mut self, record: &[u8], durability: Durability) -> Position {
        self.observations.logged(self.now_us, self.me, record);
        self.disk.append(record, durability)
    }

    fn truncate(&mut self, before: Position) {
        if self.disk.truncate(before) {
            self.observations.count("checkpoint truncated the log");
        }
    }

    fn send(&mut self, to: NodeId, message: &Message<'_>) {
        self.observations.sent(message);
        let frame = self.output.frames.entry(to).or_default();
        let start = frame.len();
        frame.extend_from_slice(&[0; 4]);
        message.encode(frame);
        let length = (frame.len() - start - 4) as u32;
        if Message::decode(frame.get(start + 4..).unwrap_or(&[])).as_ref() != Ok(message) {
            self.observations.count(GARBLED);
        }
        if let Some(place) = frame.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    fn reply(&mut self, request: RequestId, reply: &Reply<'_>) {
        self.observations.replied(request, reply);
        self.output.replies.push((request, reply.clone().into_owned()));
    }

    fn event(&mut self, event: &Event) {
        self.observations.event(self.now_us, self.me, event);
        self.output.events.push(event.clone());
    }
}

/// The messages of a frame, in order.
pub(super) fn messages(frame: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = frame;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let message = after.get(..length)?;
        rest = after.get(length..).unwrap_or(&[]);
        Message::decode(message).ok()
    })
}
