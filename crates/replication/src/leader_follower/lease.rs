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
//! - The leader looks at a clock that was read after a read was evaluated: at the end of the turn.
//!   A process that stood still in between finds its lease over, and asks.
//! - A promise outlives whatever happens to the follower: a higher epoch, its own candidacy, its
//!   process. After a start it has promised, since nobody knows what the process before has said.
//! - A transfer (`transfer.rs`) gives up the lease first, for the whole epoch. Then, and only then,
//!   may the chosen successor's votes pass the promises that were made to this epoch's leader.
//!
//! Followers promise whether the keyspace's leases are on or not: the option is the leader's alone.
//! Where there is no lease, reads wait for a heartbeat round that began after them. A lease rests
//! on clocks; writes never do: they are fenced by the epoch at every follower.

use super::{Group, Role};
use crate::Event;
use crate::mutant::Mutant;
use crate::node::Timing;
use crate::turn::Turn;

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

impl Timing {
    /// How long a leader may count on a round, from its beginning.
    pub fn shortened_lease_us(&self) -> u64 {
        let drift_us = u128::from(self.lease_us) * u128::from(self.clock_drift_ppm) / 1_000_000;
        self.lease_us.saturating_sub(u64::try_from(drift_us).unwrap_or(u64::MAX)).saturating_sub(1)
    }
}

impl Group {
    /// A heartbeat of this epoch's leader is confirmed: no vote from here on.
    pub(super) fn promise(&mut self) {
        self.promise.is_fresh = true;
        self.promise.epoch = self.epoch;
    }

    /// The process has just started: the one before may have promised anything up to now.
    pub fn promise_at_start(&mut self, turn: &Turn<'_>) {
        self.promise.epoch = self.epoch;
        self.promise.until_us = turn.now.monotonic_us.saturating_add(self.timing.lease_us);
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

    /// A follower has confirmed a round: the newest one that C replicas have confirmed is a lease.
    pub(super) fn renew_lease(&mut self, turn: &Turn<'_>) {
        if !self.may_hold_lease() {
            return;
        }
        let round = self.confirmed_round(turn);
        let Some(mut started_us) = turn.local.rounds.started_us(round) else { return };
        if turn.local.mutants.is(Mutant::LeaseFromReceive) {
            started_us = turn.now.monotonic_us;
        }
        let until_us = started_us.saturating_add(self.timing.shortened_lease_us());
        if let Role::Leader(leader) = &mut self.role {
            leader.lease.until_us = leader.lease.until_us.max(until_us);
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
        let Role::Leader(leader) = &self.role else { return false };
        self.may_hold_lease() && self.is_serving() && turn.now.monotonic_us < leader.lease.until_us
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

    #[test]
    fn the_leader_counts_less_than_its_followers() {
        let timing = Timing::default();
        let drift_us = timing.lease_us * timing.clock_drift_ppm / 1_000_000;
        assert_eq!(timing.shortened_lease_us(), timing.lease_us - drift_us - 1);
        let wild = Timing { clock_drift_ppm: 2_000_000, ..timing };
        assert_eq!(wild.shortened_lease_us(), 0, "no lease, rather than one for ever");
    }
}
