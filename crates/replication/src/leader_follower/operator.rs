//! An operator's word: `TF.RECOVER prefix`, where fewer than E known disks are left.
//!
//! Disks that are lost for good leave a group that can elect nobody: their replacements count for
//! nothing until a leader admits them (`voters.rs`). Only somebody who knows that the old disks
//! will not come back can go on without them, from the longest log that is left. He says so at the
//! node that has it. That node asks all others what they have, waits for one election timeout, and
//! refuses where it hears of a leader, where the members could elect one by themselves, where
//! another one that could lead has a longer log, and where it reaches fewer than E members, itself
//! included (empty disks will do). Otherwise it asks for votes in a new epoch, as a candidate does,
//! but of all disks that are there. That epoch is above any that the lost disks can have been in
//! (`leap.rs`). E of them make it leader, under a possible loss (`history.rs`),
//! and the entry that opens its epoch names them as the voters (`voters.rs`): these disks elect
//! nobody before their logs have that entry. Where it does not come to lead, nothing but votes is
//! left.
//!
//! Two operators on two sides of a partition: 2E > N, so only one side reaches E members. One after
//! the other: each word takes a new epoch that E members hold durably, in which each of them votes
//! once; and what the first leader has committed is on C members, of which the second node reaches
//! one (C + E > N): that one has the longer log.
//!
//! An old disk that comes back later is not among the voters: it is a learner, and if it knows of
//! committed entries that are not in the new leader's log, its state is replaced. The voters that
//! it knows itself elect it no more: those of them that go on are in a later epoch, and their logs
//! end with one.

use super::electable::{Present, electable};
use super::election::Candidate;
use super::leap::epoch_of_word;
use super::message::{Body, VoterSet};
use super::voters::Disks;
use super::{Group, Role, log_record};
use crate::command::Reply;
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::turn::{Requester, Turn};
use crate::version::EntryId;
use crate::{Incarnation, NodeId};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How often the others are asked what they have.
const QUESTIONS: u64 = 4;

/// An operator's word that is being carried out.
pub struct Word {
    requester: Requester,
    /// The members' names.
    names: BTreeMap<NodeId, String>,
    question: u64,
    answers: BTreeMap<NodeId, Answer>,
    ask_at_us: u64,
    /// The end of what is being waited for.
    deadline_us: u64,
    /// The epoch in which it asks for votes; 0 while it gathers answers.
    epoch: u64,
}

/// What a member has.
struct Answer {
    incarnation: Incarnation,
    last: EntryId,
    current: u64,
    leader: Option<NodeId>,
    suspect: bool,
    ahead: bool,
    voters: VoterSet,
}

impl Word {
    /// When it wants a tick.
    pub(super) fn next_deadline(&self) -> u64 {
        if self.epoch == 0 { self.deadline_us.min(self.ask_at_us) } else { self.deadline_us }
    }

    fn name(&self, node: NodeId) -> &str {
        self.names.get(&node).map_or("?", String::as_str)
    }
}

impl Group {
    /// An operator says that this node is to go on. Answers when it leads, or why it does not.
    pub fn recover(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        names: BTreeMap<NodeId, String>,
    ) {
        if self.word.is_some() {
            return turn.refuse(requester, "ERR TF.RECOVER is at work here already");
        }
        let now_us = turn.now.monotonic_us;
        self.word = Some(Word {
            requester,
            names,
            question: turn.local.random.next_u64(),
            answers: BTreeMap::new(),
            ask_at_us: now_us,
            deadline_us: now_us.saturating_add(self.timing.election_timeout_us),
            epoch: 0,
        });
        self.tend_word(turn);
    }

