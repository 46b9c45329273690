//! Commands that another node must carry out: sent once, and again only after it has said that
//! nothing was done.
//!
//! A node hands a command to the group's leader (or to a replica, where any will do). The
//! receiver executes it only if its sequence number is larger than every one that it had from
//! this sender, so a repeated or overtaken message is never executed late. "Not here" means: not
//! executed, and nothing else of this group and attempt will be; only then the command goes out
//! again, behind every earlier one of its client. Any other silence is `-UNKNOWN` for a write.
//! Where a group has no leader that this node knows, commands wait for a while.
//!
//! What a turn has for one node leaves at its end as one message, and so do the answers
//! (`batch.rs`).

pub mod batch;
mod receive;
pub(super) mod seen;
mod sent;
mod unknown;

use super::Roles;
use super::heartbeat::Led;
use super::message::Message;
use super::part::Part;
use super::requests::Work;
use crate::keyspace::{MissingAcks, Model};
use crate::mutant::Mutant;
use crate::turn::{Asker, LastWrite, Requester, Turn};
use crate::{ClientId, GroupId, Message as AnyMessage, NodeId, Reply, Session, Span};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use batch::Batches;
use receive::{Labels, with_work};
use seen::Seen;
use sent::{AllSent, Bound, Sent};

/// Nobody could be found for a write, or for a read.
const NOT_DONE: &str = "CLUSTERDOWN this node has found no leader or replica of the keyspace that \
                        could carry this out (TF.STATUS says what it knows); nothing was done";
const NOT_READ: &str = "CLUSTERDOWN this node has found no leader or replica of the keyspace that \
                        could answer this (TF.STATUS says what it knows)";

/// Neither a leader nor its answers come.
const TOO_MANY: &str = "TRYAGAIN too many commands wait for this keyspace; nothing was done";

/// Buffers of commands that are kept for commands to come, and the largest that is kept.
const SPARE_BUFFERS_MAX: usize = 1_024;
const SPARE_BUFFER_BYTES_MAX: usize = 4 << 10;

/// Commands on their way through this node.
#[derive(Default)]
pub struct Forwards {
    /// Counts the commands in order of arrival.
    orders: u64,
    next_sequence: u64,
    /// Sent and not answered.
    sent: AllSent,
    /// What this turn has for each node.
    batches: Batches,
    /// Not sent yet, in order of arrival.
    waiting: BTreeMap<GroupId, VecDeque<Waiting>>,
    /// The current attempt of each group, and how many commands of older ones are out.
    attempts: BTreeMap<GroupId, (u64, usize)>,
    /// Groups that are given a rest until a moment, as nobody could be found for them.
    paused_until_us: BTreeMap<GroupId, u64>,
    /// What each sender has sent before.
    pub(super) seen: Seen,
    /// Batches up to this one have nothing out any more, but for those to the nodes named here.
    settled: (u64, BTreeMap<NodeId, u64>),
    /// The newest attempt of each sender that this node has refused.
    refused: BTreeMap<(NodeId, GroupId), (Session, u64)>,
    /// Names of other nodes' clients that were heard lately.
    labels: Labels,
    /// Empty buffers for commands.
    spare: Vec<Vec<u8>>,
    /// The arguments of a command that came encoded.
    spans: Vec<Span>,
}

/// What became of a command that was to go, and did not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stays {
    /// An earlier command of the same client is elsewhere, or may still be refused.
    NotYet,
    /// There is nobody for the group.
    Nowhere,
}

struct Waiting {
    requester: Requester,
    /// The client that it came from, if from one of this node.
    client: Option<ClientId>,
    /// Who asked; `None` for what a node asks by itself.
    asker: Option<Asker>,
    /// Rises in order of arrival; a command that goes out again keeps its place.
    order: u64,
    encoded: Vec<u8>,
    is_write: bool,
    /// Until when it waits for somebody to be there.
    deadline_us: u64,
    /// How much longer than others its answer may take.
    patience_us: u64,
}

impl Forwards {
    /// Whether no command waits or is out: then none can come before another one.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// Whether commands wait for a group.
    fn waits(&self, group: GroupId) -> bool {
        !self.waiting.is_empty() && self.waiting.get(&group).is_some_and(|queue| !queue.is_empty())
    }

    /// Whether so many commands of a group wait, for somebody who can carry them out or for an
    /// answer. One that is refused elsewhere waits again: so both count together.
    fn is_full(&self, group: GroupId, most: usize) -> bool {
        let waiting = self.waiting.get(&group).map_or(0, VecDeque::len);
        waiting + self.sent.len() >= most && waiting + self.sent.count(group) >= most
    }

