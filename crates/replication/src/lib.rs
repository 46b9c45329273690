//! The article "Replication Models" as code: leader-follower, multi-leader and leaderless
//! replication as one deterministic state machine without I/O, clock or chance.
//!
//! A driver (the server's event loop, or the simulator) owns one [`Node`] and calls
//! [`Node::step`] with an [`Input`]; the node answers through the verbs of an [`Effects`] sink.
//! The same inputs give the same effects, byte for byte.
//!
//! This file is the whole interface. `node/` gives each input to the model that the key's prefix
//! picked; `leader_follower/`, `multi_leader/` and `leaderless/` are the models, and none of them
//! names another.
#![no_std]
extern crate alloc;

pub mod asked_token;
pub mod command;
pub mod conflict;
pub mod connection;
pub mod connections;
pub mod data;
pub mod frame;
pub mod keyspace;
pub mod last_writes;
pub mod leader_follower;
pub mod leaderless;
pub mod multi_leader;
pub mod mutant;
pub mod node;
pub mod quorum;
pub mod random;
pub mod replicas;
pub mod rounds;
pub mod storage;
pub mod token;
pub mod turn;
pub mod unkept;
pub mod version;
pub mod windows;
pub mod wire;

use alloc::borrow::Cow;
use core::fmt;

pub use command::{Arguments, Reply, Span};
pub use node::{Node, Setup};

/// A node's number: its place among the cluster's members sorted by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u16);

/// A datacenter's number: its place in the configuration's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DatacenterId(pub u8);

/// Drawn at random when a node's disk is new: a node with a wiped disk is another incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

/// One run of a node's process: forwarded commands and their answers never reach another run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Session {
    /// The process's disk.
    pub incarnation: Incarnation,
    /// The process's number on it, above all before it; durable before the process says anything.
    pub boot: u64,
}

impl Session {
    /// A short number that tells this process from the others of its node.
    pub fn number(self) -> u32 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.boot.to_le_bytes());
        xxhash_rust::xxh3::xxh3_64(&bytes) as u32
    }
}

/// A keyspace's number: a hash of its prefix, so that it survives additions to the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyspaceId(pub u32);

/// The nodes that hold one partition: of a keyspace, and for multi-leader of one datacenter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Rises when a keyspace is created anew under the same prefix.
    pub generation: u8,
    /// The partition, a contiguous share of the 16384 hash slots.
    pub partition: u16,
    /// The datacenter whose nodes form the group; `EVERYWHERE` where the group spans all of them.
    pub datacenter: DatacenterId,
}

impl GroupId {
    /// The `datacenter` of a group that is not bound to one (leaderless).
    pub const EVERYWHERE: DatacenterId = DatacenterId(u8::MAX);
}

/// A client's connection, as its node numbers it; never used twice within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// One command of one client. Replies may be given in any order of `sequence`; the driver sends
/// them in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId {
    /// The connection.
    pub client: ClientId,
    /// Counts the commands of the connection.
    pub sequence: u64,
}

/// The number of a record in the node's log, from 1. Everything up to a position becomes durable
/// together. Never reused for a record that was durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

/// The moment of an input. Timers and heartbeats use only `monotonic`, stamps and expiry only
/// `wall`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time {
    /// Microseconds since some fixed moment of this process; never goes back.
    pub monotonic_us: u64,
    /// Milliseconds since 1970; may jump either way.
    pub wall_ms: u64,
}

/// What happens to a node.
#[derive(Debug)]
// An input lives for one step and is stored nowhere: a box would cost an allocation a message.
#[allow(clippy::large_enum_variant)]
pub enum Input<'a> {
    /// What one read of a client's socket held.
    Requests(Requests<'a>),
    /// A client has gone: nothing will be sent to it any more.
    Disconnected(ClientId),
    /// A message from a peer, borrowed from its read buffer. May be late, repeated or reordered.
    Message {
        /// The sender.
        from: NodeId,
        /// The sender's disk.
        incarnation: Incarnation,
        /// What it says.
        message: Message<'a>,
    },
    /// The connection to a peer broke: what was on its way may or may not have arrived.
    PeerLost(NodeId),
    /// How far the node's log is kept.
    Durable {
        /// Handed to the operating system up to here: survives the process, not the machine.
        written: Position,
        /// On disk up to here; never beyond `written`.
        synced: Position,
    },
    /// A deadline has come.
    Tick,
    /// Nothing more this turn. Only here do groups say to their peers, once, what has gathered.
    TurnEnd,
    /// The process is to stop as soon as it can be spared: from now on it stands for no election,
    /// and hands over what it leads. [`node::Node::is_spared`] says when that is done; the driver
    /// waits for it as long as it thinks fit, and then comes [`Input::Stop`].
    Leave,
    /// The process stops, as it was asked to; comes between two turns, and nothing comes after it.
    /// What only this process knows is appended, and the driver sees to it that it gets to the
    /// disk; what it would still say is told to nobody.
    Stop,
}

