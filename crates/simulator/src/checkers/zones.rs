//! Linearizability of one key that only sees SETs of unique values and GETs, in O(n log n).
//!
//! Gibbons and Korach, "Testing Shared Memories" (1997): the operations on one value form a
//! cluster; its zone lies between its first return and its last call. A *forward* zone (the first
//! return comes before the last call) means that the register held this value all through the
//! zone. So no two forward zones may overlap, and no cluster may have to fit into another's
//! forward zone.

use super::Verdict;
use crate::history::{Action, Operation};
use std::collections::BTreeMap;

/// The register before its first write.
const INITIAL: &str = "(nothing)";

/// The operations on one value.
struct Cluster {
    written_from: Option<u64>,
    first_return: u64,
    last_call: u64,
    read: bool,
    needed: bool,
}

/// Checks the operations on one key. Deletes and conditional writes do not belong here.
pub fn check<'a>(key: &str, operations: impl Iterator<Item = &'a Operation>) -> Verdict {
    let mut clusters: BTreeMap<&str, Cluster> = BTreeMap::new();
    clusters.insert(
        INITIAL,
        Cluster { written_from: Some(0), first_return: 0, last_call: 0, read: true, needed: true },
    );
    for operation in operations {
        match &operation.action {
            Action::Set(value) if operation.may_have_happened() => {
                let cluster = clusters.entry(value).or_insert_with(Cluster::empty);
                cluster.written_from = Some(operation.invoked_us);
                cluster.last_call = cluster.last_call.max(operation.invoked_us);
                if operation.is_done() {
                    cluster.first_return = cluster.first_return.min(operation.returned_us);
                    cluster.needed = true;
                }
            }
            Action::Get => {
                let Some(value) = operation.read() else { continue };
                let cluster =
                    clusters.entry(value.unwrap_or(INITIAL)).or_insert_with(Cluster::empty);
                cluster.first_return = cluster.first_return.min(operation.returned_us);
                cluster.last_call = cluster.last_call.max(operation.invoked_us);
                cluster.read = true;
            }
            _ => {}
        }
    }
    check_origins(key, &clusters)?;
    check_zones(key, &clusters)
}

impl Cluster {
    fn empty() -> Cluster {
        Cluster {
            written_from: None,
            first_return: u64::MAX,
            last_call: 0,
            read: false,
            needed: false,
        }
    }
}

/// Every value that was read was written, and not only later.
fn check_origins(key: &str, clusters: &BTreeMap<&str, Cluster>) -> Verdict {
    for (value, cluster) in clusters {
        match cluster.written_from {
            None => return Err(format!("{key}: {value} was read, and nobody can have written it")),
            Some(from) if cluster.first_return < from => {
                return Err(format!("{key}: {value} was read before it was written"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn check_zones(key: &str, clusters: &BTreeMap<&str, Cluster>) -> Verdict {
    let mut forward = Vec::new();
    let mut backward = Vec::new();
    for (value, cluster) in clusters {
        if !cluster.read && !cluster.needed {
            continue;
        }
        if cluster.first_return < cluster.last_call {
            forward.push((cluster.first_return, cluster.last_call, *value));
        } else {
            backward.push((cluster.last_call, cluster.first_return, *value));
        }
    }
    forward.sort_unstable();
    for pair in forward.windows(2) {
        let [(_, end, value), (start, _, next)] = pair else { continue };
        if start < end {
            return Err(format!(
                "{key}: not linearizable: {value} was still read at {end} us, after {next} had \
                 been there at {start} us"
            ));
        }
    }
    for (start, end, value) in backward {
        let after = forward.partition_point(|zone| zone.0 < start);
        let Some((from, to, around)) = after.checked_sub(1).and_then(|place| forward.get(place))
        else {
            continue;
        };
        if *from < start && end < *to {
            return Err(format!(
                "{key}: not linearizable: {value} came and went ({start} to {end} us) while \
                 {around} was there ({from} to {to} us)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::checkers::wgl::tests::{get, set, unknown_set};

    #[test]
    fn good_histories_pass() {
        let sequential =
            [set("a", 1, 2), get(Some("a"), 3, 4), set("b", 5, 6), get(Some("b"), 7, 8)];
        check("k", sequential.iter()).unwrap();
        let concurrent = [
            set("a", 1, 10),
            set("b", 2, 9),
            get(Some("b"), 11, 12),
            get(None, 1, 3),
            get(Some("a"), 4, 6),
        ];
        check("k", concurrent.iter()).unwrap();
        let unknown = [unknown_set("a", 1), get(None, 2, 3), get(Some("a"), 50, 60)];
        check("k", unknown.iter()).unwrap();
    }

    #[test]
    fn a_stale_read_is_seen() {
        let stale = [set("a", 1, 2), set("b", 3, 4), get(Some("a"), 5, 6)];
        assert!(check("k", stale.iter()).is_err());
        let lost = [set("a", 1, 2), get(None, 5, 6)];
        assert!(check("k", lost.iter()).is_err());
        let flicker =
            [set("a", 1, 2), unknown_set("b", 3), get(Some("b"), 4, 5), get(Some("a"), 6, 7)];
        assert!(check("k", flicker.iter()).is_err());
    }

    #[test]
    fn values_from_nowhere_and_from_the_future_are_seen() {
        assert!(check("k", [get(Some("x"), 1, 2)].iter()).is_err());
        assert!(check("k", [get(Some("a"), 1, 2), set("a", 3, 4)].iter()).is_err());
    }
}
