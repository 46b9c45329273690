//! Acks mean copies: when a writer has his OK, so many replicas have the write as he was promised,
//! in the sense that he was promised. Where that was lowered, the degrade ledger says so, and says
//! neither more nor less.

use super::Verdict;
use crate::copies::Count;
use crate::history::Operation;
use crate::observe::Below;
use crate::promises;
use replication::keyspace::{AckLevel, GroupOptions};
use replication::leader_follower::degrade_ledger::Interval;
use replication::quorum::Quorum;
use std::collections::BTreeSet;

/// Checks each acknowledged write whose entry is known, with the copies that there were when its
/// client had the OK; `options_of` says how its group acknowledges, and `below` are the writes that
/// were acknowledged with fewer. Acks that a client has asked for itself are never lowered.
pub fn check<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    options_of: impl Fn(&Operation) -> Option<&'a GroupOptions>,
    below: &[Below],
) -> Verdict {
    for operation in operations.filter(|operation| operation.is_done()) {
        let Some((id, count)) = operation.copies else { continue };
        let Some(group) = options_of(operation) else { continue };
        let promise = promises::of(operation, group);
        let has = has(count, promise.level);
        let is_below = operation.asked.is_none() && below.iter().any(|below| below.entry == id);
        if has < promise.copies && !is_below {
            return Err(format!(
                "{}: {:?} ({id:?}) was acknowledged at {} us for {} {} copies; there were {has}",
                operation.key,
                operation.action,
                operation.returned_us,
                promise.copies,
                promise.level
            ));
        }
    }
    Ok(())
}

fn has(count: Count, level: AckLevel) -> usize {
    match level {
        AckLevel::Received => count.received,
        AckLevel::Durable => count.durable,
        AckLevel::Applied => count.applied,
    }
}

/// Checks the writes that were acknowledged with fewer acks than declared: they had min(A, C)
/// copies, and the leader counted none that there was not.
pub fn check_below(below: &[Below], quorum: &Quorum) -> Verdict {
    for Below { entry, told, found, .. } in below {
        let least = quorum.degraded() as u64;
        if *told < least || (*found as u64) < least {
            return Err(format!(
                "{entry:?} was acknowledged with {told} copies ({found} on disks); degrade \
                 stops at {least}"
            ));
        }
        if *told > *found as u64 {
            return Err(format!("{entry:?}: {told} copies were counted, and there were {found}"));
        }
    }
    Ok(())
}

