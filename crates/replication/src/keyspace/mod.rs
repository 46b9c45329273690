//! Keyspaces: a key prefix, its model and the model's options. The longest matching prefix wins;
//! the empty prefix always exists.

pub mod check;
pub mod defaults;
pub mod guarantees;
pub mod protected;
pub mod slot;
pub mod words;

use crate::{DatacenterId, GroupId, KeyspaceId, NodeId};
use alloc::string::String;
use alloc::vec::Vec;

/// Redis's number of hash slots.
pub const SLOTS: u16 = 16384;

/// The cluster as its configuration file describes it. Checked: see [`Cluster::new`].
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Frames of another cluster are refused by this name.
    pub name: String,
    /// Seeds the hash tables and the placement; drawn when the cluster is created, known to its
    /// nodes only, so that nobody outside can choose colliding keys.
    pub secret: u64,
    /// The datacenters' names, in the file's order.
    pub datacenters: Vec<String>,
    /// The nodes, sorted by name: [`NodeId`] is the place in this list.
    pub members: Vec<Member>,
    /// The keyspaces, sorted by prefix.
    pub keyspaces: Vec<Keyspace>,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Unique within the cluster.
    pub name: String,
    /// Where it stands.
    pub datacenter: DatacenterId,
}

/// A key prefix and how its keys are replicated.
#[derive(Clone, PartialEq, Debug)]
pub struct Keyspace {
    /// See [`KeyspaceId`].
    pub id: KeyspaceId,
    /// Keys that start with it belong here, unless a longer prefix matches.
    pub prefix: Vec<u8>,
    /// The replication model with its options.
    pub model: Model,
}

/// The three replication models.
#[derive(Clone, PartialEq, Debug)]
pub enum Model {
    /// One leader orders the writes, followers copy its log.
    LeaderFollower(LeaderFollower),
    /// One leader in each datacenter; conflicts are resolved.
    MultiLeader(MultiLeader),
    /// Any replica takes reads and writes; quorums overlap.
    Leaderless(Leaderless),
}

/// Options of a leader-follower keyspace.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaderFollower {
    /// The datacenter that holds it.
    pub home: DatacenterId,
    /// Into how many partitions its slots are dealt.
    pub partitions: u16,
    /// How its group replicates.
    pub group: GroupOptions,
}

/// Options of a multi-leader keyspace.
#[derive(Clone, PartialEq, Debug)]
pub struct MultiLeader {
    /// The datacenters that have a leader.
    pub datacenters: Vec<DatacenterId>,
    /// Into how many partitions its slots are dealt.
    pub partitions: u16,
    /// How the group in each datacenter replicates.
    pub group: GroupOptions,
    /// What becomes of concurrent writes.
    pub conflicts: Conflicts,
}

/// Options of a leaderless keyspace.
#[derive(Clone, PartialEq, Debug)]
pub struct Leaderless {
    /// Into how many partitions its slots are dealt.
    pub partitions: u16,
    /// Replicas of a key.
    pub n: u8,
    /// Acks that a write waits for.
    pub w: u8,
    /// Answers that a read waits for.
    pub r: u8,
    /// When a replica's copy counts.
    pub durability: Durability,
    /// After how long a write short of W, or a read short of R, is answered with an error.
    pub timeout_ms: u64,
}

/// How one leader-follower group replicates. N is `replicas`; A, E and C follow: `quorum.rs`.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupOptions {
    /// N: how many nodes hold the partition.
    pub replicas: u8,
    /// A: how many replicas must have an entry before its writer is told OK.
    pub acks: Acks,
    /// Which elections are allowed.
    pub failover: Failover,
    /// What becomes of a write whose acks do not come.
    pub missing_acks: MissingAcks,
    /// After how long acks count as missing.
    pub ack_timeout_ms: u64,
    /// When a copy is an ack.
    pub ack_level: AckLevel,
    /// Whether a single command may ask for less than `acks` and `ack_level`.
    pub weaker_acks: bool,
    /// Who answers reads.
    pub reads: Reads,
    /// Whether the leader answers reads alone while it holds a lease; else it asks for each of
    /// them whether it still leads.
    pub leases: bool,
    /// When a copy counts.
    pub durability: Durability,
    /// After how long without an answer from its disk a leader hands over, in milliseconds.
    pub disk_stall_ms: u64,
}

