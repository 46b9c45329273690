//! What a member does with a message from another: each kind goes to the file that knows it.

use super::Group;
use super::message::{Body, Message};
use crate::mutant::Mutant;
use crate::turn::Turn;
use crate::{Event, Incarnation, NodeId};

impl Group {
    /// A message from another member. What is old is refused and told; what is new is believed.
    pub fn on_message(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        message: Message<'_>,
    ) {
        if !self.members.contains(&from) || from == turn.local.me {
            return;
        }
        let epoch = message.epoch;
        if self.refuses_leap(turn, from, epoch.max(message.body.other_epoch())) {
            return;
        }
        match message.body {
            Body::AskVoters => return self.on_ask_voters(turn, from, incarnation),
            Body::Unborn { to } => return self.on_unborn(turn, from, incarnation, to),
            Body::Voters { to, voters, born } => {
                return self.on_voters(turn, from, to, &voters, born);
            }
            Body::PreVote { last } => {
                return self.on_pre_vote(turn, from, epoch, last);
            }
            Body::PreVoteAnswer { granted, current, suspect } => {
                let answer = (granted, current, suspect);
                return self.on_pre_vote_answer(turn, from, incarnation, epoch, answer);
            }
            Body::AskNewest { question } => return self.on_ask_newest(turn, from, question),
            Body::Newest { .. } => return self.on_newest(from, incarnation, &message.body),
            _ => {}
        }
        if epoch < self.epoch && !turn.local.mutants.is(Mutant::OldEpochBelieved) {
            turn.event(Event::EpochRefused { group: self.id, from, epoch });
            if message.body != Body::EpochOver {
                self.say_epoch(turn, from, Body::EpochOver);
            }
            return;
        }
        if epoch > self.epoch {
            let refused = match message.body {
                Body::Vote { handed_over, .. } => self.refuses_to_vote(turn, handed_over),
                Body::Recover { .. } => self.refuses_to_vote(turn, None),
                _ => false,
            };
            if refused {
                return;
            }
            self.adopt_epoch(turn, epoch, "a peer is in a newer epoch");
        }
        self.on_message_of_this_epoch(turn, from, incarnation, message.body);
    }

    fn on_message_of_this_epoch(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        body: Body<'_>,
    ) {
        match body {
            Body::Vote { last, handed_over } => {
                self.on_vote(turn, (from, incarnation), last, handed_over);
            }
            Body::VoteAnswer { to, .. } if to != turn.local.incarnation => {}
            Body::VoteAnswer { granted, suspect, .. } => {
                self.on_vote_answer(turn, from, incarnation, granted, suspect);
            }
            Body::Append { previous, commit, wants, entries, history } => {
                self.on_append(turn, from, previous, (commit, history), wants, &entries);
            }
            Body::Matched(matched) => self.on_matched(turn, from, incarnation, matched),
            Body::Mismatch { previous, hint } => {
                self.on_mismatch(turn, from, incarnation, previous, hint);
            }
            Body::SnapshotOffer { floor } => self.on_snapshot_offer(turn, from, floor),
            Body::TakeOver => self.on_take_over(turn),
            Body::Snapshot(piece) => self.on_snapshot(turn, from, piece),
            Body::SnapshotWanted { floor, history, next_slot } => {
                self.on_snapshot_wanted(turn, from, (floor, history), next_slot);
            }
            Body::AskLast { boot } => self.on_ask_last(turn, from, incarnation, boot),
            Body::Last { boot, last } => self.on_last(turn, from, boot, last),
            Body::AskAgrees { committed } => {
                self.on_ask_agrees(turn, from, incarnation, committed);
            }
            Body::Agrees { committed, agrees } => self.on_agrees(turn, from, committed, agrees),
            Body::AskTold { epoch, next } => self.on_ask_told(turn, from, epoch, next),
            Body::Told { epoch, torn } => self.on_told(turn, from, incarnation, epoch, torn),
            Body::Recover { last, voters } => {
                self.on_recover(turn, (from, incarnation), last, &voters);
            }
            Body::AskVoters
            | Body::AskNewest { .. }
            | Body::Newest { .. }
            | Body::Unborn { .. }
            | Body::Voters { .. }
            | Body::PreVote { .. }
            | Body::PreVoteAnswer { .. }
            | Body::EpochOver => {}
        }
    }
}