/// Checks a group's ledger at the end of a run against the writes that were acknowledged with
/// fewer acks than declared: each is in one interval; an interval's numbers are those of its
/// writes, or bounds where a leader closed it that had not acknowledged them.
pub fn check_ledger(ledger: &[Interval], below: &[Below]) -> Verdict {
    let known = |below: &&Below| ledger.iter().any(|interval| interval.opened == below.interval);
    for interval in ledger {
        let degraded = interval.degraded;
        if interval.closed_ms.is_none() {
            return Err(format!("an interval of the degrade ledger is never closed: {interval:?}"));
        }
        let inside: Vec<&Below> =
            below.iter().filter(|below| below.interval == interval.opened).collect();
        let fewest = inside.iter().map(|below| below.told).min();
        let exact = !inside.is_empty()
            && inside.iter().map(|below| below.entry).min() == Some(degraded.first)
            && inside.iter().map(|below| below.entry).max() == Some(degraded.last)
            && inside.len() as u64 == degraded.writes
            && fewest == Some(degraded.fewest);
        let bound = inside.len() as u64 <= degraded.writes
            && inside.iter().all(|b| degraded.first <= b.entry && b.entry <= degraded.last)
            && fewest.is_none_or(|fewest| fewest >= degraded.fewest);
        if !(if degraded.is_bound { bound } else { exact }) {
            return Err(format!(
                "the degrade ledger says {interval:?}, but these were: {inside:?}"
            ));
        }
        let twice = inside.iter().map(|below| below.entry).collect::<BTreeSet<_>>();
        if twice.len() < inside.len() && !degraded.is_bound {
            return Err(format!("the degrade ledger counts a write twice: {inside:?}"));
        }
    }
    match below.iter().find(|below| !known(below)) {
        Some(missing) => Err(format!("{missing:?} is in no interval of the degrade ledger")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::set;
    use replication::keyspace::{Acks, GroupOptions};
    use replication::leader_follower::degrade_ledger::Degraded;
    use replication::version::EntryId;

    fn id(index: u64) -> EntryId {
        EntryId { epoch: 1, index }
    }

    fn below(index: u64, told: u64, found: usize) -> Below {
        Below { entry: id(index), told, found, interval: id(2) }
    }

    #[test]
    fn an_ok_with_too_few_copies_is_seen() {
        let group = GroupOptions::defaults(3);
        let with = |durable, asked| {
            let count = Count { received: 3, durable, applied: 1 };
            Operation { copies: Some((id(4), count)), asked, ..set("~a;", 1, 2) }
        };
        let verdict = |operation: Operation, below: &[Below]| {
            check([operation].iter(), |_| Some(&group), below)
        };
        assert!(verdict(with(2, None), &[]).is_ok());
        assert!(verdict(with(1, None), &[]).is_err());
        assert!(verdict(with(1, None), &[below(4, 1, 1)]).is_ok());
        let semi_sync = Some((Acks::SemiSync, AckLevel::Durable));
        assert!(verdict(with(1, semi_sync), &[below(4, 1, 1)]).is_err(), "asked for by name");
        assert!(verdict(with(2, Some((Acks::Sync, AckLevel::Durable))), &[]).is_err());
        assert!(verdict(with(2, Some((Acks::Sync, AckLevel::Received))), &[]).is_ok());
        assert!(verdict(with(3, Some((Acks::SemiSync, AckLevel::Applied))), &[]).is_err());
    }

    #[test]
    fn degrade_below_what_is_committed_is_seen() {
        let group = GroupOptions { acks: Acks::Sync, ..GroupOptions::defaults(3) };
        let quorum = Quorum::of(&group);
        assert!(check_below(&[below(4, 2, 2), below(5, 2, 3)], &quorum).is_ok());
        assert!(check_below(&[below(4, 1, 2)], &quorum).is_err());
        assert!(check_below(&[below(4, 3, 2)], &quorum).is_err());
    }

    #[test]
    fn a_ledger_that_says_too_little_or_too_much_is_seen() {
        let interval = |first, last, writes, is_bound| Interval {
            opened: id(2),
            opened_ms: 1,
            closed_ms: Some(2),
            degraded: Degraded { first: id(first), last: id(last), writes, fewest: 2, is_bound },
        };
        let writes = [below(4, 2, 2), below(6, 2, 2)];
        assert!(check_ledger(&[interval(4, 6, 2, false)], &writes).is_ok());
        assert!(check_ledger(&[interval(4, 7, 2, false)], &writes).is_err(), "not the last");
        assert!(check_ledger(&[interval(4, 6, 3, false)], &writes).is_err(), "too many");
        assert!(check_ledger(&[interval(4, 5, 1, false)], &writes).is_err(), "one is missing");
        assert!(check_ledger(&[], &writes).is_err(), "both are missing");
        assert!(check_ledger(&[interval(3, 9, 7, true)], &writes).is_ok(), "a bound");
        assert!(check_ledger(&[interval(3, 9, 1, true)], &writes).is_err(), "no bound");
        assert!(check_ledger(&[interval(5, 9, 7, true)], &writes).is_err(), "not within it");
        let again = [below(4, 2, 2), below(6, 2, 2), below(6, 2, 2)];
        assert!(check_ledger(&[interval(4, 6, 3, false)], &again).is_err(), "one counts twice");
        let later = Interval { opened: id(8), ..interval(4, 4, 1, false) };
        let retried = [below(4, 2, 2), Below { interval: id(8), ..below(4, 2, 2) }, below(6, 2, 2)];
        assert!(check_ledger(&[interval(4, 6, 2, false), later], &retried).is_ok(), "sent again");
        assert!(check_ledger(&[interval(4, 6, 2, false)], &retried).is_err(), "in no interval");
        let open = Interval { closed_ms: None, ..interval(4, 6, 2, false) };
        assert!(check_ledger(&[open], &writes).is_err());
    }
}
