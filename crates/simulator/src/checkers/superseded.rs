//! Last write wins, told without stamps: a write that came after another in its own datacenter, or
//! whose datacenter had shown the other before, always wins over it.

use super::Verdict;
use crate::history::{Action, Operation};

/// Checks the final value of a key that only saw SETs of unique values, DELs and GETs, in a
/// multi-leader keyspace whose acknowledged writes survive.
pub fn check<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation> + Clone,
    end: Option<&str>,
) -> Verdict {
    let writes = operations.clone().filter(|o| o.is_done() && o.action.is_write());
    let Some(end) = end else {
        // Nothing is there: some delete must have won over every acknowledged write.
        let deleted =
            operations.clone().any(|o| matches!(o.action, Action::Delete) && o.may_have_happened());
        return match writes.last() {
            Some(write) if !deleted => Err(format!(
                "{key}: {:?} was acknowledged at {} us, and nothing is there",
                write.action, write.returned_us
            )),
            _ => Ok(()),
        };
    };
    let Some(origin) = operations.clone().find(|o| o.action.value() == Some(end)) else {
        return Err(format!("{key}: nobody wrote {end}"));
    };
    if !origin.may_have_happened() {
        return Err(format!("{key}: {end} was refused ({:?}) and is there", origin.outcome));
    }
    for later in writes {
        // Writing a value and reading it both prove that the datacenter had it.
        let seen = operations.clone().find(|o| {
            let shows =
                (o.is_done() && o.action.value() == Some(end)) || o.read() == Some(Some(end));
            shows && o.datacenter == later.datacenter && o.returned_us < later.invoked_us
        });
        if let (Some(seen), true) = (seen, later.action.value() != Some(end)) {
            return Err(format!(
                "{key}: {end} is there, but {:?} (acknowledged at {} us) came after it: the \
                 datacenter had it at {} us",
                later.action, later.returned_us, seen.returned_us
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::{get, set};
    use replication::DatacenterId;

    fn elsewhere(mut operation: Operation) -> Operation {
        operation.datacenter = DatacenterId(1);
        operation
    }

    #[test]
    fn concurrent_writes_may_end_either_way() {
        let operations = [set("a", 1, 2), elsewhere(set("b", 3, 4))];
        assert!(check("k", operations.iter(), Some("a")).is_ok());
        assert!(check("k", operations.iter(), Some("b")).is_ok());
        assert!(check("k", operations.iter(), None).is_err());
        assert!(check("k", operations.iter(), Some("c")).is_err());
    }

    #[test]
    fn what_was_seen_never_wins() {
        let operations =
            [set("a", 1, 2), elsewhere(get(Some("a"), 3, 4)), elsewhere(set("b", 5, 6))];
        assert!(check("k", operations.iter(), Some("b")).is_ok());
        assert!(check("k", operations.iter(), Some("a")).is_err());
        let same_place = [set("a", 1, 2), set("b", 5, 6)];
        assert!(check("k", same_place.iter(), Some("a")).is_err());
    }
}
