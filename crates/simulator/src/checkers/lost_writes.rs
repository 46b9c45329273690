//! Lost writes, seen in keys that are only appended to: their final value is the history that
//! survived.

use super::Verdict;
use crate::history::{Action, Operation};
use crate::observe::{Written, tokens};
use std::collections::{BTreeMap, BTreeSet};

/// Checks the final value of a key that only saw APPENDs and GETs: what was refused is not in it,
/// nothing is in it twice, and, where acknowledged writes survive (A + E > N, or as the operation
/// says for itself), all of them are.
pub fn check<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation>,
    end: Option<&str>,
    acknowledged_survives: bool,
) -> Verdict {
    let end = tokens(end.unwrap_or("").as_bytes());
    let survivors: BTreeSet<&str> = end.iter().map(String::as_str).collect();
    if survivors.len() < end.len() {
        return Err(format!("{key}: a value was appended twice: {end:?}"));
    }
    let mut written = BTreeSet::new();
    for operation in operations {
        let Action::Append(value) = &operation.action else { continue };
        written.insert(value.as_str());
        let survives = survivors.contains(value.as_str());
        let must_survive = operation.must_survive.unwrap_or(acknowledged_survives);
        if must_survive && operation.is_done() && !survives {
            return Err(format!(
                "{key}: lost write: {value} was acknowledged at {} us and is not in {end:?}",
                operation.returned_us
            ));
        }
        if !operation.may_have_happened() && survives {
            return Err(format!(
                "{key}: {value} was refused ({:?}) and took effect",
                operation.outcome
            ));
        }
    }
    match survivors.difference(&written).next() {
        Some(value) => Err(format!("{key}: nobody wrote {value}")),
        None => Ok(()),
    }
}

/// The loss of a failover is a suffix: of the values that one leadership logged, once one is lost
/// nothing that it logged later survives. `survivors` are the values in the final lists; `lists`
/// says of a value whether it belongs to a list at all. Names are (epoch, index).
pub fn loss_is_a_suffix(
    written: &BTreeMap<String, Vec<Written>>,
    lists: &BTreeSet<String>,
    survivors: &BTreeSet<String>,
) -> Verdict {
    let mut order: Vec<(u64, u64, &str)> = written
        .iter()
        .filter(|(value, _)| lists.contains(*value))
        .filter_map(|(value, writes)| {
            let dot = writes.first()?.dot;
            Some((dot.actor, dot.counter, value.as_str()))
        })
        .collect();
    order.sort_unstable();
    let mut lost: Option<(u64, u64, &str)> = None;
    for (epoch, index, value) in order {
        if !survivors.contains(value) {
            lost = lost.filter(|before| before.0 == epoch).or(Some((epoch, index, value)));
        } else if let Some((of, at, missing)) = lost
            && of == epoch
        {
            return Err(format!(
                "the loss is not a suffix: of epoch {epoch}, {missing} (entry {at}) is lost and \
                 {value} (entry {index}) survives"
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

    fn append(value: &str, outcome: Outcome) -> Operation {
        operation(Action::Append(value.into()), outcome, 1, 2)
    }

    #[test]
    fn lost_doubled_refused_and_unheard_of_values_are_seen() {
        let operations = [
            append("~a;", Outcome::Done(Answer::Number(3))),
            append("~b;", Outcome::Unknown(String::new())),
            append("~c;", Outcome::Refused(String::new())),
        ];
        let verdict = |end, survives| check("k", operations.iter(), Some(end), survives);
        assert!(verdict("~a;", true).is_ok());
        assert!(verdict("~b;~a;", true).is_ok());
        assert!(verdict("~b;", true).is_err());
        assert!(verdict("~b;", false).is_ok());
        assert!(verdict("~a;~a;", true).is_err());
        assert!(verdict("~a;~c;", true).is_err());
        assert!(verdict("~a;~d;", true).is_err());
    }

    #[test]
    fn a_hole_is_no_suffix() {
        let mut writes = BTreeMap::new();
        for (value, epoch, index) in [("~a;", 1, 1), ("~b;", 1, 2), ("~c;", 1, 3), ("~d;", 2, 2)] {
            writes.insert(String::from(value), vec![written(epoch, index)]);
        }
        let lists: BTreeSet<String> = writes.keys().cloned().collect();
        let survivors = |values: &[&str]| -> BTreeSet<String> {
            values.iter().map(|v| v.to_string()).collect()
        };
        let verdict = |values: &[&str]| loss_is_a_suffix(&writes, &lists, &survivors(values));
        assert!(verdict(&["~a;", "~b;", "~c;", "~d;"]).is_ok());
        assert!(verdict(&["~a;", "~d;"]).is_ok());
        assert!(verdict(&["~d;"]).is_ok());
        assert!(verdict(&["~a;", "~c;", "~d;"]).is_err());
    }
}