/// Commands of one client, as spans into its read buffer.
#[derive(Debug)]
pub struct Requests<'a> {
    /// The connection.
    pub client: ClientId,
    /// The client's address and the name that it has given itself.
    pub label: &'a [u8],
    /// The sequence number of the first command; the others follow without a gap.
    pub first_sequence: u64,
    /// The bytes that the spans point into.
    pub bytes: &'a [u8],
    /// The arguments of all commands, one after another.
    pub spans: &'a [Span],
    /// For each command, the end of its arguments in `spans`.
    pub ends: &'a [u32],
}

impl<'a> Requests<'a> {
    /// The commands in order, each with its request.
    pub fn iter(&self) -> impl Iterator<Item = (RequestId, Arguments<'a>)> + use<'a> {
        let (client, first, bytes, spans) =
            (self.client, self.first_sequence, self.bytes, self.spans);
        let mut start = 0usize;
        self.ends.iter().enumerate().map(move |(number, end)| {
            let end = (*end as usize).clamp(start, spans.len());
            let arguments = Arguments::new(bytes, spans.get(start..end).unwrap_or(&[]));
            start = end;
            (RequestId { client, sequence: first + number as u64 }, arguments)
        })
    }
}

/// What a node asks of its driver. The verbs take effect in the order in which they are called.
pub trait Effects {
    /// Appends one record to the node's log and returns its position. `synced` asks for a sync
    /// soon; without it the record is written at the end of the turn and synced within a second.
    fn append(&mut self, record: &[u8], durability: keyspace::Durability) -> Position {
        self.append_parts(record, &[], durability)
    }
    /// The same for a record that begins with `head` and goes on with `rest`, which is long and
    /// lies elsewhere.
    fn append_parts(
        &mut self,
        head: &[u8],
        rest: &[u8],
        durability: keyspace::Durability,
    ) -> Position;
    /// Records before this position are no longer needed; they may go, whole segments at a time.
    fn truncate(&mut self, before: Position);
    /// Sends a message to a peer, at the latest at the end of the turn. It may be lost.
    fn send(&mut self, to: NodeId, message: &Message<'_>);
    /// Answers a client's request; each is answered once, unless its client goes.
    fn reply(&mut self, request: RequestId, reply: &Reply<'_>);
    /// Something worth telling: for the server's log, the simulator's trace and its checkers.
    fn event(&mut self, event: &Event);
}

/// What nodes say to each other. Each model owns its own part.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// Liveness, leadership and proxied commands.
    Node(node::message::Message<'a>),
    /// Elections and the replication log of a leader-follower group.
    LeaderFollower(leader_follower::message::Message<'a>),
    /// Committed entries on their way to another datacenter.
    MultiLeader(multi_leader::message::Message<'a>),
    /// Reads and writes of single records between a coordinator and the replicas.
    Leaderless(leaderless::message::Message<'a>),
}

/// What happened inside a node, in the words of the article.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// This node has won an election; its leadership starts with an empty entry of this epoch.
    BecameLeader {
        /// The group.
        group: GroupId,
        /// The new epoch.
        epoch: u64,
    },
    /// This node led and no longer does.
    SteppedDown {
        /// The group.
        group: GroupId,
        /// The epoch that it led.
        epoch: u64,
        /// Why.
        reason: Cow<'static, str>,
    },
    /// A leader that was to hand over has heard its successor serve.
    HandedOver {
        /// The group.
        group: GroupId,
        /// The successor's epoch.
        epoch: u64,
        /// The successor.
        to: NodeId,
        /// How long the group took no commands, in milliseconds, rounded up.
        pause_ms: u64,
    },
    /// A leader has let go reads of this turn without asking anybody.
    LeaseReads {
        /// The group.
        group: GroupId,
        /// How many.
        reads: u64,
    },
    /// A leader's lease is over: reads ask the followers, until it has another one.
    LeaseLost {
        /// The group.
        group: GroupId,
    },
    /// A message of an older epoch came late, and was refused.
    EpochRefused {
        /// The group.
        group: GroupId,
        /// Who sent it.
        from: NodeId,
        /// Its epoch.
        epoch: u64,
    },
    /// An entry is committed here, as leader or as follower.
    Committed {
        /// The group.
        group: GroupId,
        /// The entry.
        entry: version::EntryId,
    },
    /// A leader that may lack committed entries has begun to lead; in a multi-leader keyspace, it
    /// names its writes anew.
    PossibleLoss {
        /// The group.
        group: GroupId,
        /// The epoch that it leads.
        epoch: u64,
        /// The newest entry of its log when it began: what is lost came after it, or between it
        /// and an older one.
        last: version::EntryId,
        /// Why.
        why: Cow<'static, str>,
    },
    /// Entries were cut from this node's log because a newer leader's log differs.
    Truncated {
        /// The group.
        group: GroupId,
        /// The last entry that stays.
        last_kept: version::EntryId,
        /// How many entries were cut; they are kept aside.
        cut: u64,
    },
    /// Writes that were cut from this node's log are in no other, and are reported.
    LostWrites {
        /// The group.
        group: GroupId,
        /// How many more than before.
        counts: leader_follower::lost_writes::Counts,
    },
    /// A write was acknowledged with fewer acks than its keyspace declares (`degrade`).
    AcknowledgedBelow {
        /// The group.
        group: GroupId,
        /// The write.
        entry: version::EntryId,
        /// How many replicas durably had it.
        copies: u64,
        /// The entry that opened the interval of the degrade ledger that it is in.
        interval: version::EntryId,
    },
    /// From this entry on, writes may be acknowledged with fewer acks than declared.
    DegradeOpened {
        /// The group.
        group: GroupId,
        /// The first of them.
        first: version::EntryId,
    },
    /// Writes have the acks that are declared again.
    DegradeClosed {
        /// The group.
        group: GroupId,
        /// The last write that had fewer.
        last: version::EntryId,
        /// How many had fewer.
        writes: u64,
    },
    /// A snapshot from the leader has replaced this follower's state.
    SnapshotInstalled {
        /// The group.
        group: GroupId,
        /// Everything up to here is in it.
        up_to: u64,
    },
    /// A leader goes on with a follower's snapshot where it stopped: the follower, or another
    /// leader, had fallen silent.
    SnapshotResumed {
        /// The group.
        group: GroupId,
        /// The follower.
        node: NodeId,
        /// The first slot that it lacks.
        next_slot: u32,
    },
    /// A command that had been carried out was sent again, and was not carried out again.
    Deduplicated {
        /// The group.
        group: GroupId,
        /// The entry of the first time.
        entry: version::EntryId,
    },
    /// A new incarnation of a member counts from now on.
    VoterAdmitted {
        /// The group.
        group: GroupId,
        /// The member.
        node: NodeId,
        /// Its new disk.
        incarnation: Incarnation,
    },
    /// Two writes of one key, neither of which had seen the other, met; one of them lost.
    ConflictResolved {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The key.
        key: alloc::vec::Vec<u8>,
    },
    /// A stale replica's record was written over after a quorum read.
    ReadRepaired {
        /// The replica that was stale.
        node: NodeId,
        /// The key.
        key: alloc::vec::Vec<u8>,
    },
    /// Something is wrong that an operator should know.
    Alarm(Cow<'static, str>),
}

impl<'a> Message<'a> {
    /// Writes a message of any kind.
    pub fn encode(&self, bytes: &mut alloc::vec::Vec<u8>) {
        let mut w = wire::Writer(bytes);
        match self {
            Self::Node(message) => {
                w.u8(0);
                message.encode(&mut w);
            }
            Self::LeaderFollower(message) => {
                w.u8(1);
                message.encode(&mut w);
            }
            Self::MultiLeader(message) => {
                w.u8(2);
                message.encode(&mut w);
            }
            Self::Leaderless(message) => {
                w.u8(3);
                message.encode(&mut w);
            }
        }
    }

    /// Reads one message, which must be all that the bytes hold.
    pub fn decode(bytes: &'a [u8]) -> wire::Read<Self> {
        let mut r = wire::Reader(bytes);
        let message = match r.u8()? {
            0 => Self::Node(node::message::Message::decode(&mut r)?),
            1 => Self::LeaderFollower(leader_follower::message::Message::decode(&mut r)?),
            2 => Self::MultiLeader(multi_leader::message::Message::decode(&mut r)?),
            3 => Self::Leaderless(leaderless::message::Message::decode(&mut r)?),
            _ => return Err(wire::Malformed),
        };
        r.finish()?;
        Ok(message)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}
