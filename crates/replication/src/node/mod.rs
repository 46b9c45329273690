//! The node: gives each input to the model that the key's prefix picked.
//!
//! `requests.rs` takes a command apart and finds the group that it is for; `execute.rs` carries
//! it out here if this node can, `forward.rs` hands it to the node that can. `gather.rs` puts the
//! parts of MGET, SCAN and the like together again. `heartbeat.rs` says who is alive and who leads.
//! `open.rs` and `checkpoint.rs` are the two ends of the log's life.

pub mod checkpoint;
mod delete_many;
pub mod execute;
mod failed_parts;
pub mod forward;
mod gap_record;
pub mod gather;
pub mod groups;
pub mod heartbeat;
pub mod heartbeat_gaps;
pub mod idle_mark;
mod leave;
pub mod log_record;
pub mod lost_writes;
pub mod message;
mod multi_leader;
pub mod open;
pub mod part;
mod questions;
mod recover;
pub mod requests;
pub mod routes;
pub mod setup;
mod sizes;
pub mod slots;
pub mod status;
mod switchover;
mod waits;

pub use setup::{LeaseTerm, Limits, OpenError, Setup, Timing};
pub use sizes::OnLink;

use crate::keyspace::Cluster;
use crate::leader_follower::Group;
use crate::leaderless::Leaderless;
use crate::multi_leader::MultiLeader;
use crate::storage::record::Record;
use crate::storage::store::{Store, look_ahead};
use crate::turn::{Local, Turn};
use crate::{Effects, GroupId, Incarnation, Input, KeyspaceId, Message, NodeId, Session, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Bytes of what reads will answer from which on a node takes no more of them, in this turn and in
/// later ones: from its clients, whose driver asks [`Node::held_read_bytes`], and from other nodes.
pub const HELD_READ_BYTES_MAX: u64 = 64 << 20;

/// One node: all its groups and replicas, and the commands on their way through it.
pub struct Node {
    local: Local,
    roles: Roles,
}

/// What a node is in the cluster, and what it knows of the others.
pub struct Roles {
    pub(crate) cluster: Cluster,
    timing: Timing,
    limits: Limits,
    session: Session,
    keyspaces_digest: u64,
    datacenter: crate::DatacenterId,
    /// The groups with a leader that this node is a member of.
    groups: groups::Groups,
    /// The way from a key to its group.
    routes: routes::Routes,
    /// The leaderless keyspaces that this node holds partitions of.
    leaderless: BTreeMap<KeyspaceId, Leaderless>,
    /// The exchange of this node's groups with other datacenters.
    multi_leader: MultiLeader,
    /// All groups of the cluster, with their nodes in preference order.
    placement: BTreeMap<GroupId, Vec<NodeId>>,
    peers: Vec<heartbeat::Peer>,
    /// Who leads what, as far as heartbeats have told, and since which epoch.
    leaders: BTreeMap<GroupId, heartbeat::Led>,
    forwards: forward::Forwards,
    gathers: gather::Gathers,
    lost_queries: lost_writes::LostQueries,
    checkpoint: checkpoint::Checkpoint,
    heartbeat_due_us: u64,
    /// When what was heard of other nodes goes to the log.
    gaps_due_us: u64,
    rest: idle_mark::Rest,
    /// Until when what an earlier process has promised may hold.
    promised_until_us: u64,
}

impl Node {
    /// Handles one input. Never blocks, never fails: what the world does wrong is a value.
    pub fn step(&mut self, now: Time, input: Input<'_>, effects: &mut dyn Effects) {
        let mut turn = Turn { now, effects, local: &mut self.local };
        let (turn, roles) = (&mut turn, &mut self.roles);
        let ends_turn = matches!(input, Input::TurnEnd);
        roles.mind_clock(turn);
        match input {
            Input::Requests(requests) => roles.on_requests(turn, &requests),
            Input::Disconnected(client) => {
                turn.local.connections.close(client);
                roles.forget_waits(client);
            }
            Input::Message { from, incarnation, message } => {
                roles.on_message(turn, from, incarnation, message);
            }
            Input::PeerLost(node) => roles.on_peer_lost(turn, node),
            Input::Durable { written, synced } => {
                let (written_before, synced_before) = (turn.local.written, turn.local.synced);
                turn.local.kept(written, synced);
                turn.send_owed();
                roles.on_durable(turn, (written > written_before, synced > synced_before));
            }
            Input::Tick => roles.on_tick(turn),
            Input::TurnEnd => roles.on_turn_end(turn),
            Input::Leave => roles.leave(turn),
            Input::Stop => roles.groups.values_mut().for_each(|group| group.on_stop(turn)),
        }
        roles.gather_parts(turn);
        roles.start_ready_waits(turn);
        if ends_turn {
            // What the turn's end itself has appended.
            roles.groups.end_turn(turn);
            roles.send_batches(turn);
            turn.send_answers();
        }
        roles.groups.count_reads(&mut turn.local.longest_record);
    }

    /// Tells which keys the next commands name, so that their records are at hand. A hint, for
    /// speed: nothing that can be observed changes, and nothing depends on it.
    pub fn look_ahead<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        look_ahead(keys.filter_map(|key| Some((self.roles.store_of(key)?, key))));
    }

    /// Bytes of what reads will answer that were evaluated and wait: for the end of the turn, for
    /// their leader to be confirmed, until what they saw is visible, or for the other parts of
    /// their answer; and room for lists of all keys that are on their way. A driver that sees it
    /// rise gives no more commands until it falls.
    pub fn held_read_bytes(&self) -> u64 {
        self.roles.groups.held_read_bytes() + self.roles.gathers.held_bytes()
    }

    /// No read of one key answers more bytes from here; a bound.
    pub fn longest_record(&self) -> usize {
        self.local.longest_record
    }

    /// When the node wants a `Tick` at the latest, in microseconds of the monotonic clock, as of
    /// the end of its last turn. May be too early; the tick then tells better.
    pub fn next_deadline(&self) -> u64 {
        self.roles.next_deadline()
    }

    /// The disk's number: goes into every frame to a peer.
    pub fn incarnation(&self) -> Incarnation {
        self.local.incarnation
    }

    /// This node's number.
    pub fn id(&self) -> NodeId {
        self.local.me
    }

    /// A digest of a group's records, for observers; `None` if this node does not hold the group
    /// or has uncommitted changes in it.
    pub fn digest(&self, group: GroupId) -> Option<u64> {
        if let Some(group) = self.roles.groups.get(&group) {
            return group.state.is_settled().then(|| group.state.store.digest());
        }
        let leaderless = self.roles.leaderless.get(&group.keyspace)?;
        leaderless.store(group).map(|store| store.digest())
    }

    /// The same for what a group remembers of the commands of `TF.ONCE`.
    pub fn once_digest(&self, group: GroupId) -> Option<u64> {
        let group = self.roles.groups.get(&group)?;
        group.state.is_settled().then(|| group.state.once.digest())
    }

    /// What this node holds for a key, for observers.
    pub fn record(&self, key: &[u8]) -> Option<Record<'_>> {
        let (group, _) = self.roles.group_of(key)?;
        if let Some(group) = self.roles.groups.get(&group) {
            return group.state.store.get(key);
        }
        self.roles.leaderless.get(&group.keyspace)?.store(group)?.get(key)
    }

    /// A group with a leader that this node is a member of, for observers.
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        self.roles.groups.get(&group)
    }

    /// The groups with a leader that this node is a member of.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.roles.groups.values()
    }

    /// All groups of the cluster, with their nodes in preference order.
    pub fn placement(&self) -> &BTreeMap<GroupId, Vec<NodeId>> {
        &self.roles.placement
    }
}

