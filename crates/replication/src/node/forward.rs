//! Commands that another node must carry out: sent once, and again only after it has said that
//! nothing was done.
//!
//! A node hands a command to the group's leader (or to a replica, where any will do). The
//! receiver executes it only if its sequence number is larger than every one that it had from
//! this sender, so a repeated or overtaken message is never executed late. "Not here" means: not
//! executed, and nothing else of this group and attempt will be; only then the command goes out
//! again, behind every earlier one of its client. Any other silence is `-UNKNOWN` for a write.
//! Where a group has no leader that this node knows, commands wait for a while.

use super::message::{Message, decode_arguments};
use super::part::{PART, Part};
use super::requests::Work;
use super::{Node, Roles};
use crate::command::{self, Action};
use crate::turn::{LastWrite, Requester, Turn};
use crate::{
    Arguments, ClientId, GroupId, Incarnation, Message as AnyMessage, NodeId, Reply, Session, Span,
};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;

/// Commands on their way through this node.
#[derive(Default)]
pub struct Forwards {
    next_token: u64,
    next_sequence: u64,
    /// Sent and not answered, by token.
    sent: BTreeMap<u64, Sent>,
    /// The same by deadline.
    deadlines: BTreeSet<(u64, u64)>,
    /// What each client has out in each group.
    clients: BTreeMap<(ClientId, GroupId), Out>,
    /// Not sent yet, in order of arrival.
    waiting: BTreeMap<GroupId, VecDeque<Waiting>>,
    /// The current attempt of each group, and how many commands of older ones are out.
    attempts: BTreeMap<GroupId, (u64, usize)>,
    /// Groups that are given a rest until a moment, as nobody could be found for them.
    paused_until_us: BTreeMap<GroupId, u64>,
    /// The newest process of each sender's disk, and the largest sequence that it has shown.
    seen: BTreeMap<(NodeId, Incarnation), (u64, u64)>,
    /// The newest attempt of each sender that this node has refused.
    refused: BTreeMap<(NodeId, GroupId), (Session, u64)>,
}

/// Commands of one client that are out in one group.
#[derive(Default)]
struct Out {
    count: usize,
    /// The newest one that went out since there was none; it may be answered.
    newest: u64,
}

struct Sent {
    command: Waiting,
    group: GroupId,
    to: NodeId,
    attempt: u64,
    deadline_us: u64,
}

#[derive(Clone)]
struct Waiting {
    requester: Requester,
    /// The client that it came from, if from one of this node.
    client: Option<ClientId>,
    /// Rises in order of arrival; a command that goes out again keeps its place.
    order: u64,
    encoded: Vec<u8>,
    is_write: bool,
    deadline_us: u64,
}

/// What a forwarded command says about itself.
#[derive(Clone, Copy)]
pub(super) struct Forwarded {
    pub node: NodeId,
    pub session: Session,
    pub sequence: u64,
    pub attempt: u64,
    pub token: u64,
    pub group: GroupId,
}

impl Forwards {
    /// When the earliest command has waited long enough.
    pub fn next_deadline(&self) -> u64 {
        let sent = self.deadlines.first().map_or(u64::MAX, |(deadline_us, _)| *deadline_us);
        let waiting = self.waiting.values().filter_map(|queue| queue.front());
        let waiting = waiting.map(|command| command.deadline_us).min().unwrap_or(u64::MAX);
        let paused = self.paused_until_us.values().min().copied().unwrap_or(u64::MAX);
        sent.min(waiting).min(paused)
    }

    fn attempt(&self, group: GroupId) -> (u64, usize) {
        self.attempts.get(&group).copied().unwrap_or_default()
    }

    fn insert(&mut self, token: u64, sent: Sent) {
        if let Some(client) = sent.command.client {
            let out = self.clients.entry((client, sent.group)).or_default();
            out.count += 1;
            out.newest = out.newest.max(sent.command.order);
        }
        self.deadlines.insert((sent.deadline_us, token));
        self.sent.insert(token, sent);
    }

    fn remove(&mut self, token: u64) -> Option<Sent> {
        let sent = self.sent.remove(&token)?;
        self.deadlines.remove(&(sent.deadline_us, token));
        if let Some(client) = sent.command.client
            && let Some(out) = self.clients.get_mut(&(client, sent.group))
        {
            out.count -= 1;
            if out.count == 0 {
                self.clients.remove(&(client, sent.group));
            }
        }
        if let Some((attempt, older)) = self.attempts.get_mut(&sent.group)
            && sent.attempt < *attempt
        {
            *older = older.saturating_sub(1);
        }
        Some(sent)
    }

    /// Whether a later command of the same client went out: then a read must not go again, as it
    /// could see what came after it.
    fn is_followed(&self, token: u64) -> bool {
        let Some(sent) = self.sent.get(&token) else { return false };
        let out = sent.command.client.and_then(|client| self.clients.get(&(client, sent.group)));
        out.is_some_and(|out| out.newest > sent.command.order)
    }

