//! W + R > N: a read that begins after an acknowledged write has ended returns that write's value,
//! or one with a higher stamp.

use super::Verdict;
use crate::history::{Action, Operation};
use replication::version::Stamp;

/// Checks the operations on one key that only saw SETs of unique values and GETs, all of them with
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
        let returned = value.map_or(Some(Stamp::ZERO), &stamp_of);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::{get, set};

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
    fn an_older_value_or_none_is_seen() {
        let older = [set("a", 1, 2), set("b", 3, 4), get(Some("a"), 5, 6)];
        assert!(check("k", older.iter(), stamp_of).is_err());
        let none = [set("a", 1, 2), get(None, 5, 6)];
        assert!(check("k", none.iter(), stamp_of).is_err());
        let nowhere = [set("a", 1, 2), get(Some("c"), 5, 6)];
        assert!(check("k", nowhere.iter(), stamp_of).is_err());
    }
}
