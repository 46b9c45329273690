//! One leader per epoch, and a committed prefix that never changes.

use super::Verdict;
use crate::observe::{Commit, Leadership, Written};
use replication::version::Dot;
use replication::{GroupId, NodeId};
use std::collections::BTreeMap;

/// No epoch of a group has two leaders, and no node starts to lead twice in one epoch (every start
/// of a leadership takes a new one).
pub fn one_leader_per_epoch(leaderships: &[Leadership]) -> Verdict {
    let mut leaders: BTreeMap<(GroupId, u64), NodeId> = BTreeMap::new();
    for start in leaderships {
        if let Some(other) = leaders.insert((start.group, start.epoch), start.node) {
            return Err(format!(
                "epoch {} of {:?} began to be led twice, by {other} and by {} (at {} us)",
                start.epoch, start.group, start.node, start.at_us
            ));
        }
    }
    Ok(())
}

/// What one node takes for committed at an index, every other node takes for the same entry, byte
/// for byte; and epochs never go down along a log. So committed prefixes match, and never change.
pub fn committed_prefix(commits: &[Commit]) -> Verdict {
    let mut committed: BTreeMap<(GroupId, u64), &Commit> = BTreeMap::new();
    for commit in commits {
        let (epoch, index) = (commit.entry.epoch, commit.entry.index);
        let before = *committed.entry((commit.group, index)).or_insert(commit);
        if (before.entry.epoch, before.digest) != (epoch, commit.digest) {
            return Err(format!(
                "entry {index} of {:?} is committed twice: of epoch {} on {}, of epoch {epoch} on \
                 {}, and they are not the same",
                commit.group, before.entry.epoch, before.node, commit.node
            ));
        }
    }
    let mut last: Option<&Commit> = None;
    for commit in committed.into_values() {
        if let Some(before) = last
            && before.group == commit.group
            && before.entry.epoch > commit.entry.epoch
        {
            let (group, index, epoch) = (commit.group, commit.entry.index, commit.entry.epoch);
            return Err(format!(
                "entry {index} of {group:?} is of epoch {epoch} on {}, an earlier one of {}",
                commit.node, before.entry.epoch
            ));
        }
        last = Some(commit);
    }
    Ok(())
}

/// A write that datacenters exchange is committed once in each group, and says the same everywhere.
pub fn exactly_once(commits: &[Commit]) -> Verdict {
    let mut places: BTreeMap<(GroupId, Dot), u64> = BTreeMap::new();
    let mut payloads: BTreeMap<Dot, u64> = BTreeMap::new();
    for commit in commits {
        let Some((dot, payload)) = commit.origin else { continue };
        let (group, index) = (commit.group, commit.entry.index);
        let before = *places.entry((group, dot)).or_insert(index);
        if before != index {
            return Err(format!("{dot:?} is entry {before} and entry {index} of {group:?}"));
        }
        if *payloads.entry(dot).or_insert(payload) != payload {
            return Err(format!("{dot:?} does not say the same in all datacenters"));
        }
    }
    Ok(())
}

/// The same name is never given to two values: for leader-follower this is log matching.
pub fn one_value_per_name(written: &BTreeMap<String, Vec<Written>>) -> Verdict {
    let mut names: BTreeMap<Dot, &str> = BTreeMap::new();
    for (value, writes) in written {
        for write in writes {
            if let Some(other) = names.insert(write.dot, value)
                && other != value
            {
                return Err(format!("{other} and {value} were both logged as {:?}", write.dot));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::{GROUP, written};
    use replication::DatacenterId;
    use replication::version::EntryId;

    #[test]
    fn two_leaders_of_one_epoch_are_seen() {
        let start = |node, epoch| Leadership { at_us: 0, node: NodeId(node), group: GROUP, epoch };
        assert!(one_leader_per_epoch(&[start(0, 1), start(1, 2), start(0, 3)]).is_ok());
        assert!(one_leader_per_epoch(&[start(0, 1), start(1, 1)]).is_err());
        assert!(one_leader_per_epoch(&[start(0, 1), start(0, 1)]).is_err());
    }

    #[test]
    fn a_changed_committed_entry_is_seen() {
        let commit =
            |node, epoch, index| Commit::of(NodeId(node), GROUP, EntryId { epoch, index }, b"body");
        assert!(committed_prefix(&[commit(0, 1, 1), commit(1, 1, 1), commit(0, 2, 2)]).is_ok());
        assert!(committed_prefix(&[commit(0, 1, 1), commit(1, 2, 1)]).is_err());
        assert!(committed_prefix(&[commit(0, 2, 1), commit(0, 1, 2)]).is_err());
        let other = Commit::of(NodeId(1), GROUP, EntryId { epoch: 1, index: 1 }, b"other");
        assert!(committed_prefix(&[commit(0, 1, 1), other]).is_err());
    }

    #[test]
    fn a_write_that_is_taken_twice_or_changed_on_its_way_is_seen() {
        let commit = |node, index, counter, payload| Commit {
            origin: Some((Dot { actor: 1, counter }, payload)),
            ..Commit::of(NodeId(node), GROUP, EntryId { epoch: 1, index }, b"body")
        };
        assert!(
            exactly_once(&[commit(0, 1, 1, 7), commit(1, 1, 1, 7), commit(0, 2, 2, 8)]).is_ok()
        );
        assert!(exactly_once(&[commit(0, 1, 1, 7), commit(0, 2, 1, 7)]).is_err());
        let elsewhere = GroupId { datacenter: DatacenterId(1), ..GROUP };
        let changed = Commit { group: elsewhere, ..commit(3, 9, 1, 8) };
        assert!(exactly_once(&[commit(0, 1, 1, 7), changed]).is_err());
    }

    #[test]
    fn one_name_for_two_values_is_seen() {
        let mut values = BTreeMap::new();
        values.insert(String::from("~a;"), vec![written(1, 1)]);
        values.insert(String::from("~b;"), vec![written(1, 2)]);
        assert!(one_value_per_name(&values).is_ok());
        values.insert(String::from("~c;"), vec![written(1, 2)]);
        assert!(one_value_per_name(&values).is_err());
    }
}
