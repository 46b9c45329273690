//! `TF.LOST`, on any node: asks every node that could know, and puts their answers together.
//!
//! A report is kept where it was made, at the node that led or at a witness, and not in the
//! group's log: it is about what that log does not have. So LIST asks all nodes, and SHOW, FORGET
//! and REPLAY ask the members of the group that the id names. Nodes that are down are named in the
//! answer and not waited for.
//!
//! REPLAY asks for the report, has the group's leader do the write again (`replay.rs` beside the
//! report), and when that is acknowledged has the report forgotten, durably.

mod list;
pub mod message;
mod reply;
mod until;

use super::Roles;
use super::gather::Kind;
use super::message::Message;
use super::part::Part;
use super::requests::Work;
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::command::verb::Lost;
use crate::keyspace::Durability;
use crate::leader_follower::lost_writes::replay::FLUSH_IS_NOT_REPLAYED;
use crate::leader_follower::lost_writes::report::{LostWrite, What};
use crate::turn::{Asker, LastWrite, Requester, Turn};
use crate::wire::Writer;
use crate::{GroupId, Message as AnyMessage, NodeId, Position, Reply, Session};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use message::{Answer, Found, LostId, Named, Page, Question};
use until::{OwedAnswer, Until};

/// Reports that one node puts into a LIST; it says how many more there are.
const LISTED_MAX: usize = 10_000;
/// Commands about lost writes that wait for other nodes.
const QUERIES_MAX: usize = 1024;

/// Questions that are out.
#[derive(Default)]
pub struct LostQueries {
    next: u64,
    open: BTreeMap<u64, Query>,
    /// Answers to other nodes' questions.
    owed: Vec<OwedAnswer>,
}

/// A question that is out.
struct Query {
    requester: Requester,
    asker: Option<Asker>,
    purpose: Purpose,
    /// The answer to a list of nothing, where no keyspace has what was named.
    unnamed: Option<Reply<'static>>,
    /// Who has not answered.
    missing: BTreeSet<NodeId>,
    /// Who will not.
    silent: BTreeSet<NodeId>,
    answer: Answer,
    /// From when on what this node has done itself is done.
    until: Until,
    deadline_us: u64,
    /// It is over, and somebody may yet do what was asked.
    is_late: bool,
}

/// Why it was asked.
#[derive(Clone, Copy)]
enum Purpose {
    /// So many.
    List(usize),
    Show(LostId),
    /// FORGET's first step: whether there is something to be forgotten.
    Forget(LostId),
    /// FORGET's second step: it is.
    Forgotten(LostId),
    /// REPLAY's first step: the report.
    Replay(LostId),
    /// REPLAY's second step: the write is done again, under this gather.
    Write(LostId),
    /// REPLAY's last step: the report is forgotten.
    Replayed(LostId, LastWrite),
}

impl LostQueries {
    /// When the earliest question has waited long enough.
    pub fn next_deadline(&self) -> u64 {
        if self.open.is_empty() {
            return u64::MAX;
        }
        let waits = |query: &&Query| !query.missing.is_empty() || query.waits_for_commit();
        let waiting = self.open.values().filter(waits);
        waiting.map(|query| query.deadline_us).min().unwrap_or(u64::MAX)
    }
}

impl Roles {
    /// A client's `TF.LOST`.
    pub(super) fn start_lost(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        command: Lost<'_>,
    ) {
        if self.lost_queries.open.len() >= QUERIES_MAX {
            let text = format!(
                "TRYAGAIN nothing was done: {QUERIES_MAX} TF.LOST commands are under way on this \
                 node; send this one, and those after it, again when they are answered"
            );
            return turn.refuse(requester, text);
        }
        let asker = turn.local.asker.clone();
        let (text, purpose): (&[u8], fn(LostId) -> Purpose) = match command {
            Lost::List { prefix, count, after } => {
                let parsed = after.map(|after| self.lost_id(after)).transpose();
                let Ok(after) = parsed.map_err(|text| turn.refuse(requester, text)) else { return };
                let count = count.unwrap_or(LISTED_MAX as u32).min(LISTED_MAX as u32);
                let question = Question::List(Page { prefix, after, count });
                let purpose = Purpose::List(count as usize);
                return self.ask_lost(turn, requester, asker, purpose, question);
            }
            Lost::Show(id) => (id, Purpose::Show),
            Lost::Replay(id) => (id, Purpose::Replay),
            Lost::Forget(id) => (id, Purpose::Forget),
        };
        let parsed = self.lost_id(text).map_err(|text| turn.refuse(requester, text));
        let Ok(id) = parsed else { return };
        let (purpose, question) = match (purpose(id), id.named()) {
            // What is not a write has no copies.
            (Purpose::Forget(_), Named::Unheard(_) | Named::GivenUp) => {
                (Purpose::Forgotten(id), Question::Forget(id, None))
            }
            (purpose, _) => (purpose, Question::Find(id)),
        };
        self.ask_lost(turn, requester, asker, purpose, question);
    }