    /// Asks, decides, or gives up, when it is time.
    pub(super) fn tend_word(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        let leads_in = self.leads().then_some(self.epoch);
        let Some(word) = &mut self.word else { return };
        if word.epoch > 0 {
            if leads_in == Some(word.epoch) {
                let requester = word.requester;
                self.word = None;
                turn.answer(requester, Reply::Ok, None);
            } else if now_us >= word.deadline_us || self.epoch != word.epoch {
                self.end_word(turn, "TRYAGAIN the others have not answered in time".into());
            }
            return;
        }
        if now_us >= word.ask_at_us {
            word.ask_at_us = now_us + self.timing.election_timeout_us / QUESTIONS;
            let question = word.question;
            self.broadcast(turn, &Body::AskNewest { question });
        }
        if let Some(leader) = self.leader.filter(|_| self.hears_leader(turn)) {
            return self.refuse_word(turn, |word| leads_text(word, leader));
        }
        if self.word.as_ref().is_some_and(|word| now_us >= word.deadline_us) {
            match self.objection(turn) {
                Some(text) => self.end_word(turn, text),
                None => self.ask_by_word(turn),
            }
        }
    }

    fn refuse_word(&mut self, turn: &mut Turn<'_>, text: impl Fn(&Word) -> String) {
        if let Some(text) = self.word.as_ref().map(text) {
            self.end_word(turn, text);
        }
    }

    fn end_word(&mut self, turn: &mut Turn<'_>, text: String) {
        if let Some(word) = self.word.take() {
            turn.refuse(word.requester, text);
        }
        // A vote that comes late must not make it lead after all.
        if matches!(&self.role, Role::Candidate(candidate) if candidate.is_by_word()) {
            self.role = Role::Follower;
        }
    }

    /// Why this node must not go on by the operator's word, if so.
    fn objection(&self, turn: &Turn<'_>) -> Option<String> {
        let word = self.word.as_ref()?;
        let answers = word.answers.values();
        if let Some(leader) = answers.clone().find_map(|answer| answer.leader) {
            return Some(leads_text(word, leader));
        }
        if self.has_promised(turn, None) {
            return Some(
                "TRYAGAIN a leader that this node has heard may still hold a lease".into(),
            );
        }
        if self.is_ahead_of_its_log() {
            return Some(
                "ERR this node was being brought up by a snapshot, and its records are newer than \
                 its log: ask another node; what only this one has will be in TF.LOST LIST here"
                    .into(),
            );
        }
        let need = self.quorum.election;
        let here = word.answers.len() + 1;
        if here < need {
            let silent = self
                .members
                .iter()
                .filter(|node| **node != turn.local.me && !word.answers.contains_key(node));
            let silent: Vec<&str> = silent.map(|node| word.name(*node)).collect();
            return Some(format!(
                "CLUSTERDOWN {here} of the group's members are there and {need} are needed (empty \
                 disks will do): nothing is heard of {}; start them, then ask again",
                silent.join(", ")
            ));
        }
        let mine = self.log.last();
        let able = word.answers.iter().filter(|(_, answer)| !answer.ahead);
        let longest = able.max_by_key(|(_, answer)| answer.last);
        if let Some((node, answer)) = longest.filter(|(_, answer)| answer.last > mine) {
            return Some(format!(
                "ERR {} has a longer log (epoch {} index {}, here it is epoch {} index {}): ask it \
                 there",
                word.name(*node),
                answer.last.epoch,
                answer.last.index,
                mine.epoch,
                mine.index
            ));
        }
        let votes = electable(&self.present(turn, word), &self.quorum, self.options.failover)?;
        Some(format!(
            "ERR {votes} members are there with disks that the group knows, enough to elect a \
             leader by themselves: wait for it"
        ))
    }

    /// This member and those that have answered.
    fn present(&self, turn: &Turn<'_>, word: &Word) -> Vec<Present> {
        let here = Present {
            node: turn.local.me,
            incarnation: turn.local.incarnation,
            last: self.log.last(),
            suspect: self.is_suspect(),
            ahead: self.is_ahead_of_its_log(),
            voters: self.written_voters(turn),
        };
        let others = word.answers.iter().map(|(node, answer)| Present {
            node: *node,
            incarnation: answer.incarnation,
            last: answer.last,
            suspect: answer.suspect,
            ahead: answer.ahead,
            voters: answer.voters.clone(),
        });
        others.chain([here]).collect()
    }