    /// How many wait in each group, counted anew: for observers.
    pub(super) fn recount(&self) -> BTreeMap<GroupId, usize> {
        let mut counts = self.sent.recount();
        for (group, queue) in &self.waiting {
            *counts.entry(*group).or_default() += queue.len();
        }
        counts
    }

    /// When the earliest command has waited long enough; a tick before that does no harm.
    pub fn next_deadline(&self) -> u64 {
        if self.is_idle() && self.paused_until_us.is_empty() {
            return u64::MAX;
        }
        let waiting = self.waiting.values().filter_map(|queue| queue.front());
        let waiting = waiting.map(|command| command.deadline_us).min().unwrap_or(u64::MAX);
        let paused = self.paused_until_us.values().min().copied().unwrap_or(u64::MAX);
        self.sent.next_deadline().min(waiting).min(paused)
    }

    fn attempt(&self, group: GroupId) -> (u64, usize) {
        self.attempts.get(&group).copied().unwrap_or_default()
    }

    fn remove(&mut self, token: u64) -> Option<Sent> {
        let sent = self.sent.remove(token)?;
        if let Some((attempt, older)) = self.attempts.get_mut(&sent.group)
            && sent.attempt < *attempt
        {
            *older = older.saturating_sub(1);
        }
        Some(sent)
    }

    /// Something of an attempt was refused: what goes out from now on is a new one.
    fn raise_attempt(&mut self, group: GroupId, refused: u64) {
        let (attempt, _) = self.attempt(group);
        if refused < attempt {
            return;
        }
        let older = self.sent.count(group);
        self.attempts.insert(group, (refused + 1, older));
    }

    /// Somebody new may be able to carry out what waits.
    pub(super) fn resume(&mut self, group: GroupId) {
        self.paused_until_us.remove(&group);
    }

    /// Whether a group is given a rest.
    fn is_paused(&mut self, group: GroupId, now_us: u64) -> bool {
        let Some(until_us) = self.paused_until_us.get(&group) else { return false };
        let paused = *until_us > now_us;
        if !paused {
            self.paused_until_us.remove(&group);
        }
        paused
    }