/// Acknowledgement modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// The leader alone: 1.
    Async,
    /// The leader and one follower: 2.
    SemiSync,
    /// All replicas.
    Sync,
    /// More than half of the replicas.
    Majority,
    /// So many replicas, the leader included.
    Exactly(u8),
}

/// Which elections are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failover {
    /// Only such that no acknowledged write is lost.
    Safe,
    /// A majority may elect; where A + E <= N, acknowledged writes can be lost, and are reported.
    Available,
}

/// What becomes of a write whose acks do not come in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MissingAcks {
    /// `-UNKNOWN`: it may or may not survive.
    Error,
    /// The writer waits on.
    Block,
    /// Acks are lowered to min(A, C), and the degrade ledger says from where to where.
    Degrade,
}

/// When a copy of a write is an ack. It moves the reply to the writer, and nothing else: a write is
/// committed and visible by durable copies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AckLevel {
    /// When the replica has it in memory.
    Received,
    /// When the replica durably has it, as the keyspace's durability means it.
    Durable,
    /// When the replica shows it to readers; only committed writes are shown.
    Applied,
}

/// Who answers reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// The leader, after a heartbeat round: linearizable.
    Leader,
    /// Any replica, from what it knows to be committed: may be stale.
    Follower,
}

/// When a copy of an entry counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is on disk: survives a power cut.
    Fsync,
    /// When it is handed to the operating system, which has it on disk within a second: survives
    /// the process.
    Interval,
}

/// What becomes of concurrent writes of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflicts {
    /// The largest stamp of the hybrid clock wins; increments add up.
    LastWriteWins,
}

impl Cluster {
    /// The keyspace of a key: the one with the longest matching prefix.
    pub fn keyspace_of(&self, key: &[u8]) -> Option<&Keyspace> {
        self.keyspaces
            .iter()
            .filter(|keyspace| key.starts_with(&keyspace.prefix))
            .max_by_key(|keyspace| keyspace.prefix.len())
    }

    /// A keyspace by its number.
    pub fn keyspace(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.keyspaces.iter().find(|keyspace| keyspace.id == id)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        let place = self.members.iter().position(|member| member.name == name)?;
        Some(NodeId(u16::try_from(place).ok()?))
    }

    /// A node's description.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(usize::from(node.0))
    }
}

impl Model {
    /// How the keyspace's groups replicate, where they have leaders.
    pub fn group(&self) -> Option<&GroupOptions> {
        match self {
            Model::LeaderFollower(options) => Some(&options.group),
            Model::MultiLeader(options) => Some(&options.group),
            Model::Leaderless(_) => None,
        }
    }
}

impl Keyspace {
    /// Into how many partitions the slots are dealt.
    pub fn partitions(&self) -> u16 {
        match &self.model {
            Model::LeaderFollower(options) => options.partitions,
            Model::MultiLeader(options) => options.partitions,
            Model::Leaderless(options) => options.partitions,
        }
    }

    /// The partition that a slot belongs to: contiguous shares of the slots.
    pub fn partition_of(&self, slot: u16) -> u16 {
        (u32::from(slot) * u32::from(self.partitions()) / u32::from(SLOTS)) as u16
    }

    /// The slots of a partition, first and last.
    pub fn slots_of(&self, partition: u16) -> (u16, u16) {
        let (partitions, partition) = (u32::from(self.partitions()).max(1), u32::from(partition));
        let slots = u32::from(SLOTS);
        let first = (partition * slots).div_ceil(partitions);
        let after = ((partition + 1) * slots).div_ceil(partitions);
        (first as u16, after.saturating_sub(1) as u16)
    }

    /// The name of one of its groups.
    pub fn group(&self, partition: u16, datacenter: DatacenterId) -> GroupId {
        GroupId { keyspace: self.id, generation: 0, partition, datacenter }
    }
}
