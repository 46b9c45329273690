//! Leaderships that began under a possible loss: only with a cause, and what was acknowledged after
//! the last of them survives. Where there was none, nothing acknowledged may be lost at all,
//! however many machines have lost their power: that is the other checkers' part.

use super::Verdict;
use crate::history::{Action, History};
use crate::observe::{Leadership, Observations, tokens};
use crate::options::{ModelName, Options};
use replication::keyspace::{Durability, Failover, GroupOptions};
use replication::quorum::Quorum;
use replication::{KeyspaceId, NodeId};
use std::collections::BTreeSet;

/// Whether a group of the keyspace may have lost something.
pub fn has_lost(seen: &Observations, keyspace: KeyspaceId) -> bool {
    seen.losses.iter().any(|loss| loss.group.keyspace == keyspace)
}

/// With `failover = "safe"`, a leader lacks the votes of E members that have lost nothing only
/// where more than N - E may have lost something at once: who has made good what a power cut took
/// counts no more. And where everything is synced, never.
pub fn announced_with_cause(options: &Options, seen: &Observations) -> Verdict {
    for loss in &seen.losses {
        if seen.disasters.iter().any(|at_us| *at_us <= loss.at_us) {
            // By an operator's word.
            continue;
        }
        let Some(group) = group_options(options, loss.group.keyspace) else { continue };
        let quorum = Quorum::of(group);
        let suspects = suspects_with_cause(seen, loss);
        let need = match group.failover {
            Failover::Safe => quorum.replicas - quorum.election + 1,
            Failover::Available => 1,
        };
        if group.durability == Durability::Fsync || suspects.len() < need {
            return Err(format!(
                "{} leads {:?} in epoch {} under a possible loss at {} us, although only {:?} may \
                 have lost something then ({need} of {} must, durability {:?})",
                loss.node,
                loss.group,
                loss.epoch,
                loss.at_us,
                suspects,
                quorum.replicas,
                group.durability
            ));
        }
    }
    Ok(())
}

/// The members that may have lacked something when a leader began, and that do not only say so:
/// their power was cut at some time, or an earlier possible loss has taken what they held.
fn suspects_with_cause(seen: &Observations, loss: &Leadership) -> BTreeSet<NodeId> {
    let earlier = |other: &&Leadership| other.group == loss.group && other.epoch < loss.epoch;
    let after_loss = seen.losses.iter().any(|other| earlier(&other));
    let was_cut = |node: &NodeId| {
        let mut cuts = seen.power_cuts.iter().filter(|(at_us, _)| *at_us <= loss.at_us);
        cuts.any(|(_, cut)| cut == node)
    };
    let suspects = seen.suspects.get(&(loss.group, loss.epoch)).into_iter().flatten();
    suspects.filter(|node| after_loss || was_cut(node)).copied().collect()
}

/// Of a key that only saw APPENDs and GETs: what was asked after the last possible loss and was
/// acknowledged is there in the end, and nothing is there twice or was made up.
pub fn later_writes_survive(
    options: &Options,
    history: &History,
    seen: &Observations,
    key: &str,
    end: Option<&str>,
) -> Verdict {
    let keyspace = options.plan.cluster.keyspace_of(key.as_bytes()).map(|keyspace| keyspace.id);
    let Some(keyspace) = keyspace else { return Ok(()) };
    let Some(group) = group_options(options, keyspace) else { return Ok(()) };
    if options.model != ModelName::LeaderFollower || !Quorum::of(group).acknowledged_survives() {
        return Ok(());
    }
    let losses = seen.losses.iter().filter(|loss| loss.group.keyspace == keyspace);
    let since_us = losses.map(|loss| loss.at_us).max().unwrap_or(0);
    let end = tokens(end.unwrap_or("").as_bytes());
    let survivors: BTreeSet<&str> = end.iter().map(String::as_str).collect();
    for operation in history.of(key) {
        let Action::Append(value) = &operation.action else { continue };
        if operation.is_done()
            && operation.invoked_us > since_us
            && !survivors.contains(value.as_str())
        {
            return Err(format!(
                "{key}: lost write: {value} was asked at {} us and acknowledged, after the last \
                 possible loss (at {since_us} us), and is not in {end:?}",
                operation.invoked_us
            ));
        }
    }
    Ok(())
}

fn group_options(options: &Options, keyspace: KeyspaceId) -> Option<&GroupOptions> {
    options.plan.cluster.keyspace(keyspace)?.model.group()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::GROUP;
    use replication::keyspace::{Acks, Model};
    use replication::mutant::Mutants;

    #[test]
    fn who_has_made_good_what_a_power_cut_took_excuses_nobody_any_more() {
        let mut options = Options::of(1, ModelName::LeaderFollower, Mutants::default());
        options.plan.cluster.keyspaces.truncate(1);
        if let Some(Model::LeaderFollower(model)) =
            options.plan.cluster.keyspaces.first_mut().map(|keyspace| &mut keyspace.model)
        {
            (model.group.replicas, model.group.acks) = (3, Acks::Majority);
            model.group.failover = Failover::Safe;
            model.group.durability = Durability::Interval;
        }
        let loss = Leadership { at_us: 3_600_000_000, node: NodeId(0), group: GROUP, epoch: 9 };
        let verdict = |suspects: &[u16]| {
            let suspects = suspects.iter().copied().map(NodeId).collect();
            let mut seen = Observations::default();
            seen.losses.push(loss);
            seen.power_cuts.extend([(1_000_000, NodeId(0)), (1_000_000_000, NodeId(1))]);
            seen.suspects.insert((GROUP, 9), suspects);
            announced_with_cause(&options, &seen)
        };
        assert!(verdict(&[0, 1]).is_ok(), "both at once");
        assert!(verdict(&[1]).is_err(), "n0 lost its power long ago");
        assert!(verdict(&[1, 2]).is_err(), "n2 says so without a cause");
    }
}