    /// Something was refused: what goes out from now on is a new attempt.
    fn raise_attempt(&mut self, group: GroupId, refused: u64) {
        let (attempt, _) = self.attempt(group);
        if refused < attempt {
            return;
        }
        let older = self.sent.values().filter(|sent| sent.group == group).count();
        self.attempts.insert(group, (refused + 1, older));
    }

    /// Somebody new may be able to carry out what waits.
    pub(super) fn resume(&mut self, group: GroupId) {
        self.paused_until_us.remove(&group);
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
        encode: &dyn Fn() -> Vec<u8>,
    ) {
        let waits = self.forwards.waiting.get(&group).is_some_and(|queue| !queue.is_empty());
        if !waits && self.try_here(turn, requester, group, work) {
            return;
        }
        self.forwards.next_token += 1;
        let patience_us = match work {
            Work::Part(Part::Wait { timeout_ms, .. }) => timeout_ms.saturating_mul(1000),
            _ => 0,
        };
        let client = self.client_of(requester);
        let command = Waiting {
            requester,
            client,
            order: self.forwards.next_token,
            encoded: encode(),
            is_write: work.is_write(),
            deadline_us: turn.now.monotonic_us + self.timing.leader_wait_us + patience_us,
        };
        let queue = self.forwards.waiting.entry(group).or_default();
        if queue.len() >= self.limits.waiting_commands_max {
            return turn.refuse(requester, "TRYAGAIN too many commands wait for this keyspace");
        }
        queue.push_back(command);
        self.deliver_waiting_of(turn, group);
    }

    /// Sends what waits, as far as there is somebody to send it to. Called at the end of a turn.
    pub(super) fn deliver_waiting(&mut self, turn: &mut Turn<'_>) {
        let groups: Vec<GroupId> = self.forwards.waiting.keys().copied().collect();
        for group in groups {
            self.deliver_waiting_of(turn, group);
        }
    }

    fn deliver_waiting_of(&mut self, turn: &mut Turn<'_>, group: GroupId) {
        if let Some(until_us) = self.forwards.paused_until_us.get(&group) {
            if *until_us > turn.now.monotonic_us {
                return;
            }
            self.forwards.paused_until_us.remove(&group);
        }
        while let Some(command) = self.forwards.waiting.get_mut(&group).and_then(|q| q.pop_front())
        {
            if !self.may_go(&command, group) || !self.deliver_one(turn, group, &command) {
                self.forwards.waiting.entry(group).or_default().push_front(command);
                return;
            }
        }
        self.forwards.waiting.remove(&group);
    }

    /// Not while an earlier command of the same client may still be refused.
    fn may_go(&self, command: &Waiting, group: GroupId) -> bool {
        let (attempt, older) = self.forwards.attempt(group);
        if older == 0 {
            return true;
        }
        !self.forwards.sent.values().any(|sent| {
            sent.group == group
                && sent.attempt < attempt
                && sent.command.order < command.order
                && sent.command.client == command.client
        })
    }

    fn client_of(&self, requester: Requester) -> Option<ClientId> {
        match requester {
            Requester::Client(request) => Some(request.client),
            Requester::Part { gather, .. } => self.gathers.client(gather),
            Requester::Peer { .. } => None,
        }
    }

    /// Carries a command out here or sends it; false if there is nobody who could.
    fn deliver_one(&mut self, turn: &mut Turn<'_>, group: GroupId, command: &Waiting) -> bool {
        let done =
            with_work(&command.encoded, |work| self.try_here(turn, command.requester, group, work));
        if done == Some(true) {
            return true;
        }
        if !turn.local.may_speak() {
            return false;
        }
        let Some(to) = self.who_can(turn, group, command.is_write) else { return false };
        let Some(session) = self.peers.get(usize::from(to.0)).and_then(|peer| peer.session) else {
            return false;
        };
        self.forwards.next_token += 1;
        self.forwards.next_sequence += 1;
        let (attempt, _) = self.forwards.attempt(group);
        let message = Message::Forward {
            to: session,
            from: self.session,
            sequence: self.forwards.next_sequence,
            attempt,
            token: self.forwards.next_token,
            group,
            command: Cow::Borrowed(&command.encoded),
        };
        turn.send(to, AnyMessage::Node(message));
        let waited_us = command.deadline_us.saturating_sub(turn.now.monotonic_us);
        let deadline_us = turn.now.monotonic_us + self.timing.forward_timeout_us.max(waited_us);
        let command = command.clone();
        let sent = Sent { command, group, to, attempt, deadline_us };
        self.forwards.insert(self.forwards.next_token, sent);
        true
    }

    /// A node that is up and could carry out work of a group.
    fn who_can(&self, turn: &Turn<'_>, group: GroupId, is_write: bool) -> Option<NodeId> {
        let any = self.is_leaderless(group) || (!is_write && self.reads_anywhere(group));
        if !any {
            return self.leader_of(turn, group).filter(|leader| *leader != turn.local.me);
        }
        let members = self.placement.get(&group)?;
        let others = members.iter().copied().filter(|node| *node != turn.local.me);
        others.into_iter().find(|node| self.is_up(turn, *node))
    }