    /// The id of a lost write that this cluster can have.
    fn lost_id(&self, text: &[u8]) -> Result<LostId, String> {
        let id = LostId::parse(text).filter(|id| self.placement.contains_key(&id.group));
        id.ok_or_else(|| {
            let text = echo(text, ECHO_BYTES_MAX);
            format!("ERR '{text}' is not the id of a lost write: see TF.LOST LIST")
        })
    }

    /// Asks everybody who could know.
    fn ask_lost(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        asker: Option<Asker>,
        purpose: Purpose,
        question: Question<'_>,
    ) {
        let nodes: BTreeSet<NodeId> = match question {
            Question::List(_) => {
                let groups = self.placement.iter();
                let led = groups.filter(|(group, _)| group.datacenter != GroupId::EVERYWHERE);
                led.flat_map(|(_, members)| members.iter().copied()).collect()
            }
            Question::Find(id) | Question::Forget(id, _) => {
                self.placement.get(&id.group).into_iter().flatten().copied().collect()
            }
        };
        self.lost_queries.next += 1;
        let token = self.lost_queries.next;
        let timeout_us = self.timing.forward_timeout_us;
        let mut query = Query {
            requester,
            asker,
            purpose,
            unnamed: self.unnamed(question),
            missing: BTreeSet::new(),
            silent: BTreeSet::new(),
            answer: Answer::default(),
            until: Until::Synced(Position(0)),
            is_late: false,
            deadline_us: turn.now.monotonic_us.saturating_add(timeout_us),
        };
        for node in nodes {
            if node == turn.local.me {
                (query.answer, query.until) = self.know_of_lost(turn, question);
                continue;
            }
            let session = self.peers.get(usize::from(node.0)).and_then(|peer| peer.session);
            let Some(to) = session.filter(|_| self.is_up(turn, node)) else {
                query.silent.insert(node);
                continue;
            };
            let question = Cow::Owned(question.encode());
            let message = Message::AskLost { to, from: self.session, token, question };
            turn.send(node, AnyMessage::Node(message));
            query.missing.insert(node);
        }
        self.lost_queries.open.insert(token, query);
        self.finish_lost_queries(turn);
    }

    /// Another node's question.
    pub(super) fn on_ask_lost(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        session: Session,
        token: u64,
        question: &[u8],
    ) {
        let Ok(question) = Question::decode(question) else { return };
        let (answer, until) = self.know_of_lost(turn, question);
        let answer = answer.encode();
        let Until::Synced(position) = until else {
            return self.owe_answer(turn, until, (from, session, token), answer);
        };
        let answer = Cow::Owned(answer);
        let message = AnyMessage::Node(Message::TellLost { to: session, token, answer });
        turn.send_when_durable(position, Durability::Fsync, from, message);
    }

    /// The answer to a question of this node's.
    pub(super) fn on_tell_lost(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        token: u64,
        answer: &[u8],
    ) {
        let Some(query) = self.lost_queries.open.get_mut(&token) else { return };
        if query.missing.remove(&from) {
            match Answer::decode(answer) {
                Ok(answer) => query.answer.merge(answer),
                Err(_) => drop(query.silent.insert(from)),
            }
        }
        self.finish_lost_queries(turn);
    }

