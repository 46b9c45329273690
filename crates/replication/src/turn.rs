//! What every model may use while it handles one input: the clock, the effects, and the few
//! things that all models of a node share.

use crate::connection::Wait;
use crate::connections::Connections;
use crate::keyspace::Durability;
use crate::last_writes::LastWrites;
use crate::mutant::Mutants;
use crate::node::forward::batch::Batches;
use crate::node::message::Message as NodeMessage;
use crate::random::Random;
use crate::rounds::Rounds;
use crate::unkept::Unkept;
use crate::version::EntryId;
use crate::windows::Windows;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{
    ClientId, Effects, Event, GroupId, Incarnation, Message, NodeId, Position, Reply, RequestId,
    Session, Time,
};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Whom a reply goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Requester {
    /// A client of this node.
    Client(RequestId),
    /// A node that forwarded its client's command; the token is the forwarder's.
    Peer {
        /// The forwarder.
        node: NodeId,
        /// Its process, so that an answer never reaches a later one.
        session: Session,
        /// Returned with the answer.
        token: u64,
    },
    /// One part of a command that this node took apart (MGET, SCAN, ...).
    Part {
        /// The command.
        gather: u64,
        /// Its part.
        part: u32,
    },
}

/// Who asks: goes into the entry that a command makes, so that a write which is lost later can be
/// told by the name of the one who wrote it. The label is shared, or borrowed from an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker<Label = Arc<[u8]>> {
    /// The node that the client is connected to.
    pub node: NodeId,
    /// Its process, by [`Session::number`]: connections are numbered anew in each.
    pub process: u32,
    /// The connection there.
    pub client: ClientId,
    /// The command's number on the connection.
    pub sequence: u64,
    /// The client's address and the name that it has given itself.
    pub label: Label,
}

impl Asker {
    /// Writes the asker, or that there is none.
    pub fn encode(asker: Option<&Asker>, w: &mut Writer<'_>) {
        w.bool(asker.is_some());
        if let Some(asker) = asker {
            asker.borrowed().write(w);
        }
    }

    /// Reads what [`Asker::encode`] has written.
    pub fn decode(r: &mut Reader<'_>) -> Read<Option<Asker>> {
        if !r.bool()? {
            return Ok(None);
        }
        Ok(Some(Asker::read(r)?.into_owned()))
    }

    /// The same, its label borrowed.
    pub fn borrowed(&self) -> Asker<&[u8]> {
        let Asker { node, process, client, sequence, ref label } = *self;
        Asker { node, process, client, sequence, label }
    }
}

impl<'a> Asker<&'a [u8]> {
    /// Writes the asker behind its length.
    pub fn write_with_length(&self, w: &mut Writer<'_>) {
        let start = w.0.len();
        w.u32(0);
        self.write(w);
        let bytes = (w.0.len() - start).saturating_sub(size_of::<u32>());
        if let Some(length) = w.0.get_mut(start..start + size_of::<u32>()) {
            length.copy_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes());
        }
    }

    /// Reads what [`Asker::write_with_length`] has written.
    pub fn read_with_length(r: &mut Reader<'a>) -> Read<Asker<&'a [u8]>> {
        let mut r = Reader(r.bytes()?);
        let asker = Asker::read(&mut r)?;
        r.finish()?;
        Ok(asker)
    }

    /// Writes the asker.
    pub fn write(&self, w: &mut Writer<'_>) {
        w.short(u64::from(self.node.0));
        w.u32(self.process);
        w.short(self.client.0);
        w.short(self.sequence);
        w.short_bytes(self.label);
    }

    /// Reads what [`Asker::write`] has written.
    #[inline]
    pub fn read(r: &mut Reader<'a>) -> Read<Asker<&'a [u8]>> {
        let node = NodeId(u16::try_from(r.short()?).map_err(|_| Malformed)?);
        let (process, client, sequence) = (r.u32()?, ClientId(r.short()?), r.short()?);
        Ok(Asker { node, process, client, sequence, label: r.short_bytes()? })
    }

    /// The same with a label of its own.
    pub fn into_owned(self) -> Asker {
        let Asker { node, process, client, sequence, label } = self;
        Asker { node, process, client, sequence, label: Arc::from(label) }
    }
}

/// What a write's answer says about it, for WAIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastWrite {
    /// An entry of a group's log.
    Entry {
        /// The group.
        group: GroupId,
        /// The entry.
        id: EntryId,
    },
    /// A write without a leader.
    Copies {
        /// So many replicas have acknowledged it.
        acks: u16,
        /// Whether it is on disk where it is acknowledged.
        synced: bool,
    },
}