    /// A command that another node has forwarded to this one.
    pub(super) fn on_forward(&mut self, turn: &mut Turn<'_>, forwarded: Forwarded, command: &[u8]) {
        let Forwarded { node: from, session, sequence, attempt, token, group } = forwarded;
        let seen = self.forwards.seen.entry((from, session.incarnation)).or_default();
        if (session.boot, sequence) <= *seen {
            return;
        }
        *seen = (session.boot, sequence);
        let refused = self.forwards.refused.get(&(from, group));
        let refused = refused.filter(|(of, _)| *of == session).map(|(_, attempt)| *attempt);
        let requester = Requester::Peer { node: from, session, token };
        let done = refused.is_none_or(|refused| attempt > refused)
            && with_work(command, |work| self.try_here(turn, requester, group, work))
                .unwrap_or(false);
        if !done {
            self.forwards.refused.insert((from, group), (session, attempt));
            let leader = self
                .leader_of(turn, group)
                .map(|node| (node, self.leaders.get(&group).map_or(0, |(_, epoch)| *epoch)));
            let message = Message::NotHere { to: session, token, group, attempt, leader };
            turn.send(from, AnyMessage::Node(message));
        }
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
        }
    }

    /// A forwarded command was not executed and will not be: it goes out again, in its place.
    pub(super) fn on_not_here(
        &mut self,
        turn: &mut Turn<'_>,
        token: u64,
        group: GroupId,
        attempt: u64,
        leader: Option<(NodeId, u64)>,
    ) {
        let Some(sent) = self.forwards.remove(token) else { return };
        self.forwards.raise_attempt(group, attempt);
        let known = self.leaders.get(&group).copied();
        match leader {
            Some((node, epoch)) if known.is_none_or(|(_, known)| epoch > known) => {
                self.leaders.insert(group, (node, epoch));
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
        let lost = |sent: &Sent| sent.to == node;
        let tokens: Vec<u64> =
            self.forwards.sent.iter().filter(|(_, sent)| lost(sent)).map(|(t, _)| *t).collect();
        for token in tokens {
            let followed = self.forwards.is_followed(token);
            let Some(sent) = self.forwards.remove(token) else { continue };
            if sent.command.is_write || followed {
                self.give_up(turn, &sent, "the connection to its leader broke");
            } else {
                self.put_back(sent);
            }
        }
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, sent: &Sent, why: &str) {
        let name = self.cluster.member(sent.to).map_or("?", |member| &member.name);
        let text = match sent.command.is_write {
            true => format!("UNKNOWN {why} ({name}): the write may or may not survive"),
            false => format!("TRYAGAIN {why} ({name})"),
        };
        turn.refuse(sent.command.requester, text);
    }

    /// Answers what has waited too long.
    pub(super) fn expire_forwards(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        if self.forwards.next_deadline() > now_us {
            return;
        }
        let late: Vec<u64> = self
            .forwards
            .sent
            .iter()
            .filter(|(_, sent)| sent.deadline_us <= now_us)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            if let Some(sent) = self.forwards.remove(token) {
                self.give_up(turn, &sent, "no answer came in time");
            }
        }
        for queue in self.forwards.waiting.values_mut() {
            while let Some(waiting) = queue.pop_front_if(|w| w.deadline_us <= now_us) {
                let text = "CLUSTERDOWN no node that could carry this out is known to be up; \
                            nothing was done";
                turn.refuse(waiting.requester, text);
            }
        }
        self.forwards.waiting.retain(|_, queue| !queue.is_empty());
        self.forwards.paused_until_us.retain(|_, until_us| *until_us > now_us);
    }
}

/// Reads an encoded command and gives it to `act`; `None` if it makes no sense.
fn with_work<T>(encoded: &[u8], act: impl FnOnce(&Work<'_>) -> T) -> Option<T> {
    let spans: Vec<Span> = decode_arguments(encoded).ok()?;
    let arguments = Arguments::new(encoded, &spans);
    if arguments.get(0) == Some(PART) {
        let part = Part::decode(arguments.get(1)?).ok()?;
        return Some(act(&Work::Part(part)));
    }
    let command = command::parse(arguments).ok()?;
    match command.action {
        Action::Key(key_command) => Some(act(&Work::Key(key_command, command.with))),
        Action::SetMany { pairs } => Some(act(&Work::SetMany(pairs))),
        _ => None,
    }
}

impl Node {
    /// Commands on their way through this node: sent to others, and waiting.
    pub fn commands_in_flight(&self) -> (usize, usize) {
        let waiting = self.roles.forwards.waiting.values().map(VecDeque::len).sum();
        (self.roles.forwards.sent.len(), waiting)
    }
}