    /// What this node knows or does itself, and from when on that is done.
    fn know_of_lost(&mut self, turn: &mut Turn<'_>, question: Question<'_>) -> (Answer, Until) {
        let mut answer = Answer::default();
        let at_once = Until::Synced(Position(0));
        match question {
            Question::List(page) => return (self.list_lost(page), at_once),
            Question::Find(id) => {
                let group = self.groups.get(&id.group);
                if let Named::Unheard(epoch) = id.named() {
                    let unheard = group.into_iter().flat_map(|group| group.unheard());
                    let unheard = unheard.filter(|unheard| unheard.epoch == epoch);
                    answer.unheard.extend(unheard.map(|unheard| (id.group, unheard)));
                }
                let reported = group.into_iter().flat_map(|group| group.reported());
                for write in reported.filter(|write| write.id == id.entry) {
                    let found = Found { write: write.clone(), shortened: 0 };
                    answer.found.insert(id, found);
                }
                answer.done = group.is_some_and(|group| group.keeps_lost(id.entry));
                let has_forgotten = group.is_some_and(|group| group.has_forgotten(id.entry));
                answer.forgotten.extend(has_forgotten.then_some(id));
            }
            Question::Forget(id, replayed_as) => {
                if let Some(group) = self.groups.get_mut(&id.group)
                    && let Some(until) = match id.named() {
                        Named::Write => {
                            Some(Until::Synced(group.forget_lost(turn, id.entry, replayed_as)))
                        }
                        Named::Unheard(epoch) => {
                            let entry = group.forget_unheard(turn, epoch);
                            entry.map(|entry| Until::Committed(id.group, entry))
                        }
                        Named::GivenUp => group.forget_given_up(turn).map(Until::Synced),
                    }
                {
                    answer.done = true;
                    return (answer, until);
                }
            }
        }
        (answer, at_once)
    }

    /// Whoever is not up, or has taken too long, is not waited for.
    pub(super) fn expire_lost_queries(&mut self, turn: &mut Turn<'_>) {
        if self.lost_queries.open.is_empty() {
            return;
        }
        let down: BTreeSet<NodeId> = (0..self.cluster.members.len() as u16)
            .map(NodeId)
            .filter(|node| !self.is_up(turn, *node))
            .collect();
        for query in self.lost_queries.open.values_mut() {
            let late = query.deadline_us <= turn.now.monotonic_us;
            let gone: Vec<NodeId> =
                query.missing.iter().copied().filter(|n| late || down.contains(n)).collect();
            for node in gone {
                query.missing.remove(&node);
                query.silent.insert(node);
            }
            if late {
                query.is_late = true;
                query.give_commit_up(turn.local.me);
            }
        }
        self.finish_lost_queries(turn);
    }

    /// Takes up the questions that everybody has answered who will.
    pub(super) fn finish_lost_queries(&mut self, turn: &mut Turn<'_>) {
        if !self.lost_queries.owed.is_empty() {
            self.let_owed_go(turn);
        }
        if self.lost_queries.open.is_empty() {
            return;
        }
        let ready: Vec<u64> = self
            .lost_queries
            .open
            .iter()
            .filter(|(_, query)| query.missing.is_empty() && self.is_reached(turn, query.until))
            .filter(|(_, query)| !matches!(query.purpose, Purpose::Write(_)))
            .map(|(token, _)| *token)
            .collect();
        for token in ready {
            if let Some(query) = self.lost_queries.open.remove(&token) {
                self.finish_lost_query(turn, query);
            }
        }
    }

