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

/// What one node takes for committed at an index, every other node takes for the same entry.
pub fn committed_prefix(commits: &[Commit]) -> Verdict {
    let mut committed: BTreeMap<(GroupId, u64), (u64, NodeId)> = BTreeMap::new();
    for commit in commits {
        let (epoch, index) = (commit.entry.epoch, commit.entry.index);
        let before = committed.entry((commit.group, index)).or_insert((epoch, commit.node));
        if before.0 != epoch {
            return Err(format!(
                "entry {index} of {:?} is committed twice: of epoch {} on {}, of epoch {epoch} on \
                 {}",
                commit.group, before.0, before.1, commit.node
            ));
        }
    }
    // Epochs never go down along a log.
    let mut last: Option<((GroupId, u64), u64)> = None;
    for ((group, index), (epoch, node)) in &committed {
        if let Some(((before, _), higher)) = last
            && before == *group
            && higher > *epoch
        {
            return Err(format!(
                "entry {index} of {group:?} is of epoch {epoch} on {node}, an earlier one of \
                 {higher}"
            ));
        }
        last = Some(((*group, *index), *epoch));
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
    use replication::version::{EntryId, Stamp};
    use replication::{DatacenterId, KeyspaceId};

    const GROUP: GroupId = GroupId {
        keyspace: KeyspaceId(1),
        generation: 0,
        partition: 0,
        datacenter: DatacenterId(0),
    };

    #[test]
    fn two_leaders_of_one_epoch_are_seen() {
        let start = |node, epoch| Leadership { at_us: 0, node: NodeId(node), group: GROUP, epoch };
        assert!(one_leader_per_epoch(&[start(0, 1), start(1, 2), start(0, 3)]).is_ok());
        assert!(one_leader_per_epoch(&[start(0, 1), start(1, 1)]).is_err());
        assert!(one_leader_per_epoch(&[start(0, 1), start(0, 1)]).is_err());
    }

    #[test]
    fn a_changed_committed_entry_is_seen() {
        let commit = |node, epoch, index| Commit {
            node: NodeId(node),
            group: GROUP,
            entry: EntryId { epoch, index },
        };
        assert!(committed_prefix(&[commit(0, 1, 1), commit(1, 1, 1), commit(0, 2, 2)]).is_ok());
        assert!(committed_prefix(&[commit(0, 1, 1), commit(1, 2, 1)]).is_err());
        assert!(committed_prefix(&[commit(0, 2, 1), commit(0, 1, 2)]).is_err());
    }

    #[test]
    fn one_name_for_two_values_is_seen() {
        let write = |counter| Written {
            at_us: 0,
            node: NodeId(0),
            stamp: Stamp(1),
            dot: Dot { actor: 1, counter },
        };
        let mut written = BTreeMap::new();
        written.insert(String::from("~a;"), vec![write(1)]);
        written.insert(String::from("~b;"), vec![write(2)]);
        assert!(one_value_per_name(&written).is_ok());
        written.insert(String::from("~c;"), vec![write(2)]);
        assert!(one_value_per_name(&written).is_err());
    }
}
