//! WAIT and WAITAOF tell the truth: so many nodes have the write; and with so many that every
//! election must meet one of them, no failover loses it, whatever its keyspace's acks are.

use super::Verdict;
use super::possible_loss::has_lost;
use crate::history::{Action, History};
use crate::judge::End;
use crate::observe::{Observations, tokens};
use crate::options::Options;
use crate::waits::Waited;
use crate::workload::Kind;

/// Checks all answers of a run. What survives is seen in the keys that are only appended to.
///
/// # Errors
/// The first answer that was not true, or that has not stayed so.
pub fn check(options: &Options, history: &History, seen: &Observations, end: &End) -> Verdict {
    for waited in &history.waits {
        let Some(operation) = history.operations.get(waited.operation) else { continue };
        let (key, action) = (&operation.key, &operation.action);
        enough_have_it(waited).map_err(|text| format!("{key}: {action:?}: {text}"))?;
        let Some(keyspace) = options.plan.cluster.keyspace_of(key.as_bytes()) else { continue };
        // What is only written may go with the power of all; what is on disk may not.
        let kept = waited.own.is_some() || !has_lost(seen, keyspace.id);
        let stays = kept && !seen.disasters.iter().any(|at_us| *at_us >= waited.at_us);
        let copies = usize::try_from(waited.copies()).unwrap_or(0);
        let safe = options.quorum_of(key).is_some_and(|quorum| quorum.survives(copies));
        let Action::Append(value) = action else { continue };
        if Kind::of(key) == Some(Kind::List) && stays && safe {
            let survivors = end.get(key).and_then(|value| value.as_deref()).unwrap_or("");
            if !tokens(survivors.as_bytes()).contains(value) {
                return Err(format!(
                    "{key}: {value} was on {copies} nodes by the word of {waited:?}, and is not \
                     in {survivors}"
                ));
            }
        }
    }
    Ok(())
}

fn enough_have_it(waited: &Waited) -> Verdict {
    match waited.holders < waited.copies() {
        true => Err(format!("too few nodes have it for this answer: {waited:?}")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_counts_more_than_there_are_is_seen() {
        let waited = |own, followers, leader_holds| Waited {
            operation: 0,
            own,
            followers,
            holders: 2,
            leader_holds,
            at_us: 0,
        };
        assert!(enough_have_it(&waited(None, 2, false)).is_ok());
        assert!(enough_have_it(&waited(None, 2, true)).is_err(), "the leader is no follower");
        assert!(enough_have_it(&waited(None, 1, true)).is_ok());
        assert!(enough_have_it(&waited(Some(1), 2, true)).is_err());
        assert!(enough_have_it(&waited(Some(0), 2, true)).is_ok());
    }
}