impl Roles {
    /// The table that holds a key on this node, if one does.
    fn store_of(&self, key: &[u8]) -> Option<&Store> {
        let route = self.routes.of(key)?;
        match route.place.and_then(|place| self.groups.seen_at(place)) {
            Some(group) => Some(&group.state.store),
            None => self.leaderless.get(&route.group.keyspace)?.store(route.group),
        }
    }

    fn on_message(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        message: Message<'_>,
    ) {
        let is_heartbeat = matches!(message, Message::Node(message::Message::Heartbeat { .. }));
        if self.is_foreign(from) && !is_heartbeat {
            return;
        }
        match message {
            Message::Node(message) => self.on_node_message(turn, from, incarnation, message),
            Message::LeaderFollower(message) => {
                if let Some(group) = self.groups.get_mut(&message.group) {
                    group.on_message(turn, from, incarnation, message);
                }
            }
            Message::MultiLeader(message) => self.on_multi_leader(turn, from, message),
            Message::Leaderless(message) => {
                if let Some(leaderless) = self.leaderless.get_mut(&message.keyspace()) {
                    leaderless.on_message(turn, from, incarnation, message);
                }
            }
        }
    }

    /// Whoever did not run for as long as an election takes may lead no longer without knowing it.
    fn mind_clock(&mut self, turn: &mut Turn<'_>) {
        let before_us = core::mem::replace(&mut turn.local.last_input_us, turn.now.monotonic_us);
        let gap_us = turn.now.monotonic_us.saturating_sub(before_us);
        if gap_us > self.timing.election_timeout_us {
            for group in self.groups.values_mut() {
                group.on_stood_still(turn, gap_us);
            }
        }
    }

