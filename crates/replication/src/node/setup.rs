//! What a node is made of: its place in the cluster, its intervals and its bounds.

use crate::keyspace::Cluster;
use crate::mutant::Mutants;
use crate::{Incarnation, NodeId, Position};

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The cluster's description.
    pub cluster: Cluster,
    /// Which of its members this is.
    pub me: NodeId,
    /// The disk's number if the log turns out to be empty.
    pub new_incarnation: Incarnation,
    /// The seed of all chance inside the node.
    pub seed: u64,
    /// Intervals and timeouts.
    pub timing: Timing,
    /// Bounds of queues and windows.
    pub limits: Limits,
    /// Planted bugs, if any.
    pub mutants: Mutants,
    /// Whether records that were written and not synced may be gone: the machine was restarted
    /// since, and not only the process.
    pub may_have_lost_unsynced: bool,
    /// Whether records that were synced are gone: the log is only what was before them.
    pub damaged: bool,
}

/// Intervals and timeouts, in microseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often a node speaks to every other node, and a leader to its followers.
    pub heartbeat_interval_us: u64,
    /// A follower that has heard no leader for a time between this and one and a half times this
    /// starts an election; a leader that has not heard C replicas for so long steps down.
    pub election_timeout_us: u64,
    /// How long a follower that has confirmed a heartbeat votes for nobody; less than the election
    /// timeout, so that no election waits for it. Each follower tells: a leader counts on what was
    /// promised, and not on what it would have promised itself.
    pub lease_us: u64,
    /// How much faster one node's monotonic clock may run than another's, in millionths: by so
    /// much less does a leader count on its lease. The larger of its own bound and the follower's.
    pub clock_drift_ppm: u64,
    /// How long a command waits for its group to have a leader.
    pub leader_wait_us: u64,
    /// How long a forwarded command waits for its answer, beyond the keyspace's own timeout.
    pub forward_timeout_us: u64,
    /// How often the node writes down what it has heard of the others (`heartbeat_gaps.rs`): what a
    /// crash may take of that.
    pub gaps_interval_us: u64,
}

/// What a node promises when it confirms a heartbeat: it goes with every such answer, as two nodes
/// may have been given different numbers, or be of different versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseTerm {
    /// For how long it votes for nobody, in microseconds of its own clock.
    pub lease_us: u64,
    /// How much faster one clock may run than another, in millionths, as far as it knows.
    pub clock_drift_ppm: u64,
}

impl Timing {
    /// What this node promises to those who lead.
    pub fn lease_term(&self) -> LeaseTerm {
        LeaseTerm { lease_us: self.lease_us, clock_drift_ppm: self.clock_drift_ppm }
    }

    /// The longest time that a follower waits for a leader, given an election timeout, in
    /// microseconds. The draw only has to keep two candidates apart for as long as a question takes
    /// to arrive, a few milliseconds, however slow their disks are: whoever asks one that has begun
    /// an epoch is told. A wider one makes failovers slower and nothing safer.
    pub fn longest_wait_us(election_timeout_us: u64) -> u64 {
        election_timeout_us.saturating_add(election_timeout_us / 2)
    }

    /// When something is due that is done once a heartbeat interval, after this moment. All that a
    /// node does so often it does at the same moments, whenever each of it began: a node with many
    /// groups wakes up no more often than one with a single group.
    pub fn next_beat_us(&self, now_us: u64) -> u64 {
        let interval_us = self.heartbeat_interval_us.max(1);
        now_us.saturating_add(interval_us - now_us % interval_us)
    }

    /// The shortest time between two heartbeats that counts as a silence, in microseconds: one of
    /// them is missing.
    pub fn silence_us(&self) -> u64 {
        self.heartbeat_interval_us.saturating_mul(2)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat_interval_us: 100_000,
            election_timeout_us: 600_000,
            lease_us: 400_000,
            // Quartz is off by less than 100, and ntpd slews by 500 at most; but chrony slews by
            // up to 83,333 either way, which is 182,000 between two nodes. The lease that remains
            // is still more than three heartbeats long.
            clock_drift_ppm: 200_000,
            leader_wait_us: 5_000_000,
            forward_timeout_us: 5_000_000,
            gaps_interval_us: 60_000_000,
        }
    }
}

impl Timing {
    /// What contradicts itself, if anything.
    pub fn contradiction(&self) -> Option<&'static str> {
        if self.lease_us >= self.election_timeout_us {
            return Some("the lease has to be shorter than the election timeout");
        }
        if self.heartbeat_interval_us >= self.election_timeout_us {
            return Some("heartbeats have to come more often than the election timeout");
        }
        None
    }
}

/// Bounds of queues and windows. What is over them gets a clear error.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a value, however it has grown: an entry has to fit into a message to a follower.
    pub value_bytes_max: usize,
    /// Bytes of a group's log that are kept in memory for followers that lag behind; beyond it
    /// they get a snapshot.
    pub log_bytes_max: usize,
    /// Entries that a leader may have uncommitted before writes get `-TRYAGAIN`.
    pub uncommitted_entries_max: usize,
    /// Bytes of them.
    pub uncommitted_bytes_max: u64,
    /// Bytes of entries in one message to a follower.
    pub append_bytes_max: usize,
    /// Bytes of entries and of snapshots on their way to one node, of all groups together, before
    /// their leaders wait for its word; one message more than that may be.
    pub window_bytes_max: usize,
    /// Bytes of records in one piece of a snapshot or checkpoint.
    pub image_bytes_max: usize,
    /// Records that a turn of a group looks at or frees where it has to do so with all of them: a
    /// part of a millisecond.
    pub records_at_once_max: usize,
    /// Records that the node's log may grow by before a checkpoint is taken.
    pub checkpoint_bytes: u64,
    /// Sessions whose commands a group remembers for `TF.ONCE`; the oldest are forgotten first.
    pub once_sessions_max: usize,
    /// Bytes of memory for them, by an estimate.
    pub once_bytes_max: usize,
    /// Commands that may wait on a node, for each group: for a leader or for its answer, and at
    /// the leader for the acks that writers want.
    pub waiting_commands_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            value_bytes_max: 16 << 20,
            log_bytes_max: 64 << 20,
            uncommitted_entries_max: 65_536,
            uncommitted_bytes_max: 256 << 20,
            append_bytes_max: 1 << 20,
            window_bytes_max: 8 << 20,
            image_bytes_max: 256 << 10,
            records_at_once_max: 4096,
            checkpoint_bytes: 64 << 20,
            once_sessions_max: 65_536,
            once_bytes_max: 64 << 20,
            waiting_commands_max: 65_536,
        }
    }
}

/// Why a node cannot start from its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// A record whose checksum is right does not make sense to this version.
    Malformed(Position),
    /// The log has lost its beginning: it starts with the first record, and only what is before
    /// the second (none: nothing) is not needed.
    Beginning(Position, Option<Position>),
    /// The log belongs to another node or cluster, or to other keyspaces; the text names what
    /// differs and what to do.
    Foreign(alloc::string::String),
}
