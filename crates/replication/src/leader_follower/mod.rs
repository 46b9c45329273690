//! Leader-follower replication.
//!
//! One node of a group, the *leader*, orders the writes into the *replication log*; *followers*
//! copy it. Every leadership has an *epoch*, which stands on every message and entry. An entry is
//! *acknowledged* when A replicas durably have it, and *committed* when C have; a candidate needs
//! E votes (`quorum.rs` has the arithmetic). The protocol is Raft's (Ongaro and Ousterhout 2014)
//! with A apart from C, and with these rules sharpened:
//!
//! - A follower acknowledges an (epoch, index) up to which it has *matched this leader in this
//!   epoch*, never the end of its log. What it owed in an older epoch dies with it.
//! - A follower cuts only where its entry's epoch differs from the leader's, never at or below
//!   what it has matched in this epoch, and never to a commit index.
//! - Copies are counted only for entries of the leader's own epoch (Raft, figure 8); until the
//!   empty entry that opens the epoch is committed, the leader answers nobody.
//! - A follower applies up to min(commit index, matched in this epoch, durable here).
//! - A write is visible at the leader from min(A, C) copies on. A read is evaluated once; its
//!   reply is held until what it saw is visible, and until a lease, or a heartbeat round that was
//!   started after it, has confirmed that this node still leads.
//!
//! The files, by what a reader may look for:
//!
//! - The life of a write: `execute.rs` evaluates it, `append.rs` puts an entry into the
//!   `replication_log/`, `sending.rs` sends it, `follower.rs` takes it, `progress.rs` hears of it,
//!   `acks/` counts the copies and lets the reply go. A turn's entries travel together.
//! - Reads that do not go to the leader: `follower_reads.rs`.
//! - Who leads: `election.rs` is failover, `leader.rs` a leadership, `transfer.rs` a planned
//!   change, `stall.rs` what a leader does that cannot go on, `tenure.rs` why it changed,
//!   `lease.rs` how it answers reads alone.
//! - Who counts: `voters.rs`, and after a loss `suspicion.rs`, `history.rs`, `operator.rs` with
//!   `electable.rs`; `leap.rs` refuses epochs that cannot be.
//! - Bringing a follower up: the log (`retention.rs`), or a snapshot (`snapshot.rs`, `image.rs`,
//!   `staging.rs`, and `leaving.rs` for what it replaces).
//! - What is told later: `acks/outcome.rs`, `degrade_ledger.rs`, `lost_writes/`, and what is not
//!   done twice: `once/`. All rest on `epochs.rs`, which remembers who wrote what.
//! - After a restart: `recovery.rs`, `reading.rs`. For observers: `sizes.rs`.

pub mod acks;
mod append;
pub mod degrade_ledger;
mod delete_many;
mod electable;
pub mod election;
pub mod entry;
pub mod epochs;
pub mod execute;
pub mod follower;
mod follower_reads;
pub mod history;
pub mod image;
pub mod leader;
pub mod leap;
pub mod lease;
mod leaving;
pub mod log_record;
pub mod lost_writes;
pub mod message;
pub mod once;
pub mod operator;
pub mod progress;
mod reading;
mod receive;
pub mod recovery;
pub mod replication_log;
pub mod retention;
mod say;
mod sending;
pub mod sizes;
pub mod snapshot;
pub mod staging;
pub mod stall;
pub mod state;
pub mod suspicion;
pub mod tenure;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod voters;

use crate::keyspace::{Durability, GroupOptions};
use crate::node::{Limits, Timing};
use crate::quorum::Quorum;
use crate::turn::Turn;
use crate::version::{EntryId, Stamp, VersionVector};
use crate::{Event, GroupId, Incarnation, NodeId, Position};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use election::Candidate;
use leader::Leader;
use replication_log::ReplicationLog;
use replication_log::run::Bodies;
use state::State;
use voters::Voters;

/// What a group is made of.
pub struct GroupSetup {
    /// Its name.
    pub id: GroupId,
    /// The nodes that hold it, in preference order.
    pub members: Vec<NodeId>,
    /// How it replicates.
    pub options: GroupOptions,
    /// Its share of the slots, first and last.
    pub slots: (u16, u16),
    /// Seeds the hash tables.
    pub seed: u64,
    /// Whether changes are merged with what is there, or overwrite it.
    pub merges: bool,
    /// Intervals and timeouts.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
}