    /// The voters, once this node's log holds them.
    fn written_voters(&self, turn: &Turn<'_>) -> VoterSet {
        if self.is_voter(turn) { self.voters() } else { VoterSet::new() }
    }

    /// Asks the disks that are there for their votes.
    fn ask_by_word(&mut self, turn: &mut Turn<'_>) {
        let me = (turn.local.me, turn.local.incarnation);
        let Some(word) = &mut self.word else { return };
        let others = word.answers.iter().map(|(node, answer)| (*node, answer.incarnation));
        let voters: Disks = others.chain([me]).collect();
        let newest = word.answers.values().map(|answer| answer.current).max().unwrap_or(0);
        let newest = newest.max(self.epoch);
        let epoch = match turn.local.mutants.is(Mutant::WordTakesNextEpoch) {
            true => newest + 1,
            false => epoch_of_word(newest, &mut turn.local.random),
        };
        word.epoch = epoch;
        word.deadline_us = turn.now.monotonic_us.saturating_add(self.timing.election_timeout_us);
        // The role first: it must not be taken for that of an election at work.
        self.adopt_epoch(turn, epoch, "an operator has said that this node is to go on");
        self.voted_for = Some(turn.local.me);
        self.reset_election_timer(turn);
        let position = self.write_vote(turn);
        let candidate = Candidate::by_word(voters, position);
        let named = candidate.named();
        self.role = Role::Candidate(candidate);
        for (to, _) in named.iter().filter(|voter| **voter != me) {
            let body = Body::Recover { last: self.log.last(), voters: named.clone() };
            turn.send_when_durable(position, Durability::Fsync, *to, self.message(body));
        }
        self.count_votes(turn);
    }

    pub(super) fn on_ask_newest(&mut self, turn: &mut Turn<'_>, from: NodeId, question: u64) {
        let body = Body::Newest {
            question,
            last: self.log.last(),
            current: self.epoch,
            leader: self.leader.filter(|_| self.hears_leader(turn)),
            suspect: self.is_suspect(),
            ahead: self.is_ahead_of_its_log(),
            voters: self.written_voters(turn),
        };
        self.say(turn, from, body);
    }

    pub(super) fn on_newest(&mut self, from: NodeId, incarnation: Incarnation, body: &Body<'_>) {
        let Some(word) = &mut self.word else { return };
        if let Body::Newest { question, last, current, leader, suspect, ahead, ref voters } = *body
            && question == word.question
            && word.epoch == 0
        {
            let voters = voters.clone();
            let answer = Answer { incarnation, last, current, leader, suspect, ahead, voters };
            word.answers.insert(from, answer);
        }
    }

    /// Somebody is to go on by an operator's word, and this disk is to count.
    pub(super) fn on_recover(
        &mut self,
        turn: &mut Turn<'_>,
        (from, to): (NodeId, Incarnation),
        last: EntryId,
        voters: &VoterSet,
    ) {
        let me = (turn.local.me, turn.local.incarnation);
        let free = self.voted_for.is_none_or(|node| node == from);
        let granted = free
            && self.leader.is_none()
            && (last >= self.log.last() || self.is_ahead_of_its_log())
            && voters.contains(&me)
            && !self.has_promised(turn, None);
        if granted && self.voted_for.is_none() {
            self.voted_for = Some(from);
            self.reset_election_timer(turn);
            self.write_vote(turn);
        }
        let suspect = self.says_suspect(turn);
        let message = self.message(Body::VoteAnswer { to, granted, suspect });
        turn.send_when_durable(self.epoch_position, Durability::Fsync, from, message);
    }

    /// Nothing that the node's log holds of the group can be used: it begins anew.
    pub fn forget(&mut self, turn: &mut Turn<'_>) {
        self.forget_all();
        self.log_record(turn, log_record::Body::Forget, Durability::Fsync);
    }
}

fn leads_text(word: &Word, leader: NodeId) -> String {
    format!("ERR {} leads this group: there is nothing to recover", word.name(leader))
}
