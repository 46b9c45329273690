//! SCAN, KEYS and DBSIZE: a key that is there throughout is never missed, and none is shown that
//! nobody wrote.

use super::Verdict;
use crate::history::{History, Operation};
use crate::workload::Survey;

/// Checks all surveys of a run. `misses_nothing`: every acknowledged write is seen by whatever
/// comes after it.
pub fn check(history: &History, misses_nothing: bool) -> Verdict {
    for survey in &history.surveys {
        for key in &survey.keys {
            let wrote = |o: &Operation| {
                o.action.is_write() && o.may_have_happened() && o.invoked_us <= survey.ended_us
            };
            if !history.of(key).any(wrote) {
                return Err(format!("nobody wrote {key}, and it was listed"));
            }
        }
        if misses_nothing {
            misses_none(history, survey)?;
        }
    }
    Ok(())
}

fn misses_none(history: &History, survey: &Survey) -> Verdict {
    let (began, ended) = (survey.began_us, survey.ended_us);
    let (mut least, mut most) = (0, 0);
    for key in history.keys() {
        let writes = || history.of(key).filter(|o| o.action.is_write() && o.may_have_happened());
        most += i64::from(writes().any(|o| o.invoked_us <= ended));
        let there = writes().any(|o| o.is_done() && o.returned_us < began)
            && !writes().any(|o| o.action.removes());
        least += i64::from(there);
        if there && survey.count.is_none() && !survey.keys.contains(key) {
            return Err(format!(
                "{key} was there throughout, and was not listed ({began} to {ended} us): {:?}",
                survey.keys
            ));
        }
    }
    match survey.count {
        Some(count) if !(least..=most).contains(&count) => Err(format!(
            "{count} keys were counted ({began} to {ended} us); there were {least} to {most}"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::{get, set, unknown_set};

    fn verdict(operations: &[Operation], keys: &[&str], count: Option<i64>) -> bool {
        let survey = Survey::of(10, 20, keys, count);
        let operations = operations.to_vec();
        let history = History { operations, surveys: vec![survey], ..History::default() };
        check(&history, true).is_ok()
    }

    #[test]
    fn a_key_that_is_there_throughout_is_listed_and_one_of_which_nobody_knows_is_not() {
        let written = [set("a", 1, 2)];
        assert!(verdict(&written, &["k"], None));
        assert!(!verdict(&written, &[], None));
        assert!(!verdict(&written, &["k", "ghost"], None));
        assert!(verdict(&[set("a", 9, 11)], &[], None), "it was not there from the start");
        assert!(verdict(&[unknown_set("a", 1)], &["k"], None));
        assert!(!verdict(&[get(None, 1, 2)], &["k"], None), "reading writes nothing");
        let deleted = Operation { action: crate::history::Action::Delete, ..set("a", 12, 13) };
        assert!(verdict(&[set("a", 1, 2), deleted], &[], None));
    }

    #[test]
    fn a_count_is_between_what_was_there_throughout_and_what_may_have_been() {
        let written = [set("a", 1, 2)];
        assert!(verdict(&written, &[], Some(1)));
        assert!(!verdict(&written, &[], Some(0)) && !verdict(&written, &[], Some(2)));
        assert!(verdict(&[set("a", 12, 13)], &[], Some(0)));
    }
}