/// The answer to one part of a command that was taken apart.
pub type PartAnswer = (u64, u32, Reply<'static>, Option<LastWrite>);

/// A message that may be said only when a record of this node's log is kept.
struct Owed {
    position: Position,
    to: NodeId,
    message: Message<'static>,
}

/// Messages that may wait for each kind of durability. One more is not said, as if it were lost on
/// its way: a disk that does not answer must not fill the memory with what others ask again and
/// again.
pub const OWED_MAX: usize = 65_536;

/// What the models of one node share.
pub struct Local {
    /// This node.
    pub me: NodeId,
    /// This node's disk.
    pub incarnation: Incarnation,
    /// This process, by [`Session::number`].
    pub process: u32,
    /// All chance in this node.
    pub random: Random,
    /// Planted bugs, if any.
    pub mutants: Mutants,
    /// From when on the log holds who this process is; before that it says nothing to anybody, as
    /// every frame names the disk.
    pub identity_position: Position,
    /// How far the log is handed to the operating system.
    pub written: Position,
    /// How far the log is on disk.
    pub synced: Position,
    /// The cluster's number in its tokens.
    pub cluster: u32,
    /// The heartbeat rounds that this node has started.
    pub rounds: Rounds,
    /// What is on its way to each other node.
    pub windows: Windows,
    /// When the newest input came, in microseconds of the monotonic clock.
    pub last_input_us: u64,
    /// Who asked for what is being carried out; `None` for what the node does by itself.
    pub asker: Option<Asker>,
    /// The connections that have asked something and have not gone.
    pub connections: Connections,
    /// WAITs that have nothing before them any more, to be taken up at the end of the step.
    pub ready_waits: VecDeque<Wait>,
    /// Answers to parts, for `node/gather.rs` to take up at the end of the step.
    pub part_answers: VecDeque<PartAnswer>,
    /// Answers to other nodes' commands, until the turn ends.
    pub(crate) answers: Batches,
    /// Bytes of records in the log, those that a restart has found included.
    pub appended_bytes: u64,
    /// The position of the newest record.
    pub last_position: Position,
    /// No record that this node holds takes more bytes; a bound.
    pub longest_record: usize,
    /// A buffer to encode records in, kept to spare allocations.
    pub scratch: Vec<u8>,
    /// The same for what an image holds.
    pub records: Vec<u8>,
    owed_synced: VecDeque<Owed>,
    owed_written: VecDeque<Owed>,
    /// Records that count when they are on disk, and those that count when they are written.
    unsynced: Unkept,
    unwritten: Unkept,
}

impl Local {
    /// A node's shared part.
    pub fn new(me: NodeId, incarnation: Incarnation, seed: u64, mutants: Mutants) -> Local {
        Local {
            me,
            incarnation,
            process: 0,
            random: Random::new(seed),
            mutants,
            identity_position: Position(0),
            written: Position(0),
            synced: Position(0),
            cluster: 0,
            rounds: Rounds::default(),
            windows: Windows::default(),
            last_input_us: 0,
            asker: None,
            connections: Connections::default(),
            ready_waits: VecDeque::new(),
            part_answers: VecDeque::new(),
            answers: Batches::default(),
            appended_bytes: 0,
            longest_record: 0,
            last_position: Position(0),
            scratch: Vec::new(),
            records: Vec::new(),
            owed_synced: VecDeque::new(),
            owed_written: VecDeque::new(),
            unsynced: Unkept::default(),
            unwritten: Unkept::default(),
        }
    }

    /// A client of this node asks something.
    #[inline]
    pub(crate) fn asks(&mut self, request: RequestId) {
        let RequestId { client, sequence } = request;
        let connection = self.connections.open(client);
        connection.asked();
        match &mut self.asker {
            Some(asker) if asker.client == client && asker.node == self.me => {
                asker.sequence = sequence;
            }
            asker => {
                let (node, process) = (self.me, self.process);
                let label = connection.label().clone();
                *asker = Some(Asker { node, process, client, sequence, label });
            }
        }
    }

    /// Whether it is on disk who this process is.
    pub fn may_speak(&self) -> bool {
        self.synced >= self.identity_position
    }

    /// How many messages wait until the log is kept.
    pub(crate) fn owed_messages(&self) -> usize {
        self.owed_synced.len() + self.owed_written.len()
    }

    /// The log is kept further than before.
    pub(crate) fn kept(&mut self, written: Position, synced: Position) {
        self.written = self.written.max(written);
        self.synced = self.synced.max(synced);
        self.unwritten.kept(self.written);
        self.unsynced.kept(self.synced);
    }

    /// Since when the disk owes its word on a record that counts with this durability.
    pub fn unkept_since_us(&self, durability: Durability) -> Option<u64> {
        match durability {
            Durability::Fsync => self.unsynced.since_us(),
            Durability::Interval => self.unwritten.since_us(),
        }
    }

    /// Up to where the log counts as kept.
    pub fn durable(&self, durability: Durability) -> Position {
        match durability {
            Durability::Fsync => self.synced,
            Durability::Interval => self.written,
        }
    }
}

/// One input's handling.
pub struct Turn<'a> {
    /// When.
    pub now: Time,
    /// Where effects go.
    pub effects: &'a mut dyn Effects,
    /// What the models share.
    pub local: &'a mut Local,
}