    /// A command that is done with leaves its buffer.
    fn take_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl Roles {
    /// Has the work done: here, or by the node that can, or as soon as there is one.
    pub(super) fn deliver(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        group: GroupId,
        work: &Work<'_>,
        encode: &dyn Fn(&mut Vec<u8>),
    ) {
        let waits = self.forwards.waits(group);
        let client = self.client_of(requester);
        // What this client has out elsewhere may still be refused there, and then comes after it.
        let is_free = !waits && self.forwards.sent.held_up_by(client, group, u64::MAX).is_none();
        if is_free && self.try_here(turn, requester, group, work) {
            return;
        }
        let is_full = self.forwards.is_full(group, self.limits.waiting_commands_max);
        if is_full && !turn.local.mutants.is(Mutant::WaitingIgnored) {
            return turn.refuse(requester, TOO_MANY);
        }
        let mut encoded = self.forwards.spare.pop().unwrap_or_default();
        encode(&mut encoded);
        let patience_us = match work {
            Work::Part(Part::Wait { timeout_ms, .. }) => timeout_ms.saturating_mul(1000),
            _ => self.patience_us(group, work),
        };
        self.forwards.orders += 1;
        let mut command = Waiting {
            requester,
            client,
            asker: turn.local.asker.clone(),
            order: self.forwards.orders,
            encoded,
            is_write: work.is_write(),
            deadline_us: turn.now.monotonic_us + self.timing.leader_wait_us,
            patience_us,
        };
        if !waits && !self.forwards.is_paused(group, turn.now.monotonic_us) {
            match self.send_one(turn, group, command) {
                None => return,
                Some((back, _)) => command = back,
            }
        }
        self.forwards.waiting.entry(group).or_default().push_back(command);
    }

    /// Sends what waits, as far as there is somebody to send it to. Called at the end of a turn.
    pub(super) fn deliver_waiting(&mut self, turn: &mut Turn<'_>) {
        if self.forwards.waiting.is_empty() {
            return;
        }
        let groups: Vec<GroupId> = self.forwards.waiting.keys().copied().collect();
        for group in groups {
            self.deliver_waiting_of(turn, group);
        }
    }

    fn deliver_waiting_of(&mut self, turn: &mut Turn<'_>, group: GroupId) {
        if self.forwards.is_paused(group, turn.now.monotonic_us) {
            return;
        }
        let Some(mut queue) = self.forwards.waiting.remove(&group) else { return };
        let mut kept = VecDeque::new();
        while let Some(command) = queue.pop_front() {
            let Some((command, stays)) = self.deliver_one(turn, group, command) else { continue };
            kept.push_back(command);
            if stays == Stays::Nowhere {
                break;
            }
        }
        kept.append(&mut queue);
        if !kept.is_empty() {
            self.forwards.waiting.insert(group, kept);
        }
    }

    /// Not while an earlier command of the same client may still be refused.
    fn may_go(&self, command: &Waiting, group: GroupId) -> bool {
        let (attempt, older) = self.forwards.attempt(group);
        older == 0 || !self.forwards.sent.is_behind(command, group, attempt)
    }

    fn client_of(&self, requester: Requester) -> Option<ClientId> {
        match requester {
            Requester::Client(request) => Some(request.client),
            Requester::Part { gather, .. } => self.gathers.client(gather),
            Requester::Peer { .. } => None,
        }
    }

    /// Carries a command that has waited out here or sends it. Returns it where it stays.
    fn deliver_one(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupId,
        command: Waiting,
    ) -> Option<(Waiting, Stays)> {
        if !self.may_go(&command, group) {
            return Some((command, Stays::NotYet));
        }
        if self.forwards.sent.held_up_by(command.client, group, command.order).is_none() {
            let asker = core::mem::replace(&mut turn.local.asker, command.asker.clone());
            let mut spans = core::mem::take(&mut self.forwards.spans);
            let done = with_work(&command.encoded, &mut spans, |work| {
                self.try_here(turn, command.requester, group, work)
            });
            self.forwards.spans = spans;
            turn.local.asker = asker;
            if done == Some(true) {
                self.forwards.take_buffer(command.encoded);
                return None;
            }
        }
        self.send_one(turn, group, command)
    }

    /// Sends a command to who can carry it out. Returns it where it stays. Commands of one client
    /// overtake each other nowhere: while earlier ones are out at a node, later ones go to that
    /// node only.
    fn send_one(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupId,
        command: Waiting,
    ) -> Option<(Waiting, Stays)> {
        if !self.may_go(&command, group) {
            return Some((command, Stays::NotYet));
        }
        if !turn.local.may_speak() {
            return Some((command, Stays::Nowhere));
        }
        let behind = self.forwards.sent.held_up_by(command.client, group, command.order);
        let to = self.who_can(turn, group, command.is_write);
        if behind.is_some() && behind != to {
            return Some((command, Stays::NotYet));
        }
        let peer = to.and_then(|to| Some((to, self.peers.get(usize::from(to.0))?.session?)));
        let Some((to, session)) = peer else { return Some((command, Stays::Nowhere)) };
        self.forward(turn, group, command, (to, session));
        None
    }

    fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        group: GroupId,
        command: Waiting,
        (to, session): (NodeId, Session),
    ) {
        if self.forwards.batches.of(to).is_closed_to(session) {
            self.send_batch(turn, to);
        }
        let (attempt, _) = self.forwards.attempt(group);
        let timeout_us = self.timing.forward_timeout_us.saturating_add(command.patience_us);
        let deadline_us = turn.now.monotonic_us.saturating_add(timeout_us);
        let Led { epoch, last, .. } = self.led_by(group, to);
        let Forwards { sent: all, batches, next_sequence, .. } = &mut self.forwards;
        let after_batch = *next_sequence;
        let bound = Bound { epoch, after_index: last, after_batch };
        let (token, Sent { command, .. }) =
            all.insert(Sent { command, group, to, bound, attempt, deadline_us });
        let (asker, of) = (command.asker.as_ref(), (group, epoch));
        batches.of(to).add_command(session, (attempt, token), of, asker, &command.encoded);
    }

    /// What this turn has for each node goes. Called at the end of a turn.
    pub(super) fn send_batches(&mut self, turn: &mut Turn<'_>) {
        for node in self.forwards.batches.nodes() {
            self.send_batch(turn, node);
        }
    }

    fn send_batch(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let Some((to, commands)) = self.forwards.batches.of(node).take() else { return };
        self.forwards.next_sequence += 1;
        let (from, sequence) = (self.session, self.forwards.next_sequence);
        let commands_said = Cow::Borrowed(&*commands);
        let message = Message::Forward { to, from, sequence, commands: commands_said };
        turn.send(node, AnyMessage::Node(message));
        self.forwards.batches.of(node).keep_buffer(commands);
    }

