//! Who leads, may; and who may no longer, knows it: no lease when another one is elected, no answer
//! to a read after that, and no leader that hears nobody or has no disk.

use super::Verdict;
use crate::history::{Action, History};
use crate::observe::{Leadership, Observations};
use replication::keyspace::Cluster;
use replication::keyspace::slot::slot_of;
use replication::{GroupId, NodeId};

/// Nobody held a lease when another one was elected (invariant L8: leases are disjoint in true
/// time, for all clocks within the bound).
pub fn leases_are_disjoint(seen: &Observations) -> Verdict {
    seen.overlaps.first().cloned().map_or(Ok(()), Err)
}

/// A leader that hears fewer than C replicas, or whose disk does not answer, leads on for no longer
/// than it takes to notice (traps A17 and A18).
pub fn unfit_ones_go(seen: &Observations) -> Verdict {
    seen.unfit.first().cloned().map_or(Ok(()), Err)
}

/// A read that was asked after somebody had been elected is not answered by a leader of an earlier
/// epoch (trap A7), whatever value it would have had.
pub fn deposed_ones_answer_no_reads(
    history: &History,
    cluster: &Cluster,
    seen: &Observations,
) -> Verdict {
    for (name, first) in &history.requests {
        let Some(operation) = history.operations.get(*first) else { continue };
        if operation.action != Action::Get || !operation.is_done() {
            continue;
        }
        let Some((node, led)) = seen.led_at_answer.get(name) else { continue };
        let key = operation.key.as_bytes();
        let Some(keyspace) = cluster.keyspace_of(key) else { continue };
        let partition = keyspace.partition_of(slot_of(key));
        let is_of_key =
            |group: &GroupId| group.keyspace == keyspace.id && group.partition == partition;
        for (group, epoch) in led.iter().filter(|(group, _)| is_of_key(group)) {
            let at_us = operation.invoked_us;
            if let Some(newer) = newer(&seen.leaderships, (*node, *group, *epoch), at_us) {
                return Err(format!(
                    "stale leader: {node} answered GET {} in epoch {epoch}, asked at {at_us} us; \
                     {} leads epoch {} since {} us",
                    operation.key, newer.node, newer.epoch, newer.at_us
                ));
            }
        }
    }
    Ok(())
}

/// The leadership that had begun after one that had begun, too, when a read was asked.
fn newer(
    leaderships: &[Leadership],
    (node, group, epoch): (NodeId, GroupId, u64),
    asked_us: u64,
) -> Option<&Leadership> {
    let had_begun = |start: &&Leadership| start.group == group && start.at_us < asked_us;
    let begun = || leaderships.iter().filter(had_begun);
    begun().find(|start| start.node == node && start.epoch == epoch)?;
    begun().find(|start| start.epoch > epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::GROUP;

    #[test]
    fn a_leader_is_deposed_by_whoever_was_elected_before_the_read() {
        let start =
            |at_us, node, epoch| Leadership { at_us, node: NodeId(node), group: GROUP, epoch };
        let leaderships = [start(10, 0, 1), start(20, 1, 2)];
        let old = (NodeId(0), GROUP, 1);
        assert_eq!(newer(&leaderships, old, 20), None, "asked while it was being elected");
        assert!(newer(&leaderships, old, 21).is_some());
        assert_eq!(newer(&leaderships, (NodeId(1), GROUP, 2), 21), None, "the new one may");
        let late = [start(20, 1, 2), start(30, 0, 1)];
        assert_eq!(newer(&late, old, 25), None, "who forwards it does not answer it");
    }

    #[test]
    fn what_was_seen_of_a_leader_is_told() {
        let mut seen = Observations::default();
        assert!(leases_are_disjoint(&seen).is_ok() && unfit_ones_go(&seen).is_ok());
        seen.overlaps.push(String::from("a lease"));
        seen.unfit.push(String::from("a disk"));
        assert!(leases_are_disjoint(&seen).is_err() && unfit_ones_go(&seen).is_err());
    }
}