/// One group, as one of its members knows it.
pub struct Group {
    /// The group's name.
    pub id: GroupId,
    /// The nodes that hold it, in preference order.
    pub members: Vec<NodeId>,
    /// How it replicates.
    pub options: GroupOptions,
    /// N, A, E and C.
    pub quorum: Quorum,
    /// The records.
    pub state: State,
    /// What the committed state covers of other groups' entries, and of this one's own.
    pub covered: VersionVector,
    /// The same for the whole log, the uncommitted tail included; kept by a leader.
    pub covered_by_log: VersionVector,
    /// Entries after this index are needed by others than followers, if it is not the largest
    /// number: the log is kept for them as for a follower that is sent a snapshot.
    pub needed_after: u64,
    /// Which leader wrote which part of the log.
    pub epochs: epochs::Epochs,
    /// Where writes were acknowledged with fewer acks than declared, up to the commit index.
    pub degraded: degrade_ledger::Ledger,
    /// Writes that were cut because a newer leader's log differs, kept aside.
    lost_writes: lost_writes::LostWrites,
    timing: Timing,
    limits: Limits,
    voters: Voters,
    log: ReplicationLog,
    /// A list of indexes that is used again and again.
    scratch: Vec<u64>,
    role: Role,
    epoch: u64,
    epoch_position: Position,
    voted_for: Option<NodeId>,
    leader: Option<NodeId>,
    heard_leader_us: u64,
    election_deadline_us: u64,
    tick_due_us: u64,
    /// The newest record of this group in the node's log, whatever it is.
    newest_record: Position,
    commit: u64,
    /// How far the node's log says that it is committed.
    recorded_commit: u64,
    /// Bytes of entries that were written down since that was.
    bytes_since_commit: usize,
    /// The newest stamp in the log: the group's time is never before it.
    newest_stamp: Stamp,
    follower: follower::Follower,
    shown: follower_reads::Shown,
    installing: Option<staging::Installing>,
    /// States that a snapshot has replaced.
    leaving: leaving::Leaving,
    /// While the node's log is being read.
    reading: reading::Reading,
    suspicion: suspicion::Suspicion,
    word: Option<operator::Word>,
    /// What it has promised as a follower, whoever it follows.
    promise: lease::Promise,
    handover: Option<transfer::Handover>,
    tenure: tenure::Tenure,
    /// What it has on its way to each member, in their order.
    shares: Vec<sending::Share>,
}

/// What a node is in its group.
enum Role {
    /// Copies the leader's log, or waits for a leader.
    Follower,
    /// Would lead.
    Candidate(Candidate),
    /// Orders the writes.
    Leader(Box<Leader>),
}

impl Group {
    /// A group that this node knows nothing about yet.
    pub fn new(setup: GroupSetup) -> Group {
        let (first, last) = setup.slots;
        Group {
            id: setup.id,
            shares: setup.members.iter().map(|_| sending::Share::default()).collect(),
            members: setup.members,
            quorum: Quorum::of(&setup.options),
            options: setup.options,
            state: State::new(first, last, setup.seed, setup.merges)
                .with_large_from(setup.limits.records_at_once_max),
            covered: VersionVector::default(),
            covered_by_log: VersionVector::default(),
            needed_after: u64::MAX,
            epochs: epochs::Epochs::default(),
            degraded: degrade_ledger::Ledger::default(),
            lost_writes: lost_writes::LostWrites::default(),
            timing: setup.timing,
            limits: setup.limits,
            voters: Voters::default(),
            log: ReplicationLog::default(),
            scratch: Vec::new(),
            role: Role::Follower,
            epoch: 0,
            epoch_position: Position(0),
            voted_for: None,
            leader: None,
            heard_leader_us: 0,
            election_deadline_us: 0,
            tick_due_us: 0,
            newest_record: Position(0),
            commit: 0,
            recorded_commit: 0,
            bytes_since_commit: 0,
            newest_stamp: Stamp::ZERO,
            follower: follower::Follower::default(),
            shown: follower_reads::Shown::default(),
            installing: None,
            leaving: leaving::Leaving::default(),
            reading: reading::Reading::default(),
            suspicion: suspicion::Suspicion::default(),
            word: None,
            promise: lease::Promise::default(),
            handover: None,
            tenure: tenure::Tenure::default(),
        }
    }

    /// The node's log is kept further than before.
    pub fn on_durable(&mut self, turn: &mut Turn<'_>) {
        match &self.role {
            Role::Leader(_) => self.count_copies(turn),
            Role::Candidate(_) => self.count_votes(turn),
            Role::Follower if self.is_alone() => self.lead_alone(turn),
            Role::Follower => self.follow_commit(turn),
        }
    }

    /// A deadline may have come.
    pub fn on_tick(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        if self.election_deadline_us == 0 {
            self.reset_election_timer(turn);
        }
        if now_us >= self.tick_due_us {
            self.tick_due_us = self.timing.next_beat_us(now_us);
            self.seek_voters(turn);
            self.lead_on(turn);
        }
        if now_us >= self.election_deadline_us {
            self.on_election_timeout(turn);
        }
        self.expire_held(turn);
        self.tend_word(turn);
        self.expire_handover(turn);
    }

    /// Nothing more this turn: says once what has gathered.
    pub fn on_turn_end(&mut self, turn: &mut Turn<'_>) {
        self.record_turn(turn);
        self.record_commit(turn);
        self.date_promise(turn);
        self.advance_handover(turn);
        self.free_some(turn);
        self.go_on_parting(turn);
        match &self.role {
            Role::Leader(_) => self.send_appends(turn),
            Role::Candidate(_) => self.settle_shares(turn),
            Role::Follower => {
                self.settle_shares(turn);
                self.send_matched(turn);
            }
        }
    }

