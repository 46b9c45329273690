//! Nobody is shown a write that too few replicas have: min(A, C) of them durably when its leader
//! answers, and C when a follower does, be A less than C or not. It needs no order of the
//! operations, and so no linearizability.

use super::Verdict;
use crate::history::History;
use crate::observe::Observations;
use crate::shown::Shown;
use replication::GroupId;
use replication::keyspace::slot::slot_of;
use replication::keyspace::{Cluster, Keyspace, Model};
use replication::quorum::Quorum;

/// Checks every answer to a client's command on one key that shows a written value.
pub fn check(history: &History, cluster: &Cluster, seen: &Observations) -> Verdict {
    for shown in &seen.shown {
        let place = history.requests.get(&shown.request);
        let Some(operation) = place.and_then(|place| history.operations.get(*place)) else {
            continue;
        };
        let Some(keyspace) = cluster.keyspace_of(operation.key.as_bytes()) else { continue };
        let Some(group) = group_of(cluster, keyspace, &operation.key, shown) else { continue };
        let Some(quorum) = keyspace.model.group().map(Quorum::of) else { continue };
        enough(&operation.key, shown, group, &quorum)?;
    }
    Ok(())
}

/// The group that has answered: the only one, or that of the datacenter.
fn group_of(cluster: &Cluster, keyspace: &Keyspace, key: &str, shown: &Shown) -> Option<GroupId> {
    let partition = keyspace.partition_of(slot_of(key.as_bytes()));
    let datacenter = match &keyspace.model {
        Model::LeaderFollower(options) => options.home,
        Model::MultiLeader(_) => cluster.member(shown.node)?.datacenter,
        Model::Leaderless(_) => return None,
    };
    Some(keyspace.group(partition, datacenter))
}

/// Whether enough replicas had what was shown.
fn enough(key: &str, shown: &Shown, group: GroupId, quorum: &Quorum) -> Verdict {
    let (who, need) = match shown.led.contains(&group) {
        true => ("which led,", quorum.visible()),
        false => ("which did not lead,", quorum.commit),
    };
    let copies = shown.copies.get(&group).copied().unwrap_or(0);
    if copies >= need {
        return Ok(());
    }
    Err(format!(
        "{key}: {}, {who} showed {} at {} us, which {copies} replicas durably had: {need} must \
         (A={}, C={})",
        shown.node, shown.value, shown.at_us, quorum.acks, quorum.commit
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::GROUP;
    use replication::NodeId;
    use std::collections::BTreeSet;

    #[test]
    fn a_leader_shows_what_is_visible_and_a_follower_what_is_committed() {
        let quorum = Quorum { replicas: 5, acks: 2, election: 3, commit: 3 };
        let verdict = |copies, leads: bool| {
            let shown = Shown {
                request: (1, 0),
                at_us: 7,
                node: NodeId(0),
                value: String::from("~a;"),
                copies: [(GROUP, copies)].into(),
                led: BTreeSet::from_iter(leads.then_some(GROUP)),
            };
            enough("k", &shown, GROUP, &quorum)
        };
        assert!(verdict(1, true).is_err() && verdict(2, true).is_ok());
        assert!(verdict(2, false).is_err() && verdict(3, false).is_ok());
        let elsewhere = GroupId { partition: 1, ..GROUP };
        let shown = Shown {
            request: (1, 0),
            at_us: 7,
            node: NodeId(0),
            value: String::from("~a;"),
            copies: [(GROUP, 5)].into(),
            led: BTreeSet::from([elsewhere]),
        };
        assert!(enough("k", &shown, elsewhere, &quorum).is_err(), "no copy in that group's log");
    }
}
