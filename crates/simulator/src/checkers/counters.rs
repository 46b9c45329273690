//! Counters: nothing that was acknowledged is missing, nothing is counted twice.

use super::Verdict;
use crate::history::{Action, Operation};

/// Checks a counter's final value: Σ acknowledged <= value <= Σ acknowledged + Σ unknown. All
/// increments of a run are positive.
pub fn check<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation>,
    end: Option<&str>,
) -> Verdict {
    let (mut acknowledged, mut unknown) = (0i64, 0i64);
    for operation in operations {
        if let Action::Increment(by) = operation.action {
            if operation.is_done() {
                acknowledged += by;
            } else if operation.may_have_happened() {
                unknown += by;
            }
        }
    }
    let value: i64 =
        end.unwrap_or("0").parse().map_err(|_| format!("{key}: the counter reads {end:?}"))?;
    if value < acknowledged {
        return Err(format!("{key}: {acknowledged} were acknowledged, the counter says {value}"));
    }
    if value > acknowledged + unknown {
        return Err(format!(
            "{key}: at most {acknowledged} + {unknown} were added, the counter says {value}"
        ));
    }
    Ok(())
}

/// Checks every value of a counter that a client was told, in its own time: at most what may have
/// been added before the answer; and at least what had been acknowledged before the question, of
/// what `sees` says that it must see.
pub fn check_answers<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation> + Clone,
    sees: impl Fn(&Operation, &Operation) -> bool,
) -> Verdict {
    for told in operations.clone() {
        let Some(value) = told.counted() else { continue };
        let (mut least, mut most) = (0i64, 0i64);
        for other in operations.clone() {
            let Action::Increment(by) = other.action else { continue };
            let own = std::ptr::eq(other, told);
            if other.may_have_happened() && other.invoked_us <= told.returned_us {
                most += by;
            }
            let before = other.is_done() && other.returned_us < told.invoked_us;
            if own || (before && sees(told, other)) {
                least += by;
            }
        }
        if !(least..=most).contains(&value) {
            return Err(format!(
                "{key}: {value} was answered at {} us; it must be between {least} and {most}",
                told.returned_us
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::increment;

    #[test]
    fn answers_have_bounds_in_their_time() {
        let told = |first, second| {
            let operations = [increment(first, 1, 2), increment(second, 3, 4)];
            let sees = |_: &Operation, _: &Operation| true;
            check_answers("k", operations.iter(), sees).is_ok()
        };
        assert!(told(Some(1), Some(2)));
        assert!(told(None, Some(1)) && told(None, Some(2)));
        assert!(!told(Some(1), Some(1)), "it must have seen the first");
        assert!(!told(Some(2), Some(2)), "nobody had added the second");
        assert!(!told(None, Some(3)));
    }

    #[test]
    fn the_sum_has_two_bounds() {
        let operations = [increment(Some(1), 1, 2), increment(None, 3, 4)];
        let verdict = |end| check("k", operations.iter(), end);
        assert!(verdict(Some("1")).is_ok());
        assert!(verdict(Some("2")).is_ok());
        assert!(verdict(None).is_err());
        assert!(verdict(Some("3")).is_err());
        assert!(verdict(Some("x")).is_err());
    }
}
