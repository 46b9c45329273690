//! Linearizability of one key with any commands: the search of Wing and Gong with Lowe's memory of
//! states that led nowhere. Exponential in the number of concurrent commands, so keep those few.
//!
//! A command whose outcome is unknown may take effect at any time after its call, or never.
//! Commands of one connection that were both carried out take effect in the order of their calls.

use super::Verdict;
use crate::history::{Action, Answer, Operation, Outcome};
use std::collections::BTreeSet;

/// States that are looked at before the search gives up without a verdict.
const STATES_MAX: usize = 30_000;

/// How a search ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Search {
    Found,
    Impossible,
    GaveUp,
}

/// Checks the operations on one key.
pub fn check<'a>(key: &str, operations: impl Iterator<Item = &'a Operation>) -> Verdict {
    let mut operations: Vec<&Operation> = operations.filter(|o| matters(o)).collect();
    operations.sort_by_key(|operation| operation.invoked_us);
    match search(&operations, None) {
        Search::Found | Search::GaveUp => Ok(()),
        Search::Impossible => {
            Err(format!("{key}: not linearizable, and it fails with {}", first_bad(&operations)))
        }
    }
}

/// Whether there are too many orders to look at: [`check`] then passes without a verdict.
pub fn gives_up<'a>(operations: impl Iterator<Item = &'a Operation>) -> bool {
    let mut operations: Vec<&Operation> = operations.filter(|o| matters(o)).collect();
    operations.sort_by_key(|operation| operation.invoked_us);
    search(&operations, None) == Search::GaveUp
}

/// Reads without an answer and commands without an effect tell nothing.
fn matters(operation: &Operation) -> bool {
    match operation.outcome {
        Outcome::Done(_) => true,
        Outcome::Refused(_) => false,
        Outcome::Unknown(_) | Outcome::Pending => operation.action.is_write(),
    }
}

/// The operation that, by the order of returns, first makes the history impossible.
fn first_bad(operations: &[&Operation]) -> String {
    let mut done: Vec<&Operation> = operations.iter().copied().filter(|o| o.is_done()).collect();
    done.sort_by_key(|operation| operation.returned_us);
    for count in 1..=done.len() {
        let Some(last) = done.get(count - 1) else { break };
        let until = last.returned_us;
        if search(operations, Some(until)) == Search::Impossible {
            return format!(
                "{:?} -> {:?} of client {} ({} to {} us)",
                last.action, last.outcome, last.client, last.invoked_us, last.returned_us
            );
        }
    }
    String::from("its last operation")
}

/// A place in the search: which operations have taken effect, and what they have left.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    taken: Vec<u64>,
    value: Option<String>,
}

