//! W + R > N: a read that begins after an acknowledged write has ended returns that write's value,
//! or one with a higher stamp. Inside one datacenter of a multi-leader keyspace the same holds, and
//! also after a read.

use super::Verdict;
use crate::history::{Action, Answer, Operation, Outcome};
use replication::version::Stamp;

/// Checks the operations on one key that saw SETs of unique values, DELs and GETs, all of them with
/// quorums that overlap. `stamp_of` is a value's stamp, as the replicas' logs have it.
pub fn check<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation> + Clone,
    stamp_of: impl Fn(&str) -> Option<Stamp>,
) -> Verdict {
    for read in operations.clone() {
        let Some(value) = read.read() else { continue };
        if let Some(value) = value
            && !operations.clone().any(|o| o.action.value() == Some(value) && o.may_have_happened())
        {
            return Err(format!("{key}: {value} was read, and nobody can have written it"));
        }
        nothing_came_back(key, operations.clone(), read, value)?;
        // What a delete leaves has a stamp that no log shows.
        let deleted = value.is_none() && operations.clone().any(|o| o.action == Action::Delete);
        let returned = value.map_or(Some(Stamp::ZERO).filter(|_| !deleted), &stamp_of);
        for write in operations.clone() {
            let Action::Set(written) = &write.action else { continue };
            if !write.is_done() || write.returned_us >= read.invoked_us {
                continue;
            }
            // SETs that wait together are written as one, the last: the others have no stamp.
            let Some(stamp) = stamp_of(written) else { continue };
            if value != Some(written.as_str()) && returned.is_some_and(|r| r < stamp) {
                return Err(format!(
                    "{key}: a read ({} to {} us) returned {value:?}, though {written} with a \
                     higher stamp was acknowledged at {} us",
                    read.invoked_us, read.returned_us, write.returned_us
                ));
            }
        }
    }
    Ok(())
}

/// A value that was acknowledged before a delete began is not read after that delete has ended.
/// Only a delete that answered 1 has written: one that answered 0 read what another delete, perhaps
/// short of W, had left on some replicas, and other reads may still miss that.
fn nothing_came_back<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation> + Clone,
    read: &Operation,
    value: Option<&str>,
) -> Verdict {
    let set = |o: &&Operation| matches!(&o.action, Action::Set(v) if Some(v.as_str()) == value);
    let Some(set) = operations.clone().find(set).filter(|set| set.is_done()) else { return Ok(()) };
    let has_written =
        |o: &&Operation| matches!(o.outcome, Outcome::Done(Answer::Number(number)) if number > 0);
    let mut deletes = operations.filter(|o| o.action == Action::Delete).filter(has_written);
    let between =
        deletes.find(|o| set.returned_us < o.invoked_us && o.returned_us < read.invoked_us);
    match between {
        Some(delete) => Err(format!(
            "{key}: {value:?} was read ({} to {} us), though a delete at {} us came after it",
            read.invoked_us, read.returned_us, delete.returned_us
        )),
        None => Ok(()),
    }
}

/// Checks the operations of one datacenter on one key that only saw SETs of unique values and GETs:
/// what one read has shown, the next one shows, or something with a higher stamp.
pub fn check_datacenter<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation> + Clone,
    stamp_of: impl Fn(&str) -> Option<Stamp>,
) -> Verdict {
    let shown = |o: &Operation| match &o.action {
        Action::Set(value) if o.is_done() => stamp_of(value),
        _ => o.read().map(|value| value.map_or(Some(Stamp::ZERO), &stamp_of))?,
    };
    let mut seen: Vec<(&Operation, Stamp)> =
        operations.filter_map(|o| Some((o, shown(o)?))).collect();
    seen.sort_by_key(|(operation, _)| operation.invoked_us);
    for (later, stamp) in seen.iter().filter(|(o, _)| o.action == Action::Get) {
        let before =
            |(o, newer): &&(&Operation, Stamp)| o.returned_us < later.invoked_us && newer > stamp;
        if let Some((earlier, _)) = seen.iter().find(before) {
            return Err(format!(
                "{key}: a read ({} to {} us) returned {:?}, though its datacenter had something \
                 newer at {} us: {:?}",
                later.invoked_us,
                later.returned_us,
                later.outcome,
                earlier.returned_us,
                earlier.action
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::{get, operation, set};
    use crate::history::{Answer, Outcome};

    fn stamp_of(value: &str) -> Option<Stamp> {
        match value {
            "a" => Some(Stamp(10)),
            "b" => Some(Stamp(20)),
            _ => None,
        }
    }

    #[test]
    fn the_acknowledged_or_a_newer_value_is_read() {
        let newer = [set("b", 1, 2), set("a", 3, 4), get(Some("b"), 5, 6)];
        assert!(check("k", newer.iter(), stamp_of).is_ok());
        let concurrent = [set("a", 1, 2), set("b", 3, 9), get(Some("a"), 5, 6)];
        assert!(check("k", concurrent.iter(), stamp_of).is_ok());
    }

    #[test]
    fn a_deleted_value_that_is_back_is_seen() {
        let answer = Outcome::Done(Answer::Number(1));
        let delete = operation(Action::Delete, answer, 3, 4);
        let back = [set("a", 1, 2), delete.clone(), get(Some("a"), 5, 6)];
        assert!(check("k", back.iter(), stamp_of).is_err());
        let gone = [set("a", 1, 2), delete.clone(), get(None, 5, 6)];
        assert!(check("k", gone.iter(), stamp_of).is_ok());
        let nothing = operation(Action::Delete, Outcome::Done(Answer::Number(0)), 3, 4);
        let unseen = [set("a", 1, 2), nothing, get(Some("a"), 5, 6)];
        assert!(check("k", unseen.iter(), stamp_of).is_ok(), "it wrote nothing");
        let concurrent = [set("a", 1, 4), delete, get(Some("a"), 5, 6)];
        assert!(check("k", concurrent.iter(), stamp_of).is_ok());
    }

    #[test]
    fn a_datacenter_that_shows_what_it_had_overcome_is_seen() {
        let good = [set("a", 1, 2), get(Some("b"), 3, 4), get(Some("b"), 5, 6)];
        assert!(check_datacenter("k", good.iter(), stamp_of).is_ok());
        let back = [set("a", 1, 2), get(Some("b"), 3, 4), get(Some("a"), 5, 6)];
        assert!(check_datacenter("k", back.iter(), stamp_of).is_err());
        let nothing = [set("a", 1, 2), get(None, 3, 4)];
        assert!(check_datacenter("k", nothing.iter(), stamp_of).is_err());
    }

    #[test]
    fn an_older_value_or_none_is_seen() {
        let older = [set("a", 1, 2), set("b", 3, 4), get(Some("a"), 5, 6)];
        assert!(check("k", older.iter(), stamp_of).is_err());
        let none = [set("a", 1, 2), get(None, 5, 6)];
        assert!(check("k", none.iter(), stamp_of).is_err());
        let nowhere = [set("a", 1, 2), get(Some("c"), 5, 6)];
        assert!(check("k", nowhere.iter(), stamp_of).is_err());
    }
}
