//! Elections: randomised timeouts, pre-vote, durable votes; the most up-to-date log wins.
//!
//! Raft (Ongaro and Ousterhout 2014, §5.2 and §5.4) with pre-vote (Ongaro 2014, §9.6): a node
//! that was cut off asks first, and disturbs nobody when it comes back. A vote is on disk before
//! it is said. Logs are compared by (last epoch, last index), the unsynced tail included, never
//! by clock or priority. E votes win: quorum.rs says why that loses nothing that is committed.
//!
//! What a node has promised to a leader it keeps in every election (`lease.rs`).

use super::history::Loss;
use super::log_record;
use super::message::{Body, VoterSet};
use super::voters::Disks;
use super::{Group, Role};
use crate::keyspace::{Durability, Failover};
use crate::mutant::Mutant;
use crate::node::Timing;
use crate::quorum::Quorum;
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{Incarnation, NodeId, Position};
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

/// A node that would lead.
#[derive(Debug)]
pub struct Candidate {
    /// Whether it only asks who would vote for it.
    asking: bool,
    votes: BTreeSet<NodeId>,
    /// Those among them who may have lost entries that they acknowledged.
    suspects: BTreeSet<NodeId>,
    /// Whether those who could make more of the votes have had their time to answer.
    has_waited: bool,
    /// Where an operator has said so: the disks that are there, whose votes count.
    by_word: Option<Disks>,
    /// From when on its own vote is on disk.
    vote_position: Position,
    /// The epoch whose leader has handed over to it.
    handed_over: Option<u64>,
}

impl Candidate {
    pub(super) fn by_word(voters: Disks, vote_position: Position) -> Candidate {
        Candidate { by_word: Some(voters), vote_position, ..Candidate::new(false) }
    }

    fn new(asking: bool) -> Candidate {
        Candidate {
            asking,
            votes: BTreeSet::new(),
            suspects: BTreeSet::new(),
            has_waited: false,
            by_word: None,
            vote_position: Position(0),
            handed_over: None,
        }
    }

    fn vote(&mut self, node: NodeId, suspect: bool) {
        self.votes.insert(node);
        if suspect {
            self.suspects.insert(node);
        }
    }

    /// Whether the votes are enough: E of members that have lost nothing, or else those of all
    /// members; where failover goes before safety, any E.
    fn has_won(&self, quorum: &Quorum, failover: Failover) -> bool {
        let (votes, sound) = (self.votes.len(), self.sound_votes());
        let any = self.is_by_word() || (failover == Failover::Available && self.has_waited);
        sound >= quorum.election || votes >= quorum.replicas || (any && votes >= quorum.election)
    }

    /// Whether the votes that it would have are enough now that nobody else has answered in time.
    fn must_do(&self, quorum: &Quorum, failover: Failover) -> bool {
        let late = self.asking && !self.has_waited && failover == Failover::Available;
        late && self.votes.len() >= quorum.election
    }

    /// How many have voted for it that have lost nothing.
    pub(super) fn sound_votes(&self) -> usize {
        self.votes.len() - self.suspects.len()
    }

    /// Why it may lack committed entries, if it has won.
    pub(super) fn loss(&self, quorum: &Quorum, failover: Failover) -> Option<Loss> {
        let sound = self.sound_votes();
        match (self.has_won(quorum, failover), &self.by_word) {
            (true, Some(_)) => Some(Loss::Operator),
            (true, None) if sound < quorum.election => Some(Loss::Power),
            _ => None,
        }
    }

    /// Whether an operator has said so.
    pub(super) fn is_by_word(&self) -> bool {
        self.by_word.is_some()
    }

    /// The voters from its epoch on, if an operator has named them.
    pub(super) fn named(&self) -> VoterSet {
        let disks = self.by_word.iter().flatten();
        disks.map(|(node, incarnation)| (*node, *incarnation)).collect()
    }
}

impl Group {
    /// A new random moment at which this node stops waiting for a leader.
    pub(super) fn reset_election_timer(&mut self, turn: &mut Turn<'_>) {
        let timeout = self.timing.election_timeout_us;
        let random = turn.local.random.range(timeout, Timing::longest_wait_us(timeout));
        self.election_deadline_us = turn.now.monotonic_us + random;
    }

