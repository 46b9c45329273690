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
            let wrote = |o: &Operation| o.may_have_happened() && o.invoked_us <= survey.ended_us;
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
