//! Leaderships that began under a possible loss: only with a cause, and what was acknowledged after
//! the last of them survives. Where there was none, nothing acknowledged may be lost at all,
//! however many machines have lost their power: that is the other checkers' part.

use super::Verdict;
use crate::history::{Action, History};
use crate::observe::{Leadership, Observations, tokens};
use crate::options::{ModelName, Options};
use replication::keyspace::{Durability, Failover, GroupOptions};
use replication::quorum::Quorum;
use replication::{KeyspaceId, NodeId, replicas};
use std::collections::BTreeSet;

/// Whether a group of the keyspace may have lost something.
pub fn has_lost(seen: &Observations, keyspace: KeyspaceId) -> bool {
    seen.losses.iter().any(|loss| loss.group.keyspace == keyspace)
}

/// With `failover = "safe"`, a leader lacks the votes of E members that have lost nothing only
/// where more than N - E have lost their power; and where everything is synced, never.
pub fn announced_with_cause(options: &Options, seen: &Observations) -> Verdict {
    for loss in &seen.losses {
        let Some(group) = group_options(options, loss.group.keyspace) else { continue };
        let quorum = Quorum::of(group);
        let suspects = suspects(options, seen, loss);
        let need = match group.failover {
            Failover::Safe => quorum.replicas - quorum.election + 1,
            Failover::Available => 1,
        };
        if group.durability == Durability::Fsync || suspects.len() < need {
            return Err(format!(
                "{} leads {:?} in epoch {} under a possible loss at {} us, although only {:?} had \
                 lost their power ({need} of {} must have, durability {:?})",
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

/// The members of the group that had lost their power before.
fn suspects(options: &Options, seen: &Observations, loss: &Leadership) -> BTreeSet<NodeId> {
    let groups = replicas::all_groups(&options.plan.cluster);
    let members = groups.into_iter().find(|(id, _)| *id == loss.group).map(|(_, nodes)| nodes);
    let members = members.unwrap_or_default();
    let cuts = seen.power_cuts.iter().filter(|(at_us, _)| *at_us <= loss.at_us);
    cuts.map(|(_, node)| *node).filter(|node| members.contains(node)).collect()
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
