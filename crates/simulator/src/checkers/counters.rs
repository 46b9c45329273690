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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::increment;

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