impl Turn<'_> {
    /// Answers a command. `last_write` names what a write has written, for a later WAIT.
    pub fn answer(&mut self, to: Requester, reply: Reply<'_>, last_write: Option<LastWrite>) {
        match to {
            Requester::Client(request) => {
                // A client that has gone is not there, and must not come back by this.
                if let Some(connection) = self.local.connections.get(request.client) {
                    let ready = &mut self.local.ready_waits;
                    connection.answered(request.sequence, last_write, ready);
                }
                self.effects.reply(request, &reply);
            }
            Requester::Peer { node, session, token } => {
                if self.local.answers.of(node).is_closed_to(session) {
                    self.send_answers_to(node);
                }
                self.local.answers.of(node).add_answer(session, token, &reply, last_write);
            }
            Requester::Part { gather, part } => {
                self.local.part_answers.push_back((gather, part, reply.into_owned(), last_write));
            }
        }
    }

    /// The same for a command that was taken apart: with all that its parts have written.
    pub fn answer_in_parts(&mut self, to: Requester, reply: Reply<'_>, writes: LastWrites) {
        let Requester::Client(request) = to else {
            // Only clients' commands are taken apart; whatever else asked could count on nothing.
            let none = LastWrite::Copies { acks: 0, synced: false };
            return self.answer(to, reply, Some(none).filter(|_| !writes.is_empty()));
        };
        if writes.len() <= 1 && !writes.are_too_many() {
            return self.answer(to, reply, writes.only());
        }
        if let Some(connection) = self.local.connections.get(request.client) {
            let ready = &mut self.local.ready_waits;
            connection.answered_in_parts(request.sequence, writes, ready);
        }
        self.effects.reply(request, &reply);
    }

    /// The answers to other nodes' commands go. Called by the node only, at the end of a turn.
    pub(crate) fn send_answers(&mut self) {
        for node in self.local.answers.nodes() {
            self.send_answers_to(node);
        }
    }

    fn send_answers_to(&mut self, node: NodeId) {
        let Some((to, answers)) = self.local.answers.of(node).take() else { return };
        let message = NodeMessage::Answer { to, answers: Cow::Borrowed(&*answers) };
        self.send(node, Message::Node(message));
        self.local.answers.of(node).keep_buffer(answers);
    }

    /// Answers a command with an error.
    pub fn refuse(&mut self, to: Requester, error: impl Into<Cow<'static, str>>) {
        self.answer(to, Reply::Error(error.into()), None);
    }

    /// Says something to a peer: at once, or not at all while it is not on disk who speaks.
    pub fn send(&mut self, to: NodeId, message: Message<'_>) {
        if self.local.may_speak() {
            self.effects.send(to, &message);
        }
    }

    /// Says something to a peer once the log is kept up to a position: a node never says what it
    /// does not durably hold.
    pub fn send_when_durable(
        &mut self,
        position: Position,
        durability: Durability,
        to: NodeId,
        message: Message<'static>,
    ) {
        if self.local.durable(durability) >= position {
            return self.send(to, message);
        }
        let owed = Owed { position, to, message };
        let queue = match durability {
            Durability::Fsync => &mut self.local.owed_synced,
            Durability::Interval => &mut self.local.owed_written,
        };
        if queue.len() < OWED_MAX {
            queue.push_back(owed);
        }
    }

    /// Says what was owed up to the positions that are now kept. Called by the node only.
    pub fn send_owed(&mut self) {
        let (written, synced) = (self.local.written, self.local.synced);
        while let Some(owed) = self.local.owed_synced.pop_front_if(|o| o.position <= synced) {
            self.send(owed.to, owed.message);
        }
        while let Some(owed) = self.local.owed_written.pop_front_if(|o| o.position <= written) {
            self.send(owed.to, owed.message);
        }
    }

    /// Appends a record to the node's log.
    pub fn append(&mut self, record: &[u8], durability: Durability) -> Position {
        self.append_parts(record, &[], durability)
    }

    /// The same for a record in two parts.
    pub fn append_parts(&mut self, head: &[u8], rest: &[u8], durability: Durability) -> Position {
        let position = self.effects.append_parts(head, rest, durability);
        self.local.appended_bytes += (head.len() + rest.len()) as u64;
        self.local.last_position = position;
        let unkept = match durability {
            Durability::Fsync => &mut self.local.unsynced,
            Durability::Interval => &mut self.local.unwritten,
        };
        unkept.note(position, self.now.monotonic_us);
        position
    }

    /// Tells the driver that something happened.
    pub fn event(&mut self, event: Event) {
        self.effects.event(&event);
    }
}
