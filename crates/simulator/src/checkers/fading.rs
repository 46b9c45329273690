//! Keys that expire: what has gone, or was replaced, never comes back.
//!
//! When a key goes depends on the leader's clock, which may jump; so nothing is said about that.

use super::Verdict;
use crate::history::{Action, Operation};

/// Checks the operations on one key whose values are unique and each written once, in a
/// linearizable keyspace: a value that was acknowledged, and was then read no more, is not read
/// again.
pub fn check<'a>(key: &str, operations: impl Iterator<Item = &'a Operation> + Clone) -> Verdict {
    for write in operations.clone().filter(|o| o.is_done()) {
        let Some(value) = write.action.value() else { continue };
        let reads = operations
            .clone()
            .filter(|o| o.action == Action::Get && o.invoked_us > write.returned_us)
            .filter_map(|o| Some((o, o.read()?)));
        let gone = reads.clone().filter(|(_, read)| *read != Some(value));
        let Some(gone_us) = gone.map(|(o, _)| o.returned_us).min() else { continue };
        let mut again = reads.filter(|(o, read)| *read == Some(value) && o.invoked_us > gone_us);
        if let Some((read, _)) = again.next() {
            return Err(format!(
                "{key}: {value} had gone at {gone_us} us, and was read again ({} to {} us)",
                read.invoked_us, read.returned_us
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::{get, set};

    #[test]
    fn what_has_gone_stays_gone() {
        let faded = [set("a", 1, 2), get(Some("a"), 3, 4), get(None, 5, 6), get(None, 7, 8)];
        assert!(check("k", faded.iter()).is_ok());
        let concurrent = [set("a", 1, 9), get(None, 3, 4), get(Some("a"), 5, 6)];
        assert!(check("k", concurrent.iter()).is_ok());
        let back = [set("a", 1, 2), get(None, 3, 4), get(Some("a"), 5, 6)];
        assert!(check("k", back.iter()).is_err());
        let old = [set("a", 1, 2), get(Some("b"), 3, 4), get(Some("a"), 5, 6)];
        assert!(check("k", old.iter()).is_err());
    }
}