    /// The log is kept further than before; `grown` says whether it is written, and synced.
    fn on_durable(&mut self, turn: &mut Turn<'_>, grown: (bool, bool)) {
        for group in self.groups.on_kept(grown.0, grown.1) {
            group.on_durable(turn);
        }
        for leaderless in self.leaderless.values_mut() {
            leaderless.on_durable(turn);
        }
        self.finish_lost_queries(turn);
        self.finish_checkpoint(turn);
    }

    fn on_tick(&mut self, turn: &mut Turn<'_>) {
        let beats = turn.now.monotonic_us >= self.heartbeat_due_us;
        for group in self.groups.due(turn.now.monotonic_us, beats) {
            group.on_tick(turn);
        }
        for leaderless in self.leaderless.values_mut() {
            leaderless.on_tick(turn);
        }
        if beats {
            self.heartbeat_due_us = self.timing.next_beat_us(turn.now.monotonic_us);
            self.urge_checkpoint();
            self.hand_over_all(turn);
            self.send_heartbeats(turn);
            self.outlive_promises(turn);
            self.write_gaps(turn);
            self.mark_resting_log(turn);
            self.lose_silent(turn);
            self.tend_streams();
            for group in self.groups.values_mut() {
                group.expire_due(turn);
            }
        }
        self.expire_forwards(turn);
        self.expire_lost_queries(turn);
    }

    fn on_turn_end(&mut self, turn: &mut Turn<'_>) {
        // First the reads that were evaluated before this input's clock was read, and only those.
        for group in self.groups.touched() {
            group.let_lease_reads_go(turn);
        }
        self.deliver_waiting(turn);
        self.finish_lost_queries(turn);
        self.step_checkpoint(turn);
        let (mut wants_round, mut announces) = (false, false);
        for group in self.groups.ending() {
            wants_round |= group.take_wants_round(turn);
            announces |= group.take_announcement();
            group.on_turn_end(turn);
        }
        self.send_in_turns(turn);
        for leaderless in self.leaderless.values_mut() {
            leaderless.on_turn_end(turn);
        }
        self.exchange(turn);
        if announces {
            // Commands wait for a leader at all nodes: they should hear of it now.
            self.send_heartbeats(turn);
        } else if wants_round {
            self.start_round(turn);
        }
    }

    /// Groups that have waited for room on the way to a node go on, as there is some now.
    fn send_in_turns(&mut self, turn: &mut Turn<'_>) {
        while let Some((node, group)) = turn.local.windows.next(self.limits.window_bytes_max) {
            if let Some(group) = self.groups.get_mut(&group) {
                group.send_in_turn(turn, node);
            }
        }
    }

    fn on_peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(usize::from(node.0)) {
            peer.lost = true;
        }
        for group in self.groups.values_mut() {
            group.on_peer_lost(node);
        }
        for leaderless in self.leaderless.values_mut() {
            leaderless.on_peer_lost(turn, node);
        }
        self.lose_streams(node);
        self.lose_forwards(turn, node);
    }

    fn next_deadline(&self) -> u64 {
        let leaderless = self.leaderless.values().map(Leaderless::next_deadline).min();
        self.groups
            .next_deadline()
            .min(leaderless.unwrap_or(u64::MAX))
            .min(self.heartbeat_due_us)
            .min(self.forwards.next_deadline())
            .min(self.lost_queries.next_deadline())
    }
}
