//! Reads see what was acknowledged before them and has survived, whatever else a failover has lost:
//! for keyspaces where acknowledged writes may be lost, and reads are not linearizable because of
//! that. The names of entries, (epoch, index), are the order.

use super::Verdict;
use crate::history::{Action, Operation};
use crate::observe::Written;
use replication::version::{Dot, EntryId};
use std::collections::{BTreeMap, BTreeSet};

/// Checks one key that is only SET and read; `committed` are the entries that somebody took for
/// committed, `written` the names of the values.
pub fn check<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation> + Clone,
    written: &BTreeMap<String, Vec<Written>>,
    committed: &BTreeSet<EntryId>,
) -> Verdict {
    let name_of =
        |value: &str| written.get(value)?.iter().map(|written| entry_of(written.dot)).max();
    let mut acknowledged: Vec<(u64, EntryId)> = Vec::new();
    for write in operations.clone().filter(|o| o.is_done() && o.action.is_write()) {
        let Action::Set(value) = &write.action else { return Ok(()) };
        let name = name_of(value).filter(|name| committed.contains(name));
        acknowledged.extend(name.map(|name| (write.returned_us, name)));
    }
    for read in operations.filter(|operation| operation.action == Action::Get) {
        let Some(value) = read.read() else { continue };
        let saw = match value {
            Some(value) => name_of(value),
            None => Some(EntryId::default()),
        };
        let Some(saw) = saw else { continue };
        let before = acknowledged.iter().filter(|(at_us, _)| *at_us < read.invoked_us);
        if let Some((at_us, name)) = before.max_by_key(|(_, name)| *name).filter(|w| w.1 > saw) {
            return Err(format!(
                "{key}: a read asked at {} us saw {value:?} ({saw:?}), older than {name:?}, which \
                 was acknowledged at {at_us} us and was not lost",
                read.invoked_us
            ));
        }
    }
    Ok(())
}

/// The entry whose name a record carries.
pub fn entry_of(dot: Dot) -> EntryId {
    EntryId { epoch: dot.actor, index: dot.counter }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::written;
    use crate::checkers::wgl::tests::{operation, set};
    use crate::history::{Answer, Outcome};

    fn read(value: Option<&str>, invoked: u64, returned: u64) -> Operation {
        let answer = Answer::Value(value.map(String::from));
        operation(Action::Get, Outcome::Done(answer), invoked, returned)
    }

    #[test]
    fn only_what_was_lost_may_be_missed() {
        let names: BTreeMap<String, Vec<Written>> =
            [("~a;", 1), ("~b;", 2)].map(|(v, n)| (v.to_string(), vec![written(1, n)])).into();
        let history = [set("~a;", 1, 2), set("~b;", 3, 4), read(Some("~a;"), 5, 6)];
        let entry = |index| EntryId { epoch: 1, index };
        let verdict = |committed: &[u64], history: &[Operation]| {
            let committed = committed.iter().map(|index| entry(*index)).collect();
            check("k", history.iter(), &names, &committed)
        };
        assert!(verdict(&[1, 2], &history).is_err(), "it misses the second");
        assert!(verdict(&[1], &history).is_ok(), "which was lost");
        let nothing = [set("~a;", 1, 2), read(None, 5, 6)];
        assert!(verdict(&[1], &nothing).is_err());
        let at_once = [set("~a;", 1, 2), set("~b;", 3, 6), read(Some("~a;"), 5, 6)];
        assert!(verdict(&[1, 2], &at_once).is_ok(), "at the same time");
    }
}