    fn finish_lost_query(&mut self, turn: &mut Turn<'_>, mut query: Query) {
        let requester = query.requester;
        let silent = self.names(&query.silent);
        match query.purpose {
            Purpose::List(count) => self.tell_list(turn, query, count),
            Purpose::Show(id) => match query.answer.found.get(&id) {
                Some(found) if !query.answer.forgotten.contains(&id) => {
                    turn.answer(requester, reply::report(&self.cluster, &id, found), None);
                }
                _ => match query.answer.unheard.first() {
                    Some((group, unheard)) => {
                        let reply = reply::of_unheard(&self.cluster, *group, unheard);
                        turn.answer(requester, reply, None);
                    }
                    None => turn.refuse(requester, not_found(id, &silent)),
                },
            },
            Purpose::Forget(id) if query.answer.done || query.answer.found.contains_key(&id) => {
                let (purpose, question) = (Purpose::Forgotten(id), Question::Forget(id, None));
                self.ask_lost(turn, requester, query.asker, purpose, question);
            }
            Purpose::Forget(id) => turn.refuse(requester, not_found(id, &silent)),
            Purpose::Forgotten(id) if !query.answer.done && query.is_late => {
                let text = format!(
                    "TRYAGAIN it is not known whether {} is forgotten: no answer from {silent} in \
                     time; TF.LOST LIST tells later",
                    id.print()
                );
                turn.refuse(requester, text);
            }
            Purpose::Forgotten(id) if !query.answer.done => {
                turn.refuse(requester, not_found(id, &silent));
            }
            // What is told of an unheard leader the group itself forgets, by an entry of its log
            // that is committed.
            Purpose::Forgotten(id) if matches!(id.named(), Named::Unheard(_)) => {
                turn.answer(requester, Reply::Ok, None);
            }
            Purpose::Forgotten(_) if !query.silent.is_empty() => {
                let text = format!("PARTIAL forgotten, but {silent} may still know of it");
                turn.refuse(requester, text);
            }
            Purpose::Forgotten(_) => turn.answer(requester, Reply::Ok, None),
            Purpose::Replay(id) => match query.answer.found.remove(&id) {
                Some(found) if !query.answer.forgotten.contains(&id) => {
                    self.replay_lost(turn, query, id, &found.write);
                }
                _ => turn.refuse(requester, not_found(id, &silent)),
            },
            Purpose::Write(_) => {}
            Purpose::Replayed(id, _) if !query.answer.done || !query.silent.is_empty() => {
                let text = format!(
                    "PARTIAL the write is done again, but {silent} may still report it as lost: \
                     TF.LOST FORGET {} when it is back",
                    id.print()
                );
                turn.refuse(requester, text);
            }
            Purpose::Replayed(_, last_write) => turn.answer(requester, Reply::Ok, Some(last_write)),
        }
    }

    /// Has the group's leader do a lost write again.
    fn replay_lost(&mut self, turn: &mut Turn<'_>, query: Query, id: LostId, write: &LostWrite) {
        if write.what == What::Everything {
            return turn.refuse(query.requester, FLUSH_IS_NOT_REPLAYED);
        }
        let mut bytes = Vec::new();
        write.encode(&mut Writer(&mut bytes));
        self.lost_queries.next += 1;
        let token = self.lost_queries.next;
        turn.local.asker = query.asker.clone();
        let gather = self.gathers.open(query.requester, Kind::Replay(token), 1, true);
        self.lost_queries.open.insert(token, Query { purpose: Purpose::Write(id), ..query });
        let requester = Requester::Part { gather, part: 0 };
        let part = Part::Replay(&bytes);
        self.deliver(turn, requester, id.group, &Work::Part(part.clone()), &|out| part.encode(out));
    }

    /// The group's leader has answered: what is done again is not lost any more.
    pub(super) fn on_replayed(
        &mut self,
        turn: &mut Turn<'_>,
        token: u64,
        reply: Reply<'static>,
        last_write: Option<LastWrite>,
    ) {
        let Some(query) = self.lost_queries.open.remove(&token) else { return };
        match (query.purpose, last_write) {
            (Purpose::Write(id), Some(LastWrite::Entry { id: again, .. })) if !reply.is_error() => {
                let purpose =
                    Purpose::Replayed(id, LastWrite::Entry { group: id.group, id: again });
                let question = Question::Forget(id, Some(again));
                self.ask_lost(turn, query.requester, query.asker, purpose, question);
            }
            _ => turn.answer(query.requester, reply, last_write),
        }
    }

    fn names(&self, nodes: &BTreeSet<NodeId>) -> String {
        let names: Vec<String> =
            nodes.iter().map(|node| reply::node_name(&self.cluster, *node)).collect();
        names.join(", ")
    }
}

fn not_found(id: LostId, silent: &str) -> String {
    let silent = match silent {
        "" => String::new(),
        silent => format!(" (no answer from {silent})"),
    };
    format!("ERR there is no lost write {}{silent}", id.print())
}