    /// No leader for too long: asks the others whether they would vote for this node.
    pub(super) fn on_election_timeout(&mut self, turn: &mut Turn<'_>) {
        self.reset_election_timer(turn);
        if !self.is_voter(turn)
            || matches!(self.role, Role::Leader(_))
            || self.has_promised(turn, None)
            || self.stalled_for_us(turn).is_some()
            || self.is_ahead_of_its_log()
        {
            return;
        }
        // Whoever could have said that he has lost nothing has had his time, so that these votes
        // must do. They are asked for once more, as they may be as old as the wait: a voter that
        // has begun an epoch of its own meanwhile says so, where two candidates would else begin
        // the same one, each unheard for as long as its own vote takes to the disk.
        let has_waited = matches!(&self.role, Role::Candidate(asked)
            if asked.must_do(&self.quorum, self.options.failover));
        let mut candidate = Candidate { has_waited, ..Candidate::new(true) };
        candidate.vote(turn.local.me, self.says_suspect(turn));
        self.leader = None;
        self.role = Role::Candidate(candidate);
        let last = self.log.last();
        let (group, epoch) = (self.id, self.epoch.saturating_add(1));
        for to in self.others(turn.local.me) {
            let message = super::message::Message { group, epoch, body: Body::PreVote { last } };
            turn.send(to, crate::Message::LeaderFollower(message));
        }
        self.count_votes(turn);
    }

    /// Whether this node is the group's only member.
    pub(super) fn is_alone(&self) -> bool {
        self.members.len() == 1
    }

    /// The only member waits for nobody: no other leader can be there or have been, to be heard or
    /// to have been promised anything. What it needs is its disk's word, on who the voters are and
    /// then on its new epoch, which it takes as every leader does.
    pub(super) fn lead_alone(&mut self, turn: &mut Turn<'_>) {
        self.finish_birth(turn);
        if self.is_voter(turn) {
            self.on_election_timeout(turn);
        }
    }

    /// Whether some slots, from a snapshot, contain more than this log: the entries are committed,
    /// so that another member has them, and would write over what they did here if it were not so.
    pub fn is_ahead_of_its_log(&self) -> bool {
        self.state.ahead_of(self.log.last_index()).is_some()
    }

    pub(super) fn on_pre_vote(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        epoch: u64,
        last: EntryId,
    ) {
        let granted = epoch > self.epoch
            && self.is_voter(turn)
            && !self.refuses_to_vote(turn, None)
            && self.is_up_to_date(turn, last);
        let suspect = self.says_suspect(turn);
        let body = Body::PreVoteAnswer { granted, current: self.epoch, suspect };
        let message = super::message::Message { group: self.id, epoch, body };
        turn.send(from, crate::Message::LeaderFollower(message));
    }

