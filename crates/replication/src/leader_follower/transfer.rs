//! Handing the leadership over: by order (`TF.SWITCHOVER`), because this leader's disk stalls, or
//! because its process is to stop.
//!
//! The leader gives up its lease, for the whole epoch, and takes no more commands: they wait at
//! their nodes. It waits until every reply that it holds has gone and the successor durably has
//! the whole log; then it tells it to take over. The successor starts an election at once, without
//! pre-vote (Ongaro 2014, §3.10). Its vote requests name the epoch that handed over: those votes
//! pass the promises made to the leaders up to that epoch, and only those (`lease.rs`). So nothing
//! that was acknowledged is lost, and nothing becomes unknown.
//!
//! If the successor does not take over within an election timeout, the leader goes on in its
//! epoch. It takes no lease again in it: the order may have been delivered late, and the votes of
//! that election will still pass.

use super::message::Body;
use super::{Group, Role};
use crate::turn::{Requester, Turn};
use crate::{Event, Incarnation, NodeId, Reply};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

/// To hand over.
pub struct Order {
    /// To whom: a voter that is up.
    pub to: NodeId,
    /// Why, for the operator.
    pub why: Cow<'static, str>,
    /// Who or what has ordered it.
    pub by: By,
}

/// Who or what has ordered a handover.
pub enum By {
    /// He waits for the outcome; with the successor's name for his eyes.
    Client(Requester, String),
    /// This node's disk does not answer.
    StalledDisk,
    /// This node's process is to stop.
    Leaving,
}

/// A handover on its way. It outlives the leadership until the new leader is known to serve.
pub(super) struct Handover {
    order: Order,
    /// The epoch that hands over.
    epoch: u64,
    /// From when on no commands were taken.
    since_us: u64,
    /// Until when the next step must be done.
    deadline_us: u64,
    /// Whether the successor was told.
    is_told: bool,
}

impl Group {
    /// Who would take over: of the voters that were heard lately and `may`, the one with most of
    /// the log.
    pub fn successor(&self, now_us: u64, may: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let silence_us = self.timing.election_timeout_us;
        let able = self.members.iter().filter_map(|node| {
            let progress = leader.progress.get(node)?;
            let heard = now_us.saturating_sub(progress.heard_us()) < silence_us;
            let able = heard && may(*node) && self.voters.counts(*node, progress.incarnation);
            able.then_some((progress.durable, progress.received, *node))
        });
        // Of equals the first, in the group's order of preference.
        able.reduce(|best, other| if (other.0, other.1) > (best.0, best.1) { other } else { best })
            .map(|(_, _, node)| node)
    }

    /// At the leader: whether a member counts with the disk that spoke last. `None`: none of its
    /// disks has spoken to this leader yet.
    pub fn is_voting_follower(&self, node: NodeId) -> Option<bool> {
        let Role::Leader(leader) = &self.role else { return None };
        let disk = leader.progress.get(&node)?.incarnation;
        (disk != Incarnation::default()).then(|| self.voters.counts(node, disk))
    }

    /// Whether the leadership is on its way to another node: no commands are taken.
    pub fn is_handing_over(&self) -> bool {
        self.handover.is_some() && self.leads()
    }

    /// Who is to take over, until he is known to serve.
    pub fn hands_over_to(&self) -> Option<NodeId> {
        self.handover.as_ref().map(|handover| handover.order.to)
    }

    /// Whether this leader serves and may append: what it appended while it hands over would keep
    /// its successor from having the whole log.
    pub fn takes_in(&self) -> bool {
        self.is_serving() && self.handover.is_none()
    }

    /// Begins to hand over. This node leads, and no other handover is on its way.
    pub fn hand_over(&mut self, turn: &mut Turn<'_>, order: Order) {
        self.give_up_lease(turn);
        let now_us = turn.now.monotonic_us;
        let deadline_us = now_us.saturating_add(self.timing.election_timeout_us);
        let (epoch, since_us) = (self.epoch, now_us);
        if let Some(before) = self.handover.take() {
            self.end_handover(turn, before);
        }
        self.handover = Some(Handover { order, epoch, since_us, deadline_us, is_told: false });
    }

