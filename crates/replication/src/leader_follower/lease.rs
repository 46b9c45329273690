//! Leases: a leader answers reads without asking anybody, for as long as nobody else can lead.
//!
//! A follower that confirms a heartbeat *promises*: it votes for nobody for one lease, and says so
//! in no pre-vote either. A round that C replicas, the leader included, have confirmed is a lease:
//! every election needs a vote of one of them (C + E > N). Which clock says what (reliability
//! trap A5; DESIGN §6):
//!
//! - The leader counts from *before it sent* the round, shortened by the bound on how fast clocks
//!   may drift apart. The followers count the whole lease, from *after they received* it: from the
//!   end of the turn, as the clock that an input carries may have been read before it came.
//! - Nodes need not have the same numbers: a follower says with each confirmation for how long it
//!   has promised, and how far it lets clocks drift, and the leader counts on the less of both.
//! - The leader looks at a clock that was read after a read was evaluated: at the end of the turn.
//!   A process that stood still in between finds its lease over, and asks.
//! - A promise outlives whatever happens to the follower: a higher epoch, its own candidacy, its
//!   process. After a start it has promised, since nobody knows what the process before has said,
//!   for as long as that one promised: its log tells (`Identity`).
//! - A transfer (`transfer.rs`) gives up the lease first, for the whole epoch. Then, and only then,
//!   may the chosen successor's votes pass the promises that were made to this epoch's leader.
//!
//! Followers promise whether the keyspace's leases are on or not: the option is the leader's alone.
//! Where there is no lease, reads wait for a heartbeat round that began after them. A lease rests
//! on clocks; writes never do: they are fenced by the epoch at every follower.

use super::{Group, Role};
use crate::mutant::Mutant;
use crate::node::LeaseTerm;
use crate::quorum::reached_by;
use crate::turn::Turn;
use crate::{Event, NodeId};
use alloc::vec::Vec;

/// A follower's word: no vote until then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promise {
    /// By this node's monotonic clock.
    until_us: u64,
    /// To the leader of which epoch it was given last.
    epoch: u64,
    /// Given in this turn: it counts from the turn's end.
    is_fresh: bool,
}

/// What a leader holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lease {
    /// By this node's monotonic clock; 0 before the first.
    until_us: u64,
    /// For a transfer: there is no other in this epoch.
    given_up: bool,
    /// It is over, and reads have fallen back to rounds.
    is_lost: bool,
}

impl LeaseTerm {
    /// How long a leader with these numbers may count on a follower that has promised `told`, from
    /// before it has asked: the shorter of the leases, shortened by the wider of the bounds.
    pub fn counts_on(self, told: LeaseTerm) -> u64 {
        let lease_us = self.lease_us.min(told.lease_us);
        let drift_ppm = self.clock_drift_ppm.max(told.clock_drift_ppm);
        let drift_us = u128::from(lease_us) * u128::from(drift_ppm) / 1_000_000;
        lease_us.saturating_sub(u64::try_from(drift_us).unwrap_or(u64::MAX)).saturating_sub(1)
    }
}

impl Group {
    /// A heartbeat of this epoch's leader is confirmed: no vote from here on.
    pub(super) fn promise(&mut self) {
        self.promise.is_fresh = true;
        self.promise.epoch = self.epoch;
    }

    /// The process has just started: the one before may have promised anything up to now, for
    /// `lease_us`. Only a group's only member had nobody to promise it to.
    pub fn promise_at_start(&mut self, turn: &Turn<'_>, lease_us: u64) {
        if self.is_alone() {
            return;
        }
        self.promise.epoch = self.epoch;
        self.promise.until_us = turn.now.monotonic_us.saturating_add(lease_us);
        self.maybe_forget_promise(turn);
        if turn.local.mutants.is(Mutant::WipedNodeCounts) {
            // That bug is about counting at once: the wait would hide it.
            self.promise = Promise::default();
        }
    }

    /// The turn ends: what was promised in it counts from now.
    pub(super) fn date_promise(&mut self, turn: &Turn<'_>) {
        if core::mem::take(&mut self.promise.is_fresh) {
            self.promise.until_us = turn.now.monotonic_us.saturating_add(self.timing.lease_us);
        }
    }

    /// Whether a promise forbids this node to vote. The votes of a transfer pass the promises that
    /// were made to the leader who handed over, and to those before him: when he was elected, their
    /// leases were over, or given up. No others: else there was no way back right after a transfer
    /// where the vote of the one who handed over is needed.
    pub(super) fn has_promised(&self, turn: &Turn<'_>, handed_over: Option<u64>) -> bool {
        let binds = self.promise.is_fresh || turn.now.monotonic_us < self.promise.until_us;
        binds && handed_over.is_none_or(|epoch| epoch < self.promise.epoch)
    }

    /// For a planted bug: the promise goes with the epoch, or with the process.
    pub(super) fn maybe_forget_promise(&mut self, turn: &Turn<'_>) {
        if turn.local.mutants.is(Mutant::PromiseForgotten) {
            self.promise = Promise::default();
        }
    }

    /// Whether this leader may hold a lease. Where C is 1 it needs none: nobody can lead without
    /// its own vote.
    fn may_hold_lease(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.options.leases && self.quorum.commit > 1 && !leader.lease.given_up
    }