    pub(super) fn on_pre_vote_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        epoch: u64,
        (granted, current, suspect): (bool, u64, bool),
    ) {
        if current > self.epoch {
            return self.adopt_epoch(turn, current, "a peer is in a newer epoch");
        }
        let counts = self.counts(turn, from, incarnation);
        if let Role::Candidate(candidate) = &mut self.role
            && candidate.asking
            && granted
            && counts
            && epoch.checked_sub(1) == Some(self.epoch)
        {
            candidate.vote(from, suspect);
            self.count_votes(turn);
        }
    }

    /// Enough would vote for this node: the real election, in a new epoch.
    pub(super) fn start_election(&mut self, turn: &mut Turn<'_>, handed_over: Option<u64>) {
        self.epoch = self.epoch.saturating_add(1);
        self.voted_for = Some(turn.local.me);
        self.leader = None;
        self.forget_matched();
        if handed_over.is_some() {
            self.reset_election_timer(turn);
        }
        let vote_position = self.write_vote(turn);
        let has_waited = matches!(&self.role, Role::Candidate(asked) if asked.has_waited);
        let candidate =
            Candidate { vote_position, has_waited, handed_over, ..Candidate::new(false) };
        self.role = Role::Candidate(candidate);
        let body = Body::Vote { last: self.log.last(), handed_over };
        for to in self.others(turn.local.me) {
            let message = self.message(body.clone());
            turn.send_when_durable(vote_position, Durability::Fsync, to, message);
        }
    }

    /// Whether a vote's asker may get an answer at all: not while this node hears a leader, so
    /// that a node that comes back cannot depose it.
    pub fn hears_leader(&self, turn: &Turn<'_>) -> bool {
        let since_us = turn.now.monotonic_us.saturating_sub(self.heard_leader_us);
        matches!(self.role, Role::Leader(_))
            || (self.leader.is_some() && since_us < self.timing.election_timeout_us)
    }

    /// Whether a candidate's question changes nothing here, not even the epoch: this node hears a
    /// leader, or has promised. Not where that leader, or a later one, has sent the candidate.
    pub(super) fn refuses_to_vote(&self, turn: &Turn<'_>, handed_over: Option<u64>) -> bool {
        let sent = handed_over.is_some_and(|epoch| epoch >= self.epoch);
        (self.hears_leader(turn) && !sent) || self.has_promised(turn, handed_over)
    }

    pub(super) fn on_vote(
        &mut self,
        turn: &mut Turn<'_>,
        (from, to): (NodeId, Incarnation),
        last: EntryId,
        handed_over: Option<u64>,
    ) {
        // Whether the candidate's own disk counts, it knows itself: this node may not have heard
        // yet that it was admitted, and a group whose members wait for that has no leader to tell.
        if !self.is_voter(turn) {
            return;
        }
        let free = self.voted_for.is_none_or(|node| node == from);
        let granted = free
            && self.leader.is_none()
            && self.is_up_to_date(turn, last)
            && !self.has_promised(turn, handed_over);
        let mut position = self.epoch_position;
        if granted && self.voted_for.is_none() {
            self.voted_for = Some(from);
            self.reset_election_timer(turn);
            if !turn.local.mutants.is(Mutant::VoteNotDurable) {
                position = self.write_vote(turn);
            }
        }
        if turn.local.mutants.is(Mutant::VoteNotDurable) {
            position = Position(0);
        }
        let suspect = self.says_suspect(turn);
        let message = self.message(Body::VoteAnswer { to, granted, suspect });
        turn.send_when_durable(position, Durability::Fsync, from, message);
    }

    /// Whether a candidate's log has everything that this one may have helped to commit. A suspect
    /// that cannot lead itself asks for nothing: see `suspicion.rs`.
    fn is_up_to_date(&self, turn: &Turn<'_>, last: EntryId) -> bool {
        let asks_nothing = self.is_suspect() && self.is_ahead_of_its_log();
        last >= self.log.last() || asks_nothing || turn.local.mutants.is(Mutant::VoteForAnyLog)
    }

    pub(super) fn on_vote_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        granted: bool,
        suspect: bool,
    ) {
        let counts = match &self.role {
            Role::Candidate(Candidate { by_word: Some(disks), .. }) => {
                disks.get(&from) == Some(&incarnation)
            }
            _ => self.counts(turn, from, incarnation),
        };
        if let Role::Candidate(candidate) = &mut self.role
            && !candidate.asking
            && granted
            && counts
        {
            candidate.vote(from, suspect);
            self.count_votes(turn);
        }
    }

    /// Goes on where enough votes are there; this node's own counts once it is on disk.
    pub(super) fn count_votes(&mut self, turn: &mut Turn<'_>) {
        let suspect = self.says_suspect(turn);
        let Role::Candidate(candidate) = &mut self.role else { return };
        if !candidate.asking && turn.local.synced >= candidate.vote_position {
            candidate.vote(turn.local.me, suspect);
        }
        let all = turn.local.mutants.is(Mutant::ElectionNeedsAll);
        let lacks_some = all && candidate.votes.len() < self.quorum.replicas;
        if lacks_some || !candidate.has_won(&self.quorum, self.options.failover) {
            return;
        }
        if candidate.asking {
            return self.start_election(turn, None);
        }
        let why = match candidate.handed_over {
            Some(epoch) => format!("the leader of epoch {epoch} has handed over to it"),
            None => String::from("elected: no leader was heard"),
        };
        self.note_tenure(turn, Cow::Owned(why));
        self.become_leader(turn);
    }

    /// Somebody is in a higher epoch: whatever this node was, it is a follower now.
    pub(super) fn adopt_epoch(
        &mut self,
        turn: &mut Turn<'_>,
        epoch: u64,
        reason: impl Into<Cow<'static, str>>,
    ) {
        if let Role::Leader(_) = &self.role {
            self.step_down(turn, reason.into());
        }
        self.role = Role::Follower;
        self.leader = None;
        self.epoch = epoch;
        self.voted_for = None;
        self.forget_matched();
        self.maybe_forget_promise(turn);
        self.write_vote(turn);
    }

    /// Writes the epoch and the vote down; nothing is said in the epoch before that is durable.
    pub(super) fn write_vote(&mut self, turn: &mut Turn<'_>) -> Position {
        let body = log_record::Body::Vote { epoch: self.epoch, voted_for: self.voted_for };
        self.epoch_position = self.log_record(turn, body, Durability::Fsync);
        self.epoch_position
    }
}
