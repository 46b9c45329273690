//! A leadership: how it begins, and how it goes on from tick to tick.

use super::acks::degrade::Degrading;
use super::acks::held::Held;
use super::acks::older::Sight;
use super::entry::{Entry, Payload};
use super::lease::Lease;
use super::lost_writes::Hearing;
use super::progress::Progress;
use super::{Group, Role};
use crate::mutant::Mutant;
use crate::turn::Turn;
use crate::{Event, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What a leader knows and owes.
pub struct Leader {
    /// The empty entry that opens its epoch.
    pub(super) first_index: u64,
    /// When the leadership began.
    since_us: u64,
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// Members whose new disk is about to be admitted, with the entry that does it.
    admitting: BTreeMap<NodeId, u64>,
    /// Up to where the log was committed at the last tick; everything before the first one.
    commit_before: u64,
    pub(super) held: Held,
    pub(super) lease: Lease,
    /// Whether everybody has been told that it serves.
    is_announced: bool,
    /// Up to where writes are visible; 0 until the first entry of the epoch is committed.
    pub(super) visible: u64,
    /// Whether that grows, and who was told of more.
    pub(super) sight: Sight,
    /// What becomes of acks that are missing, where they may be lowered.
    pub(super) degrading: Degrading,
    /// Which earlier leaders were asked what is lost of theirs.
    pub(super) hearing: Hearing,
}

impl Leader {
    /// When it wants a tick at the latest because of what it holds.
    pub fn next_deadline(&self) -> u64 {
        self.held.next_deadline()
    }
}

impl Group {
    /// The election is won: everything in the log is applied, and the epoch opens with an empty
    /// entry. Until that is committed, nobody is answered.
    pub(super) fn become_leader(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        self.end_older_handover(turn);
        self.give_snapshot_up();
        let (opening, loss) = self.opening(turn);
        let first_index = self.log.last_index() + 1;
        let progress = self
            .others(turn.local.me)
            .into_iter()
            .map(|node| (node, Progress::starting_at(first_index, now_us)))
            .collect();
        self.role = Role::Leader(Box::new(Leader {
            first_index,
            since_us: now_us,
            progress,
            admitting: BTreeMap::new(),
            commit_before: u64::MAX,
            held: Held::default(),
            lease: Lease::default(),
            is_announced: false,
            visible: 0,
            sight: Sight::default(),
            degrading: Degrading::default(),
            hearing: Hearing::default(),
        }));
        self.leader = Some(turn.local.me);
        self.apply_tail();
        turn.event(Event::BecameLeader { group: self.id, epoch: self.epoch });
        if let Some(loss) = loss {
            self.tell_loss(turn, loss);
        }
        self.end_suspicion(turn);
        self.append(turn, None, opening);
        self.find_named_voters();
        self.tick_due_us = now_us;
    }

    /// Applies what an earlier leader left uncommitted, so that it can be taken back.
    fn apply_tail(&mut self) {
        self.covered_by_log = self.covered.clone();
        for index in self.commit + 1..=self.log.last_index() {
            let Some(body) = self.log.get(index) else { continue };
            let Ok(entry) = Entry::decode(body) else { continue };
            self.state.apply(&entry, true);
            if let Some(origin) = &entry.origin {
                self.covered_by_log.advance(origin.dot);
            }
            if let Payload::Covers(vector) = &entry.payload {
                self.covered_by_log.merge(vector);
            }
        }
    }

    /// Whether this leader serves and has not said so yet.
    pub fn take_announcement(&mut self) -> bool {
        let serves = self.is_serving();
        let Role::Leader(leader) = &mut self.role else { return false };
        serves && !core::mem::replace(&mut leader.is_announced, serves)
    }

    /// A tick: leads on only while enough replicas are heard, and sends again what was lost.
    pub(super) fn lead_on(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let now_us = turn.now.monotonic_us;
        let silence_us = self.timing.election_timeout_us;
        let heard = 1 + leader
            .progress
            .iter()
            .filter(|(node, progress)| {
                self.voters.counts(**node, progress.incarnation)
                    && now_us.saturating_sub(progress.heard_us()) < silence_us
            })
            .count();
        let is_heard = heard >= self.quorum.commit || turn.local.mutants.is(Mutant::LeadsUnheard);
        if !is_heard && now_us.saturating_sub(leader.since_us) > silence_us {
            let need = self.quorum.commit;
            let reason = alloc::format!("heard from {heard} of {need} needed replicas");
            return self.step_down(turn, Cow::Owned(reason));
        }
        let last = self.log.last_index();
        for progress in leader.progress.values_mut() {
            if now_us.saturating_sub(progress.heard_us()) >= silence_us {
                progress.give_up_snapshot(last);
            }
            progress.on_tick();
        }
        self.mark_for_degrade(turn);
        self.admit_learners(turn);
        self.mind_disk(turn);
        self.hear_out(turn);
    }

    /// A member whose disk does not count yet and who has caught up is admitted by an entry.
    ///
    /// Caught up is who durably has what was committed a tick ago: under load, what is committed
    /// now is never on a disk that is a little slower.
    ///
    /// That is safe, as nothing rests on it: the entry comes behind all that was ever committed by
    /// the old disk's help, and is itself committed by C of the *others*. So these have all of it,
    /// and an election of E meets one of them (C + E > N), whatever the new disk has. For what
    /// comes later, the new disk counts only with what it has matched itself. The bound keeps out
    /// those whose ack and vote would be of no use for a long time.
    fn admit_learners(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if self.commit < leader.first_index || self.handover.is_some() {
            return;
        }
        let commit = self.commit;
        let enough = core::mem::replace(&mut leader.commit_before, commit).min(commit);
        leader.admitting.retain(|_, index| *index > commit);
        let caught_up: Vec<(NodeId, Incarnation)> = leader
            .progress
            .iter()
            .filter(|(node, progress)| {
                progress.durable >= enough
                    && progress.durable > 0
                    && !self.voters.counts(**node, progress.incarnation)
                    && !leader.admitting.contains_key(node)
            })
            .map(|(node, progress)| (*node, progress.incarnation))
            .collect();
        for (node, incarnation) in caught_up {
            let id = self.append(turn, None, Payload::Voter(node, incarnation));
            if let Role::Leader(leader) = &mut self.role {
                leader.admitting.insert(node, id.index);
            }
        }
    }
}
