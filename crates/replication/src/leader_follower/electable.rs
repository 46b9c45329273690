//! Whether the members that are there could elect a leader by themselves: then an operator's word
//! (`operator.rs`) is not needed, and would only put committed entries at risk.
//!
//! A member may not know yet that another one's new disk was admitted. Such a disk takes itself for
//! a voter, and grants votes; but who does not count it cannot be elected with them. So it is asked
//! of each member that is there whether *it* could win: with the votes of those whom it counts,
//! and whose logs are no longer than its own.

use super::message::VoterSet;
use crate::keyspace::Failover;
use crate::quorum::Quorum;
use crate::version::EntryId;
use crate::{Incarnation, NodeId};

/// What is known of a member that is there.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    /// The newest entry of its log.
    pub(super) last: EntryId,
    /// It may have lost entries that it acknowledged.
    pub(super) suspect: bool,
    /// Its slots contain more than its log: it stands for no election.
    pub(super) ahead: bool,
    /// The voters as it knows them.
    pub(super) voters: VoterSet,
}

impl Present {
    fn counts(&self, other: &Present) -> bool {
        self.voters.contains(&(other.node, other.incarnation))
    }

    /// Whether it would vote for another one, and that one would count it.
    fn elects(&self, candidate: &Present) -> bool {
        let is_up_to_date = candidate.last >= self.last || (self.suspect && self.ahead);
        self.counts(self) && candidate.counts(self) && is_up_to_date
    }
}

/// How many votes the member gets that gets most, if they are enough without an operator.
pub(super) fn electable(present: &[Present], quorum: &Quorum, failover: Failover) -> Option<usize> {
    let votes_of = |candidate: &&Present| {
        let votes = present.iter().filter(|member| member.elects(candidate));
        let sound = votes.clone().filter(|member| !member.suspect).count();
        let votes = votes.count();
        let any = failover == Failover::Available && votes >= quorum.election;
        let enough = sound >= quorum.election || votes >= quorum.replicas || any;
        enough.then_some(votes)
    };
    let able = |candidate: &&Present| !candidate.ahead && candidate.counts(candidate);
    let candidates = present.iter().filter(able);
    candidates.filter_map(|candidate| votes_of(&candidate)).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const QUORUM: Quorum = Quorum { replicas: 3, acks: 2, election: 2, commit: 2 };

    fn voters(disk_of_b: u64) -> VoterSet {
        [(0, 10), (1, disk_of_b), (2, 30)].map(|(n, d)| (NodeId(n), Incarnation(d))).to_vec()
    }

    fn present(node: u16, disk: u64, index: u64, voters: VoterSet) -> Present {
        let (node, incarnation) = (NodeId(node), Incarnation(disk));
        let last = EntryId { epoch: 3, index };
        Present { node, incarnation, last, suspect: false, ahead: false, voters }
    }

    fn is_electable(present: &[Present]) -> bool {
        electable(present, &QUORUM, Failover::Safe).is_some()
    }

    #[test]
    fn a_new_disk_whose_admission_only_it_has_heard_of_elects_nobody_with_a_longer_log() {
        // B's new disk has been admitted, and A, who did it, is gone. C does not know it.
        let (knows, knows_not) = (voters(21), voters(20));
        let b = |index| present(1, 21, index, knows.clone());
        let c = |index| present(2, 30, index, knows_not.clone());
        assert!(!is_electable(&[b(5), c(6)]), "C does not count B, and does not vote for it");
        assert!(is_electable(&[b(6), c(6)]), "B counts C, who votes for it");
        assert!(is_electable(&[b(5), present(2, 30, 6, knows.clone())]), "C counts B");
        assert!(!is_electable(&[present(1, 21, 6, knows_not.clone()), c(6)]), "B is new to all");
        assert!(!is_electable(&[c(6)]));
    }

    #[test]
    fn members_that_have_lost_their_power_need_all_votes_or_a_failover_before_safety() {
        let suspects = |nodes: &[(u16, u64)]| -> vec::Vec<Present> {
            let all = nodes.iter().map(|(node, disk)| present(*node, *disk, 5, voters(20)));
            all.map(|member| Present { suspect: true, ..member }).collect()
        };
        let two = suspects(&[(0, 10), (1, 20)]);
        let three = suspects(&[(0, 10), (1, 20), (2, 30)]);
        let votes = |present: &[Present], failover| electable(present, &QUORUM, failover);
        assert_eq!(votes(&two, Failover::Safe), None);
        assert_eq!(votes(&two, Failover::Available), Some(2));
        assert_eq!(votes(&three, Failover::Safe), Some(3));
        // One has the longest log, and slots with more: it cannot lead, and votes for another.
        let one_ahead = suspects(&[(0, 10), (1, 20)]).into_iter().chain([Present {
            ahead: true,
            suspect: true,
            ..present(2, 30, 6, voters(20))
        }]);
        let one_ahead: vec::Vec<Present> = one_ahead.collect();
        assert_eq!(votes(&one_ahead, Failover::Safe), Some(3));
    }
}