    /// The turn ends: tells the successor as soon as nothing can be lost by it.
    pub(super) fn advance_handover(&mut self, turn: &mut Turn<'_>) {
        let (Role::Leader(leader), Some(handover)) = (&self.role, &mut self.handover) else {
            return;
        };
        // What waits for the copy of a disk that stalls would wait for ever, and the successor has
        // it.
        let is_stalled = matches!(handover.order.by, By::StalledDisk);
        let is_drained = is_stalled || leader.held.is_idle();
        let last = self.log.last_index();
        let has_all = leader.progress.get(&handover.order.to).is_some_and(|progress| {
            progress.durable >= last && self.voters.counts(handover.order.to, progress.incarnation)
        });
        if handover.is_told || !is_drained || !has_all {
            return;
        }
        handover.is_told = true;
        handover.deadline_us =
            turn.now.monotonic_us.saturating_add(self.timing.election_timeout_us);
        let to = handover.order.to;
        self.say(turn, to, Body::TakeOver);
    }

    /// The leader of this epoch has chosen this node, which may have missed it in the meantime.
    pub(super) fn on_take_over(&mut self, turn: &mut Turn<'_>) {
        let epoch = self.epoch;
        if !self.leads()
            && self.is_voter(turn)
            && !self.has_promised(turn, Some(epoch))
            && self.stalled_for_us(turn).is_none()
            && !turn.local.is_leaving
        {
            self.start_election(turn, Some(epoch));
        }
    }

    /// A heartbeat says who leads now, and that it serves. Whoever was not told to take over, with
    /// the whole log, was elected without it: that is a failover, which may have cost what was
    /// acknowledged, whether or not the same node leads.
    pub(super) fn note_new_leader(&mut self, turn: &mut Turn<'_>, leader: NodeId, epoch: u64) {
        let Some(handover) = self.handover.take_if(|handover| handover.epoch < epoch) else {
            return;
        };
        if !handover.is_told || handover.order.to != leader {
            return self.end_handover(turn, handover);
        }
        let pause_us = turn.now.monotonic_us.saturating_sub(handover.since_us);
        let (group, pause_ms) = (self.id, pause_us.div_ceil(1000));
        turn.event(Event::HandedOver { group, epoch, to: leader, pause_ms });
        if let By::Client(requester, _) = handover.order.by {
            let numbers = [u64::from(leader.0), epoch, pause_ms];
            let reply = numbers.map(|number| Reply::Integer(number as i64)).to_vec();
            turn.answer(requester, Reply::Array(reply), None);
        }
    }

    /// When a handover must have come on.
    pub(super) fn handover_deadline_us(&self) -> u64 {
        self.handover.as_ref().map_or(u64::MAX, |handover| handover.deadline_us)
    }

    /// A handover has taken too long: the leader goes on, without a lease, or steps down if it
    /// must not go on.
    pub(super) fn expire_handover(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        let Some(handover) = self.handover.take_if(|h| h.deadline_us <= now_us) else { return };
        let is_stalled = matches!(handover.order.by, By::StalledDisk);
        let why = handover.order.why.clone();
        self.end_handover(turn, handover);
        if is_stalled && self.leads() && self.stalled_for_us(turn).is_some() {
            self.step_down(turn, why);
        }
    }

    /// This node leads again: what it began in an earlier epoch gave up that epoch's lease, and
    /// nobody may be sent past the one that it is about to take.
    pub(super) fn end_older_handover(&mut self, turn: &mut Turn<'_>) {
        if let Some(handover) = self.handover.take() {
            self.end_handover(turn, handover);
        }
    }

    /// Tells who asked that it did not come to be.
    fn end_handover(&mut self, turn: &mut Turn<'_>, handover: Handover) {
        let By::Client(requester, name) = handover.order.by else { return };
        let waited_ms = turn.now.monotonic_us.saturating_sub(handover.since_us) / 1000;
        let what = match handover.is_told {
            true => format!("{name} has not taken over"),
            false => format!("{name} does not have the whole log, or writes wait for their acks,"),
        };
        let now = match self.leads() {
            true => format!("this node leads on in epoch {}, without a lease", self.epoch),
            false => String::from("this node leads no longer; TF.STATUS says who does"),
        };
        turn.refuse(requester, format!("ERR no switchover: {what} after {waited_ms} ms; {now}"));
    }

    /// Why a leader steps down: where the successor was told, because of that.
    pub(super) fn reason_to_step_down(&self, reason: Cow<'static, str>) -> Cow<'static, str> {
        match &self.handover {
            Some(handover) if handover.is_told => {
                Cow::Owned(format!("handed over: {}", handover.order.why))
            }
            _ => reason,
        }
    }
}