impl Place {
    fn has(&self, number: usize) -> bool {
        self.taken.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn with(&self, number: usize, value: Option<String>) -> Place {
        let mut taken = self.taken.clone();
        if let Some(word) = taken.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
        Place { taken, value }
    }
}

/// Looks for an order. With `until`, operations that return later need not take effect.
fn search(operations: &[&Operation], until: Option<u64>) -> Search {
    let limit = until.unwrap_or(u64::MAX);
    let must = |o: &Operation| o.is_done() && o.returned_us <= limit;
    let start = Place { taken: vec![0; operations.len().div_ceil(64).max(1)], value: None };
    let mut seen = BTreeSet::new();
    let mut stack = vec![start];
    while let Some(place) = stack.pop() {
        // Whatever is called after some waiting operation has returned must wait for it.
        let mut open = operations.iter().enumerate().filter(|(n, o)| must(o) && !place.has(*n));
        let Some(first_return) = open.by_ref().map(|(_, o)| o.returned_us).min() else {
            return Search::Found;
        };
        if seen.len() > STATES_MAX {
            return Search::GaveUp;
        }
        // Pushed in reverse: the earliest call is tried first.
        for (number, operation) in operations.iter().enumerate().rev() {
            if operation.invoked_us > first_return
                || place.has(number)
                || waits_for_its_connection(operations, &place, number)
            {
                continue;
            }
            if let Some(value) = apply(&place.value, operation, must(operation)) {
                let next = place.with(number, value);
                if seen.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
    }
    Search::Impossible
}

/// Whether an earlier command of the same connection, carried out, has not taken effect yet.
fn waits_for_its_connection(operations: &[&Operation], place: &Place, number: usize) -> bool {
    let Some(operation) = operations.get(number) else { return false };
    operations
        .iter()
        .enumerate()
        .take(number)
        .any(|(n, o)| o.connection == operation.connection && o.is_done() && !place.has(n))
}

/// The value after the operation, or `None` where its answer does not fit the value before.
/// An operation that `must` not is as good as one without an answer.
fn apply(value: &Option<String>, operation: &Operation, must: bool) -> Option<Option<String>> {
    let answer = match &operation.outcome {
        Outcome::Done(answer) if must => Some(answer),
        _ => None,
    };
    let fits = |expected: Answer| answer.is_none_or(|answer| *answer == expected);
    let old = value.as_deref();
    match &operation.action {
        Action::Get => fits(Answer::Value(value.clone())).then(|| value.clone()),
        Action::Set(new) => fits(Answer::Ok).then(|| Some(new.clone())),
        // Deleted together with others: how many there were does not say whether this one was.
        Action::Delete if operation.keys > 1 && answer == Some(&Answer::Ok) => Some(None),
        Action::Delete => fits(Answer::Number(i64::from(old.is_some()))).then_some(None),
        Action::SetIfAbsent(new) => fits(Answer::Number(i64::from(old.is_none())))
            .then(|| Some(old.unwrap_or(new).to_string())),
        Action::GetSet(new) => fits(Answer::Value(value.clone())).then(|| Some(new.clone())),
        Action::Append(tail) => {
            let new = format!("{}{tail}", old.unwrap_or(""));
            fits(Answer::Number(new.len() as i64)).then_some(Some(new))
        }
        Action::Clear => fits(Answer::Ok).then_some(None),
        // Nobody knows when it goes: keys that fade have a checker of their own.
        Action::SetFor(_, _) | Action::ExpireIn(_) => None,
        Action::Increment(by) => {
            let sum = old.unwrap_or("0").parse::<i64>().ok()? + by;
            fits(Answer::Number(sum)).then(|| Some(sum.to_string()))
        }
    }
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;
    use replication::{DatacenterId, NodeId};

    pub fn operation(action: Action, outcome: Outcome, invoked: u64, returned: u64) -> Operation {
        Operation {
            client: 0,
            connection: (invoked * 1000).wrapping_add(returned),
            node: NodeId(0),
            datacenter: DatacenterId(0),
            key: String::from("k"),
            action,
            invoked_us: invoked,
            returned_us: returned,
            outcome,
            asked: None,
            must_survive: None,
            copies: None,
            keys: 1,
        }
    }

    pub fn set(value: &str, invoked: u64, returned: u64) -> Operation {
        operation(Action::Set(value.into()), Outcome::Done(Answer::Ok), invoked, returned)
    }

    pub fn unknown_set(value: &str, invoked: u64) -> Operation {
        let outcome = Outcome::Unknown(String::from("UNKNOWN"));
        operation(Action::Set(value.into()), outcome, invoked, invoked + 1)
    }

    pub fn get(value: Option<&str>, invoked: u64, returned: u64) -> Operation {
        let answer = Answer::Value(value.map(String::from));
        operation(Action::Get, Outcome::Done(answer), invoked, returned)
    }

    pub fn increment(sum: Option<i64>, invoked: u64, returned: u64) -> Operation {
        let outcome = match sum {
            Some(sum) => Outcome::Done(Answer::Number(sum)),
            None => Outcome::Unknown(String::from("UNKNOWN")),
        };
        operation(Action::Increment(1), outcome, invoked, returned)
    }

    #[test]
    fn good_histories_pass() {
        let counters = [increment(Some(2), 1, 9), increment(Some(1), 2, 5), get(Some("2"), 10, 11)];
        check("k", counters.iter()).unwrap();
        let maybe = [increment(None, 1, 2), increment(Some(1), 3, 4), increment(Some(3), 5, 6)];
        check("k", maybe.iter()).unwrap();
        let never = [increment(None, 1, 2), increment(Some(1), 3, 4), increment(Some(2), 5, 6)];
        check("k", never.iter()).unwrap();
    }

    #[test]
    fn a_lost_and_a_doubled_increment_are_seen() {
        let lost = [increment(Some(1), 1, 2), increment(Some(1), 3, 4)];
        assert!(check("k", lost.iter()).is_err());
        let doubled = [increment(Some(1), 1, 2), get(Some("2"), 3, 4)];
        assert!(check("k", doubled.iter()).is_err());
    }

    #[test]
    fn a_stale_read_is_seen_and_named() {
        let stale = [set("a", 1, 2), set("b", 3, 4), get(Some("a"), 5, 6), get(Some("b"), 7, 8)];
        let error = check("k", stale.iter()).unwrap_err();
        assert!(error.contains("5 to 6"), "{error}");
    }

    #[test]
    fn one_claim_wins() {
        let claim = |value: &str, won: i64, from, to| {
            let outcome = Outcome::Done(Answer::Number(won));
            operation(Action::SetIfAbsent(value.into()), outcome, from, to)
        };
        check("k", [claim("a", 1, 1, 5), claim("b", 0, 2, 6)].iter()).unwrap();
        assert!(check("k", [claim("a", 1, 1, 5), claim("b", 1, 2, 6)].iter()).is_err());
    }

    #[test]
    fn a_pipeline_keeps_its_order() {
        let mut first = set("a", 1, 10);
        let mut second = set("b", 2, 10);
        let last = get(Some("a"), 11, 12);
        check("k", [first.clone(), second.clone(), last.clone()].iter()).unwrap();
        first.connection = 7;
        second.connection = 7;
        assert!(check("k", [first, second, last].iter()).is_err());
    }

    #[test]
    fn agrees_with_the_zones_on_random_histories() {
        let mut random = replication::random::Random::new(11);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..400 {
            let mut operations = Vec::new();
            for number in 0..8 {
                let from = random.range(1, 40) * 100 + number;
                let to = from + random.range(1, 12) * 100;
                operations.push(match random.range(0, 3) {
                    0 => set(&format!("v{number}"), from, to),
                    1 => unknown_set(&format!("v{number}"), from),
                    _ => {
                        let value = format!("v{}", random.range(0, 8));
                        let known = random.range(0, 4) > 0;
                        get(known.then_some(value.as_str()), from, to)
                    }
                });
            }
            let zones = super::super::zones::check("k", operations.iter());
            let search = check("k", operations.iter());
            assert_eq!(zones.is_ok(), search.is_ok(), "{operations:#?} {zones:?} {search:?}");
            if search.is_ok() { good += 1 } else { bad += 1 }
        }
        assert!(good > 20 && bad > 20, "{good} {bad}");
    }
}
