//! Reads of followers are stale, but not of what may be lost: each value that was read is, or comes
//! to be, committed.

use super::Verdict;
use super::surviving_reads::entry_of;
use crate::history::{Action, Operation};
use crate::observe::Written;
use replication::version::EntryId;
use std::collections::{BTreeMap, BTreeSet};

/// Checks the reads of one key that is only SET and read: those that followers have answered, and
/// those of a leader that shows only what is committed, too (C <= A). `committed` are the entries
/// that somebody took for committed, `written` the names of the values.
pub fn check<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation>,
    written: &BTreeMap<String, Vec<Written>>,
    committed: &BTreeSet<EntryId>,
) -> Verdict {
    for read in operations.filter(|operation| operation.action == Action::Get) {
        let Some(Some(value)) = read.read() else { continue };
        let names = written.get(value).into_iter().flatten().map(|written| entry_of(written.dot));
        let names: Vec<EntryId> = names.collect();
        // Of what has left a log in the turn that committed it, nobody took note.
        let is_replaced = |name: &EntryId| {
            let in_its_place = committed.iter().any(|other| other.index == name.index);
            in_its_place && !committed.contains(name)
        };
        if !names.is_empty() && names.iter().all(is_replaced) {
            return Err(format!(
                "{key}: a read asked at {} us saw {value}, of {names:?}, which was never committed",
                read.invoked_us
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::written;
    use crate::checkers::wgl::tests::operation;
    use crate::history::{Answer, Outcome};

    #[test]
    fn what_is_never_committed_is_seen() {
        let names = BTreeMap::from([(String::from("~a;"), vec![written(2, 7)])]);
        let answer = Answer::Value(Some(String::from("~a;")));
        let read = operation(Action::Get, Outcome::Done(answer), 5, 6);
        let verdict = |committed: &[EntryId]| {
            check("k", [&read].into_iter(), &names, &committed.iter().copied().collect())
        };
        assert!(verdict(&[EntryId { epoch: 2, index: 7 }]).is_ok());
        assert!(verdict(&[EntryId { epoch: 3, index: 7 }]).is_err());
    }
}