    /// When the group wants a tick at the latest.
    pub fn next_deadline(&self) -> u64 {
        let held = match &self.role {
            Role::Leader(leader) => leader.next_deadline(),
            _ => u64::MAX,
        };
        let ticks = match &self.role {
            Role::Leader(_) => self.tick_due_us,
            _ if !self.voters.is_born() => self.tick_due_us,
            _ => u64::MAX,
        };
        let election = match &self.role {
            Role::Leader(_) => u64::MAX,
            _ => self.election_deadline_us,
        };
        let word = self.word.as_ref().map_or(u64::MAX, operator::Word::next_deadline);
        let pieces = self.leaving.next_deadline().min(self.parting_deadline());
        held.min(ticks).min(election).min(self.handover_deadline_us()).min(word).min(pieces)
    }

    /// The newest record of this group in the node's log, whatever it is: once that is on disk,
    /// the disk has nothing more to say to the group.
    pub fn newest_record(&self) -> Position {
        self.newest_record
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Up to where the log is known to be committed.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The newest entry of the log.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The id of an entry that the log still has.
    pub fn id_at(&self, index: u64) -> Option<EntryId> {
        self.log.id_at(index)
    }

    /// The voters that this node knows, each with the disk that counts; none before the group is
    /// known to have started.
    pub fn voters(&self) -> message::VoterSet {
        let voters = self.voters.in_force().into_iter().flatten();
        voters.map(|(node, incarnation)| (*node, *incarnation)).collect()
    }

    /// What this node is in the group, in a word.
    pub fn role_name(&self, me: NodeId, incarnation: Incarnation) -> &'static str {
        match &self.role {
            Role::Leader(_) => "leader",
            Role::Candidate(_) => "candidate",
            Role::Follower if self.voters.counts(me, incarnation) => "follower",
            Role::Follower => "learner",
        }
    }

    /// At a leader: each follower that was heard lately, and how many entries it lacks. Of one that
    /// is silent nobody can say.
    pub fn lag(&self, now_us: u64) -> Vec<(NodeId, u64)> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let last = self.log.last_index();
        let silence_us = self.timing.election_timeout_us;
        let heard = leader
            .progress
            .iter()
            .filter(|(_, follower)| now_us.saturating_sub(follower.heard_us()) < silence_us);
        heard.map(|(node, follower)| (*node, last.saturating_sub(follower.durable))).collect()
    }

    /// The entries above an index, up to the commit index: id and bytes; `None` if the log does
    /// not reach back so far.
    pub fn committed_after(&self, index: u64) -> Option<impl Iterator<Item = (u64, &[u8])>> {
        if index < self.log.start().index {
            return None;
        }
        let (mut index, mut bodies) = (index, Bodies::of(&[]));
        Some(core::iter::from_fn(move || {
            if index >= self.commit {
                return None;
            }
            if bodies.rest().is_empty() {
                bodies = Bodies::of(self.log.run_after(index, usize::MAX)?.0);
            }
            index += 1;
            Some((index, bodies.next()?.ok()?))
        }))
    }

    /// The index before the first entry that the log holds in memory.
    pub fn log_start(&self) -> u64 {
        self.log.start().index
    }

    /// Whether changes are merged with what is there: then a record past its deadline is a
    /// tombstone as it stands, and nothing is ever removed.
    pub fn merges(&self) -> bool {
        self.state.merges()
    }

    /// The group's time in milliseconds since 1970: never before the newest entry's.
    pub fn time_ms(&self, turn: &Turn<'_>) -> u64 {
        turn.now.wall_ms.max(self.newest_stamp.wall_ms())
    }

    /// Appends a record of this group to the node's log.
    fn log_record(
        &mut self,
        turn: &mut Turn<'_>,
        body: log_record::Body<'_>,
        durability: Durability,
    ) -> Position {
        let mut bytes = core::mem::take(&mut turn.local.scratch);
        log_record::LogRecord { group: self.id, body }.encode(&mut bytes);
        let position = turn.append(&bytes, durability);
        turn.local.scratch = bytes;
        self.newest_record = position;
        position
    }

    /// This node leads no longer: whoever still waits is told that the outcome is open.
    fn step_down(&mut self, turn: &mut Turn<'_>, reason: Cow<'static, str>) {
        self.record_entries(turn);
        self.end_waits(turn);
        let copies = self.copies(turn);
        let role = core::mem::replace(&mut self.role, Role::Follower);
        let Role::Leader(leader) = role else { return };
        self.leader = None;
        self.log_acknowledged(turn);
        self.state.undo();
        self.covered_by_log = self.covered.clone();
        self.reset_election_timer(turn);
        let reason = self.reason_to_step_down(reason);
        self.note_end_of_tenure(turn, reason.clone());
        self.revoke(turn, *leader, &copies, &reason);
        turn.event(Event::SteppedDown { group: self.id, epoch: self.epoch, reason });
    }

    fn forget_matched(&mut self) {
        self.follower = follower::Follower::default();
        self.suspicion.forget_end();
    }
}