    /// How long the node that carries a write out may itself wait for acks.
    fn patience_us(&self, group: GroupId, work: &Work<'_>) -> u64 {
        let Some(keyspace) = self.cluster.keyspace(group.keyspace) else { return 0 };
        let options = match &keyspace.model {
            Model::LeaderFollower(options) => &options.group,
            Model::MultiLeader(options) => &options.group,
            Model::Leaderless(options) => return options.timeout_ms.saturating_mul(1000),
        };
        match options.missing_acks {
            MissingAcks::Block if work.is_write() => u64::MAX,
            // Its acks' deadline, then that of the line in the degrade ledger.
            MissingAcks::Degrade if work.is_write() => options.ack_timeout_ms.saturating_mul(2_000),
            _ => options.ack_timeout_ms.saturating_mul(1000),
        }
    }

    /// A node that is up and could carry out work of a group.
    fn who_can(&self, turn: &Turn<'_>, group: GroupId, is_write: bool) -> Option<NodeId> {
        let any = self.is_leaderless(group) || (!is_write && self.reads_anywhere(group));
        if !any {
            return self.leader_of(turn, group).filter(|leader| *leader != turn.local.me);
        }
        // A follower whose disk is new would send a read back: the leader is the surer choice.
        if let Some(leader) = self.leader_of(turn, group).filter(|node| *node != turn.local.me) {
            return Some(leader);
        }
        let members = self.placement.get(&group)?;
        let others = members.iter().copied().filter(|node| *node != turn.local.me);
        others.into_iter().find(|node| self.is_up(turn, *node))
    }

    /// The answer to a command that this node had forwarded.
    pub(super) fn on_answer(
        &mut self,
        turn: &mut Turn<'_>,
        token: u64,
        reply: Reply<'_>,
        last_write: Option<LastWrite>,
    ) {
        if let Some(sent) = self.forwards.remove(token) {
            turn.answer(sent.command.requester, reply, last_write);
            self.forwards.take_buffer(sent.command.encoded);
        }
    }

    /// A forwarded command was not executed and will not be: it goes out again, in its place.
    pub(super) fn on_not_here(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        token: u64,
        leader: Option<(NodeId, u64)>,
    ) {
        let Some(sent) = self.forwards.remove(token) else { return };
        let group = sent.group;
        self.forwards.raise_attempt(group, sent.attempt);
        match leader {
            Some((node, epoch)) if self.tells_leader(turn, from, group, (node, epoch)) => {
                self.leaders.insert(group, Led { node, epoch, last: 0, is_over: false });
            }
            // Whoever was thought to lead does not: no use in asking again at once.
            _ => {
                let until_us = turn.now.monotonic_us + self.timing.heartbeat_interval_us / 4;
                self.forwards.paused_until_us.insert(group, until_us);
            }
        }
        self.put_back(sent);
    }

    fn put_back(&mut self, sent: Sent) {
        let queue = self.forwards.waiting.entry(sent.group).or_default();
        let place = queue.partition_point(|waiting| waiting.order < sent.command.order);
        queue.insert(place, sent.command);
    }

    /// The connection to a node broke: what it was sent may or may not have been executed.
    pub(super) fn lose_forwards(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        // What has gathered for it is given up here, and must not be carried out there.
        self.forwards.batches.of(node).clear();
        for token in self.forwards.sent.at(node) {
            let followed = self.forwards.sent.is_followed(token);
            let Some(sent) = self.forwards.remove(token) else { continue };
            let again = turn.local.mutants.is(Mutant::LostForwardResent);
            if (sent.command.is_write && !again) || followed {
                self.give_up(turn, &sent, "the node that it was sent to is lost");
            } else {
                self.put_back(sent);
            }
        }
    }

    /// Commands that are out at nodes which say nothing any more: nobody should have to wait until
    /// the operating system finds out that the network is cut.
    pub(super) fn lose_silent(&mut self, turn: &mut Turn<'_>) {
        for node in self.forwards.sent.nodes() {
            if self.is_silent(turn, node) {
                self.lose_forwards(turn, node);
            }
        }
    }

    /// Answers what has waited too long.
    pub(super) fn expire_forwards(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        if self.forwards.next_deadline() > now_us {
            return;
        }
        for token in self.forwards.sent.late(now_us) {
            if let Some(sent) = self.forwards.remove(token) {
                self.give_up(turn, &sent, "no answer came in time");
            }
        }
        for queue in self.forwards.waiting.values_mut() {
            while let Some(waiting) = queue.pop_front_if(|w| w.deadline_us <= now_us) {
                turn.refuse(waiting.requester, if waiting.is_write { NOT_DONE } else { NOT_READ });
            }
        }
        self.forwards.waiting.retain(|_, queue| !queue.is_empty());
        self.forwards.paused_until_us.retain(|_, until_us| *until_us > now_us);
    }
}
