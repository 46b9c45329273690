//! The effects of a node: records into the disk's bytes, messages into one frame for each peer and
//! turn, replies and events for the harness. Made by the same encoders as in the server.

use crate::disk::Disk;
use crate::observe::Observations;
use replication::frame;
use replication::keyspace::Durability;
use replication::leader_follower::message::Body;
use replication::random::Random;
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
    /// For each peer, its messages as they stand in a frame.
    pub frames: BTreeMap<NodeId, Vec<u8>>,
    /// Bytes of entries and of pieces of snapshots among them, for each peer.
    pub entry_bytes: BTreeMap<NodeId, u64>,
    /// Replies in the order in which they were given.
    pub replies: Vec<(RequestId, Reply<'static>)>,
    /// The newest record that counts only when it is synced.
    pub to_sync: Option<Position>,
    /// Whether files of the log were given new names.
    pub truncated: bool,
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

    /// The disk writes at once what counts as soon as it is written, if it does: how far the log is
    /// kept then, and after which time there is more to be heard.
    pub fn write_early(&mut self, random: &mut Random) -> Option<(Position, Position, u64)> {
        let after_us = self.disk.write_early(random)?;
        let (written, synced) = self.disk.kept();
        Some((written, synced, after_us))
    }

    pub fn finish(self) -> Output {
        self.output
    }
}

impl Effects for Sink<'_> {
    fn append_parts(&mut self, head: &[u8], rest: &[u8], durability: Durability) -> Position {
        let record = &[head, rest].concat();
        self.observations.logged(self.now_us, self.me, record);
        let position = self.disk.append(record, durability);
        if durability == Durability::Fsync {
            self.output.to_sync = Some(position);
        }
        self.observations.copies.logged(self.me, position, record);
        position
    }

    fn truncate(&mut self, before: Position) {
        if self.disk.truncate(before) {
            self.output.truncated = true;
            self.observations.count("checkpoint truncated the log");
        }
    }

    fn send(&mut self, to: NodeId, message: &Message<'_>) {
        self.observations.sent(message);
        let bytes = entry_bytes(message);
        if bytes > 0 {
            *self.output.entry_bytes.entry(to).or_default() += bytes;
            self.observations.note_entry_bytes(bytes);
        }
        let messages = self.output.frames.entry(to).or_default();
        let length = frame::push(messages, message);
        let bytes = messages.get(messages.len() - length..).unwrap_or(&[]);
        if Message::decode(bytes).as_ref() != Ok(message) {
            self.observations.count(GARBLED);
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

/// Bytes of entries, or of a piece of a snapshot, in a message.
fn entry_bytes(message: &Message<'_>) -> u64 {
    let Message::LeaderFollower(message) = message else { return 0 };
    let bytes = match &message.body {
        Body::Append { entries, .. } => entries.len(),
        Body::Snapshot(piece) => piece.image.records.len() + piece.image.once.len(),
        _ => 0,
    };
    bytes as u64
}