    /// Until when a follower that has confirmed a round votes for nobody; 0 where that began too
    /// long ago to be known.
    pub(super) fn bound_until_us(&self, turn: &Turn<'_>, round: u64, term: LeaseTerm) -> u64 {
        let Some(mut started_us) = turn.local.rounds.started_us(round) else { return 0 };
        if turn.local.mutants.is(Mutant::LeaseFromReceive) {
            started_us = turn.now.monotonic_us;
        }
        started_us.saturating_add(self.timing.lease_term().counts_on(term))
    }

    /// A follower has confirmed a round: while C replicas, this one included, vote for nobody else,
    /// this leader has a lease.
    pub(super) fn renew_lease(&mut self, turn: &Turn<'_>) {
        if !self.may_hold_lease() {
            return;
        }
        let Role::Leader(leader) = &self.role else { return };
        let counts = |node: &NodeId, incarnation| self.counts(turn, *node, incarnation);
        let followers = leader.progress.iter();
        let mut bound: Vec<u64> = followers
            .filter(|(node, progress)| counts(node, progress.incarnation))
            .map(|(_, progress)| progress.bound_until_us)
            .collect();
        bound.push(u64::MAX);
        let until_us = reached_by(&mut bound, self.quorum.commit);
        if let Role::Leader(leader) = &mut self.role {
            leader.lease.until_us = leader.lease.until_us.max(until_us);
        }
    }

    /// A member counts with another disk: that one knows nothing of what the one before has
    /// promised. The next round is a lease again.
    pub(super) fn forget_bonds(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.lease.until_us = 0;
        }
    }

    /// There is no lease any more in this epoch.
    pub(super) fn give_up_lease(&mut self, turn: &Turn<'_>) {
        if let Role::Leader(leader) = &mut self.role
            && !turn.local.mutants.is(Mutant::LeaseKeptInTransfer)
        {
            leader.lease = Lease { given_up: true, ..Lease::default() };
        }
    }

    /// Whether nobody else can lead at this moment, by a clock that is read before anything else
    /// can happen.
    pub(super) fn holds_lease(&self, turn: &Turn<'_>) -> bool {
        self.holds_lease_at(turn.now.monotonic_us)
    }

    /// The same at a moment of this node's monotonic clock: for whoever looks from outside.
    pub fn holds_lease_at(&self, monotonic_us: u64) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.may_hold_lease() && self.is_serving() && monotonic_us < leader.lease.until_us
    }

    /// The reads of this turn, all of them evaluated before `now` was read: with a lease they are
    /// let go, or wait only for what they saw; without, they stay for the next round.
    pub fn let_lease_reads_go(&mut self, turn: &mut Turn<'_>) {
        let holds = self.holds_lease(turn);
        let group = self.id;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.held.evaluated.is_empty() {
            return;
        }
        let had = leader.lease.until_us > 0 && !leader.lease.is_lost;
        leader.lease.is_lost = !holds;
        if !holds {
            if had {
                turn.event(Event::LeaseLost { group });
            }
            return;
        }
        let visible = leader.visible;
        let mut evaluated = core::mem::take(&mut leader.held.evaluated);
        let (reads, values) = evaluated.drain();
        turn.event(Event::LeaseReads { group, reads: reads.len() as u64 });
        for read in reads {
            if read.index <= visible {
                self.answer_evaluated(turn, read, values);
            } else if let Role::Leader(leader) = &mut self.role {
                leader.held.reads.push(read.into_read(values, 0));
            }
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.held.evaluated = evaluated.cleared();
        }
    }

    /// Reads that no lease has let go wait for a heartbeat round that starts after them; whether
    /// there are any. Asked once at the end of each turn.
    pub fn take_wants_round(&mut self, turn: &Turn<'_>) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        if leader.held.evaluated.is_empty() {
            return false;
        }
        let round = turn.local.rounds.newest() + 1;
        let mut evaluated = core::mem::take(&mut leader.held.evaluated);
        let (reads, values) = evaluated.drain();
        reads.for_each(|read| leader.held.reads.push(read.into_read(values, round)));
        leader.held.evaluated = evaluated.cleared();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Timing;

    #[test]
    fn the_leader_counts_less_than_its_followers() {
        let term = Timing::default().lease_term();
        let drift_us = term.lease_us * term.clock_drift_ppm / 1_000_000;
        assert_eq!(term.counts_on(term), term.lease_us - drift_us - 1);
        let wild = LeaseTerm { clock_drift_ppm: 2_000_000, ..term };
        assert_eq!(wild.counts_on(wild), 0, "no lease, rather than one for ever");
    }

    #[test]
    fn of_two_terms_the_more_careful_one_counts_whoever_has_it() {
        let term = |lease_us, clock_drift_ppm| LeaseTerm { lease_us, clock_drift_ppm };
        for (one, other, counted) in [
            (term(1_000, 0), term(400, 0), 399),
            (term(1_000, 0), term(1_000, 200_000), 799),
            (term(1_000, 200_000), term(400, 0), 319),
        ] {
            assert_eq!((one.counts_on(other), other.counts_on(one)), (counted, counted));
        }
        assert_eq!(term(1_000, 0).counts_on(LeaseTerm::default()), 0, "who promises nothing");
    }
}
